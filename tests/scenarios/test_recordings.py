"""Every recorded answer through the public client, over a real connection, against another reader's judgement of it.

What is expected is worked out here from the recording's own words, by tables and arithmetic that do not look at the
drivers': the raw finish reasons and the token counts of five APIs, brought to one meaning.
"""

import hashlib
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import cast

import orjson
import pytest
import pytest_asyncio
from aiohttp import web

from dhenara_async import AIModelCallResponse, AIModelClient, errors
from dhenara_async.events import (
    StreamEvent,
    TextDelta,
)
from dhenara_async.messages.messages import Part, ToolCallPart
from dhenara_async.response import ChatResponse, Choice, Usage
from dhenara_async.testing import check_grammar
from dhenara_async.transport.aiohttp_transport import AiohttpTransport
from tests import recordings
from tests.cases import cases
from tests.recordings import EXCEPTIONS, JsonObject, Recording
from tests.replays import check_fold

if not recordings.FOUND:
    pytest.skip(recordings.MISSING, allow_module_level=True)

pytestmark = pytest.mark.asyncio(loop_scope="module")

_IDS = recordings.ids()
_PIECE_BYTES = 997  # prime, so that reads end in all sorts of places


# ---------------------------------------------------------------------------------------------------- playing back


@dataclass(frozen=True, slots=True)
class Playback:
    """A server that gives every recording at a path of its own, and connections to it."""

    url: str
    transport: AiohttpTransport

    def client(self, recording: Recording) -> AIModelClient:
        endpoint = recording.endpoint(f"{self.url}/{_IDS.index(recording.id)}")
        return AIModelClient(endpoint, transport=self.transport)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def playback() -> AsyncIterator[Playback]:
    runner = web.ServerRunner(web.Server(_serve))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0]
    transport = AiohttpTransport(trust_env=False)
    try:
        yield Playback(f"http://{host}:{port}", transport)
    finally:
        await transport.aclose()
        await runner.cleanup()


async def _serve(request: web.BaseRequest) -> web.StreamResponse:
    recording = recordings.load(_IDS[int(request.path.split("/")[1])])
    response = web.StreamResponse(status=recording.status, headers=recording.headers)
    await response.prepare(request)
    body = recording.body
    for place in range(0, len(body), _PIECE_BYTES):
        await response.write(body[place : place + _PIECE_BYTES])
    await response.write_eof()
    return response


# ---------------------------------------------------------------------------------------------------- the tests


@pytest.mark.parametrize("framing", ["sse", "json"])
@pytest.mark.parametrize("api", recordings.DIALECTS)
async def test_a_replayed_recording_gives_its_expected_answer(playback: Playback, api: str, framing: str) -> None:
    with cases() as case:
        for recording_id in recordings.ids(framing=framing):
            if recording_id.startswith(f"{api}/"):
                with case(recording_id):
                    await _check(playback, recordings.load(recording_id))


async def _check(playback: Playback, recording: Recording) -> None:
    exception = EXCEPTIONS.get(recording.id)
    if exception is not None:
        await _check_exception(playback.client(recording), recording, exception.error)
    elif recording.expect["kind"] == "message":
        found = list(_differences(recording, await _answer(playback.client(recording), recording)))
        assert not found, "\n".join(found)
    elif recording.expect["kind"] == "error":
        await _check_refusal(playback.client(recording), recording)
    else:
        await _check_failure_inside(playback.client(recording), recording)


async def test_every_recording_is_replayed() -> None:
    found = [name for framing in ("sse", "json") for name in recordings.ids(framing=framing)]
    assert len(found) == len(_IDS) > 1_500
    assert {name.partition("/")[0] for name in found} == recordings.DIALECTS.keys()


async def test_exceptions_are_few_and_name_existing_recordings() -> None:
    assert EXCEPTIONS.keys() <= set(_IDS)
    assert len(EXCEPTIONS) < len(_IDS) / 100


async def _answer(client: AIModelClient, recording: Recording) -> AIModelCallResponse:
    if not recording.stream:
        return await client.generate("Go on.")
    events: list[StreamEvent] = []
    async with client.stream("Go on.") as stream:
        async for event in stream:
            events.append(event)
    check_grammar(events)
    check_fold(events, stream.response.chat_response)
    return stream.response


