"""Test a driver's promises about encoding requests, and about its rules."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import pairwise
from typing import cast

import orjson

from dhenara_async.config import AIModelCallConfig, PromptCache
from dhenara_async.conversation import question
from dhenara_async.drivers.rules import Place, Rules
from dhenara_async.errors import UnsupportedError
from dhenara_async.messages.media import placeholder
from dhenara_async.messages.messages import (
    FilePart,
    JsonPart,
    Message,
    Part,
    ReasoningPart,
    RefusalPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from dhenara_async.request import ChatRequest, WireRequest
from dhenara_async.testing.conformance.bench import KEY, Bench, leaves, parsed, strings_in
from dhenara_async.testing.conformance.findings import Findings, demand
from dhenara_async.testing.conformance.histories import CANARY, SampleHistory, histories, mixed, with_system_message
from dhenara_async.tools.declarations import HostedTool, NamedTool, Tool

_LEADS = ("Lead the way.", "Be “precise”.\nVery.")


def check_encoding(bench: Bench, findings: Findings, *, both_ways: bool) -> None:
    """Test ``encode`` and ``rules``.

    Args:
        bench: The driver under test.
        findings: Collects broken promises.
        both_ways: Whether there are streamed and plain answers, so that a request must select one form.
    """
    for history in (*histories(bench.origin), mixed(bench.origin)):
        _check_history(bench, history, findings)
    where = "a system message between two questions"
    with findings.of("encode.total", where):
        check_request(bench, bench.formatted_messages(with_system_message(bench.origin)), where, findings)
    _check_error_flag(bench, findings)
    _check_stream(bench, findings, both_ways=both_ways)
    _check_knobs(bench, findings)
    _check_stable(bench, findings)
    _check_files(bench, findings)
    _check_call_ids(bench, findings)


# ---------------------------------------------------------------------------------------------------- histories


def _check_history(bench: Bench, history: SampleHistory, findings: Findings) -> None:
    bodies: list[bytes] = []
    for index, node in enumerate(history.nodes):
        where = f"{history.name}, turn {index + 1}"
        with findings.of("encode.total", where):
            asked = question(node.user_query, node.attached_files, node.tool_results)
            request = bench.formatted(history.nodes[:index], asked, _LEADS)
            bodies.append(check_request(bench, request, where, findings).body)
    with findings.of("encode.append_only", history.name):
        for shorter, longer in pairwise(bodies):
            _check_grows(parsed(shorter), parsed(longer))


def check_request(bench: Bench, request: ChatRequest, where: str, findings: Findings) -> WireRequest:
    """Encode ``request``, and test the promises that hold for every request."""
    before = _dump(request)
    wire = bench.encode(request)
    with findings.of("encode.pure", where):
        demand(_dump(request) == before, "encode changed the messages of the request")
        again = bench.encode(request)
        demand((again.path, again.body) == (wire.path, wire.body), "encoding the same request again gives other bytes")
        demand(dict(again.headers) == dict(wire.headers), "encoding the same request again gives other headers")
    with findings.of("encode.json", where):
        demand(isinstance(parsed(wire.body), dict), f"the body is not a JSON object: {wire.body[:60]!r}")
        demand(wire.path.startswith("/"), f"the path {wire.path!r} does not begin with a slash")
        demand(wire.path.isprintable() and " " not in wire.path, f"the path {wire.path!r} is not encoded")
    with findings.of("encode.secrets", where):
        shown = {"the body": wire.body.decode(errors="replace"), "the path": wire.path}
        shown |= {f"the header {name}": value for name, value in wire.headers.items()}
        shown |= {"a warning": " ".join(warning.message for warning in wire.warnings)}
        held = [name for name, text in shown.items() if KEY in text]
        demand(not held, f"the key is in {', '.join(held)}; only auth may add it")
    with findings.of("encode.foreign", where):
        sent = [wire.body.decode(errors="replace"), wire.path, *wire.headers.values()]
        found = next((text[place : place + 60] for text in sent if (place := text.find(CANARY)) >= 0), None)
        demand(found is None, f"opaque state of another origin is sent: {found}")
    with findings.of("encode.whole", where):
        body_text = strings_in(wire.body)
        lost = [text for text in (*request.instructions, *_texts(request.messages)) if text not in body_text]
        demand(not lost, f"the body lacks {lost[:3]}")
    return wire


def _dump(request: ChatRequest) -> list[str]:
    return [message.model_dump_json() for message in request.messages]


def _texts(messages: Sequence[Message]) -> Iterator[str]:
    """Yield the texts of ``messages`` that a body must contain."""
    for message in messages:
        for part in message.parts:
            yield from (text for text in _texts_of(part) if text.strip())


def _texts_of(part: Part) -> Iterator[str]:
    match part:
        case TextPart() | RefusalPart():
            yield part.text
        case ReasoningPart() if part.provider_state is None:
            yield part.text
        case ToolCallPart():
            yield part.name
            yield from leaves(parsed(part.arguments.encode()))
        case ToolResultPart():
            for item in part.content:
                match item:
                    case TextPart():
                        yield item.text
                    case JsonPart():
                        yield from leaves(item.value)
                    case FilePart():
                        pass  # rules.files tests files
        case _:
            pass


def _check_grows(shorter: object, longer: object) -> None:
    """Compare the longest list that has grown, the messages in most dialects, with its shorter version."""
    earlier, later = dict(_lists(shorter)), dict(_lists(longer))
    grown = [path for path, items in later.items() if path in earlier and len(items) > len(earlier[path])]
    path = max(grown, key=lambda path: len(later[path]), default=None)
    if path is None:
        return
    for index, (old, new) in enumerate(zip(earlier[path], later[path], strict=False)):
        demand(
            orjson.dumps(old) == orjson.dumps(new),
            f"element {index} of {'.'.join(path)} was {_short(old)} and is {_short(new)} one turn later",
        )


def _short(value: object) -> str:
    return orjson.dumps(value).decode()[:160]


def _lists(value: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], list[object]]]:
    """Yield every list of objects that is not inside another list, with its path of names."""
    if isinstance(value, dict):
        for key, inner in cast("dict[str, object]", value).items():
            yield from _lists(inner, (*path, key))
    elif isinstance(value, list):
        items = cast("list[object]", value)
        if all(isinstance(item, dict) for item in items):
            yield path, items


def _check_error_flag(bench: Bench, findings: Findings) -> None:
    where = "a tool's result that is an error"
    with findings.of("encode.whole", where):
        good, bad = (
            bench.encode(bench.formatted_messages(_called(ToolResultPart(
                call_id="call_0001", name="weather", content=(TextPart(text="Shut."),), is_error=failed
            ))))
            for failed in (False, True)
        )  # fmt: skip
        demand(
            good.body != bad.body, "it is encoded like a successful one; mark it in its text if the dialect has no flag"
        )


def _called(result: ToolResultPart, arguments: str = "{}") -> list[Message]:
    call = ToolCallPart(call_id=result.call_id, name=result.name, arguments=arguments)
    return [Message.user("How is the weather?"), Message.assistant(call), Message.user(result)]


# ---------------------------------------------------------------------------------------------------- streaming


def _check_stream(bench: Bench, findings: Findings, *, both_ways: bool) -> None:
    with findings.of("encode.stream", "one question, streamed and plain"):
        messages = [Message.user("Hello?"), Message.assistant("Hello."), Message.user("And now?")]
        plain = bench.encode(bench.request(messages, instructions=_LEADS, stream=False))
        streamed = bench.encode(bench.request(messages, instructions=_LEADS, stream=True))
        before, after = _object(plain.body), _object(streamed.body)
        for key in before:
            flags = isinstance(before[key], bool) and isinstance(after.get(key), bool)
            demand(flags or (key in after and before[key] == after[key]), f"{key} differs in a streamed request")
        same = (plain.path, dict(plain.headers), before) == (streamed.path, dict(streamed.headers), after)
        demand(not (same and both_ways), "a streamed and a plain request are the same")


def _object(body: bytes) -> dict[str, object]:
    value = parsed(body)
    demand(isinstance(value, dict), "the body is not a JSON object")
    return cast("dict[str, object]", value)


# ---------------------------------------------------------------------------------------------------- knobs


CLIENTS_KNOBS = frozenset(
    {"streaming", "retries", "structured_retries", "timeouts", "fetch", "bounds", "extra_headers", "test_mode"}
)
"""Settings that the client applies, not the driver."""


_WEATHER = Tool(
    name="weather",
    description="How the weather is.",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
_TIME = Tool(name="time", description="What time it is.")
_SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
_OTHER = {"type": "object", "properties": {"b": {"type": "number"}}, "required": ["b"], "additionalProperties": False}
_THINKING = frozenset({"reasoning", "reasoning_effort", "max_reasoning_tokens", "reasoning_summary"})


# Two different values of each setting, and other settings that it needs.
KNOBS: Mapping[str, tuple[object, object, Mapping[str, object]]] = {
    "max_output_tokens": (1000, 2000, {}),
    "temperature": (0.25, 0.75, {}),
    "top_p": (0.25, 0.75, {}),
    "top_k": (3, 30, {}),
    "stop": (("END",), ("HALT",), {}),
    "seed": (1, 2, {}),
    "reasoning": (True, False, {}),
    "reasoning_effort": ("low", "high", {}),
    "max_reasoning_tokens": (2048, 4096, {"max_output_tokens": 10_000}),
    "reasoning_summary": ("none", "detailed", {}),
    "tools": ((_WEATHER,), (_TIME,), {}),
    "tool_choice": ("required", "none", {"tools": (_WEATHER,)}),
    "parallel_tool_calls": (True, False, {"tools": (_WEATHER,)}),
    "structured_output": (_SCHEMA, _OTHER, {}),
    "prompt_cache": (False, PromptCache(ttl="1h", key="mine"), {}),
    "n": (2, 3, {}),
    "top_logprobs": (1, 2, {}),
    "metadata": ({"of": "one"}, {"of": "another"}, {}),
    "user_id": ("user-one", "user-two", {}),
    "service_tier": ("flex", "priority", {}),
    "extra_body": ({"x_conformance": 1}, {"x_conformance": 2}, {}),
}
"""The test values of every setting that a driver encodes."""


_HOSTED: Mapping[str, Mapping[str, object]] = {
    "web_search": {},
    "code_execution": {},
    "url_context": {},
    "file_search": {"vector_store_ids": ["vs_1"]},
    "mcp": {"server_label": "shop", "server_url": "https://example.com/mcp"},
    "raw": {"type": "of_its_own"},
}


def _check_knobs(bench: Bench, findings: Findings) -> None:
    for knob, (first, second, beside) in KNOBS.items():
        where = f"{knob}={first!r}"
        with findings.of("encode.knobs", where):
            _check_knob(bench, knob, {**beside, knob: first}, {**beside, knob: second})
    with findings.of("encode.knobs", "tool_choice by name"):
        named = {"tools": (_WEATHER, _TIME), "tool_choice": NamedTool(name="weather")}
        _check_knob(bench, "tool_choice", named, {**named, "tool_choice": NamedTool(name="time")})
    for kind, options in _HOSTED.items():
        with findings.of("encode.knobs", f"a HostedTool of type {kind}"):
            hosted = HostedTool.model_validate({"type": kind, "options": options})
            _check_knob(bench, "tools", {"tools": (_WEATHER, hosted)}, {"tools": (_WEATHER,)})
    with findings.of("encode.knobs", "no setting"):
        wire = _with_knobs(bench, {})
        demand(
            not wire.warnings,
            f"a call without settings has warnings about {[warning.knob for warning in wire.warnings]}",
        )


def _check_knob(bench: Bench, knob: str, values: Mapping[str, object], other_values: Mapping[str, object]) -> None:
    first, second = _with_knobs(bench, values), _with_knobs(bench, other_values)
    warned = {warning.knob for wire in (first, second) for warning in wire.warnings}
    names = _THINKING if knob in _THINKING else {knob}
    sent = (first.path, first.body, dict(first.headers)) != (second.path, second.body, dict(second.headers))
    demand(
        sent or warned & names, "another value does not change the request, and no CallWarning names it (KnobWarnings)"
    )


def _with_knobs(bench: Bench, knobs: Mapping[str, object]) -> WireRequest:
    config = AIModelCallConfig.model_validate(dict(knobs))
    return bench.encode(bench.request([Message.user("Hello?")], instructions=("Be kind.",), config=config))


# ---------------------------------------------------------------------------------------------------- rules


def _check_stable(bench: Bench, findings: Findings) -> None:
    with findings.of("rules.stable", "read twice"):
        rules, rules_again = bench.rules, bench.rules
        for name in (field.name for field in fields(Rules)):
            value, value_again = getattr(rules, name), getattr(rules_again, name)
            demand(callable(value) or value == value_again, f"{name} was {value!r} and is {value_again!r}")


_TYPES = (
    "image/png",
    "image/jpeg",
    "image/gif",
    "image/webp",
    "image/heic",
    "application/pdf",
    "text/plain",
    "text/csv",
    "application/json",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "application/zip",
    "audio/wav",
    "audio/mpeg",
    "audio/flac",
    "video/mp4",
)
_TEXT_MARK = "conformance of a file"


def _sources(bench: Bench, media_type: str) -> Iterator[tuple[str, FilePart]]:
    data = placeholder(media_type) + b"conformance"
    if media_type.startswith("text/"):
        data = _TEXT_MARK.encode()
    elif media_type == "application/json":
        data = orjson.dumps({_TEXT_MARK: 1})
    yield "by its bytes", FilePart(media_type=media_type, data=data)
    yield "by URL", FilePart(media_type=media_type, url="https://files.test/conformance-1")
    yield "by file id", FilePart(media_type=media_type, file_id="file-conformance1", origin=bench.origin)


def _check_files(bench: Bench, findings: Findings) -> None:
    places: tuple[Place, ...] = ("question", "result")
    for media_type in _TYPES:
        for how, part in _sources(bench, media_type):
            for place in places:
                where = f"{media_type} {how} in a {'question' if place == 'question' else 'tool result'}"
                with findings.of("rules.files", where):
                    _check_file(bench, part, place)


def _check_file(bench: Bench, part: FilePart, place: Place) -> None:
    accepted = bench.rules.files(part, place)
    asked = [Message.user(part, "What is it?")]
    if place == "result":
        asked = _called(ToolResultPart(call_id="call_0001", name="weather", content=(part,)))
    try:
        wire = bench.encode(bench.request(asked))
    except UnsupportedError as exc:
        demand(not accepted, f"the rules accept it, but encode raises {exc}")
        return
    if accepted:
        body_text = strings_in(wire.body)
        demand(any(mark in body_text for mark in _marks(part)), "the rules accept it, but the body does not have it")
    else:
        demand(False, "the rules do not accept it, but encode raises no UnsupportedError")


def _marks(part: FilePart) -> Iterator[str]:
    """Yield the texts by which a body may contain a file."""
    for mark in (part.url, part.file_id):
        if mark is not None:
            yield mark
    if part.data is not None:
        yield base64.b64encode(part.data).decode()
        yield base64.urlsafe_b64encode(part.data).decode()
        if part.kind == "text":
            yield part.data.decode()


_CALL_IDS = (
    "call_conformance_1",
    "toolu_01ABCdefGHI",
    "srvtoolu_01ABCdefGHI",
    "AbCd12345",
    "x" * 40,
    "x" * 41,
    "x" * 64,
    "x" * 65,
    "",
    "call|fc_1",
    "with a space",
    'with "quotes"',
    "ünïcode",
    "line\nbreak",
)


def _check_call_ids(bench: Bench, findings: Findings) -> None:
    ids = bench.rules.call_ids
    spelled: dict[str, int] = {}
    for call_id in _CALL_IDS:
        with findings.of("rules.call_ids", f"the id {call_id!r}"):
            legal = ids.legal(call_id)
            demand(ids.pattern.fullmatch(legal), f"it is converted to {legal!r}, which is not legal either")
            demand(ids.legal(legal) == legal, f"it is converted to {legal!r}, and converting that again changes it")
            demand(ids.legal(call_id) == legal, "converting it again gives another id")
            if not legal:
                continue  # a dialect without call ids
            result = ToolResultPart(call_id=legal, name="weather", content=(TextPart(text="Rain."),))
            body = parsed(bench.encode(bench.request(_called(result))).body)
            spelled[legal] = sum(leaf == legal for leaf in leaves(body))
    if any(spelled.values()):  # a dialect may match calls and results by name alone
        for legal, times in spelled.items():
            with findings.of("rules.call_ids", f"the id {legal!r}"):
                demand(times >= 2, "it is legal, but the body does not have it in both call and result")
    with findings.of("rules.call_ids", "two ids that are not legal"):
        demand(ids.made("one") != ids.made("another"), "both are converted to the same id")
