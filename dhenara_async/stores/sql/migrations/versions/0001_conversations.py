"""Conversations, their nodes, the search and large files."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "conversations",
        sa.Column("seq", _NUMBER, primary_key=True, autoincrement=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("title", sa.Text),
        sa.Column("metadata", sa.Text, nullable=False),
        sa.Column("head", sa.Text),
        sa.Column("version", _NUMBER, nullable=False),
        sa.Column("created", sa.Text, nullable=False),
        sa.Column("updated", sa.Text, nullable=False),
        sa.UniqueConstraint("owner", "id"),
        sqlite_autoincrement=True,  # a deleted number never comes again: it may be somebody's cursor
    )
    op.create_index("conversations_by_owner", "conversations", ["owner", "seq"])
    op.create_table(
        "nodes",
        sa.Column("seq", _NUMBER, primary_key=True, autoincrement=True),
        sa.Column("conversation", _NUMBER, sa.ForeignKey("conversations.seq"), nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("parent", sa.Text),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("words", sa.Text, nullable=False),
        sa.UniqueConstraint("conversation", "id"),
        sqlite_autoincrement=True,
    )
    op.create_index("nodes_in_order", "nodes", ["conversation", "seq"])
    op.create_table("tombstones", sa.Column("key", sa.Text, primary_key=True))
    op.create_table(
        "files",
        sa.Column("owner", sa.Text, primary_key=True),
        sa.Column("hash", sa.Text, primary_key=True),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "node_files",
        sa.Column("node", _NUMBER, sa.ForeignKey("nodes.seq"), primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("hash", sa.Text, primary_key=True),
    )
    op.create_index("node_files_by_hash", "node_files", ["owner", "hash"])
    for statement in _SQLITE if op.get_bind().dialect.name == "sqlite" else _POSTGRES:
        op.execute(statement)


_SQLITE = (
    "CREATE VIRTUAL TABLE node_words USING fts5("
    "owner, words, content='nodes', content_rowid='seq', tokenize='unicode61 remove_diacritics 0')",
    "CREATE TRIGGER nodes_found AFTER INSERT ON nodes BEGIN "
    "INSERT INTO node_words(rowid, owner, words) VALUES (new.seq, new.owner, new.words); END",
    "CREATE TRIGGER nodes_forgotten AFTER DELETE ON nodes BEGIN "
    "INSERT INTO node_words(node_words, rowid, owner, words) VALUES ('delete', old.seq, old.owner, old.words); END",
)
_POSTGRES = (
    "ALTER TABLE nodes ADD COLUMN found tsvector GENERATED ALWAYS AS (to_tsvector('simple', words)) STORED",
    "CREATE INDEX nodes_found ON nodes USING gin (found)",
)