async def _failing(
    client: AIModelClient, error: type[errors.DhenaraError]
) -> tuple[list[StreamEvent], errors.DhenaraError, ChatResponse]:
    """Run a stream that must fail: the events that came before, the failure, and what ``partial`` makes of them."""
    events: list[StreamEvent] = []
    async with client.stream("Go on.") as stream:
        with pytest.raises(error) as caught:
            async for event in stream:
                events.append(event)
    check_grammar(events, complete=False)
    assert not stream.complete
    return events, caught.value, stream.partial.chat_response


async def _check_exception(client: AIModelClient, recording: Recording, error: type[errors.DhenaraError]) -> None:
    """A recording that we differ from on purpose: the failure is the one we mean, and nothing that came is lost."""
    if recording.stream:
        _, failure, partial = await _failing(client, error)
        assert partial.text() == recording.expect["text"]
    else:
        with pytest.raises(error) as caught:
            await client.generate("Go on.")
        failure = caught.value
    assert type(failure) is error


async def _check_refusal(client: AIModelClient, recording: Recording) -> None:
    with pytest.raises(errors.APIError) as caught:
        await _answer(client, recording)
    raised = caught.value
    body = _object(recording.expect["error"])
    error = _object(body["error"])
    assert raised.status == recording.status == recording.expect["status"]
    assert raised.code in _codes(error)
    assert str(error["message"]) in str(raised)
    assert type(raised) is _ERROR_CLASSES.get(str(raised.code), _ERROR_CLASSES[str(raised.status)])
    assert raised.request_id == (recording.headers.get("x-request-id") or body.get("request_id") or raised.request_id)
    assert orjson.loads(raised.body) in (body, [body])


async def _check_failure_inside(client: AIModelClient, recording: Recording) -> None:
    """A stream that began well and then carried an error."""
    events, failure, partial = await _failing(client, errors.APIError)
    expect = recording.expect
    body = _object(expect["error"])
    error = _object(_object(body.get("body", body))["error"])
    assert isinstance(failure, errors.APIError)
    assert failure.status == (error.get("status_code") or error["code"])
    assert failure.code in _codes(error)
    assert str(error["message"]) in str(failure)
    assert (partial.text(), partial.reasoning()) == (expect["text"], expect["reasoning"])
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == expect["text"]


_ERROR_CLASSES: dict[str, type[errors.APIError]] = {
    "400": errors.InvalidRequestError,
    "401": errors.AuthenticationError,
    "403": errors.PermissionDeniedError,
    "404": errors.NotFoundError,
    "422": errors.InvalidRequestError,
    "429": errors.RateLimitError,
    "model_not_found": errors.NotFoundError,  # some hosts say so with 400
}


def _codes(error: JsonObject) -> list[str]:
    """The one word of an error body that names its kind: the most exact that is there."""
    words = (error.get("code"), error.get("type"), error.get("status"))
    return [word for word in words if isinstance(word, str)][:1] or [str(error.get("code"))]


# ---------------------------------------------------------------------------------------------------- comparing


def _differences(recording: Recording, answer: AIModelCallResponse) -> Iterator[str]:
    """Whatever the answer has otherwise than the recording, a line each."""
    expect, response = recording.expect, answer.chat_response
    yield from _choice_differences(recording, expect, response.choices[0], "")
    for number, other in enumerate(_list(expect.get("choices"))):
        yield from _choice_differences(recording, _object(other), response.choices[number], f"choice {number}: ")
    yield from _differs("usage", response.usage, _usage(recording))
    if expect.get("model"):
        yield from _differs("model", response.model, expect["model"])
    yield from _differs("response_id", response.response_id, expect.get("response_id") or _late_id(recording))
    yield from _differs("warnings", answer.warnings, ())
    if "signatures" in expect:
        found = [_digest(word) for part in response.choices[0].parts for word in _signatures(recording.api, part)]
        yield from _differs("signatures", found, _expected_signatures(recording))


