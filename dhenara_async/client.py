"""``AIModelClient``: turns a question and an endpoint into a call, and keeps the connections it is made over.

Making a client costs nothing: it opens nothing, needs no event loop and loads no HTTP library. What a call needs is
loaded by the first call.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self, overload

from dhenara_async.config import AIModelCallConfig
from dhenara_async.endpoint import AIModelEndpoint
from dhenara_async.errors import ConfigurationError, StreamStateError, printable

if TYPE_CHECKING:  # annotations only: these rooms are loaded by the first call, to keep the import light
    from dhenara_async.blocking import BlockingClient
    from dhenara_async.calls.prepare import Asked, CallPreparer, History
    from dhenara_async.calls.shared import SharedResources
    from dhenara_async.calls.source import Call
    from dhenara_async.calls.stream import ResponseStream
    from dhenara_async.formatter.conversion import ConversionPolicy
    from dhenara_async.messages.messages import Message
    from dhenara_async.plans.sources import PlanContext
    from dhenara_async.plans.targets import RoutingContext, Target
    from dhenara_async.response import AIModelCallResponse
    from dhenara_async.transport import Transport

_CALLERS = 1000  # the most endpoints whose preparations are kept


class AIModelClient:
    """Calls one endpoint, or several by a plan (``Failover``, ``Race``, ``Router``, ``Experiment``).

    ``async with`` keeps its connections until the block ends, and with them every call that is still under way, in
    whatever task; outside it, each call opens and closes its own. With ``transport`` it uses that one's connections,
    and whoever made it closes it. ``is_async=False`` gives the blocking face for scripts: a ``BlockingClient`` with the
    same methods, without ``await``.

    Args:
        model_endpoint: Where calls go; a plan over endpoints will do wherever an endpoint does.
        config: The knobs of every call that brings none of its own.
        is_async: False for the blocking face.
        transport: Connections to share.
        policy: What a call may do to a history made by other models.
        means: Limits and a budget of retries to share with other clients; None = its own budget, and no limits.
    """

    @overload
    def __new__(
        cls,
        model_endpoint: "Target",
        config: AIModelCallConfig | None = None,
        *,
        is_async: Literal[True] = True,
        transport: "Transport | None" = None,
        policy: "ConversionPolicy | None" = None,
        shared: "SharedResources | None" = None,
    ) -> Self: ...

    @overload
    def __new__(
        cls,
        model_endpoint: "Target",
        config: AIModelCallConfig | None = None,
        *,
        is_async: Literal[False],
        policy: "ConversionPolicy | None" = None,
        shared: "SharedResources | None" = None,
    ) -> "BlockingClient": ...

    def __new__(
        cls,
        model_endpoint: "Target",
        config: AIModelCallConfig | None = None,
        *,
        is_async: bool = True,
        transport: "Transport | None" = None,
        policy: "ConversionPolicy | None" = None,
        shared: "SharedResources | None" = None,
    ) -> "Self | BlockingClient":
        if is_async:
            return super().__new__(cls)
        if transport is not None:
            raise ConfigurationError("a transport belongs to an event loop; the blocking client makes its own")
        from dhenara_async.blocking import BlockingClient

        return BlockingClient(cls(model_endpoint, config, policy=policy, shared=shared))

    def __init__(
        self,
        model_endpoint: "Target",
        config: AIModelCallConfig | None = None,
        *,
        is_async: bool = True,
        transport: "Transport | None" = None,
        policy: "ConversionPolicy | None" = None,
        shared: "SharedResources | None" = None,
    ) -> None:
        self.model_endpoint: Target = model_endpoint
        self.config: AIModelCallConfig = config or AIModelCallConfig()
        self._policy = policy
        self._shared = transport
        self._kept: Transport | None = None
        self._callers: dict[int, CallPreparer] = {}
        self._shared_resources = shared

    def __repr__(self) -> str:
        target = self.model_endpoint
        if isinstance(target, AIModelEndpoint):
            return printable(f"AIModelClient({target.api.provider}, {target.ai_model.model_name})")
        from dhenara_async.plans.targets import label

        return f"AIModelClient({label(target)})"

    async def __aenter__(self) -> Self:
        from dhenara_async.calls.warmup import loaded

        await loaded()
        if self._kept is not None:
            raise StreamStateError("this client is already in a block; make another, they are cheap")
        from dhenara_async.calls.prepare import new_transport

        self._kept = self._shared or new_transport()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        kept, self._kept = self._kept, None
        if kept is not None and kept is not self._shared:
            import anyio

            with anyio.move_on_after(1, shield=True):
                await kept.aclose()

    async def warm_up(self) -> None:
        """Do ahead what only a first call has to do, so that it holds up neither the event loop nor the answer.

        What calls load and build, once a process, is loaded and built in a thread. Inside ``async with``, or with a
        ``transport`` of this library, every endpoint's host is looked up and connected to besides, all at the same
        time; the connection waits for a call as long as any idle one is kept (30 seconds). Nothing is sent, and no key
        is needed. A first call works without it all the same.

        Raises:
            ConfigurationError: An endpoint has no address, or one that cannot be used.
            TransportError: A host could not be connected to; all others have been.
        """
        from dhenara_async.calls.warmup import warm_up

        await warm_up([self.model_endpoint], self._kept or self._shared, self.config)

    async def generate(
        self,
        prompt: "str | Message | None" = None,
        *,
        context: "Iterable[str | Message]" = (),
        messages: "Iterable[Message] | None" = None,
        instructions: Iterable[str] = (),
        config: AIModelCallConfig | None = None,
    ) -> "AIModelCallResponse":
        """Ask and wait for the whole answer.

        Args:
            prompt: The question.
            context: What was said before it, oldest first; plain texts are the user's.
            messages: The whole conversation instead of ``prompt`` and ``context``.
            instructions: What leads this call, and only this one.
            config: Knobs instead of the client's.

        Raises:
            ConfigurationError: The call cannot be made as asked, or its last message is blank; nothing was sent.
            UnsupportedError: The model cannot be told a part of it; nothing was sent.
            ConversionLossError: The policy is strict and something would be lost; nothing was sent.
            TransportError: The bytes did not arrive.
            ProtocolError: The answer is not what its dialect allows, or was cut.
            APIError: The provider refused or failed.
            StreamStateError: The client's block ended, or its transport was closed, before the answer was there.
        """
        knobs = config or self.config
        asked = messages_of(prompt, context, messages)
        stream = self.open(asked, instructions, knobs, wire_stream=knobs.streaming, ends_with_reader=True)
        async with stream:
            return await stream.collect()

    def stream(
        self,
        prompt: "str | Message | None" = None,
        *,
        context: "Iterable[str | Message]" = (),
        messages: "Iterable[Message] | None" = None,
        instructions: Iterable[str] = (),
        config: AIModelCallConfig | None = None,
    ) -> "ResponseStream":
        """Ask and receive the answer as it comes: ``async with client.stream(…) as stream: async for event in stream``.

        A read that is cancelled can be repeated and loses nothing; leaving the block ends the call.

        Arguments and errors as for ``generate``; what is wrong before anything is sent is raised here, the rest from
        the iteration.
        """
        asked = messages_of(prompt, context, messages)
        return self.open(asked, instructions, config or self.config, wire_stream=True)

    def open(
        self,
        messages: "list[Message]",
        instructions: Iterable[str],
        config: AIModelCallConfig,
        *,
        wire_stream: bool,
        ends_with_reader: bool = False,
        history: "History | None" = None,
        conversation: str | None = None,
        node: str | None = None,
    ) -> "ResponseStream":
        """What ``generate`` and ``stream`` have in common: a prepared call, its events to be read, nothing sent yet.

        Args:
            messages: The conversation, oldest first, or what is asked now behind ``history``.
            instructions: What leads this call.
            config: Its knobs.
            wire_stream: Whether the provider is asked to stream; the events are the same either way.
            ends_with_reader: See ``ResponseStream``.
            history: The turns before.
            conversation: The id of the conversation that it is a turn of, for plans to go by; None outside of one.
            node: The id of that turn, likewise.
        """
        from dhenara_async.calls.prepare import Asked
        from dhenara_async.calls.source import EndpointSource
        from dhenara_async.calls.stream import ResponseStream

        if isinstance(instructions, str):
            raise ConfigurationError("instructions is a sequence of texts, not one text")
        asked = Asked(messages, tuple(instructions), config, history, wire_stream)
        target = self.model_endpoint
        if isinstance(target, AIModelEndpoint):
            feed = EndpointSource(self._call(target, asked))
            return ResponseStream(feed, config, ends_with_reader=ends_with_reader)
        from dhenara_async.plans.sources import source_of

        context = routing_context(messages, config, history=history, conversation=conversation, node=node)
        plan = source_of(target, self._question(asked, context))
        return ResponseStream(plan, config, ends_with_reader=ends_with_reader)

    def _question(self, asked: "Asked", context: "RoutingContext") -> "PlanContext":
        """What a plan is asked, with a way to ask its members."""
        from dhenara_async.calls.source import EndpointSource
        from dhenara_async.plans.sources import PlanContext

        def ask(endpoint: AIModelEndpoint, config: AIModelCallConfig, more: "Sequence[Message]") -> EndpointSource:
            messages = [*asked.messages, *more]
            return EndpointSource(self._call(endpoint, replace(asked, config=config, messages=messages)))

        return PlanContext(ask, asked.config, context, self._resources())

    def _call(self, endpoint: AIModelEndpoint, asked: "Asked") -> "Call":
        """A call of one endpoint, over the connections that are kept or its own."""
        from dhenara_async.calls.prepare import CallPreparer

        caller = self._callers.get(id(endpoint))  # which lives as long as its caller
        if caller is None:
            if len(self._callers) >= _CALLERS:  # a router may make an endpoint for every call
                self._callers.clear()
            caller = self._callers[id(endpoint)] = CallPreparer(endpoint, self._policy, self._resources())
        return caller.call(asked, self._kept or self._shared)

    def _resources(self) -> "SharedResources":
        if self._shared_resources is None:
            from dhenara_async.calls.shared import SharedResources

            self._shared_resources = SharedResources()
        return self._shared_resources


def routing_context(
    messages: "Sequence[Message]",
    config: AIModelCallConfig,
    *,
    history: "History | None" = None,
    conversation: str | None = None,
    node: str | None = None,
) -> "RoutingContext":
    """What the routers and experiments of a plan decide by; arguments as for ``AIModelClient.open``."""
    from uuid import uuid4

    from dhenara_async.plans.targets import RoutingContext

    def said() -> "list[Message]":
        before = () if history is None else history.nodes
        return [*(message for turn in before for message in turn.as_messages()), *messages]

    return RoutingContext(said, config, uuid4().hex, conversation, node)


def messages_of(
    prompt: "str | Message | None", context: "Iterable[str | Message]", messages: "Iterable[Message] | None"
) -> "list[Message]":
    """What is asked, as messages, whichever way the caller put it."""
    from dhenara_async.messages.messages import Message

    if messages is not None:
        if prompt is not None or tuple(context):
            raise ConfigurationError("pass either messages, or prompt and context, not both")
        if isinstance(messages, str | Message):
            raise ConfigurationError("messages is a sequence of messages, not one; pass a single question as prompt")
        asked = list(messages)
        if not asked:
            raise ConfigurationError("messages is empty: there is nothing to ask")
        _refuse_blank(asked)
        return asked
    if isinstance(context, str | Message):
        raise ConfigurationError("context is a sequence of texts or messages, not one of them")
    if prompt is None:
        raise ConfigurationError("there is nothing to ask: pass prompt or messages")
    if not context and isinstance(prompt, str) and prompt.strip():  # as most questions are
        return [Message.user(prompt)]
    asked = [Message.user(item) if isinstance(item, str) else item for item in (*context, prompt)]
    _refuse_blank(asked)
    return asked


def _refuse_blank(asked: "Sequence[Message]") -> None:
    """Raise unless something is asked at the end: blank texts are not sent, so that the request would end with an
    earlier answer, which models are then told to continue."""
    from dhenara_async.messages.messages import Role

    for message in reversed(asked):
        if not _is_blank(message):
            return
        if message.role is not Role.ASSISTANT:
            raise ConfigurationError("the prompt is empty: the last message has no words, files or results")


def _is_blank(message: "Message") -> bool:
    """Whether it has no part but blank texts."""
    return all(
        part.type in ("text", "refusal") and not part.get_text().strip() and not part.provider_state
        for part in message.parts
    )
