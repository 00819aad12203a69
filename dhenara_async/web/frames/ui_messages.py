"""The AI SDK's UI message stream: what ``useChat`` reads, versions 6 and 7.

Version 6 ends the stream at a chunk that it does not know, and both versions at a ``null`` in an optional field, at a
delta without its start and at a tool's output without its input. The end of the body without ``finish`` looks like
success, so a cut answer sends ``error``.

Source: https://ai-sdk.dev/docs/ai-sdk-ui/stream-protocol (read 2026-11-28), and the clients ``ai`` 6.0 and 7.0
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal

from dhenara_async.errors import ToolArgumentsError
from dhenara_async.events import (
    PartEnd,
    PartStart,
    ReasoningDelta,
    RefusalDelta,
    StreamEnd,
    StreamEvent,
    StreamReset,
    StreamSeam,
    StreamStart,
    TextDelta,
    ToolApprovalRequest,
    ToolCallDelta,
    ToolEnd,
)
from dhenara_async.framing.lenient_json import dumps
from dhenara_async.messages.messages import FilePart, HostedToolPart, TextPart, ToolCallPart, ToolResultPart
from dhenara_async.response import FinishReason
from dhenara_async.web.frames.call_names import CallNames, KnownCalls
from dhenara_async.web.frames.event_json import text_json
from dhenara_async.web.frames.failures import Failure
from dhenara_async.web.frames.protocol import UNBUFFERED, Ended
from dhenara_async.web.frames.sse import COMMENT
from dhenara_async.web.frames.ui_metadata import hop_of, metadata_of, output_of
from dhenara_async.web.frames.ui_sources import UISources

UIStreamVersion = Literal[6, 7]
"""The major version of the page's ``ai`` package; a request does not tell it."""

FileURL = Callable[[FilePart], "str | None"]
"""Returns the URL that a page can load a generated file from; None = a ``data:`` URL of its bytes."""

HEADERS: Mapping[str, str] = {**UNBUFFERED, "x-vercel-ai-ui-message-stream": "v1"}
DONE = b"data: [DONE]\n\n"

CALL_CUT = "the arguments of this call are not complete"
"""The words that a page shows at a call that was cut."""

_FINISH: Mapping[FinishReason, str] = {
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.CONTEXT_WINDOW: "length",
    FinishReason.TOOL_CALLS: "tool-calls",
    FinishReason.CONTENT_FILTER: "content-filter",
    FinishReason.REFUSAL: "content-filter",
    FinishReason.PAUSE: "other",
    FinishReason.ERROR: "error",
    FinishReason.OTHER: "other",
}


