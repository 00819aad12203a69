"""Prepares the calls of a fan-out over one connection pool."""

from collections.abc import Awaitable, Callable, Coroutine, Hashable, Mapping
from dataclasses import replace
from typing import TypeVar, cast

import anyio

from dhenara_async.calls.checks import check_config
from dhenara_async.calls.input import CallInput
from dhenara_async.calls.observer import Observer
from dhenara_async.calls.prepare import new_transport
from dhenara_async.calls.shared import SharedResources
from dhenara_async.calls.warmup import loaded
from dhenara_async.client import AIModelClient, instructions_of, messages_of
from dhenara_async.config import AIModelCallConfig, Timeouts
from dhenara_async.errors import ConfigurationError
from dhenara_async.fanout.engine import Answering
from dhenara_async.fanout.values import ModelCall, ModelCallLike
from dhenara_async.formatter.conversion import ConversionPolicy
from dhenara_async.messages.messages import Message, Prompt
from dhenara_async.plans.targets import Target, target_of
from dhenara_async.request import HttpRequest
from dhenara_async.tools.sessions import ToolSessions
from dhenara_async.transport import Downloads, EndsWaits, Exchange, FileRequest, Transport

Got = TypeVar("Got")

_MAX_CLIENTS = 64  # clients kept for reuse, one for each endpoint


class Calls:
    """Prepares the calls of a fan-out, and owns its connection pool unless one is given; see ``Opener``.

    Args:
        connecting: Highest number of calls that connect at once; None = no limit.
        transport: Connections to use, not closed here; None = a new pool.
        shared: Resources shared with other calls; None = new ones.
        policy: Permitted changes to a history that other models wrote.
        config: Configuration of requests without their own.

    Raises:
        ConfigurationError: ``connecting`` is below 1.
    """

    def __init__(
        self,
        connecting: int | None,
        transport: Transport | None,
        shared: SharedResources | None,
        policy: ConversionPolicy | None,
        config: AIModelCallConfig | None,
    ) -> None:
        if connecting is not None and connecting < 1:
            raise ConfigurationError(
                "connecting is the number of calls that connect at once: 1 or more, or None for no limit"
            )
        self._connecting = connecting
        self._given = transport
        self._owned: Transport | None = None
        self._transport: Transport | None = None
        self._shared_resources = shared or SharedResources()
        self._tools: ToolSessions | None = None
        self._policy = policy
        self._config = config or AIModelCallConfig()
        self._clients: dict[int, AIModelClient] = {}

    @property
    def observers(self) -> tuple[Observer, ...]:
        """Are told of each call."""
        return self._shared_resources.observers

    async def enter(self) -> None:
        """Open the connection pool, unless one was given."""
        transport = self._given
        if transport is None:
            await loaded()
            transport = self._owned = new_transport()
        if self._connecting is not None:
            places = anyio.Semaphore(self._connecting)
            if isinstance(transport, Downloads):
                transport = _ConnectLimitWithDownloads(transport, transport, places)
            else:
                transport = _ConnectLimit(transport, places)
        self._transport = transport
        if self._shared_resources.tools is None:
            self._tools = ToolSessions()
            self._shared_resources = replace(self._shared_resources, tools=self._tools)

    async def __aenter__(self) -> None:
        """Do nothing; ``enter`` opens the pool."""

    async def __aexit__(self, *_: object) -> None:
        self._clients.clear()
        owned, self._owned = self._owned, None
        tools, self._tools = self._tools, None
        try:
            if owned is not None:
                with anyio.move_on_after(1, shield=True):
                    await owned.aclose()
        finally:
            if tools is not None:
                self._shared_resources = replace(self._shared_resources, tools=None)
                await tools.aclose()

    def key(self, item: ModelCallLike) -> Hashable:
        """See ``Opener``."""
        return item.key if isinstance(item, ModelCall) else None

    def open(self, item: ModelCallLike, *, index: int, stream: bool) -> Answering:
        """See ``Opener``."""
        call = _as_call(item)
        config = call.config or self._config
        asked = messages_of(call.prompt, call.context, call.messages)
        instructions = instructions_of(call.instructions)
        question = CallInput(asked, instructions, config, stream or config.streaming)
        return self._client(target_of(call.endpoint, "ModelCall")).open(question, ends_with_reader=True)

    def _client(self, endpoint: Target) -> AIModelClient:
        """Return the client of an endpoint, from the cache where possible: it has resolved the host already."""
        client = self._clients.get(id(endpoint))
        if client is None:
            if len(self._clients) >= _MAX_CLIENTS:
                self._clients.clear()
            client = AIModelClient(
                endpoint, self._config, transport=self._transport, policy=self._policy, shared=self._shared_resources
            )
            self._clients[id(endpoint)] = (
                client  # the client keeps the endpoint alive, so that no other object gets its id
            )
        return client


def _as_call(item: object) -> ModelCall:
    """Convert a request to a ``ModelCall``.

    Raises:
        ConfigurationError: ``item`` is not a request, or one of its fields has a wrong type.
    """
    call: ModelCall | None = item if isinstance(item, ModelCall) else None
    if isinstance(item, tuple) and len(parts := cast("tuple[Target | str, Prompt, AIModelCallConfig]", item)) in (
        2,
        3,
    ):
        call = ModelCall(parts[0], parts[1], config=parts[2] if len(parts) == 3 else None)
    if call is None:
        raise ConfigurationError("a request is a ModelCall, (endpoint, prompt) or (endpoint, prompt, config)")
    _check_call(call.endpoint, call.prompt, call.config)
    return call


def _check_call(endpoint: object, prompt: object, config: object) -> None:
    if not isinstance(endpoint, Target | str):
        raise ConfigurationError(
            "a request begins with its target: an endpoint, its short name, or a plan over several"
        )
    if not isinstance(prompt, str | Message | Mapping | None):
        raise ConfigurationError(
            "the prompt of a request is a text or a Message; pass a whole conversation as ModelCall(messages=…)"
        )
    if config is not None:
        check_config(config)


class _ConnectLimit:
    """Limits how many requests of a transport wait for their response head at once."""

    def __init__(self, transport: Transport, places: anyio.Semaphore) -> None:
        self._transport = transport
        self._places = places

    async def send(self, request: HttpRequest, timeouts: Timeouts) -> Exchange:
        """See ``Transport``; the time limits start when the request gets a place."""
        async with self._places:
            return await self._transport.send(request, timeouts)

    async def while_open(self, work: Coroutine[object, object, Got]) -> Got:
        """See ``EndsWaits``."""
        transport = self._transport
        return await (transport.while_open(work) if isinstance(transport, EndsWaits) else work)

    async def aclose(self) -> None:
        """See ``Transport``."""
        await self._transport.aclose()


class _ConnectLimitWithDownloads(_ConnectLimit):
    """The same limit for a transport that also downloads files; downloads are not limited."""

    def __init__(self, transport: Transport, downloads: Downloads, places: anyio.Semaphore) -> None:
        super().__init__(transport, places)
        self.get: Callable[[FileRequest], Awaitable[Exchange]] = downloads.get
