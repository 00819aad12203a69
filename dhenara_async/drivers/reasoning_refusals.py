"""Which refusals mean that the reasoning of the history is at fault: the call can be saved by leaving it out.

A provider's own code decides where it has one for the case; where it has none, its words do, as far as they are always
the same. Everything else is not ours to guess: another refusal would come back for the same request without reasoning.

Source: the providers' error messages as their users reported them (read 2026-11-22)
"""

import re

from dhenara_async.errors import APIError

_CODES = frozenset(
    {
        "invalid_encrypted_content",  # E-O3, Responses: sealed by another model or account, or changed since
    }
)
_WORDS = re.compile(
    "|".join(
        (
            # Anthropic Messages, whose code is invalid_request_error for all of them
            r"Expected thinking or redacted_thinking, but found \w+",  # E-A3: a turn with thinking begins without any
            r"thinking or redacted_thinking blocks in the latest assistant message cannot be modified",  # E-A4
            r"Invalid signature in thinking block",  # E-A5: altered, or bound to another conversation
            # Responses
            r"Item '[^']*' of type 'reasoning' was provided without its required following item",  # E-O1
            r"Item '[^']*' of type '\w+' was provided without its required 'reasoning' item",  # E-O2
            r"The encrypted content .{0,200}could not be verified",  # E-O3, where a relay dropped the code
            r"input\[\d+\]\.content'?: array too long\b.{0,80}\bmaximum length 0\b",  # E-O4: words in reasoning
            # Gemini, whose status is INVALID_ARGUMENT for both
            r"Function call is missing a thought_signature in functionCall parts",  # E-G1
            r"function call \S+ in the \d+\. content block is missing a thought_signature",  # E-G2, on Vertex
            # OpenRouter and its like, which know whose reasoning they sealed
            r"encrypted reasoning\b.{0,80}\bproduced under a different model",
            r"encrypted_content was not issued to this caller",
        )
    )
)


def refuses_reasoning(error: APIError) -> bool:
    """Whether the provider refused a request because of reasoning, or the lack of it, in what was said before."""
    if error.status != 400:
        return False
    return error.code in _CODES or _WORDS.search(str(error).replace("`", "")) is not None
