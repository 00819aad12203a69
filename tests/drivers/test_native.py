"""The lists of what goes back to a provider as it came: held against the vendors' own types and what was recorded."""

from collections.abc import Iterator, Mapping
from typing import cast, get_args, get_origin

import orjson
import pytest
from anthropic.types.beta import BetaContentBlock, BetaContentBlockParam
from google.genai import types as gemini
from openai.types.responses import ResponseInputItemParam, ResponseOutputItem
from pydantic import BaseModel
from typing_extensions import get_type_hints, is_typeddict

from dhenara_async import AIModelCallConfig, Message
from dhenara_async.calls.accumulator import Accumulator
from dhenara_async.drivers.anthropic_messages import native as anthropic_messages_native
from dhenara_async.drivers.gemini import native as gemini_native
from dhenara_async.drivers.native import ByType, Each, Either, Shape, ValueKind, cut, shows
from dhenara_async.drivers.openai_chat import native as openai_chat_native
from dhenara_async.drivers.openai_responses import native as openai_responses_native
from dhenara_async.hosts.registry import driver_for
from dhenara_async.messages.messages import HostedToolPart, ProviderState, ToolCallPart
from dhenara_async.request import ChatRequest
from tests import recordings
from tests.histories import SOURCES, decoded, histories
from tests.scenarios.test_coming_home import source_of

_T = ValueKind.WORD

# ---------------------------------------------------------------------------------------------------- shapes

_SHAPE: Mapping[str, Shape] = {
    "id": _T,
    "seal": ValueKind.SEAL,
    "count": ValueKind.NUMBER,
    "is": ValueKind.FLAG,
    "any": ValueKind.JSON,
    "left": ValueKind.LEFT,
    "gone": ValueKind.NOTHING,
    "list": Each({"id": _T}),
    "kinds": Each(ByType({"a": {"x": _T}, "b": {}})),
    "either": Either((ValueKind.SHOWN, Each(_T))),
}


_FITTING: list[ProviderState] = [
    {"id": "x-1", "seal": "any words at all", "count": 1.5, "is": False, "any": {"deep": [1]}},
    {"list": [{"id": "a"}, {}], "kinds": [{"type": "a", "x": "1"}, {"type": "b"}], "either": "words and words"},
    {"either": ["a", "b"], "gone": None, "id": None, "list": None},
]
_OTHER: list[ProviderState] = [
    {"id": "two words"},
    {"id": "ünicode"},
    {"id": "x" * 513},
    {"id": "tab\t"},
    {"id": 1},
    {"seal": {"type": "x"}},
    {"count": True},
    {"count": "1"},
    {"is": 1},
    {"gone": ""},
    {"list": {}},
    {"list": ["x"]},
    {"kinds": [{"type": "c"}]},
    {"kinds": [{"type": ["a"]}]},
    {"kinds": [{}]},
    {"either": 1},
    {"either": ["two words"]},
]


@pytest.mark.parametrize("state", _FITTING)
def test_a_fitting_state_is_returned_unchanged(state: ProviderState) -> None:
    vetted = cut(state, _SHAPE)
    assert vetted.state is state
    assert (vetted.reason, vetted.detail) == (None, "")


def test_keys_that_are_not_on_the_list_are_named_and_left_out() -> None:
    vetted = cut({"id": "a", "left": "x", "role": "system", "list": [{"id": "b", "x y\n": 1}]}, _SHAPE)
    assert vetted.state == {"id": "a", "list": [{"id": "b"}]}
    assert vetted.reason == "not_allowed"
    assert vetted.detail.endswith("list[].'x y\\n'…, role")


def test_removing_a_field_of_answers_only_is_no_loss() -> None:
    vetted = cut({"id": "a", "left": {"much": "more"}}, _SHAPE)
    assert (vetted.state, vetted.reason) == ({"id": "a"}, None)


@pytest.mark.parametrize("state", _OTHER)
def test_a_state_of_another_shape_is_withheld(state: ProviderState) -> None:
    vetted = cut({"seal": "x", **state}, _SHAPE)
    assert (vetted.state, vetted.reason) == (None, "not_allowed")


