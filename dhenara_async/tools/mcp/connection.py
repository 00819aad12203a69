"""``McpConnection``: the session with one MCP server, opened at its first use and held by one task.

The SDK's sessions must be closed by the task that opened them: closing in another one fails with ``Attempted to exit
cancel scope in a different task``. Here a task of its own opens a session, waits and closes it, so calls, and the end
of the owner's block, may come from any task. A session that is lost (its child died, its server forgot it) is not
repaired, and one that nobody uses for a while is closed: the next use opens another one.
"""

import asyncio
import re
from collections.abc import Callable, Generator
from contextlib import AsyncExitStack, contextmanager
from contextvars import Context
from math import inf
from typing import cast

import anyio
import httpx2
import mcp_types as types
from mcp import Client, MCPError
from mcp.client.session import ClientRequestContext
from mcp.client.streamable_http import streamable_http_client
from pydantic import ValidationError

from dhenara_async.errors import ConfigurationError, ToolServerError
from dhenara_async.tools.mcp.child import child
from dhenara_async.tools.mcp.running_call import McpCall, running_call
from dhenara_async.tools.mcp.server import McpServer
from dhenara_async.tools.schema_answers import shortened
from dhenara_async.tools.sources import ToolQuestion, ToolSource

CLOSE_SECONDS = 8.0
"""The most that closing a session may take; the SDK gives a child two seconds to exit, and two more after SIGTERM."""

LONGEST_ERROR = 8_000
"""Maximum characters of a server's words in an error."""

_GOODBYE_SECONDS = 2.0
_MOST_PAGES = 100
_MOST_TOOLS = 10_000
_FORGOTTEN = re.compile(r"session (terminated|not found|expired)", re.IGNORECASE)


