"""Plans over endpoints: what anything that takes an endpoint also takes. Data and arithmetic; nothing here calls.

The members of a plan are endpoints or plans again, so that an experiment can compare two ways of failing over.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from hashlib import blake2b
from math import ceil, inf
from typing import Literal

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
from dhenara_async.messages.messages import FilePart, Message
from dhenara_async.response import Decision

Strength = Literal["images", "files", "tools", "structured", "reasoning", "anything"]
"""What a call can need; see ``Router``."""

StickyBy = Literal["conversation", "user", "node"]

Decide = Callable[[Sequence[Message], AIModelCallConfig], "str | Target"]
"""Which target takes a call, itself or by name: told the conversation, oldest first, and the knobs of the call."""

UnitOf = Callable[[Sequence[Message], AIModelCallConfig], str]
"""What a call belongs to: calls of the same unit get the same variant."""

Counts = Callable[[DhenaraError], bool]

Estimate = Callable[[AIModelEndpoint], tuple[int, Decimal | None]]
"""About what a call of an endpoint takes, in tokens and in money; None where nobody knows its price."""

_STRENGTHS: tuple[str, ...] = ("images", "files", "tools", "structured", "reasoning", "anything")
_PERCENTILE = re.compile(r"p(\d{1,2}(?:\.\d+)?)")
_REFUSED_HERE = frozenset({401, 402, 403, 404})  # this key, this account or this host will not; another may


def may_pass_elsewhere(error: DhenaraError) -> bool:
    """Whether another endpoint may succeed where this one failed: what ``Failover`` goes by unless told otherwise.

    This one is down, busy or slow, breaks its protocol, does not serve this key, or cannot be asked that at all. A
    request that was refused for what it says is refused elsewhere too, and a call out of time is out of time.
    """
    match error:
        case DeadlineError():
            return error.limit != "total"
        case APIError():
            return error.retryable or error.status in _REFUSED_HERE
        case _:
            kinds = (TransportError, ProtocolError, ConfigurationError, UnsupportedError, ConversionLossError)
            return isinstance(error, kinds)


@dataclass(frozen=True)
class Failover:
    """The first of several that answers.

    Each is asked as often as the call's ``retries`` say before the next one is; ``Timeouts.total`` is for all of them
    together, every other limit for each.

    Attributes:
        targets: Who is asked, in order; the next one when one fails.
        mode: What happens when an answer breaks off after some of it was handed over. ``fail``: the error is raised.
            ``restart``: the next one answers anew, and readers get a ``StreamReset``. ``continue``: the next one goes
            on where the answer broke off, and readers get a ``StreamSeam``. Only texts can be gone on with, and only by
            a model that can be handed the beginning of its answer, or with a ``continuation``; where nobody can, the
            error is raised and says so. Reasoning is not handed on.
        on: Which errors count, as classes or a function; None = ``may_pass_elsewhere``. Others are raised at once.
        cooldown: Seconds for which an endpoint that failed is asked last, by all calls of one manager or client.
        continuation: For ``continue``: what a model is told behind the text so far that cannot be handed that text as
            the beginning of its own answer.

    Raises:
        ConfigurationError: There is no target, or a value that is none of these.
    """

    targets: "Sequence[Target]"
    mode: Literal["restart", "continue", "fail"] = "restart"
    on: Counts | Sequence[type[DhenaraError]] | type[DhenaraError] | None = None
    cooldown: float = 30.0
    continuation: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", _several(self.targets, "Failover"))
        if self.mode not in ("restart", "continue", "fail"):
            raise ConfigurationError(f"the mode of a Failover is restart, continue or fail, not {self.mode!r}")
        if not 0 <= self.cooldown < inf:
            raise ConfigurationError(f"the cooldown of a Failover is a number of seconds from 0, not {self.cooldown}")
        if self.continuation is not None and not self.continuation.strip():
            raise ConfigurationError("the continuation of a Failover is empty: None leaves it out")

    def counts(self, error: DhenaraError) -> bool:
        """Whether the next target is asked after ``error``."""
        on = self.on
        if on is None:
            return may_pass_elsewhere(error)
        if isinstance(on, type):
            return isinstance(error, on)
        return on(error) if callable(on) else any(isinstance(error, kind) for kind in on)


@dataclass(frozen=True)
class Race:
    """Several asked at once; who says something first answers, the others are cancelled.

    What the others took is among the ``tries`` of the answer, as far as it is known, and counts in budgets.

    Attributes:
        targets: Who runs.
        hedge_after: When each further one starts, unless all before it have failed earlier: None = at once; seconds
            after the one before it; or a percentile such as ``"p95"`` of the times that the first target took to say
            something in the latest calls of the same client or manager (as long as too few are known, a second).

    Raises:
        ConfigurationError: There is no target, or a value that is none of these.
    """

    targets: "Sequence[Target]"
    hedge_after: float | str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", _several(self.targets, "Race"))
        after = self.hedge_after
        if isinstance(after, str):
            if _PERCENTILE.fullmatch(after) is None or self.percentile == 0:
                raise ConfigurationError(f"hedge_after is None, seconds, or a percentile such as 'p95', not {after!r}")
        elif after is not None and not 0 <= after < inf:
            raise ConfigurationError(f"hedge_after is a number of seconds from 0, not {after}")

    @property
    def percentile(self) -> float | None:
        """The share of earlier calls that ``hedge_after`` names, between 0 and 1; None if it names none."""
        named = _PERCENTILE.fullmatch(self.hedge_after) if isinstance(self.hedge_after, str) else None
        return None if named is None else float(named[1]) / 100


@dataclass(frozen=True)
class Router:
    """One of several, chosen for each call by what it is.

    Attributes:
        choose: Says who takes a call, as a target or by its name in ``targets``. It is asked for dry runs and estimates
            too, so it only looks. None = ``strengths`` decide.
        targets: Who can be named.
        strengths: For each strength who has it, the first that the call needs decides: ``images`` and ``files`` where
            the conversation holds some, ``tools`` where some are declared, ``structured`` where the answer has to be,
            ``reasoning`` where that is asked for; ``anything`` is always needed, so it comes last.

    Raises:
        ConfigurationError: Neither or both of ``choose`` and ``strengths`` are given, or a strength is not known.
    """

    choose: Decide | None = None
    targets: "Mapping[str, Target]" = field(default_factory=dict[str, "Target"])
    strengths: "Mapping[str, Target]" = field(default_factory=dict[str, "Target"])

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", dict(self.targets))
        object.__setattr__(self, "strengths", dict(self.strengths))
        if (self.choose is None) == (not self.strengths):
            raise ConfigurationError("a Router has either a function that chooses, or strengths")
        if self.choose is None and self.targets:
            raise ConfigurationError("targets are for a Router's function to name; strengths have targets of their own")
        if unknown := [name for name in self.strengths if name not in _STRENGTHS]:
            raise ConfigurationError(f"unknown strengths {unknown}; there are {', '.join(_STRENGTHS)}")
        for target in (*self.targets.values(), *self.strengths.values()):
            _check_target(target, "Router")


@dataclass(frozen=True)
class Experiment:
    """Variants, of which every unit gets one, and always the same one.

    Who gets which is a hash of the experiment's name and the unit: nothing is stored, and every process agrees. Order
    does not matter; a change of weights moves no more units than it has to between neighbours, by name.

    Attributes:
        variants: Targets by name, each alone or with its weight; alone it weighs 1.
        sticky_by: What is a unit: a ``conversation``, a ``user`` (``config.user_id``), or a ``node``, which is every
            turn anew; or a function. Where a call has no such thing, it goes by user, then by conversation, and a call
            that has neither is a unit of its own. The decision says which it was.
        name: Tells experiments apart: two of one name and the same variants sort units alike. None = their names.

    Raises:
        ConfigurationError: There is no variant, a weight that is no weight, or no such way to be sticky.
    """

    variants: "Mapping[str, Target | tuple[Target, float]]"
    sticky_by: StickyBy | UnitOf = "conversation"
    name: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "variants", dict(self.variants))
        if isinstance(self.sticky_by, str) and self.sticky_by not in ("conversation", "user", "node"):
            raise ConfigurationError(f"an Experiment sticks by conversation, user or node, not by {self.sticky_by!r}")
        weights = self.weights
        if not all(0 <= weight < inf for weight in weights.values()) or not sum(weights.values()) > 0:
            raise ConfigurationError("an Experiment has variants with weights from 0, and at least one above 0")
        for name in weights:
            _check_target(self.target(name), "Experiment")

    @property
    def weights(self) -> dict[str, float]:
        """The variants' weights, by name."""
        return {name: float(of[1]) if isinstance(of, tuple) else 1.0 for name, of in self.variants.items()}

    def target(self, variant: str) -> "Target":
        """Who a variant is."""
        of = self.variants[variant]
        return of[0] if isinstance(of, tuple) else of

    def variant(self, unit: str) -> str:
        """Which variant a unit gets."""
        names = sorted(self.variants)
        return assigned(self.name or "|".join(names), unit, self.weights)


