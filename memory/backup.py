"""Online backups and their restoration."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from memory import lock
from memory.base import BACKUPS, DATABASE, Base, check, connect
from memory.errors import Damaged, NotFound

DAMAGED = "damaged-"  # what a restore put aside


class Backups(Base):
    """Copies of the database, taken while it is in use."""

    def backup(self) -> Path:
        """Copy the database to `state_dir/backups/<UTC time>.db`, check the copy, remove all but the newest few.

        Neither remembering nor reading waits for it.

        Raises:
            Damaged: the copy fails its check.
            StorageFull: there is no room for the copy.
        """
        self.flush()
        folder = self.state_dir / BACKUPS
        folder.mkdir(exist_ok=True)
        target = _unused(folder, time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self.clock())))
        partial = target.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        with self._read() as con, closing(sqlite3.connect(partial)) as copy:
            con.backup(copy)  # in one step: a consistent picture, while the writer goes on
            copy.execute("PRAGMA journal_mode = DELETE")
        check(partial)
        partial.replace(target)
        for old in backups(self.state_dir)[self.settings.keep_backups :]:
            old.unlink()
        return target


def backups(state_dir: Path) -> list[Path]:
    """The backups of a state folder, newest first."""
    return sorted((state_dir / BACKUPS).glob("*.db"), key=lambda p: (p.stat().st_mtime_ns, p.name), reverse=True)


def restore(state_dir: Path, backup: Path | None = None, clock: Callable[[], float] = time.time) -> Path:
    """Put a backup (the newest unless named, by path or by name) in the place of the database; gives its path.

    The database that was there is put aside as `damaged-<unix seconds>.db`. What the journal still holds is committed
    at the next open, so episodes of the last minutes may outlive a damaged database; decisions since the backup do not.

    Raises:
        Conflict: the service is running.
        NotFound: there is no such backup.
        Damaged: the backup fails its check, and so do all older ones where none was named.
    """
    held = lock.take(state_dir)
    try:
        chosen = _choose(state_dir, backup)
        database = state_dir / DATABASE
        fresh = database.with_suffix(".restoring")
        shutil.copyfile(chosen, fresh)
        for part in ("", "-wal", "-shm"):
            old = database.with_name(DATABASE + part)
            if old.exists():
                old.replace(state_dir / f"{DAMAGED}{int(clock())}.db{part}")
        fresh.replace(database)
        connect(database).close()
    finally:
        os.close(held)
    return chosen


def _choose(state_dir: Path, named: Path | None) -> Path:
    if named is not None:
        path = named if named.exists() else state_dir / BACKUPS / named.name
        if not path.exists():
            raise NotFound(f"there is no backup {named}; see {state_dir / BACKUPS}")
        check(path)
        return path
    found = backups(state_dir)
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
    """A name not taken yet: two backups may fall into one second."""
    names = (f"{stem}{'' if n == 0 else f'-{n}'}.db" for n in range(1000))
    return next(path for name in names if not (path := folder / name).exists())
