"""A proxy before a PostgreSQL server whose connections die between a COMMIT and its answer."""

import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio
from anyio.abc import ByteStream, TaskStatus
from sqlalchemy import URL

SOCKET = ".s.PGSQL.5432"


class DyingConnections:
    """Passes on what a client and the server say, in an ``async with`` block.

    Args:
        server: The URL of the database.

    Attributes:
        dies_at_commit: Whether the next COMMIT is passed on, and its connection is cut when the server has answered.
        deaths: How many connections were cut.
    """

    def __init__(self, server: URL) -> None:
        self._server = server
        self._folder = tempfile.TemporaryDirectory(prefix="dhenara-")  # the path of a socket has to be short
        self._tasks = anyio.create_task_group()
        self.dies_at_commit = False
        self.deaths = 0

    @property
    def address(self) -> str:
        """The URL of the database behind the proxy."""
        through = self._server.set(host=None, port=None, query={"host": self._folder.name})
        return through.render_as_string(hide_password=False)

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        await self._tasks.start(self._serve)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tasks.cancel_scope.cancel()
        await self._tasks.__aexit__(kind, exc, trace)
        self._folder.cleanup()

    async def _serve(self, *, task_status: TaskStatus[None]) -> None:
        async with await anyio.create_unix_listener(Path(self._folder.name) / SOCKET) as listener:
            task_status.started()
            await listener.serve(self._pass_on)

    async def _connect(self) -> ByteStream:
        folder = self._server.query.get("host") or self._server.host or "localhost"
        assert isinstance(folder, str)
        if folder.startswith("/"):
            return await anyio.connect_unix(f"{folder}/{SOCKET}")
        return await anyio.connect_tcp(folder, self._server.port or 5432)

    async def _pass_on(self, client: ByteStream) -> None:
        dying = anyio.Event()

        async def copy(source: ByteStream, sink: ByteStream, *, asks: bool) -> None:
            try:
                async for data in source:
                    if asks and self.dies_at_commit and b"COMMIT" in data:
                        self.dies_at_commit = False
                        dying.set()
                    elif not asks and dying.is_set():
                        self.deaths += 1
                        break
                    await sink.send(data)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                pass
            tasks.cancel_scope.cancel()

        async with client, await self._connect() as server, anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: copy(server, client, asks=False))
            await copy(client, server, asks=True)
