"""Converts the parts of one message for a target: kept, converted, downgraded or omitted.

Everything here handles one message at a time. ``calls`` pairs calls with results, and ``hop`` orders the messages.
"""

import re
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from dhenara_async.downloads.inlining import INLINED, fetches, stand_in
from dhenara_async.drivers.rules import Place, Rules
from dhenara_async.endpoint import AIModelEndpoint
from dhenara_async.errors import UnsupportedError
from dhenara_async.formatter.conversion import ConversionPolicy, Reason
from dhenara_async.formatter.ledger import Ledger, SourceMessage
from dhenara_async.formatter.summaries import file_gist, hosted_gist, wrapped
from dhenara_async.framing.lenient_json import strict
from dhenara_async.messages.messages import (
    FilePart,
    HostedToolPart,
    Origin,
    Part,
    ReasoningPart,
    RefusalPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)

# The keys of signatures and encrypted content; all other state only repeats the part's content in native form.
_SEALS = frozenset({"thoughtSignature", "signature", "encrypted_content", "extra_content"})
_STRIPPED = "reasoning_stripped_after_400"


Places = AbstractSet[tuple[int, int]]
"""Positions of parts: index of the message, index of the part in it."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The target of a conversion and its rules.

    Attributes:
        endpoint: The target.
        target: The target as an origin, as its own answers are marked.
        rules: The target's rules.
        policy: The changes allowed to the history.
        opaque: Whether opaque reasoning is sent; False after the target rejected it.
        stubs: Whether called functions must be declared, because the call itself declares no tools.
        mend: Whether lone surrogates are replaced; True after encoding the request failed because of them.
        refused: Ids of the nodes whose opaque reasoning the target rejected in an earlier turn.
    """

    endpoint: AIModelEndpoint
    target: Origin
    rules: Rules
    policy: ConversionPolicy
    opaque: bool = True
    stubs: bool = False
    mend: bool = False
    refused: frozenset[str] = frozenset()

    def is_same_model(self, origin: Origin | None) -> bool:
        return origin is not None and origin.same_model(self.target)

    def is_own(self, origin: Origin | None) -> bool:
        return origin is not None and origin.same_account(self.target)


@dataclass(slots=True)
class ConvertedAnswer:
    """A converted assistant message.

    Attributes:
        parts: The parts for the target, in order.
        places: The original index of each part in the message.
        files: Files made by the assistant that only a user message can hold.
    """

    parts: list[Part] = field(default_factory=list[Part])
    places: list[int] = field(default_factory=list[int])
    files: list[Part] = field(default_factory=list[Part])


