"""``OpenTelemetryObserver``: spans, metrics and events of calls, tool loops and tool calls, for OpenTelemetry.

One endpoint that is asked is one CLIENT span, its retries included: from the start of the call to its last byte, its
error, or the moment in which it is left. A plan over several endpoints is an INTERNAL span around one CLIENT span for
each. A tool loop is an ``invoke_agent`` span around its calls and its ``execute_tool`` spans.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from time import time_ns
from typing import TYPE_CHECKING

from dhenara_async.calls.observer import Observer
from dhenara_async.calls.records import (
    AttemptEnded,
    AttemptStarted,
    CallEnded,
    CallStarted,
    EndpointEnded,
    EndpointStarted,
    FanOutEnded,
    FanOutStarted,
    LoopEnded,
    LoopStarted,
    ToolEnded,
    ToolStarted,
    TraceIds,
)
from dhenara_async.calls.telemetry import names
from dhenara_async.calls.telemetry.attributes import (
    Attributes,
    error_type,
    exception_type,
    is_vendors,
    place_attributes,
    provider_name,
    request_attributes,
    response_attributes,
    span_name,
    target_attributes,
)
from dhenara_async.calls.telemetry.capture import capture
from dhenara_async.calls.telemetry.content import (
    MOST_BYTES,
    ByteBudget,
    ContentShape,
    answered,
    requested,
    result_text,
    texts,
)
from dhenara_async.calls.telemetry.names import NAMES, Version
from dhenara_async.errors import ConfigurationError, MissingExtraError, StreamStateError, printable
from dhenara_async.messages.messages import Origin
from dhenara_async.response import ChatResponse

if TYPE_CHECKING:  # annotations only: the API of OpenTelemetry is loaded by the first observer
    from opentelemetry._logs import LoggerProvider
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from dhenara_async.calls.telemetry.spans import OpenSpan


class OpenTelemetryObserver(Observer):
    """Reports calls to OpenTelemetry, by the GenAI conventions. Needs the extra ``otel``, which is its API alone.

    Without an SDK that the program sets up, nothing is recorded and next to nothing is paid. Prompts, answers, tool
    arguments and results are written only if asked for; error messages, which can quote them, and keys are never
    written. A call that its reader leaves, or whose task is cancelled, is no error: ``dhenara.outcome`` says ``left``,
    ``cancelled``, or ``lost`` for the slower members of a race. Nothing is recorded per token.

    ``error.type`` is the class of the error (``dhenara_async.errors``, or what a tool raised), the HTTP status of
    a refusal that has no class of its own, or ``tool_error`` for a tool that told of an error without raising one.

    Args:
        tracer_provider: Makes spans; None = the one set up for the process.
        meter_provider: Makes metrics; None = likewise.
        capture_content: Whether prompts and answers are written to spans. The environment variable
            ``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`` (``NO_CONTENT``, ``SPAN_ONLY``, ``EVENT_ONLY``,
            ``SPAN_AND_EVENT``) has the last word.
        logger_provider: Writes the events of failures and, if asked for, of content; None = likewise.
        names: The version of the conventions: ``0.1.0``, or ``1.41`` for backends that read the names before it.
        propagate: Whether requests carry the trace (W3C ``traceparent``), so that a gateway of your own continues it.
            Only hosts with a base URL of your own get it, never a vendor's.
        max_content_bytes: The most bytes of text of each attribute of content.

    Raises:
        MissingExtraError: The extra ``otel`` is not installed.
        ConfigurationError: ``names`` is no version.
    """

    def __init__(
        self,
        tracer_provider: "TracerProvider | None" = None,
        meter_provider: "MeterProvider | None" = None,
        capture_content: bool = False,
        *,
        logger_provider: "LoggerProvider | None" = None,
        names: Version = "0.1.0",
        propagate: bool = False,
        max_content_bytes: int = MOST_BYTES,
    ) -> None:
        try:
            from dhenara_async.calls.telemetry.events import Events
            from dhenara_async.calls.telemetry.metrics import Metrics
            from dhenara_async.calls.telemetry.spans import Spans
        except ImportError as exc:
            raise MissingExtraError("OpenTelemetryObserver", extra="otel") from exc
        wanted = NAMES.get(names)
        if wanted is None:
            raise ConfigurationError(f"names is one of {', '.join(NAMES)}, the versions of the conventions")
        scope = _scope()
        self._version = wanted
        self._spans = Spans(tracer_provider, wanted, scope)
        self._metrics = Metrics(meter_provider, wanted, scope)
        self._events = Events(logger_provider, wanted, scope)
        self._capture = capture(capture_content)
        self.wants_content: bool = self._capture.spans or self._capture.events
        self.adds_headers: bool = propagate
        self._max_content_bytes = max_content_bytes
        self._calls: dict[str, _TracedCall] = {}
        self._loops: dict[str, _TracedLoop] = {}
        self._fan_outs: dict[str, OpenSpan] = {}

    # ------------------------------------------------------------------------------------------------ calls

    def call_started(self, record: CallStarted) -> None:
        """See ``Observer``."""
        loop = None if record.parent is None else self._loops.get(record.parent)
        parent = None if loop is None else loop.span
        if record.plan is None:
            span = self._start_client(record, record.endpoint, parent)
        else:
            more: Attributes = {names.PLAN: record.plan, **place_attributes(record)}
            span = self._spans.start(record.plan, "internal", {}, more=more, parent=parent)
        self._calls[record.call_id] = _TracedCall(record, span)

    def endpoint_started(self, record: EndpointStarted) -> None:
        """See ``Observer``."""
        call = self._calls[record.call_id]
        planned = call.started.plan is not None
        span = self._start_client(call.started, record.endpoint, call.span) if planned else call.span
        call.endpoints[record.number] = _TracedEndpoint(record, span)
        if span.recording:
            span.span.set_attributes(request_attributes(record))

    def attempt_ended(self, record: AttemptEnded) -> None:
        """See ``Observer``."""
        asked = self._calls[record.call_id].endpoints[record.asked]
        left = isinstance(record.error, StreamStateError)  # by its reader, or as the loser of a race: no failure
        if record.error is None or left or not asked.span.recording:
            return
        attributes: Attributes = {names.ATTEMPT: record.number, names.ERROR_TYPE: error_type(record.error)}
        if record.status is not None:
            attributes[names.STATUS_CODE] = record.status
        if record.request_id is not None:
            attributes[names.REQUEST_ID] = printable(record.request_id)
        asked.span.span.add_event(names.ATTEMPT, attributes)

    def endpoint_ended(self, record: EndpointEnded) -> None:
        """See ``Observer``."""
        call = self._calls[record.call_id]
        asked = call.endpoints[record.number]
        asked.ended, asked.ended_at = record, time_ns()
        if call.started.plan is None:
            return  # its span is that of the call
        if record.outcome == "complete":
            call.answering = asked
            if self.wants_content:
                return  # the answer comes with the end of the call
        self._finish(call, asked, record.outcome, record.error, record.seconds, None)

    def call_ended(self, record: CallEnded) -> None:
        """See ``Observer``."""
        call = self._calls.pop(record.call_id)
        if call.started.plan is None:
            asked = call.endpoints.get(1) or _TracedEndpoint(None, call.span)
            self._finish(call, asked, record.outcome, record.error, record.seconds, record.answer)
            return
        for asked in call.endpoints.values():
            if asked.open and asked.ended is not None:
                self._finish(call, asked, "complete", None, asked.ended.seconds, record.answer)
        failed = error_type(record.error) if record.outcome == "failed" else None
        call.span.end(_outcome(record.outcome), failed)

    def around_request(self, record: AttemptStarted) -> AbstractContextManager[object] | None:
        """See ``Observer``: the span is current while the request is sent, so that HTTP spans are inside it."""
        return self._calls[record.call_id].endpoints[record.asked].span.current()

    def request_headers(self, record: AttemptStarted) -> Mapping[str, str]:
        """See ``Observer``."""
        if is_vendors(record.endpoint):
            return {}
        return self._calls[record.call_id].endpoints[record.asked].span.headers()

    def trace_ids(self, call_id: str) -> TraceIds | None:
        """See ``Observer``: the span of the endpoint that answered, else that of the whole call."""
        call = self._calls.get(call_id)
        if call is None:
            return None
        return (call.span if call.answering is None else call.answering.span).ids

    def _start_client(self, call: CallStarted, endpoint: Origin, parent: "OpenSpan | None") -> "OpenSpan":
        more = place_attributes(call)
        if call.stream:
            more[names.REQUEST_STREAM] = True
        return self._spans.start(span_name(endpoint), "client", target_attributes(endpoint), more=more, parent=parent)

    def _finish(
        self,
        call: "_TracedCall",
        asked: "_TracedEndpoint",
        outcome: str,
        error: BaseException | None,
        seconds: float,
        answer: ChatResponse | None,
    ) -> None:
        """End the span of an endpoint, and record its metrics."""
        asked.open = False
        span, ended = asked.span, asked.ended
        failed = error_type(error) if outcome == "failed" else None
        stream = call.started.stream
        if ended is not None and ended.model is not None:
            span.attributes = {**span.attributes, names.RESPONSE_MODEL: printable(ended.model)}
        attributes = _outcome(outcome)
        try:  # a log exporter that raises costs neither the span nor the metrics
            if failed is not None:
                self._events.fail(span, exception_type(error))
            if ended is not None and span.recording:
                attributes |= response_attributes(ended, call.started.config, self._version, stream=stream)
            if self.wants_content and asked.started is not None:
                attributes |= self._content(asked.started, span, answer)
        finally:
            span.end(attributes, failed, asked.ended_at)
            self._metrics.record_call(
                span.attributes,
                seconds=seconds,
                first_chunk=ended.first_content if ended is not None and stream else None,
                usage=None if ended is None else ended.usage,
                error_type=failed,
            )

    def _content(self, started: EndpointStarted, span: "OpenSpan", answer: ChatResponse | None) -> Attributes:
        """Write prompts and answers to an event, if asked for, and return them as attributes, if asked for."""
        shapes: dict[str, list[ContentShape]] = {}
        cut = False
        if started.content is not None:
            shapes, cut = requested(started.content, self._budget)
        if answer is not None:
            budget = self._budget()
            shapes[names.OUTPUT_MESSAGES] = answered(answer, budget)
            cut = cut or budget.cut
        if self._capture.events:
            self._events.tell(span, shapes)
        attributes: Attributes = {names.TRUNCATED: True} if cut else {}
        return attributes | texts(shapes) if self._capture.spans and span.recording else attributes

    def _budget(self) -> ByteBudget:
        return ByteBudget(self._max_content_bytes)

    # ------------------------------------------------------------------------------------------------ fan-outs

    def fan_out_started(self, record: FanOutStarted) -> None:
        """See ``Observer``."""
        more: Attributes = {names.PLAN: names.FAN_OUT}
        if record.calls is not None:
            more[names.CALLS] = record.calls
        self._fan_outs[record.fan_out_id] = self._spans.start(names.FAN_OUT, "internal", {}, more=more)

    def around_fan_out(self, record: FanOutStarted) -> AbstractContextManager[object] | None:
        """See ``Observer``: the span is current in the tasks of the calls, so that theirs are inside it."""
        return self._fan_outs[record.fan_out_id].current()

    def fan_out_ended(self, record: FanOutEnded) -> None:
        """See ``Observer``."""
        failed = error_type(record.error) if record.outcome == "failed" else None
        counts: Attributes = {names.CALLS: record.complete + record.failed, names.CALLS_FAILED: record.failed}
        self._fan_outs.pop(record.fan_out_id).end({**counts, **_outcome(record.outcome)}, failed)

    # ------------------------------------------------------------------------------------------------ tool loops

    def loop_started(self, record: LoopStarted) -> None:
        """See ``Observer``."""
        attributes: Attributes = {names.OPERATION: names.INVOKE_AGENT}
        more: Attributes = {
            names.PROVIDER: provider_name(record.endpoint),
            names.REQUEST_MODEL: printable(record.endpoint.model),
            names.LOOP: record.loop_id,
        }
        if record.conversation is not None:
            more[names.CONVERSATION] = record.conversation
        self._loops[record.loop_id] = _TracedLoop(
            self._spans.start(names.INVOKE_AGENT, "internal", attributes, more=more), {}
        )

    def tool_started(self, record: ToolStarted) -> None:
        """See ``Observer``."""
        loop = self._loops[record.loop_id]
        attributes: Attributes = {
            names.OPERATION: names.EXECUTE_TOOL,
            names.TOOL_NAME: printable(record.name),
            names.TOOL_TYPE: names.FUNCTION,
        }
        more: Attributes = {names.TOOL_CALL_ID: printable(record.tool_call_id)}
        if record.arguments is not None and self._capture.spans:
            budget = self._budget()
            more[names.TOOL_ARGUMENTS] = budget.text(record.arguments)
            if budget.cut:
                more[names.TRUNCATED] = True
        name = f"{names.EXECUTE_TOOL} {printable(record.name)}"
        loop.tools[record.number] = self._spans.start(name, "internal", attributes, more=more, parent=loop.span)

    def around_tool(self, record: ToolStarted) -> AbstractContextManager[object] | None:
        """See ``Observer``: the span is current while the tool runs, so that the tool's own spans are inside it."""
        return self._loops[record.loop_id].tools[record.number].current()

    def tool_ended(self, record: ToolEnded) -> None:
        """See ``Observer``."""
        span = self._loops[record.loop_id].tools.pop(record.number)
        failed = None
        if record.outcome == "failed":
            failed = names.TOOL_ERROR if record.error is None else error_type(record.error)
        attributes = _outcome(record.outcome)
        if record.result is not None and self._capture.spans:
            budget = self._budget()
            attributes[names.TOOL_RESULT] = result_text(record.result, budget)
            if budget.cut:
                attributes[names.TRUNCATED] = True
        span.end(attributes, failed)
        self._metrics.record_tool(span.attributes, seconds=record.seconds, error_type=failed)

    def loop_ended(self, record: LoopEnded) -> None:
        """See ``Observer``."""
        loop = self._loops.pop(record.loop_id)
        for span in loop.tools.values():  # none, if the loop keeps its promise
            span.end({}, None)
        failed = error_type(record.error) if record.outcome == "failed" else None
        loop.span.end(_outcome(record.outcome), failed)
        self._metrics.record_loop(
            loop.span.attributes,
            seconds=record.seconds,
            steps=record.steps,
            tool_calls=record.tool_calls,
            error_type=failed,
        )


