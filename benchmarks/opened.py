"""Open the peers of a group of rounds; a peer that cannot be opened gets a row with its error."""

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack

from benchmarks.peers import Calls, Peer
from benchmarks.rounds import Row


async def open_all(
    stack: AsyncExitStack, peers: Sequence[Peer], place: Mapping[str, str], dialect: str, url: str
) -> tuple[dict[str, Row], dict[str, Row], dict[str, Calls]]:
    """Open each of ``peers`` for ``dialect`` at ``url``, until ``stack`` is closed.

    Returns:
        All rows; those of the peers that are open; these peers' calls. Each by the peer's name.
    """
    rows: dict[str, Row] = {}
    calls: dict[str, Calls] = {}
    for peer in peers:
        row = rows[peer.name] = Row(place, peer.name, slow=peer.slow)
        try:
            calls[peer.name] = await stack.enter_async_context(peer.open(dialect, url))
        except Exception as error:  # noqa: BLE001 - whatever somebody else's library raises; the others go on
            row.fail(error)
    return rows, {name: rows[name] for name in calls}, calls
