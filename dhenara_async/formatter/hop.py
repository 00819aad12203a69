"""Converts a history for one target in a left fold, exchange by exchange.

An exchange is an answer and all messages up to the next answer. Once the next answer is added, the exchange is final:
a longer history begins with the same messages, so a fold can be cached and continued. Only the last exchange is open;
``finish`` closes it for one request, on a copy.
"""

from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from operator import is_not

import orjson

from dhenara_async.errors import UnsupportedError
from dhenara_async.formatter.calls import CallsNamed, Ids, PairedCall, Results, paired
from dhenara_async.formatter.conversion import ConversionEntry, PartOutcome
from dhenara_async.formatter.halves import REPLACED, without_halves
from dhenara_async.formatter.ledger import Ledger, SourceMessage
from dhenara_async.formatter.parts import Answers, ConvertedAnswer, Files, Terms
from dhenara_async.formatter.summaries import made_heading
from dhenara_async.formatter.vetting import Vetting
from dhenara_async.messages.messages import (
    FilePart,
    HostedToolPart,
    Message,
    Part,
    RefusalPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from dhenara_async.tools.declarations import Tool

OPENING = "(conversation start)"
CONTINUE = "Continue your last message from exactly where it ends."

STUB = "Declared because the conversation has used it."

_MERGED = "with the message before it"


class Fold:
    """The converted messages of all final exchanges, and the open exchange.

    Args:
        terms: The target and its rules.
        lead: Hash of instructions and tools, for a model that binds its reasoning to them; else None.

    Attributes:
        messages: The converted messages.
        entries: The changes.
        parts: The outcome of every part.
        stubs: Declarations of called functions by name, if the target requires them and the call has no tools.
    """

    def __init__(self, terms: Terms, *, lead: str | None) -> None:
        self._terms = terms
        self._rules = terms.rules
        self.messages: list[Message] = []
        self.entries: list[ConversionEntry] = []
        self.parts: list[PartOutcome] = []
        self.stubs: dict[str, Tool] = {}
        self._count = 0  # messages handed in
        self._spoken = False  # somebody else than the system
        self._call_ids = CallsNamed()
        self._shown = None if lead is None else _PrefixHash(lead)  # everything before the open exchange
        self._answers: list[SourceMessage] = []  # of the open exchange
        self._asked: list[SourceMessage] = []

    def copy(self) -> "Fold":
        """Return an independent copy."""
        other = copy(self)
        other.messages, other.entries, other.parts = [*self.messages], [*self.entries], [*self.parts]
        other.stubs = {**self.stubs}
        other._call_ids = self._call_ids.copy()
        other._shown = None if self._shown is None else self._shown.copy()
        # the outcomes of the open exchange are stored on its sources, so two folds must not share them
        other._answers = [source.afresh() for source in self._answers]
        other._asked = [source.afresh() for source in self._asked]
        return other

    def add(self, message: Message) -> None:
        """Add the next message."""
        self._add(message, vouched=True)

    def add_unsigned(self, message: Message) -> None:
        """Add the next message, of a node without a valid signature: its opaque state is not sent."""
        self._add(message, vouched=False)

    def _add(self, message: Message, *, vouched: bool) -> None:
        message, mended = without_halves(message) if self._terms.mend else (message, frozenset[int]())
        source = SourceMessage.of(self._count, message, mended=mended, vouched=vouched)
        self._count += 1
        if message.role is not Role.ASSISTANT:
            self._asked.append(source)
            return
        if self._asked:
            self._settle(now=False)
        self._answers.append(source)

    def finish(self, *, asked: bool) -> str | None:
        """Close the open exchange, for a request with all added messages.

        Args:
            asked: Whether the messages end with the current question.

        Returns:
            Hash of everything the target is shown before it answers; None if its reasoning is not bound to a prefix.
        """
        self._settle(now=asked)
        if asked:
            self._end_well()
        return None if self._shown is None else self._shown.hash()

    # ------------------------------------------------------------------------------------------------ one exchange

    def _settle(self, *, now: bool) -> None:
        """Convert and close the open exchange; ``now`` = it contains the current question."""
        answers, asked = self._answers, self._asked
        if not answers and not asked:
            return
        self._answers, self._asked = [], []
        ledger = Ledger(self._terms.target)
        vetting = Vetting(self._terms, ledger)
        for source in (*answers, *asked):
            for index in source.mended:
                ledger.note("text_repaired", "converted", "invalid_for_target", source, index, detail=REPLACED)
            vetting.look_at(source)
        results = Results(self._terms, ledger, now=now)
        turns = (
            self._convert_answers(ledger, answers, paused=now and not asked and _ends_hosted(answers))
            if answers
            else []
        )
        calls = [call for turn in turns for call in turn.calls]
        answered = paired(calls, asked) if calls else set[tuple[int, int]]()
        pieces: list[_MessageDraft] = []
        beside: list[Part] = []
        called = False
        for turn in turns:
            if turn.answer.parts:
                piece = _MessageDraft(Role.ASSISTANT, turn.answer.parts, {turn.source: None})
                if called:  # the results follow the last call, so all calls must be in one message
                    self._merge(ledger, pieces[-1], piece)
                else:
                    pieces.append(piece)
                called = called or bool(turn.calls)
            if turn.answer.files:
                beside += [TextPart(text=made_heading(len(turn.answer.files))), *turn.answer.files]
        if calls:
            pieces.append(_told(calls, [results.of(call) for call in calls]))
            self._sign(ledger, calls[0])
            self._declare(ledger, calls)
        beside += results.beside
        if beside:
            pieces.append(_MessageDraft(Role.USER, beside, {}))
        self._spoken = self._spoken or bool(pieces)
        pieces += self._asked_for(ledger, results, asked, answered, now=now)
        self._take(ledger, pieces, turns)
        if ledger.entries:
            self.entries += sorted(ledger.entries, key=lambda entry: (entry.message or 0, entry.part or 0))
        for source in (*answers, *asked):
            self.parts += source.parts()

    def _convert_answers(self, ledger: Ledger, answers: list[SourceMessage], *, paused: bool) -> "list[_AnswerTurn]":
        """Convert the answers of the exchange, with their tool calls."""
        converter, ids = Answers(self._terms, ledger), Ids(self._terms, ledger, self._call_ids)
        prefix = None if self._shown is None else self._shown.hash()
        pairs = converter.pairs(answers, paused=paused)
        turns: list[_AnswerTurn] = []
        for source in answers:
            turn = _AnswerTurn(source, converter.convert(source, prefix=prefix, pairs=pairs), [])
            for place, (index, part) in enumerate(zip(turn.answer.places, turn.answer.parts, strict=True)):
                given = source.message.parts[index]
                if isinstance(part, ToolCallPart) and isinstance(given, ToolCallPart):
                    call = ids.named(source, index, given, part)
                    turn.calls.append(call)
                    turn.answer.parts[place] = call.part
                elif isinstance(part, HostedToolPart) and (asked := part.requested_call()) is not None:
                    turn.calls.append(PairedCall(source, index, asked, asked))
            turns.append(turn)
        return turns

    def _sign(self, ledger: Ledger, call: PairedCall) -> None:
        """Record the documented placeholder signature on the first call of a step."""
        if self._rules.unsigned(call.part):
            words = "a documented stand-in, as the first call of its step"
            ledger.note(
                "signature_synthesized", "converted", "invalid_for_target", call.source, call.index, detail=words
            )

    def _declare(self, ledger: Ledger, calls: list[PairedCall]) -> None:
        """Add stubs for functions that are no longer declared, if the target rejects calls of such functions."""
        for call in calls if self._terms.stubs else ():
            name = call.part.name
            if name not in self.stubs and not call.part.hosted:
                self.stubs[name] = _stub(name)
                ledger.made_up("tools_stubbed", "tool", call.source, detail=f"{name!r} is declared without parameters")

    def _asked_for(
        self, ledger: Ledger, results: Results, asked: list[SourceMessage], answered: set[tuple[int, int]], *, now: bool
    ) -> "list[_MessageDraft]":
        """Convert user and system messages, without results that were paired with calls."""
        files = Files(self._terms, ledger)
        pieces: list[_MessageDraft] = []
        for source in asked:
            role, parts = source.message.role, list[Part]()
            for index, part in enumerate(source.message.parts):
                match part:
                    case TextPart() | RefusalPart() if not part.text.strip():
                        ledger.note("blank_text_dropped", "omitted", "invalid_for_target", source, index)
                    case TextPart():
                        parts.append(part)
                    case RefusalPart() if role is Role.USER:
                        parts.append(TextPart(text=part.text))
                    case FilePart() if role is Role.USER:
                        parts += _file(files, source, index, part, now=now)
                    case ToolResultPart() if role is Role.USER:
                        if (source.at, index) not in answered:
                            parts += results.stray(source, index, part)
                    case FilePart():
                        words = "a system message can hold only text"
                        ledger.note("media_dropped", "omitted", "unsupported_by_target", source, index, detail=words)
                    case _:
                        raise UnsupportedError(f"a message of the {role} cannot hold a part of type {part.type!r}")
            if role is Role.SYSTEM and parts and self._spoken and not self._rules.system_inside:
                parts = list[Part](TextPart(text=f"<system>{part.get_text()}</system>") for part in parts)
                role = Role.USER
                source.downgrade()
                words = "an instruction inside the conversation, as a user message"
                ledger.note("role_downgraded", "downgraded", "unsupported_by_target", source, detail=words)
            if parts:
                pieces.append(_MessageDraft(role, parts, {source: None}))
                self._spoken = self._spoken or role is not Role.SYSTEM
        return pieces

    # ------------------------------------------------------------------------------------------------ order of roles

    def _take(self, ledger: Ledger, pieces: "list[_MessageDraft]", turns: "list[_AnswerTurn]") -> None:
        """Append an exchange, in the order of roles that the target requires."""
        shaped: list[_MessageDraft] = []
        for piece in pieces:
            last = shaped[-1] if shaped else None
            tells = self._ends_in_result() if last is None else last.tells
            if tells and piece.role is not Role.ASSISTANT and self._rules.bridge:
                words = f"{self._rules.bridge!r}, between a tool result and the next message"
                shaped.append(_MessageDraft(Role.ASSISTANT, [TextPart(text=self._rules.bridge)], {}))
                ledger.made_up("turn_inserted", "text", turns[-1].source, detail=words)
            elif last is not None and last.role is piece.role and self._belong_together(last, piece):
                self._merge(ledger, last, piece)
                continue
            shaped.append(piece)
        shown = self._alternate(ledger, shaped) if self._rules.alternates else 0
        self.messages += [piece.message() for piece in shaped]
        if self._shown is not None:
            for piece in shaped:
                self._shown.add(piece.role, piece.parts[shown:])
                shown = 0

    def _ends_in_result(self) -> bool:
        """Whether the last message ends with a tool result, because nothing of the answer to it could be sent."""
        return bool(self.messages) and isinstance(self.messages[-1].parts[-1], ToolResultPart)

    def _belong_together(self, last: "_MessageDraft", piece: "_MessageDraft") -> bool:
        """Whether two consecutive drafts of one role become one message; system messages are never merged."""
        if last.role is Role.SYSTEM:
            return False
        return self._rules.alternates or (bool(last.sources) and last.sources == piece.sources)

    def _merge(self, ledger: Ledger, last: "_MessageDraft", piece: "_MessageDraft") -> None:
        for source in piece.sources:
            if source not in last.sources and last.sources:
                ledger.note("turn_merged", "native", "invalid_for_target", source, detail=_MERGED)
        last.parts += piece.parts
        last.sources |= piece.sources
        last.tells = False

    def _alternate(self, ledger: Ledger, shaped: "list[_MessageDraft]") -> int:
        """Make roles alternate: the user begins, and the exchange does not start with the role of the last message.

        Returns:
            Number of parts that the first message took over from the previous exchange.
        """
        first = next((at for at, piece in enumerate(shaped) if piece.role is not Role.SYSTEM), None)
        if first is None:
            return 0
        before = next((message for message in reversed(self.messages) if message.role is not Role.SYSTEM), None)
        if shaped[first].role is Role.ASSISTANT and before is None:
            source = next(iter(shaped[first].sources))
            shaped.insert(first, _MessageDraft(Role.USER, [TextPart(text=OPENING)], {}))
            ledger.made_up("turn_inserted", "text", source, detail=f"{OPENING!r} before it")
        elif before is not None and before.role is shaped[first].role and self.messages[-1] is before:
            self.messages.pop()
            shaped[first].parts[:0] = before.parts
            for source in islice(shaped[first].sources, 1):
                ledger.note("turn_merged", "native", "invalid_for_target", source, detail=_MERGED)
            return len(before.parts)
        return 0

    def _end_well(self) -> None:
        """Make the last message legal for the target: a user message, or an answer that the target may continue."""
        if not self.messages or self.messages[-1].role is not Role.ASSISTANT:
            return
        last = self.messages[-1]
        if _is_paused(last):
            return
        added = Message.unchecked(role=Role.USER, parts=())
        ledger, source = Ledger(self._terms.target), SourceMessage(self._count - 1, added, [])
        if not self._rules.prefill:
            words = "the answer it ends with is to be continued"
            ledger.made_up("prefill_converted", "text", source, detail=words, reason="unsupported_by_model")
            self.messages.append(_message(Role.USER, [TextPart(text=CONTINUE)], None))
        elif not self._rules.ragged_prefill and isinstance(tail := last.parts[-1], TextPart):
            trimmed = tail.text.rstrip()
            if trimmed != tail.text:
                words = "white space at the very end"
                ledger.note("blank_text_dropped", "native", "invalid_for_target", source, detail=words)
                parts = [*last.parts[:-1], tail.changed(text=trimmed)]
                self.messages[-1] = _message(Role.ASSISTANT, parts, last.node)
        self.entries += ledger.entries
        self.parts += source.parts()


@dataclass(slots=True)
class _AnswerTurn:
    """A converted answer with its tool calls."""

    source: SourceMessage
    answer: ConvertedAnswer
    calls: list[PairedCall]


@dataclass(slots=True)
class _MessageDraft:
    """A message under construction.

    Attributes:
        role: The author.
        parts: The content.
        sources: The input messages of its parts, in order; empty for a synthesised message.
        tells: Whether it holds only tool results.
    """

    role: Role
    parts: list[Part]
    sources: dict[SourceMessage, None]  # an ordered set: thousands of results may come from as many messages
    tells: bool = False

    def message(self) -> Message:
        """Return the message; the same object as the input message if nothing changed."""
        first = next(iter(self.sources), None)
        if first is not None and len(self.sources) == 1:
            given = first.message
            if (
                given.role is self.role
                and len(given.parts) == len(self.parts)
                and not any(map(is_not, given.parts, self.parts))
            ):
                return given
        return _message(self.role, self.parts, None if first is None else first.message.node)


def _message(role: Role, parts: list[Part], node: str | None) -> Message:
    return Message.unchecked(role=role, parts=tuple(parts), node=node)


def _stub(name: str) -> Tool:
    """Declare a function without parameters; not validated, because some targets accept names that ``Tool`` rejects."""
    return Tool.unchecked(name=name, description=STUB, parameters={"type": "object", "properties": {}})


def _told(calls: list[PairedCall], results: list[ToolResultPart]) -> _MessageDraft:
    """Build the message with the results of one answer's calls, in the order of the calls."""
    sources = {call.result[0]: None for call in calls if call.result is not None}
    return _MessageDraft(Role.USER, list[Part](results), sources, tells=True)


def _file(files: Files, source: SourceMessage, index: int, part: FilePart, *, now: bool) -> list[Part]:
    why = files.why_not(part, "question")
    if why is None:
        files.inline(source, index, part)
        return [part]
    instead = files.instead(source, index, part, why, made=False, now=now)
    return [] if instead is None else [instead]


def _ends_hosted(answers: list[SourceMessage]) -> bool:
    """Whether the last answer ends with a hosted tool part, and no answer calls a function of the user."""
    called = any(isinstance(part, ToolCallPart) for source in answers for part in source.message.parts)
    last = answers[-1].message.parts[-1:] if answers else ()
    return not called and any(isinstance(part, HostedToolPart) for part in last)


def _is_paused(message: Message) -> bool:
    """Whether the provider paused during its own tools; it continues when the turn is sent back unchanged."""
    last = message.parts[-1]
    return isinstance(last, HostedToolPart) and last.call_id is not None


class _PrefixHash:
    """Incremental hash of everything the target is shown, independent of the division into messages.

    Args:
        lead: Hash of instructions and tools.
    """

    def __init__(self, lead: str) -> None:
        self._digest = blake2b(lead.encode(), digest_size=16)
        self._speaker: Role | None = None

    def copy(self) -> "_PrefixHash":
        other = copy(self)
        other._digest = self._digest.copy()
        return other

    def hash(self) -> str:
        return self._digest.hexdigest()

    def add(self, speaker: Role, parts: Iterable[Part]) -> None:
        """Add the next parts; files are hashed by their bytes rather than base64."""
        if speaker is not self._speaker:
            self._digest.update(speaker.encode())
            self._speaker = speaker
        for part in parts:
            dumped = part.model_dump(mode="json", exclude={"data", "origin"})
            try:
                self._digest.update(orjson.dumps(dumped, option=orjson.OPT_SORT_KEYS))
            except TypeError:  # not representable as JSON; the driver rejects it later
                self._digest.update(repr(dumped).encode(errors="surrogatepass"))
            if isinstance(part, FilePart) and part.data is not None:
                self._digest.update(part.data)
