"""Removes untrusted provider state from a history, before its parts are converted.

Nodes are data, and anyone with write access to their store can change them. Provider state is sent back only if it has
a shape that the driver knows (``Rules.vet``) and, if nodes are signed, if the node's signature is valid. All other
content is ordinary text and stays.
"""

from operator import is_not

from dhenara_async.formatter.ledger import Ledger, SourceMessage
from dhenara_async.formatter.parts import Terms
from dhenara_async.messages.messages import FilePart, Origin, Part, ResultContent, Role, ToolResultPart

_UNSIGNED = "the node it comes from has no valid signature"
# The origin of a stored file in an unsigned node: an unknown account, so that no known account reads the file.
_UNKNOWN = Origin(provider="unsigned", dialect="", endpoint="", account=None, model="")


class Vetting:
    """Removes untrusted state from messages and records it."""

    def __init__(self, terms: Terms, ledger: Ledger) -> None:
        self._terms = terms
        self._ledger = ledger

    def look_at(self, source: SourceMessage) -> None:
        """Replace the message of ``source`` by one without untrusted state, if it has any."""
        message = source.message
        answer = message.role is Role.ASSISTANT
        if not answer and source.vouched:
            return  # state of user messages is never sent
        look = self._look_at if source.vouched else self._bare
        parts = [look(source, index, part) for index, part in enumerate(message.parts)]
        if any(map(is_not, parts, message.parts)):
            source.message = message.changed(parts=tuple(parts))

    def _look_at(self, source: SourceMessage, index: int, part: Part) -> Part:
        """Return a part of an answer with only the trusted part of its state."""
        if not part.provider_state or not self._terms.is_same_model(part.origin):
            return part  # its state is not sent to another model
        vetted = self._terms.rules.vet(part)
        if vetted.reason is None:
            return part
        self._ledger.note("state_dropped", "converted", vetted.reason, source, index, detail=vetted.detail)
        return part.changed(provider_state=vetted.state)

    def _bare(self, source: SourceMessage, index: int, part: Part) -> Part:
        """Return a part of an unsigned node without its state and without the origin of stored files."""
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
