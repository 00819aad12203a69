"""Windows over a conversation: which turns are kept, their tokens, and the report entries of trimmed turns."""

import copy
import pickle
from collections.abc import Iterable, Sequence
from typing import Literal
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dhenara_async import (
    ChatResponse,
    Choice,
    ConversationNode,
    ConversationPolicy,
    ConversionEntry,
    ConversionReport,
    FilePart,
    FinishReason,
    HostedTool,
    HostedToolPart,
    JsonPart,
    Message,
    Origin,
    ReasoningPart,
    RefusalPart,
    Role,
    TextPart,
    Tool,
    ToolCallPart,
    ToolResultPart,
    Usage,
)
from dhenara_async.errors import ConfigurationError
from dhenara_async.formatter import window
from dhenara_async.formatter.conversion import PartOutcome
from dhenara_async.formatter.window import (
    FILE_BYTES_PER_TOKEN,
    IMAGE_TOKENS,
    UNSEEN_FILE_TOKENS,
    Fitted,
    Tokens,
    estimate_messages,
    estimated,
    estimated_tokens,
    first_words,
    fit,
    summary_message,
    tokens_of,
    truncation_entries,
)
from dhenara_async.messages.messages import Part

CLAUDE = Origin(
    provider="anthropic", dialect="anthropic_messages", endpoint="a.example", account="k1", model="claude-sonnet-5-5"
)
GPT = Origin(provider="openai", dialect="openai_responses", endpoint="o.example", account="k2", model="gpt-6.2-sol")
PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 100
PICTURE = FilePart(media_type="image/png", data=PNG)


def reported(given: int | None, got: int | None, thought: int | None = None) -> Usage:
    return Usage(input_tokens=given, output_tokens=got, reasoning_tokens=thought, source="reported")


def turn(
    query: str = "",
    *answer: str | Part,
    usage: Usage | None = None,
    results: Iterable[ToolResultPart] = (),
    files: Iterable[FilePart] = (),
    origin: Origin | None = CLAUDE,
    id: str | None = None,
    parent: str | None = None,
    instructions: Sequence[str] = (),
    status: Literal["complete", "interrupted", "failed"] = "complete",
    conversion: ConversionReport | None = None,
    choices: int = 1,
) -> ConversationNode:
    parts = tuple(TextPart(text=part) if isinstance(part, str) else part for part in answer)
    response = ChatResponse(
        choices=tuple(Choice(index=at, parts=parts, finish_reason=FinishReason.STOP) for at in range(choices)),
        usage=usage or Usage(),
        model="m",
        provider="p",
    )
    return ConversationNode(
        id=id or uuid4().hex,
        parent_id=parent,
        user_query=query,
        tool_results=tuple(results),
        attached_files=tuple(files),
        instructions=instructions,
        response=response if parts else None,
        origin=origin,
        status=status,
        conversion=conversion or ConversionReport(),
    )


def call(call_id: str) -> ToolCallPart:
    return ToolCallPart(call_id=call_id, name="look", arguments='{"at": 1}')


def result(call_id: str) -> ToolResultPart:
    return ToolResultPart(call_id=call_id, name="look", content=(TextPart(text="found it"),))


def talk(turns: int) -> list[ConversationNode]:
    """Turns of two tokens each: four letters in the question and four in the answer."""
    return [turn(f"q{at:03}", f"a{at:03}", id=f"n{at}") for at in range(turns)]


def ids(nodes: Sequence[ConversationNode]) -> list[str]:
    return [node.id for node in nodes]


# --- the policy


def test_json_of_a_policy_keeps_its_limits_and_drops_its_summariser() -> None:
    policy = ConversationPolicy(keep_turns=3, keep_tokens=500, summarise=lambda nodes: f"{len(nodes)} turns")
    assert policy.model_dump_json() == '{"keep_turns":3,"keep_tokens":500}'
    back = ConversationPolicy.model_validate_json(policy.model_dump_json())
    assert back == policy and hash(back) == hash(policy)
    assert back.summarise is None
    assert policy.summarise is not None and policy.summarise(talk(2)) == "2 turns"
    assert "lambda" not in repr(policy)


