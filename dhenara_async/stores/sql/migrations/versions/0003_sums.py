"""Sums of each conversation over its nodes, and an index to count the turns that follow a turn."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Add the columns, which stay empty until the next append, and the index."""
    op.add_column("conversations", sa.Column("turns", _NUMBER))
    op.add_column("conversations", sa.Column("tokens", _NUMBER))
    op.add_column("conversations", sa.Column("money", sa.Text))
    op.create_index("nodes_by_parent", "nodes", ["conversation", "parent", "owner", "seq"])
