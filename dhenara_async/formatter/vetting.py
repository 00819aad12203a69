"""What of the state that came with a history is believed: decided before anything else becomes of its parts.

Nodes are data, and whoever can write to their store can write anything into them. State that goes to a provider as it
is has to be of the shapes that its driver knows (``Rules.vet``) and, where nodes are signed, of a node with a valid
signature. Whatever else a part says is only words, and stays.
"""

from operator import is_not

from dhenara_async.formatter.ledger import Ledger, SourceMessage
from dhenara_async.formatter.parts import Terms
from dhenara_async.messages.messages import FilePart, Origin, Part, ResultContent, Role, ToolResultPart

_UNSIGNED = "the node it comes from has no valid signature"
# Who has made a file whose node is not signed: nobody whose account is known, so that no account is used to read it.
_UNKNOWN = Origin(provider="unsigned", dialect="", endpoint="", account=None, model="")


class Vetting:
    """Takes out of messages what may not be sent, and notes it."""

    def __init__(self, terms: Terms, ledger: Ledger) -> None:
        self._terms = terms
        self._ledger = ledger

    def look_at(self, source: SourceMessage) -> None:
        """Give ``source`` a message without what is not believed; its own, if that is nothing."""
        message = source.message
        answer = message.role is Role.ASSISTANT
        if not answer and source.vouched:
            return  # no state of what a user says is ever sent
        look = self._look_at if source.vouched else self._bare
        parts = [look(source, index, part) for index, part in enumerate(message.parts)]
        if any(map(is_not, parts, message.parts)):
            source.message = message.changed(parts=tuple(parts))

    def _look_at(self, source: SourceMessage, index: int, part: Part) -> Part:
        """A part of an answer with as much of its state as may be sent."""
        if not part.provider_state or not self._terms.is_same_model(part.origin):
            return part  # to nobody else it is sent anyway
        vetted = self._terms.rules.vet(part)
        if vetted.reason is None:
            return part
        self._ledger.note("state_dropped", "converted", vetted.reason, source, index, detail=vetted.detail)
        return part.changed(provider_state=vetted.state)

    def _bare(self, source: SourceMessage, index: int, part: Part) -> Part:
        """A part of a node that is not signed: without its state, and without a claim to files in anybody's store."""
        changes: dict[str, object] = {}
        if part.provider_state:
            changes["provider_state"] = None
        if isinstance(part, FilePart) and part.is_stored:
            changes["origin"] = _UNKNOWN
        if isinstance(part, ToolResultPart) and any(
            isinstance(item, FilePart) and item.is_stored for item in part.content
        ):
            changes["content"] = tuple(map(_unclaimed, part.content))
        if not changes:
            return part
        self._ledger.note("state_dropped", "converted", "unsigned", source, index, detail=_UNSIGNED)
        return part.changed(**changes)


def _unclaimed(item: ResultContent) -> ResultContent:
    is_claim = isinstance(item, FilePart) and item.is_stored
    return item.changed(origin=_UNKNOWN) if is_claim else item
