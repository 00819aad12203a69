"""Converts a history to messages that are legal for the next model, and reports the outcome of every part.

Pure and deterministic: the same history gives the same messages, and a longer history begins with the same ones.
Legality (which state may be sent, the order of roles, unsupported parts) is decided here, by the ``Rules`` of the
target's driver; the wire format is the driver's part. Formatting formatted messages changes nothing.

The steps: ``parts`` converts each part, ``calls`` pairs tool calls with their results, ``hop`` orders the messages in
one fold from left to right, ``ledger`` records all changes.

Rules: each provider's published validation rules for multi-turn requests (read 2026-11-22).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from operator import is_not
from typing import cast

from dhenara_async.config import AIModelCallConfig
from dhenara_async.conversation import ConversationNode, question
from dhenara_async.endpoint import AIModel, AIModelEndpoint
from dhenara_async.errors import ConfigurationError, ConversionLossError
from dhenara_async.formatter.check import ConversionCheck
from dhenara_async.formatter.conversion import ConversionEntry, ConversionPolicy, ConversionReport, PartOutcome
from dhenara_async.formatter.hop import Fold
from dhenara_async.formatter.ledger import SourceMessage
from dhenara_async.formatter.parts import Terms
from dhenara_async.formatter.window import (
    ConversationPolicy,
    Fitted,
    first_words,
    fit,
    shortened_file,
    shortened_parts,
    summary_message,
    truncation_entries,
)
from dhenara_async.frozen import Memo, ShortRepr
from dhenara_async.hosts.registry import driver_for, expected_origin, rules_of
from dhenara_async.messages.messages import FilePart, Message, Origin, Role, TextPart, ToolResultPart
from dhenara_async.request import ChatRequest, WireRequest
from dhenara_async.response import ChatResponse
from dhenara_async.stores.signing import SigningKeys
from dhenara_async.tools.declarations import Tool


@dataclass(frozen=True, slots=True, repr=False)
class FormattedConversation(ShortRepr):
    """A history converted for one endpoint.

    Attributes:
        messages: The messages to send, oldest first.
        report: The outcome of every part.
        prefix: Hash of everything the target is shown, for a model that accepts reasoning back only behind the same
            prefix; None for all others.
        stubs: Declarations of functions that the history calls, for a target that rejects calls of undeclared
            functions, if the call itself has no tools; ``declared`` adds them to the config.
    """

    messages: tuple[Message, ...]
    report: ConversionReport
    prefix: str | None = None
    stubs: tuple[Tool, ...] = ()

    def declared(self, config: AIModelCallConfig) -> AIModelCallConfig:
        """Return ``config``, with the stubs as its tools if there are any."""
        return config.changed(tools=self.stubs) if self.stubs else config


class PromptFormatter:
    """Converts conversation nodes to messages for the next model. All methods are pure functions."""

    @staticmethod
    def format_conversion_node_as_prompts(
        model: AIModel,
        user_query: str,
        attached_files: Sequence[FilePart] = (),
        previous_response: ChatResponse | Sequence[object] | None = None,
        *,
        max_words_query: int | None = None,
        max_words_files: int | None = None,
        max_words_response: int | None = None,
    ) -> list[Message]:
        """Convert one turn to messages: the question, then the answer if there is one.

        State that ``model``'s provider must not receive is removed later, during the call, when the provider is known.

        Args:
            model: The next model.
            user_query: The question.
            attached_files: The question's files.
            previous_response: The answer; None or ``[]`` if there is none yet.
            max_words_query: Maximum words of the question; None = all.
            max_words_files: Maximum words of each text file; None = all.
            max_words_response: Maximum words of the answer, all its texts together; None = all.

        Raises:
            ConfigurationError: The question has neither text nor files, an attachment is not a ``FilePart``, or a
                maximum is below 1.
        """
        if not user_query.strip() and not attached_files:
            raise ConfigurationError("user_query is empty and no file is attached: pass at least one of them")
        if not _are_files(attached_files):
            raise ConfigurationError(
                "attached_files is a sequence of FilePart: make them by FilePart.from_bytes, from_path or from_url"
            )
        files = [shortened_file(file, max_words_files) for file in attached_files]
        asked = question(first_words(user_query, max_words_query), files)
        if not isinstance(previous_response, ChatResponse) or not previous_response.choices[0].parts:
            return asked
        parts = shortened_parts(previous_response.choices[0].parts, max_words_response)
        return [*asked, Message(role=Role.ASSISTANT, parts=parts)]

    format_conversation_node_as_prompts = format_conversion_node_as_prompts

    @staticmethod
    def format_conversation(
        nodes: Iterable[ConversationNode],
        endpoint: AIModelEndpoint,
        *,
        policy: ConversionPolicy | None = None,
        asked: Iterable[Message] = (),
        instructions: Iterable[str] = (),
        config: AIModelCallConfig | None = None,
        window: ConversationPolicy | None = None,
        summary: str | None = None,
        opaque: bool = True,
        mend: bool = False,
        signing: SigningKeys | None = None,
    ) -> FormattedConversation:
        """Convert a whole history for ``endpoint``.

        The result is cached on the newest node, so that after one more turn only that turn is converted.

        Args:
            nodes: The turns, oldest first (``Conversation.path()``).
            endpoint: The target.
            policy: The changes allowed to the history.
            asked: The current question, after the history. Without it, the end of the history is not adjusted.
            instructions: The call's system instructions; some models reject earlier reasoning after they changed.
            config: The call's settings; the same applies to its tools.
            window: How much of the history is shown; None = all of it.
            summary: A text in place of the turns that are not shown, as returned by ``window.summarise``.
            opaque: Whether to send opaque reasoning back to its origin; False after the origin rejected it.
            mend: Whether to replace lone surrogates, which no request can hold, by U+FFFD.
            signing: The keys of the nodes' signatures: opaque state of a node without a valid signature is not sent.
                None = signatures are not checked.

        Raises:
            ConversionLossError: The policy is strict and content would be lost.
            UnsupportedError: The target cannot express a part of the question, or the policy refuses to omit a file.
        """
        history, now = tuple(nodes), tuple(asked)
        fitted = _fitted(history, now, window)
        stands = summary_message(summary or "") if fitted is not None and fitted.trimmed else None
        lead = tuple(instructions) if stands is None else (stands.get_text(), *instructions)
        job = _Job.of(endpoint, policy, lead, config, opaque=opaque, mend=mend, nodes=history, signing=signing)
        fold = _fold(job, history if fitted is None else fitted.kept)
        if fitted is None or not fitted.trimmed:
            return job.finished(fold, now)
        entries = truncation_entries(
            fitted.trimmed,
            job.terms.target,
            estimated=fitted.estimated,
            summarised=stands is not None,
            limit=fitted.limit,
        )
        shown = () if stands is None else (stands,)
        return job.finished(fold, now, before=shown, entries=entries, parts=_parts_of(fitted.trimmed))

    @staticmethod
    def format_messages(
        messages: Iterable[Message],
        endpoint: AIModelEndpoint,
        *,
        policy: ConversionPolicy | None = None,
        instructions: Iterable[str] = (),
        config: AIModelCallConfig | None = None,
        opaque: bool = True,
        mend: bool = False,
        known: Iterable[ConversationNode] = (),
    ) -> FormattedConversation:
        """Convert messages for ``endpoint``; see ``format_conversation``.

        Args:
            messages: The conversation, oldest first.
            endpoint: The target.
            policy: The changes allowed to the messages.
            instructions: The call's system instructions.
            config: The call's settings.
            opaque: Whether to send opaque reasoning back to its origin; False after the origin rejected it.
            mend: Whether to replace lone surrogates, which no request can hold, by U+FFFD.
            known: The turns whose answers are among the messages: reasoning that the target rejected in one of them is
                not sent to it again.
        """
        asked = tuple(messages)
        if not mend and len(asked) == 1 and _is_plain_question(asked[0]) and not rules_of(endpoint).bound_to_prefix:
            report = ConversionReport.unchecked(parts=tuple(SourceMessage.of(0, asked[0]).parts()))
            return FormattedConversation(asked, report)  # a shortcut with the fold's result, for the most common call
        job = _Job.of(endpoint, policy, instructions, config, opaque=opaque, mend=mend, nodes=known)
        return job.finished(Fold(job.terms, lead=job.lead), asked)

    @staticmethod
    def check(
        nodes: Iterable[ConversationNode],
        endpoint: AIModelEndpoint,
        *,
        policy: ConversionPolicy | None = None,
        asked: Iterable[Message] = (),
        instructions: Iterable[str] = (),
        config: AIModelCallConfig | None = None,
        window: ConversationPolicy | None = None,
        signing: SigningKeys | None = None,
    ) -> ConversionCheck:
        """Check a call without sending it: its losses, prompt size, price and dropped settings.

        A strict policy does not raise here: the losses are in ``lossy``. No summary of turns outside the window is
        made.

        Args:
            nodes: The turns, oldest first (``Conversation.path()``).
            endpoint: The target.
            policy: The changes allowed to the history.
            asked: The question; may be empty.
            instructions: The call's system instructions.
            config: The call's settings.
            window: How much of the history is shown; None = all of it.
            signing: The keys of the nodes' signatures; None = signatures are not checked.

        Raises:
            UnsupportedError: The target cannot express a part of the question.
        """
        lenient = (policy or ConversionPolicy()).changed(strict=False)
        question, leads, knobs = tuple(asked), tuple(instructions), config or AIModelCallConfig()
        stands_in = None if question else Message.user("?")  # a request cannot end with an answer
        history = tuple(nodes)

        def tried(*, mend: bool) -> tuple[ConversionReport, ChatRequest, WireRequest]:
            formatted = PromptFormatter.format_conversation(
                history,
                endpoint,
                policy=lenient,
                asked=question if stands_in is None else (stands_in,),
                instructions=leads,
                config=knobs,
                window=window,
                mend=mend,
                signing=signing,
            )
            declared, stream = formatted.declared(knobs), knobs.streaming
            request = ChatRequest.of(formatted.messages, instructions=leads, config=declared, stream=stream)
            return formatted.report, request, driver_for(endpoint).encode(request, endpoint)

        report, request, wire = tried(mend=False)
        if wire.replaced:
            report, request, wire = tried(mend=True)
        if stands_in is not None:
            report = _before_the_last(report)
        return ConversionCheck.of(request, report, endpoint, warnings=wire.warnings, question=stands_in)


def _are_files(given: Iterable[object]) -> bool:
    return all(isinstance(one, FilePart) for one in given)


def _is_plain_question(message: Message) -> bool:
    """Whether a message is legal for every target: a user message with only text."""
    words = all(isinstance(part, TextPart) and part.text.strip() for part in message.parts)
    return words and message.role is Role.USER and bool(message.parts)


def _before_the_last(report: ConversionReport) -> ConversionReport:
    """Return ``report`` without the last message."""
    at = report.parts[-1].message
    return ConversionReport.unchecked(
        entries=tuple(entry for entry in report.entries if entry.message != at),
        parts=tuple(part for part in report.parts if part.message != at),
    )


@dataclass(frozen=True, slots=True, repr=False)
class _Job(ShortRepr):
    """The parameters of one conversion.

    Attributes:
        terms: The target and its rules.
        lead: Hash of instructions and tools, for a model that binds its reasoning to them; else None.
        signing: The keys of the nodes' signatures; None = signatures are not checked.
    """

    terms: Terms
    lead: str | None
    signing: SigningKeys | None = None

    @classmethod
    def of(
        cls,
        endpoint: AIModelEndpoint,
        policy: ConversionPolicy | None,
        instructions: Iterable[str],
        config: AIModelCallConfig | None,
        *,
        opaque: bool,
        mend: bool,
        nodes: Iterable[ConversationNode] = (),
        signing: SigningKeys | None = None,
    ) -> "_Job":
        rules = rules_of(endpoint)
        stubs = rules.needs_tools and (config is None or not config.tools)
        target = expected_origin(endpoint)
        refused = _refused(nodes, target)
        terms = Terms(endpoint, target, rules, policy or ConversionPolicy(), opaque, stubs, mend, refused)
        return cls(terms, _lead(instructions, config) if rules.bound_to_prefix else None, signing)

    def finished(
        self,
        fold: Fold,
        messages: Sequence[Message],
        *,
        before: tuple[Message, ...] = (),
        entries: tuple[ConversionEntry, ...] = (),
        parts: tuple[PartOutcome, ...] = (),
    ) -> FormattedConversation:
        """Add ``messages`` to ``fold`` and return the result; the fold must not be used afterwards.

        Args:
            fold: The history.
            messages: The current question; may be empty.
            before: Messages in place of the turns that are not shown.
            entries: The report entries of those turns.
            parts: The outcomes of those turns' parts.
        """
        for message in messages:
            fold.add(message)
        prefix = fold.finish(asked=bool(messages))
        report = ConversionReport.unchecked(entries=(*entries, *fold.entries), parts=(*parts, *fold.parts))
        if self.terms.policy.strict and report.lossy:
            what = ", ".join(sorted({f"{entry.code} ({entry.kind})" for entry in report.lossy}))
            raise ConversionLossError(
                f"strict policy: the hop to {self.terms.target.model} would lose content: {what}", entries=report.lossy
            )
        return FormattedConversation((*before, *fold.messages), report, prefix, tuple(fold.stubs.values()))


def _fitted(
    nodes: tuple[ConversationNode, ...], asked: tuple[Message, ...], window: ConversationPolicy | None
) -> Fitted | None:
    if window is None:
        return None
    answers = any(isinstance(part, ToolResultPart) for message in asked for part in message.parts)
    return fit(nodes, window, answers_calls=answers)


def _parts_of(nodes: Iterable[ConversationNode]) -> tuple[PartOutcome, ...]:
    """Return the outcomes of the parts of turns that are not shown."""
    return tuple(
        PartOutcome.unchecked(node=node.id, message=None, part=index, kind=part.type, outcome="omitted")
        for node in nodes
        for message in node.as_messages()
        for index, part in enumerate(message.parts)
    )


def _refused(nodes: Iterable[ConversationNode], target: Origin) -> frozenset[str]:
    """Return the ids of the nodes whose reasoning ``target`` rejected in an earlier turn.

    Without this, every later turn would be rejected once more before it is answered.
    """
    return frozenset(
        entry.node
        for node in nodes
        if node.attempts > 1  # only retried turns can contain a rejection, and reports are long
        for entry in node.conversion.entries
        if entry.reason == "refused_by_target" and entry.node is not None and entry.target.same_model(target)
    )


def _lead(instructions: Iterable[str], config: AIModelCallConfig | None) -> str:
    """Return the hash of instructions and tools, which precede all messages."""
    digest = blake2b(digest_size=16)
    for text in instructions:
        digest.update(b"\0" + text.encode(errors="surrogatepass"))
    for tool in () if config is None else config.tools:
        digest.update(b"\1" + tool.model_dump_json().encode())
    return digest.hexdigest()


# ---------------------------------------------------------------------------------------------------- cached folds

# The fold of a history is cached on its newest node and moves to the next node with the next turn. Nodes never change,
# so it is never outdated, and it dies with the node.
_FoldKey = tuple[Origin, AIModel, ConversionPolicy, str | None, bool, bool, bool, frozenset[str], SigningKeys | None]
_Folds = dict[_FoldKey, tuple[tuple[ConversationNode, ...], Fold]]


def _fold(job: _Job, nodes: tuple[ConversationNode, ...]) -> Fold:
    """Return a fold of ``nodes`` for the caller's own use, continuing from the longest cached prefix."""
    terms = job.terms
    if not nodes:
        return Fold(terms, lead=job.lead)
    target, model, signing = terms.target, terms.endpoint.ai_model, job.signing
    key = (target, model, terms.policy, job.lead, terms.opaque, terms.stubs, terms.mend, terms.refused, signing)
    known, kept = _cached(key, nodes)
    fold = Fold(terms, lead=job.lead) if kept is None else kept.copy()  # another thread may read the cached one
    if kept is None and job.lead is not None:
        _forget(key, nodes[:-1])
    if known < len(nodes):
        for node in nodes[known:]:
            add = fold.add if signing is None or signing.vouch_for(node) else fold.add_unsigned
            for message in node.as_messages():
                add(message)
        _folds_of(nodes[-1])[key] = nodes[:-1], fold.copy()
    return fold


