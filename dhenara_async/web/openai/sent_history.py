"""``SentHistory``: a conversation as a client of Chat Completions sends it, with the ids that follow from it. Pure."""

from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import JsonValue

from dhenara_async.conversation import ConversationNode, question_order
from dhenara_async.messages.messages import FilePart, Message, Part, Role, ToolCallPart, ToolResultPart
from dhenara_async.web.openai.chat.input import CompletionRequest
from dhenara_async.web.openai.fingerprint import Fingerprint

SOURCE: Final[Mapping[str, JsonValue]] = {"source": "openai_front"}
"""The metadata of every conversation and node of the front."""

_TITLE: Final = 80


class SentHistory:
    """A conversation as a client has sent it.

    Args:
        owner: The owner of the conversation.
        messages: Its messages without the leading instructions, oldest first.

    Attributes:
        owner: The owner of the conversation.
        messages: Its messages.
        conversation_id: The id that follows from what was asked first.
        answers: The ids that follow from the answers, by their place among the messages.
        fingerprint: The hash of all messages.
    """

    def __init__(self, owner: str, messages: Sequence[Message]) -> None:
        self.owner = owner
        self.messages = messages
        self.fingerprint: Fingerprint = Fingerprint(owner)
        self.answers: dict[int, str] = {}
        first: str | None = None
        for at, message in enumerate(messages):
            answer = message.role is Role.ASSISTANT
            if answer and first is None:
                first = self.fingerprint.id_of("conversation")
            self.fingerprint.add(message)
            if answer:
                self.answers[at] = self.fingerprint.id_of("answer")
        self.conversation_id: str = first or self.fingerprint.id_of("conversation")

    @property
    def title(self) -> str | None:
        """The first words that a user said, as a title."""
        asked = (message.get_text().strip() for message in self.messages if message.role is Role.USER)
        words = next(filter(None, asked), "")
        line = " ".join("".join(letter if letter.isprintable() else " " for letter in words[: 4 * _TITLE]).split())
        return (line if len(line) <= _TITLE else f"{line[: _TITLE - 1]}…") or None

    def draft(self, messages: Sequence[Message], asked: CompletionRequest, parent_id: str | None) -> ConversationNode:
        """Return the turn before its answer: what stands behind the last answer is its question.

        Args:
            messages: The result of ``with_answers``: results of tools name their calls as our nodes do.
            asked: The request.
            parent_id: The turn that it follows; None = none that is kept.
        """
        since = max(self.answers, default=-1) + 1
        parts = [part for message in messages[since:] if message.role is Role.USER for part in message.parts]
        query, order = question_order(parts)
        return ConversationNode(
            parent_id=parent_id,
            user_query=query,
            order=order,
            attached_files=tuple(part for part in parts if isinstance(part, FilePart)),
            tool_results=tuple(part for part in parts if isinstance(part, ToolResultPart)),
            instructions=asked.instructions,
            metadata={**SOURCE, "model": asked.model},
        )

    def with_answers(self, known: Mapping[int, ConversationNode]) -> list[Message]:
        """Return the messages with the answers of our own nodes in place of those that are known."""
        messages, renamed = list[Message](), dict[str, ToolCallPart]()
        for at, message in enumerate(self.messages):
            if message.role is not Role.ASSISTANT:
                messages.append(with_own_calls(message, renamed) if renamed else message)
                continue
            node = known.get(at)
            own = message if node is None else node.answer_message() or message
            pairs = zip(_calls_of(message), _calls_of(own), strict=False)
            renamed = {sent.call_id: call for sent, call in pairs if sent.call_id != call.call_id}
            messages.append(own)
        return messages


def _calls_of(message: Message) -> list[ToolCallPart]:
    return [part for part in message.parts if isinstance(part, ToolCallPart)]


def with_own_calls(message: Message, calls: Mapping[str, ToolCallPart]) -> Message:
    """Return a message whose tool results have the ids and names that the provider has given to their calls.

    Results of calls whose ids are ours come in the order of the calls: it is all that tells them apart if the provider
    has given no ids.

    Args:
        message: The message.
        calls: Our calls in order, by the ids that the client knows.
    """
    order = {sent: place for place, (sent, call) in enumerate(calls.items()) if sent != call.call_id}
    results = [part for part in message.parts if isinstance(part, ToolResultPart)]
    in_order = iter(sorted(results, key=lambda part: order.get(part.call_id, len(calls))))
    parts: list[Part] = []
    for part in message.parts:
        if isinstance(part, ToolResultPart):
            part = next(in_order)
            call = calls.get(part.call_id)
            part = part if call is None else part.changed(call_id=call.call_id, name=call.name)
        parts.append(part)
    return message.changed(parts=tuple(parts))