class Answers:
    """Converts assistant messages."""

    def __init__(self, terms: Terms, ledger: Ledger) -> None:
        self._terms = terms
        self._rules = terms.rules
        self._ledger = ledger
        self._indexed: SourceMessage | None = None  # the message of the index below
        self._hosted_by_id: dict[str, list[tuple[int, HostedToolPart]]] = {}

    def pairs(self, answers: Sequence[SourceMessage], *, paused: bool) -> Places:
        """Return the positions of hosted tool calls with a result, and of these results.

        Args:
            answers: Consecutive assistant messages.
            paused: Whether the provider continues the last one, so that its calls need no result yet.
        """
        waiting: dict[str, tuple[int, int]] = {}
        found: set[tuple[int, int]] = set()
        called: set[str] = set()
        for source in answers:
            for index, part in enumerate(source.message.parts):
                if not isinstance(part, HostedToolPart) or part.call_id is None or not self._hosts(part):
                    continue
                if part.output is not None and part.call_id in waiting:
                    found |= {waiting.pop(part.call_id), (source.at, index)}
                elif part.output is None and part.call_id not in called:
                    waiting[part.call_id] = source.at, index
                    called.add(part.call_id)
        return found | {place for place in waiting.values() if paused and place[0] == answers[-1].at}

    def convert(self, source: SourceMessage, *, prefix: str | None, pairs: Places) -> ConvertedAnswer:
        """Convert an assistant message.

        Args:
            source: The message.
            prefix: Hash of everything the target is shown before it; None if its reasoning is not bound to a prefix.
            pairs: The positions of paired hosted tool calls and results, from ``pairs``.
        """
        answer = ConvertedAnswer()
        parts = source.message.parts
        broken = source.message.status == "interrupted" or any(part.status == "interrupted" for part in parts)
        outdated = prefix is not None and source.message.prefix not in (None, prefix)
        unled = False  # the target's own reasoning was omitted, so hosted tools that depend on it cannot be sent
        for index, part in enumerate(parts):
            match part:
                case TextPart():
                    kept = self._text(source, index, part)
                case ReasoningPart():
                    kept = self._reasoning(source, index, part, broken=broken, outdated=outdated)
                    unled = kept is None and self._terms.is_same_model(part.origin)
                case ToolCallPart():
                    kept = self._call(source, index, part)
                case RefusalPart():
                    kept = self._refusal(source, index, part)
                case HostedToolPart():
                    alone = part.call_id is not None and (source.at, index) not in pairs
                    kept = self._hosted(source, index, part, unled=unled, alone=alone)
                case FilePart():
                    kept = self._file(source, index, part, answer)
                case ToolResultPart():
                    raise UnsupportedError("an assistant's message cannot hold a tool's result; that is the user's")
            if kept is not None:
                answer.parts.append(kept)
                answer.places.append(index)
                unled = unled and isinstance(part, HostedToolPart)
        if self._rules.reasoning_leads:
            self._drop_last_thoughts(source, answer)
        return answer

    def _drop_last_thoughts(self, source: SourceMessage, answer: ConvertedAnswer) -> None:
        """Drop reasoning at the end of an answer, which the target rejects without a part after it."""
        while answer.parts and isinstance(answer.parts[-1], ReasoningPart):
            answer.parts.pop()
            words = "no other part follows it"
            self._ledger.note(
                "reasoning_dropped", "omitted", "invalid_for_target", source, answer.places.pop(), detail=words
            )

    def _text(self, source: SourceMessage, index: int, part: TextPart) -> Part | None:
        changes: dict[str, object] = self._unsealed(source, index, part)
        signed = "provider_state" not in changes and _is_sealed(part)
        if not part.text.strip() and not signed:  # an empty text can carry a signature, and nothing else
            self._ledger.note("blank_text_dropped", "omitted", "invalid_for_target", source, index)
            return None
        if part.citations and not (self._rules.citations and self._terms.is_same_model(part.origin)):
            changes["citations"] = ()
            reason: Reason = "unsupported_by_target" if self._terms.is_own(part.origin) else "foreign_origin"
            words = f"sources that are not named again: {len(part.citations)}"
            self._ledger.note("citations_dropped", "downgraded", reason, source, index, detail=words)
        return part.changed(**changes) if changes else part

    def _unsealed(self, source: SourceMessage, index: int, part: TextPart | ToolCallPart) -> dict[str, object]:
        """Return the changes that remove opaque state, if it may not be sent to the target."""
        if not part.provider_state:
            return {}
        own, sealed = self._terms.is_same_model(part.origin), _is_sealed(part)
        broken = sealed and part.status == "interrupted"
        refused = self._refused(source)
        if own and refused is None and not broken:
            return {}
        if sealed:
            if own and broken:
                words = "its signature is left out"
                self._ledger.note("reasoning_dropped", "converted", "aborted_turn", source, index, detail=words)
            elif own and refused is not None:
                self._ledger.note(
                    refused, "converted", "refused_by_target", source, index, detail="its signature is left out"
                )
            elif part.get_text().strip():
                why = self._why_not(part.origin)
                words = "its signature is valid only at its origin"
                self._ledger.note("reasoning_dropped", "converted", why, source, index, detail=words)
        elif own:
            return {}
        return {"provider_state": None}

    def _reasoning(
        self, source: SourceMessage, index: int, part: ReasoningPart, *, broken: bool, outdated: bool
    ) -> Part | None:
        own = self._terms.is_own(part.origin)
        note = self._ledger.note
        if broken:
            note("reasoning_dropped", "omitted", "aborted_turn", source, index, detail="the answer broke off")
            return None
        if own and self._takes_back(part.origin) and self._rules.replayable(part):
            if outdated:
                words = "the instructions, tools or messages before it have changed"
                note("reasoning_dropped", "omitted", "other_prefix", source, index, detail=words)
                return None
            refused = self._refused(source)
            if refused is None:
                return part if self._terms.is_same_model(part.origin) else _bare(part)
            note(refused, "omitted", "refused_by_target", source, index)
            return None
        foreign = not self._terms.is_same_model(part.origin)
        if foreign and self._terms.policy.foreign_reasoning == "as_text" and part.text.strip():
            note("reasoning_as_text", "downgraded", "asked_for", source, index)
            return TextPart(text=part.text, origin=part.origin)
        why = self._why_not(part.origin)
        if why == "unsupported_by_target" and self._takes_back(part.origin):
            note("reasoning_dropped", "omitted", "invalid_for_target", source, index, detail="it has no signature")
        else:
            note("reasoning_dropped", "omitted", why, source, index)
        return None

    def _refused(self, source: SourceMessage) -> str | None:
        """Return the code for omitting this answer's opaque state that the target rejected; None if it did not."""
        if source.message.node in self._terms.refused:
            return "reasoning_dropped"
        return None if self._terms.opaque else _STRIPPED

    def _takes_back(self, origin: Origin | None) -> bool:
        """Whether the target accepts reasoning of this origin: of the same model, or of the same account as text."""
        match self._rules.reasoning_back:
            case None:
                return False
            case "model":
                return self._terms.is_same_model(origin)
            case "account":
                return self._terms.is_own(origin)

    def _why_not(self, origin: Origin | None) -> Reason:
        """Return why native state of this origin may not be sent to the target."""
        target = self._terms.target
        if origin is None or (origin.provider, origin.dialect) != (target.provider, target.dialect):
            return "foreign_origin"
        if not origin.same_account(target):
            return "other_account"
        return "unsupported_by_target" if origin.model == target.model else "other_model"

    def _call(self, source: SourceMessage, index: int, part: ToolCallPart) -> ToolCallPart | None:
        if part.status == "interrupted":
            words = f"the call of {part.name!r} broke off before its end"
            self._ledger.note("turn_dropped", "omitted", "aborted_turn", source, index, detail=words)
            return None
        changes = self._unsealed(source, index, part)
        name = legal_name(part.name, self._rules.names)
        if name != part.name:
            self._ledger.note(
                "id_rewritten",
                "converted",
                "invalid_for_target",
                source,
                index,
                detail=f"{part.name!r} is now {name!r}",
            )
            changes["name"] = name
        same = self._terms.is_same_model(part.origin)
        if part.arguments.strip() and (self._rules.object_arguments or not same):
            self._objectify(source, index, part, changes)
        return part.changed(**changes) if changes else part

    def _objectify(self, source: SourceMessage, index: int, part: ToolCallPart, changes: dict[str, object]) -> None:
        """Change arguments that are not a strict JSON object to one."""
        try:
            part.parsed()
            written = strict(part.arguments)
        except ValueError:
            words = "the arguments are not a JSON object"
            self._ledger.note("arguments_wrapped", "downgraded", "invalid_for_target", source, index, detail=words)
            changes["arguments"] = wrapped(part)
            return
        if written != part.arguments:
            words = "values outside strict JSON are replaced"
            self._ledger.note("text_repaired", "converted", "invalid_for_target", source, index, detail=words)
            changes["arguments"] = written

    def _refusal(self, source: SourceMessage, index: int, part: RefusalPart) -> Part | None:
        if not part.text.strip():
            self._ledger.note("blank_text_dropped", "omitted", "invalid_for_target", source, index)
            return None
        if self._rules.refusals and self._terms.is_own(part.origin):
            return part
        self._ledger.note("refusal_as_text", "downgraded", "unsupported_by_target", source, index)
        return TextPart(text=part.text, origin=part.origin)

    def _hosted(
        self, source: SourceMessage, index: int, part: HostedToolPart, *, unled: bool, alone: bool
    ) -> Part | None:
        note = self._ledger.note
        if part.report:
            words = "a provider's remark on its own answer is never sent back"
            note("reasoning_dropped", "omitted", "unsupported_by_target", source, index, detail=words)
            return None
        if self._hosts(part):
            torn = (alone and self._rules.hosted_pairs) or (unled and self._rules.hosted_with_reasoning)
            refused = self._refused(source) is not None
            if not refused and not torn:
                return part
            why: Reason = "refused_by_target" if refused else "invalid_for_target"
        else:
            why = self._why_not(part.origin)
        partner = self._partner(source, index, part)
        if partner is not None and partner[0] < index:  # its call's description includes the result
            line = hosted_gist(partner[1], part)
            code = "hosted_tool_summarized" if line else "hosted_tool_dropped"
            note(code, "downgraded" if line else "omitted", why, source, index, detail=f"{part.name}: with its call")
            return None
        line = hosted_gist(part, None if partner is None else partner[1])
        if not line:
            note("hosted_tool_dropped", "omitted", why, source, index, detail=part.name)
            return None
        note("hosted_tool_summarized", "downgraded", why, source, index, detail=line)
        return TextPart(text=line, origin=part.origin)

    def _hosts(self, part: HostedToolPart) -> bool:
        """Whether a hosted tool part is the target's own and may be sent back."""
        return part.status == "complete" and self._terms.is_same_model(part.origin) and self._rules.hosted(part)

    def _partner(self, source: SourceMessage, index: int, part: HostedToolPart) -> tuple[int, HostedToolPart] | None:
        """Return the call of a result, or the result of a call, in the same answer, with its index."""
        if part.call_id is None:
            return None
        if source is not self._indexed:
            self._indexed, self._hosted_by_id = source, _hosted_by_id(source.message.parts)
        return next((found for found in self._hosted_by_id[part.call_id][:2] if found[0] != index), None)

    def _file(self, source: SourceMessage, index: int, part: FilePart, answer: ConvertedAnswer) -> Part | None:
        """Convert a file made by a model: the target's own stays in place, others move to a user message."""
        same = self._terms.is_same_model(part.origin)
        if same and part.status == "complete" and self._rules.generated(part):
            return self._unsigned(source, index, part)
        files = Files(self._terms, self._ledger)
        why = files.why_not(part, "question")
        if why is None:
            self._ledger.note(
                "media_moved", "downgraded", "unsupported_by_target", source, index, detail="to the next user message"
            )
            files.inline(source, index, part)
            answer.files.append(part.changed(provider_state=None) if part.provider_state else part)
            return None
        if any(isinstance(other, TextPart) and other.text.strip() for other in source.message.parts) and (
            part.kind == "audio"
        ):
            self._ledger.note("media_dropped", "omitted", why, source, index, detail="its text is sent instead")
            return None
        instead = files.instead(source, index, part, why, made=True, now=False)
        if isinstance(instead, TextPart):
            answer.files.append(instead)
        return None

    def _unsigned(self, source: SourceMessage, index: int, part: FilePart) -> FilePart:
        """Return the target's own file, without its signature if the target rejected it."""
        refused, native = self._refused(source), part.provider_state or {}
        if refused is None or _SEALS.isdisjoint(native):
            return part
        words = "its signature is left out"
        self._ledger.note(refused, "converted", "refused_by_target", source, index, detail=words)
        left = {key: value for key, value in native.items() if key not in _SEALS}
        return part.changed(provider_state=left or None)


