"""Several gateways, one learner: their databases' episodes, audits and feedback flow into one.

Each taker keeps the place that it has read to, by origin and kind, so that a merge costs what is new. Rows go by their
ids: a merge can be repeated, cut short at any point, or begin anew.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Protocol

import orjson

from memory import codec, ingest
from memory.base import DATABASE, Base, MemorySettings, check_small
from memory.erase import erased
from memory.errors import NotFound
from memory.ingest import Item
from memory.rows import Feedback

BATCH = 500  # rows read and committed together
START = (0, "")

_EPISODES = """
SELECT e.seq AS place, e.id AS own, e.seq AS episode, e.id, e.source, e.asked_at, b.body
FROM episodes e JOIN bodies b ON b.seq = e.seq WHERE e.seq > ? ORDER BY e.seq LIMIT ?
"""
_THOUGHT = _EPISODES.replace("e.seq > ?", "e.seq > ? AND e.method IS NOT NULL")
_AUDITED = """
SELECT a.rowid AS place, a.id AS own, e.seq AS episode, e.id, e.source, e.asked_at, b.body
FROM audits a JOIN episodes e ON e.seq = a.episode JOIN bodies b ON b.seq = e.seq
WHERE a.rowid > ? ORDER BY a.rowid LIMIT ?
"""
_AUDITS = """
SELECT a.rowid AS place, a.id AS own, e.seq AS episode, e.id, e.source, e.asked_at, a.body
FROM audits a JOIN episodes e ON e.seq = a.episode WHERE a.rowid > ? ORDER BY a.rowid LIMIT ?
"""
_FEEDBACK = """
SELECT f.rowid AS place, f.id AS own, e.seq AS episode, e.id, e.source, e.asked_at, f.score, f.correction,
    f.source AS giver, f.given_at
FROM feedback f JOIN episodes e ON e.seq = f.episode WHERE f.rowid > ? ORDER BY f.rowid LIMIT ?
"""
_KINDS = {
    "episode": (_EPISODES, "episodes", "seq"),
    "thought": (_THOUGHT, "episodes", "seq"),  # episodes that System 2 thought through
    "audited": (_AUDITED, "audits", "rowid"),  # episodes, one for each audit
    "audit": (_AUDITS, "audits", "rowid"),
    "feedback": (_FEEDBACK, "feedback", "rowid"),
}
ALL, THOUGHT = ("episode", "audit", "feedback"), ("thought", "audited", "audit", "feedback")
Place = tuple[int, str]  # row number read to, and the id of the row that had it


@dataclass(frozen=True, slots=True)
class Foreign:
    """One row of another memory."""

    place: int  # its row number there
    own: str  # its id
    episode: int  # row number, there, of the episode that it belongs to
    id: str  # of that episode
    source: str
    asked_at: float  # unix seconds
    body: str  # the record as JSON


class Origin(Protocol):
    """Where rows come from: a state folder, or a gateway's HTTP API."""

    @property
    def name(self) -> str:
        """What the place that was read to is kept under."""
        ...

    def foreign(self, kind: str, after: Place) -> Sequence[Foreign]:
        """The next rows, in order; none where there are no more. See `Merging.foreign`."""
        ...


