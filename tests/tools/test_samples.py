"""Test mode and the test server: generated objects and tool calls are valid under their schemas."""

from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import BaseModel, Field, JsonValue

from dhenara_async import (
    AIModelCallConfig,
    AIModelClient,
    AIModelEndpoint,
    Message,
    NamedTool,
    StreamEvent,
    ToolResultPart,
    run_tools,
)
from dhenara_async.testing import ProviderServer
from dhenara_async.testing.grammar import check_grammar
from dhenara_async.tools.samples import sample

NAMES = ("anthropic:claude-sonnet-5-5", "openai:gpt-6.2-sol", "google:gemini-3.8-flash", "groq:some-model")


class Address(BaseModel):
    street: str = Field(min_length=3, max_length=40)
    country: str = Field(pattern="^[A-Z]{2}$")


class Person(BaseModel):
    name: str
    born: int = Field(ge=1800, lt=1900)
    height: float | None = None
    mood: Literal["calm", "merry"]
    tags: list[str] = Field(min_length=2)
    address: Address
    friends: "list[Person]" = []


SCHEMAS: tuple[dict[str, JsonValue], ...] = (
    Person.model_json_schema(),
    {"type": "object", "properties": {"a": {"const": 5}, "b": {"enum": ["x"]}}, "required": ["a", "c"]},
    {"type": "array", "items": {"type": "integer"}, "minItems": 3, "uniqueItems": True},
    {"type": "array", "prefixItems": [{"type": "string"}, {"type": "null"}], "items": False},
    {"type": "object", "additionalProperties": {"type": "boolean"}, "minProperties": 2},
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    {"type": "integer", "minimum": 7, "multipleOf": 5},
    {"type": "integer", "maximum": -3},
    {"allOf": [{"properties": {"a": {"type": "string"}}}, {"required": ["a"]}], "type": "object"},
    {"type": ["null", "string"], "maxLength": 2},
    {"oneOf": [{"type": "null"}, {"type": "string", "format": "date-time"}]},
    {"type": "string", "pattern": r"^\d{5}$"},
    {"$ref": "#/$defs/n", "$defs": {"n": {"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}}}},
    {},
)


def _validate(schema: dict[str, JsonValue]) -> None:
    Draft202012Validator(schema).validate(sample(schema))  # pyright: ignore[reportUnknownMemberType]


@pytest.mark.parametrize("schema", SCHEMAS, ids=str)
def test_a_sample_is_valid_under_its_schema(schema: dict[str, JsonValue]) -> None:
    _validate(schema)


@given(low=st.integers(-50, 50), width=st.integers(0, 50), kind=st.sampled_from(["integer", "number"]))
def test_a_sample_number_is_within_its_bounds(low: int, width: int, kind: str) -> None:
    schema: dict[str, JsonValue] = {"type": kind, "minimum": low, "maximum": low + width}
    _validate(schema)


def weather(city: Annotated[str, "its name"], days: int = 1) -> str:
    """The forecast for a city."""
    return f"Sunny in {city}."


def stocks(symbol: str) -> str:
    """The price of a share."""
    return f"{symbol} is at 5."


async def test_test_mode_answers_with_structured_output() -> None:
    config = AIModelCallConfig(test_mode=True, structured_output=Person)
    response = await AIModelClient("openai:gpt-6.2-sol", config).generate("Who?")
    assert isinstance(response.structured(Person), Person)


async def test_test_mode_calls_the_tool_of_the_prompt_or_the_tool_choice() -> None:
    config = AIModelCallConfig(test_mode=True, tools=[stocks, weather])
    async with AIModelClient("openai:gpt-6.2-sol", config).stream("What is the weather?") as stream:
        events: list[StreamEvent] = [event async for event in stream]
    check_grammar(events)
    answer = stream.response.chat_response
    assert [call.name for call in answer.tools()] == ["weather"]
    results = await run_tools(answer.tools(), config.tools)
    assert [result.is_error for result in results] == [False]
    messages = [Message.user("What is the weather?"), answer.as_message(), Message.user(*results)]
    after = await AIModelClient("openai:gpt-6.2-sol", config).generate(messages=messages)
    assert not after.chat_response.tools()
    for choice, names in (("none", []), ("required", ["stocks"]), (NamedTool(name="weather"), ["weather"]), (None, [])):
        told = config.model_copy(update={"tool_choice": choice})
        response = await AIModelClient("openai:gpt-6.2-sol", told).generate("none" if choice else "Hello?")
        assert [call.name for call in response.chat_response.tools()] == names


@pytest.mark.parametrize("name", NAMES)
async def test_the_default_server_answers_with_structured_output_and_tool_calls(name: str) -> None:
    named = AIModelEndpoint.of(name)
    async with ProviderServer() as server:
        endpoint = AIModelEndpoint(api=server.api(named.api.provider), ai_model=named.ai_model)
        config = AIModelCallConfig(structured_output=Address)
        response = await AIModelClient(endpoint, config).generate("Where?")
        assert isinstance(response.structured(Address), Address)
        config = AIModelCallConfig(tools=[stocks, weather])
        messages = [Message.user("What is the weather in Paris?")]
        answer = (await AIModelClient(endpoint, config).generate(messages=messages)).chat_response
        assert [call.name for call in answer.tools()] == ["weather"]
        results = await run_tools(answer.tools(), config.tools)
        assert isinstance(results[0], ToolResultPart) and not results[0].is_error
        messages += [answer.as_message(), Message.user(*results)]
        answer = (await AIModelClient(endpoint, config).generate(messages=messages)).chat_response
        assert "loopback stand-in" in answer.text() and not answer.tools()
        forced = AIModelCallConfig(tools=[stocks, weather], tool_choice="required")
        answer = (await AIModelClient(endpoint, forced).generate("Hello.")).chat_response
        assert [call.name for call in answer.tools()] == ["stocks"]
