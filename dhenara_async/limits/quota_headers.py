"""Reads the rate-limit headers of responses: what is left of a quota, and when it is full again."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal


@dataclass(frozen=True, slots=True)
class Quota:
    """A quota that a provider reported.

    Attributes:
        name: The provider's name of the quota (``tokens``, ``input-tokens``, ``req-10-second`` …).
        counts: The counted unit; ``some_tokens`` = only input or only output tokens, which an estimate of the total
            does not tell apart.
        left: Remaining number.
        seconds: Time until the quota is full again.
    """

    name: str
    counts: Literal["requests", "tokens", "some_tokens"]
    left: int
    seconds: float


def read_quotas(headers: Mapping[str, str], *, now: float) -> tuple[Quota, ...]:
    """Read the quotas from the rate-limit headers of a response; unreadable headers are ignored.

    Args:
        headers: Headers of the response, in any case.
        now: Seconds since 1970, for hosts that report a point of time; the response's ``date`` header is preferred.
    """
    lower = {name.lower(): value.strip() for name, value in headers.items()}
    quotas: list[Quota] = []
    for name, value in lower.items():
        if (header := _REMAINING.fullmatch(name)) is None or not _NUMBER.fullmatch(value):
            continue
        quota_name = header["suffix"] or header["infix"] or "requests"
        if (parsed := _QUOTA_NAME.fullmatch(quota_name)) is None:
            continue  # of images, for example, which a request may not need
        seconds = _seconds_to_reset(lower, name, quota_name, now)
        if seconds is None and parsed["unit"]:
            seconds = int(parsed["number"] or 1) * _UNITS[parsed["unit"]]
        if seconds is not None:
            quotas.append(Quota(quota_name, _COUNTS[parsed["counted"]], int(value), max(0.0, seconds)))
    return tuple(quotas)


_REMAINING = re.compile(r"(?:x-)?ratelimit-remaining(?:-(?P<suffix>.+))?|anthropic-ratelimit-(?P<infix>.+)-remaining")
_NUMBER = re.compile(r"[0-9]{1,18}")
_QUOTA_NAME = re.compile(
    r"(?P<counted>requests|req|tokens|(?:input|output)-tokens)"
    r"(?:-(?:(?P<number>[0-9]{1,4})-)?(?P<unit>second|minute|hour|day|month))?"
)
_COUNTS: Mapping[str, Literal["requests", "tokens", "some_tokens"]] = {
    "requests": "requests",
    "req": "requests",
    "tokens": "tokens",
    "input-tokens": "some_tokens",
    "output-tokens": "some_tokens",
}
_UNITS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0, "month": 30 * 86400.0}
_SPAN = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|us|µs|ns|[dhms]))+")
_STEP = re.compile(r"([0-9.]+)(ms|us|µs|ns|[dhms])")
_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_PLAIN = re.compile(r"[0-9]{1,18}(?:\.[0-9]{1,18})?")
_EPOCH = 1e9  # a larger plain number is a time since 1970 in seconds, a thousand times larger one in milliseconds


def _seconds_to_reset(headers: Mapping[str, str], remaining: str, quota_name: str, now: float) -> float | None:
    """Return the seconds until the quota of a ``remaining`` header is full; None if that is missing or unreadable."""
    value = headers.get(remaining.replace("remaining", "reset"), "")
    if _SPAN.fullmatch(value):
        return sum(float(number) * _SECONDS[unit] for number, unit in _STEP.findall(value))
    if _PLAIN.fullmatch(value):
        number = float(value)
        if number >= _EPOCH:
            return (number / 1000 if number >= 1000 * _EPOCH else number) - _response_time(headers, now)
        # Azure counts in milliseconds and is the only host that names the period: 1 of 120 a minute resets in 500
        return number / 1000 if f"x-ratelimit-renewalperiod-{quota_name}" in headers else number
    try:
        moment = datetime.fromisoformat(value)
        return moment.timestamp() - _response_time(headers, now) if moment.tzinfo is not None else None
    except (OverflowError, ValueError):
        return None


def _response_time(headers: Mapping[str, str], now: float) -> float:
    """Return the time of the response by the host's clock if reported, because the local clock may be wrong."""
    from email.utils import parsedate_to_datetime

    try:
        return parsedate_to_datetime(headers["date"]).timestamp()
    except (KeyError, OverflowError, TypeError, ValueError):
        return now
