"""Structured output in every dialect: whole, streamed and partial objects, refusals and cut answers."""

import contextlib
import pickle
from collections.abc import Sequence
from copy import deepcopy

import pytest
from pydantic import BaseModel, Field, JsonValue, field_validator

from dhenara_async import (
    AIModelCallConfig,
    AIModelClient,
    ChatResponse,
    Choice,
    ConversationNode,
    Dialect,
    FinishReason,
    Message,
    PartStart,
    RefusalPart,
    StreamStart,
    TextDelta,
    TextPart,
    ToolCallPart,
)
from dhenara_async.calls.accumulator import Accumulator
from dhenara_async.drivers.base import as_object
from dhenara_async.errors import AnswerCutError, AnswerRefusedError, ConfigurationError, StructuredOutputError
from dhenara_async.testing import Answer, ProviderServer
from dhenara_async.tools.schema_reading import JsonSchema
from dhenara_async.tools.structured import so_far
from tests.loopback import SPEAKERS, endpoint_at

DIALECTS = list(SPEAKERS)


class Person(BaseModel):
    """A person."""

    name: str
    born: int = Field(gt=1000)
    tags: list[str] = Field(default_factory=list[str])
    nick: str | None = None

    @field_validator("name")
    @classmethod
    def _whole(cls, name: str) -> str:
        if not name.endswith("."):
            raise ValueError("a validator has seen half a name")
        return name


TEXT = '{"name": "Ada Löve lace.", "born": 1815, "tags": ["x", "y"], "nick": null}'
ADA = Person(name="Ada Löve lace.", born=1815, tags=["x", "y"])
SCHEMA: JsonSchema = {"title": "person", "type": "object", "properties": {"name": {"type": "string"}}}


def answer(
    *parts: TextPart | RefusalPart | ToolCallPart, finish: FinishReason = FinishReason.STOP, wanted: object = Person
) -> ChatResponse:
    choice = Choice(parts=parts, finish_reason=finish)
    response = ChatResponse(choices=(choice,), model="m", provider="p")
    return response.wanted(wanted)  # type: ignore[arg-type] - some tests want nonsense


def words(*texts: str, finish: FinishReason = FinishReason.STOP, wanted: object = Person) -> ChatResponse:
    return answer(*(TextPart(text=text) for text in texts), finish=finish, wanted=wanted)


# ------------------------------------------------------------------------------------------------ through the wire


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_structured_output_of_a_model_is_its_instance(dialect: Dialect, streaming: bool) -> None:
    config = AIModelCallConfig(structured_output=Person, streaming=streaming)
    async with ProviderServer([Answer(text=TEXT)]) as server:
        response = await AIModelClient(endpoint_at(server, dialect), config).generate("Who?")
    assert response.structured() == ADA
    assert response.chat_response.structured(Person) == ADA
    assert response.warnings == ()


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_structured_output_of_a_json_schema_is_a_json_value(dialect: Dialect) -> None:
    async with ProviderServer([Answer(text='{"name": "Ada"}')]) as server:
        client = AIModelClient(endpoint_at(server, dialect), AIModelCallConfig(structured_output=SCHEMA))
        response = await client.generate("Who?")
    assert response.structured() == {"name": "Ada"}


