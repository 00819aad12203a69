"""A history of each source with every kind of part is formatted for each target, and the request is legal there.

Three checks, which share no code with the formatter, look at each request: the types of the vendor's SDK, the strict
rules of the loopback server, and the table of ``replay_rules``.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import cast

import orjson
import pytest
from anthropic.types.beta import message_create_params as beta_messages
from openai.types.responses.response_input_audio_param import ResponseInputAudioParam

from dhenara_async import (
    AIModelCallConfig,
    AIModelEndpoint,
    ConversionPolicy,
    ConversionReport,
    Dialect,
    Message,
    PromptFormatter,
    Tool,
)
from dhenara_async.downloads.inlining import inlined, key_of, stand_in, to_download
from dhenara_async.drivers.base import Driver
from dhenara_async.drivers.rules import CallIds, Rules, any_file, anything
from dhenara_async.errors import ConversionLossError, UnsupportedError
from dhenara_async.formatter.conversion import SEVERITIES
from dhenara_async.formatter.formatter import FormattedConversation
from dhenara_async.hosts.registry import driver_for
from dhenara_async.messages.messages import HostedToolPart, Part
from dhenara_async.request import ChatRequest, WireRequest
from dhenara_async.testing.dialects import WIRE_DIALECTS
from dhenara_async.testing.dialects.base import Arrived, Refusal
from tests import recordings
from tests.cases import cases, sample
from tests.drivers.sdk_types import mismatches, problems
from tests.histories import CELLS, SOURCES, TARGETS, History, Speaker, cells, foreign, histories, own_seals, sealed
from tests.replay_rules import violations

_NAMES = ("every kind", "strange ids", "torn", "open loop", "to be continued")
_HISTORIES = ("recorded", *_NAMES) if recordings.FOUND else _NAMES
_CONFIG = AIModelCallConfig(max_output_tokens=1000)
_THINKING_WITH_TOOLS = AIModelCallConfig(
    max_output_tokens=4000, reasoning=True, max_reasoning_tokens=2000, tools=[Tool(name="weather")]
)

SOURCE = pytest.mark.parametrize("source", SOURCES)


@dataclass(frozen=True, slots=True)
class Hop:
    """A history formatted for a target, with its report and the request."""

    history: History
    target: Speaker
    formatted: FormattedConversation
    wire: WireRequest


@cache
def _hop(source: str, name: str, target: str) -> Hop:
    history, speaker = histories(source)[name], TARGETS[target]
    config = _THINKING_WITH_TOOLS if name == "open loop" else _CONFIG
    return _sent(history, speaker, _formatted(history, speaker, config), config)


def _hops(source: str) -> Iterator[tuple[str, Hop]]:
    """Yield all hops from a source, each with a name of its target and history."""
    for target in TARGETS:
        for name in _HISTORIES:
            yield f"{target}, {name}", _hop(source, name, target)


def _half_of_hops(source: str) -> Iterator[tuple[str, Hop]]:
    """Yield half of the hops from a source to each target; all of them in a soak."""
    for number, target in enumerate(TARGETS):
        for name in sample(_HISTORIES, 2, list(SOURCES).index(source) + number):
            yield f"{target}, {name}", _hop(source, name, target)


def _sent(history: History, speaker: Speaker, formatted: FormattedConversation, config: AIModelCallConfig) -> Hop:
    endpoint = speaker.endpoint
    request = ChatRequest.of(formatted.messages, instructions=["Be exact."], config=config, stream=True)
    # files that the target does not fetch are downloaded before the request
    files = {key_of(part): stand_in(part) for part in to_download(request.messages, endpoint)}
    request = ChatRequest(inlined(request.messages, files), request.instructions, config, stream=True)
    return Hop(history, speaker, formatted, driver_for(endpoint).encode(request, endpoint))


def _formatted(
    history: History, target: Speaker, config: AIModelCallConfig = _CONFIG, policy: ConversionPolicy | None = None
) -> FormattedConversation:
    return PromptFormatter.format_conversation(
        history.nodes,
        target.endpoint,
        policy=policy,
        asked=history.asked,
        instructions=["Be exact."],
        config=config,
    )


# ---------------------------------------------------------------------------------------------------- coverage


@SOURCE
def test_every_source_has_histories_with_every_kind_of_part(source: str) -> None:
    found: Counter[str] = Counter()
    for name in _NAMES:
        found += cells(histories(source)[name])
    assert set(found) == CELLS


@pytest.mark.skipif(not recordings.FOUND, reason=recordings.MISSING)
def test_every_source_has_recorded_answers() -> None:
    counts = {source: len(histories(source)["recorded"].nodes) for source in SOURCES}
    assert min(counts.values()) >= 3
    assert sum(counts.values()) > 150
    kinds = Counter(part.type for source in SOURCES for part in histories(source)["recorded"].parts())
    assert kinds.keys() >= {"text", "reasoning", "tool_call", "tool_result", "refusal", "hosted_tool", "file"}


def test_the_matrix_has_the_expected_sources_and_targets() -> None:
    assert len(SOURCES) >= 14
    assert len(TARGETS) >= 14
    assert {speaker.dialect for speaker in TARGETS.values()} == set(Dialect)
    chat = [speaker for speaker in TARGETS.values() if speaker.dialect is Dialect.OPENAI_CHAT]
    assert len({speaker.provider for speaker in chat}) >= 9


# ---------------------------------------------------------------------------------------------------- legal requests


@SOURCE
def test_requests_fit_the_types_of_the_vendors_sdk(source: str) -> None:
    with cases() as case:
        for name, hop in _half_of_hops(source):
            with case(name):
                assert _sdk_problems(hop)[:5] == []


@SOURCE
def test_the_strict_server_accepts_the_requests(source: str) -> None:
    with cases() as case:
        for name, hop in _hops(source):
            with case(name):
                assert _refusal(hop) is None


@SOURCE
def test_the_requests_follow_the_replay_rules(source: str) -> None:
    with cases() as case:
        for name, hop in _hops(source):
            with case(name):
                assert _violations(hop) == []


def _violations(hop: Hop) -> list[tuple[str, str]]:
    target = hop.target
    secrets = foreign(hop.history, target.origin)
    return violations(target.wire, str(target.provider), target.model, hop.wire.body, foreign=secrets)


# A rule of a target, its value when switched off, and a hop that needs the rule.
_DEMANDS: list[tuple[str, object, str, str, str]] = [
    ("alternates", False, "chat", "torn", "vllm"),
    ("alternates", False, "chat", "torn", "anthropic"),
    ("alternates", False, "chat", "torn", "gemini"),
    ("system_inside", True, "chat", "every kind", "xai"),
    ("system_inside", True, "chat", "every kind", "vllm"),
    ("prefill", True, "groq", "to be continued", "anthropic"),
    ("ragged_prefill", True, "groq", "to be continued", "claude-haiku-4-5"),
    ("bridge", "", "gemini", "every kind", "mistral"),
    ("call_ids", CallIds(re.compile(".*", re.DOTALL)), "xai", "strange ids", "mistral"),
    ("call_ids", CallIds(re.compile(".*", re.DOTALL)), "xai", "strange ids", "chat"),
    ("call_ids", CallIds(re.compile(".*", re.DOTALL)), "xai", "strange ids", "responses"),
    ("call_ids", CallIds(re.compile(".*", re.DOTALL)), "xai", "strange ids", "anthropic"),
    ("names", re.compile(".*", re.DOTALL), "xai", "strange ids", "gemini"),
    ("names", re.compile(".*", re.DOTALL), "xai", "strange ids", "groq"),
    ("files", any_file, "xai", "every kind", "deepseek"),
    ("generated", anything, "chat", "every kind", "chat"),
    ("refusals", True, "groq", "every kind", "groq"),
    ("hosted", anything, "groq", "every kind", "groq"),
    ("hosted_pairs", False, "anthropic", "every kind", "anthropic"),
    ("reasoning_back", "account", "anthropic", "every kind", "claude-haiku-4-5"),
]


@pytest.mark.parametrize(("demand", "lax", "source", "name", "target"), _DEMANDS)
def test_a_formatter_that_ignores_a_rule_of_the_target_fails_a_check(
    monkeypatch: pytest.MonkeyPatch, demand: str, lax: object, source: str, name: str, target: str
) -> None:
    """With a rule of the target switched off in the formatter, one of the checks or the driver refuses the request."""
    history, speaker = histories(source)[name], TARGETS[target]
    assert not _is_noticed(history, speaker)
    driver = driver_for(speaker.endpoint)
    forgetful = replace(driver.rules(speaker.endpoint), **{demand: lax})

    def rules(_driver: Driver, _endpoint: AIModelEndpoint) -> Rules:
        return forgetful

    monkeypatch.setattr(type(driver), "rules", rules)
    assert _is_noticed(history, speaker)


def _is_noticed(history: History, speaker: Speaker) -> bool:
    # plain messages, because formatted nodes are cached
    formatted = PromptFormatter.format_messages(history.messages(), speaker.endpoint, config=_CONFIG)
    try:
        hop = _sent(history, speaker, formatted, _CONFIG)
    except UnsupportedError:
        return True
    return bool(_violations(hop) or _refusal(hop))


# Fields of hosts of Chat Completions that OpenAI's types do not have.
_KNOBS = frozenset({"max_tokens", "stream_options", "thinking", "reasoning", "random_seed"})
_WORDS = frozenset({"reasoning", "reasoning_content", "reasoning_details", "prefix"})
_CHUNKS = frozenset({"thinking", "document_url", "video_url"})


def _sdk_problems(hop: Hop) -> list[str]:
    """Return the SDK's complaints about a request, without those about fields that only some hosts have."""
    body = cast("dict[str, object]", orjson.loads(hop.wire.body))
    match hop.target.wire:
        case "chat":
            body["messages"] = [_plain(message) for message in cast("list[dict[str, object]]", body["messages"])]
        case "responses":  # documented for users' messages, but missing in the SDK's union of parts
            for item in cast("list[dict[str, object]]", body["input"]):
                found = _taken_out(item, "input_audio")
                assert [problem for part in found for problem in mismatches(part, ResponseInputAudioParam)] == []
        case "anthropic":
            found = problems(hop.target.dialect, hop.wire.body, stream=True)
            # blocks of a beta feature are only in the types of that feature
            return found and mismatches(body, beta_messages.MessageCreateParamsStreaming)
        case "gemini":
            pass
    extras = _KNOBS if hop.target.wire == "chat" else ()
    return problems(hop.target.dialect, orjson.dumps(body), stream=True, extras=extras)


