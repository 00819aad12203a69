"""Loops as conversations: shown, windowed, regenerated and edited, without a call or a result alone."""

from pathlib import Path

import pytest

from dhenara_async import (
    AIModelCallConfig,
    Conversation,
    ConversationManager,
    ConversationNode,
    ConversationPolicy,
    Dialect,
    FinishReason,
    Pending,
    StreamEnd,
    StreamEvent,
    ToolApprovalRequest,
    ToolCallPart,
    ToolEnd,
    ToolPolicy,
    ToolProgress,
    ToolResultPart,
    ToolStart,
    event_to_dict,
)
from dhenara_async.errors import StreamStateError
from dhenara_async.stores.event_lines import event_lines, events_of
from dhenara_async.testing import Answer, ProviderServer
from dhenara_async.turns.log import TurnLog
from tests.loops.tools import Studio, call, endpoint_of, paint_step, steps

CHAT = Dialect.OPENAI_CHAT


async def test_markdown_shows_calls_and_results() -> None:
    script = [paint_step(1, call(1, "paint", '{"number": 1}'), call(2, "fail")), Answer(text="Done.")]
    config = AIModelCallConfig(tools=Studio().tools)
    async with ProviderServer(script) as server, ConversationManager(config=config) as manager:
        conversation = await manager.create()
        await manager.ask(conversation, "Paint one.", endpoint_of(server, CHAT), run_tools=ToolPolicy())
    shown = conversation.to_markdown()
    assert "> Paint one." in shown
    assert '- `paint({"number": 1})`' in shown
    assert "> `paint`: picture 1 is painted\n>\n> `fail` failed: ValueError: no paint is left" in shown
    assert Conversation.import_json(conversation.export_json()).to_markdown() == shown


async def test_a_window_leaves_out_whole_loops() -> None:
    config = AIModelCallConfig(tools=Studio().tools)
    window = ConversationPolicy(keep_turns=2)
    script = [*steps(3), *steps(3), Answer(text="Bye.")]
    async with ProviderServer(script) as server, ConversationManager(config=config, window=window) as manager:
        conversation, endpoint = await manager.create(), endpoint_of(server, Dialect.ANTHROPIC_MESSAGES)
        for _ in range(2):
            await manager.ask(conversation, "Paint three.", endpoint, run_tools=ToolPolicy())
        node = await manager.ask(conversation, "Bye.", endpoint)
        assert [seen.error for seen in server.requests] == [None] * 9
        assert next(text for role, text in server.requests[-1].turns if role == "user") == "Paint three."
    assert {entry.code for entry in node.conversion.entries} == {"truncated"}


async def test_regenerate_and_edit_run_tools_from_any_step() -> None:
    studio = Studio()
    config = AIModelCallConfig(tools=studio.tools)
    script = [*steps(2), *steps(1), *steps(1)]
    async with ProviderServer(script) as server, ConversationManager(config=config) as manager:
        conversation, endpoint = await manager.create(), endpoint_of(server, CHAT)
        first = manager.turn(conversation, "Paint two.", endpoint, run_tools=ToolPolicy())
        await first
        middle = manager.regenerate(conversation, first.nodes[1].id, endpoint, run_tools=ToolPolicy())
        await middle
        assert [node.parent_id for node in middle.nodes] == [first.nodes[0].id, middle.nodes[0].id]
        assert middle.nodes[0].tool_results == first.nodes[1].tool_results
        edited = manager.edit(conversation, first.nodes[0].id, "Paint one.", endpoint, run_tools=ToolPolicy())
        await edited
        assert [node.parent_id for node in edited.nodes] == [None, edited.nodes[0].id]
        assert [seen.error for seen in server.requests] == [None] * 7
    assert conversation.path() == edited.nodes


async def test_readers_attach_to_a_loop_and_its_events_are_lines_of_json() -> None:
    config = AIModelCallConfig(tools=Studio().tools)
    async with ProviderServer(steps(2)) as server, ConversationManager(config=config) as manager:
        conversation = await manager.create()
        async with manager.turn(conversation, "Paint.", endpoint_of(server, CHAT), run_tools=ToolPolicy()) as turn:
            events: list[StreamEvent] = []
            cursors = [turn.cursor]
            async for event in turn:
                events.append(event)
                cursors.append(turn.cursor)
        for place, cursor in enumerate(cursors):
            async with manager.attach(turn.id, cursor) as reader:
                assert [event async for event in reader] == events[place:]
                assert reader.node == turn.node
        async with manager.attach(turn.id, "another cursor") as reader:
            assert (await reader.batch())[1:] == events
    assert events_of(event_lines(events)) == events
    assert event_to_dict(events[0])["node_id"] == turn.id