def _choice_differences(recording: Recording, expect: JsonObject, choice: Choice, which: str) -> Iterator[str]:
    yield from _differs(f"{which}text", choice.text(), expect["text"])
    reasoning = _reasoning(expect) or _detailed_reasoning(recording)
    yield from _differs(f"{which}reasoning", choice.reasoning(), reasoning)
    yield from _differs(f"{which}refusal", choice.refusal(), expect.get("refusal") or "")
    raw = expect["finish_reason"]
    word = recording.expect.get("block_reason") if raw in (None, "") else raw
    yield from _differs(f"{which}raw finish reason", choice.raw_finish_reason, None if word is None else str(word))
    yield from _differs(f"{which}finish reason", choice.finish_reason.value, _finish(recording, expect))
    yield from _differs(f"{which}stop sequence", choice.stop_sequence, expect.get("stop_sequence"))
    calls = [_object(call) for call in _list(expect["tool_calls"])] or _legacy_calls(recording)
    yield from _differs(f"{which}tool calls", len(choice.tools()), len(calls))
    for ours, theirs in zip(choice.tools(), calls, strict=False):
        yield from _differs(f"{which}call name", ours.name, theirs["name"])
        yield from _differs(f"{which}call id", ours.call_id, theirs.get("id") or "")
        yield from _differs(f"{which}call arguments", _parsed(ours), theirs["arguments"])
        yield from _differs(f"{which}call's raw arguments", ours.arguments, theirs.get("arguments_raw", ours.arguments))


def _reasoning(expect: JsonObject) -> object:
    """As the recording has it, but with a blank line between the sections of one thought, which it joins with nothing.

    Only Responses has sections; the recordings list them without saying whose they are, which is clear where one
    thinks.
    """
    sections = [str(text) for name in ("summaries", "texts") for text in _list(expect.get(f"reasoning_{name}"))]
    if len(sections) < 2 or _list(expect["blocks"]).count("reasoning") != 1:
        return expect["reasoning"]
    assert "".join(sections) == expect["reasoning"]
    return "\n\n".join(sections)


# The recordings' reader, the vendor's SDK, takes the id from the first chunk only, reads no reasoning of other makers,
# and keeps a ``function_call`` apart from tool calls. Where we read more, the recorded body itself is looked at here.


def _chat_deltas(recording: Recording) -> list[JsonObject]:
    """The deltas of a stream, or the message of a plain body; none for other APIs or several choices."""
    found: list[JsonObject] = []
    for chunk in _chunks(recording):
        for choice in map(_object, _list(chunk.get("choices"))):
            if choice.get("index"):
                return []
            found.append(_object(choice.get("delta") or choice.get("message")))
    return found


def _chunks(recording: Recording) -> list[JsonObject]:
    if recording.api != "openai_chat":
        return []
    lines = [recording.body] if recording.framing == "json" else recording.body.splitlines()
    texts = (line.removeprefix(b"data:").strip() for line in lines)
    return [_object(orjson.loads(text)) for text in texts if text.startswith(b"{")]


def _late_id(recording: Recording) -> str | None:
    return next((str(chunk["id"]) for chunk in _chunks(recording) if chunk.get("id")), None)


def _detailed_reasoning(recording: Recording) -> str:
    details = (detail for delta in _chat_deltas(recording) for detail in _list(delta.get("reasoning_details")))
    return "".join(str(_object(detail).get("text") or "") for detail in details)


def _legacy_calls(recording: Recording) -> list[JsonObject]:
    pieces = [_object(delta["function_call"]) for delta in _chat_deltas(recording) if delta.get("function_call")]
    name, arguments = ("".join(str(piece.get(key) or "") for piece in pieces) for key in ("name", "arguments"))
    if not name:
        return []
    return [{"id": "", "name": name, "arguments": orjson.loads(arguments), "arguments_raw": arguments}]


def _differs(what: str, ours: object, theirs: object) -> Iterator[str]:
    if ours != theirs:
        yield f"  {what}: {ours!r:.600}, but the recording says {theirs!r:.600}"


def _parsed(call: ToolCallPart) -> object:
    try:
        return call.parsed()
    except ValueError:
        return None


