"""Test a driver's promises about decoding answers and sending them back to their model."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from typing import cast

import orjson
from pydantic import JsonValue

from dhenara_async.conversation import ConversationNode
from dhenara_async.drivers.base import Decoder, is_object
from dhenara_async.errors import APIError, TruncatedStreamError
from dhenara_async.events import PartEnd, StreamEvent, StreamStart
from dhenara_async.framing import Frame, NamedFrame, name_of
from dhenara_async.messages.messages import (
    HostedToolPart,
    Message,
    Part,
    ReasoningPart,
    Role,
    ToolCallPart,
    ToolResultPart,
)
from dhenara_async.response import ChatResponse, Usage
from dhenara_async.testing.conformance.bench import (
    OTHER_KEY,
    Bench,
    Decoded,
    Recorded,
    cut_frames,
    decode,
    frames_of,
    leaves,
    parsed,
    strings_in,
)
from dhenara_async.testing.conformance.encoding import check_request
from dhenara_async.testing.conformance.findings import Findings, demand
from dhenara_async.testing.conformance.wrapping import check_wrapping
from dhenara_async.testing.grammar import check_grammar
from dhenara_async.testing.splits import split_bytes, split_everywhere, split_randomly

_SMALL_BYTES = 1500  # up to this size, every cut is tested
_LARGE_BYTES = 200_000  # beyond this size, the cut into single bytes is not tested
_MOST_CUTS = 120
_UNKNOWN = "x_conformance"
_STRANGE: JsonValue = {"unknown": ["values", 1, None, {"nested": True}]}
_COUNTS = tuple(name for name in Usage.model_fields if name.endswith("tokens"))


def check_answer(bench: Bench, recorded: Recorded, where: str, findings: Findings) -> None:
    """Test the decoder on one recorded answer, in each recorded form."""
    whole = _check_form(bench, recorded, recorded.body, where, findings, stream=recorded.stream)
    if recorded.plain is not None:
        plain = _check_form(bench, recorded, recorded.plain, f"{where}, plain", findings, stream=False)
        if whole is not None and plain is not None:
            with findings.of("decode.both_ways", where):
                _check_same(_comparable(whole, recorded), _comparable(plain, recorded))
    if whole is not None:
        _check_replay(bench, whole, recorded, where, findings)


def _check_form(
    bench: Bench, recorded: Recorded, body: bytes, where: str, findings: Findings, *, stream: bool
) -> ChatResponse | None:
    """Test one form of an answer, and return its response if it is complete."""
    frames = frames_of(body, stream=stream)
    decoded = _decoded(bench, recorded, frames, where, findings, stream=stream)
    if decoded is None:
        return None
    _check_alone(bench, recorded, frames, decoded, where, findings, stream=stream)
    if stream:
        _check_splits(bench, recorded, body, decoded, where, findings)
    if recorded.error is not None:
        with findings.of("decode.expected", where):
            wanted = recorded.error
            found = "no error" if decoded.error is None else f"{type(decoded.error).__name__}: {decoded.error}"
            demand(isinstance(decoded.error, wanted), f"it should end in {wanted.__name__}, and ends in {found}")
        return None
    with findings.of("decode.expected", where):
        _check_expected(bench.fold(decoded), recorded)
    if decoded.error is not None:
        return None  # decode.expected has recorded it
    response = bench.fold(decoded)
    with findings.of("decode.origin", where):
        _check_origin(bench, decoded)
    _check_usage(bench, recorded, frames, decoded, where, findings, stream=stream)
    with findings.of("decode.truncation", where):
        _check_truncation(bench, recorded, body, frames, response, stream=stream)
    with findings.of("decode.unknown", where):
        _check_unknown(bench, recorded, frames, response, stream=stream)
    check_wrapping(bench, recorded, body, response, where, findings, stream=stream)
    return response


# ---------------------------------------------------------------------------------------------------- one answer


def _decoded(
    bench: Bench, recorded: Recorded, frames: Sequence[Frame], where: str, findings: Findings, *, stream: bool
) -> Decoded | None:
    """Decode an answer; None if its events break the grammar, and nothing more can be tested."""
    with findings.of("decode.grammar", where):
        decoded = bench.decode(recorded, frames, stream=stream)
        check_grammar(decoded.events, complete=decoded.error is None)
        return decoded
    return None


def _check_expected(response: ChatResponse, recorded: Recorded) -> None:
    choice = response.choices[0]
    found: Mapping[str, object] = {
        "text": choice.text(),
        "reasoning": choice.reasoning(),
        "refusal": choice.refusal(),
        "finish_reason": choice.finish_reason,
    }
    for name, value in found.items():
        wanted: object = getattr(recorded, name)
        demand(wanted is None or wanted == value, f"{name} should be {wanted!r} and is {value!r}")
    if recorded.calls is not None:
        wanted = [(name, _arguments(arguments)) for name, arguments in recorded.calls]
        called = [(call.name, _arguments(call.arguments)) for call in choice.tools()]
        demand(wanted == called, f"the calls should be {wanted!r} and are {called!r}")
    if recorded.usage is not None:
        names = recorded.usage.model_fields_set or set(Usage.model_fields)
        usages = recorded.usage, response.usage
        wanted, found = ({name: getattr(usage, name) for name in sorted(names)} for usage in usages)
        differ = [name for name in wanted if wanted[name] != found[name]]
        wanted, found = ({name: usage[name] for name in differ} for usage in (wanted, found))
        demand(not differ, f"the usage should be {wanted!r} and is {found!r}")


def _arguments(text: str) -> object:
    """Parse arguments as JSON; the text itself if it is not JSON."""
    if not text.strip():
        return {}
    value = parsed(text.encode())
    return text if value is None else value


def _check_origin(bench: Bench, decoded: Decoded) -> None:
    origin = bench.origin
    start = next(event for event in decoded.events if isinstance(event, StreamStart))
    demand(start.provider == origin.provider, f"StreamStart names {start.provider!r} instead of {origin.provider!r}")
    for part in (event.part for event in decoded.events if isinstance(event, PartEnd)):
        demand(part.origin is not None, f"a {part.type} part has no origin, so its state could never be sent back")
        own = part.origin is not None and part.origin.same_model(origin)
        demand(own, f"a {part.type} part has the origin {part.origin!r} instead of {origin!r}")


def _check_alone(
    bench: Bench,
    recorded: Recorded,
    frames: Sequence[Frame],
    decoded: Decoded,
    where: str,
    findings: Findings,
    *,
    stream: bool,
) -> None:
    """Decode two answers at the same time, and one with its usage read after every frame."""
    with findings.of("decode.apart", where):
        decoder, neighbour = (bench.decoder(recorded, stream=stream) for _ in range(2))
        beside = decode(_Beside(decoder, neighbour), frames)
        demand(_same(beside, decoded), "decoded beside another answer, it gives other events")
    with findings.of("decode.apart", where):
        again = decode(bench.decoder(recorded, stream=stream), frames, read_usage=True)
        demand(_same(again, decoded), "decoded again, with its usage read after every frame, it gives other events")


class _Beside:
    """A decoder beside a second one that decodes the same answer at the same time."""

    def __init__(self, decoder: Decoder, neighbour: Decoder) -> None:
        self._decoder = decoder
        self._neighbour = neighbour

    @property
    def usage(self) -> Usage | None:
        return self._decoder.usage

    def feed(self, frame: Frame) -> Sequence[StreamEvent]:
        with suppress(Exception):  # the decoder under test reports errors itself
            self._neighbour.feed(frame)
        return self._decoder.feed(frame)

    def finish(self) -> Sequence[StreamEvent]:
        return self._decoder.finish()


def _same(left: Decoded, right: Decoded) -> bool:
    return left.events == right.events and type(left.error) is type(right.error)


# ---------------------------------------------------------------------------------------------------- cuts


def _check_splits(
    bench: Bench, recorded: Recorded, body: bytes, decoded: Decoded, where: str, findings: Findings
) -> None:
    with findings.of("decode.splits", where):
        for chunks in _cuts(body):
            cut = bench.decode(recorded, cut_frames(chunks), stream=True)
            sizes = ", ".join(str(len(chunk)) for chunk in chunks[:4])
            demand(_same(cut, decoded), f"in {len(chunks)} pieces (of {sizes} … bytes) it gives other events")


def _cuts(body: bytes) -> Iterator[tuple[bytes, ...]]:
    if len(body) <= _SMALL_BYTES:
        yield from split_everywhere(body)
    elif len(body) <= _LARGE_BYTES:
        yield split_bytes(body)
    for seed in range(4):
        yield split_randomly(body, seed=seed, longest=64 if len(body) <= _LARGE_BYTES else 64 * 1024)


def _check_truncation(
    bench: Bench, recorded: Recorded, body: bytes, frames: Sequence[Frame], response: ChatResponse, *, stream: bool
) -> None:
    """Cut the body: a stream between its frames, a plain body inside its JSON."""
    if stream:
        for count in _some(len(frames)):
            cut = bench.decode(recorded, frames[:count], stream=True)
            where = f"cut after {count} of {len(frames)} frames"
            if cut.error is not None:
                expected = isinstance(cut.error, TruncatedStreamError | APIError)
                demand(expected, f"{where} it ends in {type(cut.error).__name__}: {cut.error}")
            else:
                less = bench.fold(cut).choices != response.choices
                demand(not less, f"{where} it is decoded as a complete, shorter answer")
    elif isinstance(parsed(body), dict | list):
        text = body.strip()
        for size in sorted({0, 1, len(text) // 4, len(text) // 2, 3 * len(text) // 4, len(text) - 1}):
            cut = bench.decode(recorded, [text[:size]], stream=False)
            demand(cut.error is not None, f"cut after {size} of {len(text)} bytes it is decoded as a complete answer")


def _some(count: int) -> Iterable[int]:
    """Return every number below ``count``; of many, the first, the last and some between."""
    if count <= _MOST_CUTS:
        return range(count)
    third = _MOST_CUTS // 3
    return chain(
        range(third), range(third, count - third, (count - 2 * third) // third + 1), range(count - third, count)
    )


# ---------------------------------------------------------------------------------------------------- unknown fields


def _check_unknown(
    bench: Bench, recorded: Recorded, frames: Sequence[Frame], response: ChatResponse, *, stream: bool
) -> None:
    objects = [value for frame in frames if is_object(value := parsed(frame))]
    if not objects:
        return  # not JSON, so the shape of an unknown field is undefined
    wanted = _without_unknown(response.model_dump(mode="json"))
    grown = [_with_field(frame) for frame in frames]
    with_fields = bench.fold(bench.decode(recorded, grown, stream=stream))
    found = _without_unknown(with_fields.model_dump(mode="json"))
    demand(found == wanted, f"a field {_UNKNOWN!r} at the top of every object changes the answer")
    if stream:
        unknown = _unknown_frame(frames, objects)
        mixed = [item for frame in frames for item in (unknown, frame)]
        beside = bench.fold(bench.decode(recorded, mixed, stream=True))
        found = _without_unknown(beside.model_dump(mode="json"))
        demand(found == wanted, f"a frame {unknown.decode()} before every other changes the answer")


def _unknown_frame(frames: Sequence[Frame], objects: Sequence[Mapping[str, object]]) -> Frame:
    """Build a frame of an unknown type, in the shape of the other frames."""
    typed = any(isinstance(value.get("type"), str) for value in objects)
    data = {**({"type": _UNKNOWN} if typed else {}), _UNKNOWN: _STRANGE}
    named = any(name_of(frame) for frame in frames)
    return NamedFrame(orjson.dumps(data), _UNKNOWN.encode()) if named else orjson.dumps(data)


def _renamed(data: bytes, frame: Frame) -> Frame:
    """Return ``data`` with the event name of ``frame``."""
    name = name_of(frame)
    return NamedFrame(data, name) if name else data


def _with_field(frame: Frame) -> Frame:
    value = parsed(frame)
    if not is_object(value):
        return frame
    return _renamed(orjson.dumps({**value, _UNKNOWN: _STRANGE}), frame)


def _without_unknown(value: object) -> object:
    """Return a dump without the unknown field, which a driver may keep in a part's opaque state."""
    if isinstance(value, dict):
        items = cast("dict[str, object]", value).items()
        return {key: _without_unknown(inner) for key, inner in items if key != _UNKNOWN}
    if isinstance(value, list):
        return [_without_unknown(inner) for inner in cast("list[object]", value)]
    return value


