"""Errors by which routers such as OpenRouter refuse the reasoning of a history.

Source: the providers' error messages as their users reported them (read 2026-11-22)
"""

CODES: frozenset[str] = frozenset()
"""Error codes; see ``drivers.reasoning_refusals``."""

MESSAGES: tuple[str, ...] = (
    r"encrypted reasoning\b.{0,80}\bproduced under a different model",
    r"encrypted_content was not issued to this caller",
)
"""Regular expressions for error messages without backticks; see ``drivers.reasoning_refusals``."""
