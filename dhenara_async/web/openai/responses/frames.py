"""``ResponseFrames``: one answer as the stream of the Responses API. Pure.

Every event has a ``sequence_number``, its item ids and its indexes depend on the events of the answer only: not on how
they are batched, on a clock or on chance. So a replay of the same events, in any process, numbers them the same.

Source: https://platform.openai.com/docs/api-reference/responses-streaming and the types of the ``openai`` package 3.57
(``types/responses/response_stream_event.py``, read 2026-11-28)
"""

from collections.abc import Mapping, Sequence

from dhenara_async.drivers.base import JsonObject, as_list, as_object, as_text
from dhenara_async.events import (
    PartEnd,
    PartStart,
    ReasoningDelta,
    RefusalDelta,
    StepStart,
    StreamEnd,
    StreamEvent,
    StreamReset,
    TextDelta,
    ToolCallDelta,
    ToolEnd,
    UsageUpdate,
)
from dhenara_async.framing.lenient_json import dumps
from dhenara_async.messages.messages import (
    HostedToolPart,
    Part,
    ReasoningPart,
    RefusalPart,
    TextPart,
    ToolCallPart,
)
from dhenara_async.response import ChatResponse, FinishReason
from dhenara_async.usage.tokens import UNKNOWN, Usage, total_usage
from dhenara_async.web.frames.event_json import text_json
from dhenara_async.web.frames.failures import Failure
from dhenara_async.web.frames.protocol import UNBUFFERED, Ended
from dhenara_async.web.frames.sse import COMMENT
from dhenara_async.web.openai.errors import OpenAIError, error_of
from dhenara_async.web.openai.responses.hosted_items import HostedItems, transformations_of
from dhenara_async.web.openai.responses.items import ItemNames, item_of, without_empty
from dhenara_async.web.openai.responses.object import ResponseHead, ResponseState, finished_state, object_of
from dhenara_async.web.openai.responses.open_item import EMPTY, OpenItem

RESTARTED = OpenAIError(502, "The answer was begun again by another model, after a tool call of it was sent.")
"""The error of an answer that began again after its client may have acted on a tool call."""

# The phases that clients show of a hosted tool, before its item is done.
_PHASES: Mapping[str, Sequence[str]] = {
    "web_search_call": ("in_progress", "searching"),
    "file_search_call": ("in_progress", "searching"),
    "code_interpreter_call": ("in_progress", "interpreting"),
    "image_generation_call": ("in_progress", "generating"),
    "mcp_call": ("in_progress",),
    "mcp_list_tools": ("in_progress",),
}
_RESULTS = ("outputs", "output", "result", "results", "error")  # of an item that arrives whole, null at its start


