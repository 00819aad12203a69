"""``Observer``: methods that a client calls when a call or an attempt starts and ends, for metrics, traces and logs.

Methods are synchronous and are called at most a few times per call, never per token. Without observers a call pays one
comparison for each of them. ``calls.records`` has what they receive.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager

from dhenara_async.calls.records import (
    AttemptEnded,
    AttemptStarted,
    CallEnded,
    CallStarted,
    EndpointEnded,
    EndpointStarted,
    FanOutEnded,
    FanOutStarted,
    FirstContent,
    LoopEnded,
    LoopStarted,
    ToolEnded,
    ToolStarted,
    TraceIds,
)


class Observer:
    """Receives a record when a call or an attempt starts and ends. Subclass it, and override the methods you need.

    Pass observers to ``AIModelClient(observers=[…])`` or ``ConversationManager(observers=[…])``. A call that
    starts also ends, exactly once. A call that cannot be prepared (``ConfigurationError``) does not start.

    Methods run in the call's thread and event loop, so they have to be quick. An exception that a method raises is
    logged under ``dhenara_async`` and has no other effect. Records hold no prompts and no answers, unless the observer
    ``wants_content``.

    Attributes:
        wants_content: Whether its records hold prompts, answers, and the arguments and results of tools.
        adds_headers: Whether ``request_headers`` is asked before each request.
    """

    wants_content: bool = False
    adds_headers: bool = False

    def call_started(self, record: CallStarted) -> None:
        """A call starts."""

    def endpoint_started(self, record: EndpointStarted) -> None:
        """An endpoint is about to be asked."""

    def endpoint_ended(self, record: EndpointEnded) -> None:
        """An endpoint's answer has ended; before ``call_ended``."""

    def attempt_started(self, record: AttemptStarted) -> None:
        """A request is about to be sent."""

    def attempt_ended(self, record: AttemptEnded) -> None:
        """A request has ended, with an answer or an error."""

    def first_content(self, record: FirstContent) -> None:
        """The first content of the answer has arrived."""

    def call_ended(self, record: CallEnded) -> None:
        """The call has ended, with an answer or an error."""

    def around_request(self, record: AttemptStarted) -> AbstractContextManager[object] | None:
        """Return a context in which the request is sent, to make a span current there; None = no context.

        It is entered after ``attempt_started``, and left when the response head has arrived, or when the wait for it
        is cancelled, by the same task. A cancelled wait that goes on enters it again.
        """
        return None

    def request_headers(self, record: AttemptStarted) -> Mapping[str, str]:
        """Return headers to add to the request, names in lower case; asked after ``attempt_started``."""
        return {}

    def trace_ids(self, call_id: str) -> TraceIds | None:
        """Return where the call is found in a trace; the response and the node of a turn keep it. None = nowhere.

        It may be asked at any time between ``call_started`` and ``call_ended``.
        """
        return None

    def fan_out_started(self, record: FanOutStarted) -> None:
        """Many calls at once start."""

    def fan_out_ended(self, record: FanOutEnded) -> None:
        """Many calls at once have ended; after the last of them."""

    def around_fan_out(self, record: FanOutStarted) -> AbstractContextManager[object] | None:
        """Return a context in which one call of a fan-out is made, to make a span current there; None = no context.

        Each call enters one of its own, in the task that makes the call, and leaves it in that task.
        """
        return None

    def loop_started(self, record: LoopStarted) -> None:
        """A tool loop starts; called by the loop (``ToolPolicy``) before its first model call."""

    def tool_started(self, record: ToolStarted) -> None:
        """A tool call of a loop is about to be run, or was denied; called by the loop."""

    def tool_ended(self, record: ToolEnded) -> None:
        """A tool call of a loop has its result; called by the loop."""

    def loop_ended(self, record: LoopEnded) -> None:
        """A tool loop has ended; called by the loop after its last model call and tool call have ended."""

    def around_tool(self, record: ToolStarted) -> AbstractContextManager[object] | None:
        """Return a context in which the tool is run, to make a span current there; None = no context.

        It is entered after ``tool_started`` and left before ``tool_ended``, in the task that runs the tool.
        """
        return None
