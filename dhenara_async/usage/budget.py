"""Budgets in tokens and money, checked before a call is sent.

A call reserves its estimate and settles its actual usage. In between, the reservation counts as spent, so that many
concurrent calls cannot share the same remaining budget.

A turn can cost more than its answer: requests that failed after their answer had begun, or lost a race, are in the
turn's ``tries`` and count too.

Estimates can be too low, so running calls can overdraw a budget; the next call is refused then. Unknown usage and
unknown prices count as zero.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from threading import Lock
from typing import Annotated, Literal, NamedTuple
from weakref import ref

from pydantic import Field

from dhenara_async.conversation import Conversation, ConversationNode
from dhenara_async.errors import BudgetError
from dhenara_async.frozen import FrozenModel
from dhenara_async.usage.tokens import Usage

_NOTHING = Decimal(0)


class Budget(FrozenModel):
    """Limits on spending; None = no limit.

    Attributes:
        money: Maximum cost, in the currency of the costs: US dollars for list prices, or that of your own rates.
        tokens: Maximum tokens, prompts and answers together.
    """

    money: Annotated[Decimal, Field(ge=0, allow_inf_nan=False)] | None = None
    tokens: int | None = Field(default=None, ge=0)


class Amount(NamedTuple):
    """An amount of tokens and of money."""

    tokens: int = 0
    money: Decimal = _NOTHING

    def plus(self, other: "Amount") -> "Amount":
        """Return the sum."""
        return Amount(self.tokens + other.tokens, self.money + other.money)

    def minus(self, other: "Amount") -> "Amount":
        """Return the difference."""
        return Amount(self.tokens - other.tokens, self.money - other.money)

    def most(self, other: "Amount") -> "Amount":
        """Return the larger tokens and the larger money of both."""
        return Amount(max(self.tokens, other.tokens), max(self.money, other.money))


def took(usage: Usage, cost: Decimal | None) -> Amount:
    """Return the amount that an answer used; unknown tokens and money count as zero.

    Negative counts, which only a broken or hostile host reports, count as zero too, so that they refund nothing.
    """
    tokens = usage.total_tokens
    if tokens is None:
        tokens = (usage.input_tokens or 0) + (usage.output_tokens or 0)
    return Amount(max(0, tokens), _NOTHING if cost is None else max(_NOTHING, cost))


def took_by(node: ConversationNode) -> Amount:
    """Return the amount that a turn used: its answer, and its requests without an answer."""
    answer, others = took(node.usage, node.cost), Amount()
    answered = next((tried for tried in reversed(node.tries) if tried.endpoint == node.origin), None)
    for tried in node.tries:
        if tried is answered:  # for an interrupted answer, the node and its request report the same tokens
            answer = answer.most(took(tried.usage, tried.cost))
        else:
            others = others.plus(took(tried.usage, tried.cost))
    return answer.plus(others)


class Spending:
    """The spending of a budget, and the reservations of running calls; thread-safe.

    Args:
        budget: The limits.
        whose: The owner's name in errors (``conversation``, ``manager``).
        conversation: The conversation whose turns are counted as spent, those included that its store did not load;
            None = settled reservations are counted.
    """

    def __init__(self, budget: Budget, *, whose: str, conversation: Conversation | None = None) -> None:
        self.budget = budget
        self._whose = whose
        # weak, because the conversation's manager keeps this object until the conversation dies
        self._conversation = None if conversation is None else ref(conversation)
        self._counted = 0
        stored = None if conversation is None else conversation.stored
        self._spent = Amount() if stored is None else Amount(stored.tokens, stored.money)
        self._reserved = Amount()
        self._lock = Lock()

    def __repr__(self) -> str:
        tokens, money = self.spent
        return f"Spending({self.budget!r}, whose={self._whose!r}, tokens={tokens}, money={money})"

    @property
    def spent(self) -> Amount:
        """The amount spent, without running calls. Answers of unknown usage or price count as zero."""
        with self._lock:
            self._catch_up()
            return self._spent

    def refuse(self, *, tokens: int, money: Decimal | None) -> None:
        """Raise if the budget does not allow a call; reserve nothing.

        Args:
            tokens: The estimated tokens, answer included.
            money: The estimated cost; None = unknown, counted as zero.

        Raises:
            BudgetError: The estimate is more than what is left, or nothing is left.
        """
        with self._lock:
            self._refuse(_expected(tokens, money))

    def reserve(self, *, tokens: int, money: Decimal | None) -> "Reservation":
        """Reserve a call's estimate; the caller must settle the reservation when the call ends, also on failure.

        Args:
            tokens: The estimated tokens, answer included.
            money: The estimated cost; None = unknown, counted as zero.

        Raises:
            BudgetError: The estimate is more than what is left, or nothing is left.
        """
        asked = _expected(tokens, money)
        with self._lock:
            self._refuse(asked)
            self._reserved = self._reserved.plus(asked)
        return Reservation(self, asked)

    def settle(self, reservation: "Reservation", spent: Amount) -> None:
        """Replace a reservation by the amount used, once; see ``Reservation.settle``."""
        with self._lock:
            if reservation.settled:
                return
            reservation.settled = True
            self._reserved = self._reserved.minus(reservation.amount)
            if self._conversation is None:
                self._spent = self._spent.plus(spent)

    def _refuse(self, asked: Amount) -> None:
        self._catch_up()
        left = Amount(self.budget.tokens or 0, self.budget.money or _NOTHING).minus(self._spent).minus(self._reserved)
        if self.budget.money is not None:
            self._compare("money", self.budget.money, left.money, asked.money)
        if self.budget.tokens is not None:
            self._compare("tokens", self.budget.tokens, left.tokens, asked.tokens)

    def _compare(
        self, limit: Literal["money", "tokens"], whole: Decimal | int, left: Decimal | int, asked: Decimal | int
    ) -> None:
        """Raise if less than ``asked`` is left; an estimate of 0 still needs some budget left."""
        if 0 < left >= asked:
            return
        held = self._reserved.money if limit == "money" else self._reserved.tokens
        reserved = f", and {_number(held)} held for calls under way" if held else ""
        raise BudgetError(
            f"the call would take about {_number(asked)} ({limit}), but of the {_number(whole)} of the {self._whose}'s "
            f"budget {_number(left)} is left{reserved}; nothing was sent: allow more, or ask for less "
            "(max_output_tokens, a shorter window)",
            limit=limit,
            left=left,
            asked=asked,
        )

    def _catch_up(self) -> None:
        """Count the turns added since the last time; a conversation only grows. Loading adds none."""
        conversation = None if self._conversation is None else self._conversation()
        if conversation is not None:
            appended = conversation.appended
            self._spent = self._spent.plus(spent_by(islice(appended, self._counted, None)))
            self._counted = len(appended)


@dataclass(slots=True)
class Reservation:
    """The reservation of one call.

    Attributes:
        spending: The budget's spending.
        amount: The reserved amount.
        settled: Whether the call has ended.
    """

    spending: Spending
    amount: Amount
    settled: bool = False

    def settle(self, usage: Usage, cost: Decimal | None) -> None:
        """Replace the estimate by the call's actual usage and cost. Only the first call of this method counts.

        If a conversation's turns are counted, add the turn first: in between it counts twice, which is safer than not
        at all.
        """
        self.spending.settle(self, took(usage, cost))

    def settle_turn(self, node: ConversationNode) -> None:
        """Replace the estimate by a turn's usage, requests without an answer included."""
        self.spending.settle(self, took_by(node))

    def release(self) -> None:
        """Release the reservation of a call that used nothing. Does nothing if it is settled."""
        self.settle(Usage(), None)


def spent_by(nodes: Iterable[ConversationNode]) -> Amount:
    """Return the amount that turns used together, all requests included; unknown values count as zero."""
    total = Amount()
    for node in nodes:
        total = total.plus(took_by(node))
    return total


def _expected(tokens: int, money: Decimal | None) -> Amount:
    return Amount(max(0, tokens), _NOTHING if money is None else max(_NOTHING, money))


def _number(number: Decimal | int) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:,f}"
