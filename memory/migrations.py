"""The schema, as numbered steps. A step, once released, is never edited: a change is a new step at the end.

An existing database is moved forward on a copy, which replaces the original only after it passed SQLite's check;
the original stays among the backups.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from memory.copies import MIGRATING
from memory.errors import Damaged

Db = Any  # sqlite_utils.Database


def episodes(db: Db) -> None:
    """What happened: one narrow row per episode, its full JSON apart, so that scans do not read the JSON."""
    db["meta"].create({"key": str, "value": str}, pk="key")
    db["names"].create({"id": int, "name": str}, pk="id")
    db["names"].create_index(["name"], unique=True)
    db["episodes"].create(
        {
            "seq": int, "id": str, "asked_at": float, "skill": str, "source": str, "prompt_key": str,
            "heldout": int, "kind": str, "mode": str, "system": str, "adapter": str, "method": str,
            "grade": str, "confidence": float, "tokens": int, "seconds": float, "blanked": int,
        },
        pk="seq",
        not_null={"id", "asked_at", "skill", "source", "prompt_key", "heldout", "blanked"},
        defaults={"blanked": 0},
    )  # fmt: skip
    db["episodes"].create_index(["id"], unique=True)
    for column in ("skill", "source", "adapter"):
        db["episodes"].create_index([column, "asked_at"])
    for column in ("asked_at", "prompt_key"):
        db["episodes"].create_index([column])
    db.conn.execute("CREATE INDEX idx_episodes_train ON episodes (asked_at) WHERE grade = 'train'")
    db["bodies"].create({"seq": int, "body": bytes}, pk="seq", foreign_keys=[("seq", "episodes", "seq")])
    db["audits"].create(
        {
            "id": str, "episode": int, "audited_at": float, "agrees": int, "grade": str, "method": str,
            "tokens": int, "seconds": float, "body": bytes,
        },
        pk="id",
        foreign_keys=[("episode", "episodes", "seq")],
    )  # fmt: skip
    db["audits"].create_index(["episode"])
    db.conn.execute("CREATE INDEX idx_audits_train ON audits (episode) WHERE grade = 'train'")
    db["feedback"].create(
        {"id": str, "episode": int, "score": float, "correction": str, "source": str, "given_at": float},
        pk="id",
        foreign_keys=[("episode", "episodes", "seq")],
    )
    for column in ("episode", "source"):
        db["feedback"].create_index([column])
    db["outcome_chunks"].create({"chunk": int, "rows": bytes}, pk="chunk")


def registry(db: Db) -> None:
    """What was learned, and what was decided about it."""
    db["adapters"].create(
        {
            "name": str, "number": int, "digest": str, "base": str, "status": str, "created_at": float,
            "n_lessons": int, "train_s": float, "reason": str, "report": str,
        },
        pk="name",
    )  # fmt: skip
    db.conn.execute("CREATE UNIQUE INDEX idx_adapters_live ON adapters (status) WHERE status = 'live'")
    db["lessons"].create({"id": int, "digest": str, "episode_id": str, "body": bytes}, pk="id")
    db["lessons"].create_index(["digest"], unique=True)
    db["lessons"].create_index(["episode_id"])
    db["adapter_lessons"].create({"adapter": str, "lesson": int}, pk=("adapter", "lesson"))
    db["adapter_lessons"].create_index(["lesson"])
    scores = {"adapter": str, "skill": str, "n": int, "before": float, "after": float, "headroom": float}
    db["scores"].create(scores, pk=("adapter", "skill"))
    db["calibrations"].create({"adapter": str, "body": str, "set_at": float}, pk="adapter")


def decisions(db: Db) -> None:
    """What was decided, by whom and why."""
    db["thresholds"].create(
        {
            "id": int, "skill": str, "adapter": str, "value": float, "who": str, "why": str, "set_at": float,
            "certificate": str, "undone_at": float,
        },
        pk="id",
    )  # fmt: skip
    db["thresholds"].create_index(["adapter", "skill"])
    states = {"id": int, "skill": str, "state": str, "reason": str, "adapter": str, "since": float}
    db["skill_states"].create(states, pk="id")
    db["skill_states"].create_index(["skill"])
    db["nights"].create(
        {
            "id": int, "reason": str, "started_at": float, "finished_at": float, "outcome": str,
            "adapter": str, "report": str,
        },
        pk="id",
    )  # fmt: skip
    db["quarantine"].create({"episode_id": str, "reason": str, "since": float}, pk="episode_id")
    db["events"].create({"id": int, "at": float, "who": str, "what": str, "why": str, "detail": str}, pk="id")
    db["keys"].create(
        {
            "id": str, "hash": str, "role": str, "note": str, "created_at": float, "revoked_at": float,
            "limits": str,
        },
        pk="id",
    )  # fmt: skip
    db["keys"].create_index(["hash"], unique=True)


def erasure(db: Db) -> None:
    """Receipts of what was forgotten, and the secret that hashes what they name."""
    db["receipts"].create({"id": str, "body": str}, pk="id")
    db["meta"].insert({"key": "erasure_key", "value": secrets.token_hex(32)})


def evidence(db: Db) -> None:
    """Paired counts of an examination, and where the watch over each skill's audits stands."""
    db.conn.execute("ALTER TABLE scores ADD COLUMN won INTEGER")
    db.conn.execute("ALTER TABLE scores ADD COLUMN lost INTEGER")
    watches = {"adapter": str, "skill": str, "body": str, "set_at": float}
    db["watches"].create(watches, pk=("adapter", "skill"))