def test_a_pickled_policy_keeps_its_limits_and_drops_its_summariser() -> None:
    policy = ConversationPolicy(keep_turns=3, summarise=lambda _: "words")
    back: object = pickle.loads(pickle.dumps(policy))  # noqa: S301 - our own bytes
    assert isinstance(back, ConversationPolicy)
    assert back == policy and back.summarise is None
    assert back.model_fields_set == {"keep_turns"}


def test_copies_of_a_policy_keep_its_summariser() -> None:
    policy = ConversationPolicy(keep_turns=3, summarise=lambda _: "words")
    for same in (copy.copy(policy), copy.deepcopy(policy), policy.model_copy(update={"keep_turns": 4})):
        assert same.summarise is policy.summarise


def test_policies_are_equal_only_with_equal_limits() -> None:
    assert ConversationPolicy(keep_turns=3) != ConversationPolicy(keep_turns=4)
    assert ConversationPolicy(keep_turns=3) != ConversationPolicy(keep_tokens=3)
    assert ConversationPolicy() != object()
    assert (
        len({ConversationPolicy(), ConversationPolicy(keep_turns=1), ConversationPolicy(summarise=lambda _: "")}) == 2
    )


def test_a_policy_takes_an_async_summariser() -> None:
    async def later(nodes: Sequence[ConversationNode]) -> str:
        return str(len(nodes))

    assert ConversationPolicy(summarise=later).summarise is later


@pytest.mark.parametrize("wrong", [{"keep_turns": 0}, {"keep_tokens": -1}, {"summarise": "os.abort"}, {"keep": 1}])
def test_a_policy_refuses_invalid_fields(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ConversationPolicy.model_validate(wrong)


def test_a_policy_is_frozen_and_its_schema_lists_its_limits() -> None:
    policy = ConversationPolicy(keep_turns=3)
    with pytest.raises(ValidationError):
        policy.keep_turns = 4  # pyright: ignore[reportAttributeAccessIssue] - the test
    assert set(ConversationPolicy.model_json_schema()["properties"]) == {"keep_turns", "keep_tokens"}


# --- estimates


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("日本語文", 3), ("é" * 4, 2), ("😊", 1), ("\ud800", 1)],
)
def test_tokens_of_a_text_are_estimated_from_its_utf8_bytes(text: str, tokens: int) -> None:
    assert estimated_tokens(text) == tokens


def test_tokens_of_a_file_are_estimated_by_its_kind_and_size() -> None:
    pdf, text = b"%PDF-" + b"0" * 9_995, b"words" * 100
    assert estimated([PICTURE]) == IMAGE_TOKENS
    assert estimated([FilePart(media_type="image/*", url="https://x.example/y")]) == IMAGE_TOKENS
    assert estimated([FilePart(media_type="application/pdf", data=pdf)]) == 10_000 // FILE_BYTES_PER_TOKEN["pdf"]
    assert estimated([FilePart(media_type="text/plain", data=text)]) == 125
    assert estimated([FilePart(media_type="audio/wav", data=b"0" * 1_001)]) == 3
    assert estimated([FilePart(media_type="video/mp4", data=b"0" * 4_000)]) == 2
    assert estimated([FilePart(media_type="application/zip", data=b"0" * 26)]) == 2


@pytest.mark.parametrize("media_type", ["text/plain", "application/pdf", "audio/wav", "video/mp4", "application/zip"])
def test_tokens_of_a_file_behind_a_url_are_estimated_by_its_kind(media_type: str) -> None:
    file = FilePart(media_type=media_type, url="https://x.example/y")
    assert estimated([file]) == UNSEEN_FILE_TOKENS[file.kind] > 0


