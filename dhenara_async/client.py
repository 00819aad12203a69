"""``AIModelClient``: turns a question and an endpoint into a call, and keeps the connections it is made over.

Making a client costs nothing: it opens nothing, needs no event loop and loads no HTTP library. What a call needs is
loaded by the first call.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self, overload
from warnings import warn

from dhenara_async.config import AIModelCallConfig, FetchPolicy
from dhenara_async.endpoint import AIModelEndpoint
from dhenara_async.errors import ConfigurationError, ConversionLossError, StreamStateError

if TYPE_CHECKING:  # annotations only: these rooms are loaded by the first call, to keep the import light
    from dhenara_async.blocking import BlockingClient
    from dhenara_async.conversation import ConversationNode
    from dhenara_async.conversion import ConversionPolicy, ConversionReport
    from dhenara_async.drivers.base import Driver
    from dhenara_async.feed import Call, Delivery
    from dhenara_async.formatter import FormattedConversation
    from dhenara_async.hosts import Address
    from dhenara_async.means import Means
    from dhenara_async.messages import FilePart, Message
    from dhenara_async.plans import Question
    from dhenara_async.request import ChatRequest, HttpRequest, WireRequest
    from dhenara_async.response import AIModelCallResponse, CallWarning
    from dhenara_async.stream import ResponseStream
    from dhenara_async.targets import Occasion, Target
    from dhenara_async.transport import Transport
    from dhenara_async.window import ConversationPolicy


class AIModelClient:
    """Calls one endpoint, or several by a plan (``Failover``, ``Race``, ``Router``, ``Experiment``).

    ``async with`` keeps its connections until the block ends; outside it, each call opens and closes its own. With
    ``transport`` it uses that one's connections, and whoever made it closes it. ``is_async=False`` gives the blocking
    face for scripts: a ``BlockingClient`` with the same methods, without ``await``.

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
        means: "Means | None" = None,
    ) -> Self: ...

    @overload
    def __new__(
        cls,
        model_endpoint: "Target",
        config: AIModelCallConfig | None = None,
        *,
        is_async: Literal[False],
        policy: "ConversionPolicy | None" = None,
        means: "Means | None" = None,
    ) -> "BlockingClient": ...

    def __new__(
        cls,
        model_endpoint: "Target",
        config: AIModelCallConfig | None = None,
        *,
        is_async: bool = True,
        transport: "Transport | None" = None,
        policy: "ConversionPolicy | None" = None,
        means: "Means | None" = None,
    ) -> "Self | BlockingClient":
        if is_async:
            return super().__new__(cls)
        if transport is not None:
            raise ConfigurationError("a transport belongs to an event loop; the blocking client makes its own")
        from dhenara_async.blocking import BlockingClient

        return BlockingClient(cls(model_endpoint, config, policy=policy, means=means))

    def __init__(
        self,
        model_endpoint: "Target",
        config: AIModelCallConfig | None = None,
        *,
        is_async: bool = True,
        transport: "Transport | None" = None,
        policy: "ConversionPolicy | None" = None,
        means: "Means | None" = None,
    ) -> None:
        self.model_endpoint: Target = model_endpoint
        self.config: AIModelCallConfig = config or AIModelCallConfig()
        self._policy = policy
        self._shared = transport
        self._kept: Transport | None = None
        self._address: Address | None = None
        self._means = means

    def __repr__(self) -> str:
        target = self.model_endpoint
        if isinstance(target, AIModelEndpoint):
            return f"AIModelClient({target.api.provider}, {target.ai_model.model_name})"
        from dhenara_async.targets import label

        return f"AIModelClient({label(target)})"

    async def __aenter__(self) -> Self:
        if self._kept is not None:
            raise StreamStateError("this client is already in a block; make another, they are cheap")
        self._kept = self._shared or _new_transport()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        kept, self._kept = self._kept, None
        if kept is not None and kept is not self._shared:
            import anyio

            with anyio.move_on_after(1, shield=True):
                await kept.aclose()

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
            ConfigurationError: The call cannot be made as asked; nothing was sent.
            UnsupportedError: The model cannot be told a part of it; nothing was sent.
            ConversionLossError: The policy is strict and something would be lost; nothing was sent.
            TransportError: The bytes did not arrive.
            ProtocolError: The answer is not what its dialect allows, or was cut.
            APIError: The provider refused or failed.
        """
        knobs = config or self.config
        asked = messages_of(prompt, context, messages)
        async with self.open(asked, instructions, knobs, wire_stream=knobs.streaming) as stream:
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
            history: The turns before.
            conversation: The id of the conversation that it is a turn of, for plans to go by; None outside of one.
            node: The id of that turn, likewise.
        """
        from dhenara_async.feed import EndpointFeed
        from dhenara_async.stream import ResponseStream

        if isinstance(instructions, str):
            raise ConfigurationError("instructions is a sequence of texts, not one text")
        asked = _Asked(messages, tuple(instructions), config, history, wire_stream)
        target = self.model_endpoint
        if isinstance(target, AIModelEndpoint):
            return ResponseStream(EndpointFeed(self._call(asked)), config)
        from dhenara_async.plans import feed_of

        occasion = occasion_of(messages, config, history=history, conversation=conversation, node=node)
        return ResponseStream(feed_of(target, self._question(asked, occasion)), config)

    def _question(self, asked: "_Asked", occasion: "Occasion") -> "Question":
        """What a plan is asked, with a way to ask its members."""
        from dhenara_async.feed import EndpointFeed
        from dhenara_async.means import Means
        from dhenara_async.plans import Question

        means = self._means = self._means or Means()

        def ask(endpoint: AIModelEndpoint, config: AIModelCallConfig, more: "Sequence[Message]") -> EndpointFeed:
            over = self._kept or self._shared
            client = AIModelClient(endpoint, config, transport=over, policy=self._policy, means=means)
            return EndpointFeed(client._call(replace(asked, config=config, messages=[*asked.messages, *more])))

        return Question(ask, asked.config, occasion, means)

    @property
    def _endpoint(self) -> AIModelEndpoint:
        """The one that is called."""
        if isinstance(self.model_endpoint, AIModelEndpoint):
            return self.model_endpoint
        raise ConfigurationError("a plan over endpoints is asked through its members")

    def _call(self, asked: "_Asked") -> "Call":
        from dhenara_async.feed import Call
        from dhenara_async.hosts import target_of
        from dhenara_async.stream import rehearsal

        written = self._written(asked, opaque=True)
        request, wire, formatted = written.request, written.wire, written.formatted
        pricing = self._endpoint.pricing
        if asked.config.test_mode:
            origin = target_of(self._endpoint)
            words = rehearsal(request, origin)
            return Call(
                request, written.driver, origin, words, wire.warnings, formatted.report, pricing, formatted.prefix
            )
        address = self._resolved()
        shared = self._kept or self._shared
        delivery = self._delivery(written, address, shared or _new_transport(), owns_transport=shared is None)
        retired = self._retirement(address)
        return Call(
            request,
            written.driver,
            address.origin,
            delivery,
            wire.warnings + retired,
            formatted.report,
            pricing,
            formatted.prefix,
            lambda: self._without_reasoning(asked, first=written, over=delivery, more=retired),
        )

    def _without_reasoning(
        self, asked: "_Asked", *, first: "_Written", over: "Delivery", more: "tuple[CallWarning, ...]"
    ) -> "Call | None":
        """The same call without the opaque reasoning of its history; None if there is nothing to leave out.

        Args:
            asked: The call.
            first: What was sent of it.
            over: How that was sent.
            more: Warnings that are not about knobs.

        Raises:
            ConversionLossError: There is, and the policy is strict.
        """
        from dhenara_async.feed import Call

        second = self._written(asked, opaque=False)
        if second.wire.body == first.wire.body:
            return None
        if self._policy is not None and self._policy.strict:  # what is left out need not be lossy in itself
            raise ConversionLossError("strict policy: what the target refused is part of the history")
        address = self._resolved()
        return Call(
            second.request,
            second.driver,
            address.origin,
            self._delivery(second, address, over.transport, owns_transport=over.owns_transport),
            second.wire.warnings + more,
            second.formatted.report,
            self._endpoint.pricing,
            second.formatted.prefix,
        )

    def _written(self, asked: "_Asked", *, opaque: bool) -> "_Written":
        """The request, legal for the endpoint and encoded.

        Args:
            asked: The call.
            opaque: Whether opaque reasoning of the history goes along.
        """
        from dhenara_async.hosts import driver_for
        from dhenara_async.request import ChatRequest

        endpoint = self._endpoint
        formatted = self._formatted(asked, opaque=opaque)
        request = ChatRequest.of(
            formatted.messages,
            instructions=asked.instructions,
            config=formatted.declared(asked.config),
            stream=asked.wire_stream,
        )
        if not request.messages:
            raise ConfigurationError("there is nothing to ask: every message is empty")
        driver = driver_for(endpoint)
        fetch = self._fetch_policy(asked.config)
        links = _to_download(request, fetch, formatted.report, endpoint)
        # what is wrong with the request is found out before anything is downloaded for it
        wire = driver.encode(_with_stand_ins(request, links) if links else request, endpoint)
        return _Written(request, driver, wire, formatted, links, fetch)

    def _formatted(self, asked: "_Asked", *, opaque: bool) -> "FormattedConversation":
        """What is asked behind its history, made legal for the endpoint."""
        from dhenara_async.formatter import PromptFormatter

        history = asked.history
        if history is None:
            return PromptFormatter.format_messages(
                asked.messages,
                self._endpoint,
                policy=self._policy,
                instructions=asked.instructions,
                config=asked.config,
                opaque=opaque,
            )
        return PromptFormatter.format_conversation(
            history.nodes,
            self._endpoint,
            policy=self._policy,
            asked=asked.messages,
            instructions=asked.instructions,
            config=asked.config,
            window=history.window,
            summary=history.summary,
            opaque=opaque,
        )

    def _fetch_policy(self, config: AIModelCallConfig) -> FetchPolicy:
        """What may be downloaded: no more than a request may carry."""
        most = None if self._policy is None else self._policy.max_inlined_bytes
        if most is None or most >= config.fetch.max_bytes:
            return config.fetch
        return config.fetch.model_copy(update={"max_bytes": most})

    def _delivery(
        self, written: "_Written", address: "Address", transport: "Transport", *, owns_transport: bool
    ) -> "Delivery":
        from dhenara_async.auth import KeyHeader
        from dhenara_async.feed import Delivery
        from dhenara_async.means import Means
        from dhenara_async.request import HttpRequest

        if self._means is None:
            self._means = Means()
        means, request, wire = self._means, written.request, written.wire
        headers = {
            "content-type": "application/json",
            "accept": "text/event-stream" if request.stream else "application/json",
            **wire.headers,
            **_sendable(address.headers),
            **_sendable(request.config.extra_headers),
        }
        for name in wire.lists & headers.keys():
            if headers[name] != wire.headers[name]:
                headers[name] = f"{wire.headers[name]},{headers[name]}"
        delivery = Delivery(
            request=HttpRequest(address.base_url + wire.path, headers, wire.body),
            auth=KeyHeader(address.key_header, address.key),
            timeouts=request.config.timeouts,
            transport=transport,
            owns_transport=owns_transport,
            budget=means.retries,
            limiter=means.limiter,
        )
        if not written.links:
            return delivery
        return replace(delivery, prepare=_Download(written, delivery, self._endpoint))

    def _resolved(self) -> "Address":
        if self._address is None:
            from dhenara_async.hosts import resolve

            self._address = resolve(self._endpoint)
        return self._address

    def _retirement(self, address: "Address") -> "tuple[CallWarning, ...]":
        """A warning where the model's own maker has withdrawn it; other hosts keep calendars of their own."""
        model = self._endpoint.ai_model
        if model.retired_on is None or not address.own_host or model.provider != self._endpoint.api.provider:
            return ()
        from datetime import date

        from dhenara_async.response import CallWarning

        if date.today() < model.retired_on:
            return ()
        instead = f"; use {model.replacement}" if model.replacement else ""
        message = f"{model.model_name} was retired by its maker on {model.retired_on}{instead}"
        # Python shows a warning once for each place in the user's code: no state of ours is needed for that
        warn(message, UserWarning, stacklevel=_levels_to_the_user())
        return (CallWarning(code="model_retired", knob="ai_model", message=message),)


