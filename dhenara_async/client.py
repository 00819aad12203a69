"""``AIModelClient``: prepares calls of an endpoint or a plan, and keeps their connections.

Making a client is cheap: no I/O, no event loop, no HTTP library. The first call loads these modules.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Literal, NamedTuple, Self, cast, overload

from dhenara_async.config import AIModelCallConfig
from dhenara_async.endpoint import AIModelEndpoint
from dhenara_async.errors import ConfigurationError, StreamStateError, printable
from dhenara_async.frozen import shortened
from dhenara_async.tools.mcp.server import McpServer

if TYPE_CHECKING:  # annotations only: these rooms are loaded by the first call, to keep the import light
    from dhenara_async.calls.blocking import BlockingClient
    from dhenara_async.calls.call import Call
    from dhenara_async.calls.input import CallInput
    from dhenara_async.calls.loop import LoopStream
    from dhenara_async.calls.observed import ObservedCall
    from dhenara_async.calls.observer import Observer
    from dhenara_async.calls.prepare import CallPreparer
    from dhenara_async.calls.shared import SharedResources
    from dhenara_async.calls.source import EndpointSource, EventSource
    from dhenara_async.calls.stream import ResponseStream
    from dhenara_async.formatter.conversion import ConversionPolicy
    from dhenara_async.messages.messages import Message, MessageLike, Part, Prompt
    from dhenara_async.plans.sources import PlanContext
    from dhenara_async.plans.targets import RoutingContext, Target
    from dhenara_async.response import AIModelCallResponse
    from dhenara_async.tools.policy import ToolPolicy
    from dhenara_async.tools.sessions import ToolSessions
    from dhenara_async.tools.sources import ListedTools
    from dhenara_async.transport import Transport

_PREPARERS = 1000  # endpoints whose preparers are cached


class AIModelClient:
    """Calls one endpoint, or several by a plan (``Failover``, ``Race``, ``Router``, ``Experiment``).

    ``async with`` keeps connections until the block ends; leaving the block ends every call that is still running, in
    any task. Outside a block each call opens and closes its own connection. A shared ``transport`` is closed by its
    owner. ``is_async=False`` makes a ``BlockingClient`` for scripts, with the same methods without ``await``.

    Args:
        model_endpoint: An endpoint, its short name (``anthropic:claude-sonnet-5-5``, see ``AIModelEndpoint.of``), or a
            plan over several.
        config: The options of calls without a config of their own.
        is_async: False for the blocking client.
        transport: Connections shared with other clients.
        policy: The conversion policy for content of other models.
        shared: Limits and the retry budget shared with other clients; None = its own retry budget, no limits.
        observers: Receive a record when a call or an attempt starts and ends; see ``Observer``.
    """

    @overload
    def __new__(
        cls,
        model_endpoint: "Target | str",
        config: AIModelCallConfig | None = None,
        *,
        is_async: Literal[True] = True,
        transport: "Transport | None" = None,
        policy: "ConversionPolicy | None" = None,
        shared: "SharedResources | None" = None,
        observers: "Iterable[Observer]" = (),
    ) -> Self: ...

    @overload
    def __new__(
        cls,
        model_endpoint: "Target | str",
        config: AIModelCallConfig | None = None,
        *,
        is_async: Literal[False],
        policy: "ConversionPolicy | None" = None,
        shared: "SharedResources | None" = None,
        observers: "Iterable[Observer]" = (),
    ) -> "BlockingClient": ...

    def __new__(
        cls,
        model_endpoint: "Target | str",
        config: AIModelCallConfig | None = None,
        *,
        is_async: bool = True,
        transport: "Transport | None" = None,
        policy: "ConversionPolicy | None" = None,
        shared: "SharedResources | None" = None,
        observers: "Iterable[Observer]" = (),
    ) -> "Self | BlockingClient":
        if is_async:
            return super().__new__(cls)
        if transport is not None:
            raise ConfigurationError("a transport belongs to an event loop; the blocking client makes its own")
        from dhenara_async.calls.blocking import BlockingClient

        return BlockingClient(cls(model_endpoint, config, policy=policy, shared=shared, observers=observers))

    def __init__(
        self,
        model_endpoint: "Target | str",
        config: AIModelCallConfig | None = None,
        *,
        is_async: bool = True,
        transport: "Transport | None" = None,
        policy: "ConversionPolicy | None" = None,
        shared: "SharedResources | None" = None,
        observers: "Iterable[Observer]" = (),
    ) -> None:
        if not isinstance(model_endpoint, AIModelEndpoint):
            from dhenara_async.plans.targets import target_of

            model_endpoint = target_of(model_endpoint, "AIModelClient")
        self.model_endpoint: Target = model_endpoint
        self.config: AIModelCallConfig = AIModelCallConfig() if config is None else _checked(config)
        self._policy = policy
        self._shared = transport
        self._kept: Transport | None = None
        self._tool_sessions: ToolSessions | None = None
        self._preparers: dict[int, CallPreparer] = {}
        self._shared_resources = shared
        if observers := tuple(observers):
            resources = self._resources()
            self._shared_resources = replace(resources, observers=(*resources.observers, *observers))

    def __repr__(self) -> str:
        target = self.model_endpoint
        if isinstance(target, AIModelEndpoint):
            return shortened(printable(f"AIModelClient({target.api.provider}, {target.ai_model.model_name})"))
        from dhenara_async.plans.targets import label

        return shortened(f"AIModelClient({label(target)})")

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
        sessions, self._tool_sessions = self._tool_sessions, None
        try:
            if kept is not None and kept is not self._shared:
                import anyio

                with anyio.move_on_after(1, shield=True):
                    await kept.aclose()
        finally:
            if sessions is not None:
                await sessions.aclose()

    async def warm_up(self) -> None:
        """Load modules and connect to hosts ahead of the first call.

        Modules and tables that calls need once a process are loaded and built in a thread. Inside ``async with``, or
        with a ``transport`` of this library, every endpoint's host is looked up and connected to besides, all at the
        same time; the connection waits for a call as long as any idle one is kept (30 seconds). Nothing is sent, and no
        key is needed. A first call works without it all the same.

        Raises:
            ConfigurationError: An endpoint has no address, or one that cannot be used.
            TransportError: A host could not be connected to; all others have been.
        """
        from dhenara_async.calls.warmup import warm_up

        await warm_up([self.model_endpoint], self._kept or self._shared, self.config)
        if _has_servers(self.config):
            sessions, owned = self._sessions()
            await sessions.warm_up(() if owned else self.config.tools)

    async def generate(
        self,
        prompt: "Prompt | None" = None,
        *,
        context: "Iterable[str | MessageLike]" = (),
        messages: "Iterable[MessageLike] | None" = None,
        instructions: Iterable[str] = (),
        config: AIModelCallConfig | None = None,
        run_tools: "ToolPolicy | None" = None,
    ) -> "AIModelCallResponse":
        """Send a question and return the complete answer.

        Args:
            prompt: The question: a text, a message, or a list of texts and files. Here and below, a message may be a
                dict in the shape of OpenAI's or Anthropic's API.
            context: Earlier messages, oldest first; plain texts are the user's.
            messages: The whole conversation, instead of ``prompt`` and ``context``.
            instructions: System instructions of this call only.
            config: Options instead of the client's.
            run_tools: Run the tools of the config and ask again with their results, until the model is done; None =
                leave the calls of the answer to the caller.

        Raises:
            ConfigurationError: The call cannot be made as asked, or its last message is blank; nothing was sent.
            UnsupportedError: The model does not support a part of the request; nothing was sent.
            ConversionLossError: The policy is strict and something would be lost; nothing was sent.
            TransportError: The bytes did not arrive.
            ProtocolError: The answer is not what its dialect allows, or was cut.
            APIError: The provider refused or failed.
            StreamStateError: The client's block ended, or its transport was closed, before the answer was there.
        """
        knobs = self.config if config is None else _checked(config)
        call = _call_input(messages_of(prompt, context, messages), instructions, knobs, stream=knobs.streaming)
        if run_tools is not None or (knobs.structured_retries and knobs.structured_output):
            async with self._loop(call, run_tools, ends_with_reader=True) as loop:
                return await loop.collect()
        stream = self.open(call, ends_with_reader=True)
        async with stream:
            return await stream.collect()

    @overload
    def stream(
        self,
        prompt: "Prompt | None" = None,
        *,
        context: "Iterable[str | MessageLike]" = (),
        messages: "Iterable[MessageLike] | None" = None,
        instructions: Iterable[str] = (),
        config: AIModelCallConfig | None = None,
        run_tools: None = None,
    ) -> "ResponseStream": ...

    @overload
    def stream(
        self,
        prompt: "Prompt | None" = None,
        *,
        context: "Iterable[str | MessageLike]" = (),
        messages: "Iterable[MessageLike] | None" = None,
        instructions: Iterable[str] = (),
        config: AIModelCallConfig | None = None,
        run_tools: "ToolPolicy",
    ) -> "LoopStream": ...

    @overload
    def stream(
        self,
        prompt: "Prompt | None" = None,
        *,
        context: "Iterable[str | MessageLike]" = (),
        messages: "Iterable[MessageLike] | None" = None,
        instructions: Iterable[str] = (),
        config: AIModelCallConfig | None = None,
        run_tools: "ToolPolicy | None" = None,
    ) -> "ResponseStream | LoopStream": ...

    def stream(
        self,
        prompt: "Prompt | None" = None,
        *,
        context: "Iterable[str | MessageLike]" = (),
        messages: "Iterable[MessageLike] | None" = None,
        instructions: Iterable[str] = (),
        config: AIModelCallConfig | None = None,
        run_tools: "ToolPolicy | None" = None,
    ) -> "ResponseStream | LoopStream":
        """Send a question and stream the answer: ``async with client.stream(…) as stream: async for event in stream``.

        A read that is cancelled can be repeated and loses nothing; leaving the block ends the call.

        Arguments and errors as for ``generate``; what is wrong before anything is sent is raised here, the rest from
        the iteration. With ``run_tools`` the answers of all steps come one after another.
        """
        asked = messages_of(prompt, context, messages)
        knobs = self.config if config is None else _checked(config)
        call = _call_input(asked, instructions, knobs, stream=True)
        return self.open(call) if run_tools is None else self._loop(call, run_tools)

    def _loop(
        self, call: "CallInput", run_tools: "ToolPolicy | None", *, ends_with_reader: bool = False
    ) -> "LoopStream":
        """Build the tool loop of a call. Servers of tools that the call opens stay open until the loop ends."""
        from dhenara_async.calls.client_loop import client_loop
        from dhenara_async.tools.policy import check_policy

        sessions, owned = self._sessions()
        client = self
        if owned and _has_servers(call.config):
            client = object.__new__(type(self))
            client.__dict__ |= self.__dict__
            client._shared_resources = replace(self._resources(), tools=sessions)

        def open_call(call: "CallInput") -> "ResponseStream":
            return client.open(call, ends_with_reader=ends_with_reader)

        return client_loop(
            call,
            check_policy(run_tools),
            self.model_endpoint,
            open_call,
            shared=self._resources(),
            sessions=sessions,
            owned=owned,
        )

    def open(self, call: "CallInput", *, ends_with_reader: bool = False) -> "ResponseStream":
        """Prepare a call, as ``generate``, ``stream`` and turns do; nothing is sent yet.

        Args:
            call: The question.
            ends_with_reader: See ``ResponseStream``.

        Raises:
            DhenaraError: As ``generate``, as far as errors are known before anything is sent.
        """
        stream_class = _engine().stream
        clock = self._resources().timing.clock
        target = self.model_endpoint
        observed = self._observed(call, None if isinstance(target, AIModelEndpoint) else type(target).__name__.lower())
        if call.config.tools and not call.config.test_mode and _has_servers(call.config):
            source = self._listing_source(call, observed)
        else:
            source = self._source(call, observed)
        return stream_class(source, call.config, ends_with_reader=ends_with_reader, observed=observed, clock=clock)

    def _source(
        self, call: "CallInput", observed: "ObservedCall | None", context: "RoutingContext | None" = None
    ) -> "EventSource":
        """Build the event source of a call; ``context`` = what its plan decides by, where that is known already."""
        target = self.model_endpoint
        if isinstance(target, AIModelEndpoint):
            prepared = self._call(target, call)
            return _engine().source(prepared, observed)
        from dhenara_async.plans.sources import source_of

        return source_of(target, self._plan_context(call, observed, context))

    def _listing_source(self, call: "CallInput", observed: "ObservedCall | None") -> "EventSource":
        """Build the event source of a call with servers of tools."""
        from dhenara_async.calls.listing import ListingSource

        def prepare(tools: "ListedTools") -> "EventSource":
            config = call.config.changed(tools=tools.tools)
            told = (*call.instructions, *tools.instructions)
            return self._source(replace(call, config=config, instructions=told), observed, context)

        context = None
        if not isinstance(self.model_endpoint, AIModelEndpoint):
            context = replace(call.routing_context(), decisions={})
        plain = call.config.changed(tools=call.config.declared_tools)
        provisional = self._source(replace(call, config=plain), None, context)
        sessions, owned = self._sessions()
        return ListingSource(
            provisional,
            sessions,
            owned=owned,
            listed=lambda sessions: sessions.listed(call.config.tools, loop=call.parent),
            prepare=prepare,
        )

    def _sessions(self) -> "tuple[ToolSessions, bool]":
        """Return the open servers of tools, and whether they end with the call."""
        from dhenara_async.tools.sessions import ToolSessions

        shared = self._resources().tools
        if shared is not None:
            return shared, False
        if self._kept is None:
            return ToolSessions(), True
        if self._tool_sessions is None:
            self._tool_sessions = ToolSessions()
        return self._tool_sessions, False

    def _observed(self, call: "CallInput", plan: str | None) -> "ObservedCall | None":
        """Build the reports of a call to one endpoint, or to a ``plan``; None without observers."""
        if self._shared_resources is None or not self._shared_resources.observers:
            return None
        from dhenara_async.calls.observed import ObservedCall

        return ObservedCall(
            self._shared_resources.observers,
            call.config,
            messages=len(call.messages),
            instructions=len(call.instructions),
            conversation=call.conversation,
            node=call.node,
            parent=call.parent,
            plan=plan,
            stream=call.stream,
            clock=self._shared_resources.timing.clock,
        )

    def _plan_context(
        self, call: "CallInput", observed: "ObservedCall | None", context: "RoutingContext | None"
    ) -> "PlanContext":
        """Build the question of a plan, with a function that asks a member of the plan."""
        from dhenara_async.plans.sources import PlanContext

        def ask(endpoint: AIModelEndpoint, config: AIModelCallConfig, more: "Sequence[Message]") -> "EndpointSource":
            messages = [*call.messages, *more]
            return _engine().source(self._call(endpoint, replace(call, config=config, messages=messages)), observed)

        return PlanContext(ask, call.config, context or call.routing_context(), self._resources())

    def _call(self, endpoint: AIModelEndpoint, call: "CallInput") -> "Call":
        """Prepare a call of one endpoint, over the client's connections or connections of its own."""
        preparer = self._preparers.get(id(endpoint))  # the preparer keeps the endpoint, so the id stays its own
        if preparer is None:
            if len(self._preparers) >= _PREPARERS:  # a router may make an endpoint for every call
                self._preparers.clear()
            preparer = self._preparers[id(endpoint)] = _engine().preparer(endpoint, self._policy, self._resources())
        return preparer.call(call, self._kept or self._shared)

    def _resources(self) -> "SharedResources":
        if self._shared_resources is None:
            from dhenara_async.calls.shared import SharedResources

            self._shared_resources = SharedResources()
        return self._shared_resources


