"""How much later another process has the events of a turn than the process that answers it.

One process answers a turn and notes when it reads each event. This process reads the same turn from the store: as a
registered reader (``manager.attach``), for whom the writer flushes sooner and wakes, and unregistered, by reading the
rows every ``_LOOK_SECONDS``. The clock is one for all processes of a machine.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import orjson

from benchmarks import wire
from benchmarks.peers.calls import KEY, MAX_OUTPUT_TOKENS, PROMPT
from benchmarks.quantiles import quantile
from benchmarks.stores.talk import demand
from dhenara_async import AIModel, AIModelAPI, AIModelCallConfig, AIModelEndpoint, ConversationManager, Dialect

if TYPE_CHECKING:
    from dhenara_async.stores import SQLStore

_ROOT: Final = Path(__file__).resolve().parents[2]
_DIALECT: Final = "openai_chat"
_GAP: Final = 7_000  # microseconds between two tokens
_WARM_SECONDS: Final = 0.6  # until the writer knows of the reader; earlier events do not count
_LOOK_SECONDS: Final = 0.002
_PATIENCE: Final = 60.0


@dataclass(slots=True)
class LagFigure:
    """The lags of one database.

    Attributes:
        database: ``sqlite`` or ``postgres``.
        reader: ``registered`` or ``unregistered``.
        milliseconds: How much later each event was here, sorted.
    """

    database: str
    reader: str
    milliseconds: list[float] = field(default_factory=list[float])

    def as_cells(self) -> list[str]:
        """Return the row of the table."""
        shares = [f"{quantile(self.milliseconds, share):.1f}" for share in (0.5, 0.99)]
        return [self.database, self.reader, f"{len(self.milliseconds)}", *shares]


async def measure_lag(server: str, database: str, address: str, events: int) -> list[LagFigure]:
    """Measure a turn of ``events`` tokens with a registered reader in this process, and one without.

    Args:
        server: The URL of the loopback server.
        database: The name of the database in the figures.
        address: The database, with its schema.
        events: Tokens of a turn; those of the first moments are not counted.
    """
    from dhenara_async.stores import SQLStore  # here: --help works without its extra

    figures: list[LagFigure] = []
    async with SQLStore(address) as store, ConversationManager(store=store) as manager:
        for reader in ("registered", "unregistered"):
            talk, turn_id = await manager.create(), uuid4().hex
            async with _answering(server, address, talk.id, turn_id, events) as answering:
                if reader == "registered":
                    here = await _attached(manager, turn_id)
                else:
                    here = await _looked_up(store, turn_id)
                there: list[float] = orjson.loads(await _line(answering))
            demand(len(here) == len(there) > events, "an event did not arrive")
            pairs = [pair for pair in zip(there, here, strict=True) if pair[0] > there[0] + _WARM_SECONDS]
            lags = sorted((late - read) * 1e3 for read, late in pairs)
            figures.append(LagFigure(database, reader, lags))
    return figures


async def _attached(manager: ConversationManager, turn_id: str) -> list[float]:
    """Read a turn as a registered reader; return when each event was here."""
    moments: list[float] = []
    async with manager.attach(turn_id) as reader:
        while events := await reader.batch():
            moments += [monotonic()] * len(events)
    return moments


async def _looked_up(store: "SQLStore", turn_id: str) -> list[float]:
    """Read the rows of a turn again and again; return when each event was here."""
    moments: list[float] = []
    while True:
        page = await store.read_turn(turn_id, len(moments))
        if page is not None:
            moments += [monotonic()] * len(page.events)
            if page.turn.ended:
                return moments
        await asyncio.sleep(_LOOK_SECONDS)


@asynccontextmanager
async def _answering(
    server: str, address: str, conversation: str, turn_id: str, events: int
) -> AsyncGenerator[asyncio.subprocess.Process]:
    """Answer a turn in another process, which has begun when the block does."""
    module = [sys.executable, "-m", "benchmarks.stores.lag"]
    process = await asyncio.create_subprocess_exec(
        *module, server, address, conversation, turn_id, f"{events}", cwd=_ROOT, stdout=asyncio.subprocess.PIPE
    )
    try:
        demand(await _line(process) == b"begun\n", "the process that answers did not begin")
        yield process
        await asyncio.wait_for(process.wait(), _PATIENCE)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _line(process: asyncio.subprocess.Process) -> bytes:
    if process.stdout is None:
        raise RuntimeError("the output of the process is not a pipe")
    return await asyncio.wait_for(process.stdout.readuntil(b"\n"), _PATIENCE)


async def _answer(server: str, address: str, conversation: str, turn_id: str, events: int) -> None:
    """Answer a turn; print when it has begun, and when each event was read."""
    base_url = f"{server}/{_DIALECT}/each-{_GAP}/{events}/v1"
    api = AIModelAPI.model_validate(
        {"provider": "openai", "api_key": KEY, "base_url": base_url, "dialect": Dialect.OPENAI_CHAT}
    )
    endpoint = AIModelEndpoint(api=api, ai_model=AIModel(model_name=wire.MODELS[_DIALECT]))
    config = AIModelCallConfig(max_output_tokens=MAX_OUTPUT_TOKENS, retries=0, streaming=True)
    async with ConversationManager(store=address, config=config) as manager:
        talk, moments = await manager.open(conversation), list[float]()
        async with manager.turn(talk, PROMPT, endpoint, turn_id=turn_id) as turn:
            print("begun", flush=True)
            while batch := await turn.batch():
                moments += [monotonic()] * len(batch)
        print(orjson.dumps(moments).decode(), flush=True)


if __name__ == "__main__":
    url, database_address, conversation_id, turn, tokens = sys.argv[1:]
    asyncio.run(_answer(url, database_address, conversation_id, turn, int(tokens)))