Target = AIModelEndpoint | Failover | Race | Experiment | Router
"""Who is asked: an endpoint, or a plan over several."""


def assigned(name: str, unit: str, weights: Mapping[str, float]) -> str:
    """Which of ``weights`` an experiment's unit falls under: the same in every process, and as often as it weighs.

    Args:
        name: The experiment's.
        unit: What sticks.
        weights: Not below 0, and not all 0; their order does not matter.
    """
    digest = blake2b(f"{len(name)}:{name}:{unit}".encode(errors="surrogatepass"), digest_size=8).digest()
    drawn = (int.from_bytes(digest) >> 11) / 2**53 * sum(weights.values())
    weighty = sorted(variant for variant, weight in weights.items() if weight > 0)
    reached = 0.0
    for variant in weighty:
        reached += weights[variant]
        if drawn < reached:
            return variant
    return weighty[-1]  # only rounding leads here


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of ``values`` that at least ``share`` of them do not exceed.

    Raises:
        ValueError: There are no values.
    """
    if not values:
        raise ValueError("nothing has a percentile of no values")
    return sorted(values)[max(0, ceil(share * len(values)) - 1)]


@dataclass(frozen=True, slots=True)
class RoutingContext:
    """What a call is, as far as a router or an experiment decides by it.

    Attributes:
        said: Gives the conversation, oldest first, what is asked included.
        config: The call's knobs.
        own: A name of this call alone.
        conversation: The conversation's id; None outside of one.
        node: The id of the turn being made; None outside of a conversation.
    """

    said: Callable[[], Sequence[Message]]
    config: AIModelCallConfig
    own: str
    conversation: str | None = None
    node: str | None = None


def decided(plan: Router | Experiment, context: RoutingContext) -> "tuple[Target, Decision]":
    """Who takes a call, and the record of that.

    Raises:
        ConfigurationError: A router's function names nobody, or no strength fits the call.
    """
    return _routed(plan, context) if isinstance(plan, Router) else _varied(plan, context)


def first_endpoint(target: "Target", context: RoutingContext) -> AIModelEndpoint:
    """Who is asked first where all goes well: what dry runs and estimates are made for.

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
    """About what a call of ``target`` takes, in tokens and in money; None where nobody knows its price.

    All of a race may run at once, so it is what they take together. Of those that are asked one after the other it is
    the most that one takes, and who cannot be asked at all does not count as long as somebody can.

    Args:
        target: Who is asked.
        occasion: What routers and experiments decide by.
        of: The same for an endpoint.

    Raises:
        DhenaraError: Nobody can be asked; the first one's reason.
    """
    match target:
        case AIModelEndpoint():
            return of(target)
        case Router() | Experiment():
            chosen, _decision = decided(target, context)
            return expected(chosen, context, of)
        case Failover() | Race():
            tokens, prices, refusals = list[int](), list[Decimal](), list[DhenaraError]()
            for member in target.targets:
                try:
                    taken, price = expected(member, context, of)
                except DhenaraError as exc:
                    refusals.append(exc)
                    continue
                tokens.append(taken)
                prices += [] if price is None else [price]
            if not tokens:
                raise refusals[0]
            if isinstance(target, Race):
                return sum(tokens), sum(prices, Decimal(0)) if prices else None
            return max(tokens), max(prices, default=None)


