"""The parts of an answer as items of a response, for streams and whole objects alike. Pure.

Source: https://platform.openai.com/docs/api-reference/responses/object and the types of the ``openai`` package 3.57
(``types/responses/response_output_item.py``, read 2026-11-28)
"""

from collections.abc import Mapping, Sequence

from dhenara_async.drivers.base import JsonObject, as_list, as_object, as_text
from dhenara_async.endpoint import Dialect
from dhenara_async.messages.messages import (
    Citation,
    FilePart,
    HostedToolPart,
    Part,
    PartBase,
    ReasoningPart,
    RefusalPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from dhenara_async.web.openai.logprobs import told_logprobs
from dhenara_async.web.openai.responses.hosted_items import HostedItems

_PREFIXES: Mapping[str, str] = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "function_call_output": "fco",
    "web_search_call": "ws",
    "file_search_call": "fs",
    "code_interpreter_call": "ci",
    "image_generation_call": "ig",
    "mcp_call": "mcp",
    "mcp_list_tools": "mcpl",
    "mcp_approval_request": "mcpr",
}


class ItemNames:
    """The ids of the items and calls of one response. They depend on the answer only, so a replay has the same ones.

    Args:
        response_id: The id of the response.
    """

    def __init__(self, response_id: str) -> None:
        self._tail = response_id.removeprefix("resp_")
        self._calls = 0
        self._shown: set[str] = set()

    def item(self, kind: str, index: int) -> str:
        """Return the id of an item.

        Args:
            kind: The item's type.
            index: Its place in the output, from 0.
        """
        return f"{_PREFIXES.get(kind, 'item')}_{self._tail}_{index}"

    def call(self, call_id: str | None) -> str:
        """Return the id of the next call, which no earlier call has: clients refuse two calls of one id.

        Args:
            call_id: The provider's id; None or empty if it sent none.
        """
        number, self._calls = self._calls, self._calls + 1
        name = call_id or f"call_{self._tail}_{number}"
        if name in self._shown:
            name = f"{name}_{number}"
        self._shown.add(name)
        return name


def call_ids(response_id: str, parts: Sequence[Part]) -> list[tuple[str, ToolCallPart]]:
    """Return the tool calls of an answer, each with the id that clients know it by.

    Args:
        response_id: The id of the response.
        parts: All parts of the answer, in order.
    """
    names = ItemNames(response_id)
    return [(names.call(part.call_id), part) for part in parts if isinstance(part, ToolCallPart)]


def output_items(response_id: str, parts: Sequence[Part]) -> list[JsonObject]:
    """Return the output of a response. Parts that the API has no item for are left out.

    Args:
        response_id: The id of the response.
        parts: All parts of the answer, in order.
    """
    names, hosted, items = ItemNames(response_id), HostedItems(), list[JsonObject]()
    for part in parts:
        if isinstance(part, HostedToolPart):
            item = None if hosted.complete(part) is not None else hosted.begin(part)
            if item is not None:
                item["id"] = names.item(as_text(item["type"]), len(items))
        else:
            call_id = names.call(part.call_id) if isinstance(part, ToolCallPart) else ""
            item = item_of(part, names, len(items), call_id)
        if item is not None:
            items.append(item)
    return without_empty(items)


def without_empty(items: Sequence[JsonObject]) -> list[JsonObject]:
    """Return the items of an output without messages that say nothing, unless there is nothing else.

    Gemini ends its answers with an empty text that has the signature. Clients take the last message for the answer.

    Args:
        items: All items, in order.
    """
    return [item for item in items if not _is_empty(item)] or list(items)


def _is_empty(item: JsonObject) -> bool:
    if item["type"] != "message":
        return False
    contents = map(as_object, as_list(item["content"]))
    return all(content["type"] == "output_text" and not content["text"] for content in contents)