def _check_usage(
    bench: Bench,
    recorded: Recorded,
    frames: Sequence[Frame],
    decoded: Decoded,
    where: str,
    findings: Findings,
    *,
    stream: bool,
) -> None:
    with findings.of("decode.usage", where):
        fresh = bench.decoder(recorded, stream=stream).usage
        demand(fresh is None, f"before the first frame, usage is {fresh!r} instead of None")
        for usage in decoded.reports:
            counts = [name for name in Usage.model_fields if name != "source" and getattr(usage, name) is not None]
            demand(counts or usage.source != "reported", "a usage with the source 'reported' has no counts")
            demand(not counts or usage.source != "unknown", f"a usage with the source 'unknown' has {counts}")
        last = decoded.reports[-1] if decoded.reports else None
        demand(
            decoded.usage in (None, last),
            f"usage is {decoded.usage!r} at the end, and the last UsageUpdate has {last!r}",
        )
    with findings.of("decode.usage", f"{where}, without its usage"):
        silent = [_without_usage(frame) for frame in frames]
        if silent != list(frames):
            usage = bench.fold(bench.decode(recorded, silent, stream=stream)).usage
            counts = {name: value for name in _COUNTS if (value := getattr(usage, name)) is not None}
            demand(not counts, f"the body reports no tokens, and the usage has {counts}")


