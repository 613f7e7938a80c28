"""Several gateways, one learner: their databases' episodes, audits and feedback flow into one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from functools import partial
from pathlib import Path

from memory import codec, ingest
from memory.base import DATABASE, Base, check_small, connect
from memory.erase import erased
from memory.errors import NotFound
from memory.ingest import Item
from memory.rows import Feedback

BATCH = 500  # rows read and committed together

_EPISODES = """
SELECT e.seq AS place, e.id, e.source, e.asked_at, b.body FROM other.episodes e JOIN other.bodies b ON b.seq = e.seq
WHERE e.seq > ? AND e.id NOT IN (SELECT id FROM main.episodes) ORDER BY e.seq LIMIT ?
"""
_AUDITS = """
SELECT a.rowid AS place, e.id, e.source, e.asked_at, a.body
FROM other.audits a JOIN other.episodes e ON e.seq = a.episode
WHERE a.rowid > ? AND a.id NOT IN (SELECT id FROM main.audits) ORDER BY a.rowid LIMIT ?
"""
_FEEDBACK = """
SELECT f.rowid AS place, e.id, e.source, e.asked_at, f.id AS feedback, f.score, f.correction, f.source AS giver,
    f.given_at FROM other.feedback f JOIN other.episodes e ON e.seq = f.episode
WHERE f.rowid > ? AND f.id NOT IN (SELECT id FROM main.feedback) ORDER BY f.rowid LIMIT ?
"""


class Merging(Base):
    """Take in what other state folders remember."""

    def merge(self, other_state_dirs: Iterable[Path]) -> dict[str, int]:
        """Copy what is missing here from folders that may be in use; gives the number of new rows by kind.

        Can be repeated and cut short at any point: rows go by their ids. What was forgotten here is not taken in
        again. Each other folder's gateway must have the same schema.

        Raises:
            NotFound: a folder has no database.
            Damaged: one of the databases fails its check.
        """
        counts = {"episode": 0, "audit": 0, "feedback": 0}
        for folder in other_state_dirs:
            path = folder / DATABASE
            if not path.exists():
                raise NotFound(f"there is no memory in {folder}")
            check_small(path, self.settings.check_mib)
            for kind, sql in (("episode", _EPISODES), ("audit", _AUDITS), ("feedback", _FEEDBACK)):
                counts[kind] += self._take(path, sql, kind)
        return counts

    def _take(self, path: Path, sql: str, kind: str) -> int:
        taken, place = 0, 0
        with closing(connect(self.path, read_only=True)) as con:
            con.execute("ATTACH ? AS other", (f"{path.resolve().as_uri()}?mode=ro",))
            gone = erased(con)
            while rows := con.execute(sql, (place, BATCH)).fetchall():
                place = int(rows[-1]["place"])
                items = [_item(row, kind) for row in rows if not gone(row["id"], row["source"], row["asked_at"])]
                taken += self._write(partial(_insert, items=items))
        return taken


def _insert(con: sqlite3.Connection, items: list[Item]) -> int:
    return sum(ingest.insert(con, item) for item in items)


def _item(row: sqlite3.Row, kind: str) -> Item:
    if kind == "feedback":
        given = Feedback(row["feedback"], row["id"], row["score"], row["correction"], row["giver"], row["given_at"])
        return Item(given, codec.encode(given))
    return ingest.parse(kind, codec.unpack(row["body"]))
