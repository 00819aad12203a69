"""A hop that is only tried out: what it would lose, take and cost, without a network."""

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
    """The report of a hop that was not made, and what else can be told of it beforehand.

    Attributes:
        input_tokens: About how many tokens the prompt would take; a coarse estimate from its size.
        context_window: How many the model has room for, its answer included; None = not known.
        price: About what the prompt alone would cost, by the endpoint's own rates, else in US dollars by the provider's
            list prices; None where neither is known. Loading the list prices takes half a second, once.
        warnings: Knobs that would be ignored or changed.
    """

    input_tokens: int
    context_window: int | None = None
    price: Decimal | None = None
    warnings: tuple[CallWarning, ...] = Field(default=())

    @property
    def fits(self) -> bool | None:
        """Whether the prompt leaves room for an answer, as far as the estimate goes; None where that is not known."""
        return None if self.context_window is None else self.input_tokens < self.context_window

    @property
    def report(self) -> ConversionReport:
        """The report alone."""
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
        """Weigh a request that was formatted and encoded.

        Args:
            request: What ``endpoint`` would be asked.
            report: What became of its history.
            endpoint: Who would be asked.
            warnings: What became of its knobs.
            question: What stood in for a question, because none is known yet; None if one is.
        """
        messages = request.messages if question is None else _without_the_last_part(request.messages)
        tokens = estimate_messages(messages, request.instructions, request.config.tools)
        return cls.unchecked(
            entries=report.entries,
            parts=report.parts,
            input_tokens=tokens,
            context_window=endpoint.ai_model.context_window,
            price=expected_price(tokens, 0, endpoint),
            warnings=warnings,
        )


def _without_the_last_part(messages: Sequence[Message]) -> tuple[Message, ...]:
    """``messages`` without the stand-in for a question, which may have become part of what was said before it."""
    *before, last = messages
    left = last.parts[:-1]
    return (*before, last.changed(parts=left)) if left else tuple(before)


def expected_price(input_tokens: int, output_tokens: int, endpoint: AIModelEndpoint) -> Decimal | None:
    """About what a call costs by the endpoint's own rates, else by the provider's list prices; None if unknown."""
    usage = Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        total_tokens=input_tokens + output_tokens,
        source="estimated",
    )
    if endpoint.pricing.rates is not None:
        return endpoint.pricing.rates.price(usage)
    prices.load()
    if not prices.loaded():  # the extra for them is not installed
        return None
    return prices.list_price(usage, provider=str(endpoint.api.provider), models=[endpoint.ai_model.model_name])
