"""The events of earlier steps of a tool loop, for a page that comes back in the middle of a later one. Pure."""

from collections.abc import Sequence

from dhenara_async.conversation import ConversationNode
from dhenara_async.events import StreamEvent, ToolEnd
from dhenara_async.turns.follower import log_of_node


def events_of_steps(nodes: Sequence[ConversationNode]) -> list[StreamEvent]:
    """Return the events of the steps, and of the tool calls between them.

    Args:
        nodes: The steps, oldest first; the calls of the last one belong to the step behind it.
    """
    events: list[StreamEvent] = []
    for place, node in enumerate(nodes):
        if place:
            events += [ToolEnd(result) for result in node.tool_results]
        events += log_of_node("", node).events
    return events


def events_after_decisions(nodes: Sequence[ConversationNode]) -> list[StreamEvent]:
    """Return the events from decisions about tool calls up to the last step, without those of that step itself.

    Args:
        nodes: The steps behind the decisions, oldest first.
    """
    results: list[StreamEvent] = [ToolEnd(result) for result in nodes[0].tool_results]
    if len(nodes) == 1:
        return results
    last: list[StreamEvent] = [ToolEnd(result) for result in nodes[-1].tool_results]
    return [*results, *events_of_steps(nodes[:-1]), *last]
