"""The kit for authors of drivers: every driver of the house passes it, and every broken one is told what it breaks."""

import ast
import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, get_args

import orjson
import pytest

from dhenara_async import (
    AIModel,
    AIModelAPI,
    AIModelAPIProviderEnum,
    AIModelCallConfig,
    AIModelEndpoint,
    Dialect,
    FinishReason,
    Host,
    Origin,
    Usage,
    register_driver,
    register_host,
)
from dhenara_async.drivers import (
    CallIds,
    ChatRequest,
    Decoder,
    Frame,
    JsonObject,
    NamedFrame,
    Rules,
    WireRequest,
    api_error,
    as_list,
    as_object,
    as_text,
    load,
    name_of,
)
from dhenara_async.drivers.openai_chat.driver import OpenAIChatDriver
from dhenara_async.errors import (
    APIError,
    ConfigurationError,
    ProtocolError,
    RateLimitError,
    ServerError,
    TruncatedStreamError,
)
from dhenara_async.events import ChoiceFinish, Heartbeat, StreamEnd, StreamEvent, StreamStart, UsageUpdate
from dhenara_async.hosts.registry import dialect_of
from dhenara_async.messages.messages import ReasoningPart, ToolCallPart
from dhenara_async.testing import PROMISES, Answer, Promise, Recorded, ScriptedToolCall, check_driver, conformance
from dhenara_async.testing.conformance.encoding import CLIENTS_KNOBS, KNOBS
from dhenara_async.testing.dialects import WIRE_DIALECTS
from dhenara_async.testing.dialects.base import Arrived, ParsedConversation, Reply
from dhenara_async.testing.script import count_usage
from tests import recordings
from tests.acme import ACME_1, ANSWER, CALLING, AcmeDecoder, AcmeDriver
from tests.recordings import Recording

# ---------------------------------------------------------------------------------------------- the dialects we speak

_Provider = AIModelAPIProviderEnum
_LARGEST_BYTES = 20_000
_A_HANDFUL = 12
_SHAPES = frozenset(
    {
        *(
            "text",
            "tool_calls",
            "parallel_tools",
            "reasoning",
            "signature",
            "redacted_thinking",
            "refusal",
            "citations",
        ),
        *("web_search", "code_execution", "multi_choice", "image_output", "logprobs", "no_usage", "mid_stream_error"),
        *("unterminated_last_event", "max_tokens_stop", "error"),
    }
)


def _endpoint(provider: AIModelAPIProviderEnum, model: str, dialect: Dialect | None = None) -> AIModelEndpoint:
    return AIModelEndpoint(api=AIModelAPI(provider=provider, dialect=dialect), ai_model=AIModel(model_name=model))


# Each with the recordings that its host's answers are: of the API, by these providers.
SPEAKERS: Mapping[str, tuple[AIModelEndpoint, str, str]] = {
    "anthropic": (_endpoint(_Provider.ANTHROPIC, "claude-sonnet-5-5"), "anthropic_messages", "anthropic"),
    "responses": (_endpoint(_Provider.OPEN_AI, "gpt-6.2-sol"), "openai_responses", "openai"),
    "gemini": (_endpoint(_Provider.GOOGLE_AI, "gemini-3.8-flash"), "gemini_generate", "google"),
    "chat": (_endpoint(_Provider.OPEN_AI, "gpt-4o-mini", Dialect.OPENAI_CHAT), "openai_chat", "openai"),
    "openrouter": (_endpoint(_Provider.OPENROUTER, "anthropic/claude-sonnet-4"), "openai_chat", "openrouter"),
    "groq": (_endpoint(_Provider.GROQ, "openai/gpt-oss-120b"), "openai_chat", "groq"),
    "mistral": (_endpoint(_Provider.MISTRAL, "magistral-medium-latest"), "mistral_chat", "mistral"),
}
_ADD = ScriptedToolCall(call_id="call_0001", name="add", arguments='{"a": 1}')
SCRIPTED = {
    "text": Answer(text="One, two \N{ROBOT FACE}\nthree."),
    "reasoning": Answer(reasoning="Let me think.", text="Four.", signature=""),
    "calls": Answer(text="Let me look.", tool_calls=(_ADD,)),
    "length": Answer(text="It is cut", finish_reason=FinishReason.LENGTH),
}


