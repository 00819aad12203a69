"""How much may be spent, and what has been: counted before a call is sent, not after the bill has come.

A call reserves what it is expected to take and settles what it took. Between the two the reservation counts as spent,
so that a hundred calls at once cannot each find room for the same money.

A turn takes more than its answer did where a request failed after it had begun, or lost a race: what is known of those
is in the turn's ``tries``, and counts.

Estimates can be too low, so a budget can be overdrawn by the calls that were under way; the next one is refused then.
What is not known cannot be counted: an answer whose usage was not told, or whose price nobody knows, counts as nothing.
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
    """The most that may be spent; None = as much as one likes.

    Attributes:
        money: In the currency that costs are counted in: US dollars by list prices, or that of your own rates.
        tokens: Questions and answers together.
    """

    money: Annotated[Decimal, Field(ge=0, allow_inf_nan=False)] | None = None
    tokens: int | None = Field(default=None, ge=0)


class Amount(NamedTuple):
    """Tokens and money together."""

    tokens: int = 0
    money: Decimal = _NOTHING

    def plus(self, other: "Amount") -> "Amount":
        """The sum of both."""
        return Amount(self.tokens + other.tokens, self.money + other.money)

    def minus(self, other: "Amount") -> "Amount":
        """What remains of this without the other."""
        return Amount(self.tokens - other.tokens, self.money - other.money)

    def most(self, other: "Amount") -> "Amount":
        """The more of each."""
        return Amount(max(self.tokens, other.tokens), max(self.money, other.money))


def took(usage: Usage, cost: Decimal | None) -> Amount:
    """What an answer took. What was not told counts as nothing: unknown tokens or money cannot be counted.

    Nothing gives back what was spent: counts below zero, which only a broken or hostile host reports, are nothing too.
    """
    tokens = usage.total_tokens
    if tokens is None:
        tokens = (usage.input_tokens or 0) + (usage.output_tokens or 0)
    return Amount(max(0, tokens), _NOTHING if cost is None else max(_NOTHING, cost))


def took_by(node: ConversationNode) -> Amount:
    """What a turn took: its answer, and the requests that gave none."""
    answer, others = took(node.usage, node.cost), Amount()
    answered = next((tried for tried in reversed(node.tries) if tried.endpoint == node.origin), None)
    for tried in node.tries:
        if tried is answered:  # where the answer broke off, the node and its request tell of the same tokens
            answer = answer.most(took(tried.usage, tried.cost))
        else:
            others = others.plus(took(tried.usage, tried.cost))
    return answer.plus(others)


class Spending:
    """What was spent of a budget, and what calls under way may still spend; safe in any thread.

    Args:
        budget: The most that may be spent.
        whose: What its owner is called in errors (``conversation``, ``manager``).
        conversation: Whose turns are what was spent, whoever adds them. None = what reservations settle is.
    """

    def __init__(self, budget: Budget, *, whose: str, conversation: Conversation | None = None) -> None:
        self.budget = budget
        self._whose = whose
        # Weak, because whoever keeps this does so for as long as the conversation lives.
        self._conversation = None if conversation is None else ref(conversation)
        self._counted = 0
        self._spent = self._reserved = Amount()
        self._lock = Lock()

    def __repr__(self) -> str:
        tokens, money = self.spent
        return f"Spending({self.budget!r}, whose={self._whose!r}, tokens={tokens}, money={money})"

    @property
    def spent(self) -> Amount:
        """What was spent, calls under way not included. Answers of unknown usage or price count as nothing."""
        with self._lock:
            self._catch_up()
            return self._spent

    def refuse(self, *, tokens: int, money: Decimal | None) -> None:
        """Raise if a call may not be made, and reserve nothing.

        Args:
            tokens: About how many it will take, its answer included.
            money: About what it will cost; None = not known, which counts as nothing.

        Raises:
            BudgetError: It would take more than is left, or nothing is left.
        """
        with self._lock:
            self._refuse(_expected(tokens, money))

    def reserve(self, *, tokens: int, money: Decimal | None) -> "Reservation":
        """Set aside what a call is expected to take, for its maker to settle when it is over, however it ends.

        Args:
            tokens: About how many it will take, its answer included.
            money: About what it will cost; None = not known, which counts as nothing.

        Raises:
            BudgetError: It would take more than is left, or nothing is left.
        """
        asked = _expected(tokens, money)
        with self._lock:
            self._refuse(asked)
            self._reserved = self._reserved.plus(asked)
        return Reservation(self, asked)

    def settle(self, reservation: "Reservation", spent: Amount) -> None:
        """Put what a call took in place of what was set aside for it, once; see ``Reservation.settle``."""
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
        """A call of unknown size takes something too, so it needs that something is left."""
        if 0 < left >= asked:
            return
        held = self._reserved.money if limit == "money" else self._reserved.tokens
        under_way = f", and {_said(held)} held for calls under way" if held else ""
        raise BudgetError(
            f"the call would take about {_said(asked)} ({limit}), but of the {_said(whole)} of the {self._whose}'s "
            f"budget {_said(left)} is left{under_way}; nothing was sent: allow more, or ask for less "
            "(max_output_tokens, a shorter window)",
            limit=limit,
            left=left,
            asked=asked,
        )

    def _catch_up(self) -> None:
        """Count the turns that were added since the last time; a conversation only ever grows."""
        conversation = None if self._conversation is None else self._conversation()
        if conversation is not None:
            nodes = conversation.nodes
            self._spent = self._spent.plus(spent_by(islice(nodes, self._counted, None)))
            self._counted = len(nodes)


@dataclass(slots=True)
class Reservation:
    """What is set aside for one call.

    Attributes:
        spending: Where.
        amount: How much.
        settled: Whether it is over.
    """

    spending: Spending
    amount: Amount
    settled: bool = False

    def settle(self, usage: Usage, cost: Decimal | None) -> None:
        """Say what the call really took, in place of what was expected. Only the first time counts.

        Where a conversation's turns are what was spent, its turn is added before this is called: between the two it
        counts twice rather than not at all.
        """
        self.spending.settle(self, took(usage, cost))

    def settle_turn(self, node: ConversationNode) -> None:
        """The same for a turn, whose requests that gave no answer count too."""
        self.spending.settle(self, took_by(node))

    def release(self) -> None:
        """The call took nothing. Does nothing when it is settled."""
        self.settle(Usage(), None)


def spent_by(nodes: Iterable[ConversationNode]) -> Amount:
    """What turns took together, with all their requests; what is not known of one counts as nothing."""
    total = Amount()
    for node in nodes:
        total = total.plus(took_by(node))
    return total


def _expected(tokens: int, money: Decimal | None) -> Amount:
    return Amount(max(0, tokens), _NOTHING if money is None else max(_NOTHING, money))


def _said(number: Decimal | int) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:,f}"
