"""Tools from Python callables: their definitions, their calls, and the tool loop in every dialect."""

import builtins
import copy
import dataclasses
import datetime
import enum
import functools
import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Literal

import anyio
import pytest
from pydantic import BaseModel, Field, JsonValue

from dhenara_async import (
    AIModelCallConfig,
    AIModelClient,
    Dialect,
    FilePart,
    FinishReason,
    HostedTool,
    JsonPart,
    Message,
    TextPart,
    Tool,
    ToolCallPart,
    ToolResultPart,
    run_tools,
)
from dhenara_async.drivers.base import as_list, as_object
from dhenara_async.errors import ConfigurationError, ToolArgumentsError
from dhenara_async.testing import Answer, ProviderServer
from dhenara_async.testing.script import ScriptedToolCall
from tests.loopback import PATIENCE, SPEAKERS, endpoint_at

DIALECTS = list(SPEAKERS)


class Unit(enum.Enum):
    CELSIUS = "c"
    KELVIN = "k"


class Place(BaseModel):
    """Where it is."""

    city: str
    zip: str | None = None


@dataclasses.dataclass
class Point:
    x: int
    y: int = 2


def weather(
    where: Place,
    days: Annotated[int, Field(ge=1, description="how far ahead")] = 3,
    unit: Unit = Unit.CELSIUS,
    mode: Literal["short", "long"] = "short",
    since: datetime.date | None = None,
    points: Sequence[Point] = (),
    _json: int = Field(7, le=9),
) -> str:
    """Tell the weather.

    It is never exact.

    Args:
        where: The place.
        days: Not heeded: the hint has its own words.
        _json: A name that models have themselves.

    Returns:
        str: In words.
    """
    return f"{where.city} {days} {unit.name} {mode} {since} {points} {_json}"