# Which canonical reason a raw word means; a word that is not here is ``other``.
_CHAT_FINISHES = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}
_FINISHES = {
    "anthropic_messages": {
        "end_turn": "stop",
        "stop_sequence": "stop",
        "max_tokens": "length",
        "tool_use": "tool_calls",
        "pause_turn": "pause",
        "refusal": "refusal",
    },
    "gemini_generate": {
        "STOP": "stop",
        "1": "stop",  # the enum's numbers, as hosts that re-encode the protocol send them
        "MAX_TOKENS": "length",
        "2": "length",
        "SAFETY": "content_filter",
        "RECITATION": "content_filter",
        "UNEXPECTED_TOOL_CALL": "error",
    },
    "mistral_chat": _CHAT_FINISHES,
    "openai_chat": _CHAT_FINISHES,
    "openai_responses": {
        "completed": "stop",
        "incomplete:max_output_tokens": "length",
        "incomplete:content_filter": "content_filter",
    },
}


def _finish(recording: Recording, expect: JsonObject) -> str:
    """The canonical reason, from the raw word and from what the answer holds beside it."""
    raw = expect["finish_reason"]
    if recording.expect.get("block_reason"):
        return "content_filter"
    if raw in (None, "") and recording.api != "gemini_generate":
        return "tool_calls" if expect["tool_calls"] else "stop"
    reason = _FINISHES[recording.api].get(str(raw), "other")
    if reason == "stop" and expect["tool_calls"]:
        return "tool_calls"
    if reason == "stop" and expect.get("refusal"):
        return "refusal"
    return reason


def _usage(recording: Recording) -> Usage:
    """The token counts in one meaning: input with all that went through the cache, output with the reasoning."""
    told = recording.expect["usage"]
    if told is None:
        return Usage()
    raw = _object(told)
    more: dict[str, int | None] = {}  # what only some APIs count
    match recording.api:
        case "anthropic_messages":
            read, written = _count(raw, "cache_read_input_tokens"), _count(raw, "cache_creation_input_tokens")
            into = _sum(_count(raw, "input_tokens"), read, written)
            output = _count(raw, "output_tokens")
            reasoning = _count(raw, "output_tokens_details", "thinking_tokens")
            total = _sum(into, output)
            more = {
                "cache_write_5m_tokens": _count(raw, "cache_creation", "ephemeral_5m_input_tokens"),
                "cache_write_1h_tokens": _count(raw, "cache_creation", "ephemeral_1h_input_tokens"),
                "web_searches": _count(raw, "server_tool_use", "web_search_requests"),
            }
        case "gemini_generate":
            read, written = _count(raw, "cachedContentTokenCount"), None
            into = _sum(_count(raw, "promptTokenCount"), _count(raw, "toolUsePromptTokenCount"))
            reasoning = _count(raw, "thoughtsTokenCount")
            output = _sum(_count(raw, "candidatesTokenCount"), reasoning)
            total = _count(raw, "totalTokenCount")
        case "openai_responses":
            read = _count(raw, "input_tokens_details", "cached_tokens")
            written = _count(raw, "input_tokens_details", "cache_write_tokens")
            into, output = _count(raw, "input_tokens"), _count(raw, "output_tokens")
            reasoning = _count(raw, "output_tokens_details", "reasoning_tokens")
            total = _count(raw, "total_tokens")
            told_searches = re.findall(rb'"web_search":\s*\{\s*"num_requests":\s*(\d+)', recording.body)
            more = {"web_searches": int(told_searches[-1]) if told_searches else None}
        case _:
            read = _count(raw, "prompt_tokens_details", "cached_tokens")
            for name in ("prompt_cache_hit_tokens", "num_cached_tokens", "cached_tokens"):
                read = _count(raw, name) if read is None else read
            written = _count(raw, "prompt_tokens_details", "cache_write_tokens")
            written = _count(raw, "cache_creation_input_tokens") if written is None else written
            into, output = _count(raw, "prompt_tokens"), _count(raw, "completion_tokens")
            reasoning = _count(raw, "completion_tokens_details", "reasoning_tokens")
            if recording.provider == "xai" or (output or 0) < (reasoning or 0):
                output = _sum(output, reasoning)
            total = _count(raw, "total_tokens")
            searches = _count(raw, "server_tool_use", "web_search_requests")
            more = {
                "input_audio_tokens": _count(raw, "prompt_tokens_details", "audio_tokens"),
                "output_audio_tokens": _count(raw, "completion_tokens_details", "audio_tokens"),
                "web_searches": _count(raw, "num_search_queries") if searches is None else searches,
            }
    if into is output is total is None:
        return Usage()
    usage = Usage(
        input_tokens=into,
        cache_read_tokens=read,
        cache_write_tokens=written,
        output_tokens=output,
        reasoning_tokens=reasoning,
        total_tokens=total,
        source="reported",
        **more,
    )
    return usage.model_copy(update=_gemini_counts(recording, raw)) if recording.api == "gemini_generate" else usage


