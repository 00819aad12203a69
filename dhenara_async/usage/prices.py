"""The cost of a call, by the provider's list prices or by the caller's own rates.

List prices come from ``genai-prices`` (the extra ``prices``), which is loaded when first needed and takes about half a
second. Nothing here uses the network; prices are as new as the installed package.

Source: https://github.com/pydantic/genai-prices (read 2026-11-22)
"""

from collections.abc import Sequence
from contextlib import suppress
from decimal import Decimal, localcontext
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from sys import modules
from typing import Annotated

from pydantic import Field

from dhenara_async.frozen import FrozenModel
from dhenara_async.usage.tokens import Usage

_PACKAGE = "genai_prices"
_MILLION = Decimal(1_000_000)

# Our provider names with a price list, and their names in genai-prices.
_LISTS = {
    "openai": "openai",
    "anthropic": "anthropic",
    "google_ai": "google",
    "deepseek": "deepseek",
    "groq": "groq",
    "mistral": "mistral",
    "xai": "x-ai",
    "openrouter": "openrouter",
    "together": "together",
    "fireworks": "fireworks",
    "cerebras": "cerebras",
}

Rate = Annotated[Decimal, Field(ge=0, allow_inf_nan=False)]


class Rates(FrozenModel):
    """Prices per million tokens, in a currency of the caller's choice.

    Attributes:
        input: Prompt tokens without a rate of their own below.
        output: Generated tokens without a rate of their own below.
        cache_read: Prompt tokens read from a cache; None = ``input``.
        cache_write: Prompt tokens written to a cache; None = ``input``.
        cache_write_1h: Prompt tokens cached for one hour; None = ``cache_write``.
        reasoning: Reasoning tokens; None = ``output``.
        input_audio: Uncached audio tokens of the prompt; None = ``input``.
        output_audio: Generated audio tokens; None = ``output``.
        web_search: One search by the provider (not a million).
    """

    input: Rate
    output: Rate
    cache_read: Rate | None = None
    cache_write: Rate | None = None
    cache_write_1h: Rate | None = None
    reasoning: Rate | None = None
    input_audio: Rate | None = None
    output_audio: Rate | None = None
    web_search: Rate = Decimal(0)

    def price(self, usage: Usage) -> Decimal | None:
        """Return the price of ``usage``; None if input or output is unknown, or the numbers contradict each other."""
        if usage.input_tokens is None or usage.output_tokens is None:
            return None
        spent = [*self._of_input(usage.input_tokens, usage), *self._of_output(usage.output_tokens, usage)]
        if any(tokens < 0 for tokens, _rate in spent):
            return None
        with localcontext(prec=50):  # no rounding, whatever the caller's decimal context is
            total = sum((rate * tokens for tokens, rate in spent), Decimal(0)) / _MILLION
            return total + self.web_search * (usage.web_searches or 0)

    def _of_input(self, tokens: int, usage: Usage) -> list[tuple[int, Decimal]]:
        read, written, hour = (
            usage.cache_read_tokens or 0,
            usage.cache_write_tokens or 0,
            usage.cache_write_1h_tokens or 0,
        )
        fresh = tokens - read - written
        # the cached share of the audio is not reported: cached tokens are priced by the cache's rate
        audio = min(usage.input_audio_tokens or 0, max(fresh, 0))
        write_rate = _first(self.cache_write, self.input)
        return [
            (fresh - audio, self.input),
            (audio, _first(self.input_audio, self.input)),
            (read, _first(self.cache_read, self.input)),
            (written - hour, write_rate),
            (hour, _first(self.cache_write_1h, write_rate)),
        ]

    def _of_output(self, tokens: int, usage: Usage) -> list[tuple[int, Decimal]]:
        thought, audio = usage.reasoning_tokens or 0, usage.output_audio_tokens or 0
        return [
            (tokens - thought - audio, self.output),
            (thought, _first(self.reasoning, self.output)),
            (audio, _first(self.output_audio, self.output)),
        ]


class Pricing(FrozenModel):
    """How the cost of an endpoint's calls is computed.

    Attributes:
        rates: Your rates instead of the provider's list prices, by contract or for your own host; None = list prices.
        mark_up: Mark-up for your own customers, as a share of the cost (0.2 = 20 % more).
        price_list: Your own customers' prices, independent of the cost and without ``mark_up``; None = cost with
            ``mark_up``.
    """

    rates: Rates | None = None
    mark_up: Annotated[Decimal, Field(gt=-1, allow_inf_nan=False)] = Decimal(0)
    price_list: Rates | None = None

    def charge(self, usage: Usage, cost: Decimal | None) -> Decimal | None:
        """Return your customer's price for ``usage`` with cost ``cost``; None if it is unknown."""
        if self.price_list is not None:
            return self.price_list.price(usage)
        return None if cost is None else cost * (1 + self.mark_up)


def installed() -> bool:
    """Whether the extra ``prices`` is installed; loads nothing."""
    if _PACKAGE in modules:
        return bool(modules[_PACKAGE])  # None blocks the import
    return _is_found()


@cache
def _is_found() -> bool:
    return find_spec(_PACKAGE) is not None


def loaded() -> bool:
    """Whether the list prices are loaded."""
    return hasattr(modules.get(_PACKAGE), "calc_price")  # False while a thread is still importing the package


def load() -> None:
    """Load the list prices if the extra ``prices`` is installed; takes about half a second the first time."""
    with suppress(ImportError):
        import_module(_PACKAGE)


def listable(usage: Usage, provider: str) -> bool:
    """Whether ``usage`` may have a list price at ``provider`` (an ``AIModelAPIProviderEnum`` value)."""
    return provider in _LISTS and usage.input_tokens is not None and usage.output_tokens is not None


def list_price(usage: Usage, *, provider: str, models: Sequence[str]) -> Decimal | None:
    """Return the price of ``usage`` in US dollars, by the provider's list prices of today.

    Args:
        usage: The token usage.
        provider: The answering provider, an ``AIModelAPIProviderEnum`` value.
        models: The possible ids of the model in the price list, likeliest first.

    Returns:
        None for a provider or model without a price, for unknown or contradictory usage, and without the extra
        ``prices``: a call that is paid for must not fail at its price.
    """
    if not listable(usage, provider):
        return None
    try:
        import genai_prices
    except ImportError:
        return None
    for model in models:
        try:
            spent = genai_prices.Usage(**_listed_usage(usage))
            return genai_prices.calc_price(spent, model, provider_id=_LISTS[provider]).total_price
        except LookupError:
            continue  # try the next id
        except (ValueError, ArithmeticError, Warning):
            return None  # the numbers contradict each other, or are too few for this model's prices
    return None


def _listed_usage(usage: Usage) -> dict[str, int | None]:
    return {
        "input_tokens": usage.input_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "cache_write_5m_tokens": usage.cache_write_5m_tokens,
        "cache_write_1h_tokens": usage.cache_write_1h_tokens,
        "input_audio_tokens": usage.input_audio_tokens,
        "output_tokens": usage.output_tokens,
        "output_reasoning_tokens": usage.reasoning_tokens,
        "output_audio_tokens": usage.output_audio_tokens,
        "web_searches": usage.web_searches,
    }


def _first(rate: Decimal | None, otherwise: Decimal) -> Decimal:
    return otherwise if rate is None else rate
