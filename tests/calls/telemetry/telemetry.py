"""An OpenTelemetry SDK in memory, and an observer that reports to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from dhenara_async import OpenTelemetryObserver
from dhenara_async.calls.telemetry.names import Version


@dataclass
class Telemetry:
    """What was exported.

    Attributes:
        tracers: Makes spans.
        meters: Makes metrics.
        loggers: Writes events.
    """

    _spans: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)
    _metrics: InMemoryMetricReader = field(default_factory=InMemoryMetricReader)
    _events: InMemoryLogRecordExporter = field(default_factory=InMemoryLogRecordExporter)
    tracers: TracerProvider = field(default_factory=lambda: TracerProvider(shutdown_on_exit=False))

    def __post_init__(self) -> None:
        self.tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        self.meters = MeterProvider([self._metrics], shutdown_on_exit=False)
        self.loggers = LoggerProvider(shutdown_on_exit=False)
        self.loggers.add_log_record_processor(SimpleLogRecordProcessor(self._events))

    def observer(
        self,
        *,
        capture_content: bool = False,
        names: Version = "0.1.0",
        propagate: bool = False,
        max_content_bytes: int = 750_000,
    ) -> OpenTelemetryObserver:
        """An observer that reports here."""
        return OpenTelemetryObserver(
            self.tracers,
            self.meters,
            capture_content,
            logger_provider=self.loggers,
            names=names,
            propagate=propagate,
            max_content_bytes=max_content_bytes,
        )

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        """The spans that have ended, in that order."""
        return self._spans.get_finished_spans()

    @property
    def events(self) -> Sequence[ReadableLogRecord]:
        """The log events."""
        return self._events.get_finished_logs()

    def span(self, name: str) -> ReadableSpan:
        """The only span whose name begins so."""
        (span,) = [span for span in self.spans if span.name.startswith(name)]
        return span

    def metrics(self) -> Mapping[str, Sequence[tuple[Mapping[str, object], float]]]:
        """The attributes and the sum of every point, by the name of the metric."""
        found: dict[str, list[tuple[Mapping[str, object], float]]] = {}
        data = self._metrics.get_metrics_data()
        for resource in () if data is None else data.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.data.data_points:
                        value = getattr(point, "value", None) or getattr(point, "sum", 0)
                        attributes = cast("Mapping[str, object]", point.attributes)
                        found.setdefault(metric.name, []).append((attributes, value))
        return found

    def exported(self) -> str:
        """Everything that was exported, as text."""
        data = self._metrics.get_metrics_data()
        spans = [span.to_json() for span in self.spans]
        events = [event.to_json() for event in self.events]
        return "\n".join([*spans, *events, "" if data is None else data.to_json()])


def parent_of(span: ReadableSpan) -> int | None:
    """The id of the span around it; None = there is none."""
    return None if span.parent is None else span.parent.span_id


def id_of(span: ReadableSpan) -> int:
    """The id of a span."""
    context = span.get_span_context()
    assert context is not None
    return context.span_id


def attributes_of(span: ReadableSpan) -> Mapping[str, object]:
    """The attributes of a span."""
    return cast("Mapping[str, object]", span.attributes or {})
