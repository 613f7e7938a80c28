"""From remembered records to rows: the same inserts for the writer thread, a journal's replay and a merge.

Every insert is idempotent: it goes by the record's own id, and a second time does nothing.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Any

from memory import codec, outcomes
from memory.errors import Damaged
from memory.records import Audit, Episode
from memory.rows import Feedback

Remembered = Episode | Audit | Feedback
CLASSES: dict[str, type[Any]] = {"episode": Episode, "audit": Audit, "feedback": Feedback}
KINDS = {cls: kind for kind, cls in CLASSES.items()}

_EPISODE = """
INSERT OR IGNORE INTO episodes (id, asked_at, skill, source, prompt_key, heldout, kind, mode, system, adapter,
    method, grade, confidence, tokens, seconds) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_AUDIT = """
INSERT OR IGNORE INTO audits (id, episode, audited_at, agrees, grade, method, tokens, seconds, body)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_FEEDBACK = """
INSERT OR IGNORE INTO feedback (id, episode, score, correction, source, given_at) VALUES (?, ?, ?, ?, ?, ?)
"""


@dataclass(frozen=True, slots=True)
class Item:
    """One record on its way to the database, with its JSON."""

    record: Remembered
    body: bytes

    @property
    def kind(self) -> str:
        return KINDS[type(self.record)]


def parse(kind: str, body: bytes) -> Item:
    """The item of a journal line.

    Raises:
        Damaged: the line is not a record.
    """
    if kind not in CLASSES:
        raise Damaged(f"the journal holds a line of unknown kind {kind!r}; it was kept among the rejected lines")
    return Item(codec.decode(CLASSES[kind], body), body)


def insert(con: sqlite3.Connection, item: Item) -> bool:
    """Store one item; False: it was there, or its episode is gone (forgotten while an audit of it ran)."""
    record = item.record
    if isinstance(record, Episode):
        return _episode(con, record, item.body)
    seq = find(con, record.episode_id)
    if seq is None:
        return False
    return _audit(con, seq, record, item.body) if isinstance(record, Audit) else _feedback(con, seq, record)


def find(con: sqlite3.Connection, episode_id: str) -> int | None:
    """An episode's row number."""
    row = con.execute("SELECT seq FROM episodes WHERE id = ?", (episode_id,)).fetchone()
    return None if row is None else int(row[0])


def code(con: sqlite3.Connection, name: str | None) -> int:
    """The number that stands for a skill or an adapter in packed rows; -1: None (the base)."""
    if name is None:
        return -1
    row = con.execute("SELECT id FROM names WHERE name = ?", (name,)).fetchone()
    if row is None:
        row = con.execute("INSERT INTO names (name) VALUES (?) RETURNING id", (name,)).fetchone()
    return int(row[0])


def _episode(con: sqlite3.Connection, episode: Episode, body: bytes) -> bool:
    done = con.execute(_EPISODE, _episode_row(episode))
    if done.rowcount == 0:
        return False
    seq = int(done.lastrowid or 0)
    con.execute("INSERT INTO bodies (seq, body) VALUES (?, ?)", (seq, codec.pack(body)))
    if episode.draft is not None:
        outcomes.write(con, seq, episode, code(con, episode.ask.skill), code(con, episode.adapter))
    return True


def _episode_row(episode: Episode) -> tuple[Any, ...]:
    ask, thought = episode.ask, episode.deliberation
    return (
        ask.id, ask.asked_at, ask.skill, ask.source, ask.prompt_key, int(ask.heldout), episode.kind, ask.mode.value,
        episode.decision.system.value, episode.adapter, thought and thought.method,
        thought and thought.verdict.grade.value, episode.decision.confidence, episode.tokens, episode.seconds,
    )  # fmt: skip


def _audit(con: sqlite3.Connection, seq: int, audit: Audit, body: bytes) -> bool:
    thought = audit.deliberation
    row = (
        f"{audit.episode_id}@{audit.audited_at!r}", seq, audit.audited_at, int(audit.agrees),
        thought.verdict.grade.value, thought.method, thought.tokens, thought.seconds, codec.pack(body),
    )  # fmt: skip
    if con.execute(_AUDIT, row).rowcount == 0:
        return False
    outcomes.write_audit(con, seq, audit)
    return True


def _feedback(con: sqlite3.Connection, seq: int, given: Feedback) -> bool:
    row = (given.id, seq, given.score, given.correction, given.source, given.given_at)
    return con.execute(_FEEDBACK, row).rowcount == 1
