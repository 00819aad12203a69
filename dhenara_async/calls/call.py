"""The records of one call: what is sent, how it is delivered, and what is known of it beside its events."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from dhenara_async.calls.retry import RetryBudget
from dhenara_async.calls.timing import SYSTEM, Timing
from dhenara_async.config import Timeouts
from dhenara_async.drivers.base import Driver
from dhenara_async.events import StreamEvent
from dhenara_async.formatter.conversion import ConversionReport
from dhenara_async.framing import Framing
from dhenara_async.framing.sse import SSE
from dhenara_async.hosts.auth import Auth
from dhenara_async.limits.limiter import Limiter
from dhenara_async.messages.messages import Origin
from dhenara_async.request import ChatRequest, HttpRequest
from dhenara_async.response import Attempt, CallWarning, Decision, Seam
from dhenara_async.transport import Transport
from dhenara_async.usage.prices import Pricing
from dhenara_async.usage.tokens import Usage

_SENT = HttpRequest("", {}, b"")


@dataclass(slots=True)
class Delivery:
    """How a call reaches its provider.

    Attributes:
        request: The addressed request, not signed.
        auth: Signs the request.
        timeouts: Time limits.
        transport: Sends the request.
        owns_transport: Whether the transport is closed with the stream.
        prepare: Downloads and encodes files of the request before each attempt; None = the request is complete.
        budget: The retries that all calls of a client may make together.
        limiter: Grants permission to send; None = requests are sent at once.
        framing: How a streamed response body is divided into messages.
        timing: Waits before another attempt, and limits how long the end of a response body is awaited.
        hints: Advice for a refusal, by its status.
    """

    request: HttpRequest
    auth: Auth
    timeouts: Timeouts
    transport: Transport
    owns_transport: bool
    prepare: Callable[[], Awaitable[HttpRequest]] | None = None
    budget: RetryBudget = field(default_factory=RetryBudget)
    limiter: Limiter | None = None
    framing: Framing = SSE
    timing: Timing = SYSTEM
    hints: Mapping[int, str] = field(default_factory=dict[int, str])


@dataclass(slots=True)
class Call:
    """A call before its first byte is sent.

    Attributes:
        request: The messages, instructions and config.
        driver: Encodes the request and decodes the response.
        origin: The endpoint that answers.
        source: The delivery to the provider, or the events of the answer themselves (``test_mode``).
        warnings: Settings that were ignored or changed.
        report: The report on the conversion of the history.
        pricing: How the call is priced.
        prefix: Hash of everything the model is shown, for endpoints that bind reasoning to it; None for all others.
        without_reasoning: Builds the same call over the same transport without the opaque reasoning of its history,
            for a provider that refused it; returns None where the history has none. Raises ``ConversionLossError``
            where the policy forbids to leave it out. None = there is no second call.
    """

    request: ChatRequest
    driver: Driver
    origin: Origin
    source: Delivery | tuple[StreamEvent, ...]
    warnings: tuple[CallWarning, ...]
    report: ConversionReport
    pricing: Pricing
    prefix: str | None = None
    without_reasoning: "Callable[[], Call | None] | None" = None

    def settle(self) -> None:
        """Drop everything that only another attempt needs: the content has started, and can take long."""
        self.without_reasoning = None
        if isinstance(self.source, Delivery):
            self.source.request, self.source.prepare = _SENT, None


@dataclass(slots=True)
class CallRecord:
    """What is known of a call beside its events.

    Attributes:
        origin: The endpoint that answers.
        request_id: The provider's id of the request; None if it sent none.
        tries: Every request so far, including the one in flight.
        warnings: Settings that were ignored or changed.
        report: The report on the conversion of the history.
        request: The messages, instructions and config that were sent.
        pricing: How the call is priced.
        prefix: Hash of everything the model is shown, for endpoints that bind reasoning to it; None for all others.
        usage: The newest token report, including one that no event has carried; None = none arrived.
        plan: The decisions of plans over endpoints, the outermost first.
        seams: Where one endpoint continued the answer of another.
    """

    origin: Origin
    request_id: str | None
    tries: tuple[Attempt, ...]
    warnings: tuple[CallWarning, ...]
    report: ConversionReport
    request: ChatRequest
    pricing: Pricing
    prefix: str | None
    usage: Usage | None
    plan: tuple[Decision, ...] = ()
    seams: tuple[Seam, ...] = ()
