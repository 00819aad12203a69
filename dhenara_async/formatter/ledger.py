"""Records the outcome of every part of some messages, and the reason of every change."""

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
    """An input message, with its index and the outcomes of its parts so far."""

    at: int
    message: Message
    outcomes: list[ConversionOutcome]
    mended: frozenset[int] = frozenset()  # indexes of the parts whose lone surrogates were replaced
    vouched: bool = True  # whether the node's signature is valid, or signatures are not checked
    made_up: list[str] = field(default_factory=list[str])  # the kinds of the parts synthesised for it

    @classmethod
    def of(
        cls, at: int, message: Message, *, mended: frozenset[int] = frozenset(), vouched: bool = True
    ) -> "SourceMessage":
        return cls(at, message, ["native"] * len(message.parts), mended, vouched)

    def afresh(self) -> "SourceMessage":
        """Return a copy with unchanged outcomes."""
        return SourceMessage.of(self.at, self.message, mended=self.mended, vouched=self.vouched)

    def downgrade(self) -> None:
        """Mark all parts as downgraded, except those with a worse outcome."""
        self.outcomes[:] = [worse("downgraded", outcome) for outcome in self.outcomes]

    def parts(self) -> list[PartOutcome]:
        """Return the outcomes as report data."""
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
    """Collects the entries of the report.

    Args:
        target: The endpoint that the history is converted for.
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
        """Record a change of the part at ``index``, or of the whole message.

        A part with several changes keeps the worst ``outcome``.
        """
        part: Part | None = None
        if index is not None:
            part = source.message.parts[index]
            source.outcomes[index] = worse(outcome, source.outcomes[index])
        self._add(code, reason, source, index, "message" if part is None else part.type, part, detail)

    def made_up(
        self, code: str, kind: str, source: SourceMessage, *, detail: str, reason: Reason = "invalid_for_target"
    ) -> None:
        """Record a synthesised part of this ``kind``, added because of a message."""
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