class Merging(Base):
    """Take in what other memories hold, and hand out what this one holds."""

    def merge(self, other_state_dirs: Iterable[Path], *, thought: bool = False) -> dict[str, int]:
        """Copy what is missing here from folders that may be in use; gives the number of new rows by kind.

        What was forgotten here is not taken in again. Each other folder's gateway must have the same schema. A folder
        in use must lie on a disk of this machine (SQLite's WAL does not work across a network). `thought`: see
        `merge_from`.

        Raises:
            NotFound: a folder has no database.
            Damaged: one of the databases fails its check.
        """
        counts = dict.fromkeys(ALL, 0)
        for folder in other_state_dirs:
            if not (folder / DATABASE).exists():
                raise NotFound(f"there is no memory in {folder}")
            check_small(folder / DATABASE, self.settings.check_mib)
            other = _Folder(folder, self.settings)
            try:
                for kind, count in self.merge_from(other, thought=thought).items():
                    counts[kind] += count
            finally:
                other.memory._close_readers()
        return counts

    def merge_from(self, origin: Origin, *, thought: bool = False) -> dict[str, int]:
        """Copy what is new at an origin since the last merge from it; gives the number of new rows by kind.

        `thought`: of the episodes those alone that System 2 thought through, at once or in an audit. Lessons,
        calibration and certificates need no others; shares of traffic and what-if do, and feedback is kept for those
        that are here.
        """
        counts = dict.fromkeys(ALL, 0)
        for kind in THOUGHT if thought else ALL:
            place, upto = self.place(origin.name, kind), self._bound(origin.name, kind, thought)
            while rows := list(takewhile(upto, origin.foreign(kind, place))):
                place = (rows[-1].place, rows[-1].own)
                counts[kind if kind in ALL else "episode"] += self._take(origin.name, kind, rows)
        return counts

    def _bound(self, origin: str, kind: str, thought: bool) -> Callable[[Foreign], bool]:
        """Whether a row's turn has come: an audit or feedback of an episode that came after the episodes were read
        waits for the next merge."""
        if kind in ("episode", "thought", "audited"):
            return lambda row: True
        if kind == "audit" and thought:
            audited = self.place(origin, "audited")[0]
            return lambda row: row.place <= audited
        episodes = self.place(origin, "thought" if thought else "episode")[0]
        return lambda row: row.episode <= episodes

    def foreign(self, kind: str, after: Place) -> list[Foreign]:
        """The next `BATCH` committed rows of a kind, in order. Where the row at `after` is not the one named (rows
        were forgotten, and their numbers given again), from the start."""
        sql, table, number = _KINDS[kind]
        with self._read() as con:
            row = con.execute(f"SELECT id FROM {table} WHERE {number} = ?", (after[0],)).fetchone()
            start = after[0] if row is not None and row["id"] == after[1] else 0
            rows = con.execute(sql, (start, BATCH)).fetchall()
        return [_foreign(row, kind) for row in rows]

    def place(self, origin: str, kind: str) -> Place:
        """Where the last merge from an origin ended."""
        row = self._row("SELECT value FROM meta WHERE key = ?", (_key(origin, kind),))
        return START if row is None else tuple(orjson.loads(row["value"]))

    def _take(self, origin: str, kind: str, rows: Sequence[Foreign]) -> int:
        with self._read() as con:
            gone = erased(con)
        items = [_item(row, kind) for row in rows if not gone(row.id, row.source, row.asked_at)]
        end = (_key(origin, kind), orjson.dumps((rows[-1].place, rows[-1].own)).decode())
        return self._write(partial(_insert, items=items, end=end))


class _Folder:
    """A state folder on this machine, in use or not."""

    def __init__(self, folder: Path, settings: MemorySettings) -> None:
        self.name = str(folder.resolve())
        self.memory = Merging(folder, float, settings, None)

    def foreign(self, kind: str, after: Place) -> Sequence[Foreign]:
        return self.memory.foreign(kind, after)


def _insert(con: sqlite3.Connection, items: list[Item], end: tuple[str, str]) -> int:
    con.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", end)
    return sum(ingest.insert(con, item) for item in items)


def _key(origin: str, kind: str) -> str:
    return f"merged {kind} {origin}"


def _foreign(row: sqlite3.Row, kind: str) -> Foreign:
    if kind == "feedback":
        given = Feedback(row["own"], row["id"], row["score"], row["correction"], row["giver"], row["given_at"])
        body = codec.encode(given)
    else:
        body = codec.unpack(row["body"])
    head = (row["place"], row["own"], row["episode"], row["id"], row["source"], row["asked_at"])
    return Foreign(*head, body.decode())


def _item(row: Foreign, kind: str) -> Item:
    return ingest.parse(kind if kind in ALL else "episode", row.body.encode())
