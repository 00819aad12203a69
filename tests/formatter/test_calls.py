"""Tool calls formatted for another model: legal ids, one result behind each call, and stable output."""

import re
from collections.abc import Mapping, Sequence
from itertools import product

import pytest

from dhenara_async import (
    AIModel,
    AIModelAPI,
    AIModelAPIProviderEnum,
    AIModelEndpoint,
    ConversionReport,
    Dialect,
    FilePart,
    HostedToolPart,
    JsonPart,
    Message,
    PromptFormatter,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from dhenara_async.drivers.rules import CallIds
from dhenara_async.formatter.calls import CallsNamed, Ids, PairedCall, paired
from dhenara_async.formatter.conversion import ConversionPolicy
from dhenara_async.formatter.ledger import Ledger, SourceMessage
from dhenara_async.formatter.parts import Terms
from dhenara_async.formatter.summaries import NO_RESULT
from dhenara_async.hosts.registry import driver_for, expected_origin
from tests.steps import growth

_Provider = AIModelAPIProviderEnum


def _endpoint(
    provider: AIModelAPIProviderEnum, model: str, *, dialect: Dialect | None = None, base_url: str | None = None
) -> AIModelEndpoint:
    api = AIModelAPI(provider=provider, dialect=dialect, base_url=base_url, api_key="key")
    return AIModelEndpoint(api=api, ai_model=AIModel(model_name=model))


_TARGETS: Mapping[str, AIModelEndpoint] = {
    "responses": _endpoint(_Provider.OPEN_AI, "gpt-6.2-sol"),
    "chat": _endpoint(_Provider.OPEN_AI, "gpt-5", dialect=Dialect.OPENAI_CHAT),
    "messages": _endpoint(_Provider.ANTHROPIC, "claude-sonnet-5-5"),
    "gemini": _endpoint(_Provider.GOOGLE_AI, "gemini-3.8-flash"),
    "groq": _endpoint(_Provider.GROQ, "openai/gpt-oss-120b"),
    "deepseek": _endpoint(_Provider.DEEPSEEK, "deepseek-v4-pro"),
    "mistral": _endpoint(_Provider.MISTRAL, "mistral-large-4"),
    "vllm": _endpoint(_Provider.VLLM, "Qwen/Qwen3-8B", base_url="http://127.0.0.1/v1"),
}
TARGETS = pytest.mark.parametrize("target", _TARGETS)

# What each takes, in the words of its own refusals rather than of our rules.
_LEGAL: Mapping[str, str] = {
    "responses": r"(?s).{1,64}",
    "chat": r"(?s).{1,40}",
    "messages": r"(?!srvtoolu_)[a-zA-Z0-9_-]{1,64}",
    "gemini": r"(?s).*",
    "groq": r"(?s).{1,40}",
    "deepseek": r"(?s).{1,40}",
    "mistral": r"[a-zA-Z0-9]{9}",
    "vllm": r"(?s).{1,40}",
}


def _ids(target: str) -> CallIds:
    return driver_for(_TARGETS[target]).rules(_TARGETS[target]).call_ids


def _call(call_id: str, name: str = "add", arguments: str = "{}") -> ToolCallPart:
    return ToolCallPart(call_id=call_id, name=name, arguments=arguments)


def _formatted(target: str, history: Sequence[Message]) -> tuple[Sequence[Message], ConversionReport]:
    formatted = PromptFormatter.format_messages(history, _TARGETS[target])
    return formatted.messages, formatted.report


def _pairs(messages: Sequence[Message]) -> list[tuple[ToolCallPart, ToolResultPart]]:
    """Every call with its result; each answer's results stand at the head of the very next message, in order."""
    found: list[tuple[ToolCallPart, ToolResultPart]] = []
    results = 0
    for at, message in enumerate(messages):
        results += sum(isinstance(part, ToolResultPart) for part in message.parts)
        calls = [part for part in message.parts if isinstance(part, ToolCallPart)]
        if calls:
            assert message.role is Role.ASSISTANT
            behind = messages[at + 1]
            assert behind.role is Role.USER
            for call, result in zip(calls, behind.parts, strict=False):
                assert isinstance(result, ToolResultPart)
                assert (result.call_id, result.name) == (call.call_id, call.name)
                found.append((call, result))
    assert len(found) == results  # none besides
    return found


# ---------------------------------------------------------------------------------------------------- ids


class TestCallIds:
    """The wire form of one call id."""

    @pytest.mark.parametrize(
        ("target", "call_id"),
        [
            *product(("responses", "chat", "groq", "deepseek", "vllm"), ("call_1", "functions.x:0", "x" * 40, "é\n")),
            *product(("messages",), ("toolu_01Ab-c", "call_1", "x" * 64)),
            *product(("gemini",), ("", "call_1", "x" * 500)),
            ("responses", "x" * 64),
            ("mistral", "abcDEF012"),
        ],
    )
    def test_a_legal_id_is_unchanged(self, target: str, call_id: str) -> None:
        assert _ids(target).legal(call_id) == call_id

    @pytest.mark.parametrize(
        ("target", "call_id"),
        [
            *product(("responses", "chat", "groq", "messages", "mistral"), ("", "x" * 65)),
            *product(("messages",), ("functions.x:0", "é", "srvtoolu_1", "a\n", "x" * 65)),
            *product(("mistral",), ("call_1", "abcDEF01", "abcDEF0123", "abc-EF012", "abcDEF012\n", "abcDEF01é")),
            ("chat", "x" * 41),
        ],
    )
    def test_an_illegal_id_becomes_a_legal_id(self, target: str, call_id: str) -> None:
        made = _ids(target).legal(call_id)
        assert made != call_id
        assert re.fullmatch(_LEGAL[target], made)

    @TARGETS
    def test_ten_thousand_illegal_ids_become_distinct_legal_ids(self, target: str) -> None:
        seeds = [f"toolu_01{'x' * 60}|{number}" for number in range(10_000)]
        made = [_ids(target).legal(seed) for seed in seeds]
        assert len(set(made)) == 10_000
        assert all(re.fullmatch(_LEGAL[target], name) for name in made)
        assert made[:50] == [_ids(target).legal(seed) for seed in seeds[:50]]

    def test_generated_ids_are_the_same_in_every_version(self) -> None:
        """The prompt caches of providers hold these ids: a changed id would invalidate such a cache."""
        assert _ids("mistral").legal("call_1") == "RksXkbv4v"
        assert _ids("chat").legal("x" * 83) == "call_8QUWo9JFmJCkSdpc3F3I24ty"

    def test_an_id_with_a_lone_surrogate_becomes_a_legal_id(self) -> None:
        assert re.fullmatch(_LEGAL["mistral"], _ids("mistral").legal("\ud83d"))


class TestIds:
    """The wire forms of all call ids of one conversation."""

    @staticmethod
    def named(
        target: str, calls: Sequence[ToolCallPart], before: CallsNamed | None = None
    ) -> tuple[list[PairedCall], Ledger]:
        endpoint = _TARGETS[target]
        terms = Terms(endpoint, expected_origin(endpoint), driver_for(endpoint).rules(endpoint), ConversionPolicy())
        ledger = Ledger(terms.target)
        ids = Ids(terms, ledger, before or CallsNamed())
        source = SourceMessage.of(1, Message.assistant(*calls))
        return [ids.named(source, index, call, call) for index, call in enumerate(calls)], ledger

    @TARGETS
    def test_calls_with_empty_or_equal_ids_get_distinct_ids(self, target: str) -> None:
        """Ids are generated from name and arguments; equal calls differ by their position."""
        given = [_call(call_id, arguments=arguments) for call_id in ("", "a", "abcDEF012") for arguments in "1122"]
        named, ledger = self.named(target, given)
        wire = [call.part.call_id for call in named]
        assert all(re.fullmatch(_LEGAL[target], name) for name in wire)
        sent = [name for name in wire if name]
        assert len(set(sent)) == len(sent)
        assert len(sent) == (8 if target == "gemini" else 12)  # which needs no ids where there are none
        assert [call.part.call_id for call in self.named(target, given)[0]] == wire
        rewritten = [index for index, name in enumerate(wire) if name != given[index].call_id]
        assert [(entry.code, entry.message, entry.part) for entry in ledger.entries] == [
            ("id_rewritten", 1, index) for index in rewritten
        ]

    @TARGETS
    def test_ids_of_later_turns_differ_from_ids_of_earlier_turns(self, target: str) -> None:
        before = CallsNamed()
        waves = [self.named(target, [_call("abcDEF012"), _call("x" * 83)], before)[0] for _turn in range(20)]
        wire = [call.part.call_id for wave in waves for call in wave]
        assert len(set(wire)) == 40
        assert before.taken == set(wire)

    @pytest.mark.parametrize("target", ["responses", "chat", "messages", "mistral"])
    def test_ten_thousand_calls_with_one_id_get_distinct_legal_ids(self, target: str) -> None:
        calls = [_call("abcDEF012", arguments=f"{{{number % 10}}}") for number in range(10_000)]
        named, _ledger = self.named(target, calls)
        wire = [call.part.call_id for call in named]
        assert len(set(wire)) == 10_000
        assert wire[0] == "abcDEF012"
        assert all(re.fullmatch(_LEGAL[target], name) for name in wire)

    def test_a_generated_id_differs_from_an_equal_given_id(self) -> None:
        """A given id can equal the id generated for another call."""
        named, _ledger = self.named("mistral", [_call("RksXkbv4v"), _call("call_1"), _call("RksXkbv4v")])
        wire = [call.part.call_id for call in named]
        assert wire[0] == "RksXkbv4v"
        assert len(set(wire)) == 3


# ---------------------------------------------------------------------------------------------------- pairs


def _asked(*parts: ToolResultPart | TextPart) -> list[SourceMessage]:
    return [SourceMessage.of(2, Message(role=Role.USER, parts=parts))]


class TestPaired:
    """Pairs of calls and results."""

    @staticmethod
    def calls(*given: ToolCallPart) -> list[PairedCall]:
        source = SourceMessage.of(1, Message.assistant(*given))
        return [PairedCall(source, index, call, call) for index, call in enumerate(given)]

    @staticmethod
    def told(calls: Sequence[PairedCall]) -> list[str | None]:
        return [None if call.result is None else call.result[2].get_text() for call in calls]

    def test_results_in_any_order_are_paired_by_id(self) -> None:
        one, two = _call("a"), _call("b")
        calls = self.calls(one, two)
        results = (ToolResultPart.of(two, "second"), TextPart(text="and"), ToolResultPart.of(one, "first"))
        assert paired(calls, _asked(*results)) == {(2, 0), (2, 2)}
        assert self.told(calls) == ["first", "second"]

    def test_results_of_equal_ids_are_paired_in_order(self) -> None:
        one, two = _call("a"), _call("a", arguments='{"b": 1}')
        calls = self.calls(one, two)
        results = [ToolResultPart.of(call, str(at)) for at, call in enumerate((one, two, two))]
        assert paired(calls, _asked(*results)) == {(2, 0), (2, 1)}  # the third answers nothing
        assert self.told(calls) == ["0", "1"]

    def test_results_without_an_id_are_paired_by_name(self) -> None:
        calls = self.calls(_call("", "add"), _call("", "now"), _call("", "add"))
        results = [
            ToolResultPart(call_id="", name=name, content=[TextPart(text=said)])
            for name, said in (("now", "noon"), ("add", "3"), ("", "4"), ("add", "5"))
        ]
        assert paired(calls, _asked(*results)) == {(2, 0), (2, 1), (2, 2)}
        assert self.told(calls) == ["3", "noon", "4"]

    def test_a_result_with_an_id_is_not_paired_with_a_call_without_one(self) -> None:
        calls = self.calls(_call("", "add"))
        assert paired(calls, _asked(ToolResultPart(call_id="x", name="add"))) == set()
        assert self.told(calls) == [None]

    @pytest.mark.parametrize("has_ids", [True, False])
    @pytest.mark.parametrize("apart", [True, False])
    def test_time_for_pairing_grows_linearly_with_the_number_of_calls(self, has_ids: bool, apart: bool) -> None:
        """The results come in reverse order, in one message or each in a message of its own."""

        def work(size: int) -> None:
            calls = [_call(f"call_{at}" if has_ids else "", f"tool_{at}") for at in range(size)]
            results = [ToolResultPart.of(call, "done") for call in reversed(calls)]
            told = [Message.user(result) for result in results] if apart else [Message.user(*results)]
            messages, _report = _formatted("gemini", [Message.user("go"), Message.assistant(*calls), *told])
            assert [result.name for _call, result in _pairs(messages)] == [call.name for call in calls]

        assert growth(work, 200) < 2.3


# ---------------------------------------------------------------------------------------------------- whole histories


@TARGETS
def test_each_call_is_followed_by_its_result_for_any_order_of_the_history(target: str) -> None:
    calls = [_call("x" * 83, arguments='{"n": 0}'), _call("toolu_1"), _call(""), _call("", "now"), _call("toolu_1")]
    results = [ToolResultPart.of(call, str(at)) for at, call in enumerate(calls)]
    history = [
        Message.user("q"),
        Message.assistant("I call.", *calls),
        Message.user("wait", results[3], results[1]),
        Message.system("be brief"),
        Message.user(results[4], "go on", results[2], results[0]),
    ]
    messages, report = _formatted(target, history)
    pairs = _pairs(messages)
    assert [result.get_text() for _call, result in pairs] == ["0", "1", "2", "3", "4"]
    assert [call.name for call, _result in pairs] == ["add", "add", "add", "now", "add"]
    assert all(re.fullmatch(_LEGAL[target], call.call_id) for call, _result in pairs)
    sent = [call.call_id for call, _result in pairs if call.call_id]
    assert len(set(sent)) == len(sent)
    said = [part.text for message in messages for part in message.parts if isinstance(part, TextPart)]
    assert [text for text in said if text in ("q", "I call.", "wait", "go on")] == ["q", "I call.", "wait", "go on"]
    assert not {"tool_result_as_text", "tool_result_synthesized"} & {entry.code for entry in report.entries}
    assert _formatted(target, history) == (messages, report)
    assert _formatted(target, messages)[0] == messages  # a legal history is unchanged


@TARGETS
def test_a_call_without_a_result_gets_a_synthesised_error_result(target: str) -> None:
    one, two = _call("call_1"), _call("call_2")
    history = [Message.user("q"), Message.assistant(one, two), Message.user(ToolResultPart.of(two, 2), "and?")]
    messages, report = _formatted(target, history)
    made, told = (result for _call, result in _pairs(messages))
    assert (made.get_text(), made.is_error) == (NO_RESULT, True)
    assert (told.get_text(), told.is_error) == ("2", False)
    (entry,) = (entry for entry in report.entries if entry.code == "tool_result_synthesized")
    assert (entry.severity, entry.message, entry.kind) == ("degraded", 1, "tool_result")
    assert [part.outcome for part in report.parts if part.part is None and part.kind == "tool_result"] == [
        "synthesised"
    ]


@TARGETS
@pytest.mark.parametrize("late", [False, True], ids=["never called", "after the next answer"])
def test_a_result_without_a_call_becomes_text(target: str, late: bool) -> None:
    call = _call("call_1", "weather")
    result = ToolResultPart.of(call, "sun", {"degrees": 21})
    before = [Message.assistant(call), Message.user("never mind"), Message.assistant("well")] if late else []
    messages, report = _formatted(target, [Message.user("q"), *before, Message.user(result, "so?")])
    assert [made.get_text() for _call, made in _pairs(messages)] == ([NO_RESULT] if late else [])
    words = [part.text for message in messages for part in message.parts if isinstance(part, TextPart)]
    assert words.count('[result of weather: sun\n{"degrees":21}]') == 1
    (entry,) = (entry for entry in report.entries if entry.code == "tool_result_as_text")
    assert (entry.message, entry.part, entry.kind) == (1 + len(before), 0, "tool_result")


@TARGETS
def test_a_longer_history_begins_with_the_messages_of_the_shorter_one(target: str) -> None:
    """The ids of its calls are empty, or equal in every turn."""
    history: list[Message] = []
    for number in range(4):
        call = _call("x" * 83 if number else "")
        history += [
            Message.user(f"q{number}"),
            Message.assistant(call),
            Message.user(ToolResultPart.of(call, number)),
            Message.assistant("so"),
        ]
    whole, _report = _formatted(target, [*history, Message.user("end")])
    for turns in range(1, 4):
        part, _report = _formatted(target, [*history[: 4 * turns], Message.user(f"q{turns}")])
        assert list(whole[: len(part)]) == list(part)
    pairs = _pairs(whole)
    assert [result.get_text() for _call, result in pairs] == ["0", "1", "2", "3"]
    sent = [call.call_id for call, _result in pairs if call.call_id]
    assert len(set(sent)) == len(sent) >= 3


@TARGETS
def test_an_interrupted_call_is_dropped_and_its_result_becomes_text(target: str) -> None:
    broken = ToolCallPart(call_id="call_1", name="add", arguments='{"a', status="interrupted")
    whole = _call("call_2")
    results = [ToolResultPart.of(whole, "2"), ToolResultPart.of(broken, "never ran", is_error=True)]
    messages, report = _formatted(target, [Message.user("q"), Message.assistant(broken, whole), Message.user(*results)])
    assert [(call.name, result.get_text()) for call, result in _pairs(messages)] == [("add", "2")]
    assert {"turn_dropped", "tool_result_as_text"} <= {entry.code for entry in report.entries}


@TARGETS
def test_an_illegal_tool_name_becomes_one_legal_name_for_call_and_result(target: str) -> None:
    call = _call("call_1", "1.weather in/Zürich")
    messages, _report = _formatted(
        target, [Message.user("q"), Message.assistant(call), Message.user(ToolResultPart.of(call, "sun"))]
    )
    ((sent, result),) = _pairs(messages)
    assert re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_-]{0,63}" if target == "gemini" else r"[a-zA-Z0-9_-]{1,64}", sent.name)
    assert sent.name == result.name == ("_" if target == "gemini" else "") + "1_weather_in_Z_rich"