class ResponseFrames:
    """One answer as the stream of the Responses API. See ``Frames``.

    Each part becomes an item of the output. A tool loop is one response, with its tool results as items between the
    answers. Only the first choice is written. Generated files other than images, and tools of other providers that
    OpenAI has no item for, are left out.

    The protocol cannot take words back. Where a plan begins the answer again at another endpoint, the items that were
    sent end as ``incomplete``, the new answer follows as further items, and the last event has the new answer only. If
    a tool call was sent already, its client may have run it: the response fails then.

    Args:
        head: The fields that the response has from its beginning.
        starting_after: The last number that the client has; events up to it are counted but not written. The events of
            the answer are fed from the first one in any case.
        events_kept: Whether the fed events are the ones that the client has seen. If not, because the turn is replayed
            from its node, its numbers mean nothing to a client with ``starting_after``, who then gets the last event
            only.
        events_lost: Whether the client may have seen more than is fed, because a process was killed before it had kept
            what it sent: the last event of an answer that was cut is written in any case then.
    """

    media_type: str = "text/event-stream"
    headers: Mapping[str, str] = UNBUFFERED
    comment: bytes = COMMENT

    def __init__(
        self,
        head: ResponseHead,
        *,
        starting_after: int | None = None,
        events_kept: bool = True,
        events_lost: bool = False,
    ) -> None:
        self._head = head
        self._after = -1 if starting_after is None else starting_after
        self._last_only = starting_after is not None and not events_kept
        self._lossy = events_lost
        self._number = 0
        self._out: list[bytes] = []
        self._names = ItemNames(head.id)
        self._open: dict[int, OpenItem] = {}
        self._others: set[int] = set()  # parts of further choices
        self._hosted = HostedItems()
        self._placed: dict[str, int] = {}  # the indexes of hosted items without a result, by their id
        self._count = 0  # items so far
        self._output: dict[int, JsonObject] = {}  # finished items, and hosted ones that wait for a result
        self._step = 0  # the index of the first item of this answer: of a loop there are several
        self._has_calls = False  # whether this answer has one
        self._refused = False
        self._left_out: list[JsonObject] = []  # of the request, as its provider reports
        self._calls: dict[str, str] = {}  # the ids that the client knows, by call id
        self._usage, self._earlier = UNKNOWN, list[Usage]()
        self._finish: FinishReason | None = None
        self._over = False
        self._cut = False

    def begin(self) -> bytes:
        """Return the announcement of the response."""
        self._out = []
        begun = object_of(self._head, ResponseState(status="in_progress"))
        self._put("response.created", {"response": begun})
        self._put("response.in_progress", {"response": begun})
        return b"".join(self._out)

    def feed(self, events: Sequence[StreamEvent], ids: Sequence[str] = ()) -> bytes:
        """See ``Frames``; the ids are left out, because the events are numbered."""
        out = self._out = []
        opened = self._open
        unread = 1 << 62 if self._last_only else self._after
        for event in events:
            if isinstance(event, TextDelta | ReasoningDelta | RefusalDelta):
                text = event.text
            elif isinstance(event, ToolCallDelta):
                text = event.arguments
            else:
                self._feed_other(event)
                continue
            item = opened.get(event.part_id)
            if item is None:  # of a further choice
                continue
            if not item.pieces:
                self._begin_text(item)
            item.pieces.append(text)
            number = self._number
            self._number = number + 1
            if number > unread:
                out.append(b'%b%b,"sequence_number":%d}\n\n' % (item.head, text_json(text), number))
        return b"".join(out)

    def end(self, ended: Ended) -> bytes:
        """Return the last event: the response as ``completed`` or ``incomplete``, or as ``failed`` by its provider."""
        answer = _answer_of(ended)
        self._out = []
        if answer is None or self._over:
            return b""
        self._close_all()
        finish = self._finish or answer.finish_reason
        usage = total_usage([*self._earlier, answer.usage]) if self._earlier else answer.usage
        self._finish_with(finished_state(finish, self._items(), usage, self._left_out, refused=self._refused))
        return b"".join(self._out)

    def fail(self, failure: Failure) -> bytes:
        """Return ``error`` and the response as ``failed``; if somebody stopped it, only the response, as ``cancelled``.

        The protocol has no event of its own for a cancelled response: ``response.failed`` is the one that no client
        takes for success.
        """
        self._out = []
        if self._over:
            return b""
        self._cut = True
        self._close_all()
        if failure.cancelled:
            self._finish_with(ResponseState(status="cancelled", output=self._items()))
        else:
            self._finish_with_error(error_of(failure))
        return b"".join(self._out)

    # ------------------------------------------------------------------------------------------------ events

    def _put(self, kind: str, fields: Mapping[str, object], *, always: bool = False) -> None:
        number = self._number
        if always:
            number = max(number, self._after + 1)
        elif self._last_only:
            self._number += 1
            return
        self._number = number + 1
        if number > self._after:
            told = dumps({"type": kind, **fields, "sequence_number": number})
            self._out.append(b"event: %b\ndata: %b\n\n" % (kind.encode(), told))

    def _finish_with(self, state: ResponseState) -> None:
        self._over = True
        kind = "failed" if state.status == "cancelled" else state.status
        told = {"response": object_of(self._head, state)}
        self._put(f"response.{kind}", told, always=self._last_only or (self._lossy and self._cut))

    def _finish_with_error(self, error: OpenAIError) -> None:
        self._put("error", {"code": error.code or "server_error", "message": error.message, "param": error.param})
        self._finish_with(ResponseState(status="failed", output=self._items(), error=error))

    def _items(self) -> list[JsonObject]:
        return without_empty([self._output[index] for index in sorted(self._output)])

    def _feed_other(self, event: StreamEvent) -> None:
        if self._over:
            return
        match event:
            case PartStart():
                self._start(event)
            case PartEnd():
                self._end(event.part_id, event.part)
            case UsageUpdate():
                self._usage = event.usage
            case StreamEnd():
                self._finish = event.finish_reason
            case StreamReset():
                self._restart()
            case StepStart():
                self._next_step()
            case ToolEnd():
                self._whole_item(event.result, self._calls.get(event.result.call_id, event.result.call_id))
            case _:
                pass

    def _next_step(self) -> None:
        self._close_all()
        if self._usage is not UNKNOWN:
            self._earlier.append(self._usage)
        self._usage = UNKNOWN
        self._step, self._has_calls, self._refused = self._count, False, False
        self._left_out = []

    def _restart(self) -> None:
        """End what was sent of an answer that begins again."""
        has_calls = self._has_calls
        self._close_all()
        if has_calls:
            self._finish_with_error(RESTARTED)
            return
        for index in range(self._step, self._count):
            self._output.pop(index, None)
        self._step, self._refused, self._usage, self._left_out = self._count, False, UNKNOWN, []

    def _close_all(self) -> None:
        """End the items that are still open."""
        for part_id, item in list(self._open.items()):
            self._end(part_id, item.interrupted())
        for item in self._hosted.end():
            self._hosted_done(item)
        self._others.clear()  # part ids begin at 0 again

    # ------------------------------------------------------------------------------------------------ items

    def _next_index(self) -> int:
        self._count += 1
        return self._count - 1

    def _start(self, start: PartStart) -> None:
        if start.choice:
            self._others.add(start.part_id)
            return
        match start.kind:
            case "text" | "refusal":
                item: JsonObject = {"type": "message", "status": "in_progress", "role": "assistant", "content": []}
            case "reasoning":
                item = {"type": "reasoning", "summary": []}
            case "tool_call":
                self._has_calls = True
                call_id = self._names.call(start.call_id)
                self._calls[start.call_id or ""] = call_id
                item = {"type": "function_call", "status": "in_progress", "call_id": call_id, "name": start.name or ""}
                item["arguments"] = ""
            case "file" | "hosted_tool":
                return  # arrive whole
        kind, index = as_text(item["type"]), self._next_index()
        item_id = self._names.item(kind, index)
        opened = OpenItem(start, index, item_id, as_text(item.get("call_id")))
        self._open[start.part_id] = opened
        self._put("response.output_item.added", {"output_index": index, "item": {"id": item_id, **item}})
        if kind == "message":
            self._put("response.content_part.added", {**opened.place, "content_index": 0, "part": EMPTY[start.kind]})

    def _begin_text(self, item: OpenItem) -> None:
        if item.start.kind == "reasoning":
            added = {**item.place, "summary_index": 0, "part": {"type": "summary_text", "text": ""}}
            self._put("response.reasoning_summary_part.added", added)

    def _end(self, part_id: int, part: Part) -> None:
        opened = self._open.pop(part_id, None)
        if part_id in self._others:
            return
        if opened is not None:
            self._end_open(opened, part)
        elif isinstance(part, HostedToolPart):
            self._hosted_tool(part)
        elif part.type == "file":
            self._whole_item(part)

    def _end_open(self, opened: OpenItem, part: Part) -> None:
        item = item_of(part, self._names, opened.index, opened.call_id)
        if item is None or item["id"] != opened.item_id:
            return  # a part that is not of the kind that it was announced as
        place = opened.place
        match part:
            case TextPart():
                self._rest(opened, part.text)
                content = as_object(as_list(item["content"])[0])
                at = {**place, "content_index": 0}
                for number, annotation in enumerate(as_list(content["annotations"])):
                    cited = {**at, "annotation_index": number, "annotation": annotation}
                    self._put("response.output_text.annotation.added", cited)
                done = {**at, "text": part.text, "logprobs": content["logprobs"]}
                self._put("response.output_text.done", done)
                self._put("response.content_part.done", {**at, "part": content})
            case RefusalPart():
                self._rest(opened, part.text)
                self._refused = self._refused or bool(part.text)
                at = {**place, "content_index": 0}
                self._put("response.refusal.done", {**at, "refusal": part.text})
                self._put("response.content_part.done", {**at, "part": as_list(item["content"])[0]})
            case ReasoningPart():
                self._rest(opened, part.text)
                if part.text:
                    at = {**place, "summary_index": 0}
                    self._put("response.reasoning_summary_text.done", {**at, "text": part.text})
                    summary = {"type": "summary_text", "text": part.text}
                    self._put("response.reasoning_summary_part.done", {**at, "part": summary})
            case ToolCallPart():
                self._rest(opened, as_text(item["arguments"]))
                self._put("response.function_call_arguments.done", {**place, "arguments": item["arguments"]})
            case _:
                pass
        self._item_done(opened.index, item)

    def _rest(self, opened: OpenItem, text: str) -> None:
        """Send the text of a part that had no deltas."""
        if text and not any(opened.pieces):
            self._begin_text(opened)
            number = self._number
            self._number = number + 1
            if number > self._after and not self._last_only:
                self._out.append(b'%b%b,"sequence_number":%d}\n\n' % (opened.head, text_json(text), number))

    def _item_done(self, index: int, item: JsonObject) -> None:
        self._output[index] = item
        self._put("response.output_item.done", {"output_index": index, "item": item})

    def _whole_item(self, part: Part, call_id: str = "") -> None:
        """Send an item that arrives whole."""
        item = item_of(part, self._names, self._count, call_id)
        if item is not None:
            index = self._next_index()
            self._begin_whole(index, item)
            self._end_whole(index, item)

    def _begin_whole(self, index: int, item: JsonObject) -> None:
        begun = {name: None if name in _RESULTS else value for name, value in item.items()}
        if "status" in item:
            begun["status"] = "in_progress"
        self._put("response.output_item.added", {"output_index": index, "item": begun})
        for phase in _PHASES.get(as_text(item["type"]), ()):
            self._put(f"response.{item['type']}.{phase}", {"item_id": item["id"], "output_index": index})

    def _end_whole(self, index: int, item: JsonObject) -> None:
        if item["type"] in _PHASES and item.get("status", "completed") == "completed":
            self._put(f"response.{item['type']}.completed", {"item_id": item["id"], "output_index": index})
        self._item_done(index, item)

    # ------------------------------------------------------------------------------------------ hosted tools

    def _hosted_tool(self, part: HostedToolPart) -> None:
        known = self._hosted.complete(part)
        if known is not None:
            self._hosted_done(known)
            return
        self._left_out += transformations_of(part)
        item = self._hosted.begin(part)
        if item is None:
            return
        index = self._next_index()
        item["id"] = self._names.item(as_text(item["type"]), index)
        self._placed[as_text(item["id"])] = index
        self._begin_whole(index, item)
        if not self._hosted.waits(item):
            self._hosted_done(item)

    def _hosted_done(self, item: JsonObject) -> None:
        self._end_whole(self._placed.pop(as_text(item["id"])), item)


def _answer_of(ended: Ended) -> ChatResponse | None:
    if ended.response is not None:
        return ended.response.chat_response
    return None if ended.node is None else ended.node.response
