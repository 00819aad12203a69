"""``Events``: the log events of model calls, by OpenTelemetry's logs API."""

from collections.abc import Mapping

from opentelemetry._logs import LoggerProvider, LogRecord, SeverityNumber, get_logger

from dhenara_async.calls.telemetry import names
from dhenara_async.calls.telemetry.content import ContentShape
from dhenara_async.calls.telemetry.names import Names
from dhenara_async.calls.telemetry.spans import OpenSpan


class Events:
    """Writes log events.

    Args:
        provider: Writes them; None = the process's own.
        version: The names to use.
        scope: Name and version of this library.
    """

    def __init__(self, provider: LoggerProvider | None, version: Names, scope: tuple[str, str]) -> None:
        self._logger = get_logger(*scope, logger_provider=provider, schema_url=version.schema_url)
        self._exception = version.exception

    def fail(self, span: OpenSpan, exception_type: str) -> None:
        """Write that a call failed; the message of the error can hold content, so it is left out."""
        attributes = {**span.attributes, names.EXCEPTION_TYPE: exception_type}
        record = LogRecord(
            context=span.context,
            severity_number=SeverityNumber.WARN,
            severity_text="WARN",
            attributes=attributes,
            event_name=self._exception,
        )
        self._logger.emit(record)

    def tell(self, span: OpenSpan, content: Mapping[str, list[ContentShape]]) -> None:
        """Write prompts and answers."""
        record = LogRecord(
            context=span.context,
            severity_number=SeverityNumber.INFO,
            severity_text="INFO",
            attributes={**span.attributes, **content},
            event_name=names.DETAILS_EVENT,
        )
        self._logger.emit(record)
