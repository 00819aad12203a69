"""Plans over endpoints, accepted wherever an endpoint is: fail-over, race, router and experiment. Pure data.

The targets of a plan are endpoints or plans, so that, for example, an experiment can compare two fail-overs.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from hashlib import blake2b
from math import ceil, inf
from typing import TYPE_CHECKING, Literal, cast

from dhenara_async.config import AIModelCallConfig
from dhenara_async.endpoint import AIModelEndpoint
from dhenara_async.errors import (
    APIError,
    ConfigurationError,
    ConversionLossError,
    DeadlineError,
    DhenaraError,
    ProtocolError,
    TransportError,
    UnsupportedError,
    printable,
)
from dhenara_async.frozen import ShortRepr
from dhenara_async.hosts.names import endpoint_named
from dhenara_async.messages.messages import FilePart, Message
from dhenara_async.response import Decision

Strength = Literal["images", "files", "tools", "structured", "reasoning", "anything"]
"""A capability that a call can need; see ``Router``."""

StickyBy = Literal["conversation", "user", "node"]

Decide = Callable[[Sequence[Message], AIModelCallConfig], "str | Target"]
"""Chooses the target of a call, as an object or by name, from the conversation (oldest first) and the configuration.
A name is one of ``Router.targets``, or a short name of an endpoint (``anthropic:claude-sonnet-5-5``)."""

UnitOf = Callable[[Sequence[Message], AIModelCallConfig], str]
"""Returns the unit of a call: calls of the same unit get the same variant."""

Counts = Callable[[DhenaraError], bool]

Estimate = Callable[[AIModelEndpoint], tuple[int, Decimal | None]]
"""Estimates the tokens and the cost of a call to an endpoint; the cost is None where the price is unknown."""

_STRENGTHS: tuple[str, ...] = ("images", "files", "tools", "structured", "reasoning", "anything")
_PERCENTILE = re.compile(r"p(\d{1,2}(?:\.\d+)?)")
_REFUSED_HERE = frozenset({401, 402, 403, 404})  # refused for this key, account or host; another may accept


def may_pass_elsewhere(error: DhenaraError) -> bool:
    """Whether another endpoint may succeed after ``error``; the default of ``Failover.on``.

    True if the endpoint is down, busy or slow, breaks its protocol, refuses the key, or does not support the request.
    False if the request itself was refused, since other endpoints refuse it too, or if the call's total time is over.
    """
    match error:
        case DeadlineError():
            return error.limit != "total"
        case APIError():
            return error.retryable or error.status in _REFUSED_HERE
        case _:
            kinds = (TransportError, ProtocolError, ConfigurationError, UnsupportedError, ConversionLossError)
            return isinstance(error, kinds)


if TYPE_CHECKING:  # callers may pass short names of endpoints; plans convert them

    class Targets:
        """The type of ``targets``: set to targets or short names, read as targets."""

        def __get__(self, instance: object, owner: type[object]) -> "tuple[Target, ...]": ...
        def __set__(self, instance: object, value: "Sequence[Target | str]") -> None: ...

    class NamedTargets:
        """The type of targets by name: set to targets or short names, read as targets."""

        def __get__(self, instance: object, owner: type[object]) -> "Mapping[str, Target]": ...
        def __set__(self, instance: object, value: "Mapping[str, Target | str]") -> None: ...

    class Variants:
        """The type of ``variants``: set to targets or short names, with a weight or alone, read as targets."""

        def __get__(self, instance: object, owner: type[object]) -> "Mapping[str, Target | tuple[Target, float]]": ...
        def __set__(
            self, instance: object, value: "Mapping[str, Target | str | tuple[Target | str, float]]"
        ) -> None: ...


@dataclass(frozen=True, repr=False)
class Failover(ShortRepr):
    """Calls its targets in order until one completes the answer.

    Each target is retried as the call's ``retries`` allow before the next one is called. ``Timeouts.total`` is the
    limit of all targets together; every other time limit applies to each target.

    Attributes:
        targets: Endpoints (also by short names) or plans, in the order in which they are called.
        mode: The rule for an answer that breaks off after some of it was delivered. ``fail``: the error is raised.
            ``restart``: the next target starts over, and readers get a ``StreamReset``. ``continue``: the next target
            continues the answer, and readers get a ``StreamSeam``. Only texts can be continued, and only by a model
            that accepts the beginning of its answer as a prefill, or with a ``continuation``; if no target can
            continue, the error is raised and says so. Reasoning is not passed on.
        on: Errors after which the next target is called, as classes or a function; None = ``may_pass_elsewhere``.
            Other errors are raised at once.
        cooldown: Seconds for which a failed endpoint is called last, by all calls of one manager or client.
        continuation: For ``continue``: the user message that asks for the rest of the answer from a model that does not
            accept a prefill.

    Raises:
        ConfigurationError: There is no target, or a value is invalid.
    """

    targets: "Targets"
    mode: Literal["restart", "continue", "fail"] = "restart"
    on: Counts | Sequence[type[DhenaraError]] | type[DhenaraError] | None = None
    cooldown: float = 30.0
    continuation: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", _checked_targets(self.targets, "Failover"))
        if self.mode not in ("restart", "continue", "fail"):
            raise ConfigurationError(f"the mode of a Failover is restart, continue or fail, not {self.mode!r}")
        if not 0 <= self.cooldown < inf:
            raise ConfigurationError(f"the cooldown of a Failover is a number of seconds from 0, not {self.cooldown}")
        if self.continuation is not None and not self.continuation.strip():
            raise ConfigurationError("the continuation of a Failover is empty; use None for no continuation")

    def counts(self, error: DhenaraError) -> bool:
        """Whether the next target is called after ``error``."""
        on = self.on
        if on is None:
            return may_pass_elsewhere(error)
        if isinstance(on, type):
            return isinstance(error, on)
        return on(error) if callable(on) else any(isinstance(error, kind) for kind in on)


@dataclass(frozen=True, repr=False)
class Race(ShortRepr):
    """Calls several targets at once; the first to send content answers, the others are cancelled.

    The known usage of the other targets is in ``tries`` of the response, and counts in budgets.

    Attributes:
        targets: Endpoints (also by short names) or plans.
        hedge_after: When each further target starts, unless all earlier ones have failed: None = at once; a number =
            seconds after the previous start; or a percentile such as ``"p95"`` of the time to first content of the
            first target in the latest calls of the same client or manager (one second while too few were measured).

    Raises:
        ConfigurationError: There is no target, or a value is invalid.
    """

    targets: "Targets"
    hedge_after: float | str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", _checked_targets(self.targets, "Race"))
        after = self.hedge_after
        if isinstance(after, str):
            if _PERCENTILE.fullmatch(after) is None or self.percentile == 0:
                raise ConfigurationError(f"hedge_after is None, seconds, or a percentile such as 'p95', not {after!r}")
        elif after is not None and not 0 <= after < inf:
            raise ConfigurationError(f"hedge_after is a number of seconds from 0, not {after}")

    @property
    def percentile(self) -> float | None:
        """The percentile of ``hedge_after`` as a share between 0 and 1; None if it is not a percentile."""
        named = _PERCENTILE.fullmatch(self.hedge_after) if isinstance(self.hedge_after, str) else None
        return None if named is None else float(named[1]) / 100


@dataclass(frozen=True, repr=False)
class Router(ShortRepr):
    """Chooses one target for each call, by a function or by the capabilities that the call needs.

    Attributes:
        choose: Returns the target of a call, or its name in ``targets``. It is called for dry runs and estimates too,
            so it must have no side effects. None = ``strengths`` decide.
        targets: Targets by the names that ``choose`` returns.
        strengths: Targets by capability, in order; the first capability that the call needs decides. ``images`` and
            ``files`` are needed if the conversation has some, ``tools`` if tools are declared, ``structured`` if
            structured output is requested, ``reasoning`` if reasoning is requested, and ``anything`` always.

    Raises:
        ConfigurationError: Neither or both of ``choose`` and ``strengths`` are given, or a strength is unknown.
    """

    choose: Decide | None = None
    targets: "NamedTargets" = field(default_factory=lambda: cast("NamedTargets", {}))
    strengths: "NamedTargets" = field(default_factory=lambda: cast("NamedTargets", {}))

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", _named_targets(self.targets, "Router"))
        object.__setattr__(self, "strengths", _named_targets(self.strengths, "Router"))
        if (self.choose is None) == (not self.strengths):
            raise ConfigurationError("a Router takes either choose or strengths, not both")
        if self.choose is None and self.targets:
            raise ConfigurationError(
                "the targets of a Router are for the names that choose returns; strengths have their own targets"
            )
        if unknown := [name for name in self.strengths if name not in _STRENGTHS]:
            raise ConfigurationError(f"unknown strengths {unknown}; use {', '.join(_STRENGTHS)}")


@dataclass(frozen=True, repr=False)
class Experiment(ShortRepr):
    """Assigns one of several variants to each unit, always the same one.

    The variant is computed from a hash of the experiment's name and the unit: nothing is stored, and all processes
    agree. The order of the variants does not matter. A change of weights moves as few units as possible, and only
    between variants that are neighbours in alphabetical order.

    Attributes:
        variants: Targets by name, either alone (weight 1) or as ``(target, weight)``.
        sticky_by: The unit: a ``conversation``, a ``user`` (``config.user_id``), a ``node`` (each turn is assigned
            independently), or a function. A call without that unit uses its user, then its conversation; a call
            without either is a unit of its own. The decision's reason names the unit that was used.
        name: Name of the experiment; two experiments with equal names and variants assign units equally. None = the
            names of the variants.

    Raises:
        ConfigurationError: There is no variant, a weight is invalid, or ``sticky_by`` is unknown.
    """

    variants: "Variants"
    sticky_by: StickyBy | UnitOf = "conversation"
    name: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "variants", _checked_variants(self.variants))
        if isinstance(self.sticky_by, str) and self.sticky_by not in ("conversation", "user", "node"):
            raise ConfigurationError(
                f"sticky_by of an Experiment is conversation, user, node or a function, not {self.sticky_by!r}"
            )
        weights = self.weights
        if not all(0 <= weight < inf for weight in weights.values()) or not sum(weights.values()) > 0:
            raise ConfigurationError("an Experiment needs variants with weights of at least 0, one of them above 0")

    @property
    def weights(self) -> dict[str, float]:
        """The variants' weights, by name."""
        return {name: float(of[1]) if isinstance(of, tuple) else 1.0 for name, of in self.variants.items()}

    def target(self, variant: str) -> "Target":
        """Return the target of a variant."""
        of = self.variants[variant]
        return of[0] if isinstance(of, tuple) else of

    def variant(self, unit: str) -> str:
        """Return the name of a unit's variant."""
        names = sorted(self.variants)
        return assigned(self.name or "|".join(names), unit, self.weights)


