"""What was decided, by whom and why: thresholds, skill states, nights, quarantine, keys, events."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

import orjson

from memory import codec
from memory.base import Base
from memory.errors import Conflict, NotFound
from memory.records import SkillState
from memory.rows import Event, Key, Night, Quarantined, SkillStateRow, ThresholdChange


class Decisions(Base):
    """Each with its history; the newest row that was not undone is in force."""

    def set_threshold(
        self,
        skill: str | None,
        value: float | None,
        who: str,
        why: str,
        certificate: Mapping[str, Any] | None = None,
        *,
        adapter: str | None = None,
    ) -> ThresholdChange:
        """From now on System 1 answers `skill` (None: every skill without its own) at this confidence (0..1) or more
        while `adapter` (None: the base) drafts. Value None takes trust away."""
        now = self.clock()
        text = None if certificate is None else codec.encode(certificate).decode()
        sql = """INSERT INTO thresholds (skill, adapter, value, who, why, set_at, certificate)
                 VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING id"""
        row = (skill, adapter, value, who, why, now, text)
        number = self._write(lambda con: int(con.execute(sql, row).fetchone()[0]))
        return ThresholdChange(number, skill, adapter, value, who, why, now, certificate)

    def threshold(self, skill: str | None, adapter: str | None = None) -> float | None:
        """The threshold in force (0..1): the skill's own, else the general one; None: nothing is trusted yet."""
        sql = """SELECT value FROM thresholds WHERE adapter IS ? AND undone_at IS NULL AND (skill IS ? OR skill IS NULL)
                 ORDER BY skill IS NULL, id DESC LIMIT 1"""
        row = self._row(sql, (adapter, skill))
        return None if row is None or row["value"] is None else float(row["value"])

    def thresholds(self, adapter: str | None = None) -> dict[str | None, float | None]:
        """Every threshold in force for an adapter version by skill; key None is the general one."""
        sql = "SELECT skill, value FROM thresholds WHERE adapter IS ? AND undone_at IS NULL ORDER BY id"
        return {row["skill"]: row["value"] for row in self._rows(sql, (adapter,))}

    def threshold_history(self) -> list[ThresholdChange]:
        """Every change, newest first, the undone ones too."""
        return [_change(row) for row in self._rows("SELECT * FROM thresholds ORDER BY id DESC")]

    def undo_threshold(self, who: str, why: str = "", number: int | None = None) -> ThresholdChange:
        """Take back a change that is in force, by its number or the newest; what it replaced is in force again.

        Raises:
            NotFound: there is nothing to undo.
        """
        now = self.clock()

        def undo(con: sqlite3.Connection) -> ThresholdChange:
            sql = "SELECT * FROM thresholds WHERE undone_at IS NULL AND id = ifnull(?, id) ORDER BY id DESC LIMIT 1"
            row = con.execute(sql, (number,)).fetchone()
            if row is None:
                raise NotFound("no threshold was set, so there is nothing to undo")
            con.execute("UPDATE thresholds SET undone_at = ? WHERE id = ?", (now, row["id"]))
            event(con, now, who, "undo threshold", why, {"id": row["id"], "skill": row["skill"]})
            return _change({**dict(row), "undone_at": now})

        return self._write(undo)

    def set_skill_state(self, skill: str, state: SkillState, reason: str, adapter: str | None = None) -> None:
        """Where a skill stands from now on; the states before are kept."""
        row = (skill, state.value, reason, adapter, self.clock())
        sql = "INSERT INTO skill_states (skill, state, reason, adapter, since) VALUES (?, ?, ?, ?, ?)"
        self._write(lambda con: con.execute(sql, row))

    def skill_states(self) -> dict[str, SkillStateRow]:
        """The newest state of each skill."""
        sql = "SELECT * FROM skill_states WHERE id IN (SELECT max(id) FROM skill_states GROUP BY skill) ORDER BY skill"
        return {row["skill"]: _state(row) for row in self._rows(sql)}

    def skill_history(self, skill: str) -> list[SkillStateRow]:
        """Every state that a skill was in, oldest first."""
        return [_state(row) for row in self._rows("SELECT * FROM skill_states WHERE skill = ? ORDER BY id", (skill,))]

    def start_night(self, reason: str) -> int:
        """A night begins; gives its number.

        Raises:
            Conflict: one is under way.
        """
        now = self.clock()

        def start(con: sqlite3.Connection) -> int:
            running = con.execute("SELECT id FROM nights WHERE finished_at IS NULL").fetchone()
            if running is not None:
                raise Conflict(f"night {running['id']} is under way; wait for it to finish", retry_after_s=60.0)
            sql = "INSERT INTO nights (reason, started_at, outcome, report) VALUES (?, ?, 'running', '{}') RETURNING id"
            return int(con.execute(sql, (reason, now)).fetchone()[0])

        return self._write(start)

    def finish_night(
        self, number: int, outcome: str, report: Mapping[str, Any] | None = None, adapter: str | None = None
    ) -> None:
        """A night ends: "promoted", "rejected", "skipped" or "failed", with its report as JSON."""
        values = (self.clock(), outcome, codec.encode(report or {}).decode(), adapter, number)
        sql = "UPDATE nights SET finished_at = ?, outcome = ?, report = ?, adapter = ? WHERE id = ?"
        self._write(lambda con: con.execute(sql, values))

    def nights(self, limit: int = 100) -> list[Night]:
        """Newest first."""
        rows = self._rows("SELECT * FROM nights ORDER BY id DESC LIMIT ?", (limit,))
        return [_night(row) for row in rows]

    def quarantine(self, episode_id: str, reason: str) -> None:
        """Keep an episode out of training until it is released."""
        row = (episode_id, reason, self.clock())
        sql = "INSERT OR REPLACE INTO quarantine SELECT ?, ?, ? WHERE EXISTS (SELECT 1 FROM episodes WHERE id = ?)"
        if self._write(lambda con: con.execute(sql, (*row, episode_id)).rowcount) == 0:
            raise NotFound(f"there is no episode {episode_id}", param="episode_id")

    def release(self, episode_id: str) -> None:
        """Let an episode be trained on again.

        Raises:
            NotFound: it is not in quarantine.
        """
        sql = "DELETE FROM quarantine WHERE episode_id = ?"
        if self._write(lambda con: con.execute(sql, (episode_id,)).rowcount) == 0:
            raise NotFound(f"{episode_id} is not in quarantine", param="episode_id")

    def quarantined(self) -> list[Quarantined]:
        """Newest first."""
        sql = """SELECT q.*, e.skill, e.source FROM quarantine q JOIN episodes e ON e.id = q.episode_id
                 ORDER BY q.since DESC, e.seq DESC"""
        rows = self._rows(sql)
        return [Quarantined(r["episode_id"], r["skill"], r["source"], r["reason"], r["since"]) for r in rows]

    def add_key(self, key: Key) -> None:
        """A new API key, by its hash.

        Raises:
            Conflict: the id or the hash exists.
        """
        limits = codec.encode(key.limits).decode()
        row = (key.id, key.hash, key.role, key.note, key.created_at, key.revoked_at, limits)
        try:
            self._write(lambda con: con.execute("INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, ?)", row))
        except sqlite3.IntegrityError as error:
            raise Conflict(f"a key {key.id} exists already; choose another id") from error

    def revoke_key(self, key_id: str) -> None:
        """The key is refused from now on.

        Raises:
            NotFound: no such key, or it was revoked before.
        """
        sql = "UPDATE keys SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL"
        now = self.clock()
        if self._write(lambda con: con.execute(sql, (now, key_id)).rowcount) == 0:
            raise NotFound(f"there is no valid key {key_id}", param="key_id")

    def keys(self) -> list[Key]:
        """All keys, the revoked ones too, oldest first."""
        return [_key(row) for row in self._rows("SELECT * FROM keys ORDER BY created_at, id")]

    def key_by_hash(self, digest: str) -> Key | None:
        """The key with this hash, revoked or not; None: unknown."""
        row = self._row("SELECT * FROM keys WHERE hash = ?", (digest,))
        return None if row is None else _key(row)

    def tokens_since(self, key_id: str, since: float) -> int:
        """Tokens generated for answers to a key, in its own name or another's ("key/name"), since then (unix seconds).

        What was forgotten since, and what waits to be written, is not in it.
        """
        # A range and not LIKE, so that the index serves: '0' is the character after '/'.
        sql = """SELECT coalesce(sum(tokens), 0) FROM episodes
                 WHERE asked_at >= ? AND kind <> 'replay'
                 AND (source = ? OR (source > ? || '/' AND source < ? || '0'))"""
        ((spent,),) = self._rows(sql, (since, key_id, key_id, key_id))
        return int(spent)

    def record_event(self, who: str, what: str, why: str, detail: Mapping[str, Any] | None = None) -> None:
        """Something was done to the service."""
        now = self.clock()
        self._write(lambda con: event(con, now, who, what, why, detail or {}))

    def events(self, since: float = 0.0, limit: int = 100) -> list[Event]:
        """Newest first."""
        rows = self._rows("SELECT * FROM events WHERE at >= ? ORDER BY id DESC LIMIT ?", (since, limit))
        return [Event(r["id"], r["at"], r["who"], r["what"], r["why"], orjson.loads(r["detail"])) for r in rows]


