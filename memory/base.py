"""What every part of the memory stands on: the state folder, reading connections, and the way to the writer."""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field

from memory.copies import backups
from memory.errors import Conflict, Damaged, StorageFull
from memory.settings import Settings
from memory.writer import Writer

T = TypeVar("T")
DATABASE = "secondnature.db"
JOURNAL = "journal"
READER_CACHE_KIB = 8 * 1024  # each thread that reads at the same time has one
WRITER_CACHE_KIB = 64 * 1024


class MemorySettings(Settings):
    """How the memory writes."""

    commit_every_s: float = Field(
        default=0.02,
        ge=0.0,
        le=5.0,
        description="seconds the writer lets a group of episodes form before it commits them",
    )
    journal_mib: float = Field(
        default=64.0,
        gt=0.0,
        le=4096.0,
        description="MiB after which a new journal segment begins and old ones may go",
    )
    max_pending: int = Field(
        default=20_000,
        ge=1,
        description="records that may wait for a slow or full disk before new requests are refused",
    )
    check_mib: float = Field(
        default=256.0,
        ge=0.0,
        description="MiB up to which the database is checked at every start; a larger one only after a crash",
    )
    keep_backups: int = Field(default=7, ge=1, le=1000, description="online backups kept; older ones are removed")


class Base:
    """State folder, clock, writer and a pool of reading connections."""

    def __init__(
        self, state_dir: Path, clock: Callable[[], float], settings: MemorySettings, writer: Writer | None
    ) -> None:
        self.state_dir = state_dir
        self.clock = clock
        self.settings = settings
        self._writer = writer
        self._copying = threading.Lock()  # held by a backup and by an erasure, or one would keep what the other erases
        self._readers: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue()

    @property
    def path(self) -> Path:
        """The database file."""
        return self.state_dir / DATABASE

    @property
    def read_only(self) -> bool:
        """Opened beside another process that writes."""
        return self._writer is None

    def flush(self) -> None:
        """Wait until everything remembered so far is committed.

        Raises:
            StorageFull: the disk refuses; what was remembered is in the journal and is not lost.
        """
        if self._writer is not None:
            self._write(lambda con: None)

    def _write(self, run: Callable[[sqlite3.Connection], T], *, transaction: bool = True) -> T:
        return self._writing().call(run, transaction=transaction)

    def _writing(self) -> Writer:
        if self._writer is None:
            raise Conflict("this memory was opened read-only, because another process writes it; ask that process")
        return self._writer

    @contextmanager
    def _read(self) -> Iterator[sqlite3.Connection]:
        """A connection of this thread alone, for as long as the block lasts."""
        try:
            con = self._readers.get_nowait()
        except queue.Empty:
            con = connect(self.path, read_only=True)
        try:
            yield con
        except sqlite3.DatabaseError as error:
            raise fault(self.path, error) from error
        finally:
            self._readers.put(con)

    def _rows(self, sql: str, values: tuple[Any, ...] = ()) -> list[sqlite3.Row]:
        with self._read() as con:
            return con.execute(sql, values).fetchall()

    def _row(self, sql: str, values: tuple[Any, ...] = ()) -> sqlite3.Row | None:
        rows = self._rows(sql, values)
        return rows[0] if rows else None

    def _close_readers(self) -> None:
        while not self._readers.empty():
            self._readers.get_nowait().close()


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection with this project's settings; transactions are begun and ended in plain sight.

    Raises:
        StorageFull: the file cannot be opened.
    """
    try:
        con = sqlite3.connect(
            f"{path.resolve().as_uri()}?mode={'ro' if read_only else 'rw'}",
            uri=True,
            timeout=30.0,  # seconds that a locked database is waited for
            isolation_level=None,
            check_same_thread=False,
        )
    except sqlite3.OperationalError as error:
        raise StorageFull(f"{path} cannot be opened ({error}); check that it exists and its rights") from error
    con.row_factory = sqlite3.Row
    con.execute("PRAGMA foreign_keys = ON")
    con.execute(f"PRAGMA cache_size = -{READER_CACHE_KIB if read_only else WRITER_CACHE_KIB}")
    if not read_only:
        con.execute("PRAGMA journal_mode = WAL")
        con.execute("PRAGMA synchronous = NORMAL")
        con.execute("PRAGMA secure_delete = ON")
    return con


def fault(path: Path, error: sqlite3.DatabaseError) -> Exception:
    """A reading fault as one of the project's errors."""
    if isinstance(error, sqlite3.OperationalError):
        return StorageFull(f"{path} cannot be read ({error}); run `secondnature doctor`")
    return Damaged(f"{path} is damaged ({error}); {advice(path.parent)}")


def advice(state_dir: Path) -> str:
    """What to do about a damaged database: the newest backup, named."""
    found = backups(state_dir, time.time())
    if not found:
        return "there is no backup; move it away to start empty"
    return f"restore the newest backup with `secondnature restore {found[0].name}`"


def check_small(path: Path, most_mib: float) -> None:
    """`check` for a database of at most so many MiB; it reads the whole file, at the speed of the disk."""
    if path.exists() and path.stat().st_size <= most_mib * 2**20:
        check(path)


def check(path: Path) -> None:
    """SQLite's quick check of an existing database.

    Raises:
        Damaged: it found something; the message names the newest backup.
    """
    if not path.exists():
        return
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=30.0)) as con:
            found = con.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.OperationalError as error:
        raise StorageFull(f"{path} cannot be read ({error}); check the folder's rights and free space") from error
    except sqlite3.DatabaseError as error:
        found = str(error)
    if found != "ok":
        raise Damaged(f"{path} is damaged ({found}); {advice(path.parent)}")