Target = AIModelEndpoint | Failover | Race | Experiment | Router
"""The target of a call: an endpoint, or a plan over several."""


def assigned(name: str, unit: str, weights: Mapping[str, float]) -> str:
    """Return the variant of a unit: the same in every process, and distributed by weight.

    Args:
        name: Name of the experiment.
        unit: Id of the unit.
        weights: Weights by variant, at least 0 and not all 0; their order does not matter.
    """
    digest = blake2b(f"{len(name)}:{name}:{unit}".encode(errors="surrogatepass"), digest_size=8).digest()
    drawn = (int.from_bytes(digest) >> 11) / 2**53 * sum(weights.values())
    candidates = sorted(variant for variant, weight in weights.items() if weight > 0)
    upper_bound = 0.0
    for variant in candidates:
        upper_bound += weights[variant]
        if drawn < upper_bound:
            return variant
    return candidates[-1]  # reached only by rounding errors


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest of ``values`` that at least ``share`` of them do not exceed.

    Raises:
        ValueError: ``values`` is empty.
    """
    if not values:
        raise ValueError("there is no percentile of an empty sequence")
    return sorted(values)[max(0, ceil(share * len(values)) - 1)]


@dataclass(frozen=True, slots=True, repr=False)
class RoutingContext(ShortRepr):
    """The properties of a call by which routers and experiments decide.

    Attributes:
        messages: Returns the conversation, oldest first, including the new question.
        config: Configuration of the call.
        call_id: Unique id of the call.
        conversation: Id of the conversation; None outside of one.
        node: Id of the node that the turn will add; None outside of a conversation.
        decisions: The decisions for this call, by the id of the plan, where the call may be prepared twice, so that
            nobody is asked twice; None = they are not kept.
    """

    messages: Callable[[], Sequence[Message]]
    config: AIModelCallConfig
    call_id: str
    conversation: str | None = None
    node: str | None = None
    decisions: "dict[int, tuple[Target, Decision]] | None" = field(default=None, repr=False, compare=False)


def decided(plan: Router | Experiment, context: RoutingContext) -> "tuple[Target, Decision]":
    """Choose the target of a call, and build the record of the decision.

    Raises:
        ConfigurationError: A router's function returned an unknown name, or no strength matches the call.
    """
    known = None if context.decisions is None else context.decisions.get(id(plan))
    if known is None:
        known = _routed(plan, context) if isinstance(plan, Router) else _varied(plan, context)
        if context.decisions is not None:
            context.decisions[id(plan)] = known
    return known


def first_endpoint(target: "Target", context: RoutingContext) -> AIModelEndpoint:
    """Return the endpoint that is called first if none is cooling down; dry runs and estimates use it.

    Raises:
        ConfigurationError: As for ``decided``.
    """
    while not isinstance(target, AIModelEndpoint):
        if isinstance(target, Failover | Race):
            target = target.targets[0]
        else:
            target, _decision = decided(target, context)
    return target


def expected(target: "Target", context: RoutingContext, of: Estimate) -> tuple[int, Decimal | None]:
    """Estimate the tokens and the cost of a call to ``target``; the cost is None where the price is unknown.

    A race counts the sum of its targets, because all of them may run. A fail-over counts the maximum of its targets.
    Targets that cannot be called are left out as long as another one can.

    Args:
        target: The endpoint or plan.
        context: Properties of the call, for routers and experiments.
        of: Estimates a call to one endpoint.

    Raises:
        DhenaraError: No target can be called; the first target's error.
    """
    match target:
        case AIModelEndpoint():
            return of(target)
        case Router() | Experiment():
            chosen, _decision = decided(target, context)
            return expected(chosen, context, of)
        case Failover() | Race():
            tokens, costs, errors = list[int](), list[Decimal](), list[DhenaraError]()
            for member in target.targets:
                try:
                    member_tokens, member_cost = expected(member, context, of)
                except DhenaraError as exc:
                    errors.append(exc)
                    continue
                tokens.append(member_tokens)
                costs += [] if member_cost is None else [member_cost]
            if not tokens:
                raise errors[0]
            if isinstance(target, Race):
                return sum(tokens), sum(costs, Decimal(0)) if costs else None
            return max(tokens), max(costs, default=None)


def endpoints(target: "Target") -> Iterator[AIModelEndpoint]:
    """Iterate over the endpoints of a target, in order; endpoints that only a router's function knows are left out."""
    match target:
        case AIModelEndpoint():
            yield target
        case Failover() | Race():
            for member in target.targets:
                yield from endpoints(member)
        case Router():
            for member in (*target.targets.values(), *target.strengths.values()):
                yield from endpoints(member)
        case Experiment():
            for name in target.variants:
                yield from endpoints(target.target(name))


