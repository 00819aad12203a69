"""Accounts for every part of a few messages while they are made legal: what became of it, and why."""

from dataclasses import dataclass, field

from dhenara_async.formatter.conversion import (
    SEVERITIES,
    ConversionEntry,
    ConversionOutcome,
    PartOutcome,
    Reason,
    worse,
)
from dhenara_async.messages.messages import Message, Origin, Part


@dataclass(slots=True, eq=False)
class SourceMessage:
    """A message on its way: where it stood, and what has become of its parts so far."""

    at: int
    message: Message
    outcomes: list[ConversionOutcome]
    mended: frozenset[int] = frozenset()  # its parts that could not be written as they were
    vouched: bool = True  # whether its node is signed as it is, or nobody asks for that
    made_up: list[str] = field(default_factory=list[str])  # the kinds of what was made up because of it

    @classmethod
    def of(
        cls, at: int, message: Message, *, mended: frozenset[int] = frozenset(), vouched: bool = True
    ) -> "SourceMessage":
        return cls(at, message, ["native"] * len(message.parts), mended, vouched)

    def afresh(self) -> "SourceMessage":
        """The same before anything has become of it."""
        return SourceMessage.of(self.at, self.message, mended=self.mended, vouched=self.vouched)

    def downgrade(self) -> None:
        """All that is still as it was has come to something less."""
        self.outcomes[:] = [worse("downgraded", outcome) for outcome in self.outcomes]

    def parts(self) -> list[PartOutcome]:
        """The outcomes as data."""
        node, at = self.message.node, self.at
        carried = [
            PartOutcome.unchecked(node=node, message=at, part=index, kind=part.type, outcome=outcome)
            for index, (part, outcome) in enumerate(zip(self.message.parts, self.outcomes, strict=True))
        ]
        return carried + [
            PartOutcome.unchecked(node=node, message=at, part=None, kind=kind, outcome="synthesised")
            for kind in self.made_up
        ]


class Ledger:
    """Collects the entries.

    Args:
        target: Who the history is prepared for.
    """

    __slots__ = ("entries", "target")

    def __init__(self, target: Origin) -> None:
        self.target: Origin = target
        self.entries: list[ConversionEntry] = []

    def note(
        self,
        code: str,
        outcome: ConversionOutcome,
        reason: Reason,
        source: SourceMessage,
        index: int | None = None,
        *,
        detail: str = "",
    ) -> None:
        """Something was done to the part at ``index``, or to the whole message.

        ``outcome`` is what the part has come to; a part that two things were done to has the worse one.
        """
        part: Part | None = None
        if index is not None:
            part = source.message.parts[index]
            source.outcomes[index] = worse(outcome, source.outcomes[index])
        self._add(code, reason, source, index, "message" if part is None else part.type, part, detail)

    def made_up(
        self, code: str, kind: str, source: SourceMessage, *, detail: str, reason: Reason = "invalid_for_target"
    ) -> None:
        """Something of a ``kind`` was made up because of a message."""
        source.made_up.append(kind)
        self._add(code, reason, source, None, kind, None, detail)

    def _add(
        self,
        code: str,
        reason: Reason,
        source: SourceMessage,
        index: int | None,
        kind: str,
        part: Part | None,
        detail: str,
    ) -> None:
        self.entries.append(
            ConversionEntry.unchecked(
                code=code,
                severity=SEVERITIES[code],
                node=source.message.node,
                message=source.at,
                part=index,
                kind=kind,
                origin=None if part is None else part.origin,
                target=self.target,
                reason=reason,
                detail=detail,
            )
        )
