"""What is spent of a budget, and which calls it refuses before they are sent."""

import gc
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from decimal import Decimal
from weakref import ref

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dhenara_async import (
    Attempt,
    Budget,
    ChatResponse,
    Choice,
    Conversation,
    ConversationNode,
    FinishReason,
    Origin,
    TextPart,
    Usage,
)
from dhenara_async.errors import BudgetError, DhenaraError
from dhenara_async.usage.budget import Amount, Reservation, Spending, spent_by, took, took_by


def turn(tokens: int | None, cost: str | None, *, parent: ConversationNode | None = None) -> ConversationNode:
    choice = Choice(parts=(TextPart(text="Yes."),), finish_reason=FinishReason.STOP)
    response = ChatResponse(choices=(choice,), usage=Usage(total_tokens=tokens), model="m", provider="openai")
    return ConversationNode(
        user_query="Well?",
        response=response,
        cost=None if cost is None else Decimal(cost),
        parent_id=None if parent is None else parent.id,
    )


def spending_of(**budget: int | str) -> Spending:
    return Spending(Budget.model_validate(budget), whose="conversation")


# ----------------------------------------------------------------------------------------------------------- the budget


def test_counts_below_zero_give_nothing_back() -> None:
    assert took(Usage(total_tokens=-1_000_000_000), Decimal(-5)) == Amount()
    assert took(Usage(input_tokens=-7, output_tokens=3), None) == Amount()
    spending = spending_of(tokens=100)
    spending.reserve(tokens=50, money=None).settle(Usage(total_tokens=-1_000_000_000), None)
    with pytest.raises(BudgetError):
        spending.reserve(tokens=101, money=None)


@pytest.mark.parametrize("wrong", [{"money": -1}, {"money": "NaN"}, {"money": "Infinity"}, {"tokens": -1}, {"euro": 1}])
def test_a_budget_that_cannot_be_counted_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Budget.model_validate(wrong)


def test_a_budget_round_trips_through_json() -> None:
    budget = Budget(money=Decimal("0.10"), tokens=5000)
    assert Budget.model_validate_json(budget.model_dump_json()) == budget
    assert str(Budget.model_validate_json(budget.model_dump_json()).money) == "0.10"


@pytest.mark.parametrize(
    ("usage", "cost", "expected"),
    [
        (Usage(input_tokens=3, output_tokens=4, total_tokens=8), "0.5", Amount(8, Decimal("0.5"))),
        (Usage(input_tokens=3, output_tokens=4), None, Amount(7)),
        (Usage(output_tokens=4), None, Amount(4)),
        (Usage(total_tokens=0, input_tokens=3), None, Amount(0)),
        (Usage(), None, Amount()),
    ],
)
def test_what_was_not_told_counts_as_nothing(usage: Usage, cost: str | None, expected: Amount) -> None:
    assert took(usage, None if cost is None else Decimal(cost)) == expected


HERE, THERE = (
    Origin(provider=name, dialect="openai_chat", endpoint=f"{name}.test", account="1", model="m") for name in "ab"
)


def tried(who: Origin, tokens: int | None, cost: str | None = None, *, error: str | None = "it failed") -> Attempt:
    usage, money = Usage(total_tokens=tokens), None if cost is None else Decimal(cost)
    return Attempt(endpoint=who, error=error, usage=usage, cost=money)


@pytest.mark.parametrize(
    ("tokens", "cost", "tries", "expected"),
    [
        (5, "0.5", (), Amount(5, Decimal("0.5"))),
        (5, "0.5", (tried(HERE, None, error=None),), Amount(5, Decimal("0.5"))),
        (5, "0.5", (tried(THERE, 7, "0.7"), tried(HERE, None, error=None)), Amount(12, Decimal("1.2"))),
        (5, "0.5", (tried(HERE, 7, "0.7"), tried(HERE, None, error=None)), Amount(12, Decimal("1.2"))),
        (5, "0.5", (tried(HERE, 5, "0.5"),), Amount(5, Decimal("0.5"))),  # the answer itself, broken off
        (5, "0.5", (tried(HERE, 5, None),), Amount(5, Decimal("0.5"))),  # before prices were known
        (None, "0.5", (tried(HERE, 5, "0.5"),), Amount(5, Decimal("0.5"))),  # nothing was said: only the request tells
        (5, None, (tried(HERE, 5, "0.5"), tried(THERE, 2)), Amount(7, Decimal("0.5"))),
        (None, None, (tried(THERE, 2), tried(THERE, 3)), Amount(5)),
    ],
)
def test_a_turn_takes_what_all_its_requests_took(
    tokens: int | None, cost: str | None, tries: tuple[Attempt, ...], expected: Amount
) -> None:
    node = turn(tokens, cost).model_copy(update={"origin": HERE, "tries": tries})
    assert took_by(node) == spent_by([node]) == expected
    spending = spending_of(tokens=10**6)
    spending.reserve(tokens=1, money=None).settle_turn(node)
    assert spending.spent == expected


