"""What was learned: adapters and what was decided about them, their lessons, scores and calibrations."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from memory import codec
from memory.base import Base
from memory.errors import Conflict, NotFound
from memory.records import Adapter, AdapterStatus, Lesson, SkillScore


class Registry(Base):
    """The registry's rows; the adapters' folders belong to adapters/registry.py."""

    def add_adapter(self, adapter: Adapter) -> None:
        """A new row.

        Raises:
            Conflict: the name was used before (names are never reused), or another adapter is live already.
        """
        row = (
            adapter.name, _number(adapter.name), adapter.digest, adapter.base, adapter.status.value,
            adapter.created_at, adapter.n_lessons, adapter.train_s, adapter.reason,
            codec.encode(adapter.report).decode(),
        )  # fmt: skip
        try:
            self._write(lambda con: con.execute("INSERT INTO adapters VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row))
        except sqlite3.IntegrityError as error:
            raise Conflict(
                f"adapter {adapter.name} is registered already, or another is live; names are never reused"
            ) from error

    def set_adapter_status(self, name: str, status: AdapterStatus, reason: str) -> None:
        """Change what is decided about an adapter; to make it live use `make_live`.

        Raises:
            NotFound: no such adapter.
            Conflict: `status` is live.
        """
        if status is AdapterStatus.LIVE:
            raise Conflict("an adapter goes live with make_live, which retires the one before in the same step")
        self._write(lambda con: _set_status(con, name, status, reason))

    def set_adapter_report(self, name: str, report: Mapping[str, Any]) -> None:
        """Attach the evaluation and the gate's decision, as JSON."""
        values = (codec.encode(report).decode(), name)
        if self._write(lambda con: con.execute("UPDATE adapters SET report = ? WHERE name = ?", values).rowcount) == 0:
            raise _no_adapter(name)

    def make_live(self, name: str | None, reason: str) -> None:
        """This adapter answers from now on (None: the bare base does); the one before is retired in the same step.

        Raises:
            NotFound: no such adapter.
        """

        def swap(con: sqlite3.Connection) -> None:
            why = f"replaced by {name or 'the base'}: {reason}"
            con.execute(
                "UPDATE adapters SET status = 'retired', reason = ? WHERE status = 'live' AND name IS NOT ?",
                (why, name),
            )
            if name is not None:
                _set_status(con, name, AdapterStatus.LIVE, reason)

        self._write(swap)

    def adapter(self, name: str) -> Adapter:
        """One row.

        Raises:
            NotFound: no such adapter.
        """
        row = self._row("SELECT * FROM adapters WHERE name = ?", (name,))
        if row is None:
            raise _no_adapter(name)
        return _adapter(row)

    def adapters(self) -> list[Adapter]:
        """All rows, oldest first."""
        return [_adapter(row) for row in self._rows("SELECT * FROM adapters ORDER BY number, created_at, name")]

    def live(self) -> Adapter | None:
        """The adapter that answers; None: the bare base."""
        row = self._row("SELECT * FROM adapters WHERE status = 'live'")
        return None if row is None else _adapter(row)

    def next_adapter_number(self) -> int:
        """One more than any number ever registered, from 1."""
        return int(self._rows("SELECT coalesce(max(number), 0) + 1 FROM adapters")[0][0])

    def record_lessons(self, name: str, lessons: Iterable[Lesson]) -> int:
        """Which lessons an adapter was made of; a lesson that several adapters share is stored once.

        Returns how many the adapter now has. Can be repeated.
        """
        rows = [(lesson.episode_id, body) for lesson in lessons for body in (codec.encode(lesson),)]

        def put(con: sqlite3.Connection) -> int:
            for episode_id, body in rows:
                digest = hashlib.sha256(body).hexdigest()
                con.execute(
                    "INSERT OR IGNORE INTO lessons (digest, episode_id, body) VALUES (?, ?, ?)",
                    (digest, episode_id, codec.pack(body)),
                )
                con.execute(
                    "INSERT OR IGNORE INTO adapter_lessons SELECT ?, id FROM lessons WHERE digest = ?",
                    (name, digest),
                )
            count = con.execute("SELECT count(*) FROM adapter_lessons WHERE adapter = ?", (name,))
            return int(count.fetchone()[0])

        return self._write(put)

    def lessons_of(self, name: str) -> list[str]:
        """Ids of the episodes that an adapter learnt from."""
        sql = """SELECT DISTINCT l.episode_id FROM adapter_lessons a JOIN lessons l ON l.id = a.lesson
                 WHERE a.adapter = ? ORDER BY l.id"""
        return [str(row[0]) for row in self._rows(sql, (name,))]

    def lessons(self, name: str) -> list[Lesson]:
        """The lessons that an adapter was made of, verbatim."""
        sql = "SELECT l.body FROM adapter_lessons a JOIN lessons l ON l.id = a.lesson WHERE a.adapter = ? ORDER BY l.id"
        return [codec.decode(Lesson, row["body"]) for row in self._rows(sql, (name,))]

    def learners(self, episode_id: str) -> list[str]:
        """Names of the adapters that learnt from an episode."""
        sql = """SELECT DISTINCT a.adapter FROM adapter_lessons a JOIN lessons l ON l.id = a.lesson
                 WHERE l.episode_id = ? ORDER BY a.adapter"""
        return [str(row[0]) for row in self._rows(sql, (episode_id,))]

    def record_scores(self, adapter: str, scores: Sequence[SkillScore]) -> None:
        """How an adapter did on each skill's held-out questions; a skill's earlier score is replaced."""
        rows = [(adapter, s.skill, s.n, s.before, s.after, s.headroom, s.won, s.lost) for s in scores]
        self._write(lambda con: con.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows))

    def score_matrix(self) -> dict[str, dict[str, SkillScore]]:
        """adapter -> skill -> score, adapters in the order of their numbers: what forgetting is judged by."""
        sql = """SELECT s.* FROM scores s LEFT JOIN adapters a ON a.name = s.adapter
                 ORDER BY a.number, s.adapter, s.skill"""
        matrix: dict[str, dict[str, SkillScore]] = {}
        for row in self._rows(sql):
            shares = row["before"], row["after"], row["headroom"]
            score = SkillScore(row["skill"], row["n"], *shares, row["won"], row["lost"])
            matrix.setdefault(row["adapter"], {})[row["skill"]] = score
        return matrix

    def set_calibration(self, adapter: str | None, calibration: Mapping[str, Any]) -> None:
        """The calibrator of an adapter version (None: the base), as JSON; the one before is replaced."""
        row = (adapter or "", codec.encode(calibration).decode(), self.clock())
        self._write(lambda con: con.execute("INSERT OR REPLACE INTO calibrations VALUES (?, ?, ?)", row))

    def calibration(self, adapter: str | None) -> dict[str, Any] | None:
        """What was set; None: this adapter version was never calibrated."""
        row = self._row("SELECT body FROM calibrations WHERE adapter = ?", (adapter or "",))
        return None if row is None else dict(orjson.loads(row["body"]))


def _set_status(con: sqlite3.Connection, name: str, status: AdapterStatus, reason: str) -> None:
    sql = "UPDATE adapters SET status = ?, reason = ? WHERE name = ?"
    if con.execute(sql, (status.value, reason, name)).rowcount == 0:
        raise _no_adapter(name)


def _adapter(row: sqlite3.Row) -> Adapter:
    return Adapter(
        name=row["name"],
        digest=row["digest"],
        base=row["base"],
        status=AdapterStatus(row["status"]),
        created_at=row["created_at"],
        n_lessons=row["n_lessons"],
        train_s=row["train_s"],
        reason=row["reason"],
        report=orjson.loads(row["report"]),
    )


def _number(name: str) -> int:
    """The number in "sn-0007-3f9a1c"; 0 where a name has none."""
    digits = name.split("-")[1] if name.count("-") >= 1 else ""
    return int(digits) if digits.isdecimal() else 0


def _no_adapter(name: str) -> NotFound:
    return NotFound(f"there is no adapter {name}; `secondnature adapters list` shows them", param="name")