@dataclass(frozen=True, slots=True)
class History:
    """The turns before what is asked now.

    Attributes:
        nodes: All of them, oldest first.
        window: How much of them is shown; None = everything.
        summary: Words that stand for what is not; None = nothing does.
    """

    nodes: "tuple[ConversationNode, ...]"
    window: "ConversationPolicy | None" = None
    summary: str | None = None


@dataclass(frozen=True, slots=True)
class _Asked:
    """A call as its caller put it.

    Attributes:
        messages: The conversation, oldest first, or what is asked now behind ``history``.
        instructions: What leads it.
        config: Its knobs.
        history: The turns before; None where ``messages`` is all.
        wire_stream: Whether the provider is asked to stream.
    """

    messages: "list[Message]"
    instructions: tuple[str, ...]
    config: AIModelCallConfig
    history: "History | None"
    wire_stream: bool


@dataclass(frozen=True, slots=True)
class _Written:
    """A call in its dialect's words.

    Attributes:
        request: What it says, legal for the endpoint.
        driver: Who wrote it.
        wire: The request, with a few bytes in place of every file that has to be downloaded.
        formatted: What became of its history.
        links: Those files.
        fetch: Under which policy they are downloaded.
    """

    request: "ChatRequest"
    driver: "Driver"
    wire: "WireRequest"
    formatted: "FormattedConversation"
    links: "tuple[FilePart, ...]"
    fetch: FetchPolicy


