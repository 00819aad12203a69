"""The blocking face for scripts and notebooks: the async client behind an anyio portal, and nothing of its own.

The portal is a thread with an event loop. Inside ``with`` one portal and its connections serve every call; outside it
each call brings its own. The thread is ours rather than ``anyio.from_thread.start_blocking_portal``'s, which an
interpreter waits for when it ends: a stream that a script has left open must not keep it from ending.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack
from threading import Thread
from types import TracebackType
from typing import Protocol, Self

import anyio
from anyio.from_thread import BlockingPortal
from pydantic import JsonValue

from dhenara_async.config import AIModelCallConfig
from dhenara_async.errors import StreamStateError
from dhenara_async.events import StreamEvent
from dhenara_async.messages import Message
from dhenara_async.response import AIModelCallResponse
from dhenara_async.targets import Target


class AsyncStream(Protocol):
    """What the blocking stream needs of the async one."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> bool | None: ...
    async def batch(self) -> list[StreamEvent]: ...
    def partial_structured(self) -> JsonValue: ...

    @property
    def response(self) -> AIModelCallResponse: ...
    @property
    def partial(self) -> AIModelCallResponse: ...


class AsyncClient(Protocol):
    """What the blocking client needs of the async one."""

    model_endpoint: Target

    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> bool | None: ...
    async def warm_up(self) -> None: ...

    async def generate(
        self,
        prompt: str | Message | None = None,
        *,
        context: Iterable[str | Message] = (),
        messages: Iterable[Message] | None = None,
        instructions: Iterable[str] = (),
        config: AIModelCallConfig | None = None,
    ) -> AIModelCallResponse: ...

    def stream(
        self,
        prompt: str | Message | None = None,
        *,
        context: Iterable[str | Message] = (),
        messages: Iterable[Message] | None = None,
        instructions: Iterable[str] = (),
        config: AIModelCallConfig | None = None,
    ) -> AsyncStream: ...


class BlockingStream:
    """An answer being received, in a ``with`` block and a plain ``for``."""

    def __init__(self, stream: AsyncStream, portal: Callable[[], AbstractContextManager[BlockingPortal]]) -> None:
        self._stream = stream
        self._open_portal = portal
        self._portal: BlockingPortal | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            portal = stack.enter_context(self._open_portal())
            stack.enter_context(portal.wrap_async_context_manager(self._stream))
            self._stack = stack.pop_all()
        self._portal = portal
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal = None
        self._stack.__exit__(kind, exc, trace)

    def __iter__(self) -> Iterator[StreamEvent]:
        while True:
            if self._portal is None:
                raise StreamStateError("a stream is read inside its block: with client.stream(…) as stream")
            events = self._portal.call(self._stream.batch)
            if not events:
                return
            yield from events

    @property
    def response(self) -> AIModelCallResponse:
        """The complete answer; ``StreamStateError`` before its end."""
        return self._stream.response

    @property
    def partial(self) -> AIModelCallResponse:
        """The answer as far as it has come."""
        return self._stream.partial

    def partial_structured(self) -> JsonValue:
        """The object that ``structured_output`` asked for, as far as it has come, as plain JSON; None = nothing yet."""
        return self._stream.partial_structured()


class BlockingClient:
    """Calls one endpoint and waits: what ``AIModelClient(…, is_async=False)`` gives.

    Every method raises ``StreamStateError`` on a thread whose event loop is running, because waiting there would stop
    the loop; use the async client in async code.
    """

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._portal: BlockingPortal | None = None
        self._stack = ExitStack()

    def __repr__(self) -> str:
        return f"Blocking{self._client!r}"

    @property
    def model_endpoint(self) -> Target:
        """Where calls go."""
        return self._client.model_endpoint

    def __enter__(self) -> Self:
        if self._portal is not None:
            raise StreamStateError("this client is already in a block; make another, they are cheap")
        _refuse_running_loop()
        with ExitStack() as stack:
            portal = stack.enter_context(_Own())
            stack.enter_context(portal.wrap_async_context_manager(self._client))
            self._stack = stack.pop_all()
        self._portal = portal
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal = None
        self._stack.__exit__(kind, exc, trace)

    def generate(
        self,
        prompt: str | Message | None = None,
        *,
        context: Iterable[str | Message] = (),
        messages: Iterable[Message] | None = None,
        instructions: Iterable[str] = (),
        config: AIModelCallConfig | None = None,
    ) -> AIModelCallResponse:
        """Ask and wait for the whole answer; arguments and errors as ``AIModelClient.generate``."""

        async def ask() -> AIModelCallResponse:
            return await self._client.generate(
                prompt, context=context, messages=messages, instructions=instructions, config=config
            )

        with self._a_portal() as portal:
            return portal.call(ask)

    def warm_up(self) -> None:
        """Do ahead what only a first call has to do; errors as ``AIModelClient.warm_up``. Outside ``with`` there are no
        connections to be kept, so only what calls load is loaded."""
        with self._a_portal() as portal:
            portal.call(self._client.warm_up)

    def stream(
        self,
        prompt: str | Message | None = None,
        *,
        context: Iterable[str | Message] = (),
        messages: Iterable[Message] | None = None,
        instructions: Iterable[str] = (),
        config: AIModelCallConfig | None = None,
    ) -> BlockingStream:
        """Ask and receive as it comes: ``with client.stream(…) as stream: for event in stream``."""
        stream = self._client.stream(
            prompt, context=context, messages=messages, instructions=instructions, config=config
        )
        return BlockingStream(stream, self._a_portal)

    def _a_portal(self) -> AbstractContextManager[BlockingPortal]:
        """The block's portal, left open, or a new one that ends with the call."""
        _refuse_running_loop()
        if self._portal is None:
            return _Own()
        return _Borrowed(self._portal)


class _Own(AbstractContextManager[BlockingPortal]):
    """A portal in a thread of its own; both end with the block, or with the interpreter.

    No generator: one that is never ended would be when the interpreter is, and wait for a thread that runs no more.
    """

    def __init__(self) -> None:
        self._opened: Future[BlockingPortal] = Future()
        self._thread = Thread(target=self._run, name="dhenara_async portal", daemon=True)

    def __enter__(self) -> BlockingPortal:
        self._thread.start()
        return self._opened.result()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        portal = self._opened.result()
        portal.call(portal.stop, kind is not None)
        self._thread.join()

    def _run(self) -> None:
        try:
            anyio.run(self._keep)
        except BaseException as exc:
            if self._opened.done():
                raise
            self._opened.set_exception(exc)  # no loop, for want of files: whoever waits for it has to know

    async def _keep(self) -> None:
        async with BlockingPortal() as portal:
            self._opened.set_result(portal)
            await portal.sleep_until_stopped()


class _Borrowed(AbstractContextManager[BlockingPortal]):
    def __init__(self, portal: BlockingPortal) -> None:
        self._portal = portal

    def __enter__(self) -> BlockingPortal:
        return self._portal

    def __exit__(self, *exc_info: object) -> None:
        return None


def _refuse_running_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise StreamStateError(
        "the blocking client was called on the thread of a running event loop, which it would stop; "
        "use AIModelClient(…) without is_async=False and await it"
    )