def _without_usage(frame: Frame) -> Frame:
    value = parsed(frame)
    if value is None:
        return frame
    silent = _stripped_usage(value)
    return frame if silent == value else _renamed(orjson.dumps(silent), frame)


def _stripped_usage(value: object) -> object:
    """Return JSON without every field that has "usage" in its name."""
    if isinstance(value, dict):
        items = cast("dict[str, object]", value).items()
        return {key: _stripped_usage(inner) for key, inner in items if "usage" not in key.lower()}
    if isinstance(value, list):
        return [_stripped_usage(inner) for inner in cast("list[object]", value)]
    return value


def _comparable(response: ChatResponse, recorded: Recorded) -> object:
    """Return a response as JSON values, without the fields in which its two forms may differ."""
    apart = set[str](recorded.apart)
    dump = response.model_dump(mode="json", exclude={*apart} & {"response_id", "usage", "model"})
    hidden = {"call_ids": "call_id", "state": "provider_state"}
    names = {hidden[name] for name in apart & hidden.keys()}
    if "model" in apart:
        names.add("served_model")
    return _stripped(dump, names)


def _stripped(value: object, names: set[str]) -> object:
    """Return a dump without these fields; arguments are parsed, as a plain body may have an object."""
    if is_object(value):
        kept = {key: _stripped(inner, names) for key, inner in value.items() if key not in names}
        arguments = value.get("arguments")
        return {**kept, "arguments": _arguments(arguments)} if isinstance(arguments, str) else kept
    if isinstance(value, list):
        return [_stripped(inner, names) for inner in cast("list[object]", value)]
    return value


