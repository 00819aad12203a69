"""The blocking client for scripts and notebooks: the async client behind an anyio portal.

The portal is a thread with an event loop. Inside ``with`` one portal and its connections serve every call; outside it
each call brings its own. The thread is ours rather than ``anyio.from_thread.start_blocking_portal``'s, which an
interpreter waits for when it ends: a stream that a script has left open must not keep it from ending.

Nobody waits for what cannot come. A call whose thread is interrupted (Ctrl-C) is cancelled, leaving the block ends all
calls that are still under way in other threads, and a forked process, which has none of its parent's threads, never
waits for a portal of its parent.
"""

import os
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import AbstractContextManager, ExitStack
from threading import Thread, get_ident
from types import TracebackType
from typing import Protocol, Self, TypeVar

import anyio
from anyio.from_thread import BlockingPortal
from pydantic import JsonValue

from dhenara_async.config import AIModelCallConfig
from dhenara_async.errors import StreamStateError
from dhenara_async.events import StreamEvent
from dhenara_async.frozen import shortened
from dhenara_async.messages.messages import MessageLike, Prompt
from dhenara_async.plans.targets import Target
from dhenara_async.response import AIModelCallResponse
from dhenara_async.tools.policy import ToolPolicy

Got = TypeVar("Got")

_ENDED = "the block of the blocking client has ended, and its calls with it; make the call inside the block"


