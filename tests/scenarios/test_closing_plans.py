"""A plan's stream that another task closes while nobody has answered: it ends at once, and nobody else is asked."""

from collections.abc import Callable

import anyio
import pytest

from dhenara_async import AIModelClient, AIModelEndpoint, Experiment, Failover, Race, Router, Target
from dhenara_async.errors import DhenaraError, StreamStateError
from tests.loopback import PATIENCE, chat_endpoint
from tests.scenarios.test_cancellation import Phase, by_closing_elsewhere, cell, host

FOREVER = 3600.0
Plan = Callable[[AIModelEndpoint, AIModelEndpoint], Target]
"""Of who gets as far as the phase, and of who must never be asked, because nobody has failed."""


def whatever_happens(*targets: Target, mode: str = "restart") -> Failover:
    """Asks the next one after any error."""
    return Failover(targets, mode=mode, on=DhenaraError)  # pyright: ignore[reportArgumentType] - parametrized


PLANS: dict[str, Plan] = {
    "failover": lambda who, other: Failover([who, other]),
    "failover after anything": lambda who, other: whatever_happens(who, other),
    "failover that goes on": lambda who, other: whatever_happens(who, other, mode="continue"),
    "race": lambda who, _other: Race([who, who]),
    "hedged race": lambda who, other: Race([who, other], hedge_after=FOREVER),
    "hedged race of two": lambda who, _other: Race([who, who], hedge_after=0.001),
    "router": lambda who, other: Router(lambda _said, _config: "who", {"who": who, "other": other}),
    "experiment": lambda who, other: Experiment({"who": (who, 1.0), "other": (other, 0.0)}),
    "failover of races": lambda who, other: whatever_happens(Race([who, other], hedge_after=FOREVER), other),
    "race of failovers": lambda who, other: Race(
        [whatever_happens(who, other), whatever_happens(who, other), other], hedge_after=FOREVER
    ),
    "failover of a router of a race": lambda who, other: whatever_happens(
        Router(strengths={"anything": Race([who, who])}), other
    ),
}
PHASES: tuple[Phase, ...] = (
    "slot",
    "pool",
    "connecting",
    "headers",
    "error body",
    "first event",
    "mid-stream",
    "retry",
)


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())
@pytest.mark.parametrize("phase", PHASES)
async def test_closing_a_plan_from_another_task_ends_its_calls(phase: Phase, plan: Plan) -> None:
    with host() as other:
        async with cell(phase) as place:
            target = plan(place.endpoint, chat_endpoint(other.url))
            client = AIModelClient(target, place.config, transport=place.transport, shared=place.shared)
            stream = client.stream(place.asked)
            with anyio.fail_after(PATIENCE):
                await by_closing_elsewhere(stream, place)
            assert isinstance(stream.failure, StreamStateError)
            assert stream.partial.text() == ("One two" if phase == "mid-stream" else "")
            assert not place.shared.cooldowns.any  # nobody has failed
        assert not other.asked.is_set()
