"""The tables as they are read and written. ``migrations`` creates them; nothing here does.

Numbers (``seq``) are given by the database and are the only order. ``owner`` is an empty text for conversations
without an owner; it stands in every statement that is about somebody's rows. Events of turns are found by the number of
their turn, which is read by its owner first. A writer's flush and the removal of old turns are for all owners.
"""

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Double, Integer, LargeBinary, MetaData, Table, Text

metadata: Final = MetaData()

_Number: Final = BigInteger().with_variant(Integer, "sqlite")  # only an INTEGER counts by itself in SQLite

conversations: Final = Table(
    "conversations",
    metadata,
    Column("seq", _Number, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("title", Text),
    Column("metadata", Text, nullable=False),  # JSON
    Column("instructions", Text),  # a JSON array of texts; NULL = the manager's
    Column("head", Text),
    Column("version", _Number, nullable=False),  # counts the changes of the head
    Column("created", Text, nullable=False),  # ISO 8601, UTC
    Column("updated", Text, nullable=False),
    # Sums over the nodes, moved with the head; NULL for conversations of schema 0002 that were not appended to since.
    Column("turns", _Number),
    Column("tokens", _Number),
    Column("money", Text),  # decimal, exact
)

nodes: Final = Table(
    "nodes",
    metadata,
    Column("seq", _Number, primary_key=True),
    Column("conversation", _Number, nullable=False),  # the seq of its conversation
    Column("owner", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("parent", Text),
    Column("status", Text, nullable=False),
    Column("body", Text, nullable=False),  # our own JSON, to the byte: jsonb would reorder keys and refuse NUL
    Column("words", Text, nullable=False),  # for the search
)

# Deleted conversations, so that a late node is refused: hashes, because ids and owners may say something themselves.
tombstones: Final = Table("tombstones", metadata, Column("key", Text, primary_key=True))

# Large files, once for each owner; ``node_files`` and ``turn_files`` name the nodes and turns that need them.
files: Final = Table(
    "files",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("hash", Text, primary_key=True),  # SHA-256 of the content, hexadecimal
    Column("content", LargeBinary, nullable=False),
)

# The rest of files that are larger than the first piece, which is in ``files``.
file_pieces: Final = Table(
    "file_pieces",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("hash", Text, primary_key=True),
    Column("place", Integer, primary_key=True),  # from 1
    Column("content", LargeBinary, nullable=False),
)

node_files: Final = Table(
    "node_files",
    metadata,
    Column("node", _Number, primary_key=True),  # the seq of the node
    Column("owner", Text, nullable=False),
    Column("hash", Text, primary_key=True),
)

# Turns while they are answered, and for some time after. Times are seconds since 1970 by the database's clock.
turns: Final = Table(
    "turns",
    metadata,
    Column("seq", _Number, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("id", Text, nullable=False),  # that of the node
    Column("conversation", Text, nullable=False),  # the id of its conversation
    Column("epoch", Text, nullable=False),
    Column("draft", Text, nullable=False),  # the node as far as it was known, as JSON
    Column("config", Text, nullable=False),  # JSON, without secrets
    Column("target", Text),  # an Origin as JSON
    Column("writer", Text, nullable=False),  # the writer: a claim changes it, which fences the one before
    Column("host", Text),
    Column("pid", _Number, nullable=False),
    Column("started", Text),
    Column("lease_until", Double, nullable=False),
    Column("watched_until", Double, nullable=False),
    Column("cancel_requested", Boolean, nullable=False),
    Column("last_seq", _Number, nullable=False),  # how many events are kept; told when the turn ends
    Column("ended", Double),
    Column("expires", Double),
)

# The large files of the questions of turns.
turn_files: Final = Table(
    "turn_files",
    metadata,
    Column("turn", _Number, primary_key=True),  # the seq of the turn
    Column("owner", Text, nullable=False),
    Column("hash", Text, primary_key=True),
)

# One row for each batch of events.
turn_events: Final = Table(
    "turn_events",
    metadata,
    Column("turn", _Number, primary_key=True),  # the seq of the turn
    Column("epoch", Text, primary_key=True),
    Column("first_seq", _Number, primary_key=True),
    Column("number", _Number, nullable=False),  # of events
    Column("events", Text, nullable=False),  # a line of JSON for each
)

# Results of tool calls, until the loop has gone on and for as long as the conversation.
tool_results: Final = Table(
    "tool_results",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("conversation", Text, primary_key=True),  # the id of its conversation
    Column("node", Text, primary_key=True),  # the id of the node whose answer has the call
    Column("place", Integer, primary_key=True),  # of the call in the answer, from 0
    Column("body", Text, nullable=False),  # JSON
)