class _Download:
    """The step between making a call and sending it where files have to be fetched: downloads, then encodes again.

    Awaited once, by the stream, when its first event is asked for. A call that is made again downloads again: to keep
    the files for that would take their memory from every call.
    """

    def __init__(self, written: _Written, delivery: "Delivery", endpoint: AIModelEndpoint) -> None:
        self._written = written
        self._delivery = delivery
        self._endpoint = endpoint

    async def __call__(self) -> "HttpRequest":
        from dhenara_async.fetch import fetcher_for
        from dhenara_async.links import inlined

        written = self._written
        fetcher = fetcher_for(self._delivery.transport, written.fetch)
        messages = inlined(written.request.messages, await fetcher.fetch_all(written.links))
        wire = written.driver.encode(replace(written.request, messages=messages), self._endpoint)
        return replace(self._delivery.request, body=wire.body)


def _to_download(
    request: "ChatRequest", fetch: FetchPolicy, report: "ConversionReport", endpoint: AIModelEndpoint
) -> "tuple[FilePart, ...]":
    """The files that ``endpoint`` cannot fetch, their URLs checked as far as that goes without a network."""
    from dhenara_async.links import INLINED, to_download

    if not any(entry.code == INLINED for entry in report.entries):
        return ()
    from dhenara_async.fetch import place_of

    links = to_download(request.messages, endpoint)
    for link in links:
        place_of(link.url or "", fetch)
    return links