class Meteorologist:
    """Knows the weather."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def ask(self, city: str) -> str:
        """Ask.

        :param city: Which one.
        """
        await anyio.lowlevel.checkpoint()
        return f"{self.name}: {city}"

    @classmethod
    def of(cls, city: str) -> str:
        """By class."""
        return f"{cls.__name__} {city}"

    @staticmethod
    def plain(city: "str") -> str:
        """By nobody."""
        return city

    def __call__(self, first: int, /, second: int = 2) -> tuple[int, int]:
        """Add nothing."""
        return first, second


def call(name: str = "weather", arguments: str = "{}", call_id: str = "call_1") -> ToolCallPart:
    return ToolCallPart(call_id=call_id, name=name, arguments=arguments)


def properties(tool: Tool) -> Mapping[str, JsonValue]:
    found = tool.parameters["properties"]
    assert isinstance(found, dict)
    return found


# ------------------------------------------------------------------------------------------------ from callables


def test_a_function_becomes_a_tool_with_its_docstring_and_hints() -> None:
    tool = Tool.from_function(weather)
    assert (tool.name, tool.description, tool.strict) == ("weather", "Tell the weather.\n\nIt is never exact.", None)
    assert tool.parameters["required"] == ["where"]
    assert tool.parameters["additionalProperties"] is False
    assert properties(tool) == {
        "where": {"$ref": "#/$defs/Place", "description": "The place."},
        "days": {"type": "integer", "minimum": 1, "default": 3, "description": "how far ahead"},
        "unit": {"$ref": "#/$defs/Unit", "default": "c"},
        "mode": {"type": "string", "enum": ["short", "long"], "default": "short"},
        "since": {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}], "default": None},
        "points": {"type": "array", "items": {"$ref": "#/$defs/Point"}, "default": []},
        "_json": {"type": "integer", "maximum": 9, "default": 7, "description": "A name that models have themselves."},
    }


def test_a_tool_has_only_the_docstring_summary_without_docstring_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def without_parser(name: str, *args: object) -> object:
        if name == "docstring_parser":
            raise ImportError(name)
        return real_import(name, *args)  # type: ignore[arg-type] - handed on as they came

    monkeypatch.setattr(builtins, "__import__", without_parser)
    tool = Tool.from_function(weather)
    assert tool.description == "Tell the weather."
    assert properties(tool)["where"] == {"$ref": "#/$defs/Place"}


def numpy_style(city: str) -> None:
    """Summary.

    Parameters
    ----------
    city : str
        The town.
    """


@pytest.mark.parametrize(
    ("function", "name", "description", "parameters"),
    [
        (Meteorologist("A").ask, "ask", "Ask.", {"city": {"type": "string", "description": "Which one."}}),
        (Meteorologist.of, "of", "By class.", {"city": {"type": "string"}}),
        (Meteorologist.plain, "plain", "By nobody.", {"city": {"type": "string"}}),
        (numpy_style, "numpy_style", "Summary.", {"city": {"type": "string", "description": "The town."}}),
        (
            Meteorologist("A"),
            "Meteorologist",
            "Add nothing.",
            {"first": {"type": "integer"}, "second": {"type": "integer", "default": 2}},
        ),
        (Point, "Point", "", {"x": {"type": "integer"}, "y": {"type": "integer", "default": 2}}),
    ],
)
def test_a_callable_of_any_kind_becomes_a_tool(
    function: Callable[..., object], name: str, description: str, parameters: dict[str, JsonValue]
) -> None:
    tool = Tool.from_function(function)
    assert (tool.name, tool.description, properties(tool)) == (name, description, parameters)


def test_bound_arguments_of_a_partial_are_no_parameters_of_its_tool() -> None:
    tool = Tool.from_function(functools.partial(weather, unit=Unit.KELVIN), name="kelvin")
    assert tool.name == "kelvin"
    assert "unit" not in properties(tool)
    assert "KELVIN" in str(tool.bind(call(arguments='{"where":{"city":"Bern"}}'))())
    with pytest.raises(ToolArgumentsError, match="unit: Extra inputs are not permitted"):
        tool.bind(call(arguments='{"where":{"city":"Bern"},"unit":"c"}'))


def test_from_function_takes_name_description_and_strict() -> None:
    tool = Tool.from_function(weather, name="other", description="", strict=True)
    assert (tool.name, tool.description, tool.strict) == ("other", "", True)


class Opaque:
    """A class without a JSON form."""


def bare(days: int, city: str) -> None: ...
def variadic(days: int, *cities: str) -> None: ...
def keywords(days: int, **cities: str) -> None: ...
def opaque(days: int, thing: Opaque) -> None: ...
def callback(days: int, run: Callable[[int], int]) -> None: ...
def unknown(days: int) -> None: ...


# as type-checkers would not let them be written
del bare.__annotations__["city"]
unknown.__annotations__["days"] = "Nowhere"


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (bare, "'city' of bare has no type hint"),
        (variadic, r"'\*cities' of variadic takes any number"),
        (keywords, r"'\*\*cities' of keywords takes any number"),
        (opaque, "'thing' of opaque has a type hint that JSON cannot carry"),
        (callback, "'run' of callback has a type hint that JSON cannot carry"),
        (unknown, "the parameter 'days' of unknown cannot be read"),
        (Meteorologist.ask, "'self' of ask has no type hint; pass a method of an instance"),
        (lambda: 1, "'<lambda>' cannot be the name of a tool"),
    ],
)
def test_a_callable_without_a_json_signature_is_refused(function: Callable[..., object], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        Tool.from_function(function)
    with pytest.raises(ConfigurationError, match=words):
        AIModelCallConfig(tools=[function])


def test_a_model_becomes_a_tool() -> None:
    tool = Tool.from_model(Place)
    assert (tool.name, tool.description) == ("Place", "Where it is.")
    assert tool.bind(call("Place", '{"city":"Bern"}'))() == Place(city="Bern")
    assert tool.arguments(call("Place", '{"city":"Bern"}')) == {"city": "Bern", "zip": None}


def test_a_config_takes_functions_models_and_tools() -> None:
    plain = Tool(name="plain")
    hosted = HostedTool(type="web_search")
    config = AIModelCallConfig(tools=[weather, Place, plain, hosted])
    assert config.tools == (Tool.from_function(weather), Tool.from_model(Place), plain, hosted)


@pytest.mark.parametrize("parameters", [{}, {"type": "object"}, {"properties": {}}])
def test_missing_parameters_become_an_empty_object_schema(parameters: dict[str, JsonValue]) -> None:
    assert Tool(name="x", parameters=parameters).parameters == {"type": "object", "properties": {}}


# ------------------------------------------------------------------------------------------------ reading calls


def test_arguments_of_a_call_become_python_values() -> None:
    arguments = '{"where":{"city":"Bern"},"unit":"k","since":"2026-11-22","points":[{"x":1}]}'
    assert Tool.from_function(weather).arguments(call(arguments=arguments)) == {
        "where": Place(city="Bern"),
        "days": 3,
        "unit": Unit.KELVIN,
        "mode": "short",
        "since": datetime.date(2026, 11, 22),
        "points": [Point(1, 2)],
        "_json": 7,
    }


def test_a_bound_call_runs_the_function() -> None:
    said = Tool.from_function(weather).bind(call(arguments='{"where":{"city":"Bern"},"days":1}'))()
    assert said == "Bern 1 CELSIUS short None () 7"
    assert Tool.from_function(Meteorologist("A")).bind(call(arguments='{"first":1}'))() == (1, 2)
    assert Tool.from_function(Meteorologist.of).bind(call(arguments='{"city":"Bern"}'))() == "Meteorologist Bern"


def test_a_call_without_arguments_runs_the_function() -> None:
    def now() -> int:
        return 5

    tool = Tool.from_function(now)
    assert tool.bind(call(arguments=""))() == 5
    assert tool.bind(call(arguments="{}"))() == 5


def test_null_for_an_optional_argument_becomes_its_default() -> None:
    """OpenAI's strict mode requires every member, so models send null for optional ones."""

    def mark(city: str, tags: Annotated[list[str], Field(default_factory=lambda: ["none"])]) -> list[str]:
        return [city, *tags]

    tool = Tool.from_function(mark, strict=True)
    assert tool.bind(call(arguments='{"city":"Bern","tags":null}'))() == ["Bern", "none"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("{}", "where: Field required"),
        ('{"where":{"city":"Bern"},"days":0}', "days: Input should be greater than or equal to 1"),
        ('{"where":{"city":"Bern"},"hidden":"secret"}', "hidden: Extra inputs are not permitted"),
        ('{"where":{"city":5}}', "where.city: Input should be a valid string"),
        ('{"where":', "it: Invalid JSON"),
        ("[]", "it: Input should be an object"),
    ],
)
def test_arguments_outside_the_schema_raise_an_error_with_their_path(arguments: str, words: str) -> None:
    with pytest.raises(ToolArgumentsError, match=words) as caught:
        Tool.from_function(weather).arguments(call(arguments=arguments))
    assert caught.value.name == "weather"
    assert "secret" not in str(caught.value)