def _recorded(api: str, provider: str) -> Iterator[Recorded]:
    """A handful of recordings, each of another shape."""
    seen: set[object] = set()
    for row in recordings.index():
        if (row["api"], row["provider"]) != (api, provider) or row["id"] in recordings.EXCEPTIONS:
            continue
        shape = (row["framing"], row["kind"], *sorted(_SHAPES.intersection(map(as_text, as_list(row["features"])))))
        if shape not in seen and int(str(row["bytes"])) <= _LARGEST_BYTES:
            seen.add(shape)
            yield _as_recorded(recordings.load(str(row["id"])))


def _as_recorded(recording: Recording) -> Recorded:
    expect, ends = recording.expect, recording.expect["kind"] != "message"
    calls = [as_object(call) for call in as_list(expect.get("tool_calls"))]
    legacy = recording.expect.get("finish_reason") == "function_call" or b'"function_call"' in recording.body
    return Recorded(
        recording.body,
        recording.framing == "sse",
        recording.status,
        headers=recording.headers,
        name=recording.id,
        error=APIError if ends else None,
        text=None if ends else as_text(expect.get("text")),
        calls=None  # the recordings' reader keeps a ``function_call`` apart from tool calls
        if ends or legacy
        else [(as_text(call["name"]), orjson.dumps(call["arguments"]).decode()) for call in calls],
    )


def _both_ways(endpoint: AIModelEndpoint, name: str) -> Recorded:
    """One answer as the stand-in spells it, streamed and plain."""
    answer, dialect = SCRIPTED[name], Dialect(dialect_of(endpoint))
    asked: JsonObject = {
        "stream_options": {"include_usage": True},
        "include": ["reasoning.encrypted_content"],
        "reasoning": {"summary": "auto"},
        "thinking": {"type": "enabled"},
        "generationConfig": {"thinkingConfig": {"includeThoughts": True}},
    }
    reply = Reply(
        answer,
        count_usage(answer, system="", turns=(("user", "Go on."),)),
        ParsedConversation(endpoint.ai_model.model_name, True, "", (("user", "Go on."),)),
        Arrived(endpoint.api.provider, "", {"alt": "sse"}, {}, asked),
        1,
    )
    wire = WIRE_DIALECTS[dialect]
    return Recorded(
        b"".join(piece.data for piece in wire.stream(reply).pieces),
        stream=True,
        plain=orjson.dumps(wire.plain(reply)),
        name=name,
        text=answer.text,
        calls=[(call.name, call.arguments) for call in answer.tool_calls],
        finish_reason=answer.ending,
    )


@pytest.mark.parametrize("who", SPEAKERS)
def test_our_own_drivers_conform_to_answers_in_both_ways(who: str) -> None:
    endpoint = SPEAKERS[who][0]
    check_driver(endpoint, [_both_ways(endpoint, name) for name in SCRIPTED])


@pytest.mark.skipif(not recordings.FOUND, reason=recordings.MISSING)
@pytest.mark.parametrize("who", SPEAKERS)
def test_our_own_drivers_conform_to_recorded_answers(who: str) -> None:
    endpoint, api, provider = SPEAKERS[who]
    answers = list(itertools.islice(_recorded(api, provider), _A_HANDFUL))
    assert len(answers) > 4
    assert {answer.stream for answer in answers} == {True, False}
    check_driver(endpoint, answers)


# ---------------------------------------------------------------------------------------------- a dialect from outside


def _streamed(said: Sequence[JsonObject]) -> bytes:
    return b"".join(b"event: %s\ndata: %s\n\n" % (str(one["kind"]).encode(), orjson.dumps(one)) for one in said)


