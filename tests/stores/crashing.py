"""A process that answers turns until it is killed, for the tests of crashes.

It imports everything once and forks for each line on its standard input, a JSON object of the arguments of ``answer``.
It writes the process id, what the fork writes, and ``gone`` when the fork has ended. The fork writes ``begun ID`` for
each turn, ``flushed ID COUNT`` when a flush has returned, and ``done ID`` or ``failed ID ERROR`` at its end.
"""

import asyncio
import json
import os
import sys

from dhenara_async import ConversationManager, Journal
from dhenara_async.stores import SQLStore
from dhenara_async.turns import journal
from tests.loopback import chat_endpoint

_flush = journal.JournalWriter._flush  # pyright: ignore[reportPrivateUsage] - nobody else says what is kept


async def _flush_and_tell(writer: journal.JournalWriter) -> bool:
    flushed = await _flush(writer)
    for turn in writer._turns.values():  # pyright: ignore[reportPrivateUsage] - as above
        print("flushed", turn.log.turn_id, turn.kept, flush=True)
    return flushed


async def answer(store: str, url: str, conversation: str, turns: int = 50, lease: float = 10.0) -> None:
    """Ask and answer turns of a conversation, one after the other."""
    journal.LEASE_SECONDS = lease
    journal.JournalWriter._flush = _flush_and_tell  # type: ignore[method-assign]
    async with (
        SQLStore(store) as opened,
        ConversationManager(store=opened, journal=Journal(max_delay=0.02, max_events=8)) as manager,
    ):
        talk = await manager.open(conversation)
        for number in range(turns):
            turn = manager.turn(talk, f"Question {number}", chat_endpoint(url))
            print("begun", turn.id, flush=True)
            try:
                await turn
            except Exception as exc:  # noqa: BLE001 - the test looks at it
                print("failed", turn.id, type(exc).__name__, flush=True)
            else:
                print("done", turn.id, flush=True)


def main() -> None:
    """Fork for each line."""
    print("ready", flush=True)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            try:
                asyncio.run(answer(**json.loads(line)))
            finally:
                os._exit(0)
        print("pid", pid, flush=True)
        os.waitpid(pid, 0)
        print("gone", flush=True)


if __name__ == "__main__":
    main()