def _taken_out(item: dict[str, object], kind: str) -> list[dict[str, object]]:
    """Remove the parts of a kind from an item's content, and return them."""
    content = item.get("content")
    parts = cast("list[dict[str, object]]", content) if isinstance(content, list) else []
    found = [part for part in parts if part.get("type") == kind]
    if found:
        item["content"] = [part for part in parts if part not in found]
    return found


def _plain(message: dict[str, object]) -> dict[str, object]:
    plain = {key: item for key, item in message.items() if key not in _WORDS}
    content = message.get("content")
    if isinstance(content, list):
        parts = cast("list[dict[str, object]]", content)
        plain["content"] = [part for part in map(_openai_part, parts) if part.get("type") not in _CHUNKS]
    calls = cast("list[dict[str, object]]", message.get("tool_calls") or [])
    if calls:
        plain["tool_calls"] = [{key: item for key, item in call.items() if key != "extra_content"} for call in calls]
    return plain


def _openai_part(part: dict[str, object]) -> dict[str, object]:
    """Return a part in OpenAI's shape: audio is an object there, and plain base64 at Mistral."""
    if part.get("type") == "input_audio" and isinstance(part.get("input_audio"), str):
        return {"type": "input_audio", "input_audio": {"data": part["input_audio"], "format": "wav"}}
    return part