def _plain(said: Sequence[JsonObject]) -> bytes:
    return orjson.dumps({"said": said})


TALK = Recorded(
    _streamed(ANSWER),
    stream=True,
    plain=_plain(ANSWER),
    text="Good day \N{ROBOT FACE}",
    reasoning="Hm. Yes.",
    finish_reason=FinishReason.STOP,
    usage=Usage(input_tokens=7, output_tokens=5, source="reported"),
    echoes=("sealed",),
)
CALLS = Recorded(
    _streamed(CALLING),
    stream=True,
    plain=_plain(CALLING),
    calls=[("add", '{"a": 1}')],
    finish_reason=FinishReason.TOOL_CALLS,
)
REFUSED = Recorded(b'{"oops": "too much talk"}', status=429, error=RateLimitError, text="too much talk")
ANSWERS = (TALK, CALLS, REFUSED)


def test_the_dialect_from_outside_conforms() -> None:
    check_driver(ACME_1, ANSWERS)


# ---------------------------------------------------------------------------------------------- broken drivers


def _changed(wire: WireRequest, change: Callable[[JsonObject], None]) -> WireRequest:
    """``wire`` with another body."""
    body = load(wire.body)
    change(body)
    return WireRequest(wire.path, wire.headers, orjson.dumps(body), wire.warnings, wire.lists)


def _pieces(body: JsonObject) -> Iterator[JsonObject]:
    """Everything that is said in a request to Acme."""
    for turn in map(as_object, as_list(body["turns"])):
        yield from map(as_object, as_list(turn["pieces"]))


class _Rewriting(AcmeDriver):
    """Writes what Acme writes, and then changes it."""

    def encode(self, request: ChatRequest, endpoint: AIModelEndpoint) -> WireRequest:
        return _changed(super().encode(request, endpoint), lambda body: self.rewrite(body, request))

    def rewrite(self, body: JsonObject, request: ChatRequest) -> None:
        raise NotImplementedError


class FailsAtBrokenArguments(AcmeDriver):
    """Parses what a model wrote for JSON."""

    def encode(self, request: ChatRequest, endpoint: AIModelEndpoint) -> WireRequest:
        for message in request.messages:
            for part in message.parts:
                if isinstance(part, ToolCallPart):
                    orjson.loads(part.arguments)
        return super().encode(request, endpoint)


class NumbersItsRequests(_Rewriting):
    count = itertools.count()

    def rewrite(self, body: JsonObject, request: ChatRequest) -> None:
        body["number"] = next(self.count)


class EmptiesTheState(AcmeDriver):
    """Takes the seal out of the part, instead of a copy of it."""

    def encode(self, request: ChatRequest, endpoint: AIModelEndpoint) -> WireRequest:
        wire = super().encode(request, endpoint)
        for message in request.messages:
            for part in message.parts:
                if isinstance(part, ReasoningPart) and part.provider_state:
                    part.provider_state.pop("seal", None)
        return wire


class LacksASlash(AcmeDriver):
    def encode(self, request: ChatRequest, endpoint: AIModelEndpoint) -> WireRequest:
        wire = super().encode(request, endpoint)
        return WireRequest(wire.path.removeprefix("/"), wire.headers, wire.body, wire.warnings)


class SendsAList(AcmeDriver):
    def encode(self, request: ChatRequest, endpoint: AIModelEndpoint) -> WireRequest:
        wire = super().encode(request, endpoint)
        return WireRequest(wire.path, wire.headers, b"[%s]" % wire.body, wire.warnings)


class SignsItsBodies(AcmeDriver):
    def encode(self, request: ChatRequest, endpoint: AIModelEndpoint) -> WireRequest:
        wire = super().encode(request, endpoint)
        key = endpoint.api.api_key
        told = "" if key is None else key.get_secret_value()
        return WireRequest(wire.path, {**wire.headers, "x-token": told}, wire.body, wire.warnings)


class ForgetsInstructions(_Rewriting):
    def rewrite(self, body: JsonObject, request: ChatRequest) -> None:
        body["lead"] = []