class McpConnection:
    """The session with one server; see the module.

    Args:
        server: The server.
        open_connections: Has the connection from the opening of a session until the end of its task, so that the
            owner, which knows its connections only weakly, keeps and closes those with a session. None = nobody does.

    Attributes:
        calls: The calls that are being run.
        protocol: The version of the protocol that was spoken last; None if the server was not open yet.
        sources: The lists of tools that use the connection, each with its server.
    """

    def __init__(self, server: McpServer, open_connections: "set[McpConnection] | None" = None) -> None:
        self.server = server
        self.calls: list[McpCall] = []
        self.protocol: str | None = None
        self.sources: list[tuple[McpServer, ToolSource]] = []
        self._open_connections: set[McpConnection] = set() if open_connections is None else open_connections
        self._session: _Session | None = None
        self._ending: set[_Session] = set()
        self._uses = 0
        self._used_at = 0.0  # on the event loop's clock
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    @contextmanager
    def used(self) -> Generator[None]:
        """Keep the session open inside the block; the server's ``idle_timeout`` begins at its end."""
        self._uses += 1
        try:
            yield
        finally:
            self._uses -= 1
            self._used_at = asyncio.get_running_loop().time()
            self._watch(self.server.idle_timeout)

    async def client(self) -> Client:
        """Return the open client: a new one if there is none, or if the last one was lost.

        Raises:
            ToolServerError: The server cannot be opened.
            ConfigurationError: The server cannot be opened as it was described.
        """
        held = self.server.held
        if isinstance(held, Client):
            client = _opened(held, self.server)
            self.protocol = client.protocol_version
            return client
        session = self._session
        if session is None or session.lost:
            if self._closed:
                raise ToolServerError(
                    f"the MCP server {self.server.name!r} was closed with the block of its client or manager",
                    server=self.server.name,
                )
            if session is not None:
                self._let_end(session)
            session = self._session = _Session(self)
            self._open_connections.add(self)
            self._stop_watching()  # by the timer of another event loop, maybe; this use begins the wait anew
        elif not session.is_of_running_loop():
            raise ToolServerError(
                f"the MCP server {self.server.name!r} is open in another event loop: each loop needs a client or "
                "manager of its own",
                server=self.server.name,
            )
        client = await session.opened()
        self.protocol = session.protocol
        return client

    def lose(self, client: Client) -> None:
        """Open another session at the next use, because ``client`` is of no use any more."""
        if self._session is not None and self._session.client is client:
            self._session.lose()

    async def list_tools(self) -> tuple[Client, list[types.Tool], float]:
        """List the tools, all pages. The server is opened again, once, if its session is lost.

        Returns:
            The client that listed them, the tools, and the seconds that the list may be kept.

        Raises:
            ToolServerError: The tools cannot be listed.
        """
        with self.used():
            return await self._list_tools()

    async def _list_tools(self) -> tuple[Client, list[types.Tool], float]:
        name = self.server.name
        seconds = self.server.open_timeout
        for last in (False, True):
            client = await self.client()
            try:
                with anyio.fail_after(seconds):
                    tools, keep = await _listed(client)
                return client, tools, keep
            except TimeoutError as exc:
                raise ToolServerError(
                    f"the MCP server {name!r} did not list its tools within {seconds:g} s", server=name
                ) from exc
            except (MCPError, ValidationError, RuntimeError) as exc:
                if is_lost(exc) and not last:
                    self.lose(client)
                    continue
                raise ToolServerError(
                    f"the MCP server {name!r} does not list its tools: {words_of(exc, self.server)}", server=name
                ) from exc
        raise AssertionError  # the second round returned or raised

    async def aclose(self) -> None:
        """Close the session and wait for the end of the child; a client of the caller stays open."""
        self._closed = True
        self._stop_watching()
        session, self._session = self._session, None
        if session is not None:
            self._let_end(session)
        for ending in tuple(self._ending):
            await ending.end()

    def _watch(self, seconds: float | None) -> None:
        """Look after the session once more in some seconds; one timer runs, however many calls there are."""
        if seconds is not None and self._timer is None and self._session is not None and not self._closed:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._end_if_idle)

    def _stop_watching(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end_if_idle(self) -> None:
        self._timer = None
        session, seconds = self._session, self.server.idle_timeout
        if session is None or seconds is None or self._uses:
            return  # the end of the running use begins the wait anew
        left = self._used_at + seconds - asyncio.get_running_loop().time()
        if left > 0:
            self._watch(left)
            return
        self._session = None
        self._let_end(session)

    def _let_end(self, session: "_Session") -> None:
        """Let a session end by itself, and the connection with the last of them."""
        session.lose()
        self._ending.add(session)
        session.when_ended(self._ended)

    def _ended(self, session: "_Session") -> None:
        self._ending.discard(session)
        if self._session is None and not self._ending:
            self._open_connections.discard(self)

    async def elicit(
        self, context: ClientRequestContext, params: types.ElicitRequestParams
    ) -> types.ElicitResult | types.ErrorData:
        """Answer a question of the server with the hook of the call that it belongs to."""
        del context
        # servers before 2026 ask in a task of the session, where only the one running call can be meant
        running = running_call.get() or (self.calls[0] if len(self.calls) == 1 else None)
        if running is None or running.ask is None:
            if running is not None:
                running.declined.append(params.message)
            return types.ElicitResult(action="decline")
        form = params.requested_schema if isinstance(params, types.ElicitRequestFormParams) else None
        url = params.url if isinstance(params, types.ElicitRequestURLParams) else None
        question = ToolQuestion(running.call, self.server.name, params.message, form, url)
        answer = await running.answer(running.ask, question)
        if answer is None:
            return types.ElicitResult(action="cancel")
        if isinstance(answer, str) or answer is False:
            return types.ElicitResult(action="decline")
        content = None if answer is True else dict(answer)
        given = {"action": "accept", "content": content if form is None or content is not None else {}}
        return types.ElicitResult.model_validate(given)


class _Session:
    """One open session and the task that holds it."""

    def __init__(self, connection: McpConnection) -> None:
        self.client: Client | None = None
        self.protocol: str | None = None
        self.lost = False
        self._connection = connection
        self._failure: ToolServerError | ConfigurationError | None = None
        self._status: int | None = None  # the last HTTP status of an error
        self._settled = asyncio.Event()
        self._stop = asyncio.Event()
        self._scope = anyio.CancelScope()  # ends the opening
        # Not a task group: it would belong to the task that needs the server first, and the session outlives that one.
        # Nor that task's context: the session would take questions for its call for ever.
        self._task = asyncio.get_running_loop().create_task(
            self._hold(), name=f"MCP server {connection.server.name}", context=Context()
        )

    async def opened(self) -> Client:
        """Wait until the session is open; a cancelled wait leaves the opening to others.

        Raises:
            ToolServerError: It could not be opened.
        """
        await self._settled.wait()
        if self.client is not None:
            return self.client
        raise self._failure or self._error("it was closed while it was opened")

    def lose(self) -> None:
        self.lost = True
        self._stop.set()

    def when_ended(self, call: "Callable[[_Session], None]") -> None:
        """Call ``call`` when the task of the session has ended; now, if it has, maybe with its event loop."""
        if self._task.done():
            call(self)
        else:
            self._task.add_done_callback(lambda _: call(self))

    def is_of_running_loop(self) -> bool:
        return self._task.get_loop() is asyncio.get_running_loop()

    async def end(self) -> None:
        """Close the session and wait for the end of its task, also when the caller is cancelled."""
        self.lose()
        with anyio.CancelScope(shield=True):
            if self.client is None:
                self._failure = self._failure or self._error("it was closed while it was opened")
                self._scope.cancel()
            _, running = await asyncio.wait([self._task], timeout=CLOSE_SECONDS)
            for task in running:
                task.cancel()

    async def _hold(self) -> None:
        server = self._connection.server
        self._scope.deadline = anyio.current_time() + server.open_timeout
        try:
            with self._scope as scope:
                async with AsyncExitStack() as stack:
                    client = await self._enter(stack)
                    self.client, self.protocol = client, client.protocol_version
                    scope.deadline = inf
                    self._settled.set()
                    await self._stop.wait()
                    # the SDK says goodbye to a server over HTTP without a limit, also where nobody waits for the end
                    scope.deadline = anyio.current_time() + (CLOSE_SECONDS if server.url is None else _GOODBYE_SECONDS)
            if scope.cancelled_caught and self.client is None:
                self._failure = self._failure or self._error(f"it was not open within {server.open_timeout:g} s")
        except Exception as exc:  # noqa: BLE001 - the SDK raises groups of anything; the users of the server are told
            self._failure = self._failure or self._error(words_of(exc, server))
        finally:
            self.lost = True
            self._settled.set()

    async def _enter(self, stack: AsyncExitStack) -> Client:
        server = self._connection.server
        target: object
        if server.url is not None:
            target = await self._http(stack, server, server.url)
        elif server.command is not None:
            target = child(server, self.lose)
        else:
            target = server.held
        try:
            client = Client(cast("str", target), mode=server.protocol, elicitation_callback=self._connection.elicit)
        except (TypeError, ValueError) as exc:
            self._failure = ConfigurationError(f"the MCP server {server.name!r} cannot be opened: {exc}")
            raise
        opened = await stack.enter_async_context(client)
        opened.session.validate_tool_result = _unchecked
        return opened

    async def _http(self, stack: AsyncExitStack, server: McpServer, url: str) -> object:
        headers = {name: value.get_secret_value() for name, value in server.headers.items()}
        if server.token is not None:
            headers["authorization"] = f"Bearer {server.token.get_secret_value()}"

        async def note(response: httpx2.Response) -> None:
            self._status = response.status_code if response.status_code >= 400 else self._status

        http = httpx2.AsyncClient(
            headers=headers,
            auth=cast("httpx2.Auth | None", server.auth),
            timeout=httpx2.Timeout(server.open_timeout, read=None),  # calls have deadlines of their own
            event_hooks={"response": [note]},
        )
        await stack.enter_async_context(http)
        return streamable_http_client(url, http_client=http)

    def _error(self, reason: str) -> ToolServerError:
        server = self._connection.server
        status = f" (HTTP status {self._status})" if self._status is not None else ""
        advice = "; check its headers= and auth=" if self._status in {401, 403} else ""
        words = f"the MCP server {server.name!r} cannot be opened: {reason}{status}{advice}"
        return ToolServerError(words, server=server.name)


def is_lost(exc: BaseException) -> bool:
    """Whether the session is of no use after this error."""
    if not isinstance(exc, MCPError):
        return False
    return exc.code == types.CONNECTION_CLOSED or is_forgotten(exc)


def is_forgotten(exc: BaseException) -> bool:
    """Whether the server refused a request because it does not know the session any more, so that nothing was run."""
    return isinstance(exc, MCPError) and _FORGOTTEN.search(exc.message) is not None


def words_of(exc: BaseException, server: McpServer) -> str:
    """Return the message of an error, without the server's secrets; of a group, that of its first error."""
    while isinstance(exc, BaseExceptionGroup):
        exc = cast("BaseExceptionGroup[BaseException]", exc).exceptions[0]
    if isinstance(exc, ValidationError):
        text = "its answer does not follow the protocol"
    elif isinstance(exc, OSError) and exc.strerror:
        text = exc.strerror
    else:
        text = exc.message if isinstance(exc, MCPError) else str(exc)
    for secret in server.secrets():
        text = text.replace(secret, "[secret]")
    return shortened(text, LONGEST_ERROR) or type(exc).__name__


async def _listed(client: Client) -> tuple[list[types.Tool], float]:
    """List all pages of tools, and the seconds that all of them may be kept."""
    tools: list[types.Tool] = []
    keep, cursor = inf, None
    for _ in range(_MOST_PAGES):
        page = await client.list_tools(cursor=cursor, cache_mode="bypass")
        tools += page.tools
        if len(tools) > _MOST_TOOLS:
            raise RuntimeError(f"it has more than {_MOST_TOOLS} tools")
        keep = min(keep, page.ttl_ms / 1000)
        cursor = page.next_cursor
        if cursor is None:
            return tools, keep
    raise RuntimeError(f"it has more than {_MOST_PAGES} pages of tools")


async def _unchecked(name: str, result: types.CallToolResult) -> None:
    """Take a result as it is, in the place of the SDK's check of structured content against the tool's output schema.

    Only the model reads the content. The check would report a call as failed that has done its work, and it runs the
    regular expressions of the server on the event loop, where one of them can stop all streams for hours.
    """
    del name, result


def _opened(client: Client, server: McpServer) -> Client:
    try:
        _ = client.session
    except RuntimeError as exc:
        raise ConfigurationError(
            f"the client of the MCP server {server.name!r} is not open: pass it inside its own block, "
            "async with Client(…) as client"
        ) from exc
    return client
