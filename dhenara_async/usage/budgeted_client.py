"""``ClientWithBudget``: a client whose calls reserve and spend a manager's budget, as its turns do."""

from decimal import Decimal

from dhenara_async.calls.input import CallInput
from dhenara_async.calls.stream import ResponseStream
from dhenara_async.client import AIModelClient
from dhenara_async.conversation import ConversationNode
from dhenara_async.endpoint import AIModelEndpoint
from dhenara_async.formatter.check import expected_price
from dhenara_async.plans.targets import expected
from dhenara_async.response import AIModelCallResponse
from dhenara_async.turns.keeping import counted
from dhenara_async.usage.budget import Reservation, Spending


class ClientWithBudget(AIModelClient):
    """A client that reserves the expected tokens and cost of each call, and settles them when the call ends.

    Attributes:
        spending: The budget; None = calls are not counted.
    """

    spending: Spending | None = None

    def open(self, call: CallInput, *, ends_with_reader: bool = False) -> ResponseStream:
        """See ``AIModelClient``."""
        stream = super().open(call, ends_with_reader=ends_with_reader)
        if self.spending is not None:
            bracket = _Bracket(self, self.spending, call)
            stream.bracket(bracket.enter, bracket.leave)
        return stream

    def expected(self, call: CallInput) -> tuple[int, Decimal | None]:
        """Estimate the tokens and the cost of a call, with the longest answer that its config allows."""

        def of(endpoint: AIModelEndpoint) -> tuple[int, Decimal | None]:
            output_tokens = call.config.max_output_tokens or 0
            input_tokens = call.check(endpoint, self._policy).input_tokens
            return input_tokens + output_tokens, expected_price(input_tokens, output_tokens, endpoint)

        return expected(self.model_endpoint, call.routing_context(), of)


class _Bracket:
    """Reserves when a stream is entered and settles when it is closed."""

    def __init__(self, client: ClientWithBudget, spending: Spending, call: CallInput) -> None:
        self._client = client
        self._spending = spending
        self._call = call
        self._reserved: Reservation | None = None

    def enter(self) -> None:
        tokens, money = self._client.expected(self._call)
        self._reserved = self._spending.reserve(tokens=tokens, money=money)

    async def leave(self, came: AIModelCallResponse) -> None:
        reserved, self._reserved = self._reserved, None
        if reserved is None:
            return
        cost = None
        try:
            cost, _ = await counted(came)
        finally:
            reserved.settle_turn(
                ConversationNode(response=came.chat_response, origin=came.endpoint, tries=came.tries, cost=cost)
            )
