"""``Spans``: starts and ends spans, by OpenTelemetry's API. No span is current across a ``yield``.

A span that is kept current while a stream is handed out ends in another task than it began, which OpenTelemetry
reports as an error ("Failed to detach context"). So a span here has a context, which is attached only around one
``await`` of one method.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import (
    Span,
    SpanKind,
    Status,
    StatusCode,
    TracerProvider,
    get_tracer,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from dhenara_async.calls.records import TraceIds
from dhenara_async.calls.telemetry import names
from dhenara_async.calls.telemetry.attributes import Attributes, Value
from dhenara_async.calls.telemetry.names import Names

_KINDS = {"client": SpanKind.CLIENT, "internal": SpanKind.INTERNAL}
_PROPAGATOR = TraceContextTextMapPropagator()


@dataclass(slots=True)
class OpenSpan:
    """A span that has not ended.

    Attributes:
        span: The span.
        context: The context in which it is current.
        attributes: Its attributes for samplers and metrics.
    """

    span: Span
    context: Context
    attributes: Attributes

    @property
    def recording(self) -> bool:
        """Whether attributes are worth building."""
        return self.span.is_recording()

    @property
    def ids(self) -> TraceIds | None:
        """Where it is found; None without an SDK."""
        place = self.span.get_span_context()
        return TraceIds(f"{place.trace_id:032x}", f"{place.span_id:016x}") if place.is_valid else None

    def end(self, attributes: Mapping[str, Value], error_type: str | None, ended_at: int | None = None) -> None:
        """End it.

        Args:
            attributes: The attributes that became known since its start.
            error_type: The class of the error; None = it did not fail, and its status stays unset.
            ended_at: Nanoseconds since the epoch; None = now.
        """
        if self.span.is_recording():
            self.span.set_attributes(attributes)
            if error_type is not None:
                self.span.set_attribute(names.ERROR_TYPE, error_type)
                self.span.set_status(Status(StatusCode.ERROR))
        self.span.end(ended_at)

    def current(self) -> AbstractContextManager[None] | None:
        """Return a context in which it is current; None without an SDK."""
        return _Current(self.context) if self.span.get_span_context().is_valid else None

    def headers(self) -> dict[str, str]:
        """Return the headers of W3C's trace context."""
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier, self.context)
        return carrier


class Spans:
    """Starts spans.

    Args:
        provider: Makes spans; None = the process's own.
        version: The names to use.
        scope: Name and version of this library.
    """

    def __init__(self, provider: TracerProvider | None, version: Names, scope: tuple[str, str]) -> None:
        self._tracer = get_tracer(*scope, tracer_provider=provider, schema_url=version.schema_url)

    def start(
        self,
        name: str,
        kind: Literal["client", "internal"],
        attributes: Attributes,
        *,
        more: Mapping[str, Value] | None = None,
        parent: OpenSpan | None = None,
    ) -> OpenSpan:
        """Start a span.

        Args:
            name: Its name.
            kind: Its kind.
            attributes: Its attributes for metrics.
            more: Further attributes.
            parent: The span around it; None = the current one.
        """
        context = None if parent is None else parent.context
        span = self._tracer.start_span(
            name, context, _KINDS[kind], {**attributes, **(more or {})}, record_exception=False
        )
        return OpenSpan(span, set_span_in_context(span, context), attributes)


class _Current(AbstractContextManager[None]):
    """Makes a span current, for one task, between two points of one method."""

    __slots__ = ("_context", "_token")

    def __init__(self, context: Context) -> None:
        self._context = context

    def __enter__(self) -> None:
        self._token = attach(self._context)

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        detach(self._token)