def test_tokens_of_every_kind_of_part_are_estimated() -> None:
    assert estimated([TextPart(text="x" * 8), RefusalPart(text="x" * 4), ReasoningPart(text="x" * 4)]) == 4
    assert estimated([call("c")]) == estimated_tokens('look({"at": 1})')
    assert estimated([JsonPart(value={"a": 1})]) == estimated_tokens('{"a":1}')
    found = ToolResultPart(call_id="c", name="look", content=(TextPart(text="found"), JsonPart(value=[1]), PICTURE))
    assert estimated([found]) == 1 + 2 + 1 + IMAGE_TOKENS
    ran = HostedToolPart(name="web_search_call", input="abc", output={"n": 5}, provider_state={"big": "x" * 4_000})
    assert estimated([ran]) == estimated_tokens('"abc"') + estimated_tokens('{"n":5}')
    assert estimated([ran.model_copy(update={"report": True})]) == 0


def test_the_estimate_of_a_prompt_includes_instructions_and_tools() -> None:
    tool = Tool(name="look", description="x" * 400)
    plain = estimate_messages([Message.user("x" * 40), Message.assistant("x" * 8)])
    assert plain == 12
    assert estimate_messages([Message.user("x" * 40)], ["x" * 20, "y" * 4]) == 16
    with_tools = estimate_messages([Message.user("x" * 40)], tools=[tool, HostedTool(type="web_search")])
    assert with_tools > 10 + 100
    assert tool.description in tool.model_dump_json()


# --- tokens of a turn


def test_tokens_of_a_turn_are_the_growth_of_the_reported_usage() -> None:
    before = turn("Tell me", "Once", usage=reported(1_000, 200, 150))
    node = turn("And then?", "The end", usage=reported(1_080, 90, 60))
    assert tokens_of(node, before) == Tokens(1_080 - (1_000 + 50) + 30, estimated=False)


def test_tokens_of_the_first_turn_are_an_estimated_question_and_a_reported_answer() -> None:
    assert tokens_of(turn("x" * 40, "Once", usage=reported(1_000, 200, 150)), None) == Tokens(10 + 50, estimated=True)


def test_tokens_of_a_turn_without_usage_are_estimated() -> None:
    node = turn("x" * 8, ReasoningPart(text="y" * 400), "z" * 4, call("c"), files=[PICTURE], results=[result("b")])
    asked = 2 + IMAGE_TOKENS + estimated([result("b")])
    assert tokens_of(node, None) == Tokens(asked + 1 + estimated([call("c")]), estimated=True)


def test_estimated_usage_is_not_used_for_the_tokens_of_a_turn() -> None:
    guessed = Usage(input_tokens=10, output_tokens=5_000, source="estimated")
    assert tokens_of(turn("abcd", "efgh", usage=guessed), None) == Tokens(2, estimated=True)


def test_tokens_of_a_turn_exclude_its_instructions() -> None:
    assert tokens_of(turn("abcd", "efgh", instructions=["x" * 4_000]), None).count == 2


BEFORE = turn("abcd", "efgh", usage=reported(100, 10, 0), id="before")


