"""Several gateways, one learner: their databases' episodes, audits and feedback flow into one.

Each taker keeps the place that it has read to, by origin and kind, so that a merge costs what is new. Rows go by their
ids: a merge can be repeated, cut short at any point, or begin anew.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
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
_AUDITS = """
SELECT a.rowid AS place, a.id AS own, e.seq AS episode, e.id, e.source, e.asked_at, a.body
FROM audits a JOIN episodes e ON e.seq = a.episode WHERE a.rowid > ? ORDER BY a.rowid LIMIT ?
"""
_FEEDBACK = """
SELECT f.rowid AS place, f.id AS own, e.seq AS episode, e.id, e.source, e.asked_at, f.score, f.correction,
    f.source AS giver, f.given_at
FROM feedback f JOIN episodes e ON e.seq = f.episode WHERE f.rowid > ? ORDER BY f.rowid LIMIT ?
"""
_KINDS = {"episode": (_EPISODES, "episodes", "seq"), "audit": (_AUDITS, "audits", "rowid"),
          "feedback": (_FEEDBACK, "feedback", "rowid")}  # fmt: skip
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

    def foreign(self, kind: str, after: Place, upto: int | None) -> Sequence[Foreign]:
        """The next rows, in order; none where there are no more. See `Merging.foreign`."""
        ...


class Merging(Base):
    """Take in what other memories hold, and hand out what this one holds."""

    def merge(self, other_state_dirs: Iterable[Path]) -> dict[str, int]:
        """Copy what is missing here from folders that may be in use; gives the number of new rows by kind.

        What was forgotten here is not taken in again. Each other folder's gateway must have the same schema. A folder
        in use must lie on a disk of this machine (SQLite's WAL does not work across a network).

        Raises:
            NotFound: a folder has no database.
            Damaged: one of the databases fails its check.
        """
        counts = dict.fromkeys(_KINDS, 0)
        for folder in other_state_dirs:
            if not (folder / DATABASE).exists():
                raise NotFound(f"there is no memory in {folder}")
            check_small(folder / DATABASE, self.settings.check_mib)
            other = _Folder(folder, self.settings)
            try:
                for kind, count in self.merge_from(other).items():
                    counts[kind] += count
            finally:
                other.memory._close_readers()
        return counts

    def merge_from(self, origin: Origin) -> dict[str, int]:
        """Copy what is new at an origin since the last merge from it; gives the number of new rows by kind."""
        counts = dict.fromkeys(_KINDS, 0)
        for kind in _KINDS:
            # An audit of an episode that came after the episodes were read waits for the next merge.
            upto = None if kind == "episode" else self.place(origin.name, "episode")[0]
            place = self.place(origin.name, kind)
            while rows := origin.foreign(kind, place, upto):
                place = (rows[-1].place, rows[-1].own)
                counts[kind] += self._take(origin.name, kind, rows)
        return counts

    def foreign(self, kind: str, after: Place, upto: int | None = None) -> list[Foreign]:
        """The next `BATCH` committed rows of a kind, in order. Where the row at `after` is not the one named (rows
        were forgotten, and their numbers given again), from the start. `upto`: stop before a row whose episode has a
        higher number."""
        sql, table, number = _KINDS[kind]
        with self._read() as con:
            row = con.execute(f"SELECT id FROM {table} WHERE {number} = ?", (after[0],)).fetchone()
            start = after[0] if row is not None and row["id"] == after[1] else 0
            rows = con.execute(sql, (start, BATCH)).fetchall()
        return [_foreign(r, kind) for r in takewhile(lambda r: upto is None or r["episode"] <= upto, rows)]

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

    def foreign(self, kind: str, after: Place, upto: int | None) -> Sequence[Foreign]:
        return self.memory.foreign(kind, after, upto)


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
    return ingest.parse(kind, row.body.encode())
