"""Turns of a manager beyond plain text: tool loops, windows, unsupported files and dry runs."""

from collections.abc import Sequence
from decimal import Decimal

import pytest

from dhenara_async import (
    AIModel,
    AIModelAPI,
    AIModelAPIProviderEnum,
    AIModelCallConfig,
    AIModelEndpoint,
    Conversation,
    ConversationManager,
    ConversationNode,
    ConversationPolicy,
    ConversionPolicy,
    ConversionReport,
    Dialect,
    FilePart,
    Pricing,
    PromptFormatter,
    Rates,
    ToolCallPart,
    ToolResultPart,
    run_tools,
)
from dhenara_async.errors import ConfigurationError, ConversionLossError, StreamStateError, UnsupportedError
from dhenara_async.models.anthropic import ClaudeSonnet55
from dhenara_async.models.google import Gemini38Flash
from dhenara_async.models.groq import GPTOSS120B
from dhenara_async.models.openai import GPT62Sol
from dhenara_async.testing import Answer, ProviderServer, ScriptedToolCall
from tests.loopback import SPEAKERS, endpoint_at

_Provider = AIModelAPIProviderEnum
DIALECTS = list(SPEAKERS)
PNG = FilePart(media_type="image/png", data=b"\x89PNG\r\n\x1a\npixels", filename="a.png")
MODELS = {
    _Provider.ANTHROPIC: ClaudeSonnet55,
    _Provider.OPEN_AI: GPT62Sol,
    _Provider.GOOGLE_AI: Gemini38Flash,
    _Provider.GROQ: GPTOSS120B,
}
PAIRS = [(one, other) for one in DIALECTS for other in DIALECTS]


def endpoint(provider: AIModelAPIProviderEnum, pricing: Pricing | None = None) -> AIModelEndpoint:
    """An endpoint without a server, for tests that make no call."""
    api = AIModelAPI(provider=provider, api_key="key")
    return AIModelEndpoint(api=api, ai_model=MODELS[provider], pricing=pricing or Pricing())


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


CALLS = (ScriptedToolCall("call_1", "add", '{"a":1,"b":2}'), ScriptedToolCall("call_2", "add", '{"a":3,"b":4}'))


# ---------------------------------------------------------------------------------------------------- tool loops


@pytest.mark.parametrize(("caller", "other"), PAIRS)
async def test_a_tool_loop_continues_at_another_provider_and_back(caller: Dialect, other: Dialect) -> None:
    """One provider calls, another receives the results, and the first one continues; the strict server accepts all."""
    script = [Answer(reasoning="thinking", tool_calls=CALLS), Answer(text="3 and 7."), Answer(text="You are welcome.")]
    config = AIModelCallConfig(tools=[add])
    async with ProviderServer(script) as server, ConversationManager(config=config) as manager:
        conversation = await manager.create()
        asked = await manager.ask(conversation, "Add.", endpoint_at(server, caller))
        assert asked.response is not None
        results = await run_tools(asked.response.tools(), config.tools)
        told = await manager.ask(conversation, "", endpoint_at(server, other), tool_results=results)
        last = await manager.ask(conversation, "Thanks!", endpoint_at(server, caller))
        assert [seen.error for seen in server.requests] == [None, None, None]
    assert told.tool_results == results
    assert ConversationNode.model_validate_json(told.model_dump_json()) == told
    codes = {entry.code for entry in last.conversion.entries}
    assert codes.isdisjoint({"tool_result_synthesized", "tool_result_as_text", "turn_dropped"})
    assert {part.outcome for part in last.conversion.parts if part.kind == "tool_result"} <= {"native", "converted"}


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_turn_after_unanswered_calls_synthesises_their_results(dialect: Dialect) -> None:
    script = [Answer(tool_calls=CALLS), Answer(text="Well.")]
    config = AIModelCallConfig(tools=[add])
    async with ProviderServer(script) as server, ConversationManager(config=config) as manager:
        conversation = await manager.create()
        await manager.ask(conversation, "Add.", endpoint_at(server, dialect))
        node = await manager.ask(conversation, "Never mind.", endpoint_at(server, dialect))
        assert [seen.error for seen in server.requests] == [None, None]
    assert [entry.code for entry in node.conversion.entries].count("tool_result_synthesized") == 2
    assert [part.outcome for part in node.conversion.parts].count("synthesised") == 2


