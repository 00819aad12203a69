"""Errors by which Gemini refuses the reasoning of a history; their status is ``INVALID_ARGUMENT``.

Source: the providers' error messages as their users reported them (read 2026-11-22)
"""

CODES: frozenset[str] = frozenset()
"""Error codes; see ``drivers.reasoning_refusals``."""

MESSAGES: tuple[str, ...] = (
    r"Function call is missing a thought_signature in functionCall parts",
    r"function call \S+ in the \d+\. content block is missing a thought_signature",  # on Vertex
)
"""Regular expressions for error messages without backticks; see ``drivers.reasoning_refusals``."""
