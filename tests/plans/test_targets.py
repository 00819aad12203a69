"""Plans as data: their validation, choices, assignments and estimates."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Decimal

import pytest

from dhenara_async import (
    AIModel,
    AIModelAPI,
    AIModelAPIProviderEnum,
    AIModelCallConfig,
    AIModelEndpoint,
    Decision,
    Experiment,
    Failover,
    FilePart,
    Message,
    Origin,
    Race,
    Role,
    Router,
    Seam,
    Target,
    TextPart,
)
from dhenara_async.calls.health import REMEMBERED, Cooldowns, Latencies
from dhenara_async.errors import (
    ConfigurationError,
    ContextLengthError,
    DeadlineError,
    DhenaraError,
    InvalidRequestError,
    NotFoundError,
    RateLimitError,
    ReadError,
    StreamStateError,
    TruncatedStreamError,
    UnsupportedError,
)
from dhenara_async.plans.targets import (
    RoutingContext,
    assigned,
    decided,
    endpoints,
    expected,
    first_endpoint,
    label,
    percentile,
)
from tests.virtual_time import Clock


def endpoint(model: str) -> AIModelEndpoint:
    return AIModelEndpoint(
        api=AIModelAPI(provider=AIModelAPIProviderEnum.GROQ, api_key="a-key"), ai_model=AIModel(model_name=model)
    )


A, B, C = map(endpoint, "abc")
PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


def context(
    *said: Message,
    config: AIModelCallConfig | None = None,
    conversation: str | None = None,
    node: str | None = None,
) -> RoutingContext:
    return RoutingContext(lambda: said, config or AIModelCallConfig(), "call-1", conversation, node)


# ---------------------------------------------------------------------------------------------------------- experiments

WEIGHTS = [{"a": 1.0, "b": 1.0}, {"a": 0.9, "b": 0.1}, {"a": 5.0, "b": 3.0, "c": 2.0}, {"a": 0.0, "b": 1.0, "c": 1.0}]


@pytest.mark.parametrize("weights", WEIGHTS)
def test_variants_are_assigned_in_proportion_to_their_weights(weights: dict[str, float]) -> None:
    came = Counter(assigned("greeting", f"user-{number}", weights) for number in range(100_000))
    for variant, weight in weights.items():
        assert abs(came[variant] / 100_000 - weight / sum(weights.values())) < 0.01, variant


def test_the_order_of_variants_does_not_change_a_units_variant() -> None:
    one, other = Experiment({"a": A, "b": (B, 1.0)}, name="x"), Experiment({"b": B, "a": A}, name="x")
    units = [f"unit-{number}" for number in range(2_000)]
    assert [one.variant(unit) for unit in units] == [other.variant(unit) for unit in units]


def test_experiments_with_different_names_assign_units_independently() -> None:
    both = Counter(
        (assigned("one", f"u{number}", {"a": 1, "b": 1}), assigned("two", f"u{number}", {"a": 1, "b": 1}))
        for number in range(100_000)
    )
    assert all(abs(count / 100_000 - 0.25) < 0.01 for count in both.values())
    assert len(both) == 4


def test_a_higher_weight_only_moves_units_from_other_variants() -> None:
    units = [f"unit-{number}" for number in range(10_000)]
    before = {unit: assigned("x", unit, {"a": 0.8, "b": 0.2}) for unit in units}
    after = {unit: assigned("x", unit, {"a": 0.6, "b": 0.4}) for unit in units}
    assert {(before[unit], after[unit]) for unit in units} == {("a", "a"), ("a", "b"), ("b", "b")}


def test_another_process_with_another_hash_seed_assigns_the_same_variants() -> None:
    program = (
        "from dhenara_async.plans.targets import assigned\n"
        "print(''.join(assigned('x', f'ü-{n}', {'a': 2, 'b': 1, 'c': 1}) for n in range(3000)))"
    )
    here = "".join(assigned("x", f"ü-{number}", {"a": 2, "b": 1, "c": 1}) for number in range(3000))
    for seed in ("1", "77"):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == here


@pytest.mark.parametrize(
    ("sticky_by", "given", "unit", "reason"),
    [
        ("conversation", ("c", "n", "u"), "c", "by conversation"),
        ("user", ("c", "n", "u"), "u", "by user"),
        ("node", ("c", "n", "u"), "n", "by node"),
        ("conversation", (None, None, "u"), "u", "by user, because it has no conversation"),
        ("user", ("c", "n", None), "c", "by conversation, because it has no user"),
        ("node", (None, None, None), "call-1", "by the call alone, because it has no node"),
    ],
)
def test_an_experiment_uses_the_configured_unit_or_its_fallback(
    sticky_by: str, given: tuple[str | None, str | None, str | None], unit: str, reason: str
) -> None:
    conversation, node, user = given
    plan = Experiment({"a": A, "b": (B, 3)}, sticky_by=sticky_by, name="x")  # pyright: ignore[reportArgumentType] - parametrized
    now = context(config=AIModelCallConfig(user_id=user), conversation=conversation, node=node)
    target, decision = decided(plan, now)
    assert decision == Decision(
        kind="experiment", name="x", choice=plan.variant(unit), reason=reason, unit=unit, weights={"a": 1, "b": 3}
    )
    assert target is plan.target(decision.choice)
    assert Decision.model_validate_json(decision.model_dump_json()) == decision


def test_a_function_returns_the_unit_of_an_experiment() -> None:
    def team(_said: Sequence[Message], config: AIModelCallConfig) -> str:
        return config.metadata["team"]

    _target, decision = decided(
        Experiment({"a": A, "b": B}, sticky_by=team), context(config=AIModelCallConfig(metadata={"team": "red"}))
    )
    assert (decision.unit, decision.reason) == ("red", "by a function")


# ------------------------------------------------------------------------------------------------------------ estimates

TAKES: dict[str, tuple[int, Decimal | None]] = {"a": (10, Decimal(1)), "b": (30, Decimal(3)), "c": (20, None)}


def takes(who: AIModelEndpoint) -> tuple[int, Decimal | None]:
    if who.ai_model.model_name not in TAKES:
        raise UnsupportedError(f"{who.ai_model.model_name} cannot be asked")
    return TAKES[who.ai_model.model_name]


NOBODY = endpoint("nobody")


@pytest.mark.parametrize(
    ("plan", "tokens", "money"),
    [
        (A, 10, 1),
        (C, 20, None),
        (Failover([A, B, C]), 30, 3),
        (Failover([C, C]), 20, None),
        (Failover([NOBODY, A]), 10, 1),
        (Race([A, B, C]), 60, 4),
        (Race([C, C], hedge_after=5), 40, None),
        (Race([NOBODY, A]), 10, 1),
        (Race([Failover([A, B]), Failover([A, C])]), 50, 4),
        (Failover([Race([A, A, A]), B]), 30, 3),
        (Failover([Failover([NOBODY, NOBODY]), A]), 10, 1),
        (Router(lambda _said, _config: "b", {"a": A, "b": B}), 30, 3),
        (Router(strengths={"images": B, "anything": Race([A, C])}), 30, 1),
        (Experiment({"a": (A, 1.0), "b": (B, 0.0)}), 10, 1),
    ],
)
def test_the_estimate_of_a_plan_combines_its_targets(plan: Target, tokens: int, money: int | None) -> None:
    assert expected(plan, context(), takes) == (tokens, None if money is None else Decimal(money))


@pytest.mark.parametrize("plan", [NOBODY, Failover([NOBODY, endpoint("nobody else")]), Race([NOBODY])])
def test_the_first_error_is_raised_if_no_target_can_be_estimated(plan: Target) -> None:
    with pytest.raises(UnsupportedError, match=r"^nobody cannot"):
        expected(plan, context(), takes)


# -------------------------------------------------------------------------------------------------------------- routers


def test_a_function_routes_by_name_or_by_target() -> None:
    def choose(said: Sequence[Message], _config: AIModelCallConfig) -> str | Target:
        return "long" if len(said) > 1 else C

    plan = Router(choose, {"long": B})
    hi = Message.user("Hi.")
    assert decided(plan, context(hi)) == (C, Decision(kind="router", choice="groq:c"))
    assert decided(plan, context(hi, hi)) == (B, Decision(kind="router", choice="long"))
    with pytest.raises(ConfigurationError, match="chose 'short', but its targets are long"):
        decided(Router(lambda _said, _config: "short", {"long": B}), context(hi))


@pytest.mark.parametrize(
    ("parts", "config", "strength"),
    [
        ((), AIModelCallConfig(), "anything"),
        ((FilePart(media_type="image/png", data=PNG),), AIModelCallConfig(), "images"),
        ((FilePart(media_type="text/plain", data=b"words"),), AIModelCallConfig(), "files"),
        ((), AIModelCallConfig(structured_output={"type": "object"}), "structured"),
        ((), AIModelCallConfig(reasoning=True), "reasoning"),
        ((), AIModelCallConfig(reasoning_effort="none"), "anything"),
    ],
)
def test_strengths_route_by_the_capabilities_that_a_call_needs(
    parts: tuple[FilePart, ...], config: AIModelCallConfig, strength: str
) -> None:
    names = ("images", "files", "structured", "reasoning", "anything")
    plan = Router(strengths={name: endpoint(name) for name in names})
    said = Message(role=Role.USER, parts=(*parts, TextPart(text="Hi.")))
    target, decision = decided(plan, context(said, config=config))
    assert (target, decision.reason) == (endpoint(strength), f"for {strength}")


def test_a_call_without_a_matching_strength_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'anything'"):
        decided(Router(strengths={"images": A}), context(Message.user("Hi.")))


# ----------------------------------------------------------------------------------------------------------- validation


def wrong(make: Callable[[], object]) -> Callable[[], object]:
    return make


@pytest.mark.parametrize(
    "make",
    [
        wrong(lambda: Failover([])),
        wrong(lambda: Failover([A], mode="again")),  # pyright: ignore[reportArgumentType] - the tested error
        wrong(lambda: Failover([A, "b"])),  # pyright: ignore[reportArgumentType] - the tested error
        wrong(lambda: Failover([A], cooldown=-1)),
        wrong(lambda: Failover([A], continuation=" ")),
        wrong(lambda: Race([])),
        wrong(lambda: Race([A], hedge_after=-0.1)),
        wrong(lambda: Race([A], hedge_after=float("inf"))),
        wrong(lambda: Race([A], hedge_after="95")),
        wrong(lambda: Race([A], hedge_after="p0")),
        wrong(lambda: Race([A], hedge_after="p100")),
        wrong(lambda: Router()),
        wrong(lambda: Router(lambda _said, _config: A, strengths={"anything": A})),
        wrong(lambda: Router(strengths={"poetry": A})),
        wrong(lambda: Router(targets={"a": A}, strengths={"anything": A})),
        wrong(lambda: Experiment({})),
        wrong(lambda: Experiment({"a": (A, 0)})),
        wrong(lambda: Experiment({"a": (A, -1), "b": B})),
        wrong(lambda: Experiment({"a": A}, sticky_by="weather")),  # pyright: ignore[reportArgumentType] - the tested error
        wrong(lambda: Experiment({"a": "b"})),  # pyright: ignore[reportArgumentType] - the tested error
    ],
)
def test_an_invalid_plan_is_refused_by_its_constructor(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigurationError):
        make()


def test_plans_nest_and_keep_their_arguments() -> None:
    members: list[Target] = [A, Experiment({"x": Race([B, C]), "y": Router(strengths={"anything": A})})]
    plan = Failover(members)
    members.clear()
    assert list(endpoints(plan)) == [A, B, C, A]
    assert label(plan) == "Failover(groq:a, Experiment(x, y))"
    assert first_endpoint(plan, context()) is A
    assert first_endpoint(Experiment({"x": Race([B, C])}), context(conversation="c")) is B
    assert "a-key" not in repr(plan)


def failed(kind: type[RateLimitError | NotFoundError | InvalidRequestError], status: int) -> DhenaraError:
    return kind("no", provider="groq", status=status)


@pytest.mark.parametrize(
    ("error", "counts"),
    [
        (ReadError("cut"), True),
        (TruncatedStreamError("cut"), True),
        (DeadlineError(limit="first_byte", seconds=1), True),
        (DeadlineError(limit="total", seconds=1), False),
        (failed(RateLimitError, 429), True),
        (failed(NotFoundError, 404), True),
        (failed(InvalidRequestError, 400), False),
        (failed(ContextLengthError, 400), False),
        (ConfigurationError("no key"), True),
        (UnsupportedError("no files"), True),
        (StreamStateError("closed"), False),
    ],
)
def test_the_default_errors_after_which_the_next_target_is_called(error: DhenaraError, counts: bool) -> None:
    assert Failover([A, B]).counts(error) is counts
    assert Failover([A, B], on=type(error)).counts(error)
    assert Failover([A, B], on=[KeyboardInterruptLike, type(error)]).counts(error)
    assert not Failover([A, B], on=[KeyboardInterruptLike]).counts(error)
    assert Failover([A, B], on=lambda exc: exc is error).counts(error)


class KeyboardInterruptLike(DhenaraError):
    """An error class that is never raised."""


def test_seams_and_decisions_round_trip_through_json() -> None:
    origin = Origin(provider="groq", dialect="openai_chat", endpoint="g.example", account=None, model="a")
    seam = Seam(part=2, before=origin, after=origin, reason="cut")
    assert Seam.model_validate_json(seam.model_dump_json()) == seam


# ---------------------------------------------------------------------------------------------- cooldowns and latencies

HERE = Origin(provider="groq", dialect="openai_chat", endpoint="g.example", account="k", model="a")
THERE = HERE.model_copy(update={"model": "b"})


def test_a_failed_endpoint_cools_down_for_the_given_time() -> None:
    clock = Clock()
    cooldowns = Cooldowns(clock)
    assert not cooldowns.any
    cooldowns.cool(HERE, 30)
    cooldowns.cool(HERE, 5)  # does not shorten the cooldown
    clock.now += 29.9
    assert (cooldowns.any, cooldowns.cooling(HERE), cooldowns.cooling(THERE)) == (True, True, False)
    clock.now += 0.2
    assert (cooldowns.cooling(HERE), cooldowns.any) == (False, False)
    cooldowns.cool(HERE, 30)
    cooldowns.clear(HERE)
    assert not cooldowns.cooling(HERE)
    cooldowns.cool(HERE, 0)
    assert not cooldowns.any


def test_only_the_latest_latencies_are_kept() -> None:
    latencies = Latencies()
    for number in range(REMEMBERED + 10):
        latencies.learn(HERE, float(number))
    assert latencies.of(HERE) == tuple(float(number) for number in range(10, REMEMBERED + 10))
    assert latencies.of(THERE) == ()


@pytest.mark.parametrize(("share", "value"), [(0.01, 1), (0.5, 5), (0.51, 6), (0.9, 9), (0.95, 10), (0.999, 10)])
def test_percentile_returns_the_smallest_value_that_covers_the_share(share: float, value: float) -> None:
    assert percentile([10, 1, 9, 2, 8, 3, 7, 4, 6, 5], share) == value
    with pytest.raises(ValueError, match="empty sequence"):
        percentile([], share)
