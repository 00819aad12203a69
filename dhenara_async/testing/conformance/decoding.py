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
    said_in,
)
from dhenara_async.testing.conformance.encoding import check_request
from dhenara_async.testing.conformance.findings import Findings, demand
from dhenara_async.testing.conformance.wrapping import check_wrapping
from dhenara_async.testing.grammar import check_grammar
from dhenara_async.testing.splits import split_bytes, split_everywhere, split_randomly

_SMALL_BYTES = 1500  # as far as every single cut is tried
_LARGE_BYTES = 200_000  # beyond, not even every byte comes alone
_MOST_CUTS = 120
_UNKNOWN = "x_conformance"
_STRANGE: JsonValue = {"what": ["nobody", "knows", 1, None, {"yet": True}]}
_COUNTS = tuple(name for name in Usage.model_fields if name.endswith("tokens"))


def check_answer(bench: Bench, recorded: Recorded, where: str, findings: Findings) -> None:
    """Try ``decoder`` on one recorded answer, in the forms it is known in."""
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
        return None  # as has just been noted
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
        wanted, told = ({name: getattr(usage, name) for name in sorted(names)} for usage in usages)
        differ = [name for name in wanted if wanted[name] != told[name]]
        wanted, told = ({name: usage[name] for name in differ} for usage in (wanted, told))
        demand(not differ, f"the usage should be {wanted!r} and is {told!r}")


def _arguments(text: str) -> object:
    """Arguments as JSON; where they are none, the text itself."""
    if not text.strip():
        return {}
    value = parsed(text.encode())
    return text if value is None else value


def _check_origin(bench: Bench, decoded: Decoded) -> None:
    origin = bench.origin
    start = next(event for event in decoded.events if isinstance(event, StreamStart))
    demand(start.provider == origin.provider, f"StreamStart names {start.provider!r} instead of {origin.provider!r}")
    for part in (event.part for event in decoded.events if isinstance(event, PartEnd)):
        demand(part.origin is not None, f"a {part.type} part has no origin, so its state could go nowhere")
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
    """Two answers at a time, step by step, the one asked for its usage at every step."""
    with findings.of("decode.apart", where):
        one, other = (bench.decoder(recorded, stream=stream) for _ in range(2))
        first = decode(_Beside(one, other), frames)
        demand(_same(first, decoded), "decoded beside another answer, it gives other events")
    with findings.of("decode.apart", where):
        again = decode(bench.decoder(recorded, stream=stream), frames, asking=True)
        demand(_same(again, decoded), "decoded once more, and asked for its usage now and then, it gives other events")


class _Beside:
    """A decoder with a neighbour that reads the same answer at the same time."""

    def __init__(self, decoder: Decoder, neighbour: Decoder) -> None:
        self._decoder = decoder
        self._neighbour = neighbour

    @property
    def usage(self) -> Usage | None:
        return self._decoder.usage

    def feed(self, frame: Frame) -> Sequence[StreamEvent]:
        with suppress(Exception):  # what is wrong with the answer, the decoder itself will tell
            self._neighbour.feed(frame)
        return self._decoder.feed(frame)

    def finish(self) -> Sequence[StreamEvent]:
        return self._decoder.finish()


