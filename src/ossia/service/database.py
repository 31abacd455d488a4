"""The store's file: opened durable and tidy, and brought to today's schema.

SQLite before 3.51.3 could corrupt a WAL in a rare race between checkpoints: `apsw` brings its own, and an older one is refused.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from ossia.errors import ArtifactError

if TYPE_CHECKING:
    import apsw

FILE = "service.db"
LEAST_SQLITE = (3, 51, 3)
PRAGMAS = (
    ("journal_mode", "WAL"),
    ("synchronous", "FULL"),
    ("secure_delete", "ON"),
    ("foreign_keys", "ON"),
    ("temp_store", "MEMORY"),  # a VACUUM's copy is nobody's on a disk
)
MIGRATIONS = (
    """
    CREATE TABLE device (
        id BLOB PRIMARY KEY, public BLOB NOT NULL, sequence INTEGER NOT NULL, enrolled INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE feedback (device BLOB NOT NULL REFERENCES device, at INTEGER NOT NULL, event BLOB NOT NULL);
    CREATE INDEX feedback_device ON feedback (device);
    CREATE TABLE setting (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    """,
    """
    CREATE TABLE report (
        release INTEGER NOT NULL, device BLOB NOT NULL REFERENCES device, worse INTEGER NOT NULL, PRIMARY KEY (release, device)
    ) WITHOUT ROWID;
    CREATE INDEX report_device ON report (device);
    """,
)
"""Schema changes in order; `user_version` counts how many a file has seen. Never edit one that was released: add another."""


def open_database(path: Path) -> "apsw.Connection":
    """Open the writing connection, and bring the file to today's schema.

    Args:
        path: `service.db`; made where there is none.

    Returns:
        the connection.

    Raises:
        ArtifactError: no store, or one of a newer version, or an SQLite that is too old.
    """
    import apsw

    if tuple(map(int, apsw.sqlite_lib_version().split("."))) < LEAST_SQLITE:
        least = ".".join(map(str, LEAST_SQLITE))
        raise ArtifactError(f"apsw: expected SQLite {least} or newer, got {apsw.sqlite_lib_version()}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        connection = connect(path)
        [(found,)] = connection.execute("PRAGMA user_version").fetchall()
        seen = int(str(found))
        if seen > len(MIGRATIONS):
            raise ArtifactError(f"{path}: expected a store of version {len(MIGRATIONS)} or older, got {seen}")
        for version, statements in enumerate(MIGRATIONS[seen:], start=seen + 1):
            connection.execute(f"BEGIN IMMEDIATE; {statements}; PRAGMA user_version = {version}; COMMIT")
    except apsw.Error as error:
        raise ArtifactError(f"{path}: expected a store, got: {error}") from error
    return connection


def connect(path: Path) -> "apsw.Connection":
    """Open a connection: durable, tidy, patient for a moment.

    Args:
        path: `service.db`.

    Returns:
        the connection.
    """
    import apsw

    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(5_000)
    for name, value in PRAGMAS:
        connection.pragma(name, value)
    return connection
