"""SQLite files: where a write-ahead log works, how a file is opened first, and how deleted words leave it."""

import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

from sqlalchemy import URL, Connection, create_engine, event
from sqlalchemy.exc import OperationalError

from dhenara_async.errors import StoreError
from dhenara_async.stores.sql.schema import upgrade

JournalMode = Literal["wal", "delete"]
BUSY_SECONDS: Final = 60.0
"""How long a statement waits for other processes."""

_LOOK_SECONDS: Final = 0.5  # after so long, a wait for the lock looks whether it was given up

PRAGMAS: Final = ("secure_delete = ON", "foreign_keys = ON", "synchronous = NORMAL")
"""Of every connection: deleted content is overwritten with zeros, and a commit outlives any crash of a process."""

_NETWORK: Final = frozenset(
    {*("nfs", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "ncpfs", "afs", "ceph", "9p", "glusterfs", "lustre")}
    | {"fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs", "fuse.rclone", "fuse.gcsfuse", "davfs", "fuse.davfs"}
)
MOUNTS: Final = Path("/proc/self/mounts")


def file_system(path: Path) -> str:
    """The type of the file system that a path is on, such as ``ext4``; empty where the system does not tell."""
    if sys.platform != "linux" or not MOUNTS.exists():
        return ""
    found: tuple[int, str] = (0, "")
    folder = str(path.resolve().parent)
    for line in MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines():
        fields = line.split(" ")
        mounted = fields[1].replace("\\040", " ").rstrip("/")
        if (folder == mounted or folder.startswith(f"{mounted}/")) and len(mounted) + 1 >= found[0]:
            found = (len(mounted) + 1, fields[2])  # a later line is mounted over an earlier one
    return found[1]


def configure(connection: Any, _: object) -> None:
    """Set up a new connection of sqlite3."""
    connection.isolation_level = None  # transactions begin where we say so, not where sqlite3 thinks
    cursor = connection.cursor()
    for pragma in PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def begin_writing(connection: Connection, is_given_up: Callable[[], bool]) -> None:
    """Begin a transaction that writes, when other processes have ended theirs.

    SQLite's own wait for a lock cannot be ended, and a program ends no sooner than its threads. So it waits for some
    moments at a time.

    Args:
        connection: Where to begin it.
        is_given_up: Whether nobody waits for it any more.

    Raises:
        OperationalError: It was given up, the file stayed locked for ``BUSY_SECONDS``, or SQLite failed.
    """
    file, deadline = connection.connection, time.monotonic() + BUSY_SECONDS
    _wait_at_most(file, min(_LOOK_SECONDS, BUSY_SECONDS))
    try:
        while True:
            try:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            except OperationalError as exc:
                if "locked" not in str(exc.orig) or is_given_up() or time.monotonic() > deadline:
                    raise
            else:
                return
    finally:
        _wait_at_most(file, BUSY_SECONDS)


def _wait_at_most(file: Any, seconds: float) -> None:
    """Set how long statements of a connection wait for other processes."""
    cursor = file.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {seconds * 1000:.0f}")
    cursor.close()


def prepare(url: URL, journal: JournalMode) -> None:
    """Create or open a file, switch its journal and migrate it. Blocks; called in a thread.

    Raises:
        StoreError: The file cannot be opened or written, or a write-ahead log does not work where it is.
        SchemaError: The file was written by a newer version.
    """
    path = Path(url.database or "")
    if not path.parent.is_dir():
        raise StoreError(f"the folder of the store {path} does not exist: create it first")
    if journal == "wal" and (kind := file_system(path)) in _NETWORK:
        raise StoreError(
            f"{path} is on a network file system ({kind}), where SQLite's write-ahead log corrupts files: use a local "
            "disk or PostgreSQL, or SQLStore(path, journal='delete') if only one process uses the file"
        )
    engine = create_engine(url, hide_parameters=True, connect_args={"timeout": BUSY_SECONDS})
    event.listen(engine, "connect", configure)
    try:
        with engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            _switch_journal(connection, journal)
        with engine.connect() as connection, _immediate(connection):
            upgrade(connection)
    finally:
        engine.dispose()


def _switch_journal(connection: Connection, journal: JournalMode) -> None:
    """Set the journal mode. The switch fails at once if another process opens the file, whatever the timeout says."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            if connection.exec_driver_sql("PRAGMA journal_mode").scalar() != journal:
                connection.exec_driver_sql(f"PRAGMA journal_mode = {journal}")
        except OperationalError as exc:
            if "locked" not in str(exc.orig) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


@contextmanager
def _immediate(connection: Connection) -> Generator[None]:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.exec_driver_sql("ROLLBACK")
        raise
    connection.exec_driver_sql("COMMIT")


_ADVICE: Final = (
    ("readonly", "it is read-only: let this process write the file and its folder, where SQLite keeps its log"),
    ("unable to open", "let this process read and write the file and its folder, or pass another path"),
    ("not a database", "another program wrote the file: pass another path"),
    ("full", "nothing more is kept until there is space"),
)


def advice_for(said: str) -> str:
    """Return the remedy for an error of SQLite, to be added to its words; empty if none is known."""
    return next((f"; {advice}" for words, advice in _ADVICE if words in said), "")