def _same(one: Decoded, other: Decoded) -> bool:
    return one.events == other.events and type(one.error) is type(other.error)


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
    """Cut the body: a stream between its frames, a plain one anywhere in its JSON."""
    if stream:
        for count in _some(len(frames)):
            cut = bench.decode(recorded, frames[:count], stream=True)
            place = f"cut behind {count} of {len(frames)} frames"
            if cut.error is not None:
                expected = isinstance(cut.error, TruncatedStreamError | APIError)
                demand(expected, f"{place} it ends in {type(cut.error).__name__}: {cut.error}")
            else:
                less = bench.fold(cut).choices != response.choices
                demand(not less, f"{place} it is taken for a whole answer, and says less than that")
    elif isinstance(parsed(body), dict | list):
        text = body.strip()
        for size in sorted({0, 1, len(text) // 4, len(text) // 2, 3 * len(text) // 4, len(text) - 1}):
            cut = bench.decode(recorded, [text[:size]], stream=False)
            demand(cut.error is not None, f"cut behind {size} of {len(text)} bytes it is taken for a whole answer")


def _some(count: int) -> Iterable[int]:
    """Every number below ``count``, or where there are many of them the first, the last and some in between."""
    if count <= _MOST_CUTS:
        return range(count)
    third = _MOST_CUTS // 3
    return chain(
        range(third), range(third, count - third, (count - 2 * third) // third + 1), range(count - third, count)
    )


# ---------------------------------------------------------------------------------------------------- what may change


def _check_unknown(
    bench: Bench, recorded: Recorded, frames: Sequence[Frame], response: ChatResponse, *, stream: bool
) -> None:
    objects = [value for frame in frames if is_object(value := parsed(frame))]
    if not objects:
        return  # not JSON, so nobody can tell what an unknown thing would look like
    wanted = _without_unknown(response.model_dump(mode="json"))
    grown = [_with_field(frame) for frame in frames]
    with_fields = bench.fold(bench.decode(recorded, grown, stream=stream))
    found = _without_unknown(with_fields.model_dump(mode="json"))
    demand(found == wanted, f"a field {_UNKNOWN!r} at the top of every object changes the answer")
    if stream:
        stranger = _stranger(frames, objects)
        mixed = [one for frame in frames for one in (stranger, frame)]
        beside = bench.fold(bench.decode(recorded, mixed, stream=True))
        found = _without_unknown(beside.model_dump(mode="json"))
        demand(found == wanted, f"a frame {stranger.decode()} before every other changes the answer")


def _stranger(frames: Sequence[Frame], objects: Sequence[Mapping[str, object]]) -> Frame:
    """A frame of a kind that does not exist, in the manner of the others."""
    typed = any(isinstance(value.get("type"), str) for value in objects)
    data = {**({"type": _UNKNOWN} if typed else {}), _UNKNOWN: _STRANGE}
    named = any(name_of(frame) for frame in frames)
    return NamedFrame(orjson.dumps(data), _UNKNOWN.encode()) if named else orjson.dumps(data)


def _renamed(data: bytes, frame: Frame) -> Frame:
    """``data`` under the name of ``frame``."""
    name = name_of(frame)
    return NamedFrame(data, name) if name else data


def _with_field(frame: Frame) -> Frame:
    value = parsed(frame)
    if not is_object(value):
        return frame
    return _renamed(orjson.dumps({**value, _UNKNOWN: _STRANGE}), frame)


def _without_unknown(value: object) -> object:
    """A dump without what was put in, which a driver may well keep as a part's opaque state."""
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
        demand(fresh is None, f"before anything has come, usage is {fresh!r} instead of None")
        for usage in decoded.reports:
            told = [name for name in Usage.model_fields if name != "source" and getattr(usage, name) is not None]
            demand(told or usage.source != "reported", "a report of tokens says that they are reported, and has none")
            demand(not told or usage.source != "unknown", f"{told} are told by a report whose source is unknown")
        last = decoded.reports[-1] if decoded.reports else None
        demand(decoded.usage in (None, last), f"usage says {decoded.usage!r} at the end, and the events say {last!r}")
    with findings.of("decode.usage", f"{where}, without its usage"):
        silent = [_without_usage(frame) for frame in frames]
        if silent != list(frames):
            usage = bench.fold(bench.decode(recorded, silent, stream=stream)).usage
            told = {name: value for name in _COUNTS if (value := getattr(usage, name)) is not None}
            demand(not told, f"nothing tells of tokens, and the usage has {told}")


def _without_usage(frame: Frame) -> Frame:
    value = parsed(frame)
    if value is None:
        return frame
    silent = _silent(value)
    return frame if silent == value else _renamed(orjson.dumps(silent), frame)


def _silent(value: object) -> object:
    """JSON without its usage, by whatever longer name."""
    if isinstance(value, dict):
        items = cast("dict[str, object]", value).items()
        return {key: _silent(inner) for key, inner in items if "usage" not in key.lower()}
    if isinstance(value, list):
        return [_silent(inner) for inner in cast("list[object]", value)]
    return value


def _comparable(response: ChatResponse, recorded: Recorded) -> object:
    """A response as JSON values, without that in which its two forms may differ."""
    apart = set[str](recorded.apart)
    dump = response.model_dump(mode="json", exclude={*apart} & {"response_id", "usage", "model"})
    hidden = {"call_ids": "call_id", "state": "provider_state"}
    names = {hidden[name] for name in apart & hidden.keys()}
    if "model" in apart:
        names.add("served_model")
    return _stripped(dump, names)


def _stripped(value: object, names: set[str]) -> object:
    """A dump without these fields; arguments as JSON, because a plain body may have them as an object."""
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
        one, other = cast("list[object]", streamed), cast("list[object]", plain)
        for at, (left, right) in enumerate(zip(one, other, strict=False)):
            _check_same(left, right, f"{path}[{at}]")
        demand(len(one) == len(other), f"{path} has {len(one)} elements streamed and {len(other)} plain")
    else:
        left, right = orjson.dumps(streamed).decode(), orjson.dumps(plain).decode()
        demand(left == right, f"{path} is {left[:200]} streamed and {right[:200]} plain")


# ---------------------------------------------------------------------------------------------------- going back


def _check_replay(bench: Bench, response: ChatResponse, recorded: Recorded, where: str, findings: Findings) -> None:
    """Keep the answer, take it out again, and ask on."""
    node = ConversationNode(
        id="conformance",
        user_query="What was asked.",
        response=response,
        timestamp="2026-11-22T12:00:00+00:00",
        origin=bench.origin,
    )
    kept = node
    with findings.of("replay.json", where):
        text = node.model_dump_json()
        kept = ConversationNode.model_validate_json(text)
        demand(kept == node, "kept as JSON and read again, it is not the same")
        demand(kept.model_dump_json() == text, "kept as JSON, read and kept again, it is not the same JSON")
    calls = [part for part in response.choices[0].parts if isinstance(part, ToolCallPart)]
    results = [ToolResultPart.of(call, "What it gave.") for call in calls]
    asked = [Message.user(*results, "And then?")]
    opaque = _opaque(response.choices[0].parts, recorded)
    with findings.of("encode.total", f"behind {where}"):
        request = bench.formatted([kept], asked)
        wire = check_request(bench, request, f"behind {where}", findings)
        with findings.of("replay.state", where):
            said, shown = said_in(wire.body), request.messages
            going = [part for message in shown if message.role is Role.ASSISTANT for part in message.parts]
            lost = [text for text in (*recorded.echoes, *_going_back(going)) if text not in said]
            demand(not lost, f"the next request does not carry {[text[:60] for text in lost[:3]]}")
    others = {"another model": bench.of_another_model(), "another account": Bench.of(bench.endpoint, OTHER_KEY)}
    for name, other in others.items():
        with findings.of("encode.total", f"behind {where}, for {name}"):
            request = other.formatted([kept], asked)
            body = other.encode(request).body.decode(errors="replace")
            with findings.of("replay.others", f"{where}, for {name}"):
                public = _public(request.messages)
                leaked = [text for text in opaque if text in body and text not in public]
                demand(not leaked, f"the request carries {[text[:60] for text in leaked[:3]]}")


def _opaque(parts: Iterable[Part], recorded: Recorded) -> list[str]:
    states = (part.provider_state for part in parts if part.provider_state is not None)
    return [*recorded.echoes, *(text for state in states for text, _key in _strings(state) if _looks_opaque(text))]


def _going_back(parts: Iterable[Part]) -> Iterator[str]:
    """The opaque strings that have to be spelled: all of what is nothing but opaque, the seals of what has words too.

    What else a provider tells beside words and calls is left to the driver: not every dialect wants it back.
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
    """Whether it is no word of anybody's: long, in one piece, no address, and not all of one case."""
    cased = text.upper() != text != text.lower() or any(map(str.isdigit, text))
    return len(text) >= _SHORTEST_OPAQUE and text.isascii() and cased and _PIECE.fullmatch(text) is not None


def _strings(value: object, key: str = "") -> Iterator[tuple[str, str]]:
    """Every string of a state, with the name that it has."""
    if isinstance(value, str):
        yield value, key
    elif isinstance(value, dict):
        for name, inner in cast("dict[str, object]", value).items():
            yield from _strings(inner, name)
    elif isinstance(value, list):
        for inner in cast("list[object]", value):
            yield from _strings(inner, key)


def _public(messages: Iterable[Message]) -> str:
    """What is said without any opaque state."""
    plain = (part.model_dump(mode="json", exclude={"provider_state"}) for message in messages for part in message.parts)
    return "\n".join(leaf for part in plain for leaf in leaves(part))
