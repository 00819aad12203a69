"""The contents of large files: kept once for each owner, by the hash of their content, for nodes and for turns.

They are written and read in pieces. psycopg encodes what a statement sends and decodes what it returns on the event
loop, which would stand still for a whole file; between two statements it goes on.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from sqlalchemy import Column, Connection, LargeBinary, delete, func, insert, select, tuple_
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from dhenara_async.stores.sql.tables import file_pieces, files, node_files, nodes, turn_files

PIECE_BYTES: Final = 524_288
"""psycopg takes 2 ms for so many."""

_KEYS: Final = 300  # of files in one statement


def keep_for_node(connection: Connection, owner: str, node: int, contents: Mapping[str, bytes]) -> None:
    """Store the large files of a node.

    Args:
        connection: Where to write.
        owner: The owner of the node.
        node: The number of the node.
        contents: The files by their hashes.
    """
    for key in sorted(contents):  # in one order, so that two transactions do not wait for each other
        _keep(connection, owner, key, contents[key])
        connection.execute(insert(node_files).values(node=node, owner=owner, hash=key))


def keep_for_turn(connection: Connection, owner: str, turn: int, contents: Mapping[str, bytes]) -> None:
    """Store the large files of the question of a turn; see ``keep_for_node``."""
    for key in sorted(contents):
        _keep(connection, owner, key, contents[key])
        connection.execute(insert(turn_files).values(turn=turn, owner=owner, hash=key))


def of_nodes(connection: Connection, owner: str, numbers: Iterable[int]) -> dict[int, dict[str, list[bytes]]]:
    """Return the large files of nodes by their hashes, in pieces; nodes without such files are not there."""
    return _of(connection, owner, node_files.c.node, node_files.c.owner, node_files.c.hash, numbers)


def of_turns(connection: Connection, owner: str, numbers: Iterable[int]) -> dict[int, dict[str, list[bytes]]]:
    """Return the large files of the questions of turns; see ``of_nodes``."""
    return _of(connection, owner, turn_files.c.turn, turn_files.c.owner, turn_files.c.hash, numbers)


def forget_of_conversation(connection: Connection, owner: str, conversation: int) -> None:
    """Delete the files of a conversation that nothing else of its owner needs, before its nodes are deleted."""
    inside = select(nodes.c.seq).where(nodes.c.conversation == conversation, nodes.c.owner == owner)
    mine = (node_files.c.owner == owner, node_files.c.node.in_(inside))
    keys = connection.scalars(select(node_files.c.hash).where(*mine).distinct()).all()
    if keys:
        _lock(connection, [(owner, key) for key in keys])
        connection.execute(delete(node_files).where(*mine))
        _delete_unneeded(connection, [(owner, key) for key in keys])


def forget_of_turns(connection: Connection, numbers: Iterable[int]) -> None:
    """Delete the files of turns, of any owner, that nothing else needs, before the turns are deleted."""
    mine = turn_files.c.turn.in_(list(numbers))
    keys = [
        (row.owner, row.hash)
        for row in connection.execute(select(turn_files.c.owner, turn_files.c.hash).where(mine).distinct())
    ]
    if keys:
        _lock(connection, keys)
        connection.execute(delete(turn_files).where(mine))
        _delete_unneeded(connection, keys)


def _keep(connection: Connection, owner: str, key: str, content: bytes) -> None:
    """Store a file, unless the owner has it already."""
    mine = (files.c.owner == owner, files.c.hash == key)
    values = {"owner": owner, "hash": key, "content": content[:PIECE_BYTES]}
    if connection.dialect.name == "sqlite":
        connection.execute(sqlite_insert(files).values(values).on_conflict_do_nothing())
    else:  # the update changes nothing; it locks the row against transactions that delete unused files
        row = postgres_insert(files).values(values)
        connection.execute(row.on_conflict_do_update(index_elements=["owner", "hash"], set_={"hash": key}))
    if connection.scalar(select(func.length(files.c.content)).where(*mine)) == len(content):
        return  # small, or kept in one piece by an earlier version
    others = (file_pieces.c.owner == owner, file_pieces.c.hash == key)
    if connection.scalar(select(file_pieces.c.place).where(*others).limit(1)) is None:
        for place, start in enumerate(range(PIECE_BYTES, len(content), PIECE_BYTES), 1):
            piece = {"owner": owner, "hash": key, "place": place, "content": content[start : start + PIECE_BYTES]}
            connection.execute(insert(file_pieces).values(piece))


def _of(
    connection: Connection,
    owner: str,
    number: Column[int],
    whose: Column[str],
    hashes: Column[str],
    numbers: Iterable[int],
) -> dict[int, dict[str, list[bytes]]]:
    found: dict[int, dict[str, list[bytes]]] = {}
    contents: dict[str, list[bytes]] = {}
    for wanted in numbers:
        keys = connection.scalars(select(hashes).where(whose == owner, number == wanted)).all()
        for key in keys:
            if key not in contents:
                contents[key] = _content(connection, owner, key)
        if keys:
            found[wanted] = {key: contents[key] for key in keys}
    return found


def _content(connection: Connection, owner: str, key: str) -> list[bytes]:
    mine = (files.c.owner == owner, files.c.hash == key)
    length = connection.scalar(select(func.length(files.c.content)).where(*mine)) or 0
    pieces: list[bytes] = []
    for start in range(0, length, PIECE_BYTES):  # one, unless an earlier version has written the file
        piece = func.substr(files.c.content, start + 1, PIECE_BYTES, type_=LargeBinary)
        pieces.append(bytes(connection.scalar(select(piece).where(*mine)) or b""))
    others = (file_pieces.c.owner == owner, file_pieces.c.hash == key)
    places = connection.scalars(select(file_pieces.c.place).where(*others).order_by(file_pieces.c.place)).all()
    for place in places:
        piece = select(file_pieces.c.content).where(*others, file_pieces.c.place == place)
        pieces.append(bytes(connection.scalar(piece) or b""))
    return pieces


def _lock(connection: Connection, keys: list[tuple[str, str]]) -> None:
    """Lock files: the next statement then sees all that have begun to need them meanwhile."""
    for some in _parts(keys):
        these = tuple_(files.c.owner, files.c.hash).in_(some)
        in_order = select(files.c.hash).where(these).order_by(files.c.owner, files.c.hash)
        connection.execute(in_order.with_for_update())


def _delete_unneeded(connection: Connection, keys: list[tuple[str, str]]) -> None:
    """Delete those of the files that no node and no turn needs, and their pieces with them."""
    by_node = select(node_files.c.hash).where(node_files.c.owner == files.c.owner, node_files.c.hash == files.c.hash)
    by_turn = select(turn_files.c.hash).where(turn_files.c.owner == files.c.owner, turn_files.c.hash == files.c.hash)
    for some in _parts(keys):
        these = tuple_(files.c.owner, files.c.hash).in_(some)
        connection.execute(delete(files).where(these, ~by_node.exists(), ~by_turn.exists()))


def _parts(keys: list[tuple[str, str]]) -> Iterable[list[Any]]:
    ordered = sorted(keys)
    return (ordered[first : first + _KEYS] for first in range(0, len(ordered), _KEYS))