# ------------------------------------------------------------------------------------------------ JSON and copies


def test_json_and_pickle_keep_the_definition_of_a_tool_without_its_function() -> None:
    tool = Tool.from_function(weather)
    for back in (Tool.model_validate_json(tool.model_dump_json()), pickle.loads(pickle.dumps(tool))):  # noqa: S301
        assert back == tool
        with pytest.raises(ConfigurationError, match="made from a schema"):
            back.bind(call())
    config = AIModelCallConfig(tools=[weather])
    assert AIModelCallConfig.model_validate_json(config.model_dump_json()) == config
    assert copy.deepcopy(tool).bind(call(arguments='{"where":{"city":"Bern"}}'))


# ------------------------------------------------------------------------------------------------ running calls


def picture() -> list[TextPart | FilePart]:
    """A picture with words."""
    return [TextPart(text="seen"), FilePart(media_type="text/plain", data=b"bytes")]


def nothing() -> None:
    """Nothing."""


def point(x: int) -> Point:
    """A point."""
    return Point(x)


def fails(why: str) -> str:
    """Fails."""
    raise LookupError(why)


@pytest.mark.parametrize(
    ("name", "arguments", "content", "is_error"),
    [
        ("ask", '{"city":"Bern"}', [TextPart(text="A: Bern")], False),
        ("point", '{"x":1}', [JsonPart(value={"x": 1, "y": 2})], False),
        ("nothing", "", [JsonPart(value=None)], False),
        ("picture", "", picture(), False),
        ("Place", '{"city":"Bern"}', [JsonPart(value={"city": "Bern", "zip": None})], False),
        ("fails", '{"why":"gone"}', [TextPart(text="LookupError: gone")], True),
        ("point", '{"x":"a"}', None, True),
        ("other", "{}", None, True),
    ],
)
async def test_the_return_value_of_a_call_becomes_a_result_part(
    name: str, arguments: str, content: list[TextPart | JsonPart | FilePart] | None, is_error: bool
) -> None:
    tools = [Meteorologist("A").ask, point, nothing, picture, Place, fails, HostedTool(type="web_search")]
    (result,) = await run_tools([call(name, arguments)], tools)
    assert (result.call_id, result.name, result.is_error) == ("call_1", name, is_error)
    if content is not None:
        assert list(result.content) == content
    else:
        assert result.get_text().startswith(("the arguments of point do not fit: x:", "there is no tool 'other'"))