def _check_same(streamed: object, plain: object, path: str = "the response") -> None:
    """Find the first place where two dumps differ."""
    if is_object(streamed) and is_object(plain):
        for key in sorted(streamed.keys() | plain.keys()):
            _check_same(streamed.get(key), plain.get(key), f"{path}.{key}")
    elif isinstance(streamed, list) and isinstance(plain, list):
        lefts, rights = cast("list[object]", streamed), cast("list[object]", plain)
        for index, (left, right) in enumerate(zip(lefts, rights, strict=False)):
            _check_same(left, right, f"{path}[{index}]")
        demand(len(lefts) == len(rights), f"{path} has {len(lefts)} elements streamed and {len(rights)} plain")
    else:
        left, right = orjson.dumps(streamed).decode(), orjson.dumps(plain).decode()
        demand(left == right, f"{path} is {left[:200]} streamed and {right[:200]} plain")


# ---------------------------------------------------------------------------------------------------- the next request


def _check_replay(bench: Bench, response: ChatResponse, recorded: Recorded, where: str, findings: Findings) -> None:
    """Store the answer as JSON, load it, and encode the next request."""
    node = ConversationNode(
        id="conformance",
        user_query="The question.",
        response=response,
        timestamp="2026-11-22T12:00:00+00:00",
        origin=bench.origin,
    )
    loaded = node
    with findings.of("replay.json", where):
        text = node.model_dump_json()
        loaded = ConversationNode.model_validate_json(text)
        demand(loaded == node, "the answer is different after a round trip through JSON")
        demand(loaded.model_dump_json() == text, "the JSON is different after a second round trip")
    calls = [part for part in response.choices[0].parts if isinstance(part, ToolCallPart)]
    results = [ToolResultPart.of(call, "The result.") for call in calls]
    asked = [Message.user(*results, "And then?")]
    opaque = _opaque(response.choices[0].parts, recorded)
    with findings.of("encode.total", f"after {where}"):
        request = bench.formatted([loaded], asked)
        wire = check_request(bench, request, f"after {where}", findings)
        with findings.of("replay.state", where):
            body_text, messages = strings_in(wire.body), request.messages
            parts = [part for message in messages if message.role is Role.ASSISTANT for part in message.parts]
            lost = [text for text in (*recorded.echoes, *_required_state(parts)) if text not in body_text]
            demand(not lost, f"the next request lacks {[text[:60] for text in lost[:3]]}")
    others = {"another model": bench.of_another_model(), "another account": Bench.of(bench.endpoint, OTHER_KEY)}
    for name, other in others.items():
        with findings.of("encode.total", f"after {where}, for {name}"):
            request = other.formatted([loaded], asked)
            body = other.encode(request).body.decode(errors="replace")
            with findings.of("replay.others", f"{where}, for {name}"):
                public = _public(request.messages)
                leaked = [text for text in opaque if text in body and text not in public]
                demand(not leaked, f"the request has {[text[:60] for text in leaked[:3]]}")