class _Engine(NamedTuple):
    """The classes that a call is made with."""

    message: "type[Message]"
    input: "type[CallInput]"
    preparer: "type[CallPreparer]"
    source: "type[EndpointSource]"
    stream: "type[ResponseStream]"


@cache
def _engine() -> _Engine:
    """Import the classes at the first call. A statement ``import`` in each function would cost every call 3 us."""
    from dhenara_async.calls.input import CallInput
    from dhenara_async.calls.prepare import CallPreparer
    from dhenara_async.calls.source import EndpointSource
    from dhenara_async.calls.stream import ResponseStream
    from dhenara_async.messages.messages import Message

    return _Engine(Message, CallInput, CallPreparer, EndpointSource, ResponseStream)


def _call_input(
    messages: "list[Message]", instructions: Iterable[str], config: AIModelCallConfig, *, stream: bool
) -> "CallInput":
    return _engine().input(messages, instructions_of(instructions), config, stream)


def _has_servers(config: AIModelCallConfig) -> bool:
    return any(isinstance(tool, McpServer) for tool in config.tools)


def _checked(config: object) -> AIModelCallConfig:
    """Return a config that a caller passed.

    Raises:
        ConfigurationError: It is something else, such as a dict.
    """
    if isinstance(config, AIModelCallConfig):
        return config
    from dhenara_async.calls.checks import check_config

    return check_config(config)


