"""``python -m benchmarks loop``: CPU milliseconds for a streamed tool loop, ours beside those of frameworks.

A loop of ten steps with ten tokens and a call each, then a last answer. Measured as in ``stream``: processor time of
this process, peers take turns, ratios are taken within a round, and each last text is compared with the text that the
server sent.
"""

import argparse
import gc
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from importlib.util import find_spec

import anyio

from benchmarks import machine, report, wire
from benchmarks.options import add_json, server_beside_us
from benchmarks.peers.loops import LOOP_PEERS, LoopPeer, RunLoop
from benchmarks.rounds import Row, all_fine, median_of, positive, take_turns

_OURS = LOOP_PEERS[0].name
_SETTLING = 0.01  # seconds, as in ``plain``


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's options to ``parser``."""
    parser.add_argument("--steps", type=positive, default=10, help="steps with a call (default: %(default)s)")
    parser.add_argument("--tokens", type=positive, default=10, help="tokens of each answer (default: %(default)s)")
    parser.add_argument("--calls", type=positive, default=20, help="loops a measurement (default: %(default)s)")
    parser.add_argument("--rounds", type=positive, default=7, help="measurements of each peer (default: %(default)s)")
    parser.add_argument("--peer", action="append", choices=[peer.name for peer in LOOP_PEERS], help="repeatable")
    parser.add_argument("--loop", choices=machine.LOOPS, default="asyncio", help="event loop (default: %(default)s)")
    add_json(parser, "loop")


def run(arguments: argparse.Namespace) -> int:
    """Measure, print and write; returns 1 if a peer failed or its text differs from the text that the server sent."""
    facts = report.environment(arguments.loop)
    wanted = [peer for peer in LOOP_PEERS if not arguments.peer or peer.name in arguments.peer]
    peers = [peer for peer in wanted if all(find_spec(package) for package in peer.packages)]
    missing = [peer.name for peer in wanted if peer not in peers]
    for name in missing:
        print(f"skipped: {name}: not installed")
    with server_beside_us(arguments) as server:
        rows = machine.run_on(arguments.loop, _measure, server, arguments, peers)

    head = ("peer", "text", "CPU ms/loop", "÷ ours", "min..max")
    report.print_table(head, [row.as_cells() for row in rows], left=2)
    print(f"\n{arguments.steps} steps of {arguments.tokens} tokens and a call; {median_of(arguments.rounds)}")
    print(report.environment_line(facts))
    report.write_json(
        arguments.json,
        {
            "benchmark": "loop",
            "environment": facts,
            "options": {name: getattr(arguments, name) for name in ("steps", "tokens", "calls", "rounds")},
            "skipped": missing,
            "rows": [row.as_json("cpu_milliseconds_per_loop") for row in rows],
        },
    )
    return 0 if all_fine(rows) else 1


async def _measure(server: str, arguments: argparse.Namespace, peers: Sequence[LoopPeer]) -> list[Row]:
    expected = wire.plain_text("openai_chat", arguments.tokens)
    url = f"{server}/openai_chat/loop-{arguments.steps}/{arguments.tokens}"
    async with AsyncExitStack() as stack:
        rows, loops = await _open_all(stack, peers, url, arguments.steps)

        async def measure(name: str) -> float:
            gc.collect()
            before = time.process_time()
            texts = [await loops[name]() for _ in range(arguments.calls)]
            await anyio.sleep(_SETTLING)
            spent = time.process_time() - before
            rows[name].text_matches &= all(text == expected for text in texts)
            return spent * 1e3 / arguments.calls

        await take_turns({name: rows[name] for name in loops}, measure, rounds=arguments.rounds, reference=_OURS)
    return list(rows.values())


async def _open_all(
    stack: AsyncExitStack, peers: Sequence[LoopPeer], url: str, steps: int
) -> tuple[Mapping[str, Row], Mapping[str, RunLoop]]:
    rows: dict[str, Row] = {}
    loops: dict[str, RunLoop] = {}
    for peer in peers:
        row = rows[peer.name] = Row({}, peer.name, slow=peer.slow)
        try:
            loops[peer.name] = await stack.enter_async_context(peer.open(url, steps))
        except Exception as error:  # noqa: BLE001 - a peer may raise any error; the others are still measured
            row.fail(error)
    return rows, loops
