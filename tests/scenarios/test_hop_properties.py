"""Properties of formatting for every conversation and every target, checked with random conversations.

Each run tries the same few conversations, so that it is quick and stable; ``DHENARA_SOAK=1`` tries four times as many.
Any number of them, new ones each time::

    DHENARA_EXAMPLES=2000 python -m pytest tests/scenarios/test_hop_properties.py

``DHENARA_EXAMPLES`` is the number of conversations for each property; each goes to all targets. Hypothesis prints the
smallest conversation that fails.
"""

import os
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec

import orjson
import pytest
from hypothesis import HealthCheck, assume, given, note, settings
from hypothesis import strategies as st

from dhenara_async import (
    AIModelCallConfig,
    ConversationNode,
    ConversionPolicy,
    ConversionReport,
    Dialect,
    FilePart,
    FormattedConversation,
    HostedToolPart,
    Message,
    PromptFormatter,
    ReasoningPart,
    RefusalPart,
    Role,
    ToolCallPart,
    ToolResultPart,
)
from dhenara_async.errors import ConfigurationError, ConversionLossError, UnsupportedError
from dhenara_async.formatter.conversion import SEVERITIES
from dhenara_async.messages.messages import JsonPart, Part, PartBase, TextPart
from tests.conversations import (
    TARGETS,
    Talk,
    Target,
    encoded,
    message_lists,
    parts_of,
    refusal,
    seals,
    talks,
    wire_turns,
)
from tests.replay_rules import Wire, violations

_MORE = int(os.environ.get("DHENARA_EXAMPLES", "0"))
_SHARE = 1 if os.environ.get("DHENARA_SOAK") == "1" else 4
_LEADS = ("Be kind.",)
_CONFIGS = st.sampled_from((AIModelCallConfig(), AIModelCallConfig(max_output_tokens=4000, reasoning=True)))
_LENIENT = st.builds(
    ConversionPolicy,
    foreign_reasoning=st.sampled_from(("omit", "as_text")),
    media=st.sampled_from(("omit", "describe")),
    max_inlined_bytes=st.sampled_from((None, None, 8)),
)
_ANY = st.builds(ConversionPolicy, media=st.sampled_from((None, "refuse")))

_WIRES: Mapping[str, Wire] = {
    Dialect.ANTHROPIC_MESSAGES: "anthropic",
    Dialect.OPENAI_RESPONSES: "responses",
    Dialect.GEMINI: "gemini",
    Dialect.OPENAI_CHAT: "chat",
}

_Tried = ParamSpec("_Tried")


def _tried(examples: int) -> Callable[[Callable[_Tried, None]], Callable[_Tried, None]]:
    """Set the number of conversations of a property in a soak; a plain run tries a quarter of them."""
    return settings(
        max_examples=_MORE or -(-examples // _SHARE),
        derandomize=not _MORE,
        database=None,
        deadline=None,
        suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example),
    )


# ---------------------------------------------------------------------------------------------------- expectations


def _strays(messages: Iterable[Message]) -> list[str]:
    """Return the parts that the role of their message cannot have, which is the caller's mistake."""
    found: list[str] = []
    for message in messages:
        for part in message.parts:
            match part:
                case ToolResultPart():
                    wrong = message.role is not Role.USER
                case ReasoningPart() | ToolCallPart() | HostedToolPart():
                    wrong = message.role is not Role.ASSISTANT
                case RefusalPart():
                    wrong = message.role is Role.SYSTEM and bool(part.text.strip())
                case _:
                    wrong = False
            if wrong:
                found.append(part.type)
    return found


def _may_be_refused(messages: Sequence[Message], policy: ConversionPolicy) -> bool:
    """Whether the policy allows a refusal because of a file: of any file, or of one in the current question."""
    last = max((at for at, message in enumerate(messages) if message.role is Role.ASSISTANT), default=-1)
    looked_at = {"refuse": messages, None: messages[last + 1 :]}.get(policy.media, ())
    return any(isinstance(part, FilePart) for _message, part in parts_of(looked_at))


