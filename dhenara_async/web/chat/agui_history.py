"""Nodes as the messages of AG-UI. Pure."""

from collections.abc import Sequence

from dhenara_async.conversation import ConversationNode
from dhenara_async.messages.messages import FilePart
from dhenara_async.tools.loop import calls_to_answer
from dhenara_async.web.chat.history import Json, user_message_id
from dhenara_async.web.frames.call_names import CallNames
from dhenara_async.web.inputs.agui_run import words_of


def agui_messages(nodes: Sequence[ConversationNode], then: ConversationNode | None = None) -> list[Json]:
    """Return turns as messages.

    Args:
        nodes: The turns, oldest first.
        then: The turn behind them, of which only the results of tools are returned; None = there is none.
    """
    messages: list[Json] = []
    names = CallNames()
    for node in nodes:
        messages += _results(node, names)
        names.next_answer()
        messages += agui_question(node)
        if node.response is None:
            continue
        if node.response.reasoning():
            reasoning = {"role": "reasoning", "content": node.response.reasoning()}
            messages.append({"id": f"{node.id}-reasoning", **reasoning})
        answer: Json = {"id": node.id, "role": "assistant"}
        text = node.response.text() or node.response.refusal()
        if text:
            answer["content"] = text
        calls = [
            {
                "id": names.new(call.call_id, call.name),
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in calls_to_answer(node.response)
        ]
        if calls:
            answer["toolCalls"] = calls
        messages.append(answer)
    return messages if then is None else [*messages, *_results(then, names)]


def _results(node: ConversationNode, names: CallNames) -> list[Json]:
    messages: list[Json] = []
    for result in node.tool_results:
        name = names.answered(result.call_id, result.name)
        told = {"toolCallId": name, "content": result.get_text()}
        messages.append({"id": f"{name}-result", "role": "tool", **told})
    return messages


def agui_question(node: ConversationNode) -> list[Json]:
    """Return the message of a turn's question; none if there is nothing to show.

    Files are data, and not URLs, because only data may be sent back in a question.
    """
    files = [part for file in node.attached_files if (part := _file_part(file)) is not None]
    if not node.user_query and not files:
        return []
    content: object = node.user_query
    if files:
        text: list[Json] = [{"type": "text", "text": node.user_query}] if node.user_query else []
        content = [*files, *text]
    return [{"id": user_message_id(node.id), "role": "user", "content": content}]


def _file_part(file: FilePart) -> Json | None:
    kind = file.media_type.partition("/")[0]
    if kind not in {"image", "audio", "video"}:
        kind = "document"
    if file.data is not None:
        return {"type": kind, "source": {"type": "data", "value": file.get_base64(), "mimeType": file.media_type}}
    if file.url is None or file.is_stored:
        return None
    return {"type": kind, "source": {"type": "url", "value": file.url, "mimeType": file.media_type}}


def with_ids_of(messages: Sequence[Json], known: Sequence[tuple[str, str]]) -> list[Json]:
    """Return the messages with the ids that a client has given to its questions.

    A client takes a snapshot's message of another id for another message, and puts it at the end.

    Args:
        messages: The messages of the store.
        known: The ids and the words of the client's own questions, oldest first.
    """
    left = list(known)
    renamed: list[Json] = []
    for message in messages:
        if message["role"] == "user" and left and left[0][1] == words_of(message["content"]):
            message = {**message, "id": left.pop(0)[0]}
        renamed.append(message)
    return renamed