def label(target: "Target") -> str:
    """Format a target for logs and records, without keys and addresses."""
    match target:
        case AIModelEndpoint():
            return printable(f"{target.api.provider}:{target.ai_model.model_name}")
        case Failover() | Race():
            return f"{type(target).__name__}({', '.join(map(label, target.targets))})"
        case Router():
            return f"Router({', '.join((*target.targets, *target.strengths))})"
        case Experiment():
            return f"Experiment({', '.join(target.variants)})"


def _routed(plan: Router, context: RoutingContext) -> "tuple[Target, Decision]":
    if plan.choose is None:
        needs = _needs(context)
        for strength, target in plan.strengths.items():
            if strength in needs:
                return target, Decision(kind="router", choice=label(target), reason=f"for {strength}")
        strengths = ", ".join(plan.strengths)
        raise ConfigurationError(f"no strength of the Router ({strengths}) fits the call; add one for 'anything'")
    chosen = plan.choose(context.messages(), context.config)
    if not isinstance(chosen, str):
        chosen = target_of(chosen, "Router")
        return chosen, Decision(kind="router", choice=label(chosen))
    if not plan.targets:
        named = endpoint_named(chosen)
        return named, Decision(kind="router", choice=label(named))
    if chosen not in plan.targets:
        raise ConfigurationError(
            f"the Router chose {chosen!r}, but its targets are {', '.join(plan.targets) or 'empty'}"
        )
    return plan.targets[chosen], Decision(kind="router", choice=chosen)