async def test_a_single_tool_result_instead_of_a_sequence_is_refused() -> None:
    async with ConversationManager() as manager:
        conversation = await manager.create()
        one = ToolResultPart.of(ToolCallPart(call_id="c", name="add"), "3")
        with pytest.raises(ConfigurationError, match="a sequence of results"):
            manager.turn(conversation, "", endpoint(_Provider.GROQ), tool_results=one)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - what is tested


# ---------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("media", [None, "describe", "omit", "refuse"])
async def test_unsupported_files_in_the_history_follow_the_media_policy(media: object) -> None:
    policy = ConversionPolicy.model_validate({"media": media})
    async with ProviderServer() as server, ConversationManager(policy=policy) as manager:
        conversation = await manager.create()
        seeing = endpoint_at(server, Dialect.ANTHROPIC_MESSAGES)
        await manager.ask(conversation, "Read this.", seeing, files=[b"%PDF-1.7 pages"])
        blind = AIModelEndpoint(api=server.api(_Provider.GROQ), ai_model=GPTOSS120B)
        if media == "refuse":
            with pytest.raises(UnsupportedError, match="takes no PDF"):
                await manager.ask(conversation, "And?", blind)
            return
        node = await manager.ask(conversation, "And?", blind)
        body = server.requests[-1].body
    (entry,) = [entry for entry in node.conversion.entries if entry.kind == "file"]
    assert (entry.code, entry.severity, entry.reason) == ("media_dropped", "lossy", "unsupported_by_target")
    assert (b"application/pdf, 14 bytes" in body) == (media != "omit")


@pytest.mark.parametrize(("media", "sent"), [(None, False), ("describe", True), ("omit", True), ("refuse", False)])
async def test_unsupported_files_of_the_new_question_are_refused_by_default(media: object, sent: bool) -> None:
    policy = ConversionPolicy.model_validate({"media": media})
    async with ProviderServer() as server, ConversationManager(policy=policy) as manager:
        blind = AIModelEndpoint(api=server.api(_Provider.GROQ), ai_model=GPTOSS120B)
        conversation = await manager.create()
        if sent:
            await manager.ask(conversation, "Read this.", blind, files=[b"%PDF-1.7 pages"])
        else:
            with pytest.raises(UnsupportedError, match="takes no PDF"):
                await manager.ask(conversation, "Read this.", blind, files=[b"%PDF-1.7 pages"])
        assert len(server.requests) == sent


def test_files_above_max_inlined_bytes_are_described() -> None:
    node = ConversationNode(user_query="look", attached_files=[PNG])
    history = [node, ConversationNode(user_query="again")]
    limit = ConversionPolicy(max_inlined_bytes=len(PNG.data or b"") - 1)
    formatted = PromptFormatter.format_conversation(history, endpoint(_Provider.OPEN_AI), policy=limit)
    (entry,) = formatted.report.entries
    assert (entry.code, entry.reason) == ("media_dropped", "limit_exceeded")
    assert formatted.messages[0].get_text().startswith("[a.png: image/png, 14 bytes")
    exactly = ConversionPolicy(max_inlined_bytes=len(PNG.data or b""))
    assert (
        PromptFormatter.format_conversation(history, endpoint(_Provider.OPEN_AI), policy=exactly).report.entries == ()
    )