def _opaque(parts: Iterable[Part], recorded: Recorded) -> list[str]:
    states = (part.provider_state for part in parts if part.provider_state is not None)
    return [*recorded.echoes, *(text for state in states for text, _key in _strings(state) if _looks_opaque(text))]


def _required_state(parts: Iterable[Part]) -> Iterator[str]:
    """Yield the opaque strings to send back: all of reasoning and hosted tools, only the signatures of other parts.

    Other state of text and calls is left to the driver: not every dialect requires it.
    """
    for part in parts:
        whole = isinstance(part, ReasoningPart | HostedToolPart)
        for text, key in _strings(part.provider_state or {}):
            if _looks_opaque(text) and (whole or _SEALS.search(key)):
                yield text


_SEALS = re.compile("signature|encrypted|seal", re.IGNORECASE)
_SHORTEST_OPAQUE = 24
_PIECE = re.compile(r"[A-Za-z0-9+/=_.~-]+")


def _looks_opaque(text: str) -> bool:
    """Whether a text looks encoded: long, without spaces or URL characters, and of mixed case or with digits."""
    cased = text.upper() != text != text.lower() or any(map(str.isdigit, text))
    return len(text) >= _SHORTEST_OPAQUE and text.isascii() and cased and _PIECE.fullmatch(text) is not None


def _strings(value: object, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield every string of a state, with its field name."""
    if isinstance(value, str):
        yield value, key
    elif isinstance(value, dict):
        for name, inner in cast("dict[str, object]", value).items():
            yield from _strings(inner, name)
    elif isinstance(value, list):
        for inner in cast("list[object]", value):
            yield from _strings(inner, key)


def _public(messages: Iterable[Message]) -> str:
    """Return all strings of messages without their opaque state."""
    plain = (part.model_dump(mode="json", exclude={"provider_state"}) for message in messages for part in message.parts)
    return "\n".join(leaf for part in plain for leaf in leaves(part))