@pytest.mark.parametrize(
    ("shown", "native", "same"),
    [
        ({"a": 1}, {"a": 1}, True),
        ({"a": 1}, '{"a": 1}', True),
        ('{"a": 1}', {"a": 1}, True),
        ([{"x": 1}], [{"x": 1, "encrypted_content": "s"}], True),
        (None, None, True),
        (None, "x", False),
        ("x", None, False),
        ("", "x", False),
        ([{"x": 1}], [{"x": 1}, {"x": 2}], False),
    ],
)
def test_encrypted_fields_are_not_compared_with_the_part(shown: object, native: object, same: bool) -> None:
    assert shows(shown, native) is same


# ---------------------------------------------------------------------------------------------------- vendors' types


def _members(union: object) -> Iterator[object]:
    arguments = get_args(union)
    if isinstance(union, type):
        yield union
    elif hasattr(union, "__value__"):
        yield from _members(union.__value__)  # type: ignore[attr-defined]
    else:
        for member in arguments:
            yield from _members(member)


def _fields(member: object) -> Mapping[str, object]:
    if is_typeddict(member):
        return get_type_hints(member)
    model = cast("type[BaseModel]", member)
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def _by_type(union: object) -> dict[str, list[Mapping[str, object]]]:
    found: dict[str, list[Mapping[str, object]]] = {}
    for member in _members(union):
        if not (is_typeddict(member) or (isinstance(member, type) and issubclass(member, BaseModel))):
            continue
        fields = _fields(member)
        for name in _words(fields.get("type")):
            found.setdefault(name, []).append(fields)
    return found


def _words(hint: object) -> list[str]:
    if isinstance(hint, str):
        return [hint]
    return [] if get_origin(hint) is None else [word for member in get_args(hint) for word in _words(member)]


# Recorded, and taken back though the types of requests leave them out.
_BEYOND = {"call_id", "status"}


@pytest.mark.parametrize("kind", openai_responses_native.ITEMS)
def test_responses_answers_hold_and_requests_take_every_item(kind: str) -> None:
    answers, requests = _by_type(ResponseOutputItem), _by_type(ResponseInputItemParam)
    shape = openai_responses_native.ITEMS[kind]
    assert kind in answers
    taken = {key for fields in requests[kind] for key in fields}
    assert {key for key, what in shape.items() if what is not ValueKind.LEFT} - taken <= _BEYOND


@pytest.mark.parametrize("kind", anthropic_messages_native.BLOCKS)
def test_anthropics_answers_hold_and_requests_take_every_block(kind: str) -> None:
    answers, requests = _by_type(BetaContentBlock), _by_type(BetaContentBlockParam)
    assert kind in answers
    taken = {key for fields in requests[kind] for key in fields}
    assert anthropic_messages_native.BLOCKS[kind].keys() <= taken


@pytest.mark.parametrize("kind", gemini_native.PARTS)
def test_gemini_knows_every_part(kind: str) -> None:
    (model,) = [one for one in _members(_fields(gemini.Part)[kind]) if one is not type(None)]
    assert gemini_native.PARTS[kind].keys() <= _fields(model).keys()


def test_content_that_only_callers_send_is_on_no_allow_list() -> None:
    for lists in (openai_responses_native.ITEMS, anthropic_messages_native.BLOCKS, gemini_native.PARTS):
        assert not [kind for kind in lists if "function" in kind or kind in _CALLERS]
        assert not [kind for kind, shape in lists.items() if "role" in shape]


_CALLERS = (
    *("message", "item_reference", "additional_tools", "custom_tool_call_output", "mcp_approval_response"),
    *("text", "image", "document", "tool_result", "container_upload", "search_result", "fileData", "inlineData"),
)

# ---------------------------------------------------------------------------------------------------- what was recorded


