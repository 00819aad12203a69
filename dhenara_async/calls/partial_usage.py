"""Estimates the token usage of an answer that was not received to its end.

Most providers report usage only with the last event. Anthropic's opening event counts one token of the answer, whatever
follows. So a broken off answer is counted by what was received of it, with the estimates of ``formatter.window``.
"""

from collections.abc import Iterable

from dhenara_async.formatter.window import estimate_messages, estimated
from dhenara_async.messages.messages import Part, ReasoningPart
from dhenara_async.request import ChatRequest
from dhenara_async.usage.tokens import UNKNOWN, Usage


def prompt_tokens(request: ChatRequest) -> int:
    """Estimate the tokens of a request: messages, instructions and tools."""
    return estimate_messages(request.messages, request.instructions, request.config.declared_tools)


def estimated_usage(reported: Usage | None, received: Iterable[Part], prompt: int) -> Usage:
    """Estimate the usage of an unfinished answer; its source is ``estimated``.

    Reported prompt tokens are used as they are. The answer's tokens are the larger of the reported count, which may be
    older than the last text, and the estimate of what was received.

    Args:
        reported: The newest report of the provider; None = none arrived.
        received: The parts of the answer as far as they were received.
        prompt: The estimated tokens of the request, for providers that report usage at the end only.
    """
    reported = reported or UNKNOWN
    parts = tuple(received)
    visible_reasoning = estimated(part for part in parts if isinstance(part, ReasoningPart))
    answer = estimated(part for part in parts if not isinstance(part, ReasoningPart))
    reasoning = max(reported.reasoning_tokens or 0, visible_reasoning)
    input_tokens = prompt if reported.input_tokens is None else reported.input_tokens
    output_tokens = max(reported.output_tokens or 0, answer + reasoning)
    return reported.changed(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        reasoning_tokens=reasoning if reasoning else reported.reasoning_tokens,
        total_tokens=input_tokens + output_tokens,
        source="estimated",
    )
