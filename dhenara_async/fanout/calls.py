"""The calls of a fan-out: made of a caller's requests, over one pool of connections."""

from collections.abc import Awaitable, Callable, Coroutine, Hashable
from typing import TypeVar, cast

import anyio

from dhenara_async.calls.input import CallInput
from dhenara_async.calls.prepare import new_transport
from dhenara_async.calls.shared import SharedResources
from dhenara_async.calls.warmup import loaded
from dhenara_async.client import AIModelClient, instructions_of, messages_of
from dhenara_async.config import AIModelCallConfig, Timeouts
from dhenara_async.errors import ConfigurationError
from dhenara_async.fanout.engine import Answering
from dhenara_async.fanout.values import ModelCall, ModelCallLike
from dhenara_async.formatter.conversion import ConversionPolicy
from dhenara_async.messages.messages import Message
from dhenara_async.plans.targets import Target
from dhenara_async.request import HttpRequest
from dhenara_async.transport import Downloads, EndsWaits, Exchange, FileRequest, Transport

Got = TypeVar("Got")

_CLIENTS = 64  # endpoints whose address is remembered


class Calls:
    """Makes the calls of a fan-out, over one pool of connections that it may have to close; see ``Opener``."""

    def __init__(
        self,
        connecting: int | None,
        transport: Transport | None,
        shared: SharedResources | None,
        policy: ConversionPolicy | None,
        config: AIModelCallConfig | None,
    ) -> None:
        if connecting is not None and connecting < 1:
            raise ConfigurationError("connecting is how many calls connect at once: 1 or more, or None for all")
        self._connecting = connecting
        self._shared = transport
        self._owned: Transport | None = None
        self._over: Transport | None = None
        self._shared_resources = shared or SharedResources()
        self._policy = policy
        self._config = config or AIModelCallConfig()
        self._clients: dict[int, AIModelClient] = {}

    async def enter(self) -> None:
        """Have connections to make calls over."""
        over = self._shared
        if over is None:
            await loaded()
            over = self._owned = new_transport()
        if self._connecting is not None:
            door = anyio.Semaphore(self._connecting)
            over = _DoorOfDownloads(over, over, door) if isinstance(over, Downloads) else _Door(over, door)
        self._over = over

    async def __aenter__(self) -> None:
        """See ``enter``; there is nothing to wait for."""

    async def __aexit__(self, *_: object) -> None:
        self._clients.clear()
        owned, self._owned = self._owned, None
        if owned is not None:
            with anyio.move_on_after(1, shield=True):
                await owned.aclose()

    def key(self, item: ModelCallLike) -> Hashable:
        """See ``Opener``."""
        return item.key if isinstance(item, ModelCall) else None

    def open(self, item: ModelCallLike, *, index: int, streamed: bool) -> Answering:
        """See ``Opener``."""
        call = _as_call(item)
        config = call.config or self._config
        asked = messages_of(call.prompt, call.context, call.messages)
        instructions = instructions_of(call.instructions)
        question = CallInput(asked, instructions, config, streamed or config.streaming)
        return self._client(call.endpoint).open(question, ends_with_reader=True)

    def _client(self, endpoint: Target) -> AIModelClient:
        """One client for each endpoint, of those used last: it knows the address."""
        client = self._clients.get(id(endpoint))
        if client is None:
            if len(self._clients) >= _CLIENTS:
                self._clients.clear()
            client = AIModelClient(
                endpoint, self._config, transport=self._over, policy=self._policy, shared=self._shared_resources
            )
            self._clients[id(endpoint)] = client  # it keeps the endpoint, so the id stays its own
        return client


def _as_call(item: object) -> ModelCall:
    """``item`` as a call, checked as far as a slip of the hand goes.

    Raises:
        ConfigurationError: It is none.
    """
    call: ModelCall | None = item if isinstance(item, ModelCall) else None
    if isinstance(item, tuple) and len(parts := cast("tuple[Target, str | Message, AIModelCallConfig]", item)) in (
        2,
        3,
    ):
        call = ModelCall(parts[0], parts[1], config=parts[2] if len(parts) == 3 else None)
    if call is None:
        raise ConfigurationError("a request is a ModelCall, (endpoint, prompt) or (endpoint, prompt, config)")
    _check_call(call.endpoint, call.prompt, call.config)
    return call


def _check_call(endpoint: object, prompt: object, config: object) -> None:
    if not isinstance(endpoint, Target):
        raise ConfigurationError("a request begins with who is asked: an endpoint, or a plan over several")
    if not isinstance(prompt, str | Message | None):
        raise ConfigurationError(
            "what is asked is a text or a Message; a whole conversation goes into ModelCall(messages=…)"
        )
    if not isinstance(config, AIModelCallConfig | None):
        raise ConfigurationError("the knobs of a request are an AIModelCallConfig")


class _Door:
    """A transport through which only so many requests at once wait for the head of their answer."""

    def __init__(self, transport: Transport, door: anyio.Semaphore) -> None:
        self._transport = transport
        self._door = door

    async def send(self, request: HttpRequest, timeouts: Timeouts) -> Exchange:
        """See ``Transport``; its time limits begin behind the door."""
        async with self._door:
            return await self._transport.send(request, timeouts)

    async def while_open(self, work: Coroutine[object, object, Got]) -> Got:
        """See ``EndsWaits``."""
        over = self._transport
        return await (over.while_open(work) if isinstance(over, EndsWaits) else work)

    async def aclose(self) -> None:
        """See ``Transport``."""
        await self._transport.aclose()


class _DoorOfDownloads(_Door):
    """The same for a transport that fetches files too; those do not go through the door."""

    def __init__(self, transport: Transport, downloads: Downloads, door: anyio.Semaphore) -> None:
        super().__init__(transport, door)
        self.get: Callable[[FileRequest], Awaitable[Exchange]] = downloads.get