async def test_a_file_id_is_sent_only_to_its_own_provider() -> None:
    """Only the provider of the turn knows the file behind a file id."""
    stored = FilePart(media_type="image/png", file_id="file_1", filename="a.png")
    async with ProviderServer() as server, ConversationManager() as manager:
        conversation = await manager.create()
        home = endpoint_at(server, Dialect.ANTHROPIC_MESSAGES)
        await manager.ask(conversation, "What is it?", home, files=[stored])
        away = await manager.ask(conversation, "Sure?", endpoint_at(server, Dialect.OPENAI_RESPONSES))
        assert b"file_1" not in server.requests[-1].body
        back = await manager.ask(conversation, "Really?", home)
        assert b'"file_id":"file_1"' in server.requests[-1].body
    assert [(entry.code, entry.reason) for entry in away.conversion.entries] == [("media_dropped", "foreign_origin")]
    assert back.conversion.entries == ()


# ---------------------------------------------------------------------------------------------------- windows


async def test_a_window_sends_only_the_newest_turns() -> None:
    window = ConversationPolicy(keep_turns=2)
    async with ProviderServer() as server, ConversationManager(window=window) as manager:
        conversation = await manager.create()
        who = endpoint_at(server, Dialect.ANTHROPIC_MESSAGES)
        nodes = [await manager.ask(conversation, f"question {number}", who) for number in range(4)]
        assert [len(seen.turns) for seen in server.requests] == [1, 3, 5, 5]
        assert b'"question 0"' not in server.requests[-1].body  # an answer may hold the bare text
    truncated = [entry for entry in nodes[-1].conversion.entries if entry.code == "truncated"]
    assert [entry.node for entry in truncated] == [nodes[0].id]
    left_out = [part for part in nodes[-1].conversion.parts if part.node == nodes[0].id]
    assert [(part.kind, part.outcome) for part in left_out] == [("text", "omitted"), ("text", "omitted")]
    assert conversation.path() == tuple(nodes)  # the conversation keeps all turns


@pytest.mark.parametrize("awaited", [False, True])
async def test_a_summary_is_sent_in_place_of_trimmed_turns(awaited: bool) -> None:
    told: list[list[str]] = []

    def summed_up(nodes: Sequence[ConversationNode]) -> str:
        told.append([node.user_query for node in nodes])
        return f"{len(nodes)} turns were spoken."

    async def later(nodes: Sequence[ConversationNode]) -> str:
        return summed_up(nodes)

    window = ConversationPolicy(keep_turns=1, summarise=later if awaited else summed_up)
    async with ProviderServer() as server, ConversationManager(window=window) as manager:
        conversation = await manager.create()
        for number in range(3):
            await manager.ask(conversation, f"question {number}", endpoint_at(server, Dialect.GEMINI))
        await _asked_again(manager, conversation, server)
    assert told == [["question 0"], ["question 0", "question 1"]]  # the second turn used the cached summary
    summaries = [b"Summary of the earlier conversation" in seen.body for seen in server.requests]
    assert summaries == [False, False, True, True, True]


async def _asked_again(manager: ConversationManager, conversation: Conversation, server: ProviderServer) -> None:
    """Ask a turn, then a second one with the same history, whose summary is cached."""
    path = conversation.path()
    await manager.ask(conversation, "question 3", endpoint_at(server, Dialect.OPENAI_CHAT))
    conversation.checkout(path[-1].id)
    await manager.ask(conversation, "question 3b", endpoint_at(server, Dialect.OPENAI_RESPONSES))


async def test_a_turn_with_a_summary_is_collected_only_inside_its_block() -> None:
    window = ConversationPolicy(keep_turns=1, summarise=lambda nodes: "before")
    async with ProviderServer() as server, ConversationManager(window=window) as manager:
        conversation = await manager.create()
        who = endpoint_at(server, Dialect.GEMINI)
        await manager.ask(conversation, "one", who)
        await manager.ask(conversation, "two", who)
        turn = manager.turn(conversation, "three", who)
        with pytest.raises(StreamStateError, match="inside its block"):
            await turn.collect()
        async with turn:
            await turn.collect()
        assert b"before" in server.requests[-1].body


