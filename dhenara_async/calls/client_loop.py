"""``client_loop``: builds the tool loop of a call outside of conversations."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from uuid import uuid4

from dhenara_async.calls.input import CallInput
from dhenara_async.calls.loop import LoopStream
from dhenara_async.calls.loop_steps import LoopStep
from dhenara_async.calls.observed_loop import ObservedLoop
from dhenara_async.calls.shared import SharedResources
from dhenara_async.calls.stream import ResponseStream
from dhenara_async.conversation import question
from dhenara_async.hosts.registry import expected_origin
from dhenara_async.messages.messages import Message, Origin, Role, ToolResultPart
from dhenara_async.plans.targets import Target, endpoints
from dhenara_async.response import CallWarning
from dhenara_async.tools.loop import AskNext, LoopProgress, step_config
from dhenara_async.tools.policy import ToolPolicy
from dhenara_async.tools.runner import ToolRunner
from dhenara_async.tools.sessions import ToolSessions


class ClientSteps:
    """The model calls of a loop, whose messages grow with every step; see ``LoopSteps``.

    Args:
        call: The first call.
        open_call: Prepares a call.
        expected: The endpoint that is asked first; None if only a router's function knows.
    """

    def __init__(
        self, call: CallInput, open_call: Callable[[CallInput], ResponseStream], expected: Origin | None
    ) -> None:
        self._call = call
        self._open = open_call
        self._expected = expected
        self._step: ResponseStream | None = None
        self._first: ResponseStream | None = open_call(call)  # what is wrong with the call is raised at once

    @property
    def node_id(self) -> str | None:
        """See ``LoopSteps``."""
        return None

    @property
    def expected(self) -> Origin | None:
        """See ``LoopSteps``."""
        return self._expected

    def make(self, asked: AskNext | None, seconds: float | None) -> ResponseStream:
        """See ``LoopSteps``."""
        first, self._first = self._first, None
        if asked is not None and self._step is not None:
            answer = self._step.response.chat_response.choices[0].parts
            said = [Message(role=Role.ASSISTANT, parts=answer, prefix=self._step.prefix)] if answer else []
            told = question(asked.words, (), asked.results)
            self._call = replace(self._call, messages=[*self._call.messages, *said, *told])
        call = self._call
        config = step_config(call.config, later=asked is not None, seconds=seconds)
        call = call if config is call.config else replace(call, config=config)
        self._step = first if first is not None and seconds is None else self._open(call)
        return self._step

    async def leave(self, step: LoopStep, reason: BaseException | None, warnings: Sequence[CallWarning]) -> None:
        """See ``LoopSteps``."""
        if isinstance(step, ResponseStream):
            await step.__aexit__(None if reason is None else type(reason), reason, None)

    async def results(self) -> Mapping[int, ToolResultPart]:
        """See ``LoopSteps``."""
        return {}

    async def keep(self, place: int, result: ToolResultPart) -> None:
        """See ``LoopSteps``."""


def client_loop(
    call: CallInput,
    policy: ToolPolicy | None,
    target: Target,
    open_call: Callable[[CallInput], ResponseStream],
    *,
    shared: SharedResources,
    sessions: ToolSessions,
    owned: bool,
) -> LoopStream:
    """Build the loop of a call.

    Args:
        call: The first call.
        policy: How tools run; None = they do not run, and only answers that do not fit are asked again.
        target: The target.
        open_call: Prepares a call.
        shared: Observers of the calls.
        sessions: The open servers of tools.
        owned: Whether the sessions end with the loop.

    Raises:
        DhenaraError: The first call cannot be made, or a tool cannot be run.
    """
    loop_id, config = uuid4().hex, call.config
    observed = ObservedLoop(shared.observers, loop_id)
    steps = ClientSteps(replace(call, parent=loop_id), open_call, next(map(expected_origin, endpoints(target)), None))
    return LoopStream(
        steps,
        LoopProgress(policy, 0 if config.structured_output is None else config.structured_retries),
        None if policy is None else ToolRunner(policy, config.tools, sessions, observed, owned=owned),
        observed,
        seconds=config.timeouts.total,
    )
