"""Online backups and their restoration."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from memory import lock
from memory.base import DATABASE, Base, check, connect
from memory.copies import BACKUPS, PARTIAL, RESTORING, backups, new_name
from memory.errors import Damaged, NotFound, StorageFull

DAMAGED = "damaged-"  # what a restore put aside
PARTS = ("", "-wal", "-shm")  # a database in use is up to three files


class Backups(Base):
    """Copies of the database, taken while it is in use."""

    def backup(self) -> Path:
        """Copy the database to `state_dir/backups/<UTC time>.db`, check the copy, remove all but the newest few.

        Neither remembering nor reading waits for it.

        Raises:
            Damaged: the copy fails its check.
            StorageFull: there is no room for the copy.
        """
        with self._copying:
            return self._backup()

    def _backup(self) -> Path:
        self.flush()
        folder = self.state_dir / BACKUPS
        folder.mkdir(exist_ok=True)
        target = new_name(folder, self.clock())
        partial = target.with_suffix(PARTIAL)
        try:
            with self._read() as con, closing(sqlite3.connect(partial)) as copy:
                con.backup(copy)  # in one step: a consistent picture, while the writer goes on
                copy.execute("PRAGMA journal_mode = DELETE")
            check(partial)
        except BaseException:
            partial.unlink(missing_ok=True)  # on a full disk it would hold what room is left
            raise
        partial.replace(target)
        for old in backups(self.state_dir, self.clock())[self.settings.keep_backups :]:
            old.unlink()
        return target


def restore(state_dir: Path, backup: Path | None = None, clock: Callable[[], float] = time.time) -> Path:
    """Put a backup (the newest unless named, by path or by name) in the place of the database; gives its path.

    The database that was there is kept as `damaged-<unix seconds>.db`; until the backup is in its place, in one step,
    it stays where it is, so a restore that is cut short leaves the old one. What the journal still holds is committed
    at the next open, so episodes of the last minutes may outlive a damaged database; decisions since the backup do not.

    Raises:
        Conflict: the service is running.
        NotFound: there is no such backup.
        Damaged: the backup fails its check, and so do all older ones where none was named.
    """
    held = lock.take(state_dir)
    try:
        chosen = _choose(state_dir, backup, clock())
        database = state_dir / DATABASE
        fresh = database.with_suffix(RESTORING)
        shutil.copyfile(chosen, fresh)
        check(fresh)
        synced(fresh)
        if database.exists():
            _keep(database, _unused(state_dir, f"{DAMAGED}{int(clock())}"))
        fresh.replace(database)
        connect(database).close()
    finally:
        os.close(held)
    return chosen


def _keep(database: Path, aside: Path) -> None:
    """Copy the database and its log, then fold the log into the database: beside another one it would corrupt it."""
    for part in PARTS:
        old = database.with_name(database.name + part)
        if old.exists():
            shutil.copyfile(old, aside.with_name(aside.name + part))
    with suppress(sqlite3.DatabaseError, StorageFull), closing(connect(database)) as con:  # it may be damaged
        con.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for part in PARTS[1:]:
        database.with_name(database.name + part).unlink(missing_ok=True)


def synced(path: Path) -> None:
    """Have a file on the disk before it takes another one's place."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _choose(state_dir: Path, named: Path | None, now: float) -> Path:
    if named is not None:
        path = named if named.exists() else state_dir / BACKUPS / named.name
        if not path.exists():
            raise NotFound(f"there is no backup {named}; see {state_dir / BACKUPS}")
        check(path)
        return path
    found = backups(state_dir, now)
    if not found:
        raise NotFound(f"there is no backup in {state_dir / BACKUPS}")
    for path in found:
        try:
            check(path)
        except Damaged:
            continue
        return path
    raise Damaged(f"every backup in {state_dir / BACKUPS} is damaged; copy one in from elsewhere")


def _unused(folder: Path, stem: str) -> Path:
    """A name not taken yet: two restores may fall into one second."""
    names = (f"{stem}{'' if n == 0 else f'-{n}'}.db" for n in range(1000))
    return next(path for name in names if not (path := folder / name).exists())