async def test_a_strict_policy_refuses_truncation() -> None:
    window, policy = ConversationPolicy(keep_turns=1), ConversionPolicy(strict=True)
    async with ProviderServer() as server, ConversationManager(window=window, policy=policy) as manager:
        conversation = await manager.create()
        who = endpoint_at(server, Dialect.ANTHROPIC_MESSAGES)
        await manager.ask(conversation, "one", who)
        await manager.ask(conversation, "two", who)
        with pytest.raises(ConversionLossError, match="truncated"):
            await manager.ask(conversation, "three", who)
        assert len(server.requests) == 2


# ---------------------------------------------------------------------------------------------------- dry runs


async def _conversation(manager: ConversationManager, server: ProviderServer) -> Conversation:
    conversation = await manager.create()
    who = endpoint_at(server, Dialect.ANTHROPIC_MESSAGES)
    await manager.ask(conversation, "What is in it?", who, files=[b"%PDF-1.7 pages"])
    return conversation


async def test_check_reports_the_losses_of_a_hop_without_a_request() -> None:
    policy = ConversionPolicy(strict=True)
    script = [Answer(text="A picture.", reasoning="hm")]
    async with ProviderServer(script) as server, ConversationManager(policy=policy) as manager:
        conversation = await _conversation(manager, server)
        check = manager.check(conversation, endpoint(_Provider.GROQ))
        same = manager.check(conversation, endpoint_at(server, Dialect.ANTHROPIC_MESSAGES))
        assert len(server.requests) == 1  # nothing is sent
    assert [entry.code for entry in check.lossy] == ["media_dropped"]  # reported, not raised, under a strict policy
    assert sorted(entry.code for entry in check.entries) == ["media_dropped", "reasoning_dropped"]
    assert [part.outcome for part in check.parts] == ["downgraded", "native", "omitted", "native"]
    assert same.entries == ()
    assert {part.outcome for part in same.parts} == {"native"}
    assert isinstance(check.report, ConversionReport)
    assert check.report.entries == check.entries
    assert type(check).model_validate_json(check.model_dump_json()) == check


async def test_check_estimates_tokens_price_and_fit_of_the_prompt() -> None:
    pricing = Pricing(rates=Rates(input=Decimal(2), output=Decimal(8)))
    async with ProviderServer() as server, ConversationManager() as manager:
        conversation = await _conversation(manager, server)
        who = endpoint(_Provider.OPEN_AI, pricing)
        check = manager.check(conversation, who)
        longer = manager.check(conversation, who, query="word " * 4_000)
    assert check.context_window == GPT62Sol.context_window
    assert check.fits is True
    assert check.price == Decimal(2) * check.input_tokens / 1_000_000
    assert 4_900 < longer.input_tokens - check.input_tokens < 5_100
    small = AIModelEndpoint(api=who.api, ai_model=AIModel(model_name="small", context_window=1_000))
    assert manager.check(conversation, small, query="word " * 4_000).fits is False
    assert manager.check(conversation, small).price is None
    unknown = AIModelEndpoint(api=who.api, ai_model=AIModel(model_name="nobody knows it"))
    assert manager.check(conversation, unknown).fits is None


async def test_check_warns_of_ignored_settings() -> None:
    async with ProviderServer() as server, ConversationManager() as manager:
        conversation = await _conversation(manager, server)
        config = AIModelCallConfig(seed=1, top_k=5)
        check = manager.check(conversation, endpoint(_Provider.OPEN_AI), config=config)
    assert sorted(warning.knob for warning in check.warnings) == ["seed", "top_k"]


async def test_check_estimates_the_price_from_list_prices() -> None:
    pytest.importorskip("genai_prices")
    async with ConversationManager() as manager:
        conversation = await manager.create()
        api = AIModelAPI(provider=_Provider.OPEN_AI, api_key="key")
        known = AIModelEndpoint(api=api, ai_model=AIModel(model_name="gpt-4o-mini"))
        price = manager.check(conversation, known, query="word " * 1000).price
    assert price is not None
    assert price > 0


