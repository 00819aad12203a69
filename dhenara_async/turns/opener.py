"""``TurnOpener``: opens the stream of a turn, after a summary or a long history is ready."""

from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal

import anyio.to_thread

from dhenara_async.calls.input import CallInput, History
from dhenara_async.calls.stream import ResponseStream
from dhenara_async.client import AIModelClient
from dhenara_async.conversation import ConversationNode
from dhenara_async.endpoint import AIModelEndpoint
from dhenara_async.errors import DhenaraError
from dhenara_async.formatter.check import expected_price
from dhenara_async.formatter.conversion import ConversionPolicy
from dhenara_async.formatter.window import Summarise, fit
from dhenara_async.plans.targets import Experiment, Failover, Race, Router, endpoints, expected

LONG_TURNS = 100
"""From this many turns on a history is formatted in a thread: a thousand take a tenth of a second when they are new."""


@dataclass(frozen=True, slots=True)
class TurnOpener:
    """Opens the stream of a turn: at once, after a summary of the turns beyond the window, or after a long history was
    formatted in a thread.

    Attributes:
        client: Makes the call.
        call: The question and its history.
        draft: The turn as far as it is known.
        summaries: The summary of this conversation, by the id of the newest turn in it.
        policy: The conversion policy of the history.
        ends_with_reader: See ``ResponseStream``.
    """

    client: AIModelClient
    call: CallInput
    draft: ConversationNode
    summaries: dict[str, str]
    policy: ConversionPolicy | None
    ends_with_reader: bool = False

    def open_now(self) -> ResponseStream | None:
        """Open the stream; None if a summary has to be made, or a long history formatted, first."""
        if self._long_history_endpoints():
            return None
        summarise, trimmed = self._summarise, self._trimmed()
        if summarise is None or not trimmed:
            return self._open(None)
        summary = self.summaries.get(trimmed[-1].id)
        return None if summary is None else self._open(summary)

    async def format_ahead(self) -> None:
        """Format a long history in a thread; the formatter caches the result for the call."""
        if self._long_history_endpoints():
            await anyio.to_thread.run_sync(self._format)

    async def open_summarised(self) -> ResponseStream:
        """Open the stream, with a summary of the turns beyond the window."""
        summarise, trimmed = self._summarise, self._trimmed()
        if summarise is None or not trimmed:
            return self._open(None)
        summary = self.summaries.get(trimmed[-1].id)
        if summary is None:
            words = summarise(trimmed)
            summary = words if isinstance(words, str) else await words
            self.summaries.clear()
            self.summaries[trimmed[-1].id] = summary
        return self._open(summary)

    def expected(self) -> tuple[int, Decimal | None]:
        """Estimate the tokens and the cost of the turn, with the longest answer that its config allows.

        Raises:
            DhenaraError: No endpoint can be asked.
        """
        return expected(self.client.model_endpoint, self.call.routing_context(), self._expected_of)

    def _expected_of(self, endpoint: AIModelEndpoint) -> tuple[int, Decimal | None]:
        output_tokens = self.call.config.max_output_tokens or 0
        input_tokens = self.call.check(endpoint, self.policy).input_tokens
        return input_tokens + output_tokens, expected_price(input_tokens, output_tokens, endpoint)

    def _long_history_endpoints(self) -> list[AIModelEndpoint]:
        """The endpoints that a long history has to be formatted for, as far as they are known; empty if it is short."""
        if len(self.history.nodes) < LONG_TURNS:
            return []
        match self.client.model_endpoint:
            case AIModelEndpoint() as endpoint:
                return [endpoint]
            case Race() as race:
                return list(endpoints(race))
            case Failover() as failover:
                return list(endpoints(failover))[:1]
            case Router() | Experiment():  # the choice is the caller's own code, which is asked once
                return []

    def _format(self) -> None:
        for endpoint in self._long_history_endpoints():
            with suppress(DhenaraError):  # raised again by the call itself
                self.call.formatted(endpoint, self.policy)

    @property
    def history(self) -> History:
        """The turns before this one."""
        return self.call.history or History(())

    @property
    def _summarise(self) -> Summarise | None:
        window = self.history.window
        return None if window is None else window.summarise

    def _trimmed(self) -> tuple[ConversationNode, ...]:
        """The turns beyond the window."""
        history = self.history
        if history.window is None:
            return ()
        return fit(history.nodes, history.window, answers_calls=bool(self.draft.tool_results)).trimmed

    def _open(self, summary: str | None) -> ResponseStream:
        if self.call.history is None:  # its messages are the whole conversation
            return self.client.open(self.call, ends_with_reader=self.ends_with_reader)
        call = replace(self.call, history=replace(self.history, summary=summary))
        return self.client.open(call, ends_with_reader=self.ends_with_reader)