class Files:
    """Decides how files are sent."""

    def __init__(self, terms: Terms, ledger: Ledger) -> None:
        self._terms = terms
        self._ledger = ledger

    def why_not(self, part: FilePart, place: Place) -> Reason | None:
        """Return why the target does not accept a file at that place; None if it does."""
        if part.is_stored and part.origin is not None and not self._terms.is_own(part.origin):
            return "foreign_origin"
        most = self._terms.policy.max_inlined_bytes
        if most is not None and part.size is not None and part.size > most:
            return "limit_exceeded"
        there = part if fetches(self._terms.endpoint, part) else stand_in(part)
        return None if self._terms.rules.files(there, place) else "unsupported_by_target"

    def inline(self, source: SourceMessage, index: int, part: FilePart) -> None:
        """Record that a file behind a URL is downloaded here, if the target cannot fetch it."""
        if not fetches(self._terms.endpoint, part):
            self._ledger.note(INLINED, "downgraded", "unsupported_by_target", source, index, detail="downloaded")

    def instead(
        self, source: SourceMessage, index: int, part: FilePart, why: Reason, *, made: bool, now: bool
    ) -> FilePart | TextPart | None:
        """Return the replacement of a file that the target does not accept.

        Args:
            source: The file's message.
            index: Index of the part in that message that is, or contains, the file.
            part: The file.
            why: Why the target does not accept it.
            made: Whether the assistant made it.
            now: Whether it belongs to the current question rather than to the history.

        Returns:
            A description, None, or the file itself, for which the driver then raises an exact error.

        Raises:
            UnsupportedError: The policy is to refuse, for a reason that the driver does not know.
        """
        wish = self._terms.policy.media or ("refuse" if now else "describe")
        if wish == "refuse":
            if why == "unsupported_by_target" and not made:
                return part
            raise UnsupportedError(f"{self._terms.target.model} cannot be sent {file_gist(part, made=made)}: {why}")
        detail = file_gist(part, made=made)
        if wish == "omit":
            self._ledger.note("media_dropped", "omitted", why, source, index, detail=detail)
            return None
        self._ledger.note("media_dropped", "downgraded", why, source, index, detail=f"described as {detail}")
        return TextPart(text=detail)


def _hosted_by_id(parts: Sequence[Part]) -> dict[str, list[tuple[int, HostedToolPart]]]:
    """Return the hosted tool parts of one answer with their indexes, by call id."""
    found: dict[str, list[tuple[int, HostedToolPart]]] = {}
    for index, part in enumerate(parts):
        if isinstance(part, HostedToolPart) and part.call_id is not None:
            found.setdefault(part.call_id, []).append((index, part))
    return found


def legal_name(name: str, legal: re.Pattern[str]) -> str:
    """Return a function's name with characters that the target forbids replaced by ``_``."""
    if legal.fullmatch(name):
        return name
    name = re.sub(r"[^a-zA-Z0-9_-]", "_", name)[:64] or "_"
    return name if legal.fullmatch(name) else f"_{name}"[:64]


def _is_sealed(part: TextPart | ToolCallPart) -> bool:
    state = part.provider_state or {}
    return any(state.get(key) for key in _SEALS)


def _bare(part: ReasoningPart) -> ReasoningPart:
    return part.changed(provider_state=None)