@pytest.mark.parametrize(
    ("node", "before"),
    [
        pytest.param(turn("abcd", "x", usage=reported(150, 7, 0), origin=GPT), BEFORE, id="another model"),
        pytest.param(turn("abcd", "x", usage=reported(150, 7, 0), origin=None), BEFORE, id="origin unknown"),
        pytest.param(turn("abcd", "x", usage=reported(110, 7, 0)), BEFORE, id="no tokens remain for the question"),
        pytest.param(turn("abcd", "x", usage=reported(60, 7, 0)), BEFORE, id="the prompt became shorter"),
        pytest.param(turn("abcd", "x", usage=reported(None, 7, 0)), BEFORE, id="no input tokens"),
        pytest.param(turn("abcd", "x", usage=reported(150, 7, 0), parent="other"), BEFORE, id="another branch"),
        pytest.param(turn("abcd", "x", usage=reported(150, 7, 0), instructions=["Be"]), BEFORE, id="instructions"),
        pytest.param(
            turn("abcd", "x", usage=reported(150, 7, 0)),
            turn("abcd", "efgh", usage=reported(100, 10, 0), status="interrupted"),
            id="cut before",
        ),
        pytest.param(
            turn("abcd", "x", usage=reported(150, 7, 0)),
            turn("abcd", "efgh", usage=reported(100, None)),
            id="no output tokens before",
        ),
        pytest.param(
            turn("abcd", "x", usage=reported(150, 7, 0)),
            turn("abcd", "efgh", HostedToolPart(name="server_tool_use"), usage=reported(100, 10, 0)),
            id="searched before",
        ),
        pytest.param(
            turn(
                "abcd",
                "x",
                usage=reported(150, 7, 0),
                conversion=ConversionReport(
                    entries=truncation_entries(talk(1), CLAUDE, estimated=False, summarised=False)
                ),
            ),
            BEFORE,
            id="turns were trimmed since",
        ),
        pytest.param(
            turn(
                "abcd",
                "x",
                usage=reported(150, 7, 0),
                conversion=ConversionReport(
                    parts=(PartOutcome(node="before", message=1, part=0, kind="reasoning", outcome="native"),)
                ),
            ),
            BEFORE,
            id="reasoning was sent",
        ),
    ],
)
def test_a_question_is_estimated_if_the_usage_of_two_turns_is_not_comparable(
    node: ConversationNode, before: ConversationNode
) -> None:
    assert tokens_of(node, before) == Tokens(1 + 7, estimated=True)


def test_usage_is_comparable_after_the_same_truncation_and_omitted_reasoning() -> None:
    left_out = truncation_entries(talk(1), CLAUDE, estimated=False, summarised=False)
    dropped = PartOutcome(node="before", message=3, part=0, kind="reasoning", outcome="omitted")
    older = PartOutcome(node="older", message=1, part=0, kind="reasoning", outcome="native")  # in both prompts
    report = ConversionReport(entries=left_out, parts=(older, dropped))
    before = BEFORE.model_copy(update={"conversion": ConversionReport(entries=left_out)})
    node = turn("abcd", "x", usage=reported(150, 7, 0), conversion=report, parent="before")
    assert tokens_of(node, before) == Tokens(150 - 110 + 7, estimated=False)


@pytest.mark.parametrize(
    "node",
    [
        pytest.param(turn("abcd", "efgh", usage=reported(150, 900), status="interrupted"), id="interrupted"),
        pytest.param(turn("abcd", "efgh", usage=reported(150, None)), id="no output tokens"),
        pytest.param(turn("abcd", "efgh", usage=reported(150, 5, 9)), id="more reasoning than output"),
        pytest.param(
            turn("abcd", ReasoningPart(text="hm"), "efgh", usage=reported(150, 900)), id="no reasoning tokens"
        ),
        pytest.param(turn("abcd", "efgh", usage=reported(150, 900, 0), choices=2), id="two answers"),
    ],
)
def test_an_answer_is_estimated_if_its_output_tokens_do_not_measure_it(node: ConversationNode) -> None:
    assert tokens_of(node, None) == Tokens(2, estimated=True)


def test_a_turn_with_an_estimated_answer_is_marked_as_estimated() -> None:
    node = turn("abcd", "efgh", usage=reported(150, None))
    assert tokens_of(node, BEFORE) == Tokens(150 - 110 + 1, estimated=True)


def test_a_report_part_of_the_provider_keeps_usage_comparable() -> None:
    note = HostedToolPart(name="input_transformations", report=True)
    assert tokens_of(turn("abcd", note, "x", usage=reported(150, 7, 0)), BEFORE) == Tokens(47, estimated=False)


def test_a_generated_picture_is_estimated_and_its_output_tokens_are_ignored() -> None:
    made = FilePart(media_type="image/png", data=PNG, origin=CLAUDE)
    assert tokens_of(turn("abcd", made, usage=reported(150, 9_000, 0)), None).count == 1 + IMAGE_TOKENS


def test_a_turn_without_an_answer_counts_its_question() -> None:
    assert tokens_of(turn("x" * 12), None) == Tokens(3, estimated=True)