def _stays_away(message: Message, part: PartBase, target: Target) -> bool:
    """Whether the opaque state of a part must not be sent to the target."""
    if part.origin is None or not part.origin.same_model(target.origin):
        return True
    if isinstance(part, ReasoningPart):
        return _broke_off(message)
    sources_only = isinstance(part, TextPart) and "citations" in (part.provider_state or {})
    return part.status == "interrupted" and not sources_only


def _broke_off(message: Message) -> bool:
    return message.status == "interrupted" or any(part.status == "interrupted" for part in message.parts)


def _is_unthought(message: Message, part: ReasoningPart, target: Target) -> bool:
    """Whether the text of reasoning must not be sent to the target under the default policy."""
    if part.origin is None or _broke_off(message):
        return True
    match target.rules.reasoning_back:
        case None:
            return True
        case "model":
            return not part.origin.same_model(target.origin)
        case "account":
            return not part.origin.same_account(target.origin)


def _own_seals(messages: Iterable[Message], target: Target) -> set[str]:
    own = (part for _message, part in parts_of(messages) if part.origin is not None)
    return {
        seal
        for part in own
        if part.origin is not None and part.origin.same_model(target.origin)
        for seal in seals(part.provider_state)
    }


def _formatted(
    talk: Talk, target: Target, policy: ConversionPolicy, config: AIModelCallConfig | None = None
) -> FormattedConversation:
    return PromptFormatter.format_conversation(
        talk.nodes, target.endpoint, policy=policy, asked=talk.asked, instructions=_LEADS, config=config
    )


def _body(formatted: FormattedConversation, target: Target, config: AIModelCallConfig | None = None) -> bytes:
    return encoded(formatted.messages, target, config, _LEADS).body


def _asks(formatted: FormattedConversation) -> bool:
    """Whether there is a question; instructions alone are none."""
    return any(message.role is not Role.SYSTEM for message in formatted.messages)


def _say(name: str, target: Target) -> None:
    note(f"target: {name} ({target.origin.model}); more: DHENARA_EXAMPLES=2000 python -m pytest {__file__}")


# ---------------------------------------------------------------------------------------------------- properties


def _secrets(messages: Iterable[Message], target: Target, *, as_text: bool) -> tuple[set[str], set[str]]:
    """Return the texts that must not be sent to the target, and the reasoning that must be sent as text.

    Args:
        messages: The conversation.
        target: Who is asked.
        as_text: Whether the policy sends foreign reasoning as text.
    """
    hidden, shown, free = set[str](), set[str](), set[str]()
    for message, part in parts_of(messages):
        sealed = {*seals(part.provider_state)}
        if _stays_away(message, part, target):
            hidden |= sealed
        else:
            free |= sealed  # reasoning without text has the same seal each time
        if isinstance(part, ReasoningPart) and part.text and _is_unthought(message, part, target):
            same = part.origin is not None and part.origin.same_model(target.origin)
            (shown if as_text and not same and not _broke_off(message) else hidden).add(part.text)
    return hidden - free, shown


def _check_legal(
    messages: Sequence[Message],
    formatted: FormattedConversation,
    target: Target,
    policy: ConversionPolicy,
    config: AIModelCallConfig,
) -> None:
    """Check that the formatted history encodes, that the strict server accepts it, and that it leaks no secret."""
    if not _asks(formatted):
        return
    wire = encoded(formatted.messages, target, config, _LEADS)
    assert refusal(wire, target, _own_seals(messages, target)) is None
    hidden, shown = _secrets(messages, target, as_text=policy.foreign_reasoning == "as_text")
    body = wire.body.decode()
    assert not [secret for secret in hidden if secret in body]
    assert not [words for words in shown if words not in body]
    origin = target.origin
    assert not violations(_WIRES[origin.dialect], origin.provider, origin.model, wire.body, foreign=hidden)


@_tried(120)
@given(talks(), _LENIENT, _CONFIGS)
def test_every_conversation_is_legal_for_every_target_and_leaks_no_secret(
    talk: Talk, policy: ConversionPolicy, config: AIModelCallConfig
) -> None:
    messages = talk.messages()
    for name, target in TARGETS.items():
        _say(name, target)
        _check_legal(messages, _formatted(talk, target, policy, config), target, policy, config)


def _at_home(name: str) -> st.SearchStrategy[tuple[str, Talk]]:
    return talks(home=name).map(lambda talk: (name, talk))