# ------------------------------------------------------------------------------------------------------------- refusing


def test_a_call_that_takes_more_than_is_left_is_refused_with_the_numbers() -> None:
    spending = spending_of(tokens=10_000)
    spending.reserve(tokens=6_000, money=None).settle(Usage(total_tokens=7_500), None)
    with pytest.raises(BudgetError) as caught:
        spending.reserve(tokens=2_501, money=None)
    error = caught.value
    assert (error.limit, error.left, error.asked) == ("tokens", 2_500, 2_501)
    assert str(error) == (
        "the call would take about 2,501 (tokens), but of the 10,000 of the conversation's budget 2,500 is left; "
        "nothing was sent: allow more, or ask for less (max_output_tokens, a shorter window)"
    )
    assert isinstance(error, DhenaraError)
    assert not error.retryable
    assert spending.spent == Amount(7_500)
    spending.reserve(tokens=2_500, money=None)  # the last of it can be used


def test_money_is_counted_exactly_and_said_in_full() -> None:
    spending = Spending(Budget(money=Decimal("0.3")), whose="manager")
    for _ in range(2):
        spending.reserve(tokens=10**9, money=Decimal("0.1")).settle(Usage(), Decimal("0.1"))
    spending.refuse(tokens=0, money=Decimal("0.1"))
    with pytest.raises(
        BudgetError, match=r"about 0\.1000001 \(money\), .* of the 0\.3 of the manager's .* 0\.1 is left"
    ):
        spending.refuse(tokens=0, money=Decimal("0.1") + Decimal("1E-7"))
    spending.reserve(tokens=0, money=Decimal("0.0999999"))
    with pytest.raises(BudgetError, match=r"0\.0000001 is left, and 0\.0999999 held for calls under way"):
        spending.reserve(tokens=0, money=Decimal("0.1"))


@pytest.mark.parametrize("budget", [{"tokens": 100}, {"money": "0.5"}, {"tokens": 100, "money": "0.5"}])
def test_when_nothing_is_left_a_call_of_unknown_size_is_refused_too(budget: dict[str, int | str]) -> None:
    spending = spending_of(**budget)
    spending.reserve(tokens=0, money=None).settle(Usage(total_tokens=100), Decimal("0.5"))
    with pytest.raises(BudgetError) as caught:
        spending.reserve(tokens=0, money=None)
    assert (caught.value.left, caught.value.asked) == (0, 0)


@pytest.mark.parametrize("budget", [{"tokens": 0}, {"money": 0}])
def test_a_budget_of_nothing_refuses_every_call(budget: dict[str, int | str]) -> None:
    with pytest.raises(BudgetError):
        spending_of(**budget).refuse(tokens=0, money=None)


def test_without_a_budget_nothing_is_refused_and_everything_is_counted() -> None:
    spending = spending_of()
    for _ in range(3):
        spending.reserve(tokens=10**12, money=Decimal(10**12)).settle(Usage(total_tokens=10**12), Decimal(10**12))
    assert spending.spent == Amount(3 * 10**12, Decimal(3 * 10**12))


def test_an_answer_longer_than_expected_overdraws_and_the_next_call_is_refused() -> None:
    spending = spending_of(tokens=100)
    spending.reserve(tokens=10, money=None).settle(Usage(total_tokens=130), None)
    with pytest.raises(BudgetError) as caught:
        spending.refuse(tokens=1, money=None)
    assert caught.value.left == -30


# ----------------------------------------------------------------------------------------------------------- under way


class Slow(int):
    """A number that takes its time to be compared, so that other threads run meanwhile."""

    def __le__(self, other: int) -> bool:
        time.sleep(0.001)
        return super().__le__(other)


def test_of_many_calls_at_once_only_those_pass_that_the_budget_has_room_for() -> None:
    spending, start = spending_of(tokens=1000, money="1"), threading.Barrier(8)

    def call(_number: int) -> list[Reservation]:
        start.wait()
        passed: list[Reservation] = []
        for _ in range(10):
            with suppress(BudgetError):
                passed.append(spending.reserve(tokens=Slow(30), money=Decimal("0.01")))
        return passed

    def settle(reservation: Reservation) -> None:
        reservation.settle(Usage(total_tokens=20), Decimal("0.005"))

    with ThreadPoolExecutor(8) as pool:
        passed = [reservation for calls in pool.map(call, range(8)) for reservation in calls]
    assert len(passed) == 33
    assert spending.spent == Amount()
    with ThreadPoolExecutor(8) as pool:  # each is settled twice, by different threads
        list(pool.map(settle, [*passed, *passed]))
    assert spending.spent == Amount(660, Decimal("0.165"))
    spending.reserve(tokens=340, money=Decimal("0.835"))