async def test_calls_run_concurrently_and_results_keep_their_order() -> None:
    met = anyio.Event()

    async def wait() -> str:
        await met.wait()
        return "waited"

    async def meet() -> str:
        met.set()
        return "met"

    with anyio.fail_after(PATIENCE):
        results = await run_tools([call("wait", call_id="1"), call("meet", call_id="2")], [wait, meet])
    assert [(each.call_id, each.get_text()) for each in results] == [("1", "waited"), ("2", "met")]


async def test_a_call_of_a_tool_without_a_function_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'plain' was made from a schema"):
        await run_tools([call("plain"), call("plain")], [Tool(name="plain")])


# ------------------------------------------------------------------------------------------------ the loop


async def forecast(city: str, days: int = 3) -> dict[str, JsonValue]:
    """Tell the weather.

    Args:
        city: Which town.
        days: How far ahead.
    """
    if city == "Nowhere":
        raise LookupError("no such town")
    return {"city": city, "degrees": 20 + days}


CALLS = (
    ScriptedToolCall("call_a", "forecast", '{"city":"Bern"}'),
    ScriptedToolCall("call_b", "forecast", '{"city":"Nowhere","days":1}'),
)
DECLARED: dict[str, JsonValue] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "description": "Which town."},
        "days": {"type": "integer", "default": 3, "description": "How far ahead."},
    },
    "required": ["city"],
    "additionalProperties": False,
}
GOOD, BAD = '{"city":"Bern","degrees":23}', "LookupError: no such town"


def declared(dialect: Dialect, body: Mapping[str, object]) -> tuple[object, object, object]:
    """The one tool a request offers: its name, description and schema."""
    tool = as_object(as_list(body["tools"])[0])
    match dialect:
        case Dialect.OPENAI_CHAT:
            tool, schema = as_object(tool["function"]), "parameters"
        case Dialect.OPENAI_RESPONSES:
            schema = "parameters"
        case Dialect.ANTHROPIC_MESSAGES:
            schema = "input_schema"
        case Dialect.GEMINI:
            tool, schema = as_object(as_list(tool["functionDeclarations"])[0]), "parametersJsonSchema"
    return tool["name"], tool["description"], tool[schema]


def results(dialect: Dialect, body: Mapping[str, object]) -> list[object]:
    """The tool results of a request, as they are on the wire."""
    match dialect:
        case Dialect.OPENAI_CHAT:
            return [each for each in as_list(body["messages"]) if as_object(each)["role"] == "tool"]
        case Dialect.OPENAI_RESPONSES:
            return [each for each in as_list(body["input"]) if as_object(each).get("type") == "function_call_output"]
        case Dialect.ANTHROPIC_MESSAGES:
            return as_list(as_object(as_list(body["messages"])[-1])["content"])
        case Dialect.GEMINI:
            return as_list(as_object(as_list(body["contents"])[-1])["parts"])


