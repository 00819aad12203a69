"""``McpServer``: an MCP server as a value that goes where tools go. Pure: nothing is opened and no SDK is loaded."""

import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated, Protocol, TypedDict, Unpack, runtime_checkable
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, PrivateAttr, SecretStr

from dhenara_async.errors import ConfigurationError
from dhenara_async.frozen import Aside, FrozenModel
from dhenara_async.hosts.headers import sendable

if TYPE_CHECKING:  # the SDK's HTTP library is loaded when a server is opened
    import os

    import httpx2

_INTERPRETERS = re.compile(r"python[0-9.]*|pythonw|node|deno|bun|npx|uvx|uv|pipx|docker")
Secrets = Mapping[str, SecretStr]


@runtime_checkable
class _HasName(Protocol):
    """An object with a name of its own, such as the SDK's servers."""

    @property
    def name(self) -> object: ...


class McpOptions(TypedDict, total=False):
    """The options of every kind of server; see ``McpServer``."""

    allow: Sequence[str] | None
    pins: Mapping[str, str] | None
    timeout: float | None
    open_timeout: float
    idle_timeout: float | None
    max_result_bytes: int
    max_file_bytes: int
    resources: bool
    instructions: bool
    protocol: str


class McpServer(FrozenModel):
    """An MCP server as tools: ``tools=[weather, McpServer.http("https://…/mcp", auth="…")]`` (extra ``mcp``).

    Make one with ``http``, ``stdio`` or ``of``. It is a value: the server is opened at its first use, by the manager or
    client that makes the call, which keeps the session until its block ends or nobody has used it for ``idle_timeout``
    seconds; the next use opens another. Outside a block every call opens its own.

    The model sees each tool as ``name__tool``. A server's texts go into the prompt, so use ``allow`` and ``pins`` for a
    server that is not your own. A server is named in code only: it cannot be read from JSON.

    Attributes:
        name: The first half of the names of its tools.
        url: The address of a server over HTTP; None for others. Errors mask the values in its query, but the SDK logs
            it as it is: put a key into ``headers`` or ``token`` where the server takes it there.
        headers: Sent with every HTTP request.
        token: Bearer token of every HTTP request; None = none.
        command: The program of a server that runs as a child process; None for others.
        args: Its arguments.
        env: Environment variables for the child, beside a few such as ``PATH``: the others of this process are not
            passed on.
        cwd: Its working directory; None = that of this process.
        allow: The tools that may be used, by the server's own names; None = all.
        pins: Hash of the definition of each tool that you approved, by the server's own names, as ``mcp_pins`` returns
            them; a tool that changed, or is new, is withheld and reported in ``response.warnings``. None = not checked.
        timeout: Seconds that one call may take, without the time that the user needs for an answer; None = no limit.
        open_timeout: Seconds that opening the server, and listing its tools, may take.
        idle_timeout: Seconds without a use after which the session, and the child process, is closed; whatever the
            server kept for the session is lost then. None = kept until the block of its client or manager ends.
        max_result_bytes: Bytes of text in one result; more is cut, and the result says so.
        max_file_bytes: Bytes of images and other files in one result; those beyond are left out, likewise.
        resources: Whether links in results are read from the server; otherwise the model sees their address.
        instructions: Whether the server's own instructions are added to the system prompt.
        protocol: ``auto`` = the newest version that both sides have; ``legacy`` = the handshake of 2025 and before; or
            a version, such as ``2026-07-28``.
    """

    name: str = Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_-]{0,39}$")
    url: str | None = Field(default=None, repr=False)
    headers: Secrets = Field(default_factory=dict, repr=False)
    token: SecretStr | None = Field(default=None, repr=False)
    command: str | None = Field(default=None, repr=False)
    args: Annotated[Sequence[str], AfterValidator(tuple)] = Field(default=(), repr=False)
    env: Secrets = Field(default_factory=dict, repr=False)
    cwd: str | None = Field(default=None, repr=False)
    allow: Annotated[Sequence[str], AfterValidator(tuple)] | None = None
    pins: Mapping[str, str] | None = None
    timeout: float | None = Field(default=60.0, gt=0)
    open_timeout: float = Field(default=30.0, gt=0)
    idle_timeout: float | None = Field(default=600.0, gt=0)
    max_result_bytes: int = Field(default=100_000, gt=0)
    max_file_bytes: int = Field(default=20_000_000, gt=0)
    resources: bool = False
    instructions: bool = False
    protocol: str = "auto"

    _auth: Aside[object] = PrivateAttr(default=Aside())
    _object: Aside[object] = PrivateAttr(default=Aside())

    @classmethod
    def http(
        cls,
        url: str,
        *,
        headers: "Mapping[str, str | SecretStr] | None" = None,
        auth: "str | SecretStr | httpx2.Auth | None" = None,
        name: str | None = None,
        **options: Unpack[McpOptions],
    ) -> "McpServer":
        """Build a server that is reached over HTTP (Streamable HTTP).

        Args:
            url: Its address. Redirects to another host are not followed.
            headers: Sent with every request; secret.
            auth: A bearer token, or an ``httpx2.Auth`` such as the SDK's OAuth providers.
            name: The first half of its tools' names; None = from the host's name.
            options: ``allow``, ``pins``, ``timeout`` and so on, as in the class.

        Raises:
            ConfigurationError: It is not an http(s) URL, has credentials in it, or a header cannot be sent.
        """
        try:
            parts = urlsplit(url)
            host = parts.hostname or ""
        except ValueError as exc:
            raise ConfigurationError(f"the URL of the MCP server is not a URL: {exc}") from exc
        if parts.scheme not in {"http", "https"} or not host:
            raise ConfigurationError("the URL of an MCP server starts with https:// or http://")
        if "@" in parts.netloc:
            raise ConfigurationError(
                "the URL of an MCP server has no credentials in it: pass them as auth= or headers="
            )
        given = {key: _revealed(value) for key, value in (headers or {}).items()}
        token = SecretStr(auth) if isinstance(auth, str) else auth if isinstance(auth, SecretStr) else None
        server = cls(
            name=_default_name(host) if name is None else name,
            url=url,
            headers={key: SecretStr(value) for key, value in sendable(given).items()},
            token=token,
            **options,
        )
        if auth is not None and token is None:
            server._auth = Aside(auth)
        return server

    @classmethod
    def stdio(
        cls,
        command: "str | os.PathLike[str] | Sequence[str]",
        args: str | Sequence[str] = (),
        *more: str,
        env: "Mapping[str, str | SecretStr] | None" = None,
        cwd: "str | os.PathLike[str] | None" = None,
        name: str | None = None,
        **options: Unpack[McpOptions],
    ) -> "McpServer":
        """Build a server that runs as a child process and is spoken to over its standard input and output.

        Args:
            command: The program, or the whole command line as a sequence. Never build it from the words of a user or a
                model.
            args: Its arguments, as a sequence or one by one.
            more: The further ones of them.
            env: Environment variables for the child; secret.
            cwd: Its working directory.
            name: The first half of its tools' names; None = from the name of the program or script.
            options: ``allow``, ``pins``, ``timeout`` and so on, as in the class.

        Raises:
            ConfigurationError: The command is empty.
        """
        words = list(command) if isinstance(command, Sequence) and not isinstance(command, str) else [str(command)]
        words += [*([args] if isinstance(args, str) else args), *more]
        if not words or not words[0]:
            raise ConfigurationError("the command of an MCP server is empty")
        return cls(
            name=_default_name(_program(words)) if name is None else name,
            command=words[0],
            args=words[1:],
            env={key: SecretStr(_revealed(value)) for key, value in (env or {}).items()},
            cwd=None if cwd is None else str(cwd),
            **options,
        )

    @classmethod
    def of(
        cls,
        server: object,
        *,
        name: str | None = None,
        **options: Unpack[McpOptions],
    ) -> "McpServer":
        """Build a server from an object of the MCP SDK.

        Args:
            server: A ``mcp.Client`` inside its own block, which stays the caller's to close; or an ``MCPServer`` or
                ``Server`` of this process, which is spoken to in memory.
            name: The first half of its tools' names; None = the server's own name.
            options: ``allow``, ``pins``, ``timeout`` and so on, as in the class.
        """
        own = server.name if isinstance(server, _HasName) else ""
        made = cls(
            name=_default_name(own if isinstance(own, str) else "") if name is None else name,
            **options,
        )
        made._object = Aside(server)
        return made

    @property
    def auth(self) -> object:
        """The ``httpx2.Auth`` of its requests; None = none, or a bearer token."""
        return self._auth.held

    @property
    def held(self) -> object:
        """The object of the SDK that ``of`` was given; None for other servers."""
        return self._object.held

    def connection_key(self) -> Hashable:
        """Identify the connection: two servers with equal keys share one session."""
        return (
            self.url,
            tuple(sorted((key, value.get_secret_value()) for key, value in self.headers.items())),
            None if self.token is None else self.token.get_secret_value(),
            self.command,
            tuple(self.args),
            tuple(sorted((key, value.get_secret_value()) for key, value in self.env.items())),
            self.cwd,
            self.protocol,
            self.idle_timeout,
            None if self.auth is None else id(self.auth),
            None if self.held is None else id(self.held),
        )

    def secrets(self) -> tuple[str, ...]:
        """Return the texts that no message may repeat, the longest first."""
        values = [value.get_secret_value() for value in (*self.headers.values(), *self.env.values())]
        words = [value.strip().rpartition(" ")[2] for value in values]
        if self.token is not None:
            words.append(self.token.get_secret_value())
        if self.url is not None:
            words += [pair.partition("=")[2] for pair in urlsplit(self.url).query.split("&")]
        return tuple(sorted({word for word in words if len(word) >= 8}, key=len, reverse=True))


def _revealed(value: str | SecretStr) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def _default_name(text: str) -> str:
    """Build a name from a host, a program or a server's own name."""
    name = re.sub(r"[^a-zA-Z0-9_-]+", "_", text).strip("_-")[:40]
    if not name:
        return "mcp"
    return name if not name[0].isdigit() else f"mcp_{name}"[:40]


def _program(words: Sequence[str]) -> str:
    """Name the program that a command runs: the script or package, where an interpreter or a runner comes first."""
    for word in words:
        stem = PurePath(word).stem if word.endswith((".py", ".js", ".mjs", ".ts", ".exe")) else PurePath(word).name
        if not word.startswith("-") and _INTERPRETERS.fullmatch(stem) is None and stem not in {"run", "exec"}:
            return stem
    return PurePath(words[0]).name
