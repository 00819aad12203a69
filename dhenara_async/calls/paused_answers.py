"""Builds the request that lets a provider go on with an answer that it cut (``FinishReason.PAUSE``). Pure.

- Anthropic cuts an answer during its own tools (``pause_turn``): the answer is sent back as it stands, and goes on.
- Gemini cuts a long answer (``CONTINUATION``): the same request is sent again with the token that came with the answer.

Another endpoint that is asked instead is shown the answer, and is asked to go on where that is not implied.

Sources: https://platform.claude.com/docs/en/build-with-claude/handling-stop-reasons,
https://ai.google.dev/api/generate-content (read 2026-11-28)
"""

from collections.abc import Sequence
from dataclasses import dataclass

from dhenara_async.conversation import ConversationNode
from dhenara_async.endpoint import AIModelEndpoint
from dhenara_async.hosts.registry import expected_origin
from dhenara_async.messages.messages import Message, Origin, Role
from dhenara_async.response import AIModelCallResponse, FinishReason, continuation_token
from dhenara_async.usage.tokens import total_usage


@dataclass(frozen=True, slots=True)
class ContinuedQuestion:
    """The question of a request that goes on with an answer.

    Attributes:
        asked: The messages at the end of the conversation.
        nodes: The turns before them.
        token: The provider's token; None = the messages alone say where to go on.
    """

    asked: list[Message]
    nodes: tuple[ConversationNode, ...] = ()
    token: str | None = None


def is_paused(node: ConversationNode) -> bool:
    """Whether the provider cut the answer of a turn in order to go on with it."""
    return node.response is not None and node.response.finish_reason is FinishReason.PAUSE


def continued_conversation(nodes: tuple[ConversationNode, ...], endpoint: AIModelEndpoint) -> ContinuedQuestion:
    """Build the question that goes on with the answer of the last turn; nothing is asked if it was not cut.

    Args:
        nodes: The turns, oldest first.
        endpoint: The endpoint that is asked.
    """
    if not nodes or not is_paused(nodes[-1]):
        return ContinuedQuestion([], nodes)
    last = nodes[-1]
    token = None if last.response is None else continuation_token(last.response.choices[0].parts)
    if token is None or not _is_own(last.origin, endpoint):
        return ContinuedQuestion(last.as_messages(), nodes[:-1])
    first = len(nodes) - 1
    while first > 0 and not _asks(nodes[first]) and is_paused(nodes[first - 1]):
        first -= 1
    asked = [message for message in nodes[first].as_messages() if message.role is not Role.ASSISTANT]
    return ContinuedQuestion(asked, nodes[:first], token)


def continued_messages(messages: Sequence[Message], endpoint: AIModelEndpoint) -> ContinuedQuestion:
    """Build the question for messages that may end with an answer that was cut, which ``endpoint`` goes on with.

    Args:
        messages: The conversation, oldest first.
        endpoint: The endpoint that is asked.
    """
    whole = [*messages]
    if not whole or whole[-1].role is not Role.ASSISTANT:
        return ContinuedQuestion(whole)
    parts = whole[-1].parts
    token = continuation_token(parts)
    if token is None or not _is_own(next((part.origin for part in parts if part.origin), None), endpoint):
        return ContinuedQuestion(whole)
    while whole and whole[-1].role is Role.ASSISTANT:
        del whole[-1]
    return ContinuedQuestion(whole, token=token)


def joined(cut: AIModelCallResponse, rest: AIModelCallResponse) -> AIModelCallResponse:
    """Return one answer made of an answer that the provider cut and of the rest of it, which came by another call.

    Args:
        cut: The answer up to the cut.
        rest: The answer that went on with it; its finish reason counts.
    """
    before, choice = cut.chat_response.choices[0], rest.chat_response.choices[0]
    kept = [part for part in before.parts if continuation_token((part,)) is None]
    answer = rest.chat_response.changed(
        choices=(choice.changed(parts=(*kept, *choice.parts)), *rest.chat_response.choices[1:]),
        usage=total_usage((cut.chat_response.usage, rest.chat_response.usage)),
    )
    return rest.changed(
        chat_response=answer,
        attempts=cut.attempts + rest.attempts,
        tries=(*cut.tries, *rest.tries),
        warnings=tuple(dict.fromkeys((*cut.warnings, *rest.warnings))),
    )


def _asks(node: ConversationNode) -> bool:
    """Whether a turn has a question, rather than going on with the answer before it."""
    return bool(node.user_query or node.attached_files or node.tool_results)


def _is_own(origin: Origin | None, endpoint: AIModelEndpoint) -> bool:
    return origin is not None and origin.same_model(expected_origin(endpoint))
