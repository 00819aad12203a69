"""Turns while they are answered, and the batches of their events."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "turns",
        sa.Column("seq", _NUMBER, primary_key=True, autoincrement=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("conversation", sa.Text, nullable=False),
        sa.Column("epoch", sa.Text, nullable=False),
        sa.Column("draft", sa.Text, nullable=False),
        sa.Column("config", sa.Text, nullable=False),
        sa.Column("target", sa.Text),
        sa.Column("writer", sa.Text, nullable=False),
        sa.Column("host", sa.Text),
        sa.Column("pid", _NUMBER, nullable=False),
        sa.Column("started", sa.Text),
        sa.Column("lease_until", sa.Double, nullable=False),
        sa.Column("watched_until", sa.Double, nullable=False),
        sa.Column("cancel_requested", sa.Boolean, nullable=False),
        sa.Column("last_seq", _NUMBER, nullable=False),
        sa.Column("ended", sa.Double),
        sa.Column("expires", sa.Double),
        sa.UniqueConstraint("owner", "id"),
        sqlite_autoincrement=True,
    )
    running = sa.text("ended IS NULL")
    op.create_index("turns_by_writer", "turns", ["writer"], sqlite_where=running, postgresql_where=running)
    op.create_index("turns_by_conversation", "turns", ["owner", "conversation"])
    op.create_index("turns_by_expiry", "turns", ["expires"])
    op.create_table(
        "turn_events",
        sa.Column("turn", _NUMBER, sa.ForeignKey("turns.seq"), primary_key=True),
        sa.Column("epoch", sa.Text, primary_key=True),
        sa.Column("first_seq", _NUMBER, primary_key=True),
        sa.Column("number", _NUMBER, nullable=False),
        sa.Column("events", sa.Text, nullable=False),
    )
    op.create_index("nodes_by_id", "nodes", ["owner", "id"])