@pytest.mark.parametrize("how", ["leave", "cancel"])
async def test_a_loop_that_ended_amid_its_tools_is_no_clean_end_for_later_readers(how: str, tmp_path: Path) -> None:
    """Its last node is complete: the answer with the calls. Another process has the events alone."""
    studio, path = Studio(), tmp_path / "talk.db"
    config = AIModelCallConfig(tools=studio.tools)
    script = [paint_step(1, call(1, "paint", '{"number": 1}'), call(2, "hang"))]
    async with (
        ProviderServer(script) as server,
        ConversationManager(store=path, config=config) as manager,
        ConversationManager(store=path) as elsewhere,
    ):
        endpoint = endpoint_of(server, CHAT)
        turn = manager.turn(await manager.create(), "Paint.", endpoint, run_tools=ToolPolicy(timeout=None))
        async with turn:
            async for event in turn:
                if isinstance(event, ToolStart) and event.call.name == "hang":
                    break
            if how == "cancel":
                await manager.cancel(turn.id)
        assert turn.node.status == "complete"
        for readers in (manager, elsewhere):
            read: list[StreamEvent] = []
            with pytest.raises(StreamStateError, match="ended before its answer was complete"):
                async with readers.attach(turn.id) as reader:
                    async for event in reader:
                        read.append(event)
            assert isinstance(read[-1], ToolStart | ToolEnd)


async def test_a_loop_that_waits_for_approval_ends_cleanly_for_later_readers(tmp_path: Path) -> None:
    path, config = tmp_path / "talk.db", AIModelCallConfig(tools=Studio().tools)
    script = [paint_step(1, call(1, "paint", '{"number": 1}'), call(2, "fail"))]
    policy = ToolPolicy(approve=lambda asked: Pending if asked.name == "fail" else True)
    async with (
        ProviderServer(script) as server,
        ConversationManager(store=path, config=config) as manager,
        ConversationManager(store=path) as elsewhere,
    ):
        turn = manager.turn(await manager.create(), "Paint.", endpoint_of(server, CHAT), run_tools=policy)
        await turn
        assert turn.outcome == "pending"
        for readers in (manager, elsewhere):
            async with readers.attach(turn.id) as reader:
                read = [event async for event in reader]
            assert any(isinstance(event, ToolEnd) for event in read)


_CALL = ToolCallPart(call_id="1", name="paint")
_START, _END = ToolStart(_CALL), ToolEnd(ToolResultPart(call_id="1", name="paint"))
_ASKED = ToolApprovalRequest(_CALL)


@pytest.mark.parametrize(
    ("events", "is_complete"),
    [
        ((), True),
        ((_ASKED,), True),
        ((_ASKED, _START, _END), True),  # the other call of the answer was allowed
        ((_START,), False),
        ((_START, ToolProgress(_CALL, 1)), False),
        ((_START, _START, _END), False),
        ((_START, _END), False),  # the model was not asked about the result
        ((_ASKED, _START), False),
    ],
)
def test_a_turn_is_complete_if_no_call_runs_at_its_end_and_no_result_is_left(
    events: tuple[StreamEvent, ...], is_complete: bool
) -> None:
    log = TurnLog("turn", "conversation")
    log.add_all((StreamEnd(finish_reason=FinishReason.TOOL_CALLS), *events))
    assert not log.is_complete
    log.end(ConversationNode(), None)
    assert log.is_complete is is_complete


def test_a_turn_with_a_failure_or_without_a_complete_node_is_not_complete() -> None:
    """A loop can fail between an answer and its calls: there are no events to tell of it."""
    for node, failure in (
        (ConversationNode(), StreamStateError("left")),
        (ConversationNode(status="failed"), None),
        (None, None),
    ):
        log = TurnLog("turn", "conversation")
        log.end(node, failure)
        assert not log.is_complete


async def test_decisions_that_are_sent_again_go_on_where_their_loop_was_cancelled_in_a_later_step(
    tmp_path: Path,
) -> None:
    studio = Studio()
    config = AIModelCallConfig(tools=studio.tools)
    policy = ToolPolicy(approve=lambda asked: asked.name == "hang" or Pending, timeout=None)
    script = [paint_step(1), paint_step(2, call(2, "hang")), Answer(text="Done.")]
    async with ProviderServer(script) as server, ConversationManager(store=tmp_path / "a.db", config=config) as manager:
        conversation, endpoint = await manager.create(), endpoint_of(server, CHAT)
        await manager.ask(conversation, "Paint.", endpoint, run_tools=policy)
        page = await manager.open(conversation.id)  # has not seen what follows
        async with manager.resume(conversation, {"call_1": True}, endpoint) as first:
            async for event in first:
                if isinstance(event, ToolStart) and event.call.name == "hang":
                    break
            await manager.cancel(first.id)
        again = await manager.resume(page, {"call_1": True}, endpoint)
    assert again.answer.text() == "Done."
    assert studio.painted == [1]