async def test_check_without_a_query_reports_only_the_history() -> None:
    """If the last turn has no answer, its question and the new question become one message."""
    async with ProviderServer([Answer(text="Yes.")]) as server, ConversationManager() as manager:
        conversation = await manager.create()
        claude = endpoint_at(server, Dialect.ANTHROPIC_MESSAGES)
        await manager.ask(conversation, "One?", claude)
        unanswered = ConversationNode(user_query="word " * 1_000, parent_id=conversation.path()[-1].id)
        conversation.append(unanswered.model_copy(update={"status": "interrupted"}))
        check = manager.check(conversation, claude)
        asked = manager.check(conversation, claude, query="Two?")
    assert [entry.code for entry in asked.entries] == ["turn_merged"]
    assert check.entries == ()
    assert [(part.message, part.part) for part in check.parts] == [(0, 0), (1, 0), (2, 0)]
    assert 1_000 < check.input_tokens < asked.input_tokens  # the turn before it is counted


async def test_check_with_tool_results_reports_no_synthesised_results() -> None:
    """Without the results the report lists synthesised results for the calls."""
    script = [Answer(text="Let me see.", tool_calls=CALLS)]
    async with ProviderServer(script) as server, ConversationManager() as manager:
        conversation = await manager.create()
        node = await manager.ask(conversation, "Add.", endpoint_at(server, Dialect.ANTHROPIC_MESSAGES))
        assert node.response is not None
        results = await run_tools(node.response.tools(), [add])
        other = endpoint(_Provider.OPEN_AI)
        check = manager.check(conversation, other, tool_results=results)
        without = manager.check(conversation, other)
        with pytest.raises(ConfigurationError, match="one result"):
            manager.check(conversation, other, tool_results=results[0])  # pyright: ignore[reportArgumentType] - the test
        with pytest.raises(ConfigurationError, match="one text"):
            manager.check(conversation, other, instructions="Be brief.")
    synthesised = "tool_result_synthesized"
    assert synthesised not in {entry.code for entry in check.entries}
    assert synthesised in {entry.code for entry in without.entries}
    assert [(part.kind, part.outcome) for part in check.parts][-2:] == [("tool_result", "native")] * 2


# ---------------------------------------------------------------------------------------------------- tree and seed


def test_children_and_siblings_list_the_branches_of_a_node() -> None:
    root = ConversationNode(user_query="root")
    one, two = (ConversationNode(user_query=query, parent_id=root.id) for query in ("one", "two"))
    other = ConversationNode(user_query="other beginning")
    tree = Conversation(nodes=[root, one, two, other])
    assert tree.children(root.id) == (one, two)
    assert tree.children(None) == (root, other)
    assert tree.children(two.id) == ()
    assert tree.siblings(one.id) == tree.siblings(two.id) == (one, two)
    assert tree.siblings(root.id) == (root, other)
    for ask in (tree.children, tree.siblings, tree.checkout):
        with pytest.raises(ValueError, match="no node 'nobody'"):
            ask("nobody")


async def test_word_limits_cut_query_files_and_response_of_a_turn() -> None:
    text = FilePart(media_type="text/plain", data=b"one two three", filename="a.txt")
    async with ProviderServer([Answer(text="alpha beta gamma delta")]) as server, ConversationManager() as manager:
        node = await manager.ask(await manager.create(), "?", endpoint_at(server, Dialect.GEMINI))
    asked, said = PromptFormatter.format_conversion_node_as_prompts(
        GPT62Sol,
        "who is there then",
        [text, PNG],
        node.response,
        max_words_query=2,
        max_words_files=1,
        max_words_response=3,
    )
    assert asked.get_text() == "who is …"
    assert [part.get_text() for part in asked.parts] == ["one …", "", "who is …"]
    assert said.get_text() == "alpha beta gamma …"
    whole = PromptFormatter.format_conversion_node_as_prompts(GPT62Sol, "who is there then", [text], node.response)
    assert [message.get_text() for message in whole] == ["who is there then", "alpha beta gamma delta"]
    with pytest.raises(ConfigurationError, match="0 words"):
        PromptFormatter.format_conversion_node_as_prompts(GPT62Sol, "who", max_words_query=0)
