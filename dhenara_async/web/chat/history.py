"""Nodes as the messages that ``useChat`` shows. Pure.

The id of an answer's message is that of its node; the id of its question's message ends in ``-user``.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

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
from dhenara_async.web.frames.protocol import Ended
from dhenara_async.web.frames.ui_messages import CALL_CUT
from dhenara_async.web.frames.ui_metadata import hop_of, node_metadata, output_of
from dhenara_async.web.frames.ui_sources import UISources

_USER = "-user"

FileLink = Callable[[str, FilePart], "str | None"]
"""Returns the URL of a file of a node; None if it cannot be shown."""

Json = dict[str, object]


@dataclass
class _MessageSoFar:
    """The calls and the sources that the message of an answer shows already."""

    names: CallNames = field(default_factory=CallNames)
    sources: UISources = field(default_factory=UISources)


def user_message_id(node_id: str) -> str:
    """Return the id of the message of a turn's question."""
    return f"{node_id}{_USER}"


def node_of_user_message(message_id: str) -> str | None:
    """Return the id of the turn whose question has that message id; None if it is not an id of ours."""
    return message_id.removesuffix(_USER) if message_id.endswith(_USER) else None


def loop_of(node: ConversationNode) -> str:
    """Return the id of the loop that goes on from a turn: a plain turn becomes its first when its calls are decided."""
    return node.loop_id or node.id


def messages_of(
    nodes: Sequence[ConversationNode], link: FileLink, known_tools: Collection[str] = (), *, at_work: bool = False
) -> list[Json]:
    """Return the turns as messages, oldest first; the steps of a tool loop are one message.

    Calls at the end of a loop that have no result wait for approval, and so do those of a hosted server at any end.

    Args:
        nodes: The turns, oldest first.
        link: The URLs of files.
        known_tools: Names of the tools that the page declares; all others are ``dynamic-tool``, like in the stream.
        at_work: Whether the last turn goes on: its tools run at the moment, and wait for nobody.
    """
    messages: list[Json] = []
    loop: list[Json] = []  # the parts of the answer that is being built
    shown = _MessageSoFar()
    continued = {at for at, (node, then) in enumerate(pairwise(nodes)) if then.loop_id == loop_of(node)}
    for place, node in enumerate(nodes):
        results = nodes[place + 1].tool_results if place + 1 < len(nodes) else ()
        goes_on = place - 1 in continued
        if (node.user_query or node.attached_files) and not goes_on:
            messages.append(question_message(node, link))
        if node.response is None:
            continue
        same = goes_on and bool(messages) and messages[-1]["role"] == "assistant"
        if not same:
            shown = _MessageSoFar()
        parts = list(
            _answer_parts(node, results, link, shown, known_tools, last=place + 1 == len(nodes) and not at_work)
        )
        if same:
            loop += parts
            messages[-1]["metadata"] = node_metadata(node)
        else:
            loop = parts
            message: Json = {"id": node.id, "role": "assistant", "parts": loop, "metadata": node_metadata(node)}
            messages.append(message)
        hop = None if node.status != "complete" or place in continued else hop_of(Ended(node=node))
        if hop is not None:
            loop.append({"type": "data-hop", "data": hop})
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
    node: ConversationNode,
    results: Sequence[ToolResultPart],
    link: FileLink,
    message: _MessageSoFar,
    known_tools: Collection[str],
    *,
    last: bool,
) -> Iterator[Json]:
    names = message.names
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
                yield from message.sources.new(part.citations)
            case ReasoningPart() if part.text:
                yield {"type": "reasoning", "text": part.text, "state": "done"}
            case RefusalPart() if part.text:
                yield {"type": "text", "text": part.text, "state": "done"}
            case FilePart():
                yield from _file_parts(node, part, link)
            case ToolCallPart():
                name = next(name for call, name in named if call is part)
                yield _call_part(part, name, outputs.get(name), known_tools, waits=last and node.loop_id is not None)
            case HostedToolPart() if (asked := part.requested_call()) is not None:
                name = next(name for call, name in named if call == asked)
                yield _call_part(asked, name, outputs.get(name), known_tools, waits=last)
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


def _call_part(
    call: ToolCallPart, name: str, result: ToolResultPart | None, known_tools: Collection[str], *, waits: bool
) -> Json:
    tool = call.name or "tool"
    head: Json = {"type": "dynamic-tool", "toolName": tool, "toolCallId": name}
    if tool in known_tools:
        head = {"type": f"tool-{tool}", "toolCallId": name}
    if call.status == "interrupted" and result is None:  # nobody will run it
        return {**head, "state": "output-error", "input": {}, "errorText": CALL_CUT}
    try:
        head["input"] = call.parsed()
    except ToolArgumentsError:
        words = "the arguments of this call are not JSON" if result is None else result.get_text()
        raw = {"rawInput": call.arguments} if tool in known_tools else {}  # version 6 reads it there
        return {**head, "state": "output-error", "input": call.arguments, **raw, "errorText": words}
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
