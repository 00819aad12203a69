"""What a hop to another model carries over: the policy asked for, and the report of what became of every part.

The report is total: each part of the history is in ``parts`` with its outcome, and each that did not stay as it was has
an entry that says what was done and why. Codes and severities are stable data, made to be counted and compared;
``detail`` is for people.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import Literal, get_args

from pydantic import Field

from dhenara_async.frozen import FrozenModel
from dhenara_async.messages.messages import HostedToolPart, Message, Origin, Part, ReasoningPart

Severity = Literal["info", "degraded", "lossy"]
ConversionOutcome = Literal["native", "converted", "downgraded", "omitted", "synthesised"]
Reason = Literal[
    "foreign_origin",
    "other_model",
    "other_account",
    "other_prefix",
    "unsupported_by_target",
    "unsupported_by_model",
    "invalid_for_target",
    "aborted_turn",
    "limit_exceeded",
    "refused_by_target",
    "asked_for",
    "not_allowed",
    "altered",
    "unsigned",
]

SEVERITIES: Mapping[str, Severity] = {
    # no user content is lost
    "reasoning_dropped": "info",
    "id_rewritten": "info",
    "turn_merged": "info",
    "turn_inserted": "info",
    "blank_text_dropped": "info",
    "signature_synthesized": "info",
    "tools_stubbed": "info",
    "server_dropped_reasoning": "info",
    # meaning kept, form changed
    "role_downgraded": "degraded",
    "media_inlined": "degraded",
    "media_moved": "degraded",
    "reasoning_as_text": "degraded",
    "refusal_as_text": "degraded",
    "flag_dropped": "degraded",
    "hosted_tool_summarized": "degraded",
    "tool_result_as_text": "degraded",
    "tool_result_synthesized": "degraded",
    "arguments_wrapped": "degraded",
    "citations_dropped": "degraded",
    "text_repaired": "degraded",
    "prefill_converted": "degraded",
    # content gone
    "media_dropped": "lossy",
    "hosted_tool_dropped": "lossy",
    "turn_dropped": "lossy",
    "reasoning_stripped_after_400": "lossy",
    "state_dropped": "lossy",
    "truncated": "lossy",
}
"""What can be done to a part, and how bad that is."""

_RANK: Mapping[ConversionOutcome, int] = {outcome: rank for rank, outcome in enumerate(get_args(ConversionOutcome))}


class ConversionPolicy(FrozenModel):
    """What a hop may do to the history.

    Attributes:
        strict: Raise ``ConversionLossError`` before a byte is sent if anything would be lost.
        foreign_reasoning: ``omit`` another model's shown thinking, or send it ``as_text``. Models copy the style of
            what they are shown, so text is for those who know that they want it.
        media: What becomes of a file that the target cannot take: ``omit`` it, ``describe`` it in a line of text, or
            ``refuse`` the call with ``UnsupportedError``. None = describe what is history, refuse what is asked now.
        max_inlined_bytes: The most bytes of one file that a request may carry; a larger one is a file that the target
            cannot take, and a download for it is broken off there. None = as many as the target allows.
    """

    strict: bool = False
    foreign_reasoning: Literal["omit", "as_text"] = "omit"
    media: Literal["omit", "describe", "refuse"] | None = None
    max_inlined_bytes: int | None = Field(default=None, gt=0)


class PartOutcome(FrozenModel):
    """What became of one part of the history.

    Attributes:
        node: The conversation node it comes from; None outside a conversation.
        message: Its message's place among those handed in, from 0; None for a turn that is not shown at all.
        part: Its place in the message, from 0; None for what was made up.
        kind: The part's type.
        outcome: ``native``: sent as it was; ``converted``: sent in the target's form; ``downgraded``: its meaning was
            sent in another form; ``omitted``: not sent; ``synthesised``: made up, because the target demands it.
    """

    node: str | None = None
    message: int | None
    part: int | None
    kind: str
    outcome: ConversionOutcome


class ConversionEntry(FrozenModel):
    """What became of one part that was not carried over as it was.

    Attributes:
        code: What was done (``reasoning_dropped``, ``refusal_as_text`` …).
        severity: ``info``: no user content lost; ``degraded``: meaning kept, form changed; ``lossy``: content gone.
        node: The conversation node it comes from; None outside a conversation.
        message: Its message's place among those handed in, from 0; None where the provider did it and did not say.
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
    message: int | None
    part: int | None = None
    kind: str
    origin: Origin | None = None
    target: Origin
    reason: Reason
    detail: str = ""