_SEGMENTS = {"google_ai": "google"}


def _refusal(hop: Hop) -> str | None:
    """Return why the loopback server refuses a request; None if it does not. It knows all seals of the target."""
    target, wire = hop.target, WIRE_DIALECTS[hop.target.dialect]
    provider = _SEGMENTS.get(str(target.provider), str(target.provider))
    version = "v1beta" if target.dialect is Dialect.GEMINI else "v1"
    path = hop.wire.path if hop.wire.path.startswith("/v1") else f"/{version}{hop.wire.path}"
    arrived = Arrived(
        provider=provider,
        path=path.partition("?")[0],
        query={},
        headers={"authorization": "Bearer key", **{name.lower(): text for name, text in hop.wire.headers.items()}},
        body=cast("Mapping[str, object]", orjson.loads(hop.wire.body)),
        issued={(target.model, text) for text in own_seals(hop.history, target.origin)},
    )
    try:
        for rule in wire.rules:
            rule(arrived)
    except Refusal as refusal:
        return refusal.message
    return None


# ---------------------------------------------------------------------------------------------------- opaque state


_SEALERS = ("anthropic", "responses", "gemini", "mistral", "openrouter")


@pytest.mark.parametrize("source", _SEALERS)
def test_parts_reported_as_native_keep_their_opaque_state(source: str) -> None:
    """Signatures and encrypted reasoning of native parts are in the request."""
    seals = 0
    for name in _HISTORIES:
        hop = _hop(source, name, source)
        body = "\0".join(_strings(orjson.loads(hop.wire.body)))
        parts = _parts(hop.history)
        for told in hop.formatted.report.parts:
            if told.message is None or told.part is None or told.outcome != "native":
                continue
            part = parts[told.message, told.part]
            # items of Responses need no id when stateless, and its calls and texts have no other seal
            wanted = [seal for seal in sealed(part) if not seal.startswith(("msg_", "fc_"))]
            assert [seal for seal in wanted if seal not in body] == [], (name, told)
            seals += len(wanted)
    assert seals >= 4


