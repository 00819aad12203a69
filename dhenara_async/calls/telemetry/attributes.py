"""The attributes of spans and metrics, from the records of observers. Pure; holds no prompt, no answer and no key."""

from collections.abc import Sequence
from functools import cache, lru_cache
from urllib.parse import urlsplit

from dhenara_async.calls.records import CallStarted, EndpointEnded, EndpointStarted
from dhenara_async.calls.telemetry import names
from dhenara_async.calls.telemetry.names import Names
from dhenara_async.config import AIModelCallConfig
from dhenara_async.endpoint import Dialect
from dhenara_async.errors import APIError, printable
from dhenara_async.hosts.table import HOSTS
from dhenara_async.messages.messages import Origin
from dhenara_async.response import FinishReason
from dhenara_async.usage.tokens import Usage

Value = str | bool | int | float | Sequence[str]
Attributes = dict[str, Value]

_CLOUDS = ("amazonaws.com", "azure.com", "azure.us", "googleapis.com", "together.xyz")


def operation(endpoint: Origin) -> str:
    """Return the name of the operation that an endpoint is asked for."""
    return names.GENERATE_CONTENT if endpoint.dialect == Dialect.GEMINI else names.CHAT


def span_name(endpoint: Origin) -> str:
    """Return the name of the span of a call of ``endpoint``."""
    return f"{operation(endpoint)} {printable(endpoint.model)}"


def target_attributes(endpoint: Origin) -> Attributes:
    """Return what samplers and metrics need to know of an endpoint."""
    attributes: Attributes = {
        names.OPERATION: operation(endpoint),
        names.PROVIDER: provider_name(endpoint),
        names.REQUEST_MODEL: printable(endpoint.model),
    }
    host, port = _server(endpoint.endpoint)
    if host:
        attributes[names.SERVER_ADDRESS] = host
        attributes[names.SERVER_PORT] = port
    return attributes


def place_attributes(call: CallStarted) -> Attributes:
    """Return where a call stands: in which conversation and turn."""
    attributes: Attributes = {}
    if call.conversation is not None:
        attributes[names.CONVERSATION] = call.conversation
    if call.node is not None:
        attributes[names.TURN] = call.node
    return attributes


def request_attributes(record: EndpointStarted) -> Attributes:
    """Return the options that were sent as they stand in the config, and whether the history was cut."""
    config = record.config
    changed = {warning.knob for warning in record.warnings}
    attributes: Attributes = {}
    for knob, name in _OPTIONS:
        value: Value | None = getattr(config, knob)
        if value is not None and value != () and knob not in changed:
            attributes[name] = value
    if config.n is not None and config.n != 1 and "n" not in changed:
        attributes[names.REQUEST_CHOICES] = config.n
    if config.structured_output is not None and "structured_output" not in changed:
        attributes[names.OUTPUT_TYPE] = names.JSON
    if record.compacted:
        attributes[names.COMPACTED] = True
    return attributes


_OPTIONS = (
    ("max_output_tokens", names.REQUEST_MAX_TOKENS),
    ("temperature", names.REQUEST_TEMPERATURE),
    ("top_p", names.REQUEST_TOP_P),
    ("top_k", names.REQUEST_TOP_K),
    ("seed", names.REQUEST_SEED),
    ("stop", names.REQUEST_STOP),
    ("reasoning_effort", names.REQUEST_REASONING),
)


def response_attributes(
    record: EndpointEnded, config: AIModelCallConfig, version: Names, *, stream: bool
) -> Attributes:
    """Return what is known of an endpoint's answer; what is not known is left out.

    Args:
        record: The end of the endpoint's answer.
        config: Options of the call.
        version: The names to use.
        stream: Whether the provider was asked to stream.
    """
    attributes: Attributes = {names.RESPONSE_FINISH_REASONS: finish_reasons(record.finish_reasons, config.n or 1)}
    if record.model is not None:
        attributes[names.RESPONSE_MODEL] = printable(record.model)
    if record.response_id is not None:
        attributes[names.RESPONSE_ID] = printable(record.response_id)
    if stream and record.first_content is not None:
        attributes[names.RESPONSE_FIRST_CHUNK] = record.first_content
    if record.request_id is not None:
        attributes[names.REQUEST_ID] = printable(record.request_id)
    if record.attempts > 1:
        attributes[names.ATTEMPTS] = record.attempts
    return attributes | usage_attributes(record.usage, version)


def usage_attributes(usage: Usage | None, version: Names) -> Attributes:
    """Return the known token counts."""
    if usage is None:
        return {}
    counts = {
        names.INPUT_TOKENS: usage.input_tokens,
        names.OUTPUT_TOKENS: usage.output_tokens,
        names.CACHE_READ_TOKENS: usage.cache_read_tokens,
        version.cache_write_tokens: usage.cache_write_tokens,
        names.REASONING_TOKENS: usage.reasoning_tokens,
    }
    return {name: count for name, count in counts.items() if count is not None}


def finish_reasons(reasons: Sequence[FinishReason], expected: int) -> list[str]:
    """Return a word for every choice; ``error`` for each that was expected and did not end."""
    words = [names.FINISH_REASONS.get(reason, str(reason)) for reason in reasons]
    return words + [names.ERROR_FINISH] * (expected - len(words))


def error_type(error: BaseException | None) -> str:
    """Return the class of an error, or the HTTP status where the class says no more than that a provider refused.

    Its message may hold content, so it is never told.
    """
    if type(error) is APIError:
        return str(error.status)
    return exception_type(error)


def exception_type(error: BaseException | None) -> str:
    """Return the class of an error."""
    return names.OTHER_ERROR if error is None else type(error).__name__


def provider_name(endpoint: Origin) -> str:
    """Return the conventions' name of an endpoint's provider."""
    return names.PROVIDERS.get(endpoint.provider, endpoint.provider)


def is_vendors(endpoint: Origin) -> bool:
    """Whether an endpoint is a vendor's host rather than an address of the user's own."""
    host, _ = _server(endpoint.endpoint)
    return any(host == domain or host.endswith(f".{domain}") for domain in _vendors())


@cache
def _vendors() -> Sequence[str]:
    """Return the domains of all known hosts, local ones not included."""
    known = [_server(urlsplit(row.base_url).netloc)[0] for row in HOSTS.values() if row.base_url is not None]
    return [".".join(host.split(".")[-2:]) for host in known if "." in host] + [*_CLOUDS]


@lru_cache(1000)
def _server(endpoint: str) -> tuple[str, int]:
    """Return the address and port of an origin's host."""
    try:
        parts = urlsplit(endpoint if "//" in endpoint else f"//{endpoint}")
        port = parts.port
    except ValueError:
        return endpoint, 443
    return parts.hostname or "", port or (80 if parts.scheme == "http" else 443)