WIRES: dict[Dialect, Sequence[str]] = {
    Dialect.OPENAI_CHAT: ("response_format", "json_schema", "schema"),
    Dialect.OPENAI_RESPONSES: ("text", "format", "schema"),
    Dialect.ANTHROPIC_MESSAGES: ("output_config", "format", "schema"),
    Dialect.GEMINI: ("generationConfig", "responseJsonSchema"),
}


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_request_holds_the_output_schema(dialect: Dialect) -> None:
    config = AIModelCallConfig(structured_output=Person)
    async with ProviderServer([Answer(text=TEXT)]) as server:
        await AIModelClient(endpoint_at(server, dialect), config).generate("Who?")
        sent: object = server.requests[0].json
    for key in WIRES[dialect]:
        sent = as_object(sent)[key]
    sent = as_object(sent)
    strict = dialect in {Dialect.OPENAI_CHAT, Dialect.OPENAI_RESPONSES}
    assert sent["required"] == (["name", "born", "tags", "nick"] if strict else ["name", "born"])
    assert sent.get("additionalProperties", False) is False


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_stream_gives_partial_objects_and_the_whole_object_at_its_end(dialect: Dialect) -> None:
    config = AIModelCallConfig(structured_output=Person)
    seen: list[JsonValue] = []
    pieces = tuple(TEXT[at : at + 3] for at in range(0, len(TEXT), 3))
    async with (
        ProviderServer([Answer(text=TEXT, pieces=pieces)]) as server,
        AIModelClient(endpoint_at(server, dialect), config).stream("Who?") as stream,
    ):
        assert stream.partial_structured() is None
        async for event in stream:
            if isinstance(event, TextDelta):
                seen.append(stream.partial_structured())
    whole = {"name": "Ada Löve lace.", "born": 1815, "tags": ["x", "y"], "nick": None}
    assert stream.partial_structured() == whole
    assert seen[-1] == whole
    assert all(isinstance(each, dict) for each in seen)
    assert stream.response.structured() == ADA


async def test_a_partial_object_holds_the_received_half_of_a_text() -> None:
    async with (
        ProviderServer([Answer(text=TEXT, pieces=(TEXT[:14], TEXT[14:]))]) as server,
        AIModelClient(endpoint_at(server, Dialect.OPENAI_CHAT)).stream("Who?") as stream,
    ):
        async for event in stream:
            if isinstance(event, TextDelta) and event.text == TEXT[:14]:
                break
        # the events of one read are accumulated at once, so the second piece may be included
        begun = stream.partial_structured()
        assert isinstance(begun, dict)
        assert str(begun["name"]).startswith("Ada")


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_cut_answer_raises_an_error_with_its_text(dialect: Dialect, streaming: bool) -> None:
    config = AIModelCallConfig(structured_output=Person, streaming=streaming)
    cut = Answer(text=TEXT[:20], finish_reason=FinishReason.LENGTH)
    async with ProviderServer([cut]) as server:
        response = await AIModelClient(endpoint_at(server, dialect), config).generate("Who?")
    with pytest.raises(AnswerCutError) as caught:
        response.structured()
    assert (caught.value.text, caught.value.finish_reason) == (TEXT[:20], "length")


@pytest.mark.parametrize("dialect", [each for each in DIALECTS if each is not Dialect.GEMINI])
async def test_a_refusal_raises_an_error_with_its_text(dialect: Dialect) -> None:
    config = AIModelCallConfig(structured_output=Person)
    async with ProviderServer([Answer(refusal="I would rather not.")]) as server:
        response = await AIModelClient(endpoint_at(server, dialect), config).generate("Who?")
    with pytest.raises(AnswerRefusedError) as caught:
        response.structured()
    if dialect is not Dialect.ANTHROPIC_MESSAGES:  # its refusals may have no text
        assert caught.value.text == "I would rather not."


@pytest.mark.parametrize("dialect", [Dialect.OPENAI_CHAT, Dialect.GEMINI])
async def test_a_filtered_answer_raises_a_refusal_error(dialect: Dialect) -> None:
    config = AIModelCallConfig(structured_output=Person)
    filtered = Answer(text='{"name": ', finish_reason=FinishReason.CONTENT_FILTER)
    async with ProviderServer([filtered]) as server:
        response = await AIModelClient(endpoint_at(server, dialect), config).generate("Who?")
    with pytest.raises(AnswerRefusedError) as caught:
        response.structured()
    assert caught.value.finish_reason == "content_filter"


def test_an_interrupted_answer_raises_a_cut_error() -> None:
    accumulator = Accumulator(provider="p", model="m")
    accumulator.feed([StreamStart(model="m", provider="p"), PartStart(0, "text"), TextDelta(0, TEXT)])
    assert accumulator.texts() == [TEXT]
    with pytest.raises(AnswerCutError) as caught:
        accumulator.partial().wanted(Person).structured()
    assert (caught.value.text, caught.value.finish_reason) == (TEXT, "error")