@SOURCE
def test_a_source_history_holds_opaque_state_of_that_source_only(source: str) -> None:
    """The checks for leaks need such state, and must not find that of another source."""
    history = histories(source)["every kind"]
    others = [target for target, speaker in TARGETS.items() if speaker.origin != SOURCES[source].origin]
    assert foreign(history, SOURCES[source].origin) == frozenset()
    assert len(others) == len(TARGETS) - 1
    assert all(len(foreign(history, TARGETS[target].origin)) >= 3 for target in others)


def test_a_paused_turn_is_sent_last_and_joined_with_its_continuation() -> None:
    """A hosted call without a result is sent only at the end of a paused turn, or with its result."""
    speaker = SOURCES["anthropic"]
    part = HostedToolPart(
        name="server_tool_use",
        tool="web_search",
        call_id="srvtoolu_1",
        input={"query": "rain"},
        provider_state={
            "type": "server_tool_use",
            "id": "srvtoolu_1",
            "name": "web_search",
            "input": {"query": "rain"},
        },
        origin=speaker.origin,
    )
    kind = "web_search_tool_result"
    found = part.model_copy(
        update={
            "name": kind,
            "input": None,
            "output": [],
            "provider_state": {"type": kind, "tool_use_id": "srvtoolu_1", "content": []},
        }
    )
    asked, paused, further = Message.user("Search."), Message.assistant(part), Message.user("What now?")
    turns: list[tuple[list[Message], list[str]]] = [
        ([asked, paused], ["user", "server_tool_use"]),
        ([asked, paused, further], ["user", "text", "user"]),
        ([asked, paused, Message.assistant(found), further], ["user", "server_tool_use", kind, "user"]),
        ([asked, paused, further, Message.assistant(found), further], ["user", "text", "user", "text", "user"]),
        ([asked, Message.assistant(found, "Rain."), further], ["user", "text", "text", "user"]),
        ([asked, Message.assistant(found, part), further], ["user", "text", "user"]),
    ]
    for messages, expected in turns:
        history = History((), tuple(messages))
        formatted = PromptFormatter.format_messages(messages, speaker.endpoint)
        hop = _sent(history, speaker, formatted, _CONFIG)
        assert (_violations(hop), _refusal(hop)) == ([], None), expected
        said = [
            part.name if isinstance(part, HostedToolPart) else "text" if message.role == "assistant" else "user"
            for message in formatted.messages
            for part in message.parts
        ]
        assert said == expected
        kept = [outcome.outcome == "native" for outcome in formatted.report.parts if outcome.kind == "hosted_tool"]
        assert sum(kept) == sum(name in (part.name, kind) for name in said)


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in cast("dict[str, object]", value).values():
            yield from _strings(item)
    elif isinstance(value, list):
        for item in cast("list[object]", value):
            yield from _strings(item)


def _parts(history: History) -> dict[tuple[int, int], Part]:
    return {
        (at, index): part for at, message in enumerate(history.messages()) for index, part in enumerate(message.parts)
    }


# ---------------------------------------------------------------------------------------------------- the report


@SOURCE
def test_the_report_has_each_part_once(source: str) -> None:
    with cases() as case:
        for name, hop in _hops(source):
            with case(name):
                _check_parts(hop)