@_tried(400)
@given(st.sampled_from(list(TARGETS)).flatmap(_at_home), _LENIENT, _CONFIGS)
def test_parts_that_return_to_their_model_are_legal_and_unchanged(
    at_home: tuple[str, Talk], policy: ConversionPolicy, config: AIModelCallConfig
) -> None:
    name, talk = at_home
    target = TARGETS[name]
    _say(name, target)
    formatted = _formatted(talk, target, policy, config)
    _check_legal(talk.messages(), formatted, target, policy, config)
    _check_total(talk.messages(), formatted, target)
    again = PromptFormatter.format_messages(
        formatted.messages, target.endpoint, policy=policy, instructions=_LEADS, config=config
    )
    assert again.messages == formatted.messages


@_tried(120)
@given(message_lists(), _LENIENT, _CONFIGS)
def test_messages_in_any_order_are_legal_everywhere_and_tell_no_secrets(
    messages: list[Message], policy: ConversionPolicy, config: AIModelCallConfig
) -> None:
    for name, target in TARGETS.items():
        _say(name, target)
        formatted = PromptFormatter.format_messages(
            messages, target.endpoint, policy=policy, instructions=_LEADS, config=config
        )
        _check_legal(messages, formatted, target, policy, config)


@_tried(80)
@given(message_lists(misplaced=True), _ANY)
def test_only_unsendable_messages_are_refused_with_a_typed_error(
    messages: list[Message], policy: ConversionPolicy
) -> None:
    strays = _strays(messages)
    for name, target in TARGETS.items():
        _say(name, target)
        try:
            formatted = PromptFormatter.format_messages(messages, target.endpoint, policy=policy)
            if _asks(formatted):
                encoded(formatted.messages, target)
        except UnsupportedError:
            assert strays or _may_be_refused(messages, policy)
        else:
            assert not strays


def _trimmed(part: Part) -> Part:
    """Return a part without white space at its end, which the last part may lose."""
    return part.model_copy(update={"text": part.text.rstrip()}) if isinstance(part, TextPart) else part


def _plain(part: Part) -> Part:
    """Return a part without opaque state; a result without its name, which is that of its call."""
    return part.model_copy(update={"provider_state": None} | ({"name": ""} if isinstance(part, ToolResultPart) else {}))


def _check_total(messages: Sequence[Message], formatted: FormattedConversation, target: Target) -> None:
    report = formatted.report
    sent = [_trimmed(part) for message in formatted.messages for part in message.parts]
    plainly = [_plain(part) for part in sent]
    handed_in = [
        (message.node, at, index, part.type)
        for at, message in enumerate(messages)
        for index, part in enumerate(message.parts)
    ]
    accounted = [(part.node, part.message, part.part, part.kind) for part in report.parts if part.part is not None]
    assert accounted == handed_in
    told = {(entry.message, entry.part) for entry in report.entries}
    for part in report.parts:
        if part.outcome == "native":
            assert part.message is not None
            assert part.part is not None
            given = _trimmed(messages[part.message].parts[part.part])
            is_own = given.origin is not None and given.origin.same_model(target.origin)
            assert given in sent if is_own else _plain(given) in plainly
        else:
            assert {(part.message, part.part), (part.message, None)} & told
    for entry in report.entries:
        assert entry.severity == SEVERITIES[entry.code]
        assert entry.message is not None
        message = messages[entry.message]
        assert entry.node == message.node
        if entry.part is not None:
            assert (entry.kind, entry.origin) == (message.parts[entry.part].type, message.parts[entry.part].origin)
    assert [entry.message for entry in report.entries] == sorted(entry.message or 0 for entry in report.entries)
    assert ConversionReport.model_validate_json(report.model_dump_json()) == report
    made_up = sum(part.outcome == "synthesised" for part in report.parts)
    assert sum(report.counts().values()) == len(handed_in) + made_up
    assert str(report)


