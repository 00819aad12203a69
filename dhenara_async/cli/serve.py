"""The ``serve`` command: the page, and the OpenAI-compatible front, from this computer. Needs the extra ``serve``."""

import signal
import socket
import webbrowser
from collections.abc import Generator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from errno import EADDRNOTAVAIL, EINVAL
from importlib.util import find_spec
from secrets import token_urlsafe
from types import FrameType
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

import anyio
import anyio.to_thread

from dhenara_async.cli.endpoints import FIRST_CHOICES, check_reachable, endpoint_of, reachable, stand_in_server
from dhenara_async.cli.screen import Screen
from dhenara_async.cli.settings import kept_model, private_file
from dhenara_async.cli.tools import tools_of
from dhenara_async.config import AIModelCallConfig
from dhenara_async.errors import ConfigurationError, MissingExtraError
from dhenara_async.hosts.names import Named, known_models, meaning
from dhenara_async.manager import ConversationManager
from dhenara_async.plans.targets import Failover, Target
from dhenara_async.tools.policy import ToolPolicy, leave_pending

if find_spec("uvicorn") is None or find_spec("starlette") is None:
    raise MissingExtraError("dhenara-async serve", extra="serve")

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request

from dhenara_async.web.serving.connections import ConnectionLimit
from dhenara_async.web.serving.guard import GuardRules, ServeGuard
from dhenara_async.web.serving.hosts import is_loopback
from dhenara_async.web.serving.protocol import counted_protocol
from dhenara_async.web.starlette import openai_routes, playground

if TYPE_CHECKING:
    from dhenara_async.testing import ProviderServer

OWNER = "local"
"""The owner of the conversations of the page: the one person who runs the command."""

