"""Nodes as the messages that ``useChat`` shows. Pure.

The id of an answer's message is that of its node; the id of its question's message ends in ``-user``.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from dhenara_async.conversation import Conversation, ConversationNode
from dhenara_async.errors import ToolArgumentsError
from dhenara_async.messages.messages import (
    FilePart,
    HostedToolPart,
    ReasoningPart,
    RefusalPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from dhenara_async.tools.loop import calls_to_answer
from dhenara_async.web.frames.call_names import CallNames
from dhenara_async.web.frames.ui_metadata import node_metadata, output_of

_USER = "-user"

FileLink = Callable[[str, FilePart], "str | None"]
"""Returns the URL of a file of a node; None if it cannot be shown."""

Json = dict[str, object]


def user_message_id(node_id: str) -> str:
    """Return the id of the message of a turn's question."""
    return f"{node_id}{_USER}"


def node_of_user_message(message_id: str) -> str | None:
    """Return the id of the turn whose question has that message id; None if it is not an id of ours."""
    return message_id.removesuffix(_USER) if message_id.endswith(_USER) else None


def loop_of(node: ConversationNode) -> str:
    """Return the id of the loop that goes on from a turn: a plain turn becomes its first when its calls are decided."""
    return node.loop_id or node.id


def messages_of(nodes: Sequence[ConversationNode], link: FileLink) -> list[Json]:
    """Return the turns as messages, oldest first; the steps of a tool loop are one message.

    Calls at the end of a loop that have no result wait for approval, and so do those of a hosted server at any end.
    """
    messages: list[Json] = []
    loop: list[Json] = []  # the parts of the answer that is being built
    names = CallNames()  # of its calls
    for place, node in enumerate(nodes):
        results = nodes[place + 1].tool_results if place + 1 < len(nodes) else ()
        goes_on = place > 0 and node.loop_id == loop_of(nodes[place - 1])
        if (node.user_query or node.attached_files) and not goes_on:
            messages.append(question_message(node, link))
        if node.response is None:
            continue
        same = goes_on and bool(messages) and messages[-1]["role"] == "assistant"
        if not same:
            names = CallNames()
        parts = list(_answer_parts(node, results, link, names, last=place + 1 == len(nodes)))
        if same:
            loop += parts
            messages[-1]["metadata"] = node_metadata(node)
        else:
            loop = parts
            message: Json = {"id": node.id, "role": "assistant", "parts": loop, "metadata": node_metadata(node)}
            messages.append(message)
    return messages


def question_message(node: ConversationNode, link: FileLink) -> Json:
    """Return the message of a turn's question."""
    parts: list[Json] = []
    for file in node.attached_files:
        parts += _file_parts(node, file, link)
    if node.user_query:
        parts.append({"type": "text", "text": node.user_query})
    return {"id": user_message_id(node.id), "role": "user", "parts": parts}


def tree_of(conversation: Conversation) -> Json:
    """Return the whole tree: its head, and every turn with its parent, question and model."""
    head = conversation.head
    return {"id": conversation.id, "head": None if head is None else head.id, "nodes": _told(conversation.nodes)}


def _told(nodes: Iterable[ConversationNode]) -> list[Json]:
    return [
        {
            "id": node.id,
            "parentId": node.parent_id,
            "question": node.user_query,
            "answer": "" if node.response is None else node.response.text(),
            **node_metadata(node),
        }
        for node in nodes
    ]


def _answer_parts(
    node: ConversationNode, results: Sequence[ToolResultPart], link: FileLink, names: CallNames, *, last: bool
) -> Iterator[Json]:
    names.next_answer()
    called = () if node.response is None else calls_to_answer(node.response)
    named = [(call, names.new(call.call_id, call.name)) for call in called]
    outputs = {names.answered(result.call_id, result.name): result for result in results}
    parts = () if node.response is None else node.response.choices[0].parts
    hosted = {
        part.call_id: part.output for part in parts if isinstance(part, HostedToolPart) and part.output is not None
    }
    shown: set[str] = set()  # a hosted tool's call and its result are one part or two
    yield {"type": "step-start"}
    for part in parts:
        match part:
            case TextPart() if part.text:
                yield {"type": "text", "text": part.text, "state": "done"}
                for number, citation in enumerate(part.citations):
                    if citation.url is not None and citation.url.lower().startswith(("http://", "https://")):
                        title = {} if citation.title is None else {"title": citation.title}
                        yield {"type": "source-url", "sourceId": f"s{number}", "url": citation.url, **title}
            case ReasoningPart() if part.text:
                yield {"type": "reasoning", "text": part.text, "state": "done"}
            case RefusalPart() if part.text:
                yield {"type": "text", "text": part.text, "state": "done"}
            case FilePart():
                yield from _file_parts(node, part, link)
            case ToolCallPart():
                name = next(name for call, name in named if call is part)
                yield _call_part(part, name, outputs.get(name), waits=last and node.loop_id is not None)
            case HostedToolPart() if (asked := part.requested_call()) is not None:
                name = next(name for call, name in named if call == asked)
                yield _call_part(asked, name, outputs.get(name), waits=last)
            case HostedToolPart() if not part.report and (part.input is not None or part.output is not None):
                if part.call_id is None or part.call_id not in shown:
                    shown.add(part.call_id or "")
                    name = names.new(part.call_id, part.tool or part.name)
                    yield _hosted_part(part, name, part.output if part.call_id is None else hosted.get(part.call_id))
            case _:  # parts that hold only opaque state
                pass


def _hosted_part(part: HostedToolPart, call_id: str, output: object) -> Json:
    return {
        "type": "dynamic-tool",
        "toolName": part.tool or part.name,
        "toolCallId": call_id,
        "state": "output-available",
        "input": {} if part.input is None else part.input,
        "output": {} if output is None else output,
        "providerExecuted": True,
    }


def _call_part(call: ToolCallPart, name: str, result: ToolResultPart | None, *, waits: bool) -> Json:
    head: Json = {"type": "dynamic-tool", "toolName": call.name or "tool", "toolCallId": name}
    try:
        head["input"] = call.parsed()
    except ToolArgumentsError:
        words = "the arguments of this call are not JSON"
        return {**head, "state": "output-error", "input": call.arguments, "errorText": words}
    if result is None and waits:
        return {**head, "state": "approval-requested", "approval": {"id": head["toolCallId"]}}
    if result is None:
        return {**head, "state": "input-available"}
    if result.denied:
        approval = {"id": head["toolCallId"], "approved": False, "reason": result.get_text()}
        return {**head, "state": "output-denied", "approval": approval}
    if result.is_error:
        return {**head, "state": "output-error", "errorText": result.get_text()}
    return {**head, "state": "output-available", "output": output_of(result)}


def _file_parts(node: ConversationNode, file: FilePart, link: FileLink) -> list[Json]:
    url = link(node.id, file)
    if url is None:
        return []
    name = {} if file.filename is None else {"filename": file.filename}
    return [{"type": "file", "url": url, "mediaType": file.media_type, **name}]