def _needs(context: RoutingContext) -> frozenset[str]:
    config = context.config
    files = [part for message in context.messages() for part in message.parts if isinstance(part, FilePart)]
    needs = {
        "images": any(file.kind == "image" for file in files),
        "files": bool(files),
        "tools": bool(config.tools),
        "structured": config.structured_output is not None,
        "reasoning": bool(config.reasoning or config.max_reasoning_tokens)
        or config.reasoning_effort not in (None, "none"),
        "anything": True,
    }
    return frozenset(strength for strength, needed in needs.items() if needed)


def _varied(plan: Experiment, context: RoutingContext) -> "tuple[Target, Decision]":
    unit, by = _unit(plan.sticky_by, context)
    variant = plan.variant(unit)
    decision = Decision(
        kind="experiment", name=plan.name, choice=variant, reason=by, unit=unit, weights=dict(plan.weights)
    )
    return plan.target(variant), decision


def _unit(sticky_by: StickyBy | UnitOf, context: RoutingContext) -> tuple[str, str]:
    """Return the unit of a call, and how it was determined."""
    if not isinstance(sticky_by, str):
        return sticky_by(context.messages(), context.config), "by a function"
    units = {"user": context.config.user_id, "conversation": context.conversation, "node": context.node}
    for by in (sticky_by, "user", "conversation"):
        if unit := units[by]:
            return unit, f"by {by}" if by == sticky_by else f"by {by}, because it has no {sticky_by}"
    return context.call_id, f"by the call alone, because it has no {sticky_by}"


