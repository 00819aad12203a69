"""OpenAI Responses as gateways imitate it: words in other places, other shapes, twice, or late. Streamed and plain."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import cast

import orjson
import pytest

from dhenara_async import (
    AIModel,
    AIModelAPI,
    AIModelAPIProviderEnum,
    AIModelCallConfig,
    AIModelEndpoint,
    Message,
)
from dhenara_async.calls.accumulator import Accumulator
from dhenara_async.calls.body import ResponseBody
from dhenara_async.config import Bounds
from dhenara_async.drivers.openai_responses.answer import AnswerInFlight, rest_of
from dhenara_async.drivers.openai_responses.items import CallItem
from dhenara_async.drivers.openai_responses.message import MessageItem
from dhenara_async.drivers.parts import PartsInFlight
from dhenara_async.errors import (
    APIError,
    AuthenticationError,
    BoundsError,
    ContextLengthError,
    DhenaraError,
    InvalidRequestError,
    OverloadedError,
    ProtocolError,
    RateLimitError,
    ServerError,
    TruncatedStreamError,
)
from dhenara_async.events import PartStart, ReasoningDelta, StreamEnd, StreamEvent, StreamStart, UsageUpdate
from dhenara_async.hosts.registry import driver_for, expected_origin
from dhenara_async.messages.messages import HostedToolPart, ReasoningPart, TextPart
from dhenara_async.request import ChatRequest
from dhenara_async.response import ChatResponse, FinishReason
from dhenara_async.testing import check_grammar
from dhenara_async.usage.tokens import Usage
from tests.steps import growth, steps

JSON = dict[str, object]

_AT = AIModelEndpoint(
    api=AIModelAPI(provider=AIModelAPIProviderEnum.OPEN_AI, api_key="key"), ai_model=AIModel(model_name="gpt-6-sol")
)


class Read:
    """What became of a body: its events, the response as far as it came, and the failure if there was one."""

    def __init__(self, body: bytes, *, stream: bool, bounds: Bounds | None = None) -> None:
        config = AIModelCallConfig(bounds=bounds or Bounds())
        request = ChatRequest.of([Message.user("Well?")], instructions=(), config=config, stream=stream)
        reading = ResponseBody(driver_for(_AT).decoder(request, expected_origin(_AT)))
        reading.begin("text/event-stream" if stream else "application/json")
        self.events: list[StreamEvent] = []
        self.failure: DhenaraError | None = None
        try:
            for chunk in (body, b""):
                self.events += reading.take(chunk)
        except DhenaraError as exc:
            self.events += reading.salvaged
            self.failure = exc
        check_grammar(self.events, complete=self.failure is None)  # joined deltas are the parts' texts
        accumulator = Accumulator(provider="openai", model="asked")
        accumulator.feed(self.events)
        self.response: ChatResponse = accumulator.response() if self.failure is None else accumulator.partial()


def sse(events: Sequence[JSON | bytes]) -> bytes:
    spelled = (event if isinstance(event, bytes) else b"data: " + orjson.dumps(event) for event in events)
    return b"".join(event + b"\n\n" for event in spelled)


def streamed(*events: JSON | bytes) -> ChatResponse:
    read = Read(sse(events), stream=True)
    assert read.failure is None, read.failure
    return read.response


def plain(*output: object, **more: object) -> ChatResponse:
    body = {"id": "resp_1", "object": "response", "status": "completed", "model": "m", "output": list(output), **more}
    read = Read(orjson.dumps(body), stream=False)
    assert read.failure is None, read.failure
    return read.response


def completed(*output: object, **more: object) -> JSON:
    response = {"id": "resp_1", "model": "m", "status": "completed", "output": list(output), **more}
    return {"type": "response.completed", "response": response}


CREATED: JSON = {"type": "response.created", "response": {"id": "resp_1", "model": "m", "status": "in_progress"}}


def event(kind: str, index: object = 0, **more: object) -> JSON:
    return {"type": f"response.{kind}", "output_index": index, **more}


def added(item: JSON, index: object = 0) -> JSON:
    return event("output_item.added", index, item=item)


def done(item: JSON, index: object = 0) -> JSON:
    return event("output_item.done", index, item=item)


def message(content: object, **more: object) -> JSON:
    return {"type": "message", "id": "msg_1", "role": "assistant", "content": content, **more}


def text(words: object, **more: object) -> JSON:
    return {"type": "output_text", "text": words, **more}


def words(delta: object, place: object = 0, **more: object) -> JSON:
    return event("output_text.delta", content_index=place, delta=delta, **more)


def call(arguments: object = "", **more: object) -> JSON:
    return {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "mow", "arguments": arguments, **more}


def custom(given: object = "", **more: object) -> JSON:
    return {"type": "custom_tool_call", "id": "ctc_1", "call_id": "call_1", "name": "mow", "input": given, **more}


def without(value: JSON, *names: str) -> JSON:
    return {name: item for name, item in value.items() if name not in names}


# ---------------------------------------------------------------------------------------------------- one answer, bent

_THOUGHT: JSON = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [{"type": "summary_text", "text": "Wet"}, {"type": "summary_text", "text": "grass."}],
    "encrypted_content": "gAAA",
}
_SAID = message([text("Mow it.", annotations=[])])
_MORE = message([text("Or not.", annotations=[])], id="msg_2")
_CALL, _TWIN = call('{"edge":true}'), call('{"edge":false}', id="fc_2", call_id="call_2", name="rake")
_ITEMS = (_THOUGHT, _SAID, _CALL, _MORE, _TWIN)


def _thought_events() -> list[JSON]:
    place: JSON = {"item_id": "rs_1", "output_index": 0}
    events = [added({**_THOUGHT, "summary": [], "encrypted_content": ""})]
    for number, section in enumerate((("We", "t"), ("grass", "."))):
        here: JSON = {**place, "summary_index": number}
        part: JSON = {"type": "summary_text", "text": ""}
        whole = "".join(section)
        events += [
            {"type": "response.reasoning_summary_part.added", **here, "part": part},
            *({"type": "response.reasoning_summary_text.delta", **here, "delta": delta} for delta in section),
            {"type": "response.reasoning_summary_text.done", **here, "text": whole},
            {"type": "response.reasoning_summary_part.done", **here, "part": {**part, "text": whole}},
        ]
    return [*events, done(_THOUGHT)]


def _message_events(item: JSON, index: int) -> list[JSON]:
    whole = str(cast(list[JSON], item["content"])[0]["text"])
    place: JSON = {"item_id": item["id"], "output_index": index, "content_index": 0}
    return [
        added({**item, "content": []}, index),
        {"type": "response.content_part.added", **place, "part": text("")},
        *({"type": "response.output_text.delta", **place, "delta": delta} for delta in (whole[:3], whole[3:])),
        {"type": "response.output_text.done", **place, "text": whole},
        {"type": "response.content_part.done", **place, "part": text(whole)},
        done(item, index),
    ]


def _call_events(item: JSON, index: int) -> list[JSON]:
    whole = str(item["arguments"])
    place: JSON = {"item_id": item["id"], "output_index": index}
    return [
        added({**item, "arguments": ""}, index),
        *(
            {"type": "response.function_call_arguments.delta", **place, "delta": delta}
            for delta in (whole[:4], whole[4:])
        ),
        {"type": "response.function_call_arguments.done", **place, "arguments": whole, "name": item["name"]},
        done(item, index),
    ]


def usual() -> list[JSON]:
    """A whole stream of a thought, two messages and two calls, as OpenAI sends it."""
    events = [
        CREATED,
        *_thought_events(),
        *_message_events(_SAID, 1),
        *_call_events(_CALL, 2),
        *_message_events(_MORE, 3),
        *_call_events(_TWIN, 4),
        completed(*_ITEMS),
    ]
    return deepcopy(events)


def told(response: ChatResponse) -> object:
    calls = sorted((call.name, call.call_id, orjson.dumps(call.parsed())) for call in response.tools())
    return response.text(), response.reasoning(), calls, response.finish_reason, response.model, response.response_id


Bend = Callable[[list[JSON]], list[JSON]]


def _less(*ends: str) -> Bend:
    """Without the events whose types end so."""
    return lambda events: [each for each in events if not str(each["type"]).endswith(ends)]


def _twice(*ends: str) -> Bend:
    """With the events twice whose types end so."""
    return lambda events: [each for each in events for _ in range(1 + str(each["type"]).endswith(ends))]


def _field(name: str, change: Callable[[object], object], *ends: str) -> Bend:
    """With another value in a field of the events whose types end so; None leaves it out."""

    def bend(events: list[JSON]) -> list[JSON]:
        for each in events:
            if name in each and str(each["type"]).endswith(ends):
                each[name] = change(each[name])
                if each[name] is None:
                    del each[name]
        return events

    return bend


def _items(change: Callable[[JSON, int], JSON | None]) -> Bend:
    """With other items, wherever there are some; the change is told which in a row it changes."""

    def bend(events: list[JSON]) -> list[JSON]:
        for number, each in enumerate(events):
            if "item" in each:
                each["item"] = change(cast(JSON, each["item"]), number)
        response = cast(JSON, events[-1]["response"])
        output = cast(list[JSON], response["output"])
        response["output"] = [change(item, 100 + number) for number, item in enumerate(output)]
        return events

    return bend


def _rotate(events: list[JSON]) -> list[JSON]:
    """With another id in every event."""
    for number, each in enumerate(events):
        if "item_id" in each:
            each["item_id"] = f"id_{number}"
    return _items(lambda item, number: {**item, "id": f"id_{number}"})(events)


def _parsed_arguments(events: list[JSON]) -> list[JSON]:
    """With objects in place of their text."""

    def parsed(value: JSON) -> JSON:
        return {**value, "arguments": orjson.loads(str(value["arguments"]))} if value.get("arguments") else value

    return _items(lambda item, _number: parsed(item))([parsed(each) for each in events])


def _without_ends(events: list[JSON]) -> list[JSON]:
    cast(JSON, events[-1]["response"])["output"] = None
    return events


_ADDED, _DONE = ("output_item.added",), ("output_item.done",)
_DELTAS = (".delta",)
_WHOLE = ("text.done", "part.done", "arguments.done")
_BENDS: Mapping[str, Bend] = {
    "as it is": lambda events: events,
    "no deltas": _less(*_DELTAS),
    "no deltas, no done events": _less(*_DELTAS, *_WHOLE),
    "done events only": lambda events: _without_ends(_less(*_DELTAS, *_DONE)(events)),
    "deltas only": lambda events: _without_ends(_less(*_WHOLE, *_DONE, "part.added")(events)),
    "finished items only": lambda events: _without_ends(_less(*_DELTAS, *_WHOLE, "added")(events)),
    "the end only": lambda events: events[-1:],
    "nothing is added": _less("added"),
    "nothing is created": _less("created"),
    "no item is finished": _less(*_DONE),
    "the end repeats nothing": _without_ends,
    "finished twice": _twice(*_DONE),
    "added twice": _twice("added"),
    "done twice": _twice(*_WHOLE),
    "created twice": _twice("created"),
    "indexes as text": lambda events: _field("output_index", str)(_field("content_index", str)(events)),
    "indexes from one": _field("output_index", lambda index: cast(int, index) + 1),
    "content from one": _field("content_index", lambda index: cast(int, index) + 1),
    "content of deltas from one": _field("content_index", lambda index: cast(int, index) + 1, *_DELTAS),
    "content of done events from one": _field("content_index", lambda index: cast(int, index) + 1, *_WHOLE),
    "content without index": _field("content_index", lambda _index: None),
    "deltas without content index": _field("content_index", lambda _index: None, *_DELTAS),
    "no indexes": _field("output_index", lambda _index: None),
    "added without index": _field("output_index", lambda _index: None, *_ADDED),
    "deltas without index": _field("output_index", lambda _index: None, *_DELTAS),
    "finished without index": _field("output_index", lambda _index: None, *_DONE),
    "neither indexes nor ids": lambda events: _items(lambda item, _number: without(item, "id"))(
        _field("output_index", lambda _index: None)(_field("item_id", lambda _id: None)(events))
    ),
    "ids that change": _rotate,
    "ids that change, finished without index": lambda events: _rotate(_BENDS["finished without index"](events)),
    "one index for all": _field("output_index", lambda _index: 0),
    "one id for all calls": _items(lambda item, _number: {**item, "id": "fc"} if "arguments" in item else item),
    "names in the finished item": lambda events: [
        {**each, "item": without(cast(JSON, each["item"]), "name")}
        if str(each["type"]).endswith("item.added")
        else each
        for each in events
    ],
    "call ids in the finished item": lambda events: [
        {**each, "item": without(cast(JSON, each["item"]), "call_id")}
        if str(each["type"]).endswith("item.added")
        else each
        for each in events
    ],
    "arguments as objects": _parsed_arguments,
    "arguments as objects, no deltas": lambda events: _parsed_arguments(_less(*_DELTAS)(events)),
    "items without a type": _items(lambda item, _number: without(item, "type") if item.get("content") else item),
    "finished items in added": lambda events: [
        {**each, "item": _ITEMS[cast(int, each["output_index"])]} if str(each["type"]).endswith("item.added") else each
        for each in events
    ],
    "finished items in added only": lambda events: [
        CREATED,
        *(added(item, index) for index, item in enumerate(_ITEMS)),
        completed(),
    ],
    "finished items without words": _items(
        lambda item, number: item if number >= 100 else {**item, "content": []} if "content" in item else item
    ),
    "words for the eye only": lambda events: [each for each in events if "reasoning" not in str(each["type"])],
}


@pytest.mark.parametrize("bend", _BENDS)
def test_answer_is_the_same_however_it_is_bent(bend: str) -> None:
    assert told(streamed(*_BENDS[bend](usual()))) == told(plain(*_ITEMS))


# ---------------------------------------------------------------------------------------------------- words

_CONTENTS: Mapping[str, object] = {
    "bare words": "Mow it.",
    "words in a list": ["Mow ", "it."],
    "one part": text("Mow it."),
    "a part without a type": [{"text": "Mow it."}],
    "one part without a type": {"text": "Mow it."},
    "a part of type null": [{"type": None, "text": "Mow it."}],
    "a part of type text": [{"type": "text", "text": "Mow it."}],
    "words and parts": ["Mow", text(" it.")],
    "words in an object": [text({"value": "Mow it."})],
    "nothing beside it": [None, 7, text("Mow it."), {}],
    "several": [text("Mow"), text(" "), text("it.")],
}


@pytest.mark.parametrize("case", _CONTENTS)
def test_content_in_other_shapes(case: str) -> None:
    item = message(_CONTENTS[case])
    assert plain(item).text() == "Mow it."
    for events in (
        [added(message([])), done(item), completed(item)],
        [added(message([])), done(item), completed()],
        [added(item), completed()],
        [words("Mow"), words(" it."), done(item), completed(item)],
        [words("Mow"), words(" it."), completed(item)],
        [completed(item)],
    ):
        assert streamed(CREATED, *events).text() == "Mow it."


@pytest.mark.parametrize(
    "output",
    [
        "Mow it.",
        ["Mow it."],
        message("Mow it."),
        [{"role": "assistant", "content": "Mow it."}],
        [{"type": "message", "text": "Mow it."}],
        [text("Mow it.")],
        [{"type": "text", "text": "Mow it."}],
    ],
)
def test_output_in_other_shapes(output: object) -> None:
    response: JSON = {"id": "resp_1", "status": "completed", "output": output}
    assert plain(output=output).text() == "Mow it."
    assert streamed({"type": "response.completed", "response": response}).text() == "Mow it."


@pytest.mark.parametrize("output", [[], None, [_THOUGHT]])
def test_output_text_counts_if_no_item_has_text(output: object) -> None:
    assert plain(output=output, output_text="Mow it.").text() == "Mow it."
    assert plain(_SAID, output_text="Mow it.").text() == "Mow it."


_REFUSALS: Mapping[str, object] = {
    "a part": [{"type": "refusal", "refusal": "No."}],
    "one part": {"type": "refusal", "refusal": "No."},
    "without a type": [{"refusal": "No."}],
    "as text": [{"type": "refusal", "text": "No."}],
}


@pytest.mark.parametrize("case", _REFUSALS)
def test_refusal_in_other_shapes(case: str) -> None:
    item = message(_REFUSALS[case])
    place: JSON = {"output_index": 0, "content_index": 0}
    for response in (
        plain(item),
        streamed(CREATED, added(message([])), done(item), completed(item)),
        streamed(CREATED, {"type": "response.refusal.done", **place, "refusal": "No."}, completed()),
        streamed(CREATED, {"type": "response.refusal.delta", **place, "delta": "N"}, done(item), completed()),
    ):
        assert (response.refusal(), response.text()) == ("No.", "")
        assert response.finish_reason is FinishReason.REFUSAL


@pytest.mark.parametrize(
    ("places", "contents"),
    [
        ((0, 0), ["Mow", " it."]),  # all deltas at one place
        ((0, 1), ["Mow it."]),  # another place for each delta
        ((1, 2), ["Mow", " it."]),
        ((5, 5), ["Mow it."]),
        ((0, 0), ["Mow it. "]),
        ((0, 0), ["  Mow it.  "]),
        ((1, 1), ["Mow it"]),
        ((1, 1), [" Mow it.\n"]),
        ((0, 1), ["Mow", " it. Now."]),
    ],
)
def test_places_of_deltas_are_others_than_those_of_the_finished_item(
    places: tuple[int, int], contents: list[str]
) -> None:
    item = message([text(content) for content in contents])
    events = [words("Mow", places[0]), words(" it.", places[1]), done(item), completed(item)]
    said = streamed(CREATED, added(message([])), *events).text()
    assert said.removesuffix(" Now.").strip() in ("Mow it.", "Mow it")
    assert said.endswith(" Now.") == contents[-1].endswith(" Now.")


def test_a_finished_item_completes_its_deltas() -> None:
    item = message([text("Mow it."), text(" Or not.")])
    read = Read(sse([CREATED, words("Mow"), done(item), completed(item)]), stream=True)
    assert read.response.text() == "Mow it. Or not."
    assert [part.get_text() for part in read.response.choices[0].parts] == ["Mow it.", " Or not."]


def test_announced_words_are_the_beginning_or_repeated() -> None:
    going_on = [event("content_part.added", content_index=0, part=text("Mow")), words(" it.")]
    repeated = [event("content_part.added", content_index=0, part=text("Mow it.")), words("Mow"), words(" it.")]
    alone = [event("content_part.added", content_index=0, part=text("Mow it."))]
    for events in (going_on, repeated, alone):
        assert streamed(CREATED, added(message([])), *events, completed()).text() == "Mow it."
    begun = [added(call('{"edge":')), event("function_call_arguments.delta", delta="true}")]
    again = [
        added(call('{"edge":true}')),
        *(event("function_call_arguments.delta", delta=each) for each in ("{", '"edge":true}')),
    ]
    for events in (begun, again):
        assert [each.arguments for each in streamed(CREATED, *events, completed()).tools()] == ['{"edge":true}']


def test_details_of_done_events_are_kept_where_the_finished_item_has_none() -> None:
    cited = {"type": "url_citation", "url": "https://mow.test"}
    likely = [{"token": "Mow", "logprob": -0.5}]
    part = text("Mow", annotations=[cited], logprobs=likely)
    for finished in ([], [done(message("Mow"))], [done(message([text("Mow", annotations=[], logprobs=[])]))]):
        events = [words("Mow"), event("content_part.done", content_index=0, part=part), *finished, completed()]
        response = streamed(CREATED, added(message([], phase="commentary")), *events)
        (said,) = response.choices[0].parts
        assert isinstance(said, TextPart)
        assert ([each.url for each in said.citations], len(said.logprobs)) == (["https://mow.test"], 1)
        assert said.provider_state == {"id": "msg_1", "phase": "commentary", "annotations": [cited]}


def test_unknown_content_of_a_message_is_kept_once_each() -> None:
    item = message([{"type": "mural", "paint": number} for number in range(3)], notes="x" * 10)
    parts = plain(item).choices[0].parts
    assert [part.name for part in parts if isinstance(part, HostedToolPart)] == ["mural"] * 3
    assert parts[1].provider_state == {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "content": [{"type": "mural", "paint": 1}],
    }


# ---------------------------------------------------------------------------------------------------- thoughts

_SUMMARIES: Mapping[str, JSON] = {
    "parts": {"summary": [{"type": "summary_text", "text": "Wet"}, {"type": "summary_text", "text": "grass."}]},
    "words": {"summary": ["Wet", "grass."]},
    "parts without a type": {"summary": [{"text": "Wet"}, {"text": "grass."}]},
    "an empty part between": {"summary": ["Wet", {"type": "summary_text", "text": ""}, "grass."]},
    "content": {"summary": [], "content": [{"type": "reasoning_text", "text": "Wet"}, "grass."]},
    "both": {"summary": ["Wet"], "content": [{"type": "reasoning_text", "text": "grass."}]},
    "bare words": {"summary": "Wet\n\ngrass."},
    "one part": {"summary": {"type": "summary_text", "text": "Wet\n\ngrass."}},
    "bare content": {"content": "Wet\n\ngrass."},
    "bare text": {"text": "Wet\n\ngrass."},
}


@pytest.mark.parametrize("case", _SUMMARIES)
def test_sections_of_a_thought_have_a_blank_line_between(case: str) -> None:
    item: JSON = {"type": "reasoning", "id": "rs_1", "encrypted_content": "gAAA", **_SUMMARIES[case]}
    for response in (
        plain(item),
        streamed(CREATED, added({"type": "reasoning", "id": "rs_1"}), done(item), completed(item)),
        streamed(CREATED, added({"type": "reasoning", "id": "rs_1"}), completed(item)),
    ):
        (thought,) = response.choices[0].parts
        assert isinstance(thought, ReasoningPart)
        assert thought.text == "Wet\n\ngrass."
        assert isinstance((thought.provider_state or {}).get("summary", []), list)


@pytest.mark.parametrize("kind", ["reasoning_summary_text", "reasoning_text"])
@pytest.mark.parametrize("indexed", [True, False])
@pytest.mark.parametrize("finished", ["item", "done", "nothing"])
def test_blank_line_comes_with_the_first_delta_of_the_next_section(kind: str, indexed: bool, finished: str) -> None:
    index, begun = (
        ("summary_index", "reasoning_summary_part") if "summary" in kind else ("content_index", "content_part")
    )
    part = {"type": "summary_text" if "summary" in kind else "reasoning_text"}
    events: list[JSON] = []
    for number, section in enumerate((("We", "t"), ("gra", "ss."))):
        place: JSON = {index: number} if indexed else {}
        events.append(event(f"{begun}.added", **place, part={**part, "text": ""}))
        events += [event(f"{kind}.delta", **place, delta=delta) for delta in section]
        if finished != "nothing":
            events.append(event(f"{kind}.done", **place, text="".join(section)))
    field = "summary" if "summary" in kind else "content"
    item: JSON = {"type": "reasoning", "id": "rs_1", field: [{**part, "text": "Wet"}, {**part, "text": "grass."}]}
    ended = [done(item)] if finished == "item" else []
    read = Read(sse([CREATED, added({"type": "reasoning", "id": "rs_1"}), *events, *ended, completed()]), stream=True)
    assert read.response.reasoning() == "Wet\n\ngrass."
    assert [each.text for each in read.events if isinstance(each, ReasoningDelta)] == ["We", "t", "\n\ngra", "ss."]


@pytest.mark.parametrize("places", [(1, 2), (0, 0), (7, 8)])
def test_sections_at_other_places_than_the_finished_ones(places: tuple[int, int]) -> None:
    deltas = zip(places, ("Wet", "grass"), strict=True)
    events = [event("reasoning_summary_text.delta", summary_index=place, delta=delta) for place, delta in deltas]
    item: JSON = {**_THOUGHT, "summary": ["Wet", "grass.", "Mud."]}
    read = streamed(CREATED, *events, done(item), completed(item))
    assert read.reasoning().replace("\n\n", "") == "Wetgrass.Mud."
    assert read.reasoning().endswith("\n\nMud.")


# ---------------------------------------------------------------------------------------------------- calls

_GIVEN = {"edge": True, "rows": [1, 2]}
_GIVEN_TEXT = orjson.dumps(_GIVEN).decode()


@pytest.mark.parametrize("given", [_GIVEN_TEXT, _GIVEN])
@pytest.mark.parametrize("make", [call, custom])
def test_arguments_as_text_or_object_wherever_they_are(given: object, make: Callable[..., JSON]) -> None:
    finished, kind = make(given), "function_call_arguments" if make is call else "custom_tool_call_input"
    field = "arguments" if make is call else "input"
    for events in (
        [done(finished)],
        [added(make()), done(finished)],
        [added(finished)],
        [added(finished), done(finished)],
        [added(make()), event(f"{kind}.done", **{field: given})],
        [added(make()), event(f"{kind}.done", **{field: given}), done(make())],
        [added(make()), event(f"{kind}.delta", delta=given)],
        [added(make()), event(f"{kind}.delta", delta=given), done(finished)],
    ):
        for end in (completed(), completed(finished)):
            (made,) = streamed(CREATED, *events, end).tools()
            assert (made.name, made.call_id, made.parsed()) == ("mow", "call_1", _GIVEN)
    for response in (plain(finished), streamed(completed(finished))):
        assert [made.parsed() for made in response.tools()] == [_GIVEN]
        assert response.finish_reason is FinishReason.TOOL_CALLS


def test_arguments_spelled_in_another_way_are_no_contradiction() -> None:
    numbered = [
        CREATED,
        added(call()),
        *(event("function_call_arguments.delta", delta=each) for each in ('{"edge": ', "true}")),
    ]
    events = [*numbered, done(call({"edge": True})), completed()]
    numbers = (0, 1, 2, 4, 6, 7)
    stream = [{**each, "sequence_number": number} for each, number in zip(events, numbers, strict=True)]
    assert [made.arguments for made in streamed(*stream).tools()] == ['{"edge": true}']


@pytest.mark.parametrize("missing", [("name",), ("call_id",), ("name", "call_id")])
@pytest.mark.parametrize("teller", ["done event", "finished item", "end"])
def test_call_starts_when_its_name_and_id_are_known(missing: tuple[str, ...], teller: str) -> None:
    finished = call(_GIVEN_TEXT)
    late: Mapping[str, Sequence[JSON]] = {
        "done event": [event("function_call_arguments.done", **without(finished, "type", "id")), completed()],
        "finished item": [done(finished), completed()],
        "end": [completed(finished)],
    }
    deltas = [event("function_call_arguments.delta", delta=each) for each in (_GIVEN_TEXT[:5], _GIVEN_TEXT[5:])]
    events = [added({**call(), **dict.fromkeys(missing, "")}), *deltas, *late[teller]]
    read = Read(sse([CREATED, *events]), stream=True)
    (start,) = [each for each in read.events if isinstance(each, PartStart)]
    assert (start.name, start.call_id) == ("mow", "call_1")
    assert [made.parsed() for made in read.response.tools()] == [_GIVEN]


def test_a_call_without_a_name_is_kept() -> None:
    response = streamed(CREATED, event("function_call_arguments.delta", delta="{}", item_id="fc_1"), completed())
    assert [(made.name, made.arguments) for made in response.tools()] == [("", "{}")]
    assert [made.call_id for made in plain(without(call("{}"), "call_id")).tools()] == ["fc_1"]


def test_two_calls_of_one_name_and_id_stay_two() -> None:
    twins = [call('{"row":1}'), call('{"row":2}', id="fc_2")]
    assert [made.parsed() for made in plain(*twins).tools()] == [{"row": 1}, {"row": 2}]
    for events in ([done(twins[0], 0), done(twins[1], 1)], [done(twins[0], None), done(twins[1], None)]):
        assert [made.parsed() for made in streamed(CREATED, *events, completed(*twins)).tools()] == [
            {"row": 1},
            {"row": 2},
        ]


def test_item_that_the_end_has_twice() -> None:
    assert plain(_SAID, _SAID).text() == "Mow it."
    assert streamed(CREATED, done(_SAID), completed(_SAID, _SAID)).text() == "Mow it."
    assert plain(message("Mow"), message(" it.")).text() == "Mow it."


# ---------------------------------------------------------------------------------------------------- ends

_ENDS: Sequence[tuple[JSON, FinishReason, str]] = (
    ({"type": "response.completed", "response": {}}, FinishReason.STOP, "completed"),
    ({"type": "response.completed", "response": {"status": "in_progress"}}, FinishReason.STOP, "completed"),
    ({"type": "response.completed", "response": {"status": "incomplete"}}, FinishReason.LENGTH, "incomplete"),
    ({"type": "response.incomplete"}, FinishReason.LENGTH, "incomplete"),
    ({"type": "response.incomplete", "response": {"status": "completed"}}, FinishReason.LENGTH, "incomplete"),
    ({"type": "response.cancelled", "response": {}}, FinishReason.OTHER, "cancelled"),
    ({"type": "response.completed", "response": {"status": "cancelled"}}, FinishReason.OTHER, "cancelled"),
)


@pytest.mark.parametrize(("end", "reason", "word"), _ENDS)
def test_type_of_the_last_event_decides_where_the_status_does_not(end: JSON, reason: FinishReason, word: str) -> None:
    response = streamed(CREATED, words("Mow"), end)
    assert (response.text(), response.finish_reason, response.raw_finish_reason) == ("Mow", reason, word)


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ("max_output_tokens", FinishReason.LENGTH),
        ("max_tokens", FinishReason.LENGTH),
        ("length", FinishReason.LENGTH),
        ("MAX_TOKENS", FinishReason.LENGTH),
        ("content_filter", FinishReason.CONTENT_FILTER),
        ("model_context_window_exceeded", FinishReason.CONTEXT_WINDOW),
        ("max_messages", FinishReason.OTHER),
    ],
)
def test_reason_of_an_incomplete_answer(told: str, reason: FinishReason) -> None:
    for details in ({"reason": told}, told):
        end: JSON = {"type": "response.incomplete", "response": {"incomplete_details": details}}
        for response in (
            streamed(CREATED, words("Mow"), end),
            streamed(CREATED, words("Mow"), completed(incomplete_details=details)),
            plain(message("Mow"), status="incomplete", incomplete_details=details),
            plain(message("Mow"), call("{"), status="completed", incomplete_details=details),
        ):
            assert (response.finish_reason, response.raw_finish_reason) == (reason, f"incomplete:{told}")


@pytest.mark.parametrize("end", [[], [b"data: [DONE]"], [b"data: [DONE] "], [b"data:"]])
def test_nothing_but_a_last_event_ends_an_answer(end: list[bytes]) -> None:
    read = Read(sse([CREATED, words("Mow"), done(message("Mow")), *end]), stream=True)
    assert type(read.failure) is TruncatedStreamError
    assert read.response.text() == "Mow"


def test_second_answer_is_not_mixed_with_the_first() -> None:
    other: JSON = {"type": "response.created", "response": {"id": "resp_2", "model": "m"}}
    read = Read(sse([CREATED, words("Mow"), other, words(" it."), completed()]), stream=True)
    assert type(read.failure) is TruncatedStreamError
    assert read.response.text() == "Mow"
    assert streamed(CREATED, other, words("Mow"), completed()).text() == "Mow"  # a gateway's own comes first


# ---------------------------------------------------------------------------------------------------- failures

_FAILURES: Sequence[tuple[JSON | bytes, type[APIError], str]] = (
    ({"type": "response.failed", "response": {"id": "resp_1"}}, ServerError, "gave no reason"),
    ({"type": "response.failed"}, ServerError, "gave no reason"),
    ({"type": "response.failed", "response": {"status": "completed"}}, ServerError, "gave no reason"),
    ({"type": "response.failed", "response": {"error": "gone away"}}, ServerError, "gone away"),
    ({"type": "response.failed", "error": {"code": "slow_down", "message": "busy"}}, OverloadedError, "busy"),
    ({"type": "response.completed", "response": {"status": "failed"}}, ServerError, "gave no reason"),
    ({"type": "response.completed", "response": {"error": {"message": "gone"}}}, ServerError, "gone"),
    ({"type": "response.error", "error": {"message": "gone", "code": 429}}, RateLimitError, "gone"),
    ({"type": "error", "error": "gone away"}, ServerError, "gone away"),
    (
        {"type": "error", "error": {"message": '{"error":{"message":"too fast","code":429}}'}},
        RateLimitError,
        "too fast",
    ),
    ({"type": "error", "errors": [{"message": "no key", "code": 401}]}, AuthenticationError, "no key"),
    ({"type": "error", "detail": "gone away"}, ServerError, "gone away"),
    ({"type": "error", "error_code": "bad_request", "message": "what?"}, InvalidRequestError, "what?"),
    ({"error": {"message": "gone", "type": "server_error"}}, ServerError, "gone"),
    ({"error": "gone away"}, ServerError, "gone away"),
    ({"detail": "gone away"}, ServerError, "gone away"),
    ({"type": "proxy_trouble", "error": {"message": "gone"}}, ServerError, "gone"),
    (done({"type": "error", "message": "gone"}), ServerError, "gone"),
    (done(message([], error={"code": "server_error", "message": "gone"})), ServerError, "gone"),
    (b"event: error\ndata: upstream hung up", ServerError, "upstream hung up"),
    (b'event: error\ndata: "upstream hung up"', ServerError, "upstream hung up"),
    (b'event: error\ndata: {"code":"rate_limit_exceeded","message":"too fast"}', RateLimitError, "too fast"),
    (b'event: error\ndata: {"error":{"type":"overloaded_error","message":"busy"}}', OverloadedError, "busy"),
    (b'event: error\ndata: {"type":"server_error","message":"gone"}', ServerError, "gone"),
    (
        b'event: error\ndata: {"message":"maximum context length is 9 tokens","code":400}',
        ContextLengthError,
        "9 tokens",
    ),
    (b'event: response.failed\ndata: {"response":{"error":{"message":"gone"}}}', ServerError, "gone"),
    (b'error: {"code":503,"message":"busy"}', OverloadedError, "busy"),
    (b"error: gone away", ServerError, "gone away"),
)


@pytest.mark.parametrize(("failure", "kind", "says"), _FAILURES)
def test_failure_inside_a_stream(failure: JSON | bytes, kind: type[APIError], says: str) -> None:
    for before in ([], [CREATED], [CREATED, words("Mow")]):
        read = Read(sse([*before, failure, completed()]), stream=True)
        assert type(read.failure) is kind, repr(read.failure)
        assert says in str(read.failure)
        assert read.response.text() == ("Mow" if len(before) == 2 else "")


@pytest.mark.parametrize(
    ("body", "kind", "says"),
    [
        ({"object": "response", "status": "failed", "output": []}, ServerError, "gave no reason"),
        ({"object": "response", "error": "gone away", "output": []}, ServerError, "gone away"),
        ({"output": [{"type": "error", "message": "gone"}]}, ServerError, "gone"),
        ({"output": [message("Mow", error={"message": "gone", "code": 429})]}, RateLimitError, "gone"),
        ({"errors": [{"message": "no key", "code": 401}]}, AuthenticationError, "no key"),
        ({"detail": "gone away"}, ServerError, "gone away"),
        ({"error_code": "BAD_REQUEST", "message": '{"message":"what?"}'}, InvalidRequestError, "what?"),
        ({"message": "Too many requests", "code": 429}, RateLimitError, "Too many"),
        ({"response": {"object": "response", "error": {"message": "gone"}}}, ServerError, "gone"),
    ],
)
def test_failure_as_a_plain_body(body: JSON, kind: type[APIError], says: str) -> None:
    read = Read(orjson.dumps(body), stream=False)
    assert type(read.failure) is kind, repr(read.failure)
    assert says in str(read.failure)


def test_code_of_an_error_status_is_the_outermost() -> None:
    body = orjson.dumps({"error_code": "BAD_REQUEST", "message": '{"error":{"code":"x","message":"one at least"}}'})
    failure = driver_for(_AT).error(400, {}, body, provider="p")
    assert (type(failure), failure.code) == (InvalidRequestError, "BAD_REQUEST")
    assert str(failure).endswith("one at least")


@pytest.mark.parametrize("body", [{}, {"choices": []}, {"response": {}}, {"output_index": 0}])
def test_body_without_anything_of_a_response(body: JSON) -> None:
    assert type(Read(orjson.dumps(body), stream=False).failure) is ProtocolError


def test_response_as_the_only_member_of_a_body() -> None:
    read = Read(orjson.dumps({"response": {"id": "resp_1", "output": [message("Mow")]}}), stream=False)
    assert (read.response.text(), read.response.response_id) == ("Mow", "resp_1")


def test_types_that_only_the_names_of_events_tell() -> None:
    named = [
        b"event: " + str(each["type"]).encode() + b"\ndata: " + orjson.dumps(without(each, "type")) for each in usual()
    ]
    assert told(streamed(*named)) == told(plain(*_ITEMS))


# ---------------------------------------------------------------------------------------------------- metadata


@pytest.mark.parametrize(
    "events",
    [
        [words("Mow"), completed()],
        [{"type": "response.created", "response": {"id": "", "model": ""}}, words("Mow"), completed()],
        [
            {"type": "response.in_progress", "response": {"id": "resp_1", "model": "m"}},
            words("Mow"),
            completed(id="", model=None),
        ],
        [words("Mow", response_id="resp_1", model="m"), completed(id=None, model=None)],
        [words("Mow"), {**completed(id=None, model=None), "response_id": "resp_1", "model": "m"}],
        [added(message([])), words("Mow", response_id="resp_1", model="m"), completed(id=None, model=None)],
        [completed(message("Mow"))],
    ],
)
def test_id_and_model_from_any_event(events: list[JSON]) -> None:
    response = streamed(*events)
    assert (response.model, response.response_id, response.text()) == ("m", "resp_1", "Mow")
    assert [part.origin and part.origin.served_model for part in response.choices[0].parts] == ["m"]


def test_start_is_the_first_event_and_comes_once() -> None:
    read = Read(sse(usual()[1:]), stream=True)
    assert [type(each) for each in read.events].count(StreamStart) == 1
    assert isinstance(read.events[-1], StreamEnd)


def _tokens(into: int | None, output: int | None, **more: int) -> JSON:
    return {"input_tokens": into, "output_tokens": output, **more}


_TOKENS: Sequence[tuple[JSON, JSON]] = (
    (
        {"input_tokens": "9", "output_tokens": "4", "total_tokens": "13"},
        _tokens(9, 4, total_tokens=13),
    ),
    ({"input_tokens": -1, "output_tokens": 4}, _tokens(None, 4)),
    ({"prompt_tokens": 9, "completion_tokens": 4}, _tokens(9, 4)),
    (
        {
            "prompt_tokens": 9,
            "prompt_tokens_details": {"cached_tokens": 3},
            "completion_tokens": 4,
            "completion_tokens_details": {"reasoning_tokens": 2},
        },
        _tokens(9, 4, cache_read_tokens=3, reasoning_tokens=2),
    ),
    (
        {
            "input_tokens": 9,
            "input_tokens_details": {"cached_tokens": 20},
            "output_tokens": 4,
            "output_tokens_details": {"reasoning_tokens": 30},
        },
        _tokens(29, 34, cache_read_tokens=20, reasoning_tokens=30),
    ),
    (
        {"input_tokens": 9, "cached_tokens": 2, "output_tokens": 4, "reasoning_tokens": 1},
        _tokens(9, 4, cache_read_tokens=2, reasoning_tokens=1),
    ),
    ({"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}, _tokens(0, 0, total_tokens=0)),
)


@pytest.mark.parametrize(("usage", "counts"), _TOKENS)
def test_tokens_in_other_words(usage: JSON, counts: JSON) -> None:
    meant = Usage.model_validate({**counts, "source": "reported"})
    assert plain(message("Mow"), usage=usage).usage == meant
    assert streamed(CREATED, words("Mow"), completed(usage=usage)).usage == meant
    assert streamed(CREATED, words("Mow"), {**completed(), "usage": usage}).usage == meant


@pytest.mark.parametrize("last", [None, {}, [], "none", {"input_tokens": 0, "output_tokens": 0}, {"input_tokens": -1}])
def test_counts_stay_where_the_end_has_none(last: object) -> None:
    counted: JSON = {"type": "response.in_progress", "response": {"usage": {"input_tokens": 9, "output_tokens": 4}}}
    usage = streamed(CREATED, words("Mow"), counted, completed(usage=last)).usage
    assert (usage.input_tokens, usage.output_tokens) == (9, 4)


@pytest.mark.parametrize("usage", [None, {}, [], "none", {"input_tokens": None}, {"cost": "free"}])
def test_missing_token_counts(usage: object) -> None:
    read = Read(sse([CREATED, words("Mow"), completed(usage=usage)]), stream=True)
    assert read.response.usage.source == "unknown"
    assert not any(isinstance(each, UsageUpdate) for each in read.events)
    assert plain(message("Mow"), usage=usage).usage.source == "unknown"


# ---------------------------------------------------------------------------------------------------- how work grows


def _many(count: int, make: Callable[[int], Sequence[JSON]]) -> Callable[[], object]:
    body = sse([CREATED, *(each for number in range(count) for each in make(number)), completed()])

    def read() -> object:
        found = Read(body, stream=True, bounds=Bounds(max_parts=100_000))
        assert found.failure is None, found.failure
        return found

    return read


def _cited(number: int) -> list[JSON]:
    annotation = {"type": "url_citation", "url": f"https://mow.test/{number}"}
    return [words("a"), event("output_text.annotation.added", content_index=0, annotation=annotation)]


_GROWING: Mapping[str, Callable[[int], Sequence[JSON]]] = {
    "annotations": _cited,
    "deltas": lambda _number: [words("a")],
    "deltas, told again": lambda number: [
        words("a"),
        event("output_text.done", content_index=0, text="a" * (number % 3)),
    ],
    "places": lambda number: [words("a", number)],
    "items": lambda number: [words("a", 0, output_index=number)],
    "items without index": lambda number: [words("a", 0, output_index=None, item_id=f"m_{number}")],
    "finished items without index": lambda number: [done(message(f"a {number}", id=f"m_{number}"), None)],
    "finished items without names": lambda number: [done(message(f"a {number}", id=""), None)],
    "sections": lambda number: [event("reasoning_summary_text.delta", summary_index=number, delta="a")],
    "calls": lambda number: [
        added(call("", call_id=f"c_{number}"), number),
        event("function_call_arguments.delta", number, delta="{}"),
    ],
    "pieces of a call": lambda _number: [event("function_call_arguments.delta", delta="a")],
    "unknown contents": lambda number: [done(message([{"type": "mural"}]), number)],
}


@pytest.mark.parametrize("case", _GROWING)
def test_work_is_linear_in_the_input(case: str) -> None:
    work = _GROWING[case]
    assert growth(lambda size: _many(size, work)(), 200) < 2.2


def test_work_is_linear_in_a_repeated_end() -> None:
    def repeated(size: int) -> object:
        items = [message(f"a {number}", id=f"m_{number}") for number in range(size)]
        events = [CREATED, *(done(item, number + 1) for number, item in enumerate(items))]
        other = [message(f"b {number}", id=f"n_{number}") for number in range(size)]
        return Read(sse([*events, completed(*reversed(items), *other)]), stream=True, bounds=Bounds(max_parts=10**6))

    assert growth(repeated, 200) < 2.2


def test_joining_is_linear_in_the_input() -> None:
    """Told again and again between deltas, a text is not joined anew each time: its first piece holds what was."""
    pieces = ["a" * 1000]
    joined = 0
    for _ in range(50):
        pieces.append("a")
        before = list(pieces)
        rest_of(pieces, "aaaa")
        joined += pieces != before
    assert joined == 0
    assert rest_of(pieces, "a" * 1050 + "b") == "b"
    assert pieces == ["a" * 1050]


def test_sources_are_appended_in_place() -> None:
    """Copying a list costs no step that could be counted."""
    answer = AnswerInFlight(PartsInFlight(expected_origin(_AT)))
    item = MessageItem(answer, 0)
    item.add("text", 0, "a")
    part = answer.texts[0, 0]
    item.cite(0, {"url": "https://mow.test/1"})
    kept = part.state["annotations"]
    item.cite(0, {"url": "https://mow.test/2"})
    assert part.state["annotations"] is kept
    assert len(cast(list[object], kept)) == 2


def test_sources_count_as_parts() -> None:
    cited = [event("output_text.annotation.added", content_index=0, annotation={"url": "https://mow.test"})] * 3
    finished = message([text("Mow", annotations=[{"url": "https://mow.test"}] * 3)])
    bodies = [sse([CREATED, words("Mow"), *cited, completed()]), sse([CREATED, completed(finished)])]
    for body in bodies:
        assert type(Read(body, stream=True, bounds=Bounds(max_parts=3)).failure) is BoundsError
        assert Read(body, stream=True, bounds=Bounds(max_parts=4)).failure is None
    both = sse([CREATED, words("Mow"), *cited, done(finished), completed(finished)])
    assert Read(both, stream=True, bounds=Bounds(max_parts=4)).failure is None  # told twice, counted once


def test_likelihoods_count_as_parts_by_the_hundred() -> None:
    likely = [{"token": "a", "logprob": -0.5, "top_logprobs": [{"token": "b", "logprob": -1}]}] * 100
    body = sse([CREATED, completed(message([text("a" * 100, logprobs=likely)]))])
    assert type(Read(body, stream=True, bounds=Bounds(max_parts=2)).failure) is BoundsError
    assert Read(body, stream=True, bounds=Bounds(max_parts=3)).failure is None


def test_items_without_a_part_are_bounded() -> None:
    many: list[JSON] = [{"type": "message", "id": str(number)} for number in range(150)]
    for body in (sse([CREATED, *(added(item, place) for place, item in enumerate(many))]), sse([completed(*many)])):
        assert type(Read(body, stream=True, bounds=Bounds(max_parts=40)).failure) is BoundsError
        assert type(Read(body, stream=True, bounds=Bounds(max_parts=60)).failure) is not BoundsError


def test_spellings_of_arguments_are_not_compared_again_and_again() -> None:
    whole = orjson.dumps({"hedge": "x" * 1000}).decode()
    answer = AnswerInFlight(PartsInFlight(expected_origin(_AT)))
    item = CallItem(answer)
    item.announce(call())
    item.add(whole)
    calls = steps(lambda: item.complete({"arguments": {"hedge": 1}}))
    assert calls < steps(lambda: item.complete({"arguments": {"hedge": "y" * 1000}}))
    assert [part.kind for part in item.finish(call(whole)) if isinstance(part, PartStart)] == []