_ANY = "first-that-answers"
_CONNECTIONS = 256
_BEHIND = 5
"""Seconds that pages have to read the end of answers that were cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """The options of ``serve``.

    Attributes:
        host: The address to listen at.
        port: Its port; 0 = one that is free.
        store: The file or database that keeps the conversations; None = a file in the user's own folder.
        token: The secret that clients have to send; None = none on loopback, else one that is made up and printed.
        models: Short names of the models that are served; empty = the models of every provider that has a key.
        tools: Functions that the models may call, as ``module:function``.
        servers: MCP servers whose tools they may call: URLs, or commands that start one.
        names: Further names that the server may be called by.
        opens: Whether a browser is opened.
        loopback: Whether stand-ins answer even if there are keys.
        delay: Seconds before each token of a stand-in.
        grace: Seconds that running answers may go on at the end.
    """

    host: str
    port: int
    store: str | None = None
    token: str | None = None
    models: Sequence[str] = ()
    tools: Sequence[str] = ()
    servers: Sequence[str] = ()
    names: Sequence[str] = ()
    opens: bool = False
    loopback: bool = False
    delay: float = 0.0
    grace: float = 10.0


async def serve(screen: Screen, asked: Serving) -> None:
    """Serve until Ctrl-C, or until the process is asked to end.

    Args:
        screen: Where the address is shown.
        asked: The options of the command.

    Raises:
        ConfigurationError: An option cannot be used, a key is missing, or the address is taken.
        StoreError: The conversations cannot be kept there.
    """
    token = asked.token or (None if is_loopback(asked.host) else token_urlsafe(24))
    rules = GuardRules(host=asked.host, token=token, names=asked.names)
    named = _named(asked)
    stand_in = asked.loopback or not named
    store = asked.store or str(private_file("conversations.db"))
    given = tools_of(asked.tools, asked.servers)
    examples = [weather] if stand_in and not given else []
    tools = [*given, *examples]
    async with AsyncExitStack() as stack:
        listening = stack.enter_context(_listening(asked.host, asked.port))
        server = None
        if stand_in:
            server = await stack.enter_async_context(stand_in_server(delay=asked.delay, thoughtful=True))
        endpoints = _endpoints(named or _first_choices(), server)
        manager = await stack.enter_async_context(ConversationManager(store=store))
        page = playground(
            manager,
            endpoints,
            owner=_owner,
            config=AIModelCallConfig(tools=tools) if tools else None,
            run_tools=ToolPolicy(approve=leave_pending) if tools else None,
            demo=stand_in,
            details=True,
        )
        api = openai_routes(manager, endpoints, owner=_owner, prefix=rules.api)
        config = _config(ServeGuard(Starlette(routes=[*api, *page]), rules), grace=asked.grace)
        running = _Running(config, manager, screen, asked.grace)
        address = _address(asked.host, listening, token)
        names = [*asked.tools, *asked.servers] or [tool.__name__ for tool in examples]
        _greet(screen, address, store, endpoints, names, stand_in=stand_in, as_asked=asked.loopback)
        async with anyio.create_task_group() as tasks:
            if asked.opens:
                tasks.start_soon(_open, address)
            await running.serve(sockets=[listening])
            tasks.cancel_scope.cancel()
    screen.say("Stopped.")


class _Running(uvicorn.Server):
    """A server that ends in good order: Ctrl-C is its usual end, and no error.

    Args:
        config: The options of uvicorn, with the app.
        manager: Has the answers that may still go on.
        screen: Where its end is announced.
        grace: Seconds that running answers may go on.
    """

    def __init__(self, config: uvicorn.Config, manager: ConversationManager, screen: Screen, grace: float) -> None:
        super().__init__(config)
        self._manager = manager
        self._screen = screen
        self._grace = grace
        self._ending = False

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End: pages that read an answer have their connection until that is complete, or was cut."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._manager.finish, self._grace)
            await super().shutdown(sockets)
            if self.force_exit:
                tasks.cancel_scope.cancel()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Take the signals that end a process, for the time of the block; uvicorn's own would raise them again."""
        signals = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in signals}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end; at the second time, end at once."""
        if not self._ending:
            self._ending = self.should_exit = True
            self._screen.complain(f"Stopping: answers may go on for {self._grace:g} s; Ctrl-C again cuts them.")
        else:
            self.force_exit = True


async def weather(city: Literal["Bergen", "Oslo"]) -> str:
    """Tell the weather of a city: the tool that stand-ins call where no other is given."""
    return f"It rains in {city}, says a tool of this demo that knows no other weather."


def _config(app: ServeGuard, *, grace: float) -> uvicorn.Config:
    limit = ConnectionLimit(app, most=_CONNECTIONS)
    return uvicorn.Config(
        limit,
        http=counted_protocol(limit),
        lifespan="off",  # the manager is open already
        ws="none",
        log_config=None,
        log_level="error",
        access_log=False,  # it would have the token of an address
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_CONNECTIONS + 1,
        timeout_graceful_shutdown=round(grace) + _BEHIND,
    )


def _owner(request: Request) -> str:
    return OWNER


def _named(asked: Serving) -> list[Named]:
    """Return the models that were named, else those of the providers that have a key.

    Raises:
        ConfigurationError: A name means nothing, or there is no key for it.
    """
    if asked.models:
        named = [meaning(name) for name in asked.models]
        if not asked.loopback:
            check_reachable(named)
        return named
    if asked.loopback:
        return []
    kept = kept_model()
    wanted = [*([meaning(kept)] if kept is not None else []), *_first_choices()]
    for model in known_models().values():
        retired = model.retired_on is not None and model.retired_on <= date.today()
        if model.provider is not None and not retired:
            wanted.append(Named(model.provider, model))
    return [model for model in wanted if reachable(model.provider)]


def _first_choices() -> list[Named]:
    return [Named(provider, model) for provider, model in FIRST_CHOICES]


def _endpoints(named: Sequence[Named], server: "ProviderServer | None") -> dict[str, Target]:
    """Return the endpoints by the names of their models, and a plan over the first ones."""
    endpoints: dict[str, Target] = {}
    for model in named:
        name = model.model.model_name
        other = endpoints.get(name)
        endpoint = endpoint_of(model, server)
        endpoints[name if other is None or other == endpoint else f"{model.provider}:{name}"] = endpoint
    first: dict[str, Target] = {}
    for model in named:
        first.setdefault(str(model.provider), endpoints[model.model.model_name])
    if len(first) > 1:
        endpoints[_ANY] = Failover(list(first.values())[:3])
    return endpoints


@contextmanager
def _listening(host: str, port: int) -> Generator[socket.socket]:
    """Yield a socket that is bound.

    Raises:
        ConfigurationError: It cannot be.
    """
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as exc:
        raise ConfigurationError(f"{host} is no address of this computer: {exc.strerror}") from None
    with listening:
        if hasattr(socket, "SO_REUSEADDR") and hasattr(signal, "SIGHUP"):  # it means something else on Windows
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(place)
            listening.listen(socket.SOMAXCONN)
        except OSError as exc:
            if exc.errno in {EADDRNOTAVAIL, EINVAL}:  # EINVAL: an address of a link, without its zone
                raise ConfigurationError(f"{host} is no address of this computer: {exc.strerror}") from None
            raise ConfigurationError(
                f"{host}:{port} cannot be listened at ({exc.strerror}); give another --port, or --port 0 for a free one"
            ) from None
        yield listening


def _address(host: str, listening: socket.socket, token: str | None) -> str:
    port = int(listening.getsockname()[1])
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{shown}:{port}/" + (f"?token={quote(token, safe='')}" if token is not None else "")


def _greet(
    screen: Screen,
    address: str,
    store: str,
    endpoints: Mapping[str, Target],
    tools: Sequence[str],
    *,
    stand_in: bool,
    as_asked: bool,
) -> None:
    if stand_in:
        reason = "as asked" if as_asked else "there is no key (dhenara-async keys set PROVIDER keeps one)"
        screen.say(f"Loopback: {reason}. Stand-in servers on this computer answer, not models.")
    screen.say(f"Models: {', '.join(endpoints)}")
    if tools:
        screen.say(f"Tools: {', '.join(tools)}. The page asks you before one runs.")
    screen.say(f"Conversations are kept in {_without_password(store)}")
    screen.say(f"The page: {address}")
    plain, _, query = address.partition("?")
    key = "the token" if query else "any"
    screen.say(f"The same models for clients of OpenAI's API: {plain}v1 (key: {key})")
    screen.say("Ctrl-C ends it.")


def _without_password(store: str) -> str:
    """Return the address of a store for people; that of a database may have a user and password."""
    scheme, separator, rest = store.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}" if separator else store


async def _open(address: str) -> None:
    await anyio.to_thread.run_sync(webbrowser.open, address, abandon_on_cancel=True)
