"""What a call costs: by the provider's list prices, or by rates of the caller's own.

List prices come from ``genai-prices`` (the extra ``prices``), which is loaded by the first question for one: it takes
about half a second. Nothing here asks the network; prices are as new as the installed package.

Source: https://github.com/pydantic/genai-prices (read 2026-11-22)
"""

from collections.abc import Sequence
from contextlib import suppress
from decimal import Decimal, localcontext
from importlib import import_module
from sys import modules
from typing import Annotated

from pydantic import Field

from dhenara_async.errors import ConfigurationError
from dhenara_async.frozen import FrozenModel
from dhenara_async.usage.tokens import Usage

_PACKAGE = "genai_prices"
_MILLION = Decimal(1_000_000)

# Our names for hosts that have a price list, in its own words.
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
    """Prices per million tokens, in whatever currency the caller counts in.

    Attributes:
        input: Prompt tokens that no other rate is for.
        output: Generated tokens.
        cache_read: Prompt tokens read from a cache; None = like ``input``.
        cache_write: Prompt tokens written to a cache; None = like ``input``.
        cache_write_1h: Those that are kept for an hour; None = like ``cache_write``.
        reasoning: Generated tokens that were reasoning; None = like ``output``.
        input_audio: Prompt tokens that were audio and not cached; None = like ``input``.
        output_audio: Generated tokens that were audio; None = like ``output``.
        web_search: One search the provider ran (not a million).
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
        """What ``usage`` costs; None where input or output was not told, or the numbers contradict each other."""
        if usage.input_tokens is None or usage.output_tokens is None:
            return None
        spent = [*self._of_input(usage.input_tokens, usage), *self._of_output(usage.output_tokens, usage)]
        if any(tokens < 0 for tokens, _rate in spent):
            return None
        with localcontext(prec=50):  # no rate is rounded, whatever precision the caller's own sums have
            total = sum((rate * tokens for tokens, rate in spent), Decimal(0)) / _MILLION
            return total + self.web_search * (usage.web_searches or 0)

    def _of_input(self, tokens: int, usage: Usage) -> list[tuple[int, Decimal]]:
        read, written, hour = (
            usage.cache_read_tokens or 0,
            usage.cache_write_tokens or 0,
            usage.cache_write_1h_tokens or 0,
        )
        fresh = tokens - read - written
        # how much of the audio was cached is not told: what is not fresh goes by the cache's rate
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
    """How the calls of an endpoint are counted in money.

    Attributes:
        rates: What the provider takes, instead of its list prices: a contract's, or those of a host of your own.
        mark_up: What is laid on top for your own customers, as a share of the cost (0.2 = a fifth more).
        price_list: What your own customers pay, whatever it costs you; ``mark_up`` is not laid on top of it.
    """

    rates: Rates | None = None
    mark_up: Annotated[Decimal, Field(gt=-1, allow_inf_nan=False)] = Decimal(0)
    price_list: Rates | None = None

    def charge(self, usage: Usage, cost: Decimal | None) -> Decimal | None:
        """What your customer pays for ``usage`` that cost you ``cost``; None where that cannot be told."""
        if self.price_list is not None:
            return self.price_list.price(usage)
        return None if cost is None else cost * (1 + self.mark_up)


def loaded() -> bool:
    """Whether a question for a list price is answered at once."""
    return hasattr(modules.get(_PACKAGE), "calc_price")  # not while a thread is still at it


def load() -> None:
    """Load the list prices, where the extra for them is installed; takes about half a second the first time."""
    with suppress(ImportError):
        import_module(_PACKAGE)


def listable(usage: Usage, provider: str) -> bool:
    """Whether a list price can be known for ``usage`` at ``provider`` (an ``AIModelAPIProviderEnum`` value)."""
    return provider in _LISTS and usage.input_tokens is not None and usage.output_tokens is not None


def list_price(usage: Usage, *, provider: str, models: Sequence[str]) -> Decimal | None:
    """What ``usage`` costs in US dollars by the provider's list prices of today.

    Args:
        usage: What was spent.
        provider: Who answered, as an ``AIModelAPIProviderEnum`` value.
        models: The ids the model may be listed under, the likeliest first.

    Returns:
        None for a provider or model without a price, and for usage that was not told or that no price can be put on.

    Raises:
        ConfigurationError: The extra ``prices`` is not installed.
    """
    if not listable(usage, provider):
        return None
    try:
        import genai_prices
    except ImportError as exc:
        raise ConfigurationError(
            "list prices need the extra: pip install 'dhenara-async[prices]'; or give the endpoint Pricing(rates=…)"
        ) from exc
    for model in models:
        try:
            spent = genai_prices.Usage(**_listed_words(usage))
            return genai_prices.calc_price(spent, model, provider_id=_LISTS[provider]).total_price
        except LookupError:
            continue  # perhaps under the next id
        except (ValueError, ArithmeticError, Warning):
            return None  # the numbers contradict each other, or say too little for this model's prices
    return None


def _listed_words(usage: Usage) -> dict[str, int | None]:
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