def test_a_blocking_stream_gives_partial_and_whole_objects() -> None:
    from anyio.from_thread import start_blocking_portal

    config = AIModelCallConfig(structured_output=Person)
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(ProviderServer([Answer(text=TEXT)])) as at,
    ):
        client = AIModelClient(endpoint_at(at, Dialect.ANTHROPIC_MESSAGES), config, is_async=False)
        with client.stream("Who?") as stream:
            assert stream.partial_structured() is None
            assert list(stream)
            assert isinstance(stream.partial_structured(), dict)
        assert stream.response.structured() == ADA


# ------------------------------------------------------------------------------------------------ reading an answer


def test_structured_takes_another_type_after_the_call() -> None:
    class Other(BaseModel):
        born: int

    response = words(TEXT)
    assert response.structured(Other).born == 1815
    assert response.structured(dict[str, object])["born"] == 1815


def test_nulls_of_optional_members_become_their_defaults() -> None:
    text = '{"name": "A.", "born": 1900, "tags": null, "nick": null}'
    assert words(text).structured() == Person(name="A.", born=1900)
    assert words(text, wanted=SCHEMA).structured() == {"name": "A.", "born": 1900, "tags": None, "nick": None}
    schema: JsonSchema = {"type": "object", "properties": {"tags": {"type": "array"}}}
    assert words(text, wanted=schema).structured() == {"name": "A.", "born": 1900, "nick": None}


def test_structured_reads_an_answer_of_several_text_parts() -> None:
    assert words(TEXT[:10], TEXT[10:]).structured() == ADA
    assert words("I looked it up.", TEXT).structured() == ADA


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Here you are", "does not fit: it: Invalid JSON"),
        ("", "is empty"),
        ('{"name": "A."}', "born: Field required"),
        ('{"name": "A.", "born": 3}', "born: Input should be greater than 1000"),
    ],
)
def test_an_answer_outside_the_schema_raises_an_error_with_its_text(text: str, said: str) -> None:
    with pytest.raises(StructuredOutputError, match=said) as caught:
        words(text).structured()
    assert not isinstance(caught.value, AnswerCutError | AnswerRefusedError)
    assert (caught.value.text, caught.value.finish_reason) == (text, "stop")


def test_an_answer_that_is_not_json_raises_under_a_json_schema() -> None:
    with pytest.raises(StructuredOutputError, match="is not JSON"):
        words("Here you are", wanted=SCHEMA).structured()


def test_structured_raises_on_an_answer_with_tool_calls() -> None:
    call = ToolCallPart(call_id="1", name="weather", arguments="{}")
    with pytest.raises(StructuredOutputError, match="calls tools first: weather"):
        answer(call, finish=FinishReason.TOOL_CALLS).structured()


@pytest.mark.parametrize("finish", [FinishReason.LENGTH, FinishReason.CONTEXT_WINDOW, FinishReason.PAUSE])
def test_a_cut_answer_with_valid_json_raises(finish: FinishReason) -> None:
    with pytest.raises(AnswerCutError):
        words(TEXT, finish=finish).structured()


def test_a_refusal_part_raises_under_a_normal_finish_reason() -> None:
    with pytest.raises(AnswerRefusedError) as caught:
        answer(RefusalPart(text="No.")).structured()
    assert caught.value.text == "No."


def test_structured_without_a_readable_type_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"structured\(Model\)"):
        words(TEXT, wanted=None).structured()
    with pytest.raises(ConfigurationError, match="cannot be read as"):
        words(TEXT).structured(TextDeltas)


class TextDeltas:
    """A class that pydantic cannot validate."""


# ------------------------------------------------------------------------------------------------ copies and JSON


