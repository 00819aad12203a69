"""The attempts of one call: records each failed request, and decides whether and when the next one is sent."""

import logging

from dhenara_async.calls.call import Call, Delivery
from dhenara_async.calls.retry import delay
from dhenara_async.drivers.reasoning_refusals import refuses_reasoning
from dhenara_async.errors import APIError, ConversionLossError, DhenaraError, printable
from dhenara_async.response import Attempt
from dhenara_async.usage.prices import Pricing, list_price, loaded
from dhenara_async.usage.tokens import UNKNOWN, Usage

logger: logging.Logger = logging.getLogger("dhenara_async")


class Attempts:
    """The attempts of one call.

    Attributes:
        failed: The requests that failed, oldest first.
        waited: Seconds between the last failed request and the current one; 0.0 for a first request.
        running: Whether a request is in flight, or is the next step.
    """

    __slots__ = ("failed", "running", "waited")

    def __init__(self) -> None:
        self.failed: tuple[Attempt, ...] = ()
        self.waited: float = 0.0
        self.running: bool = True

    def all(self, call: Call, *, status: int | None, request_id: str | None) -> tuple[Attempt, ...]:
        """Return every attempt, including the current one.

        Args:
            call: The call of the current attempt.
            status: Its HTTP status; None while no response head has arrived.
            request_id: The provider's id of it; None if it sent none.
        """
        if not self.running:
            return self.failed
        return (*self.failed, _attempt(call, None, waited=self.waited, status=status, request_id=request_id))

    def fail(
        self, call: Call, exc: DhenaraError, *, status: int | None, request_id: str | None, usage: Usage | None
    ) -> None:
        """Record that the current attempt failed, and remove credentials from its error.

        Args:
            call: The call of the current attempt.
            exc: The error.
            status: The HTTP status; None while no response head has arrived.
            request_id: The provider's id of the request; None if it sent none.
            usage: The last token report; None = none arrived.
        """
        hide_secrets(call, exc)
        if isinstance(exc, APIError):
            status = exc.status
        attempt = _attempt(call, exc, waited=self.waited, status=status, request_id=request_id)
        self.failed = (*self.failed, priced(attempt, usage, call.pricing))
        self.running = False

    def start(self) -> None:
        """Start the next attempt."""
        self.running = True

    def wait_after(self, call: Call, exc: DhenaraError, *, remaining: float | None) -> float | None:
        """Return the seconds until the next attempt, counted in the retry budget; None if there is none.

        Args:
            call: The call that failed.
            exc: Its error.
            remaining: Seconds left of the call's time; None = unlimited.
        """
        source = call.source
        if not isinstance(source, Delivery):
            return None
        policy = call.request.config.retries
        wait = delay(policy, len(self.failed) + 1, exc, remaining=remaining, draw=source.timing.draw())
        if wait is None or not source.budget.spend():
            return None
        return wait


def call_without_reasoning(call: Call, refusal: APIError) -> Call | None:
    """Return the call without the opaque reasoning of its history if ``refusal`` is about that reasoning, else None.

    A history's reasoning is formatted so that its provider accepts it. Where a provider refuses it all the same, an
    answer without the reasoning is better than none. A strict policy forbids that; the error then says so.
    """
    make = call.without_reasoning
    if make is None or not refuses_reasoning(refusal):
        return None
    try:
        return make()
    except ConversionLossError:
        words = "; without the reasoning of the history it may be taken, but a strict policy forbids to try"
        refusal.args = (f"{refusal}{words}",)
        return None


def log_retry(call: Call, exc: DhenaraError, request_id: str | None, wait: float) -> None:
    """Log that a request failed and when the next one is sent."""
    logger.warning(
        "%s failed with %s (request %s); asking %s again in %.2f s",
        call.origin.provider,
        type(exc).__name__,
        request_id,
        printable(call.origin.model),
        wait,
    )


def log_retry_without_reasoning(call: Call, refusal: APIError) -> None:
    """Log that a provider refused the history's reasoning and is asked again without it."""
    logger.warning(
        "%s refused the reasoning of the history (%s, request %s); asking %s again without it",
        call.origin.provider,
        refusal.status,
        refusal.request_id,
        printable(call.origin.model),
    )


def priced(attempt: Attempt, usage: Usage | None, pricing: Pricing) -> Attempt:
    """Return ``attempt``, which produced no answer, with its estimated usage and cost.

    Args:
        attempt: The request.
        usage: Its last token report; None = none arrived.
        pricing: How its endpoint is priced; list prices are used only once they are loaded.
    """
    if usage is None:
        return attempt
    cost = None
    if pricing.rates is not None:
        cost = pricing.rates.price(usage)
    elif loaded():
        cost = list_price(usage, provider=attempt.endpoint.provider, models=[attempt.endpoint.model])
    return attempt.changed(usage=usage.changed(source="estimated"), cost=cost)


def hide_secrets(call: Call, exc: DhenaraError) -> None:
    """Remove the call's credentials from ``exc`` and its causes: some hosts quote the key that they refuse."""
    source = call.source
    if not isinstance(source, Delivery):
        return
    hide = source.auth.hide
    chain: list[BaseException] = [exc]
    seen: set[int] = set()
    while chain:  # causes are printed with the error, and may quote the host too
        current = chain.pop()
        seen.add(id(current))
        current.args = tuple(hide(value) if isinstance(value, str) else value for value in current.args)
        fields = vars(current)
        fields.update({name: hide(value) for name, value in fields.items() if isinstance(value, str)})
        causes = (current.__cause__, current.__context__)
        chain += [cause for cause in causes if cause is not None and id(cause) not in seen]


def _attempt(
    call: Call, exc: DhenaraError | None, *, waited: float, status: int | None, request_id: str | None
) -> Attempt:
    return Attempt.unchecked(
        endpoint=call.origin,
        error=None if exc is None else f"{type(exc).__name__}: {exc}",
        status=status,
        request_id=request_id,
        waited=waited,
        usage=UNKNOWN,
        cost=None,
    )
