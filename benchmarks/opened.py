"""Opens the peers of a group of rounds; a peer that cannot be opened gets a row with its error."""

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack

from benchmarks.peers import Calls, Peer
from benchmarks.rounds import Row


async def open_all(
    stack: AsyncExitStack, peers: Sequence[Peer], place: Mapping[str, str], dialect: str, url: str
) -> tuple[dict[str, Row], dict[str, Row], dict[str, Calls]]:
    """Open each of ``peers`` for ``dialect`` at ``url``, until ``stack`` is closed.

    Returns:
        All rows, the rows of the open peers, and the calls of the open peers, each by the name of the peer.
    """
    rows: dict[str, Row] = {}
    calls: dict[str, Calls] = {}
    for peer in peers:
        row = rows[peer.name] = Row(place, peer.name, slow=peer.slow)
        try:
            calls[peer.name] = await stack.enter_async_context(peer.open(dialect, url))
        except Exception as error:  # noqa: BLE001 - a peer may raise any error; the others are still measured
            row.fail(error)
    return rows, {name: rows[name] for name in calls}, calls
