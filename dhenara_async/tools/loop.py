"""``LoopProgress``: the pure part of a tool loop, which decides what follows an answer.

The states of a loop, and what leads from one to the next::

    ASKING   the answer asks for tools                        RUNNING
    ASKING   the answer asks for tools at the last step       ENDED     limit
    ASKING   the answer does not fit ``structured_output``    ASKING    while retries are left
    ASKING   the provider paused its answer                   ASKING    while steps are left
    ASKING   any other answer                                 ENDED     complete
    RUNNING  every call has its result                        ASKING
    RUNNING  a call waits for approval                        ENDED     pending
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from dhenara_async.config import AIModelCallConfig
from dhenara_async.errors import AnswerCutError, AnswerRefusedError, StructuredOutputError
from dhenara_async.messages.messages import TextPart, ToolCallPart, ToolResultPart
from dhenara_async.response import CallWarning, ChatResponse, FinishReason, continuation_token
from dhenara_async.tools.policy import Approval, Pending, ToolPolicy

_CUT = {
    FinishReason.LENGTH,
    FinishReason.CONTEXT_WINDOW,
    FinishReason.CONTENT_FILTER,
    FinishReason.REFUSAL,
    FinishReason.ERROR,
}
"""Endings after which the calls of an answer are not run: they may be incomplete, or not meant."""


class LoopState(StrEnum):
    """The state of a tool loop; see the table of the module."""

    ASKING = "asking"
    RUNNING = "running"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class RunCalls:
    """The calls of the answer are run next."""

    calls: tuple[ToolCallPart, ...]


@dataclass(frozen=True, slots=True)
class AskNext:
    """The model is asked again.

    Attributes:
        results: The results of all calls of the answer before, in the order of the calls.
        words: A question instead of results: why the answer does not fit.
        goes_on: Whether the provider continues the answer that it paused, without a question.
    """

    results: tuple[ToolResultPart, ...] = ()
    words: str = ""
    goes_on: bool = False


@dataclass(frozen=True, slots=True)
class EndLoop:
    """The loop ends.

    Attributes:
        outcome: Why.
        warning: The warning for the caller; None if the model was done.
    """

    outcome: Literal["complete", "limit", "pending"]
    warning: CallWarning | None = None


Move = RunCalls | AskNext | EndLoop


@dataclass(slots=True)
class LoopProgress:
    """The steps of one loop so far.

    Attributes:
        policy: How tools run; None = they are not run, and the loop only repeats answers that do not fit.
        structured_retries: Maximum number of answers that are asked again because they do not fit.
        steps: Number of model calls so far.
        retries: Number of answers that were asked again.
        token: The last token by which the provider went on with an answer; None = there was none.
    """

    policy: ToolPolicy | None
    structured_retries: int = 0
    steps: int = 0
    retries: int = 0
    token: str | None = None

    def after(self, answer: ChatResponse) -> Move:
        """Decide what follows a complete answer.

        Args:
            answer: The answer; its first choice counts.
        """
        calls, wanted = calls_to_answer(answer), wanted_calls(answer)
        if wanted and self.policy is not None:
            if self.steps < self.policy.max_steps:
                return RunCalls(wanted)
            return EndLoop("limit", _limit_warning(self.policy, wanted))
        if answer.finish_reason is FinishReason.PAUSE and not calls and self.policy is not None:
            return self._after_pause(self.policy, answer)
        if not calls and self._may_retry() and (fault := _fault(answer)):
            self.retries += 1
            return AskNext(words=f"{fault}. Answer again, with nothing but the corrected object.")
        return EndLoop("complete")

    def _may_retry(self) -> bool:
        steps_left = self.policy is None or self.steps < self.policy.max_steps
        return steps_left and self.retries < self.structured_retries

    def _after_pause(self, policy: ToolPolicy, answer: ChatResponse) -> Move:
        """Let the provider go on with an answer that it cut, unless it came back with the token that it was given."""
        if self.steps >= policy.max_steps:
            return EndLoop("limit", _pause_warning(policy))
        token = continuation_token(answer.choices[0].parts)
        if token is not None and token == self.token:
            return EndLoop("complete")
        self.token = token
        return AskNext(goes_on=True)


def wanted_calls(answer: ChatResponse) -> tuple[ToolCallPart, ...]:
    """Return the calls of a complete answer that a loop runs; none of one that was cut or refused.

    Args:
        answer: The answer; its first choice counts.
    """
    return () if answer.finish_reason in _CUT else calls_to_answer(answer)


def step_config(config: AIModelCallConfig, *, later: bool, seconds: float | None) -> AIModelCallConfig:
    """Return the options of one step of a loop.

    A tool choice that forces a call holds for the first step: otherwise the model could never end the loop.

    Args:
        config: The options of the loop.
        later: Whether the step follows others.
        seconds: The time that the loop has left; None = unlimited.
    """
    if later and config.tool_choice not in (None, "auto", "none"):
        config = config.changed(tool_choice="auto")
    return config if seconds is None else config.changed(timeouts=config.timeouts.changed(total=seconds))


def _pause_warning(policy: ToolPolicy) -> CallWarning:
    return CallWarning(
        code="tool_limit",
        knob="run_tools",
        message=f"the loop ended after max_steps={policy.max_steps} model calls; the provider cut its last answer, and "
        "was not asked to go on",
    )


def _limit_warning(policy: ToolPolicy, calls: Sequence[ToolCallPart]) -> CallWarning:
    names = ", ".join(dict.fromkeys(call.name for call in calls))
    return CallWarning(
        code="tool_limit",
        knob="run_tools",
        message=f"the loop ended after max_steps={policy.max_steps} model calls; the last answer asks for {names}, "
        "which was not run: manager.resume(…) runs it and goes on",
    )


def _fault(answer: ChatResponse) -> str:
    """Return why an answer is not the requested object; empty if it is, or was refused or cut."""
    try:
        answer.structured()
    except (AnswerRefusedError, AnswerCutError):
        return ""
    except StructuredOutputError as exc:
        return str(exc)
    return ""


def calls_to_answer(answer: ChatResponse) -> tuple[ToolCallPart, ...]:
    """Return the calls of an answer that need a result before the model goes on; their places name stored results.

    The provider runs hosted ones itself: their result is the decision about them.
    """
    return (*answer.tools(), *answer.approvals())


def decision_result(call: ToolCallPart, words: str | None) -> ToolResultPart:
    """Return the result of a hosted call, which is the decision about it.

    Args:
        call: The call.
        words: The words that tell the model that it was denied; None if it was approved.
    """
    content = (TextPart(text=words or "the user allowed this call"),)
    denied = words is not None
    return ToolResultPart(call_id=call.call_id, name=call.name, content=content, is_error=denied, denied=denied)


def decision_key(call: ToolCallPart) -> str:
    """Return the key of a call in ``decisions``: its id, or the name of its function if the provider sent no id."""
    return call.call_id or call.name


def denial(approval: Approval) -> str | None:
    """Return the words that tell the model that a call was denied; None if it was approved.

    Args:
        approval: The decision; not ``Pending``.
    """
    if approval is True:
        return None
    reason = approval.strip() if isinstance(approval, str) else ""
    return f"the user did not allow this call: {reason}" if reason else "the user did not allow this call"


def is_pending(approval: Approval) -> bool:
    """Whether the decision comes later."""
    return approval is Pending or isinstance(approval, Pending)
