"""One structured line a call, without content."""

import logging
from typing import cast

import pytest

from dhenara_async import (
    AIModelClient,
    ConversationManager,
    Dialect,
    Failover,
    LoggingObserver,
    Origin,
    ToolCallPart,
)
from dhenara_async.calls.observed_loop import ObservedLoop
from dhenara_async.calls.telemetry.logging import Field
from dhenara_async.errors import AuthenticationError
from dhenara_async.testing import Answer, ProviderServer, ScriptedError
from tests.loopback import ONCE, endpoint_at

CANARY = "Zanzibar"


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str, dict[str, Field]]]:
    found = [record for record in caplog.records if hasattr(record, "dhenara")]
    return [(line.levelno, line.getMessage(), cast("dict[str, Field]", vars(line)["dhenara"])) for line in found]


async def test_a_turn_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "dhenara_async")
    async with (
        ProviderServer([Answer(CANARY)]) as server,
        ConversationManager(observers=[LoggingObserver()]) as manager,
    ):
        endpoint = endpoint_at(server, Dialect.ANTHROPIC_MESSAGES)
        conversation = await manager.create()
        node = await manager.ask(conversation, CANARY, endpoint)
    ((level, message, fields),) = lines(caplog)
    assert level == logging.INFO
    assert message.startswith(f"call provider=anthropic model={endpoint.ai_model.model_name} outcome=complete seconds=")
    assert (fields["conversation"], fields["node"], fields["request_id"]) == (conversation.id, node.id, node.request_id)
    assert (fields["attempts"], fields["status"], fields["finish_reason"]) == (1, 200, "stop")
    assert fields["output_tokens"] == node.usage.output_tokens
    assert "plan" not in fields
    assert CANARY not in caplog.text


async def test_a_failure_is_a_warning_without_its_words(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "dhenara_async")
    async with ProviderServer([ScriptedError(401, CANARY), Answer(CANARY)]) as server:
        client = AIModelClient(
            Failover([endpoint_at(server, Dialect.OPENAI_CHAT)]), ONCE, observers=[LoggingObserver(logging.DEBUG)]
        )
        with pytest.raises(AuthenticationError):
            await client.generate(CANARY)
        await client.generate(CANARY)
    ((level, _, fields),) = lines(caplog)
    assert (level, fields["outcome"], fields["error"]) == (logging.WARNING, "failed", "AuthenticationError")
    assert (fields["status"], fields["plan"]) == (401, "failover")
    assert CANARY not in caplog.text


def test_a_loop_and_its_tools_are_a_line_each(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "dhenara_async")
    origin = Origin(provider="openai", dialect="openai_chat", endpoint="host", account=None, model="m")
    loop = ObservedLoop([LoggingObserver()], "loop-1")
    loop.start(origin, tools=["odd name"], max_steps=None)
    tool = loop.tool(ToolCallPart(call_id="1", name="odd name\n", arguments=CANARY))
    tool.end(outcome="failed", error=LookupError(CANARY))
    loop.end(origin, steps=2, outcome="limit")
    first, second = lines(caplog)
    assert first[0] == logging.WARNING
    assert first[1].startswith('tool name="odd name\\\\n" outcome=failed seconds=')
    assert first[1].endswith("tool_call=1 loop=loop-1 error=LookupError")
    assert second[1].startswith("loop outcome=limit seconds=")
    assert CANARY not in caplog.text