def test_the_wanted_class_is_not_part_of_a_response_in_json() -> None:
    response = words(TEXT)
    plain = words(TEXT, wanted=None)
    assert response == plain
    assert repr(response) == repr(plain)
    node = ConversationNode(user_query="Who?", response=response, timestamp="2026-11-22T00:00:00Z")
    back = ConversationNode.model_validate_json(node.model_dump_json())
    assert back == node
    assert back.model_dump_json() == node.model_dump_json()
    assert node.response is not None
    assert node.response.structured() == ADA
    assert back.response is not None
    assert back.response.structured(Person) == ADA
    with pytest.raises(ConfigurationError):
        back.response.structured()


def test_json_of_a_config_keeps_the_output_schema() -> None:
    config = AIModelCallConfig(structured_output=Person)
    back = AIModelCallConfig.model_validate_json(config.model_dump_json())
    assert back.structured_output == Person.model_json_schema()
    assert config.model_dump()["structured_output"] is Person
    assert AIModelCallConfig.model_validate_json(AIModelCallConfig().model_dump_json()) == AIModelCallConfig()


def test_copies_of_a_response_keep_the_wanted_class_and_pickles_drop_it() -> None:
    class Local(Person):
        """Cannot be pickled."""

    response = words(TEXT, wanted=Local)
    assert isinstance(deepcopy(response).structured(), Local)
    assert isinstance(response.model_copy(update={"model": "x"}).structured(), Local)
    assert pickle.loads(pickle.dumps(response)) == response  # noqa: S301 - our own


@pytest.mark.parametrize(
    ("texts", "value"),
    [
        ([], None),
        (["  "], None),
        (["Sure"], None),
        (["{"], {}),
        (['{"a": "b'], {"a": "b"}),
        (['{"a": "b\\u00'], {"a": "b"}),
        (['{"a": tr'], {}),
        (['{"a": [1, {"b": "c"'], {"a": [1, {"b": "c"}]}),
        (['{"a": 12'], {}),
        (['{"a": -1.5e1'], {}),
        (['{"a": 12,'], {"a": 12}),
        (['{"a": [1, 2'], {"a": [1]}),
        (['{"a": "v12'], {"a": "v12"}),
        (["Sure.", '{"a": 1}'], {"a": 1}),
        (['{"a": ', '"b'], {"a": "b"}),
    ],
)
def test_so_far_parses_incomplete_json(texts: list[str], value: JsonValue) -> None:
    assert so_far(texts) == value


@pytest.mark.parametrize("depth", [300, 1000, 100_000])
def test_deeply_nested_json_is_read_or_raises_a_typed_error(depth: int) -> None:
    text = '{"a":' * depth + "1" + "}" * depth
    for wanted in (Person, SCHEMA):
        with contextlib.suppress(StructuredOutputError):
            words(text, wanted=wanted).structured()
    so_far([text[: depth * 5]])
    so_far([text[: depth * 5 + 1]])


async def test_the_next_provider_receives_a_structured_answer_as_text() -> None:
    """A structured answer stays a text part of the history."""
    async with ProviderServer([Answer(text=TEXT), Answer(text="ok")]) as server:
        config = AIModelCallConfig(structured_output=Person)
        response = await AIModelClient(endpoint_at(server, Dialect.ANTHROPIC_MESSAGES), config).generate("Who?")
        history = [Message.user("Who?"), Message.assistant(*response.chat_response.choices[0].parts)]
        await AIModelClient(endpoint_at(server, Dialect.GEMINI)).generate(messages=[*history, Message.user("Sure?")])
        assert server.requests[1].turns[1] == ("assistant", TEXT)


# ------------------------------------------------------------------------------------------------ wrapped answers

BARE = '{"name": "A.", "born": 1900}'
A = Person(name="A.", born=1900)
WRAPPED = [
    f"```json\n{BARE}\n```",
    f"\n```\n{BARE}```\n",
    f"```JSON5  \r\n{BARE}\r\n```  ",
    f"~~~~json\n{BARE}\n~~~~",
    f"<think>They want {{json}}.</think>\n{BARE}",
    f"  <THINKING>\nHm.\n</THINKING>\n\n```json\n{BARE}\n```",
    f"Hm, so an object it is.\n</think>\n\n{BARE}",
    f'<think>"</think>"</think>{BARE}'.replace('"</think>"', "a fence: ```json\n{}\n```"),
]


