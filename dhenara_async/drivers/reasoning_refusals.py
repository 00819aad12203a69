"""Recognizes errors that blame the reasoning of the history: the call can succeed without that reasoning.

Each dialect's folder lists its own errors in ``refusals.py``: by code where the provider has one for the case, else by
a message that is always the same. Any other error would come back for a request without reasoning. An error is compared
with the lists of all dialects, because gateways pass on the errors of the API behind them.
"""

import re
from functools import cache
from importlib import import_module

from dhenara_async.endpoint import Dialect
from dhenara_async.errors import APIError


def refuses_reasoning(error: APIError) -> bool:
    """Whether the provider refused a request because of reasoning in its history, or because reasoning is missing."""
    if error.status != 400:
        return False
    codes, messages = _refusals()
    return error.code in codes or messages.search(str(error).replace("`", "")) is not None


@cache
def _refusals() -> tuple[frozenset[str], re.Pattern[str]]:
    """Return the error codes and the messages of all dialects, read on the first refused request."""
    codes: set[str] = set()
    messages: list[str] = []
    for dialect in Dialect:
        listed = import_module(f"dhenara_async.drivers.{dialect.value}.refusals")
        codes |= listed.CODES
        messages += listed.MESSAGES
    return frozenset(codes), re.compile("|".join(messages))
