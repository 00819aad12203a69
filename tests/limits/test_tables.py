"""Tables keyed by endpoints or by names from hosts hold a bounded number of entries."""

from collections.abc import Iterator

from dhenara_async import AIModel, AIModelAPI, AIModelClient, AIModelEndpoint, Limits, LocalLimiter
from dhenara_async.calls.health import MOST_ENDPOINTS, REMEMBERED, Cooldowns, Latencies
from dhenara_async.messages.messages import Origin
from dhenara_async.testing import ReplayTransport
from tests.loopback import chat_body

MANY = 2 * MOST_ENDPOINTS + 7


def origins(count: int) -> Iterator[Origin]:
    for number in range(count):
        yield Origin(provider="groq", dialect="openai_chat", endpoint="g.example", account=f"a{number}", model="m")


def test_cooldowns_are_kept_of_the_latest_endpoints() -> None:
    cooldowns = Cooldowns(lambda: 0.0)
    first, *others = origins(MANY)
    cooldowns.cool(first, 5)
    for number, other in enumerate(others):
        cooldowns.cool(other, 5)
        if number % 100 == 0:
            cooldowns.cool(first, 10 + number)  # fails again and again
    assert len(cooldowns._until) == MOST_ENDPOINTS  # pyright: ignore[reportPrivateUsage]
    assert cooldowns.cooling(first)
    assert not cooldowns.cooling(others[0])
    assert cooldowns.cooling(others[-1])


def test_latencies_are_kept_of_the_latest_endpoints() -> None:
    latencies = Latencies()
    first, *others = origins(MANY)
    for number, other in enumerate(others):
        latencies.learn(other, number)
        latencies.learn(first, number)
    assert len(latencies._seconds) == MOST_ENDPOINTS  # pyright: ignore[reportPrivateUsage]
    assert len(latencies.of(first)) == REMEMBERED
    assert (latencies.of(others[0]), latencies.of(others[-1])) == ((), (MANY - 2,))


async def test_a_limiter_removes_endpoints_that_are_not_in_use() -> None:
    limiter = LocalLimiter(Limits(requests_per_minute=5), clock=lambda: 0.0)
    first, *others = origins(25_000)
    held = await limiter.acquire(first, tokens=1)
    for other in others:  # each has a quota that resets tomorrow, so no lane is idle
        slot = await limiter.acquire(other, tokens=1)
        slot.refused(86_400)
        slot.release()
    lanes = limiter._lanes  # pyright: ignore[reportPrivateUsage]
    assert len(lanes) <= 10_001
    assert ("groq", "g.example", first.account, "m") in lanes  # its request is still under way
    held.release()


async def test_the_number_of_quotas_of_an_endpoint_is_bounded() -> None:
    limiter = LocalLimiter(Limits())
    (origin,) = origins(1)
    for number in range(300):
        slot = await limiter.acquire(origin, tokens=1)
        slot.note_headers({f"x-ratelimit-remaining-tokens-{number}-month": "500000"})
        slot.release()
    (lane,) = limiter._lanes.values()  # pyright: ignore[reportPrivateUsage]
    assert len(lane._quotas) == 64  # pyright: ignore[reportPrivateUsage]


async def test_a_client_caches_the_latest_endpoints_only() -> None:
    """A router's function may create an endpoint for every call."""

    def fresh(*_: object) -> AIModelEndpoint:
        api = AIModelAPI(provider="openai_compatible", api_key="k", base_url="http://h.example")
        return AIModelEndpoint(api=api, ai_model=AIModel(model_name="m"))

    client = AIModelClient(fresh(), transport=ReplayTransport(chat_body("Hi.")))
    kept: list[AIModelEndpoint] = [fresh() for _ in range(1500)]  # so that no two have the same id
    for endpoint in kept:
        client.model_endpoint = endpoint
        await client.generate("Hi.")
    assert 0 < len(client._preparers) <= 1000  # pyright: ignore[reportPrivateUsage]