class ForgetsResults(_Rewriting):
    def rewrite(self, body: JsonObject, request: ChatRequest) -> None:
        for piece in _pieces(body):
            if "result" in piece:
                piece["say"] = ""


class CallsErrorsResults(_Rewriting):
    def rewrite(self, body: JsonObject, request: ChatRequest) -> None:
        for piece in _pieces(body):
            piece.pop("failed", None)


class RemembersWhatItHasSeen(AcmeDriver):
    """Keeps every seal that it was ever asked about, and sends them all."""

    seen: ClassVar[set[str]] = set()

    def rules(self, endpoint: AIModelEndpoint) -> Rules:
        return Rules(
            reasoning_back="account", error_flag=True, files=super().rules(endpoint).files, replayable=self.see
        )

    def see(self, part: ReasoningPart) -> bool:
        self.seen.update(value for value in (part.provider_state or {}).values() if isinstance(value, str))
        return True

    def encode(self, request: ChatRequest, endpoint: AIModelEndpoint) -> WireRequest:
        wire = super().encode(request, endpoint)
        return WireRequest(wire.path, {**wire.headers, "x-seen": " ".join(sorted(self.seen))}, wire.body, wire.warnings)


class MarksTheLastTurn(_Rewriting):
    """Asks for the cache in the turn that is the last by now."""

    def rewrite(self, body: JsonObject, request: ChatRequest) -> None:
        as_object(as_list(body["turns"])[-1])["keep"] = True


class StreamsInAnotherTone(_Rewriting):
    def rewrite(self, body: JsonObject, request: ChatRequest) -> None:
        body["tone"] = "chatty" if request.stream else "formal"


class DoesNotSayThatItStreams(AcmeDriver):
    def encode(self, request: ChatRequest, endpoint: AIModelEndpoint) -> WireRequest:
        wire = super().encode(request, endpoint)
        return WireRequest("/talk", wire.headers, wire.body, wire.warnings)


class DropsKnobsInSilence(AcmeDriver):
    def encode(self, request: ChatRequest, endpoint: AIModelEndpoint) -> WireRequest:
        wire = super().encode(request, endpoint)
        return WireRequest(wire.path, wire.headers, wire.body)


class ChangesItsMind(AcmeDriver):
    minds = itertools.cycle((True, False))

    def rules(self, endpoint: AIModelEndpoint) -> Rules:
        files = super().rules(endpoint).files
        return Rules(reasoning_back="model", error_flag=True, files=files, citations=next(self.minds))


class TakesEveryFile(AcmeDriver):
    def rules(self, endpoint: AIModelEndpoint) -> Rules:
        return Rules(reasoning_back="model", error_flag=True)


class TakesNoFileButSendsIt(AcmeDriver):
    def rules(self, endpoint: AIModelEndpoint) -> Rules:
        return Rules(reasoning_back="model", error_flag=True, files=lambda part, place: False)


class ShortensIds(_Rewriting):
    def rewrite(self, body: JsonObject, request: ChatRequest) -> None:
        for piece in _pieces(body):
            for name in {"call", "result"} & piece.keys():
                piece[name] = as_text(piece[name])[:12]


class MakesIllegalIds(AcmeDriver):
    def rules(self, endpoint: AIModelEndpoint) -> Rules:
        ids = CallIds(re.compile("[a-z]{1,64}"), prefix="call_")
        return Rules(reasoning_back="model", error_flag=True, files=super().rules(endpoint).files, call_ids=ids)


class _Decoding(AcmeDriver):
    """Reads with another decoder."""

    made: ClassVar[Callable[[Origin, int], Decoder]]

    def decoder(self, request: ChatRequest, origin: Origin) -> Decoder:
        return type(self).made(origin, request.config.bounds.max_parts)


def _with(decoder: Callable[[Origin, int], Decoder]) -> type[AcmeDriver]:
    return type(f"Reads{getattr(decoder, '__name__', '')}", (_Decoding,), {"made": staticmethod(decoder)})


