"""Ends turns whose process is gone: each leaves an ``interrupted`` node with the events that were kept."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dhenara_async.calls.accumulator import Accumulator
from dhenara_async.conversation import ConversationNode
from dhenara_async.events import StepStart, StreamEvent, ToolApprovalRequest, ToolEnd, ToolStart
from dhenara_async.messages.messages import ToolResultPart
from dhenara_async.stores import StoredTurn, StoreWithJournal, TurnWriter
from dhenara_async.stores.signing import SigningKeys
from dhenara_async.turns.process import is_gone
from dhenara_async.usage.tokens import UNKNOWN

logger: Final = logging.getLogger("dhenara_async")

ERROR: Final = "the process that received the answer ended before the answer was complete"
CLAIM_SECONDS: Final = 60.0


def is_dead(turn: StoredTurn) -> bool:
    """Whether the writer of a running turn cannot end it any more."""
    return not turn.ended and (turn.expired or is_gone(turn.writer))


async def end_dead_turn(
    store: StoreWithJournal, turn: StoredTurn, writer: TurnWriter, signing: SigningKeys | None, keep: float
) -> None:
    """End a turn whose process is gone; nothing changes if somebody else does.

    Args:
        store: The store of the turn's owner.
        turn: The turn.
        writer: The writer that ends it.
        signing: The keys that sign its node; None = it is not signed.
        keep: Seconds that its events stay.

    Raises:
        StoreError: The store failed.
    """
    if not await store.claim_turn(turn, writer, lease=CLAIM_SECONDS, gone=is_gone(turn.writer)):
        return
    page = await store.read_turn(turn.id)  # after the claim: its writer cannot add to it any more
    if page is None or page.turn.ended:
        return
    last = last_step(turn, page.events)
    stored = await store.find_node(last.draft.id)
    known = stored is not None and stored[0] == turn.conversation_id
    node = stored[1] if known and stored is not None else interrupted_node(turn, last)
    if signing is not None and not known:
        node = signing.signed(node)
    if await store.end_turn(turn, writer, (), node, keep=keep, aside=True):
        logger.warning(
            "turn %s was ended because its process is gone; %d events of it are kept", turn.id, len(page.events)
        )


@dataclass(frozen=True, slots=True)
class LastStep:
    """The last model call of a turn: the only one, unless the turn ran tools.

    Attributes:
        draft: Its node before its answer.
        events: The events of its answer.
    """

    draft: ConversationNode
    events: Sequence[StreamEvent]


def last_step(turn: StoredTurn, events: Sequence[StreamEvent]) -> LastStep:
    """Return the last model call of a turn, as far as its events are kept."""
    draft, begin = turn.draft, 0
    results: list[ToolResultPart] = []
    for place, event in enumerate(events):
        if isinstance(event, ToolEnd):
            results.append(event.result)
        elif isinstance(event, StepStart):
            begin = place + 1
            if event.node_id is not None and event.node_id != draft.id:
                changed = {"user_query": "", "attached_files": (), "order": None, "tool_results": tuple(results)}
                draft = draft.changed(id=event.node_id, parent_id=draft.id, **changed)
            results = []
    loop = (StepStart, ToolApprovalRequest, ToolStart, ToolEnd)
    return LastStep(draft, [event for event in events[begin:] if not isinstance(event, loop)])


def interrupted_node(turn: StoredTurn, step: LastStep) -> ConversationNode:
    """Return the node of a turn that was cut: what was kept of its answer, with unknown usage."""
    target = turn.target
    answer = Accumulator(
        provider="" if target is None else target.provider, model="" if target is None else target.model
    )
    answer.feed(step.events)
    response = answer.partial().changed(usage=UNKNOWN)
    parts = [part for choice in response.choices for part in choice.parts]
    origins = [part.origin for part in parts if part.origin is not None]
    return step.draft.changed(
        status="interrupted",
        error=ERROR,
        response=response if parts else None,
        origin=origins[-1] if origins else target,
    )