# --- the cut


def test_without_limits_nothing_is_trimmed() -> None:
    nodes = talk(5)
    assert fit(nodes, ConversationPolicy(summarise=lambda _: "")) == Fitted(tuple(nodes), (), estimated=False)
    assert fit([], ConversationPolicy(keep_turns=1, keep_tokens=1)) == Fitted((), (), estimated=False)


def test_keep_turns_keeps_the_newest_turns() -> None:
    fitted = fit(talk(5), ConversationPolicy(keep_turns=2))
    assert (ids(fitted.trimmed), ids(fitted.kept)) == (["n0", "n1", "n2"], ["n3", "n4"])
    assert (fitted.limit, fitted.estimated) == ("keep_turns=2", False)


@pytest.mark.parametrize(("most", "kept"), [(1, 1), (2, 1), (3, 1), (4, 2), (9, 4), (10, 5), (11, 5)])
def test_keep_tokens_keeps_the_newest_turns_within_the_limit(most: int, kept: int) -> None:
    fitted = fit(talk(5), ConversationPolicy(keep_tokens=most))
    assert len(fitted.kept) == kept and fitted.estimated
    assert fitted.limit == ("" if kept == 5 else f"keep_tokens={most}")


def test_a_cut_by_reported_usage_is_not_marked_as_estimated() -> None:
    nodes = [turn("q", "a", usage=reported(100 + 30 * at, 10, 0)) for at in range(6)]  # 20 asked, 10 answered
    fitted = fit(nodes, ConversationPolicy(keep_tokens=60))
    assert (len(fitted.kept), fitted.estimated) == (2, False)
    assert fit(nodes, ConversationPolicy(keep_tokens=10_000)).estimated  # the first question has nothing before it


def test_the_tighter_of_two_limits_decides_the_cut() -> None:
    assert fit(talk(9), ConversationPolicy(keep_turns=2, keep_tokens=12)).limit == "keep_turns=2"
    weighed = fit(talk(9), ConversationPolicy(keep_turns=6, keep_tokens=4))
    assert (ids(weighed.kept), weighed.limit, weighed.estimated) == (["n7", "n8"], "keep_tokens=4", True)
    both = fit(talk(9), ConversationPolicy(keep_turns=2, keep_tokens=4))
    assert (ids(both.kept), both.limit, both.estimated) == (["n7", "n8"], "keep_turns=2", False)


def test_the_newest_turn_is_kept_even_above_the_token_limit() -> None:
    nodes = [*talk(2), turn("x" * 4_000, "y", id="long")]
    assert ids(fit(nodes, ConversationPolicy(keep_tokens=10)).kept) == ["long"]
    both = fit(nodes, ConversationPolicy(keep_turns=1, keep_tokens=10))
    assert (ids(both.kept), both.limit) == (["long"], "keep_turns=1")


LOOP = [
    turn("first", "fine", id="n0"),
    turn("second", call("c1"), call("c2"), id="ask"),
    turn("", call("c3"), results=[result("c1"), result("c2")], id="round1"),
    turn("by the way", call("c4"), results=[result("c3")], id="round2"),
    turn("", "done", results=[result("c4")], id="close"),
    turn("third", "fine", id="n5"),
]


@pytest.mark.parametrize("keep", [2, 3, 4, 5])
def test_a_tool_loop_is_kept_whole_if_the_cut_falls_inside_it(keep: int) -> None:
    assert ids(fit(LOOP, ConversationPolicy(keep_turns=keep)).kept) == ["ask", "round1", "round2", "close", "n5"]


def test_the_newest_tool_loop_is_kept_whole_even_above_the_limits() -> None:
    for open_loop in (LOOP[:3], LOOP[:4], LOOP[:5]):
        fitted = fit(open_loop, ConversationPolicy(keep_turns=1, keep_tokens=1))
        assert ids(fitted.kept) == ids(open_loop[1:])


