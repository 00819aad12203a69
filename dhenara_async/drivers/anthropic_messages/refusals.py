"""Errors by which the Messages API refuses the reasoning of a history; their code is ``invalid_request_error``.

Source: the providers' error messages as their users reported them (read 2026-11-22)
"""

CODES: frozenset[str] = frozenset()
"""Error codes; see ``drivers.reasoning_refusals``."""

MESSAGES: tuple[str, ...] = (
    r"Expected thinking or redacted_thinking, but found \w+",  # a turn with thinking begins without any
    r"thinking or redacted_thinking blocks in the latest assistant message cannot be modified",
    r"Invalid signature in thinking block",  # altered, or bound to another conversation
)
"""Regular expressions for error messages without backticks; see ``drivers.reasoning_refusals``."""