class AsyncBlock(Protocol):
    """An object for ``async with``."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> bool | None: ...


class AsyncStream(AsyncBlock, Protocol):
    """The methods of the async stream that the blocking stream calls."""

    async def batch(self) -> list[StreamEvent]: ...
    def partial_structured(self) -> JsonValue: ...

    @property
    def response(self) -> AIModelCallResponse: ...
    @property
    def partial(self) -> AIModelCallResponse: ...


class AsyncClient(AsyncBlock, Protocol):
    """The methods of the async client that the blocking client calls."""

    model_endpoint: Target

    async def warm_up(self) -> None: ...

    async def generate(
        self,
        prompt: Prompt | None = None,
        *,
        context: Iterable[str | MessageLike] = (),
        messages: Iterable[MessageLike] | None = None,
        instructions: Iterable[str] = (),
        config: AIModelCallConfig | None = None,
        run_tools: ToolPolicy | None = None,
    ) -> AIModelCallResponse: ...

    def stream(
        self,
        prompt: Prompt | None = None,
        *,
        context: Iterable[str | MessageLike] = (),
        messages: Iterable[MessageLike] | None = None,
        instructions: Iterable[str] = (),
        config: AIModelCallConfig | None = None,
        run_tools: ToolPolicy | None = None,
    ) -> AsyncStream: ...


class _PortalBlock:
    """A ``with`` block around an ``async with`` block on a portal; both portal and blocks end together."""

    def __init__(self) -> None:
        self._portal: _Portal | None = None
        self._stack = ExitStack()

    def _open(self, opening: "AbstractContextManager[_Portal]", inner: AsyncBlock) -> None:
        with ExitStack() as stack:
            portal = stack.enter_context(opening)
            portal.call(inner.__aenter__)
            stack.push(portal.leaving(inner.__aexit__))
            self._stack = stack.pop_all()
        self._portal = portal

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal = None
        self._stack.__exit__(kind, exc, trace)


class BlockingStream(_PortalBlock):
    """A streamed answer, for ``with`` and a plain ``for``."""

    def __init__(self, stream: AsyncStream, portal: "Callable[[], AbstractContextManager[_Portal]]") -> None:
        super().__init__()
        self._stream = stream
        self._open_portal = portal

    def __enter__(self) -> Self:
        self._open(self._open_portal(), self._stream)
        return self

    def __iter__(self) -> Iterator[StreamEvent]:
        while True:
            if self._portal is None:
                raise StreamStateError("a stream is read inside its block: with client.stream(…) as stream")
            if self._portal.inherited:
                raise StreamStateError(
                    "a stream is read by the process that opened it, and this one was forked; ask anew"
                )
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
        """The partial answer received so far."""
        return self._stream.partial

    def partial_structured(self) -> JsonValue:
        """The partial object of ``structured_output`` as plain JSON; None = nothing yet."""
        return self._stream.partial_structured()


class BlockingClient(_PortalBlock):
    """Calls one endpoint and blocks until the answer. Made by ``AIModelClient(…, is_async=False)``.

    Its event loop runs in a thread of its own, so it works in any thread, also where a loop is running already, as in a
    notebook's cells: that loop stands still until the call returns, so async code is better served by the async client.

    Ctrl-C cancels the call that it interrupts. Leaving the block ends what other threads are still waiting for: they
    get a ``StreamStateError``. A process that was forked inside the block makes connections of its own, for each call.
    """

    def __init__(self, client: AsyncClient) -> None:
        super().__init__()
        self._client = client

    def __repr__(self) -> str:
        return shortened(f"Blocking{self._client!r}")

    @property
    def model_endpoint(self) -> Target:
        """The endpoint or plan that is called."""
        return self._client.model_endpoint

    def __enter__(self) -> Self:
        if self._portal is not None:
            raise StreamStateError("this client is already in a block; make another, they are cheap")
        self._open(_Own(), self._client)
        return self

    def generate(
        self,
        prompt: Prompt | None = None,
        *,
        context: Iterable[str | MessageLike] = (),
        messages: Iterable[MessageLike] | None = None,
        instructions: Iterable[str] = (),
        config: AIModelCallConfig | None = None,
        run_tools: ToolPolicy | None = None,
    ) -> AIModelCallResponse:
        """Send a question and return the complete answer; arguments and errors as ``AIModelClient.generate``."""

        async def ask() -> AIModelCallResponse:
            return await self._client.generate(
                prompt,
                context=context,
                messages=messages,
                instructions=instructions,
                config=config,
                run_tools=run_tools,
            )

        with self._a_portal() as portal:
            return portal.call(ask)

    def warm_up(self) -> None:
        """Load modules, and inside ``with`` connect to hosts, ahead of the first call.

        Errors as ``AIModelClient.warm_up``.
        """
        with self._a_portal() as portal:
            portal.call(self._client.warm_up)

    def stream(
        self,
        prompt: Prompt | None = None,
        *,
        context: Iterable[str | MessageLike] = (),
        messages: Iterable[MessageLike] | None = None,
        instructions: Iterable[str] = (),
        config: AIModelCallConfig | None = None,
        run_tools: ToolPolicy | None = None,
    ) -> BlockingStream:
        """Send a question and stream the answer: ``with client.stream(…) as stream: for event in stream``."""
        stream = self._client.stream(
            prompt,
            context=context,
            messages=messages,
            instructions=instructions,
            config=config,
            run_tools=run_tools,
        )
        return BlockingStream(stream, self._a_portal)

    def _a_portal(self) -> "AbstractContextManager[_Portal]":
        """Yield the portal of the block, or a new portal that ends with the call."""
        if self._portal is None or self._portal.inherited:
            return _Own()
        return _Borrowed(self._portal)


class _Portal:
    """An event loop in another thread.

    Args:
        portal: Anyio's; it runs in the thread that makes this.
    """

    def __init__(self, portal: BlockingPortal) -> None:
        self._portal = portal
        self._thread = get_ident()
        self._process = os.getpid()
        self._stopped = False
        # held here, so that what an interpreter that ends finds open goes with its loop, and not before
        self._open: list[object] = []

    @property
    def inherited(self) -> bool:
        """Whether the loop runs in the parent of this forked process, and can run nothing here."""
        return os.getpid() != self._process

    def call(self, work: Callable[..., Awaitable[Got]], *args: object) -> Got:
        """Run ``work`` on the loop and return its result; an interrupt of this thread cancels it.

        Raises:
            StreamStateError: The portal ended before ``work``, or cannot be waited for in this thread.
        """
        if get_ident() == self._thread:
            raise StreamStateError(
                "the blocking client was called by code that it is waiting for itself, such as a function of a plan or "
                "a tool; await an AIModelClient there, without is_async=False"
            )
        try:
            future = self._portal.start_task_soon(work, *args)
        except RuntimeError as exc:
            raise StreamStateError(_ENDED) from exc
        try:
            return future.result()
        except CancelledError as exc:
            raise StreamStateError(_ENDED) from exc
        finally:
            future.cancel()  # where it is not over, this thread has been interrupted

    def leaving(self, leave: Callable[..., Awaitable[object]]) -> Callable[..., None]:
        """Wrap an async context manager for ``with``; leaving does nothing once the portal has ended."""
        self._open.append(leave)

        def exit(kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
            self._open.remove(leave)
            if self.inherited or self._stopped:
                return
            try:
                self.call(leave, kind, exc, trace)
            except StreamStateError:
                if not self._stopped:  # meanwhile, by another thread
                    raise

        return exit

    def stop(self) -> None:
        """Stop the loop and cancel its tasks."""
        self._stopped = True
        self._portal.call(self._portal.stop, True)


class _Own(AbstractContextManager[_Portal]):
    """A portal in its own thread; both end with the block or the interpreter.

    No generator: one that is never ended would be when the interpreter is, and wait for a thread that runs no more.
    """

    def __init__(self) -> None:
        self._opened: Future[_Portal] = Future()
        self._thread = Thread(target=self._run, name="dhenara_async portal", daemon=True)

    def __enter__(self) -> _Portal:
        self._thread.start()
        return self._opened.result()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        portal = self._opened.result()
        if not portal.inherited:
            portal.stop()
            self._thread.join()

    def _run(self) -> None:
        try:
            anyio.run(self._keep)
        except BaseException as exc:
            if self._opened.done():
                raise
            self._opened.set_exception(exc)  # no loop, for want of files: its waiters have to know

    async def _keep(self) -> None:
        async with BlockingPortal() as portal:
            self._opened.set_result(_Portal(portal))
            await portal.sleep_until_stopped()


class _Borrowed(AbstractContextManager[_Portal]):
    def __init__(self, portal: _Portal) -> None:
        self._portal = portal

    def __enter__(self) -> _Portal:
        return self._portal

    def __exit__(self, *exc_info: object) -> None:
        return None