@TARGETS
def test_arguments_that_are_not_an_object_are_wrapped_in_an_object(target: str) -> None:
    calls = [_call(f"call_{at}", arguments=given) for at, given in enumerate(('{"a": 1}', "", '{"a":', "[1]"))]
    results = [ToolResultPart.of(call, "ok") for call in calls]
    messages, report = _formatted(target, [Message.user("q"), Message.assistant(*calls), Message.user(*results)])
    sent = [call.arguments for call, _result in _pairs(messages)]
    assert sent == ['{"a": 1}', "", '{"_raw":"{\\"a\\":"}', '{"_raw":"[1]"}']
    assert [entry.part for entry in report.entries if entry.code == "arguments_wrapped"] == [2, 3]


@TARGETS
def test_files_of_results_move_behind_all_results_if_the_target_takes_none_inside(target: str) -> None:
    picture = FilePart(media_type="image/png", data=b"\x89PNG\r\n\x1a\npixels")
    one, two = _call("call_1"), _call("call_2")
    results = [ToolResultPart.of(one, picture), ToolResultPart.of(two, JsonPart(value=2))]
    messages, report = _formatted(target, [Message.user("q"), Message.assistant(one, two), Message.user(*results)])
    inside = [part for _call, result in _pairs(messages) for part in result.content if isinstance(part, FilePart)]
    beside = [part for message in messages for part in message.parts if isinstance(part, FilePart)]
    if target in ("responses", "messages", "gemini"):
        assert (inside, beside, report.lossy) == ([picture], [], ())
    else:
        assert (inside, beside) == ([], [picture])
        assert "media_moved" in {entry.code for entry in report.entries}


