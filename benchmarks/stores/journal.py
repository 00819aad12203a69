"""What the journal costs a token: turns on an SQLite file with the journal on and off, which take turns in a round.

The figure is the processor time of the process, its database thread included, divided by the tokens of all turns.
"""

import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import anyio

from benchmarks import wire
from benchmarks.peers.calls import KEY, MAX_OUTPUT_TOKENS, PROMPT
from benchmarks.stores.talk import demand
from dhenara_async import (
    AIModel,
    AIModelAPI,
    AIModelCallConfig,
    AIModelEndpoint,
    ConversationManager,
    ConversationNode,
    Dialect,
    Journal,
)

AT_ONCE: Final = (1, 100)
BAR: Final = 1.25
_DIALECT: Final = "openai_chat"


@dataclass(slots=True)
class JournalFigure:
    """The costs of a token.

    Attributes:
        journal: ``on`` or ``off``.
        turns: How many turns ran at once.
        tokens: The tokens of each.
        cpu_microseconds_per_token: One figure a round.
        ratios: Each divided by that of the same round without a journal.
    """

    journal: str
    turns: int
    tokens: int
    cpu_microseconds_per_token: list[float] = field(default_factory=list[float])
    ratios: list[float] = field(default_factory=list[float])

    def as_cells(self) -> list[str]:
        """Return the row of the table."""
        cost = f"{statistics.median(self.cpu_microseconds_per_token):.2f}"
        if self.journal == "off":
            return [f"{self.turns}", f"{self.tokens}", self.journal, cost, "", ""]
        spread = f"{min(self.ratios):.2f}..{max(self.ratios):.2f}"
        return [f"{self.turns}", f"{self.tokens}", self.journal, cost, f"{statistics.median(self.ratios):.2f}", spread]


async def measure_journal(server: str, events: int, rounds: int) -> list[JournalFigure]:
    """Measure turns of ``events`` tokens one after the other, and a hundred at once of a tenth of that."""
    figures: list[JournalFigure] = []
    for turns in AT_ONCE:
        each = events if turns == 1 else max(2, events // 10)
        off, on = JournalFigure("off", turns, each), JournalFigure("on", turns, each)
        for _ in range(rounds):
            costs = {figure.journal: await _cost(server, figure.journal == "on", turns, each) for figure in (off, on)}
            for figure in (off, on):
                figure.cpu_microseconds_per_token.append(costs[figure.journal])
                figure.ratios.append(costs[figure.journal] / costs["off"])
            print(".", end="", file=sys.stderr, flush=True)
        figures += [off, on]
    print(file=sys.stderr)
    return figures


async def _cost(server: str, journaled: bool, turns: int, events: int) -> float:
    """Return the CPU microseconds of a token."""
    base_url = f"{server}/{_DIALECT}/blast/{events}/v1"
    api = AIModelAPI.model_validate(
        {"provider": "openai", "api_key": KEY, "base_url": base_url, "dialect": Dialect.OPENAI_CHAT}
    )
    endpoint = AIModelEndpoint(api=api, ai_model=AIModel(model_name=wire.MODELS[_DIALECT]))
    config = AIModelCallConfig(max_output_tokens=MAX_OUTPUT_TOKENS, retries=0, streaming=True)
    nodes: list[ConversationNode] = []
    with TemporaryDirectory() as folder:
        journal = Journal() if journaled else None
        async with ConversationManager(store=Path(folder) / "talk.db", config=config, journal=journal) as manager:
            talks = [await manager.create() for _ in range(turns)]
            await manager.turn(await manager.create(), PROMPT, endpoint)  # modules, and a first connection

            async def answer(number: int) -> None:
                nodes.append(await manager.turn(talks[number], PROMPT, endpoint))

            before = time.process_time()
            async with anyio.create_task_group() as tasks:
                for number in range(turns):
                    tasks.start_soon(answer, number)
            spent = time.process_time() - before
    text = wire.answer(_DIALECT, events).digest
    demand(all(wire.text_digest(node.answer.text()) == text for node in nodes), "a text is not what was sent")
    return spent * 1e6 / (events * turns)
