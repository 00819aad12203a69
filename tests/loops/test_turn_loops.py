"""Turns that run their tools, against a loopback provider, in every dialect."""

import pytest

from dhenara_async import (
    AIModelCallConfig,
    ConversationManager,
    Dialect,
    StepStart,
    StreamEvent,
    ToolEnd,
    ToolPolicy,
    ToolStart,
)
from dhenara_async.testing import ProviderServer, check_grammar
from tests.loops.tools import SPEAKERS, Studio, endpoint_of, steps


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("dialect", SPEAKERS)
async def test_five_steps(dialect: Dialect, streaming: bool) -> None:
    studio = Studio()
    config = AIModelCallConfig(tools=studio.tools, streaming=streaming)
    async with ProviderServer(steps(5)) as server, ConversationManager(config=config) as manager:
        conversation, endpoint = await manager.create(), endpoint_of(server, dialect)
        if streaming:
            async with manager.turn(conversation, "Paint five.", endpoint, run_tools=ToolPolicy()) as turn:
                events: list[StreamEvent] = [event async for event in turn]
            check_grammar(events)
            assert [event.node_id for event in events if isinstance(event, StepStart)] == [
                node.id for node in turn.nodes
            ]
            assert sum(isinstance(event, ToolStart) for event in events) == 5
            assert [event.result.get_text() for event in events if isinstance(event, ToolEnd)] == [
                f"picture {number} is painted" for number in range(1, 6)
            ]
            assert turn.outcome == "complete"
            assert turn.id == turn.nodes[0].id
            node = turn.node
        else:
            node = await manager.ask(conversation, "Paint five.", endpoint, run_tools=ToolPolicy())
        assert node.answer.text() == "All is painted."
        assert studio.painted == [1, 2, 3, 4, 5]
        assert [seen.error for seen in server.requests] == [None] * 6
        assert [seen.stream for seen in server.requests] == [streaming] * 6
    assert conversation.path() == conversation.nodes
    assert len(conversation.nodes) == 6
    assert {node.loop_id for node in conversation.nodes} == {conversation.nodes[0].id}
    assert [len(node.tool_results) for node in conversation.nodes] == [0, 1, 1, 1, 1, 1]
