"""``OpenItem``: an item of a response while its text is sent. Pure."""

from collections.abc import Mapping

from dhenara_async.drivers.base import JsonObject
from dhenara_async.events import PartStart
from dhenara_async.framing.lenient_json import dumps
from dhenara_async.messages.messages import Part, ReasoningPart, RefusalPart, TextPart, ToolCallPart

EMPTY: Mapping[str, JsonObject] = {
    "text": {"type": "output_text", "annotations": [], "logprobs": [], "text": ""},
    "refusal": {"type": "refusal", "refusal": ""},
}
"""By the kind of a part, the content of a message before its text."""

_DELTAS: Mapping[str, tuple[bytes, bytes]] = {
    "text": (b"response.output_text.delta", b'"content_index":0,"logprobs":[],'),
    "refusal": (b"response.refusal.delta", b'"content_index":0,'),
    "reasoning": (b"response.reasoning_summary_text.delta", b'"summary_index":0,'),
    "tool_call": (b"response.function_call_arguments.delta", b""),
}
"""By the kind of a part, the name of its deltas and their fields."""


class OpenItem:
    """An item whose text is sent.

    Args:
        start: The start of its part.
        index: Its place in the output.
        item_id: Its id.
        call_id: The id of a tool call, as the client knows it; empty for other items.

    Attributes:
        start: The same.
        index: The same.
        item_id: The same.
        call_id: The same.
        place: The fields that name it in every event.
        head: A delta event up to its text.
        pieces: Its deltas so far.
    """

    __slots__ = ("call_id", "head", "index", "item_id", "pieces", "place", "start")

    def __init__(self, start: PartStart, index: int, item_id: str, call_id: str) -> None:
        name, fields = _DELTAS[start.kind]
        self.start: PartStart = start
        self.index: int = index
        self.item_id: str = item_id
        self.call_id: str = call_id
        self.place: JsonObject = {"item_id": item_id, "output_index": index}
        head = b'event: %b\ndata: {"type":"%b","item_id":%b,"output_index":%d,%b"delta":'
        self.head: bytes = head % (name, name, dumps(item_id), index, fields)
        self.pieces: list[str] = []

    def interrupted(self) -> Part:
        """Return its part as far as it was sent."""
        text, start = "".join(self.pieces), self.start
        match start.kind:
            case "reasoning":
                return ReasoningPart(text=text, status="interrupted")
            case "refusal":
                return RefusalPart(text=text, status="interrupted")
            case "tool_call":
                name, call_id = start.name or "", start.call_id or ""
                return ToolCallPart(call_id=call_id, name=name, arguments=text, status="interrupted")
            case _:
                return TextPart(text=text, status="interrupted")