# OpenAI's dialects have no error flag for results, so the text names the error.
RESULTS: dict[Dialect, list[object]] = {
    Dialect.OPENAI_CHAT: [
        {"role": "tool", "tool_call_id": "call_a", "content": GOOD},
        {"role": "tool", "tool_call_id": "call_b", "content": f"Error: {BAD}"},
    ],
    Dialect.OPENAI_RESPONSES: [
        {"type": "function_call_output", "call_id": "call_a", "output": GOOD},
        {"type": "function_call_output", "call_id": "call_b", "output": f"Error: {BAD}"},
    ],
    Dialect.ANTHROPIC_MESSAGES: [
        {"type": "tool_result", "tool_use_id": "call_a", "content": GOOD},
        {"type": "tool_result", "tool_use_id": "call_b", "content": BAD, "is_error": True},
    ],
    Dialect.GEMINI: [
        {
            "functionResponse": {
                "id": "call_a",
                "name": "forecast",
                "response": {"city": "Bern", "degrees": 23},
            }
        },
        {"functionResponse": {"id": "call_b", "name": "forecast", "response": {"error": BAD}}},
    ],
}


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_tool_loop_sends_definitions_calls_and_results(dialect: Dialect, streaming: bool) -> None:
    config = AIModelCallConfig(tools=[forecast], streaming=streaming)
    messages = [Message.user("Weather in Bern and Nowhere?")]
    async with ProviderServer([Answer(tool_calls=CALLS), Answer(text="23 degrees in Bern.")]) as server:
        client = AIModelClient(endpoint_at(server, dialect), config)
        response = await client.generate(messages=messages)
        asked = response.chat_response.tools()
        assert [(each.call_id, each.name, each.parsed()) for each in asked] == [
            ("call_a", "forecast", {"city": "Bern"}),
            ("call_b", "forecast", {"city": "Nowhere", "days": 1}),
        ]
        assert response.chat_response.finish_reason is FinishReason.TOOL_CALLS
        answered = await run_tools(asked, config.tools)
        messages += [Message.assistant(*response.chat_response.choices[0].parts), Message.user(*answered)]
        response = await client.generate(messages=messages)
        first, second = (as_object(seen.json) for seen in server.requests)
        turns = server.requests[1].turns
    assert response.text() == "23 degrees in Bern."
    assert response.warnings == ()
    name, description, schema = declared(dialect, first)
    assert (name, description) == ("forecast", "Tell the weather.")
    if dialect is not Dialect.GEMINI:  # its schema names the default in the description
        assert schema == DECLARED
    assert declared(dialect, second) == (name, description, schema)
    assert results(dialect, second) == RESULTS[dialect]
    assert [role for role, _ in turns] == ["user", "assistant", "user"]
    assert turns[1][1] == 'forecast({"city":"Bern"})\nforecast({"city":"Nowhere","days":1})'


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_tool_loop_continues_after_a_json_round_trip(dialect: Dialect) -> None:
    """Another process may continue the loop: all messages pass through JSON between the two calls."""
    config = AIModelCallConfig(tools=[forecast])
    async with ProviderServer([Answer(tool_calls=CALLS[:1]), Answer(text="Warm.")]) as server:
        client = AIModelClient(endpoint_at(server, dialect), config)
        response = await client.generate("Weather?")
        parts = response.chat_response.choices[0].parts
        answered: Sequence[ToolResultPart] = await run_tools(response.chat_response.tools(), [forecast])
        history = [Message.user("Weather?"), Message.assistant(*parts), Message.user(*answered)]
        back = [Message.model_validate_json(each.model_dump_json()) for each in history]
        assert back == history
        await client.generate(messages=back)
        assert results(dialect, as_object(server.requests[1].json)) == RESULTS[dialect][:1]


# ------------------------------------------------------------------------------------------------ unusual JSON


@pytest.mark.parametrize(
    ("arguments", "parsed"),
    [
        (f'{{"x": {10**30}}}', {"x": 10**30}),
        ('{"x": "\\ud83d"}', {"x": "\ufffd"}),
        ('{"x": "\\ud83d\\ude00"}', {"x": "\U0001f600"}),
        ('{"x": "\ud83d"}', {"x": "\ufffd"}),
        ('{"x": NaN, "y": [-Infinity]}', {"x": None, "y": [None]}),
    ],
)
def test_unusual_json_in_arguments_is_parsed(arguments: str, parsed: JsonValue) -> None:
    asked = call("point", arguments)
    assert asked.parsed() == parsed
    assert asked.arguments == arguments


async def test_a_tool_receives_large_numbers_lone_surrogates_and_infinity() -> None:
    def doubled(number: int, words: str = "", much: float = 0) -> list[JsonValue]:
        return [2 * number, words, str(much)]

    (result,) = await run_tools(
        [call("doubled", f'{{"number": {10**30}, "words": "a\\ud83d", "much": Infinity}}')], [doubled]
    )
    assert list(result.content) == [JsonPart(value=[2 * 10**30, "a\ufffd", "inf"])]
    assert result.get_text() == f'[{2 * 10**30},"a\ufffd","inf"]'