def item_of(part: Part, names: ItemNames, index: int, call_id: str = "") -> JsonObject | None:
    """Return a finished item; None if the API has none for the part.

    Args:
        part: The part; ``HostedItems`` has the items of hosted tools.
        names: The ids of the response.
        index: The item's place in the output.
        call_id: The id that clients know a tool call, or the call of a result, by.
    """
    match part:
        case TextPart():
            return _message(part, text_content(part), names.item("message", index))
        case RefusalPart():
            return _message(part, {"type": "refusal", "refusal": part.text}, names.item("message", index))
        case ReasoningPart():
            return _reasoning(part, names.item("reasoning", index))
        case ToolCallPart():
            head = {"id": names.item("function_call", index), "type": "function_call", "status": _status(part)}
            return {**head, "call_id": call_id, "name": part.name, "arguments": arguments_of(part)}
        case ToolResultPart():
            kind = "function_call_output"
            head = {"id": names.item(kind, index), "type": kind, "status": _status(part)}
            return {**head, "call_id": call_id, "output": part.get_text()}
        case FilePart():
            return _image(part, names.item("image_generation_call", index))
        case HostedToolPart():
            return None


def text_content(part: TextPart) -> JsonObject:
    """Return the content of a text, with its citations and log probabilities."""
    return {
        "type": "output_text",
        "annotations": _annotations(part),
        "logprobs": told_logprobs(part.logprobs),
        "text": part.text,
    }


def arguments_of(part: ToolCallPart) -> str:
    """Return the arguments of a call; clients parse them, so blank ones are an empty object."""
    return part.arguments if part.arguments.strip() or part.status == "interrupted" else "{}"


def native_state(part: PartBase) -> JsonObject:
    """Return the native data of a part that comes from this API; empty for parts of other APIs."""
    if part.origin is None or part.origin.dialect != Dialect.OPENAI_RESPONSES.value:
        return {}
    return {**(part.provider_state or {})}


def _status(part: PartBase) -> str:
    return "incomplete" if part.status == "interrupted" else "completed"


def _message(part: PartBase, content: JsonObject, item_id: str) -> JsonObject:
    item: JsonObject = {"id": item_id, "type": "message", "status": _status(part), "role": "assistant"}
    phase = as_text(native_state(part).get("phase"))
    return {**item, **({"phase": phase} if phase else {}), "content": [content]}


def _reasoning(part: ReasoningPart, item_id: str) -> JsonObject:
    """Return a reasoning item. It has ``encrypted_content`` in any case: clients that send a history back drop
    reasoning without it.

    OpenAI's own is passed on. Of other providers it is the id of the item, a reference to the node: their state never
    leaves, so a client cannot forge it.
    """
    item: JsonObject = {"id": item_id, "type": "reasoning"}
    item["summary"] = [{"type": "summary_text", "text": part.text}] if part.text else []
    item["encrypted_content"] = as_text(native_state(part).get("encrypted_content")) or item_id
    if part.status == "interrupted":
        item["status"] = "incomplete"
    return item


def _image(part: FilePart, item_id: str) -> JsonObject | None:
    """Return a generated image; the API has no item for other files, or for one without its bytes."""
    if part.data is None or part.kind != "image":
        return None
    kind = part.media_type.removeprefix("image/").removesuffix("+xml")
    item = {**native_state(part), "id": item_id, "type": "image_generation_call", "status": "completed"}
    return {**item, "result": part.get_base64(), **({} if kind == "*" else {"output_format": kind})}


def _annotations(part: TextPart) -> list[JsonObject]:
    native = [as_object(entry) for entry in as_list(native_state(part).get("annotations"))]
    if native:
        return [entry for entry in native if entry]
    found = (_annotation(cited, len(part.text)) for cited in part.citations)
    return [entry for entry in found if entry is not None]


def _annotation(cited: Citation, length: int) -> JsonObject | None:
    """Return a citation as an annotation; None if it names neither a URL nor a file."""
    start, end = cited.start or 0, length if cited.end is None else cited.end
    if cited.url is not None:
        place = {"start_index": start, "end_index": end}
        return {"type": "url_citation", "url": cited.url, "title": cited.title or "", **place}
    if cited.file_id is None:
        return None
    return {"type": "file_citation", "file_id": cited.file_id, "filename": cited.title or "", "index": end}