@pytest.mark.skipif(not recordings.FOUND, reason=recordings.MISSING)
def test_all_state_of_recorded_answers_goes_back() -> None:
    """Nothing that a provider was seen to answer is taken for forged."""
    looked_at = 0
    for row in recordings.index():
        if row["kind"] != "message":
            continue
        speaker = SOURCES[source_of(str(row["api"]), str(row["provider"]))]
        vet = driver_for(speaker.endpoint).rules(speaker.endpoint).vet
        for choice in decoded(recordings.load(str(row["id"])), speaker)[0].choices:
            for part in choice.parts:
                vetted = vet(part)
                assert vetted.reason is None, (row["id"], part.type, vetted)
                looked_at += bool(part.provider_state)
    assert looked_at > 1000


@pytest.mark.parametrize("source", SOURCES)
def test_all_state_by_hand_goes_back(source: str) -> None:
    speaker = SOURCES[source]
    vet = driver_for(speaker.endpoint).rules(speaker.endpoint).vet
    for history in histories(source).values():
        found = [vet(part) for part in history.parts() if part.origin == speaker.origin]
        assert [vetted for vetted in found if vetted.reason is not None] == []


def test_the_state_of_a_call_may_repeat_its_part() -> None:
    """Gateways, and stores of other programs, keep blocks whole."""
    call = ToolCallPart(call_id="c", name="look", arguments='{"at": 1}')
    whole: ProviderState = {
        "type": "tool_use",
        "id": "c",
        "name": "look",
        "input": {"at": 1},
        "caller": {"type": "direct"},
    }
    vetted = anthropic_messages_native.vetted(call.model_copy(update={"provider_state": whole}))
    assert vetted.reason is None
    assert vetted.state == {"type": "tool_use", "caller": {"type": "direct"}}
    native: ProviderState = {
        "type": "function_call",
        "call_id": "c",
        "name": "look",
        "arguments": '{"at": 1}',
        "namespace": "n",
    }
    vetted = openai_responses_native.vetted(call.model_copy(update={"provider_state": native}))
    assert (vetted.reason, vetted.state) == (None, {"type": "function_call", "namespace": "n"})


def test_reports_are_not_looked_at() -> None:
    report = HostedToolPart(
        name="container", report=True, provider_state={"type": "container", "container": {"id": "c"}}
    )
    for native in (anthropic_messages_native, openai_responses_native, gemini_native, openai_chat_native):
        assert native.vetted(report).reason is None


_READ: list[tuple[str, object]] = [
    ("reasoning", {"summary": ["One.", "Two."]}),
    ("reasoning", {"summary": [{"text": "One."}, {"text": "Two."}]}),
    ("reasoning", {"summary": [{"type": "summary_text", "text": "One."}]}),
    ("mcp_call", {"server_label": "s", "name": "n", "arguments": {"at": 1}, "output": "o", "status": "completed"}),
    ("web_search_call", {"status": "completed", "action": {"type": "find", "url": "https://x.test", "pattern": "a b"}}),
    ("web_search_call", {"status": "completed", "action": {"type": "search", "query": "a b", "queries": ["a b"]}}),
    ("compaction", {"encrypted_content": "Zm9y"}),
]


@pytest.mark.parametrize(("kind", "fields"), _READ)
def test_items_go_home_in_the_shapes_that_gateways_give_them(kind: str, fields: dict[str, object]) -> None:
    """What was decoded is what its part shows, whatever its shape."""
    speaker = SOURCES["responses"]
    sealed = {"encrypted_content": "c2VhbGVk"} if kind == "reasoning" else {}
    item = {"type": kind, "id": "item_1", **fields, **sealed}
    body = {"id": "r", "object": "response", "status": "completed", "model": "m", "output": [item]}
    asked = ChatRequest.of([Message.user("?")], instructions=(), config=AIModelCallConfig(), stream=False)
    driver = driver_for(speaker.endpoint)
    decoder = driver.decoder(asked, speaker.origin)
    accumulator = Accumulator(provider=speaker.provider, model=speaker.model)
    accumulator.feed([*decoder.feed(orjson.dumps(body)), *decoder.finish()])
    (part,) = accumulator.response().choices[0].parts
    vetted = openai_responses_native.vetted(part)
    assert (vetted.reason, vetted.detail) == (None, "")
    assert vetted.state == {key: value for key, value in item.items() if kind != "reasoning" or key != "type"}
