"""``SharedResources``: what the calls of a client or manager share beside their connections."""

from dataclasses import dataclass, field

from dhenara_async.calls.health import Cooldowns, Latencies
from dhenara_async.calls.observer import Observer
from dhenara_async.calls.retry import RetryBudget
from dhenara_async.calls.timing import SYSTEM, Timing
from dhenara_async.frozen import ShortRepr
from dhenara_async.limits.limiter import Limiter
from dhenara_async.tools.sessions import ToolSessions


@dataclass(frozen=True, slots=True, repr=False)
class SharedResources(ShortRepr):
    """Limits, health and observers that several calls share.

    Attributes:
        retries: The retries that all calls may make together.
        limiter: Grants permission to send; None = requests are sent at once.
        cooldowns: Endpoints that failed recently, which plans ask last.
        latencies: Recent times to first content of each endpoint.
        observers: Receive a record when a call or an attempt starts and ends.
        timing: The clock, the sleep, the random numbers and the drain time of calls.
        tools: The open servers of tools; None = each client, or each call, opens its own.
    """

    retries: RetryBudget = field(default_factory=RetryBudget)
    limiter: Limiter | None = None
    cooldowns: Cooldowns = field(default_factory=Cooldowns)
    latencies: Latencies = field(default_factory=Latencies)
    observers: tuple[Observer, ...] = ()
    timing: Timing = SYSTEM
    tools: ToolSessions | None = None