@pytest.mark.parametrize("answer", [" ", ToolCallPart(call_id="b", name="f", arguments="{", status="interrupted")])
def test_a_bridge_turn_replaces_an_empty_answer_between_result_and_question(answer: str | ToolCallPart) -> None:
    call = _call("call_1")
    history = [
        Message.user("add"),
        Message.assistant(call),
        Message.user(ToolResultPart.of(call, 2)),
        Message.assistant(answer),
        Message.user("and now?"),
    ]
    messages, report = _formatted("mistral", history)
    assert [(message.role.value, message.get_text()) for message in messages] == [
        ("user", "add"),
        ("assistant", ""),
        ("user", ""),
        ("assistant", "OK"),
        ("user", "and now?"),
    ]
    (entry,) = (entry for entry in report.entries if entry.code == "turn_inserted")
    assert entry.message == 3


def test_time_for_pairing_hosted_calls_grows_linearly() -> None:
    def work(size: int) -> None:
        asked = [HostedToolPart(name="search", call_id=f"s{at}", input={"query": f"q{at}"}) for at in range(size)]
        gave = [HostedToolPart(name="search", call_id=f"s{at}", output=[at]) for at in reversed(range(size))]
        messages, _report = _formatted("gemini", [Message.user("go"), Message.assistant(*asked, *gave)])
        said = [part.text for message in messages for part in message.parts if isinstance(part, TextPart)]
        assert [text for text in said if "→ 1 result" in text] == [f'[search "q{at}" → 1 result]' for at in range(size)]

    assert growth(work, 100) < 2.3