@dataclass(slots=True)
class _TracedEndpoint:
    """An endpoint that is being asked.

    Attributes:
        started: The record of its start; None = it was never asked.
        span: Its span; that of the call if there is no plan.
        ended: The record of its end; None until it ended.
        ended_at: Nanoseconds of its end since the epoch; None until it ended.
        open: Whether its span has not ended.
    """

    started: EndpointStarted | None
    span: "OpenSpan"
    ended: EndpointEnded | None = None
    ended_at: int | None = None
    open: bool = True


@dataclass(slots=True)
class _TracedCall:
    """A call that has not ended.

    Attributes:
        started: The record of its start.
        span: Its span: of the endpoint, or of the plan.
        endpoints: The endpoints that were asked, by their numbers.
        answering: The endpoint of a plan that has answered; None = none yet.
    """

    started: CallStarted
    span: "OpenSpan"
    endpoints: dict[int, _TracedEndpoint] = field(default_factory=dict[int, _TracedEndpoint])
    answering: _TracedEndpoint | None = None


@dataclass(slots=True)
class _TracedLoop:
    """A tool loop that has not ended.

    Attributes:
        span: Its span.
        tools: The spans of tool calls that have not ended, by their numbers.
    """

    span: "OpenSpan"
    tools: "dict[int, OpenSpan]"


def _scope() -> tuple[str, str]:
    """Return the name and version of this library, by which backends tell instrumentations apart."""
    try:
        return "dhenara_async", version("dhenara-async")
    except PackageNotFoundError:  # run from a folder
        return "dhenara_async", ""


def _outcome(outcome: str) -> Attributes:
    """Return our own attribute for what is neither complete nor failed."""
    return {} if outcome in ("complete", "failed") else {names.OUTCOME: outcome}
