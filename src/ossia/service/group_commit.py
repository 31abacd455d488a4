"""Group commit: one thread takes whatever waits to be written, runs it in one transaction, commits once, and answers everybody.

One commit a row is bound by the disk's flush: some hundred a second. A group shares one flush among all who wait, and the more
wait the more share it. A write that its own rules refuse (an unknown device) is refused before it has changed anything, and its
neighbors go on. Nobody is answered before the commit: an answer is a promise.

An erasure is a promise, too, about bytes that are there no longer: after a group with one the database is written anew and the
log truncated. `secure_delete` alone is not enough: when SQLite moves rows between pages it leaves copies in what is free of a
page (benchmarks/erasure.py counts them: about one device in a hundred).
"""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from ossia.errors import ArtifactError, UsageError

if TYPE_CHECKING:
    import apsw

GROUP = 1024  # writes that share one commit at most, so that the first of them does not wait for ever

Answer = TypeVar("Answer")
Write: TypeAlias = "Callable[[apsw.Connection], object]"


@dataclass(frozen=True, eq=False)
class _Asked:
    """A write that waits; one that erases leaves no trace of what it deletes."""

    write: Write
    erases: bool
    done: "Future[object]"


class Writer:
    """The one who writes. What is submitted comes back as a future that is done when the disk has it."""

    def __init__(self, connection: "apsw.Connection") -> None:
        """Start the thread.

        Args:
            connection: with which nobody else writes.
        """
        self._connection = connection
        self._waiting: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write_for_ever, name="store", daemon=True)
        self._thread.start()

    def submit(self, write: "Callable[[apsw.Connection], Answer]", *, erases: bool = False) -> "Future[Answer]":
        """Hand in a write.

        Args:
            write: runs within a transaction; refuses with a UsageError, before it has changed anything.
            erases: whether no trace may be left of what it deletes.

        Returns:
            its answer, once it is committed.
        """
        done: Future[Answer] = Future()
        self._waiting.put(_Asked(write, erases, done))  # type: ignore[arg-type]
        return done

    def finish(self) -> None:
        """Commit what waits, and stop; nothing may be submitted any more."""
        self._waiting.put(None)
        self._thread.join()

    def _write_for_ever(self) -> None:
        """Take all that waits, commit once, answer."""
        open_ = True
        while open_:
            group = [self._waiting.get()]
            with suppress(queue.Empty):
                while len(group) < GROUP:
                    group.append(self._waiting.get_nowait())
            open_ = None not in group
            _commit(self._connection, [each for each in group if each is not None])


def _commit(connection: "apsw.Connection", group: Sequence[_Asked]) -> None:
    """Run writes in one transaction; each is answered after the commit, with its own result or its own error."""
    outcomes: list[object]
    try:
        connection.execute("BEGIN IMMEDIATE")
        outcomes = [_attempt(connection, each.write) for each in group]
        connection.execute("COMMIT")
    except Exception as error:  # the disk refused: nobody's write is kept, and everybody is told so
        with suppress(Exception):
            connection.execute("ROLLBACK")
        outcomes = [error] * len(group)
    if any(each.erases for each in group):
        fault = _write_anew(connection)
        outcomes = [fault or told if each.erases else told for each, told in zip(group, outcomes, strict=True)]
    for each, told in zip(group, outcomes, strict=True):
        _answer(each.done, told)


def _write_anew(connection: "apsw.Connection") -> Exception | None:
    """Copy what is left into a database without a trace of what was, and cut the log to nothing; returns what prevented it."""
    try:
        connection.execute("VACUUM")
        [(busy, _, _)] = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except Exception as error:  # apsw has a class for each of SQLite's codes
        return error
    return ArtifactError("store: expected to truncate the log after an erasure, but somebody was reading it") if busy else None


def _answer(done: "Future[object]", told: object) -> None:
    """Tell who asked; one who no longer listens is not told, and what was written stays written."""
    if not done.set_running_or_notify_cancel():
        return
    if isinstance(told, Exception):
        done.set_exception(told)
    else:
        done.set_result(told)


def _attempt(connection: "apsw.Connection", write: Write) -> object:
    """Run one write; a refusal is its answer. It comes before anything is written, so that there is nothing to undo."""
    try:
        return write(connection)
    except UsageError as error:
        return error