def _check_nothing_vanishes(messages: Sequence[Message], formatted: FormattedConversation) -> None:
    """Check that every part that the report does not call omitted is in the messages."""
    sent = [part for _message, part in parts_of(formatted.messages)]
    words = "\n".join(part.get_text() for part in sent if isinstance(part, TextPart | RefusalPart | JsonPart))
    files = [part.model_copy(update={"provider_state": None}) for part in sent if isinstance(part, FilePart)]
    gone = {(entry.message, entry.part) for entry in formatted.report.entries if entry.code == "media_dropped"}
    for outcome in formatted.report.parts:
        if outcome.part is None or outcome.message is None or outcome.outcome == "omitted":
            continue
        message = messages[outcome.message]
        piece = message.model_copy(update={"parts": (message.parts[outcome.part],)})
        for _message, part in parts_of([piece]):
            if isinstance(part, TextPart | RefusalPart | JsonPart):
                assert part.get_text().strip() in words
            elif isinstance(part, FilePart) and (outcome.message, outcome.part) not in gone:
                assert part.model_copy(update={"provider_state": None}) in files


@_tried(30)
@given(talks(), message_lists(), _LENIENT)
def test_the_report_has_every_part_and_a_strict_policy_raises_for_losses_only(
    talk: Talk, messages: list[Message], policy: ConversionPolicy
) -> None:
    strict = policy.model_copy(update={"strict": True})
    for name, target in TARGETS.items():
        _say(name, target)
        spoken = partial(PromptFormatter.format_messages, messages, target.endpoint)
        for handed_in, lenient, strictly in (
            (talk.messages(), _formatted(talk, target, policy), partial(_formatted, talk, target, strict)),
            (messages, spoken(policy=policy), partial(spoken, policy=strict)),
        ):
            _check_total(handed_in, lenient, target)
            _check_nothing_vanishes(handed_in, lenient)
            if lenient.report.lossy:
                with pytest.raises(ConversionLossError) as raised:
                    strictly()
                assert raised.value.entries == lenient.report.lossy
            else:
                assert strictly() == lenient


@_tried(80)
@given(talks(), _LENIENT, _CONFIGS)
def test_formatting_twice_changes_nothing(talk: Talk, policy: ConversionPolicy, config: AIModelCallConfig) -> None:
    for name, target in TARGETS.items():
        _say(name, target)
        once = _formatted(talk, target, policy, config)
        twice = PromptFormatter.format_messages(
            once.messages, target.endpoint, policy=policy, instructions=_LEADS, config=config
        )
        assert twice.messages == once.messages
        if _asks(once):
            assert _body(twice, target, config) == _body(once, target, config)
            assert not {"id_rewritten", "turn_inserted", "tool_result_synthesized", "arguments_wrapped"} & {
                entry.code for entry in twice.report.entries
            }


@_tried(100)
@given(message_lists(), _LENIENT)
def test_formatting_formatted_messages_changes_nothing(messages: list[Message], policy: ConversionPolicy) -> None:
    for name, target in TARGETS.items():
        _say(name, target)
        once = PromptFormatter.format_messages(messages, target.endpoint, policy=policy)
        twice = PromptFormatter.format_messages(once.messages, target.endpoint, policy=policy)
        assert twice.messages == once.messages


# ---------------------------------------------------------------------------------------------------- growing histories


def _asked_of(node: ConversationNode) -> list[Message]:
    """Return the messages of a node's request; a file id refers to the store of the provider that answered."""
    asked = [message for message in node.as_messages() if message.role is Role.USER]
    return [message.model_copy(update={"node": None}) for message in asked]


@_tried(25)
@given(talks(), _LENIENT)
def test_replayed_answers_have_the_same_bytes_in_every_request(talk: Talk, policy: ConversionPolicy) -> None:
    for name, target in TARGETS.items():
        _say(name, target)
        before: list[bytes] = []
        for turn in range(len(talk.nodes) + 1):
            node = None if turn == len(talk.nodes) else talk.nodes[turn]
            asked = talk.asked if node is None else _asked_of(node)
            if not _asks(PromptFormatter.format_messages(asked, target.endpoint, policy=policy)):
                continue  # no question, so there was no request
            formatted = PromptFormatter.format_conversation(
                talk.nodes[:turn], target.endpoint, policy=policy, asked=asked, instructions=_LEADS
            )
            now = [orjson.dumps(entry) for entry in wire_turns(encoded(formatted.messages, target, None, _LEADS))]
            assert now[: len(before)] == before
            if node is not None and _is_answered(node, target, policy):
                before = now