def test_a_call_that_failed_gives_back_what_it_did_not_take() -> None:
    spending = spending_of(tokens=100)
    spending.reserve(tokens=100, money=None).release()
    broken_off = spending.reserve(tokens=100, money=None)
    broken_off.settle(Usage(input_tokens=20, output_tokens=5), None)
    broken_off.release()
    assert spending.spent == Amount(25)
    with pytest.raises(BudgetError):
        spending.refuse(tokens=76, money=None)
    spending.refuse(tokens=75, money=None)


def test_asking_reserves_nothing() -> None:
    spending = spending_of(tokens=100)
    for _ in range(3):
        spending.refuse(tokens=100, money=None)
    spending.reserve(tokens=100, money=None)


CALLS = st.lists(st.tuples(st.integers(-5, 60), st.integers(0, 90) | st.none(), st.integers(0, 5)), max_size=40)


@given(CALLS, st.integers(0, 300))
def test_what_is_spent_and_reserved_is_within_the_budget_but_for_what_was_underestimated(
    calls: list[tuple[int, int | None, int]], budget: int
) -> None:
    spending, under_way = spending_of(tokens=budget), list[tuple[Reservation, int, int | None]]()
    spent = over = 0
    for asked, took_really, finish in calls:
        room = budget - spent - sum(max(0, held) for _, held, _ in under_way)
        try:
            under_way.append((spending.reserve(tokens=asked, money=None), asked, took_really))
        except BudgetError as refused:
            assert refused.left == room
            assert room <= 0 or asked > room
        else:
            assert room > 0
            assert asked <= room
        for reservation, held, really in under_way[:finish]:
            reservation.settle(Usage(total_tokens=really), None)
            spent += really or 0
            over += max(0, (really or 0) - max(0, held))
        del under_way[:finish]
        assert spending.spent.tokens == spent <= budget + over


# -------------------------------------------------------------------------------------------------------- conversations


def test_what_a_conversation_spent_is_what_its_turns_took() -> None:
    conversation = Conversation(nodes=[turn(100, "0.01"), turn(None, None)])
    spending = Spending(Budget(tokens=250), whose="conversation", conversation=conversation)
    assert spending.spent == spent_by(conversation.nodes) == Amount(100, Decimal("0.01"))
    reservation = spending.reserve(tokens=150, money=None)
    node = turn(120, "0.02", parent=conversation.head)
    conversation.append(node)
    with pytest.raises(BudgetError):  # counted twice for a moment, rather than not at all
        spending.refuse(tokens=1, money=None)
    reservation.settle(node.usage, node.cost)
    assert spending.spent == Amount(220, Decimal("0.03"))
    spending.refuse(tokens=30, money=None)


def test_turns_that_somebody_else_added_and_those_of_other_branches_count_too() -> None:
    first = turn(100, "0.01")
    conversation = Conversation(nodes=[first])
    spending = Spending(Budget(tokens=250), whose="conversation", conversation=conversation)
    spending.refuse(tokens=150, money=None)
    conversation.append(turn(90, None, parent=first))
    conversation.checkout(first.id)
    with pytest.raises(BudgetError) as caught:
        spending.reserve(tokens=61, money=None)
    assert caught.value.left == 60
    failed = ConversationNode(user_query="And?", parent_id=first.id, status="failed")
    conversation.append(failed)
    assert spending.spent == Amount(190, Decimal("0.01"))


def test_turns_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []

    def usage(node: ConversationNode) -> Usage:
        looked.append(node.id)
        return Usage(total_tokens=1)

    monkeypatch.setattr(ConversationNode, "usage", property(usage))
    conversation = Conversation(nodes=[turn(1, None) for _ in range(50)])
    spending = Spending(Budget(), whose="conversation", conversation=conversation)
    for _ in range(10):
        spending.refuse(tokens=1, money=None)
    conversation.append(turn(1, None))
    assert spending.spent.tokens == 51
    assert looked == [node.id for node in conversation.nodes]


def test_spending_does_not_keep_its_conversation_alive() -> None:
    conversation = Conversation(nodes=[turn(100, None)])
    spending = Spending(Budget(tokens=100), whose="conversation", conversation=conversation)
    assert spending.spent.tokens == 100
    alive = ref(conversation)
    del conversation
    gc.collect()
    assert alive() is None
    assert spending.spent.tokens == 100


def test_a_budget_is_a_plain_value_and_spending_shows_its_numbers() -> None:
    budget = Budget(tokens=5)
    assert pickle.loads(pickle.dumps(budget)) == budget  # noqa: S301 - our own bytes
    assert repr(Spending(budget, whose="manager")) == ("Spending(Budget(tokens=5), whose='manager', tokens=0, money=0)")
