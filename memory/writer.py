"""The one thread that writes to the database.

`remember` appends to the journal and queues, both under one lock so that the journal's order is the queue's.
The thread commits everything that is queued in one transaction (group commit). When the disk refuses, it keeps what
it could not write, says so in `problem`, and tries again; the journal holds the same lines should the process die.
"""

from __future__ import annotations

import itertools
import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from memory import ingest, journal
from memory.errors import Conflict, SecondNatureError, StorageFull
from memory.ingest import Item

T = TypeVar("T")
log = logging.getLogger(__name__)

BATCH = 1000  # items committed together at most
RETRY_S = 0.5  # seconds between tries while the disk refuses
UNFIT = (
    ValueError,
    TypeError,
    ArithmeticError,
    LookupError,
    AttributeError,
    sqlite3.IntegrityError,
    sqlite3.ProgrammingError,
)  # what a record that no database would take raises: its own fault, not the disk's


@dataclass(frozen=True, slots=True)
class Task:
    """A function to run on the writer's connection, in a transaction of its own unless it manages its own."""

    run: Callable[[sqlite3.Connection], Any]
    result: Future[Any]
    transaction: bool


class Writer:
    """Owns the writing connection and the journal. `start` it once; `close` it to finish what is queued."""

    def __init__(self, con: sqlite3.Connection, lines: journal.Journal, linger_s: float, max_pending: int) -> None:
        self._con = con
        self._journal = lines
        self._linger_s = linger_s
        self._max_pending = max_pending
        self._queue: deque[Item | Task] = deque()
        self._lock = threading.Lock()
        self._some = threading.Condition(self._lock)
        self._hurry = threading.Event()  # somebody waits: do not linger
        self._closing = threading.Event()
        self._committed = 0  # items committed or rejected since the start
        self.problem: SecondNatureError | None = None  # why the database cannot be written now
        self._thread = threading.Thread(target=self._work, name="memory-writer", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    @property
    def pending(self) -> int:
        """Records journalled and not yet committed."""
        return self._journal.lines - self._committed

    def remember(self, item: Item) -> None:
        """Journal and queue one item; returns once it would survive the process.

        Raises:
            StorageFull: the journal cannot be written, or too much waits for a disk that refuses.
            Conflict: the memory is closed.
        """
        with self._some:
            if self._closing.is_set():
                raise Conflict("the memory is closed; open it again")
            if len(self._queue) >= self._max_pending:
                raise StorageFull(
                    f"{len(self._queue)} records wait for the database"
                    f" ({self.problem or 'it is slower than the requests'}); ask again later",
                    retry_after_s=5.0,
                )
            self._journal.append(item.kind, item.body)
            self._queue.append(item)
            if len(self._queue) == 1:
                self._some.notify()

    def call(self, run: Callable[[sqlite3.Connection], T], *, transaction: bool = True) -> T:
        """Run a function on the writer's connection after everything queued before it, and wait for its commit.

        Raises:
            StorageFull: the disk refuses.
            Conflict: the memory is closed.
        """
        result: Future[T] = Future()
        with self._some:
            if self._closing.is_set():
                raise Conflict("the memory is closed; open it again")
            self._queue.append(Task(run, result, transaction))
            self._hurry.set()
            self._some.notify()
        return result.result()

    def settle(self, erase: bool = True) -> None:
        """On the writer's thread: commit what is queued, remove every journal segment; `erase` overwrites them first.

        Lines that arrive meanwhile go to a new segment.
        """
        with self._lock:
            self._journal.rotate()
            batch = [entry for entry in self._queue if isinstance(entry, Item)]
        if batch:
            self._insert(batch)
        with self._lock:
            done = set(map(id, batch))
            self._queue = deque(entry for entry in self._queue if id(entry) not in done)
            self._committed += len(batch)
        self._drop_settled(erase)

    def close(self) -> None:
        """Finish what is queued, and stop; a second call does nothing.

        What a full disk refuses stays in the journal for the next start.
        """
        with self._some:
            self._closing.set()
            self._hurry.set()
            self._some.notify()
        self._thread.join()
        self._con.close()  # the last connection writes the log back into the database

    def _work(self) -> None:
        try:
            self._write_all()
        except BaseException:  # a fault of this program: nobody may wait for a thread that is gone
            self.problem = StorageFull("the memory's writer stopped on a fault of its own (see the log); restart")
            self._closing.set()
            self._fail_waiting()
            raise

    def _write_all(self) -> None:
        while self._wait_for_some():
            head = self._queue[0]
            if isinstance(head, Task):
                self._run(head)
            elif not self._commit() and self._give_up():
                return
        if self.pending == 0:
            self.settle(erase=False)

    def _wait_for_some(self) -> bool:
        with self._some:
            while not self._queue:
                if self._closing.is_set():
                    return False
                self._hurry.clear()
                self._some.wait()
        if isinstance(self._queue[0], Item) and len(self._queue) < BATCH:
            self._hurry.wait(self._linger_s)  # let a group form
        return True

    def _give_up(self) -> bool:
        """Wait before the next try; True: the memory is closing, the journal keeps the rest."""
        self._fail_waiting()
        self._closing.wait(RETRY_S)
        return self._closing.is_set()

    def _fail_waiting(self) -> None:
        """Nobody who waits for a commit is left waiting while the disk refuses."""
        with self._lock:
            tasks = [entry for entry in self._queue if isinstance(entry, Task)]
            self._queue = deque(entry for entry in self._queue if isinstance(entry, Item))
        for task in tasks:
            task.result.set_exception(self.problem or StorageFull("the database cannot be written"))

    def _commit(self) -> bool:
        with self._lock:
            head = itertools.islice(self._queue, BATCH)
            batch = [e for e in itertools.takewhile(lambda e: isinstance(e, Item), head) if isinstance(e, Item)]
        try:
            self._insert(batch)
        except (sqlite3.DatabaseError, OSError) as error:
            self._refused(error)
            return False
        self.problem = None
        with self._lock:
            for _ in batch:
                self._queue.popleft()
            self._committed += len(batch)
        self._drop_settled(erase=False)
        return True

    def _insert(self, batch: list[Item]) -> None:
        try:
            transact(self._con, lambda con: [ingest.insert(con, item) for item in batch])
        except UNFIT:
            self._insert_singly(batch)

    def _insert_singly(self, batch: list[Item]) -> None:
        """One transaction each, after one item of the batch was found that no database would take."""
        for item in batch:
            try:
                transact(self._con, partial(ingest.insert, item=item))
            except UNFIT as error:
                log.error("a record of kind %s cannot be stored: %s; see %s", item.kind, error, journal.REJECTED)
                journal.reject(self._journal.folder, item.body)

    def _refused(self, error: Exception) -> None:
        if self.problem is None:
            log.error("the database cannot be written: %s; trying again every %s s", error, RETRY_S)
        self.problem = refusal(error)

    def _run(self, task: Task) -> None:
        try:
            value = transact(self._con, task.run) if task.transaction else task.run(self._con)
        except sqlite3.OperationalError as error:
            task.result.set_exception(refusal(error))
        except Exception as error:  # the caller's own fault, raised where it waits
            task.result.set_exception(error)
        else:
            task.result.set_result(value)
        with self._lock:
            self._queue.popleft()

    def _drop_settled(self, erase: bool) -> None:
        with self._lock:
            done = self._journal.settled(self._committed)
        if not done:
            return
        try:  # the checkpoint syncs the log: a loss of power must not take what the journal no longer holds
            self._con.execute("PRAGMA wal_checkpoint(PASSIVE)")
            for segment in done:
                journal.erase(segment) if erase else segment.unlink()
        except (sqlite3.DatabaseError, OSError) as error:
            log.warning("a journal segment stays until the next start (%s); replaying it changes nothing", error)


def transact(con: sqlite3.Connection, run: Callable[[sqlite3.Connection], T]) -> T:
    """Run a function in one transaction: all of it is committed, or none."""
    con.execute("BEGIN IMMEDIATE")
    try:
        value = run(con)
        con.execute("COMMIT")
    except BaseException:
        if con.in_transaction:
            con.execute("ROLLBACK")
        raise
    return value


def refusal(error: Exception) -> StorageFull:
    """SQLite's complaint as an error that says what to do."""
    return StorageFull(
        f"the database cannot be written ({error}); free disk space or make the state folder writable, and check it"
        " with `secondnature doctor`",
        retry_after_s=30.0,
    )