def test_a_closed_tool_loop_is_trimmed_whole() -> None:
    assert ids(fit(LOOP, ConversationPolicy(keep_turns=1)).trimmed) == ["n0", "ask", "round1", "round2", "close"]


def test_a_late_result_keeps_the_turn_of_its_call() -> None:
    nodes = [*talk(1), turn("go", call("c1"), id="call"), turn("wait", "ok"), turn("", "done", results=[result("c1")])]
    nodes += [turn("next", "fine", id="next")]
    assert ids(fit(nodes[:-1], ConversationPolicy(keep_turns=1)).kept)[0] == "call"
    assert ids(fit(nodes, ConversationPolicy(keep_turns=2)).kept)[0] == "call"
    assert ids(fit(nodes, ConversationPolicy(keep_turns=1)).kept) == ["next"]


def test_results_in_the_new_request_keep_the_turn_of_their_call() -> None:
    nodes = [*talk(1), turn("go", call("c1"), id="call"), turn("wait", "ok", id="wait")]
    policy = ConversationPolicy(keep_turns=1)
    assert ids(fit(nodes, policy).kept) == ["wait"]
    assert ids(fit(nodes, policy, answers_calls=True).kept) == ["call", "wait"]
    assert ids(fit(nodes[:2], policy, answers_calls=True).kept) == ["call"]
    answered = [*nodes[:2], turn("", "done", results=[result("c1")]), turn("on", "ok", id="on")]
    assert ids(fit(answered, policy, answers_calls=True).kept) == ["on"]


def test_a_kept_history_does_not_begin_with_a_result_without_a_call() -> None:
    nodes = [*talk(2), turn("see", "ok", results=[result("unknown")], id="orphan")]
    assert ids(fit(nodes, ConversationPolicy(keep_turns=1)).kept) == ["n1", "orphan"]


def test_calls_without_ids_are_paired_with_results_of_the_next_turn() -> None:
    def round_of(number: int) -> list[ConversationNode]:
        return [turn("go", call(""), id=f"ask{number}"), turn("", "done", results=[result("")], id=f"close{number}")]

    nodes = [*round_of(1), *round_of(2), *round_of(3)]
    assert ids(fit(nodes, ConversationPolicy(keep_turns=3)).kept) == ["ask2", "close2", "ask3", "close3"]


def test_a_kept_history_may_begin_with_a_file_but_not_with_blank_text() -> None:
    nodes = [turn("first", "a"), turn("", "b", files=[PICTURE], id="file"), turn(" \n", "c"), turn("last", "d")]
    assert ids(fit(nodes, ConversationPolicy(keep_turns=2)).kept)[0] == "file"


# --- properties of every history


def asks(node: ConversationNode) -> bool:
    return bool(node.user_query.strip() or node.attached_files) and not node.tool_results


def called(node: ConversationNode) -> set[str]:
    parts = () if node.response is None else node.response.choices[0].parts
    return {part.call_id for part in parts if isinstance(part, ToolCallPart)}


def weights(nodes: Sequence[ConversationNode]) -> list[int]:
    return [tokens_of(node, nodes[at - 1] if at else None).count for at, node in enumerate(nodes)]


@st.composite
def histories(draw: st.DrawFn) -> list[ConversationNode]:
    """Turns that ask, call, answer all, some or none of the open calls, at once or late, with and without usage."""
    nodes: list[ConversationNode] = []
    waiting: list[str] = []
    total = 0
    for at in range(draw(st.integers(1, 12))):
        answered = [call_id for call_id in waiting if draw(st.booleans())]
        waiting = [call_id for call_id in waiting if call_id not in answered and draw(st.booleans())]
        words = draw(st.sampled_from(["", " ", "why?", "x" * 50])) if answered else draw(st.sampled_from(["why?", "x"]))
        new = [f"c{at}.{number}" for number in range(draw(st.sampled_from([0, 0, 1, 2])))]
        total += draw(st.integers(1, 50))
        node = turn(
            words,
            *(["said " * draw(st.integers(1, 20))] if draw(st.booleans()) or not new else []),
            *map(call, new),
            results=map(result, answered),
            files=[PICTURE] if draw(st.integers(0, 9)) == 0 else [],
            usage=reported(total, draw(st.integers(1, 9)), 0) if draw(st.booleans()) else None,
            id=f"n{at}",
        )
        nodes.append(node)
        waiting += new
    return nodes