def _is_answered(node: ConversationNode, target: Target, policy: ConversionPolicy) -> bool:
    """Whether the target sees an answer of the node, so that later messages are not merged with its question."""
    answer = [message for message in node.as_messages() if message.role is Role.ASSISTANT]
    shown = PromptFormatter.format_messages(answer, target.endpoint, policy=policy).messages
    return any(message.role is Role.ASSISTANT for message in shown)


@_tried(30)
@given(talks(), _LENIENT)
def test_formatting_does_not_change_the_callers_conversation(talk: Talk, policy: ConversionPolicy) -> None:
    before = [node.model_dump_json() for node in talk.nodes], [message.model_dump_json() for message in talk.asked]
    for target in TARGETS.values():
        formatted = _formatted(talk, target, policy)
        if _asks(formatted):
            encoded(formatted.messages, target)
    assert before == (
        [node.model_dump_json() for node in talk.nodes],
        [message.model_dump_json() for message in talk.asked],
    )


@_tried(60)
@given(talks(home="anthropic fable-5-1"), _LENIENT)
def test_prefix_bound_reasoning_is_sent_only_behind_its_own_prefix(talk: Talk, policy: ConversionPolicy) -> None:
    target = TARGETS["anthropic fable-5-1"]
    nodes: list[ConversationNode] = []
    for node in talk.nodes:
        if not _asks(PromptFormatter.format_messages(_asked_of(node), target.endpoint, policy=policy)):
            continue  # no question, so there was no request
        formatted = _formatted(Talk(tuple(nodes), tuple(_asked_of(node))), target, policy)
        assert formatted.prefix is not None
        nodes.append(node.model_copy(update={"prefix": formatted.prefix}))
    for lead, reason in (("Be kind.", None), ("Be cruel.", "other_prefix")):
        formatted = PromptFormatter.format_conversation(
            nodes, target.endpoint, policy=policy, asked=talk.asked, instructions=[lead]
        )
        dropped = [entry.reason for entry in formatted.report.entries if entry.code == "reasoning_dropped"]
        replayed = [part for message in formatted.messages for part in message.parts if isinstance(part, ReasoningPart)]
        assert "other_prefix" not in dropped if reason is None else not replayed
        again = PromptFormatter.format_messages(formatted.messages, target.endpoint, policy=policy, instructions=[lead])
        assert again.messages == formatted.messages


def test_reasoning_is_kept_behind_an_answer_of_which_nothing_is_sent() -> None:
    """The questions around that answer are one message, as they were in the request of the reasoning."""
    target = TARGETS["anthropic fable-5-1"]
    elsewhere = ReasoningPart(text="hm", origin=TARGETS["deepseek"].origin)
    sealed = {"type": "thinking", "signature": "SEALED"}
    own = ReasoningPart(text="well", origin=target.origin, provider_state={**sealed})
    before = [Message.user("a"), Message.assistant(elsewhere), Message.user("b")]
    shown = PromptFormatter.format_messages(before, target.endpoint)
    answer = Message.assistant(own, TextPart(text="c", origin=target.origin))
    answer = answer.model_copy(update={"prefix": shown.prefix})
    for messages in ([*before, answer, Message.user("d")], [*shown.messages, answer, Message.user("d")]):
        formatted = PromptFormatter.format_messages(messages, target.endpoint)
        assert [len(message.parts) for message in formatted.messages] == [2, 2, 1]
        assert own in formatted.messages[1].parts


def _cold(nodes: Sequence[ConversationNode]) -> tuple[ConversationNode, ...]:
    """Return copies of the nodes, for which nothing is cached."""
    return tuple(node.model_copy() for node in nodes)


