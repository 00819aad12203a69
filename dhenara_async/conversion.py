"""What a hop to another model carries over: the policy asked for, and the report of what became of each part.

Codes and severities are stable data, made to be counted and compared; ``detail`` is for people.
"""

from typing import Literal

from dhenara_async.messages import Origin
from dhenara_async.value import Value

Severity = Literal["info", "degraded", "lossy"]
Reason = Literal[
    "foreign_origin",
    "other_model",
    "other_account",
    "unsupported_by_target",
    "unsupported_by_model",
    "invalid_for_target",
    "aborted_turn",
    "limit_exceeded",
]


class ConversionPolicy(Value):
    """What a hop may do to the history.

    Attributes:
        strict: Raise ``ConversionLossError`` before a byte is sent if anything would be lost.
        foreign_reasoning: ``omit`` another model's shown thinking, or send it ``as_text``. Models copy the style of
            what they are shown, so text is for those who know that they want it.
    """

    strict: bool = False
    foreign_reasoning: Literal["omit", "as_text"] = "omit"


class ConversionEntry(Value):
    """What became of one part that was not carried over as it was.

    Attributes:
        code: What was done (``reasoning_dropped``, ``refusal_as_text`` …).
        severity: ``info``: no user content lost; ``degraded``: meaning kept, form changed; ``lossy``: content gone.
        node: The conversation node it comes from; None outside a conversation.
        message: Its message's place among those handed in, from 0.
        part: Its place in the message, from 0; None where the whole message is meant.
        kind: The part's type, or ``message``.
        origin: Who made it; None for the user's own.
        target: The endpoint that it was prepared for.
        reason: Why it could not stay as it was.
        detail: The same for people.
    """

    code: str
    severity: Severity
    node: str | None = None
    message: int
    part: int | None = None
    kind: str
    origin: Origin | None = None
    target: Origin
    reason: Reason
    detail: str = ""


class ConversionReport(Value):
    """Everything of a history that was not carried over natively, in request order."""

    entries: tuple[ConversionEntry, ...] = ()

    @property
    def lossy(self) -> tuple[ConversionEntry, ...]:
        """The entries whose content is gone."""
        return tuple(entry for entry in self.entries if entry.severity == "lossy")
