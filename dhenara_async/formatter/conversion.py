"""The policy and the report of a conversion: how a history changes on its way to another model.

The report is complete: ``parts`` has the outcome of every part of the history, and every changed part has an entry with
the change and its reason. Codes and severities are stable data, made to be counted and compared; ``detail`` is for
people.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import Literal, get_args

from pydantic import Field

from dhenara_async.formatter.markdown import markdown_table
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
"""The severity of each change, by its code."""

_RANK: Mapping[ConversionOutcome, int] = {outcome: rank for rank, outcome in enumerate(get_args(ConversionOutcome))}


class ConversionPolicy(FrozenModel):
    """The changes that a conversion may make to the history.

    Attributes:
        strict: Whether to raise ``ConversionLossError``, before a byte is sent, if content would be lost.
        foreign_reasoning: ``omit`` another model's visible reasoning, or send it ``as_text``. Models imitate the style
            of text in their prompt, so the default is ``omit``.
        media: How to handle a file that the target does not accept: ``omit`` it, ``describe`` it in a line of text, or
            ``refuse`` the call with ``UnsupportedError``. None = ``describe`` in the history and in results of servers'
            tools, ``refuse`` in the current question.
        max_inlined_bytes: Maximum bytes of one file in a request; a larger file is handled by ``media``, and its
            download stops at this size. None = the target's own limit.
    """

    strict: bool = False
    foreign_reasoning: Literal["omit", "as_text"] = "omit"
    media: Literal["omit", "describe", "refuse"] | None = None
    max_inlined_bytes: int | None = Field(default=None, gt=0)


class PartOutcome(FrozenModel):
    """The outcome for one part of the history.

    Attributes:
        node: The id of the part's conversation node; None outside a conversation.
        message: Index of the part's message in the input, from 0; None for a turn that was left out.
        part: Index of the part in its message, from 0; None for a synthesised part.
        kind: The part's type.
        outcome: ``native``: sent unchanged; ``converted``: sent in the target's form; ``downgraded``: sent in a form
            that keeps only the meaning; ``omitted``: not sent; ``synthesised``: added because the target requires it.
    """

    node: str | None = None
    message: int | None
    part: int | None
    kind: str
    outcome: ConversionOutcome


class ConversionEntry(FrozenModel):
    """One change to a part of the history.

    Attributes:
        code: The change (``reasoning_dropped``, ``refusal_as_text`` …).
        severity: ``info``: no user content lost; ``degraded``: meaning kept, form changed; ``lossy``: content lost.
        node: The id of the part's conversation node; None outside a conversation.
        message: Index of the part's message in the input, from 0; None for a change by the provider at an unknown
            place.
        part: Index of the part in its message, from 0; None for the whole message.
        kind: The part's type, or ``message``.
        origin: The endpoint that made the part; None for the user's own parts.
        target: The endpoint that the history was converted for.
        reason: Why the part was changed.
        detail: A description of the change, for people.
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
    """The report of a conversion. ``print`` shows it as a table, ``model_dump_json`` returns it as data.

    Attributes:
        entries: The changes, in request order.
        parts: The outcome of every part of the history, in order.
        counted: Number of further ``native`` parts that are not listed, by kind; see ``condensed``.
    """

    entries: tuple[ConversionEntry, ...] = ()
    parts: tuple[PartOutcome, ...] = ()
    counted: dict[str, int] = Field(default_factory=dict)

    @property
    def lossy(self) -> tuple[ConversionEntry, ...]:
        """The entries with lost content."""
        return tuple(entry for entry in self.entries if entry.severity == "lossy")

    def counts(self) -> dict[ConversionOutcome, int]:
        """Return the number of parts per outcome, without zeros."""
        counted = Counter(part.outcome for part in self.parts)
        counted["native"] += sum(self.counted.values())
        return {outcome: counted[outcome] for outcome in _RANK if counted[outcome]}

    def condensed(self) -> "ConversionReport":
        """Return the report in the form stored in a node: ``native`` parts, except reasoning, are only counted.

        A conversation stores a report for every turn, and each covers all turns before it: full lists would soon be
        larger than the conversation.
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
        """Return a table with a line for every part, and one more for each further change of it."""
        tally = self._tally()
        rows = [_HEAD, *_rows(self)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD) - 1)]
        lines = ["  ".join([*map(str.ljust, row, widths), row[-1]]).rstrip() for row in rows]
        return "\n".join([tally, *lines]) if len(rows) > 1 else tally

    def _repr_markdown_(self) -> str:
        rows = _rows(self)
        return f"{self._tally()}\n\n{markdown_table(_HEAD, rows)}" if rows else self._tally()

    def _tally(self) -> str:
        return ", ".join(f"{number} {outcome}" for outcome, number in self.counts().items()) or "nothing to carry over"


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
    """Return an entry for each reasoning part of the request that the provider reports to have dropped.

    Args:
        answered: The parts of the answer, including the provider's report on the request.
        messages: The messages sent, one per message on the wire.
        target: The answering endpoint.
    """
    dropped: list[ConversionEntry] = []
    for part in answered:
        if isinstance(part, HostedToolPart) and part.report and part.name == _REPORT and isinstance(part.output, list):
            dropped += [
                _dropped(item, messages, target) for item in part.output if isinstance(item, dict) and _is_drop(item)
            ]
    return tuple(dropped)


def _is_drop(item: Mapping[str, object]) -> bool:
    """Whether an item reports dropped reasoning: Anthropic by its type, Responses by its action."""
    return item.get("type") == "thinking_dropped" or (item.get("type"), item.get("action")) == ("reasoning", "removed")


def _dropped(item: Mapping[str, object], messages: Sequence[Message], target: Origin) -> ConversionEntry:
    word, place = str(item.get("reason") or "no reason given"), str(item.get("path") or item.get("id") or "")
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
    """Find a reasoning part by its path in the request or by its id; None if there is none."""
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
    """Return the worse of two outcomes, for a part with two changes."""
    return one if _RANK[one] >= _RANK[other] else other


def _rows(report: ConversionReport) -> Sequence[tuple[str, ...]]:
    by_part: dict[tuple[int | None, int | None], list[ConversionEntry]] = {}
    for entry in report.entries:
        by_part.setdefault((entry.message, entry.part), []).append(entry)
    rows: list[tuple[str, ...]] = []
    for part in report.parts:
        if part.part is None:
            continue
        place = ("" if part.message is None else str(part.message), str(part.part), part.kind)
        mine = by_part.pop((part.message, part.part), [])
        rows += [(*place, part.outcome, *_words(entry)) for entry in mine] or [(*place, part.outcome, "", "", "")]
    for entries in by_part.values():  # changes of whole messages, and synthesised parts
        for entry in entries:
            where = "" if entry.message is None else str(entry.message)
            outcome = "" if entry.kind == "message" else "omitted" if entry.message is None else "synthesised"
            rows.append((where, "", entry.kind, outcome, *_words(entry)))
    return sorted(rows, key=_order)


def _order(row: tuple[str, ...]) -> float:
    """Sort key: by message; turns that were left out come first, the provider's own changes last."""
    if row[0]:
        return int(row[0])
    return -1 if row[2] == "message" else inf


def _words(entry: ConversionEntry) -> tuple[str, str, str]:
    return entry.code, entry.severity, entry.detail or entry.reason.replace("_", " ")