class UIMessageFrames:
    """One answer as a UI message stream. See ``Frames``.

    Only the first choice is written. Words that a plan takes back are marked by a ``data-reset`` for version 6, and
    taken back by ``reset-step`` in version 7.

    Args:
        message_id: The id of the answer's message: that of its node; None = the page invents one.
        sdk: The major version of the page's ``ai`` package.
        known_tools: Names of the tools that the page declares; all others are ``dynamic``.
        file_url: The URLs of generated files; None = ``data:`` URLs.
        calls: The tool calls that the message has already, where one goes on.

    Raises:
        ValueError: ``sdk`` is neither 6 nor 7.
    """

    media_type: str = "text/event-stream"
    headers: Mapping[str, str] = HEADERS
    comment: bytes = COMMENT

    def __init__(
        self,
        message_id: str | None = None,
        *,
        sdk: UIStreamVersion = 6,
        known_tools: Collection[str] = (),
        file_url: FileURL | None = None,
        calls: KnownCalls = (),
    ) -> None:
        if sdk not in (6, 7):
            raise ValueError(f"sdk is the major version of the page's ai package, 6 or 7, not {sdk!r}")
        self._message_id = message_id
        self._sdk = sdk
        self._known_tools = frozenset(known_tools)
        self._file_url = file_url
        self._out: list[bytes] = []
        self._before_delta: dict[int, bytes] = {}  # the frame of a delta up to its text, by open part
        self._open: dict[int, tuple[str, str, str]] = {}  # kind, id, tool's name, of each open part
        self._others: set[int] = set()  # parts of further choices
        self._round = 0  # part ids begin at 0 again after a reset and in the next step
        self._has_parts = self._in_step = False
        self._calls = CallNames(calls)
        self._undecided: dict[str, str] = {}  # hosted calls whose approval the page was not asked for: names by ids
        self._sources = UISources()
        self._finish_reason = "other"

    def begin(self) -> bytes:
        """Return ``start``."""
        start = {"type": "start"}
        if self._message_id is not None:
            start["messageId"] = self._message_id
        return _chunk(start)

    def feed(self, events: Sequence[StreamEvent], ids: Sequence[str] = ()) -> bytes:
        """See ``Frames``; the ids are left out, because ``useChat`` resumes from the beginning."""
        out = self._out = []
        before = self._before_delta
        for event in events:
            if isinstance(event, TextDelta | ReasoningDelta | RefusalDelta):
                head = before.get(event.part_id)
                if head is not None:
                    out.append(b"%b%b}\n\n" % (head, text_json(event.text)))
            elif isinstance(event, ToolCallDelta):
                head = before.get(event.part_id)
                if head is not None:
                    out.append(b"%b%b}\n\n" % (head, text_json(event.arguments)))
            else:
                self._feed_other(event)
        return b"".join(out)

    def end(self, ended: Ended) -> bytes:
        """Return ``finish``, with the model, the tokens and the cost, and what a change of model lost."""
        self._out = []
        self._close_parts()
        for name in self._undecided.values():  # without a tool loop nobody else asks
            self._ask_for(name)
        hop = hop_of(ended)
        if hop is not None:
            self._put({"type": "data-hop", "data": hop})
        self._close_step()
        finish: dict[str, object] = {"type": "finish", "finishReason": self._finish_reason}
        metadata = metadata_of(ended)
        if metadata:
            finish["messageMetadata"] = metadata
        self._put(finish)
        return b"".join(self._out) + DONE

    def fail(self, failure: Failure) -> bytes:
        """Return the ends of open parts, then ``error``, or ``abort`` if somebody stopped the answer."""
        self._out = []
        self._close_parts(failure.message)
        if failure.cancelled:
            self._put({"type": "abort", "reason": failure.message})
        else:
            self._put({"type": "error", "errorText": failure.message})
        return b"".join(self._out) + DONE

    def _put(self, chunk: Mapping[str, object]) -> None:
        self._out.append(_chunk(chunk))

    def _feed_other(self, event: StreamEvent) -> None:
        match event:
            case PartStart():
                self._start_part(event)
            case PartEnd():
                self._end_part(event)
            case StreamStart():
                self._start_step()
            case StreamEnd():
                self._finish_reason = _FINISH[event.finish_reason]
            case StreamReset():
                self._reset(event)
            case StreamSeam():
                self._seam(event)
            case ToolEnd():
                self._end_tool(event.result)
            case ToolApprovalRequest():
                call_id = event.call.call_id
                self._undecided.pop(call_id, None)
                self._ask_for(self._calls.asked(call_id, event.call.name))
            case _:  # usage comes with the end; heartbeats are comments
                pass

    # ------------------------------------------------------------------------------------------------ steps

    def _start_step(self) -> None:
        if self._in_step:
            self._close_parts()
            self._close_step()
            self._next_round()
        self._in_step = True
        self._has_parts = False
        self._sources.next_step()
        self._put({"type": "start-step"})

    def _ask_for(self, name: str) -> None:
        self._put({"type": "tool-approval-request", "approvalId": name, "toolCallId": name})

    def _close_step(self) -> None:
        if self._in_step:
            self._in_step = False
            self._put({"type": "finish-step"})

    def _next_round(self) -> None:
        self._round += 1
        self._others.clear()
        self._undecided.clear()
        self._calls.next_answer()

    def _reset(self, event: StreamReset) -> None:
        self._close_parts()
        if not self._in_step:
            self._in_step = True
            self._put({"type": "start-step"})
        if self._has_parts and self._sdk == 7:
            self._sources.take_back()
            self._put({"type": "reset-step"})
        elif self._has_parts:
            self._put({"type": "data-reset", "data": {"reason": "the answer starts again"}})
        self._has_parts = False
        self._next_round()

    def _seam(self, event: StreamSeam) -> None:
        self._close_parts()
        seam = {"provider": event.start.provider, "model": event.start.model}
        self._put({"type": "data-seam", "data": {key: value for key, value in seam.items() if value is not None}})

    # ------------------------------------------------------------------------------------------------ parts

    def _name_of(self, part_id: int) -> str:
        return f"p{self._round}-{part_id}" if self._round else f"p{part_id}"

    def _start_part(self, event: PartStart) -> None:
        if event.choice:
            self._others.add(event.part_id)
            return
        match event.kind:
            case "text" | "refusal":
                self._open_part(event.part_id, "text")
            case "reasoning":
                self._open_part(event.part_id, "reasoning")
            case "tool_call" if event.call_id and event.name:
                self._open_call(event.part_id, event.call_id, event.name)
            case _:  # files, the provider's own tools, and calls without an id come whole at their end
                pass

    def _open_part(self, part_id: int, kind: str) -> str:
        name = self._name_of(part_id)
        self._has_parts = True
        self._open[part_id] = kind, name, ""
        self._before_delta[part_id] = b'data: {"type":"%b-delta","id":"%b","delta":' % (kind.encode(), name.encode())
        self._put({"type": f"{kind}-start", "id": name})
        return name

    def _open_call(self, part_id: int, call_id: str, tool: str) -> str:
        name = self._new_call(call_id, tool)
        self._open[part_id] = "tool", name, tool
        head = b'data: {"type":"tool-input-delta","toolCallId":%b,"inputTextDelta":'
        self._before_delta[part_id] = head % dumps(name)
        self._put({"type": "tool-input-start", "toolCallId": name, "toolName": tool, **self._kind_of(tool)})
        return name

    def _new_call(self, call_id: str | None, tool: str) -> str:
        self._has_parts = True
        return self._calls.new(call_id, tool)

    def _kind_of(self, tool: str) -> dict[str, object]:
        return {} if tool in self._known_tools else {"dynamic": True}

    def _end_part(self, event: PartEnd) -> None:
        if event.part_id in self._others:
            return
        part = event.part
        match part:
            case ToolCallPart():
                self._end_call(event.part_id, part)
            case HostedToolPart():
                self._hosted_tool(event.part_id, part)
            case FilePart():
                self._file(part)
            case _:
                self._close_part(event.part_id)
                if isinstance(part, TextPart):
                    for source in self._sources.new(part.citations):
                        self._put(source)

    def _close_part(self, part_id: int, why: str = CALL_CUT) -> None:
        kind, name, tool = self._open.pop(part_id, ("", "", ""))
        self._before_delta.pop(part_id, None)
        if kind == "tool":  # without its end a page shows it as one whose arguments are still coming
            told: dict[str, object] = {"toolName": tool, "input": {}, "errorText": why, **self._kind_of(tool)}
            self._put({"type": "tool-input-error", "toolCallId": name, **told})
        elif kind:
            self._put({"type": f"{kind}-end", "id": name})

    def _close_parts(self, why: str = CALL_CUT) -> None:
        for part_id in list(self._open):
            self._close_part(part_id, why)

    def _end_call(self, part_id: int, call: ToolCallPart) -> None:
        tool = call.name or "tool"
        _, name, _ = self._open.pop(part_id, ("", "", ""))
        self._before_delta.pop(part_id, None)
        if not name:
            name = self._open_call(part_id, call.call_id, tool)
            self._open.pop(part_id)
            self._before_delta.pop(part_id)
        head: dict[str, object] = {"toolCallId": name, "toolName": tool, **self._kind_of(tool)}
        try:
            self._put({"type": "tool-input-available", **head, "input": call.parsed()})
        except ToolArgumentsError:
            words = "the arguments of this call are not JSON"
            self._put({"type": "tool-input-error", **head, "input": call.arguments, "errorText": words})

    def _end_tool(self, result: ToolResultPart) -> None:
        name = self._calls.answered(result.call_id, result.name)
        self._undecided.pop(result.call_id, None)
        head = {"toolCallId": name, **self._kind_of(result.name)}
        if result.denied:
            if self._calls.made(name):  # the page was not asked; its part still needs an approval
                self._ask_for(name)
                if self._sdk > 6:
                    told = {"approved": False, "reason": result.get_text()}
                    self._put({"type": "tool-approval-response", "approvalId": name, **told})
            self._put({"type": "tool-output-denied", "toolCallId": name})
        elif result.is_error:
            self._put({"type": "tool-output-error", **head, "errorText": result.get_text()})
        else:
            self._put({"type": "tool-output-available", **head, "output": output_of(result)})

    def _hosted_tool(self, part_id: int, part: HostedToolPart) -> None:
        """A tool that the provider ran: its call and its result are one part or two."""
        if part.report or (part.input is None and part.output is None and part.tool is None):
            return
        asked = part.requested_call()
        if asked is not None:  # to the page it is a call like any other that needs an approval
            self._end_call(part_id, asked)
            self._undecided[asked.call_id] = self._calls.last(asked.call_id) or asked.call_id
            return
        name = self._calls.last(part.call_id)
        tail = {"providerExecuted": True, "dynamic": True}
        if name is None:
            name = self._new_call(part.call_id, part.tool or part.name)
            told = {} if part.input is None else part.input
            head = {"toolCallId": name, "toolName": part.tool or part.name}
            self._put({"type": "tool-input-available", **head, "input": told, **tail})
        if part.output is not None or part.call_id is None:
            told = {} if part.output is None else part.output
            self._put({"type": "tool-output-available", "toolCallId": name, "output": told, **tail})

    def _file(self, part: FilePart) -> None:
        url = None if self._file_url is None else self._file_url(part)
        if url is None and part.data is not None:
            url = f"data:{part.media_type};base64,{part.get_base64()}"
        elif url is None and part.url is not None and not part.is_stored:
            url = part.url
        if url is not None:
            self._has_parts = True
            self._put({"type": "file", "url": url, "mediaType": part.media_type})


def _chunk(chunk: Mapping[str, object]) -> bytes:
    return b"data: %b\n\n" % dumps(chunk)