def endpoints(target: "Target") -> Iterator[AIModelEndpoint]:
    """Every endpoint of a plan that can be named in advance, in order."""
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
    """A target in a few words, for people: no key, no address."""
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
        have = ", ".join(plan.strengths)
        raise ConfigurationError(f"no strength of the Router ({have}) fits the call; add one for 'anything'")
    chosen = plan.choose(context.said(), context.config)
    if not isinstance(chosen, str):
        _check_target(chosen, "Router")
        return chosen, Decision(kind="router", choice=label(chosen))
    if chosen not in plan.targets:
        raise ConfigurationError(f"the Router chose {chosen!r}, and knows {', '.join(plan.targets) or 'no names'}")
    return plan.targets[chosen], Decision(kind="router", choice=chosen)


def _needs(context: RoutingContext) -> frozenset[str]:
    config = context.config
    files = [part for message in context.said() for part in message.parts if isinstance(part, FilePart)]
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
    """What a call belongs to, and what that is."""
    if not isinstance(sticky_by, str):
        return sticky_by(context.said(), context.config), "by a function"
    units = {"user": context.config.user_id, "conversation": context.conversation, "node": context.node}
    for by in (sticky_by, "user", "conversation"):
        if unit := units[by]:
            return unit, f"by {by}" if by == sticky_by else f"by {by}, because it has no {sticky_by}"
    return context.own, f"by the call alone, because it has no {sticky_by}"


def _several(targets: "Sequence[Target]", whose: str) -> "tuple[Target, ...]":
    several = tuple(targets)
    if not several:
        raise ConfigurationError(f"a {whose} has at least one target")
    for target in several:
        _check_target(target, whose)
    return several


def _check_target(target: object, whose: str) -> None:
    if not isinstance(target, Target):
        raise ConfigurationError(
            f"a {whose} takes endpoints and plans over endpoints, not {type(target).__name__}: AIModelEndpoint(…)"
        )
