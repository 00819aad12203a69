"""``ObservedEndpoint``: reports one endpoint of a call, and its attempts, to the observers of the call."""

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace

from dhenara_async.calls.observed import ObservedCall, entered, report
from dhenara_async.calls.records import (
    AttemptEnded,
    AttemptStarted,
    CallContent,
    EndpointEnded,
    EndpointOutcome,
    EndpointStarted,
)
from dhenara_async.events import StreamEnd, StreamEvent, StreamReset, StreamStart
from dhenara_async.formatter.conversion import ConversionReport
from dhenara_async.messages.messages import Origin
from dhenara_async.request import ChatRequest
from dhenara_async.response import CallWarning, FinishReason
from dhenara_async.usage.tokens import Usage

NOWHERE: AbstractContextManager[object] = nullcontext()
logger: logging.Logger = logging.getLogger("dhenara_async")


class ObservedEndpoint:
    """Reports one endpoint of a call: its start before anything is sent, its attempts, and its end, each once.

    Args:
        call: Reports the call.

    Attributes:
        adds_headers: Whether any observer adds headers to requests.
    """

    __slots__ = (
        "_attempt",
        "_attempts",
        "_call",
        "_ended",
        "_finish_reasons",
        "_first_content",
        "_model",
        "_number",
        "_response_id",
        "_sent_at",
        "_started_at",
        "adds_headers",
    )

    def __init__(self, call: ObservedCall) -> None:
        self._call = call
        self.adds_headers: bool = call.adds_headers
        self._number = 0  # until it has started
        self._started_at = self._sent_at = 0.0
        self._attempt: AttemptStarted | None = None  # whose end has not been reported
        self._attempts = 0
        self._ended = False
        self._model: str | None = None
        self._response_id: str | None = None
        self._finish_reasons: tuple[FinishReason, ...] = ()
        self._first_content: float | None = None

    def start(
        self, endpoint: Origin, request: ChatRequest, warnings: tuple[CallWarning, ...], conversion: ConversionReport
    ) -> None:
        """Report that the endpoint is about to be asked, unless that was reported.

        Args:
            endpoint: The endpoint.
            request: The request.
            warnings: Options that were left out or changed for it.
            conversion: The report on the conversion of the history.
        """
        if self._number:
            return
        call, self._number = self._call, self._call.next_endpoint()
        self._started_at = call.clock()
        compacted = any(entry.code == "truncated" for entry in conversion.entries)
        record = EndpointStarted(call.id, self._number, endpoint, request.config, warnings, compacted, None)
        if not call.wants_content:
            report([observer.endpoint_started for observer in call.observers], record)
            return
        content = CallContent(request.messages, request.instructions, tuple(request.config.tools))
        for observer in call.observers:
            given = replace(record, content=content) if observer.wants_content else record
            report([observer.endpoint_started], given)

    def start_attempt(self, endpoint: Origin) -> None:
        """Report that a request is about to be sent, unless one is under way."""
        if self._attempt is not None:
            return
        call = self._call
        self._attempts += 1
        record = self._attempt = AttemptStarted(call.id, endpoint, call.next_attempt(), self._number)
        report([observer.attempt_started for observer in call.observers], record)
        self._sent_at = call.clock()

    def headers(self) -> dict[str, str]:
        """Return the headers that observers add to the current request."""
        added: dict[str, str] = {}
        for observer in self._call.observers:
            if self._attempt is not None and observer.adds_headers:
                try:
                    added |= observer.request_headers(self._attempt)
                except Exception:  # an observer never breaks a call
                    logger.exception("an observer failed at request_headers; the call continues")
        return added

    def sending(self) -> AbstractContextManager[object]:
        """Return the context in which the current request is sent: those of the observers, entered already."""
        attempt = self._attempt
        if attempt is None or not self._call.surrounds:
            return NOWHERE
        with ExitStack() as stack:
            for observer in self._call.surrounds:
                entered(stack, observer.around_request, attempt)
            return stack.pop_all()

    def receive(self, events: Sequence[StreamEvent], *, content: bool) -> None:
        """Note what the first and the last events of an answer tell.

        Args:
            events: The events of one step.
            content: Whether the first content of the answer is among them.
        """
        if content and self._first_content is None:
            self._first_content = self._call.clock() - self._started_at
        for event in events:
            start = event.start if isinstance(event, StreamReset) else event
            if isinstance(start, StreamStart):
                self._model, self._response_id = start.model, start.response_id
            elif isinstance(event, StreamEnd):
                self._model = event.model or self._model
                self._response_id = event.response_id or self._response_id
                reasons = tuple(choice.finish_reason for choice in event.choices)
                self._finish_reasons = reasons or (event.finish_reason,)

    def end_attempt(
        self,
        *,
        request_id: str | None,
        status: int | None,
        error: BaseException | None,
        usage: Usage | None,
    ) -> None:
        """Report that the current request has ended, if there is one."""
        started, self._attempt = self._attempt, None
        if started is None:
            return
        seconds = self._call.clock() - self._sent_at
        record = AttemptEnded(
            started.call_id,
            started.endpoint,
            started.number,
            request_id,
            status,
            error,
            usage,
            seconds,
            started.asked,
        )
        report([observer.attempt_ended for observer in self._call.observers], record)

    def end(
        self,
        endpoint: Origin,
        *,
        outcome: EndpointOutcome,
        request_id: str | None,
        status: int | None,
        error: BaseException | None,
        usage: Usage | None,
    ) -> None:
        """Report that the endpoint's answer has ended, unless it did not start or that was reported."""
        if not self._number or self._ended:
            return
        self._ended = True
        record = EndpointEnded(
            self._call.id,
            self._number,
            endpoint,
            outcome,
            request_id,
            status,
            self._attempts,
            error,
            usage,
            self._model,
            self._response_id,
            self._finish_reasons if outcome == "complete" else (),
            self._first_content,
            self._call.clock() - self._started_at,
        )
        report([observer.endpoint_ended for observer in self._call.observers], record)
