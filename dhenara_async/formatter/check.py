"""Checks a conversion without sending it: its losses, token estimate and price, without a network."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Self

from pydantic import Field

from dhenara_async.endpoint import AIModelEndpoint
from dhenara_async.formatter.conversion import ConversionReport
from dhenara_async.formatter.window import estimate_messages
from dhenara_async.messages.messages import Message
from dhenara_async.request import ChatRequest
from dhenara_async.response import CallWarning
from dhenara_async.usage import prices
from dhenara_async.usage.tokens import Usage


class ConversionCheck(ConversionReport):
    """The conversion report of a call that was not sent, with estimates.

    Attributes:
        input_tokens: Estimated tokens of the prompt, from its size.
        context_window: The model's maximum tokens of prompt and answer; None if unknown.
        price: Estimated price of the prompt alone, by the endpoint's own rates, else in US dollars by the provider's
            list prices; None if unknown. Loading the list prices takes half a second, once.
        warnings: Settings that would be dropped or adjusted.
    """

    input_tokens: int
    context_window: int | None = None
    price: Decimal | None = None
    warnings: tuple[CallWarning, ...] = Field(default=())

    @property
    def fits(self) -> bool | None:
        """Whether the estimated prompt is smaller than the context window; None if the window is unknown."""
        return None if self.context_window is None else self.input_tokens < self.context_window

    @property
    def report(self) -> ConversionReport:
        """The conversion report without the estimates."""
        return ConversionReport.unchecked(entries=self.entries, parts=self.parts)

    @classmethod
    def of(
        cls,
        request: ChatRequest,
        report: ConversionReport,
        endpoint: AIModelEndpoint,
        *,
        warnings: tuple[CallWarning, ...],
        question: Message | None,
    ) -> Self:
        """Build the check of a formatted and encoded request.

        Args:
            request: The request.
            report: The conversion report of its history.
            endpoint: The target.
            warnings: The warnings of its encoding.
            question: The placeholder question, if no question was given; else None.
        """
        messages = request.messages if question is None else _without_the_last_part(request.messages)
        tokens = estimate_messages(messages, request.instructions, request.config.declared_tools)
        return cls.unchecked(
            entries=report.entries,
            parts=report.parts,
            input_tokens=tokens,
            context_window=endpoint.ai_model.context_window,
            price=expected_price(tokens, 0, endpoint),
            warnings=warnings,
        )


def _without_the_last_part(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Return ``messages`` without the placeholder question, which may have been merged into the message before it."""
    *before, last = messages
    left = last.parts[:-1]
    return (*before, last.changed(parts=left)) if left else tuple(before)


def expected_price(input_tokens: int, output_tokens: int, endpoint: AIModelEndpoint) -> Decimal | None:
    """Estimate a call's cost by the endpoint's own rates, else by the provider's list prices; None if unknown."""
    usage = Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        total_tokens=input_tokens + output_tokens,
        source="estimated",
    )
    if endpoint.pricing.rates is not None:
        return endpoint.pricing.rates.price(usage)
    prices.load()
    if not prices.loaded():  # the extra ``prices`` is not installed
        return None
    return prices.list_price(usage, provider=str(endpoint.api.provider), models=[endpoint.ai_model.model_name])