def _with_stand_ins(request: "ChatRequest", links: "tuple[FilePart, ...]") -> "ChatRequest":
    from dhenara_async.links import inlined, key_of, stand_in

    return replace(request, messages=inlined(request.messages, {key_of(link): stand_in(link) for link in links}))


def _new_transport() -> "Transport":
    from dhenara_async.transport.over_aiohttp import AiohttpTransport

    return AiohttpTransport()


def occasion_of(
    messages: "Sequence[Message]",
    config: AIModelCallConfig,
    *,
    history: "History | None" = None,
    conversation: str | None = None,
    node: str | None = None,
) -> "Occasion":
    """What the routers and experiments of a plan decide by; arguments as for ``AIModelClient.open``."""
    from uuid import uuid4

    from dhenara_async.targets import Occasion

    def said() -> "list[Message]":
        before = () if history is None else history.nodes
        return [*(message for turn in before for message in turn.as_messages()), *messages]

    return Occasion(said, config, uuid4().hex, conversation, node)


def _levels_to_the_user() -> int:
    """The ``stacklevel`` with which a warning of the calling function points at the first code that is not ours."""
    from inspect import currentframe

    levels, frame = 0, currentframe()
    while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == "dhenara_async":
        levels, frame = levels + 1, frame.f_back
    return levels


def _sendable(headers: Mapping[str, str]) -> dict[str, str]:
    """A caller's headers, their names in lower case like ours so that they replace ours instead of joining them."""
    for name, value in headers.items():
        if not (name.isascii() and name.isprintable() and name) or any(character in value for character in "\r\n\0"):
            raise ConfigurationError(f"the extra header {name!r} holds characters that no header can carry")
    return {name.lower(): value for name, value in headers.items()}


def messages_of(
    prompt: "str | Message | None", context: "Iterable[str | Message]", messages: "Iterable[Message] | None"
) -> "list[Message]":
    """What is asked, as messages, whichever way the caller put it."""
    from dhenara_async.messages import Message

    if messages is not None:
        if prompt is not None or tuple(context):
            raise ConfigurationError("pass either messages, or prompt and context, not both")
        if isinstance(messages, str | Message):
            raise ConfigurationError("messages is a sequence of messages, not one; pass a single question as prompt")
        asked = list(messages)
        if not asked:
            raise ConfigurationError("messages is empty: there is nothing to ask")
        return asked
    if isinstance(context, str | Message):
        raise ConfigurationError("context is a sequence of texts or messages, not one of them")
    if prompt is None:
        raise ConfigurationError("there is nothing to ask: pass prompt or messages")
    if not prompt.strip() if isinstance(prompt, str) else not prompt.parts:
        raise ConfigurationError("the prompt is empty")
    return [Message.user(item) if isinstance(item, str) else item for item in (*context, prompt)]