class StartsTwice(AcmeDecoder):
    def feed(self, frame: Frame) -> Sequence[StreamEvent]:
        events = list(super().feed(frame))
        starts = [event for event in events if isinstance(event, StreamStart)]
        return [*starts, *events]


class GivesAnIterator(AcmeDecoder):
    def feed(self, frame: Frame) -> Sequence[StreamEvent]:
        return iter(super().feed(frame))  # type: ignore[return-value] - that is what is wrong with it


class LosesTheRobot(AcmeDecoder):
    """Takes a character apart, as one that decodes bytes by itself would."""

    def feed(self, frame: Frame) -> Sequence[StreamEvent]:
        return super().feed(NamedFrame(frame.decode("ascii", "ignore").encode(), name_of(frame)))


class FromNowhere(AcmeDecoder):
    def __init__(self, origin: Origin, most: int) -> None:
        super().__init__(origin.model_copy(update={"model": "the newest"}), most)


class StopsAtWhatItRefuses(AcmeDecoder):
    """Says nothing more behind a frame that was no JSON, so that it cannot be handed the frame repaired."""

    refused = False

    def feed(self, frame: Frame) -> Sequence[StreamEvent]:
        try:
            return () if self.refused else super().feed(frame)
        except ProtocolError:
            self.refused = True
            raise


class HasNoBounds(AcmeDecoder):
    def __init__(self, origin: Origin, most: int) -> None:
        super().__init__(origin, 1_000_000)


class StopsAtCalls(AcmeDecoder):
    """Takes the word of a host that says ``stop`` behind calls."""

    def feed(self, frame: Frame) -> Sequence[StreamEvent]:
        return [
            StreamEnd(FinishReason.STOP, None, (ChoiceFinish(0, FinishReason.STOP, None, None),))
            if isinstance(event, StreamEnd)
            else event
            for event in super().feed(frame)
        ]


class CountsNothingAsZero(AcmeDecoder):
    @property
    def usage(self) -> Usage | None:
        return super().usage or Usage(input_tokens=0, output_tokens=0, source="reported")


class SharesItsPulse(AcmeDecoder):
    """Counts what it reads for all answers together."""

    beats = itertools.count()

    def feed(self, frame: Frame) -> Sequence[StreamEvent]:
        events = super().feed(frame)
        return [*events[:-1], Heartbeat(), events[-1]] if len(events) > 1 and next(self.beats) % 5 == 0 else events


class EndsAnyway(AcmeDecoder):
    """Takes the end of the body for the end of the answer."""

    def finish(self) -> Sequence[StreamEvent]:
        try:
            return super().finish()
        except ProtocolError:
            return [] if self._open is None and self._usage is None and not self._ever() else self._end({"why": "done"})

    def _ever(self) -> bool:
        return self._parts.started


class KnowsItAll(AcmeDecoder):
    def _said(self, kind: str, thing: JsonObject) -> list[StreamEvent]:
        if kind.startswith("x_"):
            raise ProtocolError(f"nobody says {kind}")
        return super()._said(kind, thing)


class IsStrictAboutFields(AcmeDecoder):
    def feed(self, frame: Frame) -> Sequence[StreamEvent]:
        if load(frame).keys() - {"kind", "id", "model", "text", "name", "why", "read", "written", "said"}:
            raise ProtocolError("what is that?")
        return super().feed(frame)


class DoesNotThinkInOnePiece(AcmeDecoder):
    def feed(self, frame: Frame) -> Sequence[StreamEvent]:
        if name_of(frame):
            return super().feed(frame)
        said = [thing for thing in as_list(load(frame).get("said")) if as_object(thing).get("kind") != "thought"]
        return super().feed(orjson.dumps({"said": said}))


class KeepsANumberThatIsNone(AcmeDecoder):
    """Keeps as opaque state what JSON has no word for."""

    def _said(self, kind: str, thing: JsonObject) -> list[StreamEvent]:
        if kind == "seal" and self._open is not None:
            self._open.state["score"] = math.nan
        return super()._said(kind, thing)