@pytest.mark.parametrize("text", WRAPPED)
def test_a_code_fence_and_thinking_around_an_answer_are_removed(text: str) -> None:
    assert words(text).structured() == A
    assert words(text, wanted=None).structured(Person) == A
    assert words(text, wanted=SCHEMA).structured() == {"name": "A.", "born": 1900}
    assert words("I looked it up.", text).structured() == A
    assert so_far([text]) == {"name": "A.", "born": 1900}


@pytest.mark.parametrize(
    "text",
    [
        f"Here you are:\n```json\n{BARE}\n```",
        f"```json\n{BARE}\n```\nAnything else?",
        f"```json\n```json\n{BARE}\n```\n```",
        f"`{BARE}`",
        f"<think>{BARE}",
        "```json\nnone\n```",
    ],
)
def test_other_text_around_an_answer_is_not_removed(text: str) -> None:
    with pytest.raises(StructuredOutputError, match="Invalid JSON") as caught:
        words(text).structured()
    assert caught.value.text == text


def test_a_valid_json_answer_with_fences_inside_is_unchanged() -> None:
    text = '{"name": "```json\\n</think>.", "born": 1900}'
    assert words(text).structured() == Person(name="```json\n</think>.", born=1900)
    assert words(text).unwrapped() == ()
    fenced = words('"</think>```"', wanted={"type": "string"})
    assert (fenced.structured(), fenced.unwrapped()) == ("</think>```", ())


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_wrapped_answer_gives_a_warning(dialect: Dialect, streaming: bool) -> None:
    config = AIModelCallConfig(structured_output=Person, streaming=streaming)
    async with ProviderServer([Answer(text=WRAPPED[0]), Answer(text=BARE)]) as server:
        client = AIModelClient(endpoint_at(server, dialect), config)
        wrapped, bare = await client.generate("Who?"), await client.generate("Who?")
    assert wrapped.structured() == bare.structured() == A
    (warning,) = set(wrapped.warnings) - set(bare.warnings)
    assert (warning.code, warning.knob) == ("answer_unwrapped", "structured_output")


@pytest.mark.parametrize(
    ("texts", "value"),
    [
        (["```"], None),
        (["```json\n"], None),
        (['```json\n{"a": "b'], {"a": "b"}),
        (['```json\n{"a": "b"}\n``'], {"a": "b"}),
        (['<think>{"no": 1}'], None),
        (['<think>{"no": 1}</think>{"a": 1,'], {"a": 1}),
        (['{"a": "x\\ud83d", "b": "y'], {"a": "x\ufffd", "b": "y"}),
        (['{"a": "x\\ud83d'], {"a": "x"}),
        ([f'{{"a": {10**30}, "b'], {"a": 10**30}),
    ],
)
def test_so_far_parses_wrapped_answers_lone_surrogates_and_large_numbers(texts: list[str], value: JsonValue) -> None:
    assert so_far(texts) == value


class Ledger(BaseModel):
    total: int
    note: str
    rest: JsonValue = None


def test_large_numbers_and_lone_surrogates_in_an_answer_are_parsed() -> None:
    text = f'{{"total": {10**30}, "note": "\\ud83d\\ude00 \\ud83d", "rest": {{"a": [-{10**40}, NaN]}}}}'
    ledger = words(text).structured(Ledger)
    assert (ledger.total, ledger.note) == (10**30, "\U0001f600 \ufffd")
    assert isinstance(ledger.rest, dict)
    assert str(ledger.rest["a"]) == f"[{-(10**40)}, nan]"
    plain: JsonValue = {"total": 10**30, "note": "\U0001f600 \ufffd", "rest": {"a": [-(10**40), None]}}
    assert words(text, wanted=SCHEMA).structured() == plain
