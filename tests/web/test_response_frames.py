"""Every recorded answer of every provider as a stream of the Responses API, read by our own driver and by the SDK."""

from collections.abc import Mapping
from typing import Any, cast, get_args

import orjson
import pytest
import pytest_asyncio
from pydantic import JsonValue, SecretStr, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dhenara_async import (
    AIModel,
    AIModelAPI,
    AIModelAPIProviderEnum,
    AIModelCallResponse,
    AIModelClient,
    AIModelEndpoint,
    Dialect,
    StreamEvent,
)
from dhenara_async.conversation import ConversationNode
from dhenara_async.drivers.base import as_object
from dhenara_async.errors import DhenaraError, RateLimitError, StreamStateError
from dhenara_async.events import (
    PartEnd,
    PartStart,
    ReasoningDelta,
    StepStart,
    StreamReset,
    TextDelta,
    ToolEnd,
    UsageUpdate,
)
from dhenara_async.messages.messages import (
    Citation,
    FilePart,
    HostedToolPart,
    Origin,
    Part,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from dhenara_async.response import ChatResponse, Choice, FinishReason
from dhenara_async.testing import ReplayTransport
from dhenara_async.usage.tokens import UNKNOWN, Usage
from dhenara_async.web.frames import Ended, Failure, failure_of
from dhenara_async.web.openai.errors import OpenAIError
from dhenara_async.web.openai.responses.frames import ResponseFrames
from dhenara_async.web.openai.responses.items import call_ids, output_items, without_empty
from dhenara_async.web.openai.responses.object import ResponseHead, response_object
from tests import recordings, wire_fixtures
from tests.loopback import ONCE
from tests.web.protocols import events_of
from tests.web.servers import served

HEAD = ResponseHead(id="resp_" + "a" * 44, created_at=1, model="m")
FIXTURES = [wire_fixtures.WireFixture(name) for name in wire_fixtures.names() if name.endswith(".sse")]
TERMINAL = {"response.completed", "response.incomplete", "response.failed"}
ORIGIN = Origin(provider="open_ai", dialect="openai_responses", endpoint="h", account=None, model="m")


class Heard:
    """One answer: its events, and its response or the error that ended it."""

    def __init__(self) -> None:
        self.events: list[StreamEvent] = []
        self.response: AIModelCallResponse | None = None
        self.error: DhenaraError | None = None


async def heard_from(client: AIModelClient) -> Heard:
    heard = Heard()
    async with client.stream("?") as stream:
        try:
            while batch := await stream.batch():
                heard.events += batch
        except DhenaraError as exc:
            heard.error = exc
    if heard.error is None:
        heard.response = stream.response
    return heard


def written(heard: Heard, after: int | None = None, *, kept: bool = True, batch: bool = False) -> bytes:
    """The answer as the front writes it, event by event or in one batch."""
    frames = ResponseFrames(HEAD, starting_after=after, events_kept=kept)
    batches = [heard.events] if batch else [[event] for event in heard.events]
    pieces = [frames.begin(), *map(frames.feed, batches)]
    last = frames.fail(failure_of(heard.error)) if heard.error else frames.end(Ended(response=heard.response))
    return b"".join([*pieces, last])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def answers() -> dict[str, Heard]:
    found: dict[str, Heard] = {}
    for fixture in FIXTURES:
        found[fixture.name] = await heard_from(fixture.client(fixture.body))
    for name in recordings.ids(framing="sse"):
        recording = recordings.load(name)
        transport = ReplayTransport(recording.body, status=recording.status, headers=recording.headers)
        found[name] = await heard_from(AIModelClient(recording.endpoint("http://127.0.0.1"), ONCE, transport=transport))
    return found


def reader(body: bytes, kind: str = "text/event-stream") -> AIModelClient:
    """Our client of the Responses API, which is answered with ``body``."""
    api = AIModelAPI(
        provider=AIModelAPIProviderEnum.OPENAI_COMPATIBLE,
        api_key=SecretStr("key"),
        base_url="http://127.0.0.1",
        dialect=Dialect.OPENAI_RESPONSES,
    )
    transport = ReplayTransport(body, headers={"content-type": kind})
    return AIModelClient(AIModelEndpoint(api=api, ai_model=AIModel(model_name="m")), ONCE, transport=transport)


# the reasons that the API has no word for, and the words that they get
_READ_AS = {
    FinishReason.CONTEXT_WINDOW: FinishReason.LENGTH,
    FinishReason.PAUSE: FinishReason.OTHER,
    FinishReason.REFUSAL: FinishReason.CONTENT_FILTER,
}


def shown(answer: ChatResponse, response_id: str | None = None) -> dict[str, object]:
    """What a client of the API sees of an answer; with ``response_id``, of one that is to be written."""
    choice = answer.choices[0]
    calls = call_ids(response_id, choice.parts) if response_id else [(call.call_id, call) for call in choice.tools()]
    usage = answer.usage
    known = usage.input_tokens is not None and usage.output_tokens is not None
    finish = choice.finish_reason
    parts = [part for part in choice.parts if not isinstance(part, TextPart) or part.text] or choice.parts
    if response_id:
        refused = finish is FinishReason.REFUSAL and choice.refusal()
        finish = finish if refused else _READ_AS.get(finish, finish)
        if choice.refusal() and not choice.text() and finish is FinishReason.STOP:
            finish = FinishReason.REFUSAL
        if choice.refusal() and choice.text() and finish is FinishReason.REFUSAL:
            finish = FinishReason.STOP
    return {
        "texts": [part.text for part in parts if isinstance(part, TextPart)],
        "reasoning": [part.text for part in choice.parts if part.type == "reasoning"],
        "refusal": choice.refusal(),
        "calls": [(shown_id, call.name, call.arguments.strip() or "{}") for shown_id, call in calls],
        "finish": finish,
        "usage": (usage.input_tokens, usage.output_tokens, usage.reasoning_tokens, usage.cache_read_tokens)
        if known
        else (None,) * 4,
        "images": [file.data for file in choice.files() if file.data is not None and file.kind == "image"],
        "order": [part.type for part in parts if part.type not in ("hosted_tool", "file")],
    }


async def test_every_answer_comes_back_through_our_own_driver(answers: Mapping[str, Heard]) -> None:
    count = 0
    for name, heard in answers.items():
        body = written(heard)
        again = await heard_from(reader(body))
        failed = heard.response is None or heard.response.chat_response.finish_reason is FinishReason.ERROR
        assert (again.error is not None) is failed, (name, again.error, heard.error)
        if heard.response is None or again.response is None:
            continue
        count += 1
        answer = heard.response.chat_response
        assert shown(again.response.chat_response) == shown(answer, HEAD.id), name
        whole = await heard_from(reader(orjson.dumps(response_object(HEAD, answer)), "application/json"))
        assert whole.response is not None
        assert shown(whole.response.chat_response) == shown(answer, HEAD.id), name
    assert count >= len(FIXTURES) / 2


async def test_every_answer_is_written_by_the_rules(answers: Mapping[str, Heard]) -> None:
    for name, heard in answers.items():
        body = written(heard)
        events = events_of(body)
        kinds = [str(event["type"]) for event in events]
        assert [event["sequence_number"] for event in events] == list(range(len(events))), name
        assert kinds[:2] == ["response.created", "response.in_progress"]
        assert kinds[-1] in TERMINAL
        assert not TERMINAL & set(kinds[:-1])
        assert written(heard, batch=True) == body, name
        for after in {0, 1, len(events) // 2, len(events) - 2, len(events) - 1, len(events) + 5}:
            rest = [event for event in events if cast(int, event["sequence_number"]) > after]
            assert events_of(written(heard, after)) == rest, (name, after)
        last = cast("dict[str, Any]", events[-1]["response"])
        items = [as_object(event["item"]) for event in events if event["type"] == "response.output_item.done"]
        if not any(isinstance(event, StreamReset) for event in heard.events):
            done = without_empty(items)
            assert sorted(map(orjson.dumps, done)) == sorted(map(orjson.dumps, last["output"])), name
            if heard.response is not None:
                assert response_object(HEAD, heard.response.chat_response) == last, name
        ids = [item["id"] for item in last["output"]]
        assert len(set(ids)) == len(ids)
        assert all(len(item_id) <= 64 for item_id in ids)


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # of the SDK, about values that OpenAI itself sends
async def test_the_sdk_accumulates_answers_to_our_own_object(answers: Mapping[str, Heard]) -> None:
    openai = pytest.importorskip("openai", reason="the openai SDK is not installed: pip install openai")
    names = [*answers][::16]  # the SDK takes 60 ms for an answer
    bodies = {name: written(answers[name]) for name in names}

    async def respond(request: Request) -> Response:
        return Response(bodies[orjson.loads(await request.body())["model"]], media_type="text/event-stream")

    app = Starlette(routes=[Route("/v1/responses", respond, methods=["POST"])])
    async with served(app) as url, openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="key", max_retries=0) as sdk:
        for name, body in bodies.items():
            last = events_of(body)[-1]
            async with sdk.responses.stream(model=name, input="?") as stream:
                heard = [event async for event in stream]
            assert [event.type for event in heard] == [event["type"] for event in events_of(body)], name
            expected = cast("dict[str, Any]", last["response"])
            texts = [
                content["text"]
                for item in expected["output"]
                if item["type"] == "message"
                for content in item["content"]
                if content["type"] == "output_text"
            ]
            response = heard[-1].response
            assert response.output_text == "".join(texts), name
            if last["type"] == "response.completed":
                response = await stream.get_final_response()
                assert response.output_text == "".join(texts), name
            told = response.to_dict(exclude_unset=True, mode="json", warnings=False)
            for item in told["output"]:
                item.pop("parsed_arguments", None)
                for content in item.get("content") or ():
                    content.pop("parsed", None)
            assert told == expected, name


# what our events have in another shape than the SDK's types: counts that are not known, and what OpenAI itself sends
_LOOSE = ("usage.input_tokens_details", "usage.output_tokens_details", "action.ActionSearch.sources", "action.Action")


def test_every_event_has_the_shape_of_the_sdks_types(answers: Mapping[str, Heard]) -> None:
    """The SDK itself reads events without a check; clients in other languages are strict."""
    types = pytest.importorskip("openai.types.responses", reason="the openai SDK is not installed: pip install openai")
    kinds, items = by_type(types.ResponseStreamEvent), by_type(types.ResponseOutputItem)
    wrong: set[str] = set()
    for name, heard in answers.items():
        for event in events_of(written(heard)):
            response, item = cast("dict[str, Any]", event.get("response") or {}), cast("Any", event.get("item"))
            for each in [*response.pop("output", ()), *([item] if item else ())]:
                wrong |= complaints(items[each["type"]], each)
            response["output"] = []
            event["item"] = {"type": "reasoning", "id": "rs_1", "summary": []}  # checked above, by its own class
            wrong |= {f"{name}: {words}" for words in complaints(kinds[str(event["type"])], event)}
    assert not wrong


def by_type(union: Any) -> dict[str, Any]:
    """The classes of one of the SDK's unions."""
    return {
        kind: each for each in get_args(get_args(union)[0]) for kind in get_args(each.model_fields["type"].annotation)
    }


def complaints(kind: Any, value: object) -> set[str]:
    try:
        kind.model_validate(value)
    except ValidationError as exc:
        places = {".".join(str(step) for step in error["loc"] if isinstance(step, str)) for error in exc.errors()}
        return {f"{kind.__name__}.{place}" for place in places if not any(loose in place for loose in _LOOSE)}
    return set()


def fed(*events: StreamEvent) -> ResponseFrames:
    frames = ResponseFrames(HEAD)
    frames.begin()
    frames.feed(events)
    return frames


def says(part_id: int, text: str) -> list[StreamEvent]:
    return [PartStart(part_id, "text"), TextDelta(part_id, text), PartEnd(part_id, TextPart(text=text, origin=ORIGIN))]


def calls(part_id: int, call_id: str) -> list[StreamEvent]:
    call = ToolCallPart(call_id=call_id, name="add", arguments="", origin=ORIGIN)
    return [PartStart(part_id, "tool_call", 0, call_id, "add"), PartEnd(part_id, call)]


def done(*parts: Part, finish: FinishReason = FinishReason.STOP, usage: Usage = UNKNOWN) -> Ended:
    choice = Choice(parts=parts, finish_reason=finish)
    return Ended(node=ConversationNode(response=ChatResponse(choices=(choice,), usage=usage, model="m", provider="p")))


def response_in(event: Mapping[str, object]) -> dict[str, Any]:
    return cast("dict[str, Any]", event["response"])


def test_an_answer_that_begins_again_leaves_only_its_last_words_in_the_object() -> None:
    frames = ResponseFrames(HEAD)
    body = frames.begin() + frames.feed(
        [PartStart(0, "text"), TextDelta(0, "No"), StreamReset("it broke"), *says(0, "Yes")]
    )
    events = events_of(body + frames.end(done(TextPart(text="Yes"))))
    items = [cast("dict[str, Any]", event["item"]) for event in events if event["type"] == "response.output_item.done"]
    assert [(item["status"], item["content"][0]["text"]) for item in items] == [
        ("incomplete", "No"),
        ("completed", "Yes"),
    ]
    assert response_in(events[-1])["output"] == [items[1]]
    assert items[0]["id"] != items[1]["id"]


def test_an_answer_that_begins_again_after_a_tool_call_fails() -> None:
    frames = fed(PartStart(0, "tool_call", 0, "c", "add"))
    events = events_of(frames.feed([StreamReset("it broke"), *says(0, "Yes")]))
    assert [event["type"] for event in events][-2:] == ["error", "response.failed"]
    assert frames.end(done(TextPart(text="Yes"))) == b""
    assert frames.fail(Failure("ReadError", "It broke.")) == b""


def test_a_cut_answer_fails_with_what_came() -> None:
    begun: list[StreamEvent] = [*says(0, "One"), PartStart(1, "reasoning"), ReasoningDelta(1, "Hm")]
    events = events_of(fed(*begun).fail(failure_of(RateLimitError("secret", provider="p", status=429))))
    *_, error, last = events
    assert error == {
        "type": "error",
        "code": "rate_limit_exceeded",
        "message": response_in(last)["error"]["message"],
        "param": None,
        "sequence_number": cast(int, last["sequence_number"]) - 1,
    }
    assert last["type"] == "response.failed"
    told = response_in(last)
    assert (told["status"], told["error"]["code"], told["usage"]) == ("failed", "rate_limit_exceeded", None)
    assert "secret" not in str(events)
    assert [item.get("status") for item in told["output"]] == ["completed", "incomplete"]
    choice = Choice(
        parts=(TextPart(text="One", origin=ORIGIN), ReasoningPart(text="Hm", status="interrupted")),
        finish_reason=FinishReason.ERROR,
    )
    partial = ChatResponse(choices=(choice,), model="m", provider="p")
    assert told == response_object(
        HEAD, partial, "failed", OpenAIError(429, told["error"]["message"], told["error"]["code"])
    )
    stopped = events_of(fed(*begun).fail(Failure("Cancelled", "The answer was stopped.")))[-1]
    assert stopped["type"] == "response.failed"
    assert response_in(stopped) == response_object(HEAD, partial, "cancelled")


def test_a_tool_loop_is_one_response() -> None:
    """Its items follow each other, equal call ids are told apart, and its tokens are those of all answers."""
    first = Usage(input_tokens=1, output_tokens=2, source="reported")
    result = ToolResultPart(call_id="c", name="add", content=(TextPart(text="3"),))
    step = [*calls(0, "c"), UsageUpdate(first), ToolEnd(result)]
    frames = fed(StepStart("n1", ORIGIN), *step, StepStart("n2", ORIGIN), *step, StepStart("n3", ORIGIN), *says(0, "3"))
    told = response_in(events_of(frames.end(done(TextPart(text="3"), usage=first)))[-1])
    assert [(item["type"], item.get("call_id")) for item in told["output"]] == [
        ("function_call", "c"),
        ("function_call_output", "c"),
        ("function_call", "c_1"),
        ("function_call_output", "c_1"),
        ("message", None),
    ]
    assert told["usage"]["total_tokens"] == 9
    assert [item["arguments"] for item in told["output"][:3:2]] == ["{}", "{}"]


def test_calls_without_an_id_get_one_that_can_be_found_again() -> None:
    frames = fed(*says(0, "So"), *calls(1, ""), *calls(2, ""))
    parts = [TextPart(text="So"), *(ToolCallPart(call_id="", name="add") for _ in range(2))]
    output = response_in(events_of(frames.end(done(*parts)))[-1])["output"]
    names = [name for name, _ in call_ids(HEAD.id, parts)]
    assert names == [item["call_id"] for item in output[1:]]
    assert len(set(names)) == 2


def test_further_choices_are_left_out() -> None:
    picture = FilePart(media_type="image/png", data=b"\x89PNG\r\n\x1a\n1", origin=ORIGIN)
    search = HostedToolPart(name="s", tool="web_search", input={"query": "tea"})
    further: list[StreamEvent] = [
        *(PartStart(1, "file", 1), PartEnd(1, picture)),
        *(PartStart(2, "hosted_tool", 1, name="s"), PartEnd(2, search)),
        *(PartStart(3, "text", 1), TextDelta(3, "No"), PartEnd(3, TextPart(text="No"))),
    ]
    last = events_of(fed(*says(0, "Yes"), *further).end(done(TextPart(text="Yes", origin=ORIGIN))))[-1]
    assert [item["type"] for item in response_in(last)["output"]] == ["message"]
    second = Choice(index=1, parts=(picture,), finish_reason=FinishReason.ERROR)
    assert response_object(HEAD, ChatResponse(choices=(second,), model="m", provider="p"), "failed")["output"] == []


def test_a_replay_in_other_events_ends_a_resumed_stream_with_the_last_one_only() -> None:
    frames = ResponseFrames(HEAD, starting_after=40, events_kept=False)
    body = frames.begin() + frames.feed(says(0, "Yes")) + frames.end(done(TextPart(text="Yes")))
    (last,) = events_of(body)
    assert (last["type"], last["sequence_number"]) == ("response.completed", 41)
    whole = ResponseFrames(HEAD, events_kept=False)
    assert len(events_of(whole.begin() + whole.feed(says(0, "Yes")))) == 8


def test_the_searches_of_a_provider_are_counted() -> None:
    usage = Usage(input_tokens=1, output_tokens=1, web_searches=2)
    told = response_in(events_of(fed(*says(0, "Yes")).end(done(TextPart(text="Yes"), usage=usage)))[-1])
    assert told["tool_usage"]["web_search"] == {"num_requests": 2}


@pytest.mark.parametrize("read", [0, 5, 8, 9, 30])
def test_a_client_that_has_read_more_of_a_cut_answer_than_was_kept_is_told_of_its_end(read: int) -> None:
    """A killed process has sent what it did not keep: no number may lie behind the end."""
    frames = ResponseFrames(HEAD, starting_after=read, events_lost=True)
    frames.begin()
    frames.feed(says(0, "So")[:2])
    *_, last = events_of(frames.fail(failure_of(StreamStateError("cut"))))
    assert (last["type"], cast(int, last["sequence_number"]) > read) == ("response.failed", True)
    assert response_in(last)["output"][0]["content"][0]["text"] == "So"


def test_the_opaque_state_of_other_providers_stays_here() -> None:
    """A client gets a reference to it; OpenAI's own encrypted reasoning is passed on."""
    state: dict[str, Any] = {"signature": "c2lnbmVk", "encrypted_content": "gAAA"}
    foreign = ORIGIN.changed(dialect="anthropic_messages")
    parts = [ReasoningPart(text="Hm", origin=origin, provider_state=state) for origin in (foreign, ORIGIN)]
    first, second = output_items(HEAD.id, parts)
    assert first["encrypted_content"] == first["id"]
    assert second["encrypted_content"] == "gAAA"


HOSTED: list[tuple[list[HostedToolPart], dict[str, object]]] = [
    (
        [
            HostedToolPart(name="server_tool_use", tool="web_search", call_id="s", input={"query": "tea"}),
            HostedToolPart(
                name="web_search_tool_result", tool="web_search", call_id="s", output=[{"url": "https://t.example"}]
            ),
        ],
        {
            "type": "web_search_call",
            "action": {
                "type": "search",
                "query": "tea",
                "queries": ["tea"],
                "sources": [{"type": "url", "url": "https://t.example"}],
            },
        },
    ),
    (
        [
            HostedToolPart(name="executableCode", tool="code_execution", input={"language": "PYTHON", "code": "1"}),
            HostedToolPart(
                name="codeExecutionResult", tool="code_execution", output={"outcome": "OK", "output": "1\n"}
            ),
        ],
        {
            "type": "code_interpreter_call",
            "code": "1",
            "container_id": "",
            "outputs": [{"type": "logs", "logs": "1\n"}],
        },
    ),
    (
        [HostedToolPart(name="web_fetch", tool="url_context", call_id="f", input={"url": "https://t.example"})],
        {"type": "web_search_call", "action": {"type": "open_page", "url": "https://t.example"}},
    ),
    (
        [
            HostedToolPart(
                name="mcp_tool_use",
                tool="mcp",
                call_id="x",
                input={"a": 1},
                provider_state={"server_name": "s", "name": "add"},
            ),
            HostedToolPart(name="mcp_tool_result", tool="mcp", call_id="x", output=[{"type": "text", "text": "3"}]),
        ],
        {
            "type": "mcp_call",
            "server_label": "s",
            "name": "add",
            "arguments": '{"a":1}',
            "output": "3",
            "error": None,
        },
    ),
]


@pytest.mark.parametrize(("parts", "expected"), HOSTED)
def test_a_hosted_call_and_its_result_are_one_item(parts: list[HostedToolPart], expected: dict[str, object]) -> None:
    (item,) = output_items(HEAD.id, parts)
    assert {name: value for name, value in item.items() if name not in ("id", "status")} == expected
    events: list[StreamEvent] = []
    for part_id, part in enumerate(parts):
        events += [PartStart(part_id, "hosted_tool", 0, part.call_id, part.name), PartEnd(part_id, part)]
    assert response_in(events_of(fed(*events).end(done(*parts)))[-1])["output"] == [item]


@pytest.mark.parametrize(
    "reported",
    [
        {"type": "reasoning", "action": "removed", "id": "rs_1", "reason": "model_mismatch"},
        {"type": "thinking_dropped", "path": "rs_1", "reason": "model_mismatch"},
    ],
)
async def test_reports_of_the_provider_on_the_request_are_passed_on(reported: dict[str, JsonValue]) -> None:
    part = HostedToolPart(name="input_transformations", output=[reported], report=True)
    frames = fed(*says(0, "So"), PartStart(1, "hosted_tool", name=part.name), PartEnd(1, part))
    ended = done(TextPart(text="So", origin=ORIGIN), part)
    last = response_in(events_of(frames.end(ended))[-1])
    assert ended.node is not None
    assert last == response_object(HEAD, ended.node.response)
    again = await heard_from(reader(orjson.dumps(last), "application/json"))
    assert again.response is not None
    (entry,) = again.response.conversion.entries
    assert (entry.code, entry.reason) == ("server_dropped_reasoning", "other_model")


def test_citations_and_pictures_become_annotations_and_items() -> None:
    cited = [
        Citation(url="https://t.example", title="Tea"),
        Citation(file_id="file-1", start=1, end=2),
        Citation(title="x"),
    ]
    picture = FilePart(media_type="image/png", data=b"\x89PNG\r\n\x1a\n1", origin=ORIGIN)
    text, image = output_items(HEAD.id, [TextPart(text="Tea.", citations=cited), picture])
    content = cast("list[dict[str, Any]]", text["content"])
    assert content[0]["annotations"] == [
        {"type": "url_citation", "url": "https://t.example", "title": "Tea", "start_index": 0, "end_index": 4},
        {"type": "file_citation", "file_id": "file-1", "filename": "", "index": 2},
    ]
    assert (image["type"], image["result"], image["output_format"]) == (
        "image_generation_call",
        picture.get_base64(),
        "png",
    )


@pytest.mark.parametrize(
    ("finish", "status", "reason"),
    [
        (FinishReason.LENGTH, "incomplete", "max_output_tokens"),
        (FinishReason.CONTENT_FILTER, "incomplete", "content_filter"),
        (FinishReason.REFUSAL, "incomplete", "content_filter"),
        (FinishReason.TOOL_CALLS, "completed", None),
        (FinishReason.ERROR, "failed", None),
    ],
)
def test_the_status_follows_the_finish_reason(finish: FinishReason, status: str, reason: str | None) -> None:
    last = events_of(fed(*says(0, "So")).end(done(TextPart(text="So"), finish=finish)))[-1]
    told = response_in(last)
    assert (last["type"], told["status"]) == (f"response.{status}", status)
    assert told["incomplete_details"] == (None if reason is None else {"reason": reason})
    assert (told["error"] is None) is (status != "failed")


def test_a_last_text_that_says_nothing_is_no_message_of_the_whole_output() -> None:
    """Clients take the last message for the answer; Gemini puts its signature into an empty text behind it."""
    parts = [TextPart(text="One"), TextPart(text="", provider_state={"thoughtSignature": "c2ln"})]
    assert [item["id"] for item in output_items(HEAD.id, parts)] == [f"msg_{'a' * 44}_0"]
    assert len(output_items(HEAD.id, parts[1:])) == 1


def test_a_part_of_the_second_try_is_not_taken_for_one_of_a_further_choice_of_the_first() -> None:
    def text(part_id: int, words: str, choice: int = 0) -> list[StreamEvent]:
        start = PartStart(part_id, "text", choice=choice)
        return [start, TextDelta(part_id, words), PartEnd(part_id, TextPart(text=words))]

    frames = ResponseFrames(HEAD)
    frames.begin()
    told: list[Any] = list(events_of(frames.feed([*text(0, "One"), *text(1, "Eins", 1), StreamReset("again")])))
    told += events_of(frames.feed([*text(0, "Two"), *text(1, "Three")]))
    done = [event["item"] for event in told if event["type"] == "response.output_item.done"]
    assert [item["content"][0]["text"] for item in done] == ["One", "Two", "Three"]
