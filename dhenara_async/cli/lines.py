"""Writes JSON lines to stdout, and describes answers in them."""

import sys
from collections.abc import Mapping
from decimal import Decimal

import orjson

from dhenara_async.cli.screen import spoken
from dhenara_async.errors import ConfigurationError, StructuredOutputError
from dhenara_async.fanout.values import Outcome
from dhenara_async.response import AIModelCallResponse


def write_line(line: Mapping[str, object]) -> None:
    """Write one JSON object as a line."""
    # Bypass the text layer: JSON is UTF-8, whatever the encoding of the terminal is.
    sys.stdout.buffer.write(orjson.dumps(line, default=str) + b"\n")
    sys.stdout.buffer.flush()


def outcome_line(
    outcome: Outcome, *, model: str, provider: str, structured: bool, priced: bool
) -> Mapping[str, object]:
    """Describe the result of one call.

    Args:
        outcome: The result.
        model: The id of the model that was asked.
        provider: Its provider.
        structured: Whether a schema was asked for; the parsed answer is then ``object``.
        priced: Whether the answer has a cost; a stand-in's has none.

    Returns:
        The same keys for every result; None where the call has no such value.
    """
    response = outcome.response or outcome.partial
    answer = None if response is None else response.chat_response
    error: Exception | None = outcome.error
    parsed: object = None
    if structured and outcome.response is not None:
        try:
            parsed = outcome.response.structured()
        except StructuredOutputError as exc:
            error = exc
    return {
        "model": model,
        "provider": provider,
        "text": None if answer is None else answer.text(),
        "object": parsed,
        "refusal": None if answer is None else answer.refusal() or None,
        "finish_reason": None if answer is None else answer.finish_reason.value,
        "usage": None if answer is None else answer.usage.model_dump(mode="json"),
        "cost": None if response is None or not priced else cost_of(response),
        "seconds": None if response is None else round(response.latency.total, 3),
        "warnings": [] if response is None else [warning.message for warning in response.warnings],
        "error": None if error is None else {"type": type(error).__name__, "message": spoken(error)},
    }


def cost_of(response: AIModelCallResponse) -> Decimal | None:
    """Return the cost of an answer; None if it is unknown or the price list is not installed."""
    try:
        return response.cost()
    except ConfigurationError:
        return None
