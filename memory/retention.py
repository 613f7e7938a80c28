"""Raw text has an age limit, and who is asked what is held about someone can say it."""

from __future__ import annotations

import secrets
import sqlite3
from functools import partial
from typing import Any

import orjson

from memory import codec
from memory.base import Base
from memory.errors import NotFound

DAY_S = 86_400.0
BATCH = 200  # episodes blanked in one transaction, so that the writer is never held for long
_BLANKS: dict[str, Any] = {
    "content": "", "text": "", "reply": "", "answer": None, "votes": {}, "params": {}, "logprobs": [],
    "tool_calls": [], "perturbation": None, "reason": "",
}  # fmt: skip


_LESSON_BLANKS = {**{k: v for k, v in _BLANKS.items() if k != "votes"}, "answer": ""}  # votes is a number there


class Retention(Base):
    """What stays when text has to go, and what there is about a source."""

    def blank_older(self, days: float) -> int:
        """Blank every prompt, answer and inner call of episodes asked more than `days` days ago; gives their number.

        Numbers, decisions and outcomes stay, so thresholds can still be replayed; a blanked episode is no lesson any
        more. The prompt's hash stays. Backups keep the text until they are rotated out.
        """
        limit = self.clock() - days * DAY_S
        total, last = 0, 0
        while done := self._write(partial(_blank_batch, limit=limit, after=last)):
            total, last = total + len(done), done[-1]
        if total:
            settle = self._writing().settle
            self._write(lambda con: (settle(), con.execute("PRAGMA wal_checkpoint(TRUNCATE)")), transaction=False)
        return total

    def export_source(self, source: str) -> dict[str, Any]:
        """Everything that is held about a source, as JSON values: episodes (whole), audits, feedback by it and on its
        answers, lessons made of it, what of it is in quarantine and why, and the adapters that learnt from it.

        Raises:
            NotFound: nothing is held.
        """
        self.flush()
        own = "SELECT {} WHERE e.source = ? ORDER BY e.seq"
        bodies = self._rows(own.format("b.body FROM episodes e JOIN bodies b ON b.seq = e.seq"), (source,))
        audits = self._rows(own.format("a.body FROM episodes e JOIN audits a ON a.episode = e.seq"), (source,))
        lessons = self._rows(own.format("l.body FROM episodes e JOIN lessons l ON l.episode_id = e.id"), (source,))
        adapters = self._rows(
            """SELECT DISTINCT a.adapter FROM adapter_lessons a JOIN lessons l ON l.id = a.lesson
               JOIN episodes e ON e.id = l.episode_id WHERE e.source = ? ORDER BY a.adapter""",
            (source,),
        )
        feedback = self._rows(
            """SELECT f.id, e.id AS episode_id, f.score, f.correction, f.source, f.given_at
               FROM feedback f JOIN episodes e ON e.seq = f.episode WHERE e.source = ? OR f.source = ?""",
            (source, source),
        )
        quarantine = self._rows(
            """SELECT q.episode_id, q.reason, q.since FROM quarantine q JOIN episodes e ON e.id = q.episode_id
               WHERE e.source = ? ORDER BY e.seq""",
            (source,),
        )
        if not (bodies or feedback):
            raise NotFound(f"nothing is held about {source}", param="source")
        return {
            "source": source,
            "exported_at": self.clock(),
            "episodes": [orjson.loads(codec.unpack(row["body"])) for row in bodies],
            "audits": [orjson.loads(codec.unpack(row["body"])) for row in audits],
            "feedback": [dict(row) for row in feedback],
            "lessons": [orjson.loads(codec.unpack(row["body"])) for row in lessons],
            "quarantine": [dict(row) for row in quarantine],
            "adapters": [row["adapter"] for row in adapters],
        }


def _blank_batch(con: sqlite3.Connection, limit: float, after: int) -> list[int]:
    """Blanks some episodes beyond row `after`, in order; gives their row numbers."""
    sql = "SELECT seq, id FROM episodes WHERE asked_at < ? AND blanked = 0 AND seq > ? ORDER BY seq LIMIT ?"
    rows = con.execute(sql, (limit, after, BATCH)).fetchall()
    for row in rows:
        _blank_rows(con, "bodies", "seq", row["seq"])
        _blank_rows(con, "audits", "episode", row["seq"])
        _blank_rows(con, "lessons", "episode_id", row["id"])
        secret = secrets.token_hex(32)  # a lesson's digest would confirm a guess at its text
        con.execute("UPDATE lessons SET digest = ? || id WHERE episode_id = ?", (secret, row["id"]))
        con.execute("UPDATE feedback SET correction = NULL WHERE episode = ?", (row["seq"],))
        con.execute("UPDATE episodes SET blanked = 1 WHERE seq = ?", (row["seq"],))
    return [int(row["seq"]) for row in rows]


def _blank_rows(con: sqlite3.Connection, table: str, column: str, value: Any) -> None:
    for row in con.execute(f"SELECT rowid AS place, body FROM {table} WHERE {column} = ?", (value,)).fetchall():
        blank = codec.encode(_blank(orjson.loads(codec.unpack(row["body"])), lesson=table == "lessons"))
        con.execute(f"UPDATE {table} SET body = ? WHERE rowid = ?", (codec.pack(blank), row["place"]))


def _blank(value: Any, lesson: bool) -> Any:
    if isinstance(value, list):
        return [_blank(v, lesson) for v in value]
    if not isinstance(value, dict):
        return value
    blanks = _LESSON_BLANKS if lesson else _BLANKS
    return {k: blanks[k] if k in blanks else _blank(v, lesson) for k, v in value.items()}
