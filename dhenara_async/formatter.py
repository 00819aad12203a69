"""Makes a history legal for its next model, and says what became of every part that could not stay as it was.

Pure and deterministic: the same history gives the same messages, and a longer history begins with the same ones.
Legality is decided here (whose state may go where, who speaks first, which parts a target has no place for); spelling
is the drivers'. Formatting what is formatted changes nothing.

Rules: each provider's published validation rules for multi-turn requests (read 2026-11-22).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dhenara_async.conversation import ConversationNode, turn_messages
from dhenara_async.conversion import ConversionEntry, ConversionPolicy, ConversionReport, Reason, Severity
from dhenara_async.endpoint import AIModel, AIModelEndpoint, Dialect
from dhenara_async.errors import ConfigurationError, ConversionLossError
from dhenara_async.hosts import HOSTS, target_of
from dhenara_async.links import INLINED, fetches
from dhenara_async.messages import (
    FilePart,
    HostedToolPart,
    Message,
    Origin,
    Part,
    ReasoningPart,
    RefusalPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from dhenara_async.models.families import capabilities
from dhenara_async.response import ChatResponse

OPENING = "(conversation start)"
CONTINUE = "Continue your last message from exactly where it ends."

_CHAT = Dialect.OPENAI_CHAT.value
# Dialects whose conversations alternate between two speakers, the user first, and know no system message in between.
_ALTERNATING = frozenset({Dialect.ANTHROPIC_MESSAGES.value, Dialect.GEMINI.value})


@dataclass(frozen=True, slots=True)
class FormattedConversation:
    """A history made legal for one endpoint.

    Attributes:
        messages: What to send, oldest first.
        report: What could not stay as it was.
    """

    messages: tuple[Message, ...]
    report: ConversionReport


class PromptFormatter:
    """Turns nodes into messages for the next model. All methods are pure functions."""

    @staticmethod
    def format_conversion_node_as_prompts(
        model: AIModel,
        user_query: str,
        attached_files: Sequence[FilePart] = (),
        previous_response: ChatResponse | Sequence[object] | None = None,
    ) -> list[Message]:
        """One turn as messages: the question, then the answer if there is one.

        What may not reach ``model``'s provider is taken out when the call is made, where the provider is known.

        Args:
            model: The model that is asked next.
            user_query: The question.
            attached_files: What was sent with it.
            previous_response: The answer; None or ``[]`` for a question that has none yet.

        Raises:
            ConfigurationError: Neither words nor files were asked.
        """
        if not user_query.strip() and not attached_files:
            raise ConfigurationError("user_query is empty and no file is attached: there is nothing to ask")
        response = previous_response if isinstance(previous_response, ChatResponse) else None
        return turn_messages(user_query, attached_files, response)

    format_conversation_node_as_prompts = format_conversion_node_as_prompts

    @staticmethod
    def format_conversation(
        nodes: Iterable[ConversationNode], endpoint: AIModelEndpoint, *, policy: ConversionPolicy | None = None
    ) -> FormattedConversation:
        """A whole history, made legal for ``endpoint``.

        Args:
            nodes: The turns, oldest first (``Conversation.path()``).
            endpoint: Who is asked next.
            policy: What may be done to the history.

        Raises:
            ConversionLossError: The policy is strict and something would be lost.
        """
        messages = [message for node in nodes for message in node.as_messages()]
        return PromptFormatter.format_messages(messages, endpoint, policy=policy)

    @staticmethod
    def format_messages(
        messages: Iterable[Message], endpoint: AIModelEndpoint, *, policy: ConversionPolicy | None = None
    ) -> FormattedConversation:
        """Messages, made legal for ``endpoint``; see ``format_conversation``."""
        hop = _Hop(endpoint, policy or ConversionPolicy())
        formatted = hop.shape([hop.convert(at, message) for at, message in enumerate(messages)])
        report = ConversionReport(entries=tuple(hop.entries))
        if hop.policy.strict and report.lossy:
            what = ", ".join(sorted({f"{entry.code} ({entry.kind})" for entry in report.lossy}))
            raise ConversionLossError(
                f"strict policy: the hop to {hop.target.model} would lose content: {what}", entries=report.lossy
            )
        return FormattedConversation(tuple(formatted), report)


class _Hop:
    """One pass over a history for one target; collects the report."""

    def __init__(self, endpoint: AIModelEndpoint, policy: ConversionPolicy) -> None:
        self.policy = policy
        self.target = target_of(endpoint)
        self._endpoint = endpoint
        self.entries: list[ConversionEntry] = []
        self._chat = HOSTS[endpoint.api.provider].quirks if self.target.dialect == _CHAT else None
        self._alternates = self.target.dialect in _ALTERNATING or (self._chat is not None and self._chat.alternates)
        self._system_leads = self.target.dialect in _ALTERNATING or (
            self._chat is not None and not self._chat.system_anywhere
        )
        self._prefill = capabilities(endpoint.ai_model).prefill
        self._leading = True  # nobody but the system has spoken yet

    def convert(self, at: int, message: Message) -> Message:
        """``message`` with every part in a form that the target has a place for; maybe with none left."""
        role, parts = message.role, list[Part]()
        for index, part in enumerate(message.parts):
            kept = self._part(message, at, index, part)
            if kept is not None:
                parts.append(kept)
        if role is not Role.SYSTEM:
            self._leading = self._leading and not parts
        elif self._system_leads and parts and not self._leading:
            parts = [TextPart(text=f"<system>{part.get_text()}</system>") for part in parts]
            role = Role.USER
            self._note("role_downgraded", "degraded", message, at, None, None, "unsupported_by_target")
        if role is message.role and tuple(parts) == message.parts:
            return message
        return Message(role=role, parts=tuple(parts), node=message.node)

    def shape(self, messages: list[Message]) -> list[Message]:
        """The order of speakers that the target wants."""
        spoken = [message for message in messages if message.parts]
        lead = next((at for at, message in enumerate(spoken) if message.role is not Role.SYSTEM), len(spoken))
        if not self._alternates or lead == len(spoken):
            return spoken
        shaped: list[Message] = []
        for message in spoken[lead:]:
            if not shaped and message.role is Role.ASSISTANT:
                shaped.append(Message.user(OPENING))
                self._note("turn_inserted", "info", message, 0, None, None, "invalid_for_target")
            if shaped and shaped[-1].role is message.role:
                shaped[-1] = Message(role=message.role, parts=(*shaped[-1].parts, *message.parts), node=message.node)
            else:
                shaped.append(message)
        if shaped[-1].role is Role.ASSISTANT and not _is_paused(shaped[-1]):
            at = len(messages) - 1
            if not self._prefill:
                self._note("prefill_converted", "degraded", shaped[-1], at, None, None, "unsupported_by_model")
                shaped.append(Message.user(CONTINUE))
            elif self.target.dialect == Dialect.ANTHROPIC_MESSAGES.value:
                shaped[-1] = self._trimmed(shaped[-1], at)
        return spoken[:lead] + shaped

    def _trimmed(self, message: Message, at: int) -> Message:
        """A last message to be continued; the Messages API refuses one that ends in white space."""
        last = message.parts[-1]
        if not isinstance(last, TextPart) or last.text == last.text.rstrip():
            return message
        self._note("blank_text_dropped", "info", message, at, None, None, "invalid_for_target")
        trimmed = last.model_copy(update={"text": last.text.rstrip()})
        return Message(role=message.role, parts=(*message.parts[:-1], trimmed), node=message.node)

    def _part(self, message: Message, at: int, index: int, part: Part) -> Part | None:
        match part:
            case TextPart() if not part.text.strip():
                if part.provider_state and self._is_same_model(part.origin):
                    return part  # an empty text can carry a signature
                self._note("blank_text_dropped", "info", message, at, index, part, "invalid_for_target")
                return None
            case ReasoningPart():
                return self._reasoning(message, at, index, part)
            case ToolCallPart(status="interrupted"):
                self._note("turn_dropped", "lossy", message, at, index, part, "aborted_turn")
                return None
            case HostedToolPart():
                if part.status == "complete" and self._is_same_model(part.origin) and self._chat is None:
                    return part
                reason: Reason = "unsupported_by_target" if self._is_same_model(part.origin) else "foreign_origin"
                self._note("hosted_tool_dropped", "lossy", message, at, index, part, reason)
                return None
            case FilePart() if (
                message.role is Role.ASSISTANT and self._is_same_model(part.origin) and self._chat is None
            ):
                return part
            case RefusalPart() if not self._keeps_refusals(part.origin):
                self._note("refusal_as_text", "degraded", message, at, index, part, "unsupported_by_target")
                return TextPart(text=part.text, origin=part.origin)
            case FilePart() if message.role is not Role.USER:
                self._note("media_dropped", "lossy", message, at, index, part, "unsupported_by_target")
                return None
            case FilePart() | ToolResultPart():
                self._links(message, at, index, part)
                return part
            case TextPart() | ToolCallPart() if part.provider_state and not self._is_same_model(part.origin):
                return part.model_copy(update={"provider_state": None})  # opaque: it goes back only where it came from
            case _:
                return part

    def _links(self, message: Message, at: int, index: int, part: FilePart | ToolResultPart) -> None:
        """Files by URL stay as they are here; what their target cannot fetch is downloaded when the call is made."""
        for item in (part,) if isinstance(part, FilePart) else part.content:
            if isinstance(item, FilePart) and not fetches(self._endpoint, item):
                self._note(INLINED, "degraded", message, at, index, item, "unsupported_by_target")

    def _reasoning(self, message: Message, at: int, index: int, part: ReasoningPart) -> Part | None:
        if part.status == "complete" and self._takes_back(part.origin):
            return part if self._is_same_model(part.origin) else part.model_copy(update={"provider_state": None})
        if self.policy.foreign_reasoning == "as_text" and part.text.strip() and not self._is_own(part.origin):
            return TextPart(text=part.text, origin=part.origin)
        reason: Reason = "aborted_turn" if part.status != "complete" else "foreign_origin"
        if reason == "foreign_origin" and self._is_own(part.origin):
            reason = "unsupported_by_target" if self._is_same_model(part.origin) else "other_model"
        self._note("reasoning_dropped", "info", message, at, index, part, reason)
        return None

    def _takes_back(self, origin: Origin | None) -> bool:
        """Whether reasoning may go back there: to the model that thought it, and as words to its host's others."""
        if self._chat is None:
            return self._is_same_model(origin)
        if self._chat.reasoning_back in {None, "reasoning_details"}:
            return self._chat.reasoning_back is not None and self._is_same_model(origin)
        return self._is_own(origin)

    def _is_same_model(self, origin: Origin | None) -> bool:
        return origin is not None and origin.same_model(self.target)

    def _is_own(self, origin: Origin | None) -> bool:
        return origin is not None and origin.same_account(self.target)

    def _keeps_refusals(self, origin: Origin | None) -> bool:
        return self._is_own(origin) and self._chat is not None and self._chat.refusals

    def _note(
        self,
        code: str,
        severity: Severity,
        message: Message,
        at: int,
        index: int | None,
        part: Part | None,
        reason: Reason,
    ) -> None:
        entry = ConversionEntry(
            code=code,
            severity=severity,
            node=message.node,
            message=at,
            part=index,
            kind="message" if part is None else part.type,
            origin=None if part is None else part.origin,
            target=self.target,
            reason=reason,
        )
        self.entries.append(entry)


def _is_paused(message: Message) -> bool:
    """Whether the provider broke off amid its own tools; it goes on when the turn comes back exactly as it is."""
    said = [part for part in message.parts if not (isinstance(part, HostedToolPart) and part.call_id is None)]
    return bool(said) and isinstance(said[-1], HostedToolPart)
