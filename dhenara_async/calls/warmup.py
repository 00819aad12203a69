"""What only a first call has to do, done ahead: see ``AIModelClient.warm_up``.

Loading the HTTP library takes a few tenths of a second, its TLS context among them, and building the schemas of our
values some more. A program that serves others at the same time cannot stand still for that long, so it happens in a
thread, which takes turns with the loop. Blocks (``async with``) do the loading when they are entered.
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
# What the libraries below them load at their first use; a name is looked up in its ASCII form.
_BESIDE = ("anyio.to_thread", "base64", "encodings.idna")


async def loaded(targets: "Iterable[Target]" = ()) -> None:
    """Load what calls need, in a thread, unless that has happened.

    Args:
        targets: Who will be called; of them everything is loaded and built that can be named in advance.
    """
    asked = tuple(targets)
    if asked or not all(name in sys.modules for name in _CALLING):
        # not anyio's threads: anyio is one of the things that are loaded there
        await asyncio.get_running_loop().run_in_executor(None, _load, asked)


async def warm_up(targets: "Iterable[Target]", transport: "Transport | None", config: "AIModelCallConfig") -> None:
    """Load what calls of ``targets`` need, and connect to each of their hosts once.

    Args:
        targets: Who will be called.
        transport: Over whose connections; None, or one that cannot connect ahead, = nobody is connected to.
        config: The knobs of those calls.

    Raises:
        ConfigurationError: Somebody has no address, or one that cannot be used.
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
        except DhenaraError as exc:  # one error as it is, rather than a group of them
            failures.append(exc)

    async with anyio.create_task_group() as tasks:
        for url in addresses:
            tasks.start_soon(connect, url, transport)
    if failures:
        raise failures[0]


def _load(targets: "tuple[Target, ...]") -> None:
    """Runs in a thread; what it loads and builds is the process's."""
    for name in (*_BESIDE, *_CALLING):
        import_module(name)
    if not targets:
        return
    import anyio

    from dhenara_async.endpoint import AIModelEndpoint
    from dhenara_async.frozen import FrozenModel
    from dhenara_async.hosts.registry import driver_for
    from dhenara_async.plans.targets import endpoints

    anyio.run(anyio.sleep, 0)  # a loop of its own for a moment: anyio loads what it runs on when it first runs
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
    """Where its calls go, which can be told without a key."""
    from pydantic import SecretStr

    from dhenara_async.hosts.registry import resolve

    keyed = endpoint.api.changed(api_key=endpoint.api.api_key or SecretStr("none"))
    return resolve(endpoint.changed(api=keyed)).base_url
