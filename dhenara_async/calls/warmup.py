"""Does the work of a first call ahead of it: see ``AIModelClient.warm_up``.

Loading the HTTP library and its TLS context takes a few tenths of a second, and building the library's pydantic schemas
some more. That would block the event loop, so it happens in a thread. ``async with`` blocks load when they are entered.
"""

import asyncio
import sys
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import TYPE_CHECKING

from dhenara_async.errors import DhenaraError

if TYPE_CHECKING:  # this room is loaded by the loop's own thread, and everything else here by another
    from dhenara_async.config import AIModelCallConfig
    from dhenara_async.endpoint import AIModelEndpoint
    from dhenara_async.frozen import FrozenModel
    from dhenara_async.plans.targets import Target
    from dhenara_async.transport import Transport, WarmsUp

_CALLING = ("dhenara_async.calls.prepare", "dhenara_async.calls.stream", "dhenara_async.transport.aiohttp_transport")
# Modules that those libraries load at their first use; ``encodings.idna`` is for host names.
_BESIDE = ("anyio.to_thread", "base64", "encodings.idna")


async def loaded(targets: "Iterable[Target]" = ()) -> None:
    """Load the modules that calls need, in a thread, unless they are loaded.

    Args:
        targets: Endpoints or plans whose drivers and schemas are loaded too.
    """
    asked = tuple(targets)
    if asked or not all(name in sys.modules for name in _CALLING):
        # not anyio's threads: anyio is loaded there too
        await asyncio.get_running_loop().run_in_executor(None, _load, asked)


async def warm_up(targets: "Iterable[Target]", transport: "Transport | None", config: "AIModelCallConfig") -> None:
    """Load the modules that calls of ``targets`` need, and connect once to each of their hosts.

    Args:
        targets: Endpoints or plans.
        transport: The transport that connects; None, or a transport that cannot connect ahead = no connections.
        config: Options of the calls.

    Raises:
        ConfigurationError: An endpoint has no address, or an unusable one.
        TransportError: A host could not be connected to; all others have been.
    """
    asked = tuple(targets)
    await loaded(asked)
    import anyio

    from dhenara_async.plans.targets import endpoints
    from dhenara_async.transport import WarmsUp

    members = [member for target in asked for member in endpoints(target)]
    addresses = dict.fromkeys(_address(member) for member in members)
    if config.test_mode or not isinstance(transport, WarmsUp):
        return
    failures: list[DhenaraError] = []

    async def connect(url: str, over: "WarmsUp") -> None:
        try:
            await over.warm_up(url, config.timeouts)
        except DhenaraError as exc:  # raise one plain error, not a group
            failures.append(exc)

    async with anyio.create_task_group() as tasks:
        for url in addresses:
            tasks.start_soon(connect, url, transport)
    if failures:
        raise failures[0]


def _load(targets: "tuple[Target, ...]") -> None:
    """Load modules and build schemas for the whole process; runs in a thread."""
    for name in (*_BESIDE, *_CALLING):
        import_module(name)
    if not targets:
        return
    import anyio

    from dhenara_async.endpoint import AIModelEndpoint
    from dhenara_async.frozen import FrozenModel
    from dhenara_async.hosts.registry import driver_for
    from dhenara_async.plans.targets import endpoints

    anyio.run(anyio.sleep, 0)  # anyio loads its backend at its first run
    for target in targets:
        if not isinstance(target, AIModelEndpoint):
            import_module("dhenara_async.plans.sources")
        for member in endpoints(target):
            driver_for(member)
    for value in _values(FrozenModel):
        if not value.__pydantic_complete__:
            value.model_rebuild(raise_errors=False)


def _values(base: "type[FrozenModel]") -> "Iterator[type[FrozenModel]]":
    for value in base.__subclasses__():
        yield value
        yield from _values(value)


def _address(endpoint: "AIModelEndpoint") -> str:
    """Return the base URL of ``endpoint``; no key is needed."""
    from pydantic import SecretStr

    from dhenara_async.hosts.registry import resolve

    keyed = endpoint.api.changed(api_key=endpoint.api.api_key or SecretStr("none"))
    return resolve(endpoint.changed(api=keyed)).base_url
