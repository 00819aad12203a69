"""``SQLStore``: conversations in SQLite or PostgreSQL, on SQLAlchemy 2 Core. Needs an extra: ``sql``, ``postgres``."""

from dhenara_async.stores.sql.store import SQLStore

__all__ = ["SQLStore"]