def event(con: sqlite3.Connection, now: float, who: str, what: str, why: str, detail: Mapping[str, Any]) -> None:
    """One row of the log of events, within the caller's transaction."""
    sql = "INSERT INTO events (at, who, what, why, detail) VALUES (?, ?, ?, ?, ?)"
    con.execute(sql, (now, who, what, why, codec.encode(detail).decode()))


def _change(row: Any) -> ThresholdChange:
    certificate = None if row["certificate"] is None else orjson.loads(row["certificate"])
    return ThresholdChange(
        row["id"], row["skill"], row["adapter"], row["value"], row["who"], row["why"], row["set_at"], certificate,
        row["undone_at"],
    )  # fmt: skip


def _state(row: sqlite3.Row) -> SkillStateRow:
    return SkillStateRow(row["skill"], SkillState(row["state"]), row["reason"], row["adapter"], row["since"])


def _night(row: sqlite3.Row) -> Night:
    return Night(
        row["id"], row["reason"], row["started_at"], row["finished_at"], row["outcome"], row["adapter"],
        orjson.loads(row["report"]),
    )  # fmt: skip


def _key(row: sqlite3.Row) -> Key:
    return Key(
        row["id"], row["hash"], row["role"], row["note"], row["created_at"], row["revoked_at"],
        orjson.loads(row["limits"]),
    )  # fmt: skip
