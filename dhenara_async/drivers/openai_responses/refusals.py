"""Errors by which the Responses API refuses the reasoning of a history.

Source: the providers' error messages as their users reported them (read 2026-11-22)
"""

CODES: frozenset[str] = frozenset({"invalid_encrypted_content"})  # encrypted for another model or account, or altered
"""Error codes; see ``drivers.reasoning_refusals``."""

MESSAGES: tuple[str, ...] = (
    r"Item '[^']*' of type 'reasoning' was provided without its required following item",
    r"Item '[^']*' of type '\w+' was provided without its required 'reasoning' item",
    r"The encrypted content .{0,200}could not be verified",  # from a relay that dropped the code
    r"input\[\d+\]\.content'?: array too long\b.{0,80}\bmaximum length 0\b",  # reasoning with text
)
"""Regular expressions for error messages without backticks; see ``drivers.reasoning_refusals``."""
