"""The memory: one state folder, opened once for writing, and by any number of readers beside it."""

from __future__ import annotations

import math
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from memory import ingest, journal, lock, migrations
from memory.backup import Backups, restore
from memory.base import DATABASE, JOURNAL, MemorySettings, check_small, connect
from memory.copies import BACKUPS, erase_unfinished
from memory.decisions import Decisions, event
from memory.episodes import Episodes
from memory.erase import Erasure
from memory.errors import Damaged, NotFound, StorageFull
from memory.insight import Insight
from memory.merge import Merging
from memory.registry import Registry
from memory.replica import Replica
from memory.retention import Retention
from memory.writer import UNFIT, Writer, refusal

CLOSED = "closed"  # a file whose content is the database's size and time of change at the last close

__all__ = ["Memory", "MemorySettings", "restore"]


class Memory(Episodes, Insight, Registry, Decisions, Backups, Erasure, Retention, Merging, Replica):
    """Everything the service remembers and has decided. Safe to share among threads; close it once.

    Remembering waits for no disk. Decisions (adapters, thresholds, nights, keys) wait for their commit, a few
    milliseconds. Reads see what is committed; `episode`, `audits` and `feedback` find one remembered a moment ago.
    """

    _lock: int | None = None

    @classmethod
    def open(
        cls,
        state_dir: Path,
        clock: Callable[[], float] = time.time,
        *,
        settings: MemorySettings | None = None,
        read_only: bool = False,
        write: Callable[[int, bytes], int] = os.write,
    ) -> Memory:
        """Open a state folder, making it if need be; what a crash left in the journal is committed first.

        With `read_only` another process may be writing; what it has not committed yet is not seen, and every
        change raises Conflict. `write` is the call that appends to the journal (an argument for fault tests).

        Raises:
            Conflict: another process writes this folder.
            Damaged: the database fails its check, or is newer than this program.
            StorageFull: the folder cannot be written.
            NotFound: read-only, and there is no database.
        """
        settings = settings or MemorySettings()
        if read_only:
            return cls._open_beside(state_dir, clock, settings)
        _make(state_dir)
        held = lock.take(state_dir)
        try:
            memory = cls._open_alone(state_dir, clock, settings, write)
        except BaseException:
            os.close(held)
            raise
        memory._lock = held
        return memory

    @classmethod
    def _open_beside(cls, state_dir: Path, clock: Callable[[], float], settings: MemorySettings) -> Memory:
        path = state_dir / DATABASE
        if not path.exists():
            raise NotFound(f"there is no memory in {state_dir}; start the service once, or name another folder")
        check_small(path, settings.check_mib)
        return cls(state_dir, clock, settings, None)

    @classmethod
    def _open_alone(
        cls,
        state_dir: Path,
        clock: Callable[[], float],
        settings: MemorySettings,
        write: Callable[[int, bytes], int],
    ) -> Memory:
        path = state_dir / DATABASE
        try:
            erase_unfinished(state_dir)
            check_small(path, settings.check_mib if was_closed(state_dir) else math.inf)
            migrations.bring_forward(path, state_dir / BACKUPS, clock())
            con = connect(path)
            recover(con, state_dir / JOURNAL, clock())
        except (sqlite3.OperationalError, OSError) as error:
            raise refusal(error) from error
        lines = journal.Journal(state_dir / JOURNAL, int(settings.journal_mib * 2**20), write)
        writer = Writer(con, lines, settings.commit_every_s, settings.max_pending)
        writer.start()
        return cls(state_dir, clock, settings, writer)

    @property
    def problem(self) -> str | None:
        """Why the database cannot be written now (for health checks); None: it can."""
        found = self._writer.problem if self._writer is not None else None
        return None if found is None else found.message

    @property
    def pending(self) -> int:
        """Records that are in the journal and not yet in the database."""
        return 0 if self._writer is None else self._writer.pending

    def counts(self) -> dict[str, int]:
        """Rows by table, episodes by system, bytes on disk."""
        tables = (
            "episodes",
            "audits",
            "feedback",
            "adapters",
            "lessons",
            "nights",
            "quarantine",
            "events",
            "receipts",
        )
        sql = " UNION ALL ".join(f"SELECT '{table}' AS name, count(*) AS n FROM {table}" for table in tables)
        found = {str(row["name"]): int(row["n"]) for row in self._rows(sql)}
        for row in self._rows("SELECT system, count(*) AS n FROM episodes GROUP BY system"):
            found[str(row["system"])] = int(row["n"])
        found["bytes"] = sum(p.stat().st_size for p in self.state_dir.glob(f"{DATABASE}*"))
        found["journal_bytes"] = sum(p.stat().st_size for p in journal.segments(self.state_dir / JOURNAL))
        return found

    def close(self) -> None:
        """Commit what is queued, stop the writer, give the folder back. A second call does nothing."""
        self._close_readers()
        if self._lock is None or self._writer is None:
            return
        self._writer.close()
        mark_closed(self.state_dir)
        os.close(self._lock)
        self._lock = None

    def __enter__(self) -> Memory:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def was_closed(state_dir: Path) -> bool:
    """Whether the database is as the last `close` left it. The mark is taken away: only the next close sets it."""
    mark = state_dir / CLOSED
    try:
        text = mark.read_text()
        mark.unlink()
    except FileNotFoundError:
        return False
    return text == _stamp(state_dir)


def mark_closed(state_dir: Path) -> None:
    """Say that the database was closed in order; without room for the mark the next start checks it all."""
    with suppress(OSError):
        (state_dir / CLOSED).write_text(_stamp(state_dir))


def _stamp(state_dir: Path) -> str:
    found = (state_dir / DATABASE).stat() if (state_dir / DATABASE).exists() else None
    return "" if found is None else f"{found.st_size} {found.st_mtime_ns}"


def recover(con: sqlite3.Connection, folder: Path, now: float) -> int:
    """Commit what the journal of a dead process holds, and remove it; gives the number of records that were new.

    A torn last line was never acknowledged: it is dropped, with an event. A whole line that cannot be read is kept
    among the rejected lines, with an event. Nights that were under way died with their process.
    """
    con.execute("BEGIN IMMEDIATE")
    sql = "UPDATE nights SET finished_at = ?, outcome = 'interrupted' WHERE finished_at IS NULL"
    con.execute(sql, (now,))
    found = journal.segments(folder)
    new = sum(_replay(con, line, folder, now) for segment in found for line in journal.read(segment))
    con.execute("COMMIT")
    con.execute("PRAGMA wal_checkpoint(PASSIVE)")
    for segment in found:
        segment.unlink()
    return new


def _replay(con: sqlite3.Connection, line: journal.Line, folder: Path, now: float) -> bool:
    if line.torn:
        event(
            con,
            now,
            "memory",
            "journal",
            f"dropped a torn line of {len(line.body)} bytes in {line.segment}",
            {},
        )
        return False
    try:
        return ingest.insert(con, ingest.parse(line.kind, line.body))
    except (Damaged, *UNFIT) as error:
        event(con, now, "memory", "journal", f"rejected a line of {line.segment}: {error}", {})
        journal.reject(folder, line.body)
        return False


def _make(state_dir: Path) -> None:
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageFull(f"{state_dir} cannot be made ({error.strerror}); choose another state_dir") from error
