"""Our own client at our own front, in front of a provider of each dialect: what arrives equals a direct call."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from pydantic import SecretStr

from dhenara_async import (
    AIModel,
    AIModelAPI,
    AIModelAPIProviderEnum,
    AIModelCallResponse,
    AIModelClient,
    AIModelEndpoint,
    Dialect,
    Message,
    Tool,
)
from dhenara_async.errors import DhenaraError
from dhenara_async.messages.messages import Origin, ReasoningPart, TextPart, ToolResultPart
from dhenara_async.response import FinishReason
from dhenara_async.testing import Answer, Fault, ProviderServer, ScriptedError
from dhenara_async.testing.script import Script, ScriptedToolCall
from tests.loopback import ONCE, endpoint_at
from tests.web.openai_clients import front

FRONTS = pytest.mark.parametrize("spoken", [Dialect.OPENAI_CHAT, Dialect.OPENAI_RESPONSES])
DIALECTS = pytest.mark.parametrize(
    "dialect", [Dialect.OPENAI_CHAT, Dialect.OPENAI_RESPONSES, Dialect.ANTHROPIC_MESSAGES, Dialect.GEMINI]
)
PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
    "required": ["a", "b"],
}
CONFIG = ONCE.changed(tools=(Tool(name="add", description="Adds.", parameters=PARAMETERS),), max_output_tokens=50)
ELSEWHERE = Origin(provider="p", dialect="gemini", endpoint="p.example", account=None, model="other")
CALLS = (ScriptedToolCall("call_1", "add", '{"a":1,"b":2}'), ScriptedToolCall("call_2", "add", '{"a":3,"b":4}'))


def at_front(url: str, spoken: Dialect) -> AIModelClient:
    """Our client, which asks the front as it would ask any host that speaks ``spoken``."""
    api = AIModelAPI(
        provider=AIModelAPIProviderEnum.OPENAI_COMPATIBLE, api_key=SecretStr("ann-key"), base_url=url, dialect=spoken
    )
    return AIModelClient(AIModelEndpoint(api=api, ai_model=AIModel(model_name="m")), CONFIG)


def shown(response: AIModelCallResponse) -> dict[str, object]:
    """What an answer says, without what names the endpoint."""
    answer, usage = response.chat_response, response.chat_response.usage
    finish = answer.finish_reason
    if finish is FinishReason.REFUSAL and not answer.refusal():  # both protocols know a refusal by its text only
        finish = FinishReason.CONTENT_FILTER
    return {
        "text": answer.text(),
        "reasoning": answer.reasoning(),
        "refusal": answer.refusal(),
        "calls": [(call.call_id, call.name, call.parsed()) for call in answer.tools()],
        "finish": finish,
        "usage": (
            usage.input_tokens,
            usage.output_tokens,
            usage.total_tokens,
            usage.reasoning_tokens,
            usage.cache_read_tokens,
        ),
    }


def asked(body: bytes) -> list[dict[str, object]]:
    """The history in a request, without the ids that the provider gave its items."""
    fields = orjson.loads(body)
    history: list[dict[str, object]] = next(
        fields[name] for name in ("messages", "input", "contents") if name in fields
    )
    return [{name: value for name, value in item.items() if name != "id"} for item in history]


def outcomes(response: AIModelCallResponse) -> list[tuple[str, str, str, int | None, int | None, str]]:
    """What a history lost on its way, without the names of the endpoints."""
    entries = response.conversion.entries
    return [(entry.code, entry.severity, entry.kind, entry.message, entry.part, entry.reason) for entry in entries]


@dataclass(slots=True)
class Both:
    """A provider, and two clients that ask it.

    Attributes:
        provider: The provider.
        direct: Asks it.
        through: Asks it through the front.
    """

    provider: ProviderServer
    direct: AIModelClient
    through: AIModelClient


@asynccontextmanager
async def both(dialect: Dialect, spoken: Dialect, script: Script) -> AsyncGenerator[Both]:
    """A client that asks a scripted provider, and one that asks it through the front."""
    async with ProviderServer(script) as provider:
        endpoint = endpoint_at(provider, dialect)
        async with (
            front({"m": endpoint}) as (url, _),
            AIModelClient(endpoint, CONFIG) as direct,
            at_front(url, spoken) as through,
        ):
            yield Both(provider, direct, through)


ANSWERS = {
    "text": Answer(text="One two three"),
    "reasoning and calls": Answer(text="One moment.", reasoning="Let me think.", tool_calls=CALLS),
    "cut": Answer(text="One two", finish_reason=FinishReason.LENGTH),
    "filtered": Answer(text="One", finish_reason=FinishReason.CONTENT_FILTER),
    "empty": Answer(text=""),
}


@FRONTS
@DIALECTS
async def test_every_answer_is_that_of_a_direct_call(dialect: Dialect, spoken: Dialect) -> None:
    script = [answer for answer in ANSWERS.values() for _ in range(3)]
    async with both(dialect, spoken, script) as ask:
        for name in ANSWERS:
            direct = await ask.direct.generate(name)
            plain = await ask.through.generate(name)
            async with ask.through.stream(name) as stream:
                async for _event in stream:
                    pass
            assert shown(plain) == shown(stream.response) == shown(direct), name


@FRONTS
@DIALECTS
async def test_a_tool_loop_gives_the_provider_what_a_direct_one_gives_it(dialect: Dialect, spoken: Dialect) -> None:
    """Signatures and encrypted reasoning included, although the protocol does not carry them to the client."""
    script = [ANSWERS["reasoning and calls"]] * 2 + [Answer(text="3 and 7")] * 2
    async with both(dialect, spoken, script) as ask:
        question, answers = Message.user("Add, please."), list[AIModelCallResponse]()
        histories = [[question], [question]]
        for _ in range(2):
            for client, history in zip((ask.direct, ask.through), histories, strict=True):
                async with client.stream(messages=history) as stream:
                    async for _event in stream:
                        pass
                answers.append(stream.response)
                answer = stream.response.chat_response
                results = [ToolResultPart.of(call, "7") for call in answer.tools()]
                history += [answer.as_message(), Message.user(*results, "And?")]
        assert shown(answers[2]) == shown(answers[3])
        if spoken is Dialect.OPENAI_RESPONSES:  # our client leaves reasoning out of Chat Completions, and says so
            assert outcomes(answers[3]) == outcomes(answers[2])
        first, second = (asked(request.body) for request in ask.provider.requests[2:])
        assert second == first


HISTORY: list[Message] = [
    Message.user("2 + 2?"),
    Message.assistant(
        ReasoningPart(text="Two and two.", origin=ELSEWHERE, provider_state={"signature": "c2lnbmVk"}),
        TextPart(text="Four.", origin=ELSEWHERE),
    ),
    Message.user("Sure?"),
]


@FRONTS
@DIALECTS
async def test_the_report_on_a_history_and_the_errors_are_those_of_a_direct_call(
    dialect: Dialect, spoken: Dialect
) -> None:
    fails = [
        ScriptedError(429, "slow down"),
        ScriptedError(400, "no"),
        ScriptedError(503, "later"),
        Fault(answer=Answer(text="one two three four"), terminal="missing"),
    ]
    async with both(dialect, spoken, [step for step in (Answer(text="Yes."), *fails) for _ in range(2)]) as ask:
        direct = await ask.direct.generate(messages=HISTORY)
        through = await ask.through.generate(messages=HISTORY)
        assert outcomes(through) == outcomes(direct)
        assert [entry.code for entry in direct.conversion.entries] == ["reasoning_dropped"]
        first, second = (asked(request.body) for request in ask.provider.requests)
        assert second == first
        for fail in fails:
            kinds, partial = list[type[BaseException]](), list[str]()
            for client in (ask.direct, ask.through):
                stream = client.stream("Hi")
                with pytest.raises(DhenaraError) as raised:
                    async with stream:
                        async for _event in stream:
                            pass
                kinds.append(type(raised.value))
                partial.append(stream.partial.text())
            assert partial[0] == partial[1]
            if isinstance(fail, Fault):  # the front says that its provider was cut: an error of the server
                assert partial[0].startswith("one two three")
            else:
                assert kinds[0] is kinds[1]