class BreaksTheSeal(_Rewriting):
    def rewrite(self, body: JsonObject, request: ChatRequest) -> None:
        for piece in _pieces(body):
            piece.pop("seal", None)


class SealsEveryThought(AcmeDriver):
    """Sends the last seal that it has read to whomever it asks."""

    read: ClassVar[list[str]] = []

    def decoder(self, request: ChatRequest, origin: Origin) -> Decoder:
        decoder = AcmeDecoder(origin, request.config.bounds.max_parts)
        self.read[:] = ["sealed"]
        return decoder

    def encode(self, request: ChatRequest, endpoint: AIModelEndpoint) -> WireRequest:
        return _changed(super().encode(request, endpoint), lambda body: body.update(seals=[*self.read]))


class WantsJsonErrors(AcmeDriver):
    def error(self, status: int, headers: Mapping[str, str], body: bytes, *, provider: str) -> APIError:
        message = as_text(orjson.loads(body)["oops"])
        return api_error(status, headers, body, provider=provider, message=message, code=None)


class BlamesTheServer(AcmeDriver):
    def error(self, status: int, headers: Mapping[str, str], body: bytes, *, provider: str) -> APIError:
        if status == 429:
            return super().error(status, headers, body, provider=provider)
        return ServerError(f"{provider} answered {status}", provider=provider, status=status, retry_after=3.0)


class FilesTheBody(AcmeDriver):
    def error(self, status: int, headers: Mapping[str, str], body: bytes, *, provider: str) -> APIError:
        text = body.decode(errors="replace")
        return api_error(status, headers, body, provider=provider, message="too much talk", code=None, request_id=text)


class RefusesInSilence(AcmeDriver):
    def error(self, status: int, headers: Mapping[str, str], body: bytes, *, provider: str) -> APIError:
        return api_error(status, headers, body, provider=provider, message="no", code=None)


