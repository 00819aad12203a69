"""What the calls of a client, or of all clients of a manager, have in common beside their connections."""

from dataclasses import dataclass, field

from dhenara_async.calls.health import Cooldowns, Latencies
from dhenara_async.calls.retry import RetryBudget
from dhenara_async.limits.limiter import Limiter


@dataclass(frozen=True, slots=True)
class SharedResources:
    """Shared by calls that should know of each other.

    Attributes:
        retries: What they may spend on further tries.
        limiter: Says when each may be sent; None = at once.
        cooldowns: Which endpoints failed of late, so that plans ask others first.
        latencies: How long endpoints took to say something, of late.
    """

    retries: RetryBudget = field(default_factory=RetryBudget)
    limiter: Limiter | None = None
    cooldowns: Cooldowns = field(default_factory=Cooldowns)
    latencies: Latencies = field(default_factory=Latencies)