def _check_parts(hop: Hop) -> None:
    messages, report = list(hop.history.messages()), hop.formatted.report
    told = [(entry.node, entry.message, entry.part, entry.kind) for entry in report.parts if entry.part is not None]
    assert told == [
        (message.node, at, index, part.type)
        for at, message in enumerate(messages)
        for index, part in enumerate(message.parts)
    ]
    made_up = [entry for entry in report.parts if entry.part is None]
    assert all(entry.outcome == "synthesised" for entry in made_up)
    assert {entry.message for entry in made_up} <= set(range(len(messages)))


@SOURCE
def test_the_report_has_a_reason_for_every_change(source: str) -> None:
    with cases() as case:
        for name, hop in _hops(source):
            with case(name):
                _check_entries(hop)


def _check_entries(hop: Hop) -> None:
    report, parts = hop.formatted.report, _parts(hop.history)
    noted = Counter((entry.message, entry.part) for entry in report.entries if entry.part is not None)
    changed = {(told.message, told.part) for told in report.parts if told.part is not None and told.outcome != "native"}
    whole = {
        entry.message for entry in report.entries if entry.kind == "message"
    }  # an entry for all parts of the message
    assert {place for place in changed if place not in noted and place[0] not in whole} == set()
    assert noted.keys() <= changed
    for entry in report.entries:
        assert entry.severity == SEVERITIES[entry.code]
        assert entry.target == hop.target.origin
        if entry.message is not None and entry.part is not None:
            part = parts[entry.message, entry.part]
            assert (entry.kind, entry.origin) == (part.type, part.origin)
    made_up = Counter((told.message, told.kind) for told in report.parts if told.part is None)
    told_of = Counter((entry.message, entry.kind) for entry in report.entries if entry.part is None)
    assert made_up <= told_of
    places = [entry.message or 0 for entry in report.entries]
    assert places == sorted(places)


@SOURCE
def test_a_strict_policy_raises_only_for_hops_with_losses(source: str) -> None:
    with cases() as case:
        for name, hop in _half_of_hops(source):
            with case(name):
                _check_strict_policy(hop)


def _check_strict_policy(hop: Hop) -> None:
    lossy = hop.formatted.report.lossy
    assert bool(lossy) == any(SEVERITIES[entry.code] == "lossy" for entry in hop.formatted.report.entries)
    if lossy:
        with pytest.raises(ConversionLossError) as caught:
            _formatted(hop.history, hop.target, policy=ConversionPolicy(strict=True))
        assert caught.value.entries == lossy
    else:
        again = _formatted(hop.history, hop.target, policy=ConversionPolicy(strict=True))
        assert again.messages == hop.formatted.messages


def test_the_matrix_has_hops_with_and_without_losses() -> None:
    lossy = [
        bool(_hop(source, name, target).formatted.report.lossy)
        for source in SOURCES
        for target in TARGETS
        for name in _NAMES
    ]
    assert 0 < sum(lossy) < len(lossy)
    codes = {
        entry.code
        for source in SOURCES
        for target in TARGETS
        for name in _NAMES
        for entry in _hop(source, name, target).formatted.report.entries
    }
    assert codes >= SEVERITIES.keys() - _ELSEWHERE


# Codes that these hops cannot have: of other policies, providers, modules, or forged histories.
_ELSEWHERE = frozenset(
    {
        *("reasoning_as_text", "reasoning_stripped_after_400", "server_dropped_reasoning", "tools_stubbed"),
        *("truncated", "state_dropped", "text_repaired"),
    }
)


@SOURCE
def test_the_report_prints_as_a_table_and_dumps_as_json(source: str) -> None:
    with cases() as case:
        for name, hop in _half_of_hops(source):
            with case(name):
                _check_report(hop.formatted.report)


def _check_report(report: ConversionReport) -> None:
    assert ConversionReport.model_validate_json(report.model_dump_json()) == report
    tally, _head, *rows = str(report).splitlines()
    assert tally == ", ".join(f"{number} {outcome}" for outcome, number in report.counts().items())
    assert sum(report.counts().values()) == len(report.parts)
    told = Counter((entry.message, entry.part) for entry in report.entries)
    for part in report.parts:
        if part.part is not None:
            told[part.message, part.part] = max(told[part.message, part.part], 1)
    assert len(rows) == sum(told.values())
    assert all(any(entry.code in row for row in rows) for entry in report.entries)