def _gemini_counts(recording: Recording, raw: JsonObject) -> dict[str, int | None]:
    """Audio from the breakdowns by modality; searches are only told by their queries, outside the usage."""
    details = [
        [_object(entry) for name in names for entry in _list(raw.get(name))]
        for names in (("promptTokensDetails", "toolUsePromptTokensDetails"), ("candidatesTokensDetails",))
    ]
    heard, spoken = (
        _sum(*(_count(entry, "tokenCount") for entry in entries if entry["modality"] == "AUDIO")) for entries in details
    )
    told = re.findall(rb'"webSearchQueries":\s*(\[.*?\])', recording.body, re.DOTALL)
    searches = len(orjson.loads(told[-1])) if told else None
    return {"input_audio_tokens": heard, "output_audio_tokens": spoken, "web_searches": searches}


def _count(raw: JsonObject, *path: str) -> int | None:
    value: object = raw
    for name in path:
        value = _object(value).get(name)
    return int(value) if isinstance(value, int | float) else None


def _sum(*counts: int | None) -> int | None:
    told = [count for count in counts if count is not None]
    return sum(told) if told else None


def _signatures(api: str, part: Part) -> Iterator[str]:
    """The opaque words of a part that its provider wants back."""
    kept = cast(JsonObject, part.provider_state or {})
    match api:
        case "anthropic_messages":
            words = (kept.get("signature"), kept.get("data"))
        case "gemini_generate":
            words = (kept.get("thoughtSignature"),)
        case "openai_responses":
            words = (kept.get("encrypted_content"),)
        case _:
            details = map(_object, _list(kept.get("reasoning_details")))
            google = _object(_object(kept.get("extra_content")).get("google"))
            words = (
                *(word for detail in details for word in (detail.get("signature"), detail.get("data"))),
                google.get("thought_signature"),
            )
    yield from (word for word in words if isinstance(word, str) and word)


def _expected_signatures(recording: Recording) -> list[object]:
    """As the recording lists them, with one exception.

    Responses encrypts the same reasoning anew for every event that shows it. The recordings list what the terminal
    event holds; we keep what came first with a finished item, so that a part can end when it is over. Of these
    the recording only knows how many there are and how long.
    """
    listed = _list(recording.expect["signatures"])
    if recording.api != "openai_responses" or recording.framing != "sse":
        return listed
    lines = (line for line in recording.body.split(b"\n") if line.startswith(b"data: {"))
    events = (orjson.loads(line.removeprefix(b"data: ")) for line in lines)
    done = [event for event in events if event["type"] == "response.output_item.done"]
    words = [word for event in done if (word := event["item"].get("encrypted_content"))]
    assert [len(word) for word in words] == [_object(digest)["chars"] for digest in listed]
    return [_digest(word) for word in words]


def _digest(word: str) -> object:
    """As the recordings write it: long ones as a digest."""
    if len(word) <= 200:
        return word
    return {"sha256": hashlib.sha256(word.encode()).hexdigest(), "chars": len(word)}


def _object(value: object) -> JsonObject:
    return cast(JsonObject, value) if isinstance(value, dict) else {}


def _list(value: object) -> list[object]:
    return cast(list[object], value) if isinstance(value, list) else []