class ConversionReport(FrozenModel):
    """What a hop did to a history. ``print`` shows it as a table, ``model_dump_json`` gives it as data.

    Attributes:
        entries: Everything that was not carried over natively, in request order.
        parts: Every part of the history with its outcome, in order.
        counted: Further parts that were carried over natively, only counted here, by kind; see ``condensed``.
    """

    entries: tuple[ConversionEntry, ...] = ()
    parts: tuple[PartOutcome, ...] = ()
    counted: dict[str, int] = Field(default_factory=dict)

    @property
    def lossy(self) -> tuple[ConversionEntry, ...]:
        """The entries whose content is gone."""
        return tuple(entry for entry in self.entries if entry.severity == "lossy")

    def counts(self) -> dict[ConversionOutcome, int]:
        """How many parts had which outcome; outcomes that none had are left out."""
        counted = Counter(part.outcome for part in self.parts)
        counted["native"] += sum(self.counted.values())
        return {outcome: counted[outcome] for outcome in _RANK if counted[outcome]}

    def condensed(self) -> "ConversionReport":
        """The report as a node keeps it: parts that went along as they were are counted, except reasoning, not listed.

        A conversation keeps a report for every turn, and each tells of all turns before it: listed in full they would
        soon outweigh the conversation.
        """
        listed: list[PartOutcome] = []
        counted = Counter(self.counted)
        for part in self.parts:
            if part.outcome == "native" and part.kind != "reasoning":
                counted[part.kind] += 1
            else:
                listed.append(part)
        return ConversionReport(entries=self.entries, parts=tuple(listed), counted=dict(sorted(counted.items())))

    def __str__(self) -> str:
        """A table with a line for every part, and one more for each further thing that was done to it."""
        tally = ", ".join(f"{number} {outcome}" for outcome, number in self.counts().items()) or "nothing to carry over"
        rows = [_HEAD, *_rows(self)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD) - 1)]
        lines = ["  ".join([*map(str.ljust, row, widths), row[-1]]).rstrip() for row in rows]
        return "\n".join([tally, *lines]) if len(rows) > 1 else tally


_REPORT = "input_transformations"
_WHY: Mapping[str, Reason] = {
    "model_": "other_model",
    "prefix_": "other_prefix",
    "organization_": "other_account",
    "end_user_": "other_account",
}


def dropped_by_server(
    answered: Iterable[Part], messages: Sequence[Message], target: Origin
) -> tuple[ConversionEntry, ...]:
    """An entry for each piece of reasoning that the provider, by its own account, did not show to its model.

    Args:
        answered: The parts of the answer, the provider's account of the request among them.
        messages: What was sent, one for each of the wire's.
        target: Who answered.
    """
    dropped: list[ConversionEntry] = []
    for part in answered:
        if isinstance(part, HostedToolPart) and part.report and part.name == _REPORT and isinstance(part.output, list):
            dropped += [
                _dropped(said, messages, target) for said in part.output if isinstance(said, dict) and _is_drop(said)
            ]
    return tuple(dropped)


def _is_drop(said: Mapping[str, object]) -> bool:
    """Anthropic tells of reasoning that was dropped by the type, Responses by the action."""
    return said.get("type") == "thinking_dropped" or (said.get("type"), said.get("action")) == ("reasoning", "removed")


def _dropped(said: Mapping[str, object], messages: Sequence[Message], target: Origin) -> ConversionEntry:
    word, place = str(said.get("reason") or "no reason told"), str(said.get("path") or said.get("id") or "")
    found = _reasoning_at(place, messages)
    return ConversionEntry.unchecked(
        code="server_dropped_reasoning",
        severity=SEVERITIES["server_dropped_reasoning"],
        node=None if found is None else found[0].node,
        message=None,
        kind="reasoning",
        origin=None if found is None else found[1].origin,
        target=target,
        reason=_why(word),
        detail=f"{place}: {word}" if place else word,
    )


def _why(word: str) -> Reason:
    for start, reason in _WHY.items():
        if word.startswith(start):
            return reason
    return "refused_by_target"


def _reasoning_at(place: str, messages: Sequence[Message]) -> tuple[Message, ReasoningPart] | None:
    """The reasoning that a provider speaks of, by its place in the request or by its id; None if it is not there."""
    for at, message in enumerate(messages):
        for index, part in enumerate(message.parts):
            if isinstance(part, ReasoningPart) and place in (
                f"messages.{at}.content.{index}",
                (part.provider_state or {}).get("id"),
            ):
                return message, part
    return None


_HEAD = ("message", "part", "kind", "outcome", "code", "severity", "why")


def worse(one: ConversionOutcome, other: ConversionOutcome) -> ConversionOutcome:
    """The outcome of a part that two things were done to."""
    return one if _RANK[one] >= _RANK[other] else other


def _rows(report: ConversionReport) -> Sequence[tuple[str, ...]]:
    told: dict[tuple[int | None, int | None], list[ConversionEntry]] = {}
    for entry in report.entries:
        told.setdefault((entry.message, entry.part), []).append(entry)
    rows: list[tuple[str, ...]] = []
    for part in report.parts:
        if part.part is None:
            continue
        place = ("" if part.message is None else str(part.message), str(part.part), part.kind)
        mine = told.pop((part.message, part.part), [])
        rows += [(*place, part.outcome, *_said(entry)) for entry in mine] or [(*place, part.outcome, "", "", "")]
    for entries in told.values():  # of whole messages, and of what the target wanted beside them
        for entry in entries:
            where = "" if entry.message is None else str(entry.message)
            outcome = "" if entry.kind == "message" else "omitted" if entry.message is None else "synthesised"
            rows.append((where, "", entry.kind, outcome, *_said(entry)))
    return sorted(rows, key=_order)


def _order(row: tuple[str, ...]) -> float:
    """By message; turns that are not shown come first, what the provider did itself comes last."""
    if row[0]:
        return int(row[0])
    return -1 if row[2] == "message" else inf


def _said(entry: ConversionEntry) -> tuple[str, str, str]:
    return entry.code, entry.severity, entry.detail or entry.reason.replace("_", " ")