limits = st.one_of(st.none(), st.integers(1, 14)), st.one_of(st.none(), st.integers(1, 200))


@given(histories(), *limits, st.booleans())
def test_the_kept_history_is_the_longest_legal_suffix_within_the_limits(
    nodes: list[ConversationNode], turns: int | None, tokens: int | None, answers_calls: bool
) -> None:
    policy = ConversationPolicy(keep_turns=turns, keep_tokens=tokens)
    fitted = fit(nodes, policy, answers_calls=answers_calls)
    cut = len(fitted.trimmed)
    assert [*fitted.trimmed, *fitted.kept] == nodes  # a suffix
    assert fitted.kept[-1] is nodes[-1]
    assert bool(fitted.limit) == bool(cut)

    def fits(start: int) -> bool:
        weight = sum(weights(nodes)[start:])
        return (turns is None or len(nodes) - start <= turns) and (tokens is None or weight <= tokens)

    def orphans(start: int) -> bool:
        gone = set[str]().union(*map(called, nodes[:start]))
        open_calls = {call_id for node in nodes for call_id in called(node)}
        open_calls -= {part.call_id for node in nodes for part in node.tool_results}
        newest = [call_id for node in nodes[-1:] + nodes[::-1] for call_id in called(node) if call_id in open_calls][:1]
        wanted = {part.call_id for node in nodes[start:] for part in node.tool_results}
        return bool(gone & (wanted | set(newest if answers_calls else ())))

    legal = [start for start in range(len(nodes)) if start == 0 or (asks(nodes[start]) and not orphans(start))]
    enough = next((start for start in range(len(nodes)) if fits(start)), len(nodes) - 1)
    assert cut == max(start for start in legal if start <= enough)
    assert fit(tuple(nodes), policy, answers_calls=answers_calls) == fitted


@given(histories(), *limits)
def test_a_kept_history_never_begins_inside_a_tool_loop(
    nodes: list[ConversationNode], turns: int | None, tokens: int | None
) -> None:
    fitted = fit(nodes, ConversationPolicy(keep_turns=turns, keep_tokens=tokens))
    assert not fitted.trimmed or asks(fitted.kept[0])
    left_out = set[str]().union(*map(called, fitted.trimmed))
    assert not left_out & {part.call_id for node in fitted.kept for part in node.tool_results}


class Counting(Sequence[ConversationNode]):
    """Counts the reads of turns."""

    def __init__(self, nodes: Sequence[ConversationNode]) -> None:
        self.nodes = nodes
        self.reads = 0

    def __len__(self) -> int:
        return len(self.nodes)

    def __getitem__(self, at: int | slice) -> ConversationNode:  # pyright: ignore[reportIncompatibleMethodOverride]
        assert isinstance(at, int), "a slice reads any number of turns"
        node = self.nodes[at]
        self.reads += 1
        return node