class _CountsNothing:
    """Of Chat Completions: what is not told is taken for zero."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    @property
    def usage(self) -> Usage | None:
        return self._decoder.usage

    def feed(self, frame: Frame) -> Sequence[StreamEvent]:
        return self._ended(self._decoder.feed(frame))

    def finish(self) -> Sequence[StreamEvent]:
        return self._ended(self._decoder.finish())

    def _ended(self, events: Sequence[StreamEvent]) -> Sequence[StreamEvent]:
        if self._decoder.usage is None and events and events[-1].type == "stream_end":
            return [*events[:-1], UsageUpdate(Usage(input_tokens=0, source="reported")), events[-1]]
        return events


class ChatThatCountsNothing(OpenAIChatDriver):
    def __init__(self, host: Host) -> None:
        super().__init__(host.quirks)

    def decoder(self, request: ChatRequest, origin: Origin) -> Decoder:
        return _CountsNothing(super().decoder(request, origin))


BROKEN: Mapping[Callable[[Host], AcmeDriver | OpenAIChatDriver], set[Promise]] = {
    FailsAtBrokenArguments: {"encode.total"},
    NumbersItsRequests: {"encode.pure", "encode.stream"},
    EmptiesTheState: {"encode.pure"},
    LacksASlash: {"encode.json"},
    SendsAList: {"encode.json", "encode.stream"},
    SignsItsBodies: {"encode.secrets"},
    ForgetsInstructions: {"encode.whole"},
    ForgetsResults: {"encode.whole"},
    CallsErrorsResults: {"encode.whole"},
    RemembersWhatItHasSeen: {"encode.foreign"},
    MarksTheLastTurn: {"encode.append_only"},
    StreamsInAnotherTone: {"encode.stream"},
    DoesNotSayThatItStreams: {"encode.stream"},
    DropsKnobsInSilence: {"encode.knobs"},
    ChangesItsMind: {"rules.stable"},
    TakesEveryFile: {"rules.files"},
    TakesNoFileButSendsIt: {"rules.files"},
    ShortensIds: {"rules.call_ids"},
    MakesIllegalIds: {"rules.call_ids"},
    _with(StartsTwice): {"decode.grammar"},
    _with(GivesAnIterator): {"decode.grammar"},
    _with(LosesTheRobot): {"decode.expected"},
    _with(FromNowhere): {"decode.origin", "replay.state"},
    _with(CountsNothingAsZero): {"decode.usage"},
    _with(SharesItsPulse): {"decode.apart", "decode.splits"},
    _with(EndsAnyway): {"decode.truncation"},
    _with(KnowsItAll): {"decode.unknown"},
    _with(IsStrictAboutFields): {"decode.unknown", "decode.repaired"},
    _with(DoesNotThinkInOnePiece): {"decode.both_ways", "decode.expected"},
    _with(StopsAtWhatItRefuses): {"decode.repaired"},
    _with(HasNoBounds): {"decode.bounds"},
    _with(StopsAtCalls): {"decode.calls", "decode.expected"},
    _with(KeepsANumberThatIsNone): {"replay.json"},
    BreaksTheSeal: {"replay.state"},
    SealsEveryThought: {"replay.others"},
    WantsJsonErrors: {"error.total"},
    BlamesTheServer: {"error.kind"},
    FilesTheBody: {"error.secrets"},
    RefusesInSilence: {"decode.expected"},
    ChatThatCountsNothing: {"decode.usage"},
}
"""What each of them breaks."""


def _register(make: Callable[[Host], AcmeDriver | OpenAIChatDriver]) -> AIModelEndpoint:
    name = getattr(make, "__name__", "")
    register_driver(f"broken {name}", make)
    register_host(f"broken {name}", Host("https://broken.test", f"broken {name}"))
    return AIModelEndpoint(api=AIModelAPI(provider=f"broken {name}"), ai_model=AIModel(model_name="acme-1"))


def _told(endpoint: AIModelEndpoint, answers: Sequence[Recorded], *, except_for: Sequence[Promise] = ()) -> str:
    with pytest.raises(AssertionError) as caught:
        check_driver(endpoint, answers, except_for=except_for)
    return str(caught.value)


def _named(report: str) -> set[str]:
    return set(re.findall(r"^([a-z_]+\.[a-z_]+): ", report, re.MULTILINE))


@pytest.mark.parametrize("make", BROKEN, ids=lambda make: make.__name__)
def test_a_broken_driver_is_reported_with_every_promise_it_breaks(
    make: Callable[[Host], AcmeDriver | OpenAIChatDriver],
) -> None:
    chat = issubclass(make, OpenAIChatDriver) if isinstance(make, type) else False
    answers = [_both_ways(SPEAKERS["chat"][0], "text")] if chat else ANSWERS
    report = _told(_register(make), answers)
    assert _named(report) == BROKEN[make], report


def test_every_promise_is_broken_by_a_test() -> None:
    assert set[str]().union(*BROKEN.values()) == set(PROMISES)


# ---------------------------------------------------------------------------------------------- the kit itself


class BreaksTwo(DropsKnobsInSilence):
    def error(self, status: int, headers: Mapping[str, str], body: bytes, *, provider: str) -> APIError:
        raise KeyError("oops")


def test_all_broken_promises_are_in_one_report() -> None:
    endpoint = _register(BreaksTwo)
    report = _told(endpoint, ANSWERS)
    assert report.startswith("the driver of acme-1 at broken BreaksTwo (broken BreaksTwo) breaks 2 promises:\n")
    assert _named(report) == {"encode.knobs", "error.total"}
    assert f"\nencode.knobs: {PROMISES['encode.knobs']}\n    - temperature=0.25: " in report
    assert "\n    - status 400 with a JSON body: KeyError: 'oops'\n" in report
    assert re.search(r"\n    - … and \d+ more$", report)
    assert _named(_told(endpoint, ANSWERS, except_for=["error.total"])) == {"encode.knobs"}
    check_driver(endpoint, ANSWERS, except_for=["encode.knobs", "error.total"])


def test_an_exception_for_a_promise_that_nobody_makes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"there is no promise encode\.everything; testing\.PROMISES"):
        check_driver(ACME_1, ANSWERS, except_for=["encode.everything"])  # type: ignore[list-item] - that is the test


def test_without_an_answer_nothing_is_tried() -> None:
    with pytest.raises(ConfigurationError, match="check_driver needs at least one answer"):
        check_driver(ACME_1, [])


def test_an_unknown_host_is_told_as_for_a_call() -> None:
    endpoint = AIModelEndpoint(api=AIModelAPI(provider="nobody's"), ai_model=AIModel(model_name="m"))
    with pytest.raises(ConfigurationError, match='no host is called "nobody\'s"'):
        check_driver(endpoint, ANSWERS)


_BARE = Recorded(TALK.body, stream=True, plain=TALK.plain)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (replace(_BARE, text="Good night"), "text should be 'Good night' and is 'Good day"),
        (replace(_BARE, reasoning=""), "reasoning should be '' and is 'Hm. Yes.'"),
        (replace(_BARE, refusal="No."), "refusal should be 'No.' and is ''"),
        (replace(_BARE, calls=[("add", "{}")]), "the calls should be [('add', {})] and are []"),
        (replace(_BARE, finish_reason=FinishReason.LENGTH), "finish_reason should be <FinishReason.LENGTH"),
        (replace(_BARE, usage=Usage(input_tokens=8)), "should be {'input_tokens': 8} and is {'input_tokens': 7}"),
        (replace(_BARE, usage=Usage()), "'output_tokens': 5"),
        (replace(_BARE, echoes=("unsealed",)), "the next request lacks ['unsealed']"),
        (replace(_BARE, error=RateLimitError), "it should end in RateLimitError, and ends in no error"),
        (replace(_BARE, plain=_plain(CALLING)), 'finish_reason is "stop" streamed and "tool_calls" plain'),
        (Recorded(_streamed(ANSWER[:-1]), stream=True), "it ends in TruncatedStreamError"),
        (Recorded(REFUSED.body, status=429, error=ServerError), "it should be ServerError and is RateLimitError"),
        (Recorded(REFUSED.body, status=429, text="no talk"), "the error should say 'no talk'"),
    ],
)
def test_what_an_author_expects_is_compared(wrong: Recorded, said: str) -> None:
    assert said in _told(ACME_1, [wrong])


def test_an_answer_may_be_known_to_break_off() -> None:
    check_driver(ACME_1, [_BARE, Recorded(_streamed(ANSWER[:-1]), stream=True, error=TruncatedStreamError)])


def test_two_forms_of_an_answer_may_differ_in_what_is_made_anew() -> None:
    again = [
        {**thing, **({"id": "a-2", "model": "acme-1-july"} if thing["kind"] == "hello" else {})} for thing in ANSWER
    ]
    again[3] = {"kind": "seal", "text": "sealed anew"}
    again[-1] = {**again[-1], "read": 8}
    other = _plain(again)
    assert "decode.both_ways" in _told(ACME_1, [Recorded(TALK.body, stream=True, plain=other)])
    anew = Recorded(TALK.body, stream=True, plain=other, apart=("response_id", "model", "state", "usage"))
    check_driver(ACME_1, [anew])


def test_every_knob_is_tried_or_the_clients() -> None:
    assert KNOBS.keys() | CLIENTS_KNOBS == AIModelCallConfig.model_fields.keys()
    assert not KNOBS.keys() & CLIENTS_KNOBS


def test_every_promise_is_explained() -> None:
    assert tuple(PROMISES) == get_args(Promise)


def test_the_kit_needs_no_test_runner() -> None:
    for path in Path(conformance.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not {"pytest", "unittest"}.intersection(names), path.name
            assert not (isinstance(node, ast.ImportFrom) and node.module in {"pytest", "unittest"}), path.name
            assert not isinstance(node, ast.Assert), f"{path.name}: python -O leaves this out"
