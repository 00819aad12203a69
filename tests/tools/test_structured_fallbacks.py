"""Fallbacks for output schemas that a target cannot enforce: another request form, a warning and the same result."""

from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import BaseModel

from dhenara_async import AIModelCallConfig, AIModelClient, Dialect, Failover, Tool
from dhenara_async.drivers.base import as_list, as_object
from dhenara_async.endpoint import AIModel
from dhenara_async.errors import UnsupportedError
from dhenara_async.testing import Answer, Fault, ProviderServer
from dhenara_async.tools.schema_reading import JsonSchema
from tests.loopback import SPEAKERS, endpoint_at

DIALECTS = list(SPEAKERS)


class Harvest(BaseModel):
    """Apples by sort."""

    sorts: dict[str, int]


class Branch(BaseModel):
    length: int
    branches: "list[Branch]" = []


class Spot(BaseModel):
    at: tuple[int, int]


class Basket(BaseModel):
    inside: Any


class Crate(BaseModel):
    """Apples, sorted."""

    count: int


OUTPUTS: Mapping[str, tuple[type[BaseModel], str, BaseModel]] = {
    "free keys": (Harvest, '{"sorts": {"red": 3}}', Harvest(sorts={"red": 3})),
    "a tree": (
        Branch,
        '{"length": 2, "branches": [{"length": 1, "branches": []}]}',
        Branch(length=2, branches=[Branch(length=1)]),
    ),
    "a tuple": (Spot, '{"at": [1, 2]}', Spot(at=(1, 2))),
    "anything": (Basket, '{"inside": [1, {"a": null}]}', Basket(inside=[1, {"a": None}])),
}


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", OUTPUTS)
async def test_an_unsupported_output_schema_gives_its_object_from_every_dialect(
    name: str, dialect: Dialect, streaming: bool
) -> None:
    model, text, value = OUTPUTS[name]
    config = AIModelCallConfig(structured_output=model, streaming=streaming)
    async with ProviderServer([Answer(text=text)]) as server:
        response = await AIModelClient(endpoint_at(server, dialect), config).generate("What was picked?")
        body = as_object(server.requests[0].json)
    assert response.structured() == value
    if dialect is Dialect.ANTHROPIC_MESSAGES:
        assert "output_config" not in body
        (tool,) = map(as_object, as_list(body["tools"]))
        assert body["tool_choice"] == {"type": "tool", "name": tool["name"]}
        (warning,) = response.warnings
        assert (warning.code, warning.knob) == ("param_adjusted", "structured_output")
        assert "forced tool call" in warning.message


@pytest.mark.parametrize("name", OUTPUTS)
async def test_a_failover_to_claude_gives_the_object_of_an_unsupported_schema(name: str) -> None:
    model, text, value = OUTPUTS[name]
    config = AIModelCallConfig(structured_output=model, retries=0)
    async with (
        ProviderServer([Fault(status=500)]) as down,
        ProviderServer([Answer(text=text)]) as up,
    ):
        gpt, claude = endpoint_at(down, Dialect.OPENAI_RESPONSES), endpoint_at(up, Dialect.ANTHROPIC_MESSAGES)
        response = await AIModelClient(Failover([gpt, claude]), config).generate("What was picked?")
    assert response.structured() == value


async def test_a_supported_output_schema_is_sent_natively_to_claude() -> None:
    config = AIModelCallConfig(structured_output=Crate)
    async with ProviderServer([Answer(text='{"count": 1}')]) as server:
        endpoint = endpoint_at(server, Dialect.ANTHROPIC_MESSAGES)
        response = await AIModelClient(endpoint, config).generate("How many?")
        body = as_object(server.requests[0].json)
    assert "output_config" in body
    assert "tools" not in body
    assert response.warnings == ()


@pytest.mark.parametrize("name", OUTPUTS)
async def test_a_strict_tool_with_an_unsupported_schema_is_sent_without_strict(name: str) -> None:
    tool = Tool.from_model(OUTPUTS[name][0], name="pick", strict=True)
    held = Tool.from_model(Crate, strict=True)
    async with ProviderServer([Answer(text="Fine.")]) as server:
        endpoint = endpoint_at(server, Dialect.ANTHROPIC_MESSAGES)
        response = await AIModelClient(endpoint, AIModelCallConfig(tools=[tool, held])).generate("Pick.")
        body = as_object(server.requests[0].json)
    assert [as_object(each)["strict"] for each in as_list(body["tools"])] == [False, True]
    (warning,) = response.warnings
    assert (warning.code, warning.knob) == ("param_adjusted", "tools")
    assert "pick without strict" in warning.message


@pytest.mark.parametrize("as_tool", [False, True])
async def test_a_dangling_reference_raises_without_a_fallback(as_tool: bool) -> None:
    lost: JsonSchema = {"type": "object", "properties": {"a": {"$ref": "#/$defs/gone"}}}
    config = (
        AIModelCallConfig(tools=[Tool(name="pick", parameters=lost, strict=True)])
        if as_tool
        else AIModelCallConfig(structured_output=lost)
    )
    async with ProviderServer([]) as server:
        client = AIModelClient(endpoint_at(server, Dialect.ANTHROPIC_MESSAGES), config)
        with pytest.raises(UnsupportedError, match="not among its definitions"):
            await client.generate("Pick.")


async def test_a_responses_model_without_schema_support_gets_the_schema_as_instructions() -> None:
    config = AIModelCallConfig(structured_output=Crate)
    async with ProviderServer([Answer(text='```json\n{"count": 1}\n```')]) as server:
        endpoint = endpoint_at(server, Dialect.OPENAI_RESPONSES)
        old = endpoint.model_copy(update={"ai_model": AIModel(model_name="gpt-3.5-turbo")})
        response = await AIModelClient(old, config).generate("How many?", instructions=["Be exact."])
        body = as_object(server.requests[0].json)
    assert response.structured() == Crate(count=1)
    told = body["instructions"]
    assert isinstance(told, str)
    assert told.startswith("Be exact.\n\nAnswer with one JSON value")
    assert '"count"' in told
    assert [(warning.code, warning.knob) for warning in response.warnings] == [
        ("param_adjusted", "structured_output"),
        ("answer_unwrapped", "structured_output"),
    ]