@pytest.mark.parametrize("turns", [200, 800])
def test_each_turn_is_read_and_estimated_at_most_once(turns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    weighed: list[str] = []

    def counted(node: ConversationNode, before: ConversationNode | None) -> Tokens:
        weighed.append(node.id)
        return tokens_of(node, before)

    monkeypatch.setattr(window, "tokens_of", counted)
    nodes = Counting(talk(turns))
    fitted = fit(nodes, ConversationPolicy(keep_tokens=2 * turns - 1))
    assert len(fitted.trimmed) == 1
    assert nodes.reads <= turns and len(weighed) == len(set(weighed)) == turns
    weighed.clear()
    assert len(fit(nodes, ConversationPolicy(keep_tokens=20)).kept) == 10
    assert len(weighed) == 11  # the history behind the window is not estimated at all
    weighed.clear()
    assert len(fit(nodes, ConversationPolicy(keep_turns=5, keep_tokens=2 * turns)).kept) == 5
    assert len(weighed) == 5


# --- summaries and report entries


def test_a_summary_becomes_a_system_message() -> None:
    message = summary_message("They talked of robots.")
    assert message is not None and message.role is Role.SYSTEM
    assert message.get_text() == "Summary of the earlier conversation:\nThey talked of robots."


@pytest.mark.parametrize("blank", ["", " ", "\n\t"])
def test_a_blank_summary_gives_no_message(blank: str) -> None:
    assert summary_message(blank) is None


def test_each_trimmed_turn_gives_one_report_entry() -> None:
    nodes = [
        turn("abcd", "x", usage=reported(100, 10, 0), id="n0"),
        turn("abcd", "x", usage=reported(150, 7, 0), id="n1"),
        turn("abcd", "efgh", origin=GPT, id="n2"),
    ]
    entries = truncation_entries(nodes, GPT, estimated=False, summarised=False, limit="keep_turns=1")
    assert [entry.detail for entry in entries] == [
        "left out by keep_turns=1; about 11 tokens (estimated); nothing stands for it",
        "left out by keep_turns=1; 47 tokens (reported); nothing stands for it",
        "left out by keep_turns=1; about 2 tokens (estimated); nothing stands for it",
    ]
    assert [(entry.node, entry.origin) for entry in entries] == [("n0", CLAUDE), ("n1", CLAUDE), ("n2", GPT)]
    for entry in entries:
        assert (entry.code, entry.severity, entry.reason) == ("truncated", "lossy", "limit_exceeded")
        assert (entry.kind, entry.message, entry.part, entry.target) == ("message", None, None, GPT)
    assert ConversionReport(entries=entries).lossy == entries
    assert ConversionEntry.model_validate_json(entries[0].model_dump_json()) == entries[0]
    assert "keep_turns=1" in str(ConversionReport(entries=entries))


def test_report_entries_name_estimated_tokens_and_the_summary() -> None:
    fitted = fit(talk(3), ConversationPolicy(keep_tokens=4))
    entries = truncation_entries(
        fitted.trimmed, CLAUDE, estimated=fitted.estimated, summarised=True, limit=fitted.limit
    )
    assert [entry.detail for entry in entries] == [
        "left out by keep_tokens=4 (weighed by estimate); about 2 tokens (estimated); a summary stands for it"
    ]
    [unnamed] = truncation_entries(fitted.trimmed, CLAUDE, estimated=False, summarised=False)
    assert unnamed.detail.startswith("left out by the limit of the conversation; ")
    assert truncation_entries((), CLAUDE, estimated=False, summarised=False) == ()


# --- words


@pytest.mark.parametrize(
    ("text", "most", "kept"),
    [
        ("one two three", None, "one two three"),
        ("one two three", 3, "one two three"),
        ("one two three ", 3, "one two three "),
        ("one two three", 2, "one two …"),
        ("  one\n\ttwo  three\n", 2, "  one\n\ttwo …"),
        ("one", 1, "one"),
        ("", 1, ""),
        (" \n", 1, " \n"),
        ("日本語 文\u3000字", 2, "日本語 文 …"),
    ],
)
def test_first_words_keeps_white_space(text: str, most: int | None, kept: str) -> None:
    assert first_words(text, most) == kept


@given(st.text(alphabet="ab \n\t\u2003é…"), st.integers(1, 6))
def test_first_words_keeps_a_prefix_of_the_words_of_any_text(text: str, most: int) -> None:
    kept = first_words(text, most)
    if len(text.split()) <= most:
        assert kept == text
    else:
        assert text.startswith(kept.removesuffix(" …"))
        assert kept.split() == [*text.split()[:most], "…"]
    assert first_words(kept, most) == kept


@pytest.mark.parametrize("most", [0, -1])
def test_first_words_refuses_a_limit_below_one(most: int) -> None:
    with pytest.raises(ConfigurationError, match="None"):
        first_words("one two", most)