def _cached(key: _FoldKey, nodes: tuple[ConversationNode, ...]) -> tuple[int, Fold | None]:
    """Return the length of the longest cached prefix of ``nodes`` and its fold; a proper prefix leaves the cache."""
    for known in range(len(nodes), 0, -1):
        folds = _cached_folds(nodes[known - 1])
        if folds is None:
            continue
        earlier, fold = folds.get(key, ((), None))
        if fold is None or len(earlier) != known - 1 or any(map(is_not, earlier, nodes)):
            continue
        if known < len(nodes):
            folds.pop(key, None)
        return known, fold
    return 0, None


def _forget(key: _FoldKey, nodes: Iterable[ConversationNode]) -> None:
    """Drop the cached folds of ``nodes`` for the same target with other instructions or tools (another ``lead``).

    If every turn has instructions of its own, no later turn would ever use them.
    """
    for node in nodes:
        folds = _cached_folds(node)
        if folds is not None:
            for other in list(folds):  # a copy: another thread may add one meanwhile
                if other[:3] == key[:3] and other[3] != key[3]:
                    folds.pop(other, None)


def _cached_folds(node: ConversationNode) -> _Folds | None:
    return cast("_Folds | None", node._folds.of(node))  # pyright: ignore[reportPrivateUsage] - kept there for this module


def _folds_of(node: ConversationNode) -> _Folds:
    folds = _cached_folds(node)
    if folds is None:
        folds = _Folds()
        node._folds = Memo[object](node, folds)  # pyright: ignore[reportPrivateUsage] - likewise
    return folds