def instructions_of(instructions: Iterable[str]) -> tuple[str, ...]:
    """``instructions`` as a tuple.

    Raises:
        ConfigurationError: They are a single text.
    """
    if isinstance(instructions, str):
        raise ConfigurationError("instructions is a sequence of texts, not one text; write instructions=['…']")
    return tuple(instructions)


def messages_of(
    prompt: "Prompt | None",
    context: "Iterable[str | MessageLike]",
    messages: "Iterable[MessageLike] | None",
) -> "list[Message]":
    """Build the messages of a call from ``prompt`` and ``context``, or from ``messages``."""
    message_class = _engine().message
    if messages is not None:
        if prompt is not None or tuple(context):
            raise ConfigurationError("pass either messages, or prompt and context, not both")
        if isinstance(messages, str | message_class | Mapping):
            raise ConfigurationError("messages is a sequence of messages, not one; pass a single question as prompt")
        asked = _messages(messages)
        if not asked:
            raise ConfigurationError("messages is empty: there is nothing to ask")
        _refuse_blank(asked)
        return asked
    if not context and isinstance(prompt, str) and prompt.strip():  # as most questions are
        return [message_class.user(prompt)]
    if isinstance(context, str | message_class | Mapping):
        raise ConfigurationError("context is a sequence of texts or messages, not one of them; write context=[…]")
    if prompt is None:
        raise ConfigurationError("there is nothing to ask: pass prompt or messages")
    if not isinstance(prompt, str | message_class | Mapping):
        prompt = _message_of_parts(prompt)
    asked = _messages((*context, prompt))
    _refuse_blank(asked)
    return asked


