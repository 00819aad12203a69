"""The metrics of model calls, tool loops and tool calls, by OpenTelemetry's API."""

from collections.abc import Mapping, Sequence

from opentelemetry.metrics import Histogram, MeterProvider, get_meter

from dhenara_async.calls.telemetry import names
from dhenara_async.calls.telemetry.attributes import Attributes, Value
from dhenara_async.calls.telemetry.names import Names
from dhenara_async.usage.tokens import Usage


class Metrics:
    """Records metrics; each instrument is made once.

    Tokens are counted as the provider told them, for failed calls too; what it did not tell is not recorded.

    Args:
        provider: Makes the instruments; None = the process's own.
        version: The names to use.
        scope: Name and version of this library.
    """

    def __init__(self, provider: MeterProvider | None, version: Names, scope: tuple[str, str]) -> None:
        meter = get_meter(*scope, meter_provider=provider, schema_url=version.schema_url)

        def histogram(name: str, unit: str, description: str, buckets: Sequence[float]) -> Histogram:
            return meter.create_histogram(name, unit, description, explicit_bucket_boundaries_advisory=buckets)

        self._duration = histogram(
            version.duration, "s", "Duration of a model call, retries included.", names.SECONDS_BUCKETS
        )
        self._first_chunk = histogram(
            version.first_chunk, "s", "Time to the first content of a streamed answer.", names.SECONDS_BUCKETS
        )
        self._counters = [
            (counter, meter.create_counter(counter.name, "{token}", "Tokens, as the provider told them."))
            for counter in version.counters
        ]
        self._distributions = [
            (
                fields,
                histogram(name, "{token}", "Tokens of a model call.", names.TOKEN_BUCKETS),
            )
            for name, fields in _distributions(version).items()
        ]
        self._agent_duration = histogram(
            names.AGENT_DURATION, "s", "Duration of a tool loop.", names.AGENT_SECONDS_BUCKETS
        )
        self._inference_calls = histogram(
            names.INFERENCE_CALLS, "{inference_call}", "Model calls of a tool loop.", names.COUNT_BUCKETS
        )
        self._tool_calls = histogram(names.TOOL_CALLS, "{tool_call}", "Tool calls of a tool loop.", names.COUNT_BUCKETS)
        self._tool_duration = histogram(names.TOOL_DURATION, "s", "Duration of a tool call.", names.SECONDS_BUCKETS)

    def record_call(
        self,
        attributes: Attributes,
        *,
        seconds: float,
        first_chunk: float | None,
        usage: Usage | None,
        error_type: str | None,
    ) -> None:
        """Record a model call of one endpoint.

        Args:
            attributes: The endpoint, and the model that answered if it is known.
            seconds: Its duration.
            first_chunk: Seconds until the first content of a streamed answer; None = there was none, or no stream.
            usage: Its last token report; None = none arrived.
            error_type: The class of its error; None = it did not fail.
        """
        self._duration.record(seconds, _with_error(attributes, error_type))
        if first_chunk is not None:
            self._first_chunk.record(first_chunk, attributes)
        if usage is None:
            return
        for counter, instrument in self._counters:
            tokens: int | None = getattr(usage, counter.field)
            if tokens is None:
                continue
            audio: int | None = None if counter.audio is None else getattr(usage, counter.audio)
            if audio:
                instrument.add(audio, {**attributes, names.TOKEN_MODALITY: names.AUDIO_MODALITY})
            instrument.add(tokens - (audio or 0), {**attributes, names.TOKEN_MODALITY: names.UNKNOWN_MODALITY})
        for fields, histogram in self._distributions:
            for field, more in fields.items():
                tokens = getattr(usage, field)
                if tokens is not None:
                    histogram.record(tokens, {**attributes, **more})

    def record_loop(
        self, attributes: Attributes, *, seconds: float, steps: int, tool_calls: int, error_type: str | None
    ) -> None:
        """Record a tool loop."""
        self._agent_duration.record(seconds, _with_error(attributes, error_type))
        self._inference_calls.record(steps, attributes)
        self._tool_calls.record(tool_calls, attributes)

    def record_tool(self, attributes: Attributes, *, seconds: float, error_type: str | None) -> None:
        """Record a tool call."""
        self._tool_duration.record(seconds, _with_error(attributes, error_type))


def _distributions(version: Names) -> dict[str, dict[str, Mapping[str, str]]]:
    """Return the histograms of tokens by name: the fields of ``Usage`` of each, and their further attributes."""
    if version.token_usage is not None:
        types = {"input_tokens": {names.TOKEN_TYPE: "input"}, "output_tokens": {names.TOKEN_TYPE: "output"}}
        return {version.token_usage: {**types}}
    both = ((version.input_distribution, "input_tokens"), (version.output_distribution, "output_tokens"))
    return {name: {field: {}} for name, field in both if name is not None}


def _with_error(attributes: Mapping[str, Value], error_type: str | None) -> Attributes:
    return {**attributes} if error_type is None else {**attributes, names.ERROR_TYPE: error_type}