def target_of(target: object, taker: str) -> "Target":
    """Return a target, built from its short name if it is a text.

    Args:
        target: An endpoint, a plan, or the short name of an endpoint.
        taker: The name of the class that takes it, for the error.

    Raises:
        ConfigurationError: It is none of them, or a name that cannot be resolved.
    """
    if isinstance(target, Target):
        return target
    if isinstance(target, str):
        return endpoint_named(target)
    raise ConfigurationError(
        f"{'an' if taker[0] in 'AE' else 'a'} {taker} takes endpoints and plans over endpoints, not "
        f"{type(target).__name__}: write AIModelEndpoint(…), or a name such as 'anthropic:claude-sonnet-5-5'"
    )


def _checked_targets(targets: object, plan: str) -> "tuple[Target, ...]":
    if isinstance(targets, Target | str) or not isinstance(targets, Iterable):
        raise ConfigurationError(f"a {plan} takes its targets as one sequence: write {plan}([first, second])")
    checked = tuple(target_of(target, plan) for target in cast("Iterable[object]", targets))
    if not checked:
        raise ConfigurationError(f"a {plan} needs at least one target")
    return checked


def _named_targets(targets: object, plan: str) -> "dict[str, Target]":
    if not isinstance(targets, Mapping):
        raise ConfigurationError(f"the targets of a {plan} have names: write {{'name': endpoint}}")
    return {name: target_of(target, plan) for name, target in cast("Mapping[str, object]", targets).items()}


def _checked_variants(variants: object) -> "dict[str, Target | tuple[Target, float]]":
    if not isinstance(variants, Mapping):
        raise ConfigurationError("the variants of an Experiment have names: write Experiment({'a': …, 'b': …})")
    return {name: _variant(of) for name, of in cast("Mapping[str, object]", variants).items()}


def _variant(of: object) -> "Target | tuple[Target, float]":
    if not isinstance(of, tuple):
        return target_of(of, "Experiment")
    pair = cast("tuple[object, ...]", of)
    if len(pair) != 2 or not isinstance(pair[1], int | float):
        raise ConfigurationError("a variant of an Experiment is a target, or (target, weight) with a number as weight")
    return target_of(pair[0], "Experiment"), pair[1]