def _message_of_parts(parts: object) -> "Message":
    """Return the user message of several texts and parts, such as a question and its files.

    Raises:
        ConfigurationError: They are something else, or texts alone.
    """
    from dhenara_async.messages.messages import PartBase

    kind = type(parts).__name__
    several = cast("Sequence[object]", parts) if isinstance(parts, list | tuple) else ()
    texts_alone = all(isinstance(part, str) for part in several)
    if not texts_alone and all(isinstance(part, str | PartBase) for part in several):
        return _engine().message.user(*cast("Sequence[str | Part]", several))
    raise ConfigurationError(
        f"the prompt is a text or a Message, not {kind}; write messages=[…] for a conversation, "
        "or ['…', file] for a question with files"
    )


def _messages(items: "Iterable[str | MessageLike]") -> "list[Message]":
    """Return messages; those that are given as texts or as dicts are read first."""
    asked, message_class = [*items], _engine().message
    if all(isinstance(item, message_class) for item in asked):
        return cast("list[Message]", asked)
    from dhenara_async.messages.dicts import read_messages

    return read_messages(asked)


def _refuse_blank(asked: "Sequence[Message]") -> None:
    """Refuse a blank last message.

    Blank texts are not sent, so the request would end with an earlier answer, and a model would continue it.
    """
    from dhenara_async.messages.messages import Role

    for message in reversed(asked):
        if not _is_blank(message):
            return
        if message.role is not Role.ASSISTANT:
            raise ConfigurationError("the prompt is empty: the last message has no words, files or results")


def _is_blank(message: "Message") -> bool:
    """Whether all parts of ``message`` are blank texts."""
    return all(
        part.type in ("text", "refusal") and not part.get_text().strip() and not part.provider_state
        for part in message.parts
    )
