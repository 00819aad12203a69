"""AG-UI 1.0: the events of a run, for ``HttpAgent`` and CopilotKit.

A ``null`` in an optional field ends the run at the client, and the end of the body without ``RUN_FINISHED`` looks like
success: a cut answer sends ``RUN_ERROR``.

Source: https://docs.ag-ui.com/concepts/events (read 2026-11-28), and the client ``@ag-ui/client`` 1.0.0
"""

from collections.abc import Iterable, Mapping, Sequence

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
from dhenara_async.framing.lenient_json import dumps, text_of
from dhenara_async.messages.messages import FilePart, HostedToolPart, TextPart, ToolCallPart, ToolResultPart
from dhenara_async.web.frames.agui_snapshot import AGUISnapshot
from dhenara_async.web.frames.call_names import CallNames, KnownCalls
from dhenara_async.web.frames.event_json import text_json
from dhenara_async.web.frames.failures import Failure
from dhenara_async.web.frames.protocol import UNBUFFERED, Ended
from dhenara_async.web.frames.sse import COMMENT
from dhenara_async.web.frames.ui_metadata import hop_of, metadata_of, token_usage_of

AGUIMessage = Mapping[str, object]


class AGUIFrames:
    """One answer as the events of an AG-UI run. See ``Frames``.

    Only the first choice is written. The id of the first text's message is that of the answer's node. Words that a plan
    takes back are removed by a ``MESSAGES_SNAPSHOT`` if ``before`` is known, and otherwise stay as messages of their
    own; a ``CUSTOM`` event ``reset`` tells of it.

    Args:
        thread_id: The conversation.
        run_id: The run, by the name that the client gave it.
        message_id: The id of the answer: that of its node; None = ``run_id``.
        before: The messages before the answer, with its question; None = they are not known, and not sent.
        joins: Whether the client comes late: what is there already is sent as one ``MESSAGES_SNAPSHOT``.
        calls: The tool calls that the client has already; see ``calls_in``.
    """

    media_type: str = "text/event-stream"
    headers: Mapping[str, str] = UNBUFFERED
    comment: bytes = COMMENT

    def __init__(
        self,
        thread_id: str,
        run_id: str,
        message_id: str | None = None,
        *,
        before: Sequence[AGUIMessage] | None = None,
        joins: bool = False,
        calls: KnownCalls = (),
    ) -> None:
        self._run = {"threadId": thread_id, "runId": run_id}
        self._answer = message_id or run_id
        self._before = before
        self._joins = joins and before is not None
        self._out: list[bytes] = []
        self._written: list[bytes] = []  # frames of earlier calls of feed, to build a snapshot from; not without before
        self._taken_over = 0  # how many of _out are in _written
        self._step_at = 0  # how many of _written are older than the current step, which a reset takes back
        self._before_delta: dict[int, bytes] = {}  # the frame of a delta up to its text, by open part
        self._open: dict[int, tuple[str, str, str]] = {}  # kind, message or call id, tool's name, of each open part
        self._others: set[int] = set()  # parts of further choices
        self._round = 0
        self._steps = 0  # of a tool loop, behind the first one
        self._first_round = 0  # that of the first step; a reset begins another one
        self._has_text = self._has_reasoning = self._has_parts = self._started = False
        self._parent: str | None = None  # the message that tool calls belong to
        self._calls = CallNames(calls)
        self._undecided: dict[str, str] = {}  # hosted calls whose approval was not asked for: names by ids
        self._interrupts: list[Mapping[str, object]] = []

    def begin(self) -> bytes:
        """Return ``RUN_STARTED``."""
        return _frame({"type": "RUN_STARTED", **self._run, "protocolVersion": "1.0"})

    def feed(self, events: Sequence[StreamEvent], ids: Sequence[str] = ()) -> bytes:
        """See ``Frames``; the ids are left out, because the client knows none."""
        out = self._out = []
        self._taken_over = 0
        before = self._before_delta
        for event in events:
            if isinstance(event, TextDelta | ReasoningDelta | RefusalDelta):
                head = before.get(event.part_id)
                if head is not None and event.text:  # an empty delta ends the run
                    out.append(b"%b%b}\n\n" % (head, text_json(event.text)))
            elif isinstance(event, ToolCallDelta):
                head = before.get(event.part_id)
                if head is not None and event.arguments:
                    out.append(b"%b%b}\n\n" % (head, text_json(event.arguments)))
            else:
                self._feed_other(event)
        self._remember()
        if self._joins:
            self._joins = False
            return self._joined()
        return b"".join(out)

    def end(self, ended: Ended) -> bytes:
        """Return ``RUN_FINISHED`` with the tokens, behind ``CUSTOM`` events: the cost, and what a hop lost."""
        self._out = []
        self._close_parts()
        for name in self._undecided.values():  # without a tool loop nobody else asks
            self._ask_for(name)
        hop, metadata = hop_of(ended), metadata_of(ended)
        if hop is not None:
            self._custom("hop", hop)
        if metadata:
            self._custom("metadata", metadata)
        finished: dict[str, object] = {"type": "RUN_FINISHED", **self._run}
        if self._interrupts:
            finished["outcome"] = {"type": "interrupt", "interrupts": self._interrupts}
        else:
            finished["outcome"] = {"type": "success"}
        usage = token_usage_of(ended)
        if usage is not None:
            finished["usage"] = [usage]
        self._put(finished)
        return b"".join(self._out)

    def fail(self, failure: Failure) -> bytes:
        """Return the ends of open parts, then ``RUN_ERROR``, or ``RUN_FINISHED`` if somebody stopped the run."""
        self._out = []
        self._close_parts()
        if failure.cancelled:
            self._put({"type": "RUN_FINISHED", **self._run, "outcome": {"type": "cancelled"}})
        else:
            self._put({"type": "RUN_ERROR", "message": failure.message, "code": failure.code})
        return b"".join(self._out)

    def _put(self, event: Mapping[str, object]) -> None:
        self._out.append(_frame(event))

    def _custom(self, name: str, value: object) -> None:
        self._put({"type": "CUSTOM", "name": name, "value": value})

    def _remember(self) -> None:
        if self._before is not None:
            self._written += self._out[self._taken_over :]
            self._taken_over = len(self._out)

    def _snapshot(self, frames: Iterable[bytes]) -> bytes:
        shown = AGUISnapshot(self._before or ())
        for frame in frames:
            shown.add(frame)
        return _frame({"type": "MESSAGES_SNAPSHOT", "messages": shown.messages})

    def _joined(self) -> bytes:
        """Return what is there already as one snapshot, then the starts of open parts again: their deltas append."""
        told = [frame for frame in self._written if frame.startswith(_CUSTOM)]  # no message has files and sources
        self._out = [self._snapshot(self._written), *told]
        for kind, name, tool in self._open.values():
            self._put_start(kind, name, tool)
        return b"".join(self._out)

    def _feed_other(self, event: StreamEvent) -> None:
        match event:
            case PartStart():
                self._start_part(event)
            case PartEnd():
                self._end_part(event)
            case StreamStart():
                if self._started:
                    self._next_round()
                    self._steps += 1
                self._started = True
                self._has_parts = False
                self._remember()
                self._step_at = len(self._written)
            case StreamEnd():
                self._close_parts()
            case StreamReset():
                self._reset()
            case StreamSeam():
                self._close_parts()
            case ToolEnd():
                self._end_tool(event.result)
            case ToolApprovalRequest():
                self._undecided.pop(event.call.call_id, None)
                self._ask_for(self._calls.asked(event.call.call_id, event.call.name))
            case _:
                pass

    def _ask_for(self, name: str) -> None:
        self._interrupts.append({"id": name, "reason": "tool_approval", "toolCallId": name})

    def _next_round(self) -> None:
        """Part ids begin at 0 again, after a reset and in the next step of a tool loop."""
        self._close_parts()
        self._round += 1
        self._others.clear()
        self._undecided.clear()
        self._calls.next_answer()
        self._parent = None

    def _reset(self) -> None:
        """Take back the words of the current step; those of earlier steps of a tool loop stay."""
        self._next_round()
        if not self._has_parts:
            return
        self._has_parts = False
        self._custom("reset", {"reason": "the answer starts again"})
        if self._before is None:  # the words stay, so what follows gets ids of its own
            return
        if not self._steps:
            self._first_round = self._round
            self._has_text = self._has_reasoning = False
        del self._written[self._step_at :]
        self._out.append(self._snapshot(self._written))
        self._taken_over = len(self._out)

    # ------------------------------------------------------------------------------------------------ parts

    def _name_of(self, part_id: int) -> str:
        return f"{self._answer}-{self._round}-{part_id}"

    def _start_part(self, event: PartStart) -> None:
        if event.choice:
            self._others.add(event.part_id)
            return
        match event.kind:
            case "text" | "refusal":
                taken = self._has_text or self._round > self._first_round
                name = self._name_of(event.part_id) if taken else self._answer
                self._has_text = True
                self._parent = name
                self._open_part(event.part_id, "text", name)
            case "reasoning":
                taken = self._has_reasoning or self._round > self._first_round
                name = self._name_of(event.part_id) if taken else f"{self._answer}-reasoning"
                self._has_reasoning = True
                self._open_part(event.part_id, "reasoning", name)
            case "tool_call" if event.call_id and event.name:
                self._open_part(event.part_id, "tool", self._calls.new(event.call_id, event.name), event.name)
            case _:
                pass

    def _open_part(self, part_id: int, kind: str, name: str, tool: str = "") -> None:
        self._has_parts = True
        self._open[part_id] = kind, name, tool
        event, key = _DELTAS[kind]
        self._before_delta[part_id] = b'data: {"type":"%b","%b":%b,"delta":' % (event, key, dumps(name))
        self._put_start(kind, name, tool)

    def _put_start(self, kind: str, name: str, tool: str) -> None:
        match kind:
            case "text":
                self._put({"type": "TEXT_MESSAGE_START", "messageId": name, "role": "assistant"})
            case "reasoning":
                self._put({"type": "REASONING_START", "messageId": name})
                self._put({"type": "REASONING_MESSAGE_START", "messageId": name, "role": "reasoning"})
            case _:
                if self._parent is None:
                    self._parent = (
                        f"{self._answer}-{self._round}-calls" if self._round or self._has_text else self._answer
                    )
                    self._has_text = True  # a later text is another message
                parent = {"parentMessageId": self._parent}
                self._put({"type": "TOOL_CALL_START", "toolCallId": name, "toolCallName": tool, **parent})

    def _close_part(self, part_id: int) -> None:
        kind, name, _ = self._open.pop(part_id, ("", "", ""))
        self._before_delta.pop(part_id, None)
        if kind == "text":
            self._put({"type": "TEXT_MESSAGE_END", "messageId": name})
        elif kind == "reasoning":
            self._put({"type": "REASONING_MESSAGE_END", "messageId": name})
            self._put({"type": "REASONING_END", "messageId": name})
        elif kind:
            self._put({"type": "TOOL_CALL_END", "toolCallId": name})

    def _close_parts(self) -> None:
        for part_id in list(self._open):
            self._close_part(part_id)

    def _end_part(self, event: PartEnd) -> None:
        if event.part_id in self._others:
            return
        match event.part:
            case ToolCallPart() as call if event.part_id not in self._open:  # it came without an id
                self._whole_call(call.call_id, call.name or "tool", call.arguments)
            case HostedToolPart() as part:
                self._hosted_tool(part)
            case FilePart() as file:
                url = file.url if file.url is not None and not file.is_stored else None
                if file.data is not None:
                    url = f"data:{file.media_type};base64,{file.get_base64()}"
                if url is not None:
                    self._custom("file", {"url": url, "mimeType": file.media_type})
            case TextPart() as text:
                self._close_part(event.part_id)
                links = [citation for citation in text.citations if citation.url is not None]
                if links:
                    told = [{"url": link.url, **({"title": link.title} if link.title else {})} for link in links]
                    self._custom("sources", told)
            case _:
                self._close_part(event.part_id)

    def _whole_call(self, call_id: str | None, tool: str, arguments: str) -> str:
        name = self._calls.new(call_id, tool)
        self._has_parts = True
        self._put_start("tool", name, tool)
        if arguments:
            self._put({"type": "TOOL_CALL_ARGS", "toolCallId": name, "delta": arguments})
        self._put({"type": "TOOL_CALL_END", "toolCallId": name})
        return name

    def _end_tool(self, result: ToolResultPart) -> None:
        self._undecided.pop(result.call_id, None)
        self._put_result(self._calls.answered(result.call_id, result.name), result.get_text())

    def _put_result(self, name: str, content: str) -> None:
        told = {"messageId": f"{name}-result", "toolCallId": name, "content": content, "role": "tool"}
        self._put({"type": "TOOL_CALL_RESULT", **told})

    def _hosted_tool(self, part: HostedToolPart) -> None:
        if part.report or (part.input is None and part.output is None and part.tool is None):
            return
        asked = part.requested_call()
        if asked is not None:  # to the client it is a call like any other that needs an approval
            name = self._whole_call(asked.call_id, asked.name, asked.arguments)
            self._undecided[asked.call_id] = name
            return
        name = self._calls.last(part.call_id)
        if name is None:
            told = "" if part.input is None else text_of(part.input)
            name = self._whole_call(part.call_id, part.tool or part.name, told)
        if part.output is not None or part.call_id is None:
            self._put_result(name, "" if part.output is None else text_of(part.output))


_DELTAS: Mapping[str, tuple[bytes, bytes]] = {
    "text": (b"TEXT_MESSAGE_CONTENT", b"messageId"),
    "reasoning": (b"REASONING_MESSAGE_CONTENT", b"messageId"),
    "tool": (b"TOOL_CALL_ARGS", b"toolCallId"),
}


_CUSTOM = b'data: {"type":"CUSTOM"'


def _frame(event: Mapping[str, object]) -> bytes:
    return b"data: %b\n\n" % dumps(event)
