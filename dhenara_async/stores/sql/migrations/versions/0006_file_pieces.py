"""Pieces of large files, and the files of the questions of turns."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create the tables. Files that are kept in one piece stay so."""
    op.create_table(
        "file_pieces",
        sa.Column("owner", sa.Text, primary_key=True),
        sa.Column("hash", sa.Text, primary_key=True),
        sa.Column("place", sa.Integer, primary_key=True),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.ForeignKeyConstraint(["owner", "hash"], ["files.owner", "files.hash"], ondelete="CASCADE"),
    )
    op.create_table(
        "turn_files",
        sa.Column("turn", _NUMBER, sa.ForeignKey("turns.seq"), primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("hash", sa.Text, primary_key=True),
    )
    op.create_index("turn_files_by_hash", "turn_files", ["owner", "hash"])