@_tried(30)
@given(talks(), st.sampled_from(list(TARGETS)), _LENIENT, st.randoms(use_true_random=False))
def test_the_cached_history_gives_the_same_messages(
    talk: Talk, name: str, policy: ConversionPolicy, chance: random.Random
) -> None:
    target = TARGETS[name]
    _say(name, target)
    lengths = list(range(len(talk.nodes) + 1))

    def made(nodes: Sequence[ConversationNode], asked: Sequence[Message]) -> FormattedConversation:
        return PromptFormatter.format_conversation(nodes, target.endpoint, policy=policy, asked=asked)

    expected = {
        (length, bool(asked)): made(_cold(talk.nodes[:length]), asked)
        for length in lengths
        for asked in ((), talk.asked)
    }
    mixed = (*talk.nodes[-2::-1], *talk.nodes[-1:])  # another history that ends in the same node
    expected_of_mixed = made(_cold(mixed), talk.asked)
    orders = [lengths, lengths[::-1], *(chance.sample(lengths, len(lengths)) for _ in range(2))]
    for order in orders:
        for length in order:
            for asked in (talk.asked, ()):
                assert made(talk.nodes[:length], asked) == expected[length, bool(asked)]
        assert made(mixed, talk.asked) == expected_of_mixed


@_tried(6)
@given(talks(), st.sampled_from(list(TARGETS)), st.integers(0, 1_000))
def test_the_cached_history_is_safe_in_many_threads(talk: Talk, name: str, seed: int) -> None:
    target, policy = TARGETS[name], ConversionPolicy(media="describe")
    assume(talk.nodes)
    lengths = range(1, len(talk.nodes) + 1)

    def made(nodes: Sequence[ConversationNode]) -> FormattedConversation:
        return PromptFormatter.format_conversation(nodes, target.endpoint, policy=policy, asked=talk.asked)

    expected = {length: made(_cold(talk.nodes[:length])) for length in lengths}

    def in_any_order(thread: int) -> list[int]:
        chance = random.Random(seed + thread)
        order = [chance.choice(lengths) for _ in range(40)]
        return [length for length in order if made(talk.nodes[:length]) != expected[length]]

    with ThreadPoolExecutor(8) as threads:
        assert not [wrong for wrongs in threads.map(in_any_order, range(8)) for wrong in wrongs]


def test_an_empty_signature_keeps_no_blank_text() -> None:
    target = TARGETS["gemini 3.8"]
    blank = TextPart(text="", origin=target.origin, provider_state={"thoughtSignature": ""})
    messages = [Message.user("q"), Message.assistant(blank), Message.user("go on")]
    formatted = PromptFormatter.format_messages(messages, target.endpoint)
    assert [part.get_text() for message in formatted.messages for part in message.parts] == ["q", "go on"]
    assert refusal(encoded(formatted.messages, target), target) is None


# ---------------------------------------------------------------------------------------------------- odd values


_HALF_A_PAIR = "cut \ud83d"
_CALL = ToolCallPart(call_id="c", name="f", arguments="{}")
_UNWRITABLE: tuple[tuple[str, list[Part], list[Part]], ...] = (
    ("text", [TextPart(text="x")], [TextPart(text=_HALF_A_PAIR)]),
    ("arguments", [ToolCallPart(call_id="c", name="f", arguments=f'{{"a": "{_HALF_A_PAIR}"}}')], []),
    ("call id", [ToolCallPart(call_id=_HALF_A_PAIR, name="f", arguments="{}")], []),
    ("name", [ToolCallPart(call_id="c", name=_HALF_A_PAIR, arguments="{}")], []),
    ("refusal", [RefusalPart(text=_HALF_A_PAIR)], []),
    ("value", [_CALL], [ToolResultPart.of(_CALL, {"a": _HALF_A_PAIR})]),
    ("key", [_CALL], [ToolResultPart.of(_CALL, {_HALF_A_PAIR: 1})]),
    ("number", [_CALL], [ToolResultPart.of(_CALL, {"a": 2**70})]),
    ("deep arguments", [_CALL.model_copy(update={"arguments": '{"a":' * 500 + "1" + "}" * 500})], []),
)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize(("said", "asked"), [row[1:] for row in _UNWRITABLE], ids=[row[0] for row in _UNWRITABLE])
def test_values_outside_json_are_sent_as_text_or_refused_by_name(
    name: str, said: list[Part], asked: list[Part]
) -> None:
    target = TARGETS[name]
    messages = [Message.user("q"), Message.assistant(*said), Message.user(*asked, "go on")]
    try:
        formatted = PromptFormatter.format_messages(messages, target.endpoint)
        wire = encoded(formatted.messages, target)
    except ConfigurationError as exc:
        assert "JSON" in str(exc)
    else:
        assert refusal(wire, target) is None