MIGRATIONS: tuple[Callable[[Db], None], ...] = (episodes, registry, decisions, erasure, evidence)


def version(path: Path) -> int:
    """The number of the last step that a database has gone through; 0: none, or no such file."""
    if not path.exists():
        return 0
    with closing(sqlite3.connect(path)) as con:
        if con.execute("SELECT 1 FROM sqlite_master WHERE name = 'migrations'").fetchone() is None:
            return 0
        return int(con.execute("SELECT coalesce(max(number), 0) FROM migrations").fetchone()[0])


def bring_forward(path: Path, backups: Path, now: float) -> None:
    """Create the database, or move it to the newest schema on a copy that then replaces it.

    Raises:
        Damaged: the database was made by a newer version of this program, or the copy fails its check.
    """
    found = version(path)
    if found > len(MIGRATIONS):
        raise Damaged(f"{path} has schema {found}, this program knows {len(MIGRATIONS)}; install the newer version")
    if found == len(MIGRATIONS):
        return
    copy = path.with_suffix(MIGRATING)
    copy.unlink(missing_ok=True)
    if path.exists():
        _copy(path, copy)
    apply(copy, found, len(MIGRATIONS), now)
    _check(copy)
    if path.exists():
        backups.mkdir(exist_ok=True)
        shutil.copy2(path, backups / f"before-schema-{len(MIGRATIONS)}-{int(now)}.db")
    for stale in ("-wal", "-shm"):  # their content is in the copy; beside the new file they would corrupt it
        path.with_name(path.name + stale).unlink(missing_ok=True)
    copy.replace(path)


def _sqlite_utils() -> Any:
    """sqlite_utils' Database, imported only where a step has to run, and without pandas: it imports that where it is
    installed (0.3 s), for column types that no step has."""
    if "pandas" in sys.modules:
        from sqlite_utils import Database
    else:
        sys.modules["pandas"] = None  # type: ignore[assignment]  # Python's way to say: not there
        try:
            from sqlite_utils import Database
        finally:
            sys.modules.pop("pandas", None)
    return Database


def apply(path: Path, start: int, stop: int, now: float) -> None:
    """Run steps `start + 1` to `stop` on the database at `path`."""
    database = _sqlite_utils()
    with closing(sqlite3.connect(path)) as con:
        con.execute("PRAGMA synchronous = OFF")  # a crash leaves a copy that nobody reads; synced once below
        db: Db = database(con)
        for number, step in enumerate(MIGRATIONS[:stop], start=1):
            if number > start:
                step(db)
                row = {"number": number, "name": step.__name__, "applied_at": now}
                db["migrations"].insert(row, pk="number")
        con.commit()
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _copy(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        old.backup(new)


def _check(path: Path) -> None:
    with closing(sqlite3.connect(path)) as con:
        found = con.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise Damaged(f"the migrated copy {path} fails its check ({found}); the original is untouched")
