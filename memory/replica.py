"""What was decided, handed from the one memory that decides to those that follow it: adapter, thresholds, keys."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from functools import partial
from typing import Any

from memory.base import Base
from memory.decisions import event

FOLLOWED = "published"  # who a followed undo is attributed to
_LIVE = "SELECT name, number, digest, base, created_at, n_lessons, train_s, reason FROM adapters WHERE status = 'live'"
_THRESHOLDS = """
SELECT id, skill, value, who, why, set_at, certificate FROM thresholds WHERE id IN
    (SELECT max(id) FROM thresholds WHERE adapter IS ? AND undone_at IS NULL GROUP BY skill) ORDER BY id
"""
_STATES = """
SELECT skill, state, reason, adapter, since FROM skill_states
WHERE id IN (SELECT max(id) FROM skill_states GROUP BY skill) ORDER BY skill
"""
_KEYS = "SELECT id, hash, role, note, created_at, revoked_at, limits FROM keys ORDER BY created_at, id"


class Replica(Base):
    """Give and take what is in force; the history stays where it was made."""

    def decided(self) -> dict[str, Any]:
        """What is in force, as JSON: the live adapter's row (None: the base), its calibration and thresholds, the
        skills' states, and the keys by their hashes."""
        with self._read() as con:
            con.execute("BEGIN")  # one view of the database for all five
            try:
                live = con.execute(_LIVE).fetchone()
                name = live["name"] if live else None
                calibration = con.execute("SELECT body FROM calibrations WHERE adapter = ?", (name or "",)).fetchone()
                return {
                    "adapter": dict(live) if live else None,
                    "calibration": calibration["body"] if calibration else None,
                    "thresholds": [dict(row) for row in con.execute(_THRESHOLDS, (name,))],
                    "skills": [dict(row) for row in con.execute(_STATES)],
                    "keys": [dict(row) for row in con.execute(_KEYS)],
                }
            finally:
                con.execute("COMMIT")

    def adopt(self, decided: Mapping[str, Any]) -> None:
        """Make what another memory decided hold here, in one step. Can be repeated.

        A threshold that this memory's own watch over audits took back stays taken back, until a newer one is decided.
        """
        self._write(partial(_adopt, decided=decided, now=self.clock()))


def _adopt(con: sqlite3.Connection, decided: Mapping[str, Any], now: float) -> None:
    live = decided["adapter"]
    name = live["name"] if live else None
    if live is not None:
        row = {"status": "candidate", "report": "{}", **live}
        con.execute(_insert("adapters", row, "OR IGNORE"), row)
    con.execute("UPDATE adapters SET status = 'retired' WHERE status = 'live' AND name IS NOT ?", (name,))
    if live is not None:
        con.execute("UPDATE adapters SET status = 'live', reason = ? WHERE name = ?", (live["reason"], name))
    if decided["calibration"] is None:
        con.execute("DELETE FROM calibrations WHERE adapter = ?", (name or "",))
    else:
        con.execute("INSERT OR REPLACE INTO calibrations VALUES (?, ?, ?)", (name or "", decided["calibration"], now))
    _thresholds(con, name, decided["thresholds"], now)
    have = {row["skill"]: dict(row) for row in con.execute(_STATES)}
    for row in decided["skills"]:
        if have.get(row["skill"]) != row:
            con.execute(_insert("skill_states", row), row)
    for row in decided["keys"]:
        con.execute(_insert("keys", row, "OR REPLACE"), row)


def _thresholds(con: sqlite3.Connection, adapter: str | None, given: list[dict[str, Any]], now: float) -> None:
    """The newest row of a skill counts: what differs is added, what is not in force there is undone."""
    mine = {row["skill"]: dict(row) for row in con.execute(_THRESHOLDS, (adapter,))}
    general = max((row["set_at"] for row in given if row["skill"] is None), default=0.0)
    there = {row["skill"] for row in given}
    for row in given:
        own = mine.get(row["skill"])
        if own is None or not (_same(own, row) or _own_alarm(own, row["set_at"])):
            new = {key: value for key, value in row.items() if key != "id"} | {"adapter": adapter}
            con.execute(_insert("thresholds", new), new)
    for skill, own in mine.items():
        if skill not in there and not _own_alarm(own, general):
            sql = "UPDATE thresholds SET undone_at = ? WHERE adapter IS ? AND skill IS ? AND undone_at IS NULL"
            con.execute(sql, (now, adapter, skill))
            event(con, now, FOLLOWED, "undo threshold", "", {"skill": skill, "adapter": adapter})


def _same(own: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    return all(own[key] == row[key] for key in ("value", "who", "set_at", "certificate"))


def _own_alarm(own: Mapping[str, Any], decided_at: float) -> bool:
    return bool(own["who"] == "vigil" and own["set_at"] > decided_at)


def _insert(table: str, row: Mapping[str, Any], how: str = "") -> str:
    return f"INSERT {how} INTO {table} ({', '.join(row)}) VALUES ({', '.join(':' + key for key in row)})"
