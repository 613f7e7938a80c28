"""Remembering what happened and asking for it again."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from memory import codec, ingest, outcomes
from memory.base import Base
from memory.errors import BadInput, NotFound
from memory.ingest import Item
from memory.outcomes import Columns
from memory.records import Audit, Episode, Grade, Outcome
from memory.rows import Feedback

_TAUGHT = """
SELECT e.id, b.body, (SELECT a.body FROM audits a WHERE a.episode = e.seq AND a.grade = 'train'
                      ORDER BY a.audited_at DESC LIMIT 1) AS audit
FROM episodes e JOIN bodies b ON b.seq = e.seq
WHERE e.blanked = 0 AND (e.grade = 'train' OR e.seq IN (SELECT episode FROM audits WHERE grade = 'train'))
  AND e.id NOT IN (SELECT episode_id FROM quarantine)
  AND (:heldout IS NULL OR e.heldout = :heldout) AND e.asked_at >= :since AND e.seq > :after
ORDER BY e.seq LIMIT 500
"""

_EXAMINABLE = """
WITH once AS (
  SELECT max(e.seq) AS seq, e.skill FROM episodes e
  WHERE e.heldout = 1 AND e.blanked = 0 AND e.kind <> 'replay' AND (e.grade IN ('train', 'serve')
        OR e.seq IN (SELECT episode FROM audits WHERE grade IN ('train', 'serve')))
  GROUP BY e.prompt_key),
turns AS (SELECT seq, row_number() OVER (PARTITION BY skill ORDER BY seq DESC) AS turn FROM once),
chosen AS (SELECT seq FROM turns ORDER BY turn, seq DESC LIMIT ?)
SELECT b.body, (SELECT a.body FROM audits a WHERE a.episode = c.seq AND a.grade IN ('train', 'serve')
                ORDER BY a.grade = 'train' DESC, a.audited_at DESC LIMIT 1) AS audit
FROM chosen c JOIN bodies b ON b.seq = c.seq ORDER BY c.seq DESC
"""


class Episodes(Base):
    """Episodes, audits, feedback, and the outcomes made of them."""

    def remember(self, episode: Episode) -> None:
        """Keep an answered request; when this returns, it survives the death of the process. Waits for no disk.

        Raises StorageFull: the disk is full or read-only; BadInput: the episode holds something that is not JSON.
        """
        self._writing().remember(Item(episode, codec.encode(episode)))

    def remember_audit(self, audit: Audit) -> None:
        """Keep a background check. An audit of an episode that was forgotten meanwhile is dropped."""
        self._writing().remember(Item(audit, codec.encode(audit)))

    def remember_feedback(self, episode_id: str, score: float | None, correction: str | None, source: str) -> Feedback:
        """Keep what a person said about an answer; `score` is 0..1.

        Raises:
            NotFound: no such episode.
            BadInput: neither a score nor a correction, or a score outside 0..1.
        """
        if score is None and correction is None:
            raise BadInput("feedback needs a score (0 to 1) or a correction", param="score")
        if score is not None and not 0.0 <= score <= 1.0:
            raise BadInput(f"a score is between 0 and 1, not {score}", param="score")
        self._seq(episode_id)
        given = Feedback(f"fb-{uuid.uuid4().hex}", episode_id, score, correction, source, self.clock())
        self._writing().remember(Item(given, codec.encode(given)))
        return given

    def episode(self, episode_id: str) -> Episode:
        """The episode as it was remembered, with every inner call.

        Raises:
            NotFound: no such episode, or it was forgotten.
        """
        row = self._row("SELECT body FROM bodies WHERE seq = ?", (self._seq(episode_id),))
        if row is None:
            raise NotFound(f"there is no episode {episode_id}", param="episode_id")
        return codec.decode(Episode, row["body"])

    def episodes(
        self,
        *,
        skill: str | None = None,
        source: str | None = None,
        system: str | None = None,
        adapter: str | None = None,
        since: float | None = None,
        until: float | None = None,
        heldout: bool | None = None,
        kind: str | None = None,
        text: str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> list[Episode]:
        """Episodes, newest first. `since` <= asked_at < `until` (unix seconds); `text` is looked for in everything
        said, whatever its case; `after` is the id of the last episode of the page before.

        Raises:
            NotFound: `after` names no episode.
        """
        same = {"skill": skill, "source": source, "system": system, "adapter": adapter, "kind": kind}
        given: list[tuple[str, Any]] = [(f"e.{name} = ?", value) for name, value in same.items() if value is not None]
        given += [("e.asked_at >= ?", since)] if since is not None else []
        given += [("e.asked_at < ?", until)] if until is not None else []
        given += [("e.heldout = ?", int(heldout))] if heldout is not None else []
        given += [("holds(b.body, ?)", needle(text))] if text else []
        given += [("e.seq < ?", self._seq(after))] if after is not None else []
        where = " AND ".join(condition for condition, _ in given) or "1"
        sql = f"SELECT b.body FROM episodes e JOIN bodies b ON b.seq = e.seq WHERE {where} ORDER BY e.seq DESC LIMIT ?"
        with self._read() as con:
            con.create_function("holds", 2, holds, deterministic=True)
            rows = con.execute(sql, (*(value for _, value in given), limit)).fetchall()
        return [codec.decode(Episode, row["body"]) for row in rows]

    def audits(self, episode_id: str) -> list[Audit]:
        """The background checks of an episode, oldest first, one remembered a moment ago included."""
        self.flush()
        sql = "SELECT body FROM audits WHERE episode = ? ORDER BY audited_at"
        return [codec.decode(Audit, row["body"]) for row in self._rows(sql, (self._seq(episode_id),))]

    def feedback(self, episode_id: str) -> list[Feedback]:
        """What people said about an answer, oldest first, what was said a moment ago included."""
        self.flush()
        sql = "SELECT * FROM feedback WHERE episode = ? ORDER BY given_at"
        return [
            Feedback(row["id"], episode_id, row["score"], row["correction"], row["source"], row["given_at"])
            for row in self._rows(sql, (self._seq(episode_id),))
        ]

    def feedback_scores(self) -> dict[str, float]:
        """The lowest score (0..1) that each episode was given; curation lowers a lesson's weight by it."""
        sql = """SELECT e.id, min(f.score) AS score FROM feedback f JOIN episodes e ON e.seq = f.episode
                 WHERE f.score IS NOT NULL GROUP BY e.id"""
        return {row["id"]: row["score"] for row in self._rows(sql)}

    def feedback_given(self) -> dict[str, list[Feedback]]:
        """Everything that was said about answers, by episode id, oldest first."""
        sql = """SELECT f.id, e.id AS episode_id, f.score, f.correction, f.source, f.given_at
                 FROM feedback f JOIN episodes e ON e.seq = f.episode ORDER BY f.given_at, f.id"""
        found: dict[str, list[Feedback]] = {}
        for row in self._rows(sql):
            found.setdefault(row["episode_id"], []).append(Feedback(**row))
        return found

    def answered_key(self, prompt_key: str, skill: str, method: str, variant: str) -> tuple[str, str] | None:
        """The newest of the last 50 episodes in which System 2 answered this prompt for this skill, by this method in
        this variant: its id and its grade. None: there is none committed."""
        sql = """SELECT id, grade, body FROM episodes JOIN bodies USING (seq)
                 WHERE prompt_key = ? AND skill = ? AND method = ? ORDER BY seq DESC LIMIT 50"""
        for row in self._rows(sql, (prompt_key, skill, method)):
            if (orjson.loads(codec.unpack(row["body"]))["deliberation"] or {}).get("variant", "") == variant:
                return str(row["id"]), str(row["grade"])
        return None

    def taught(self, *, heldout: bool | None = False, since: float = 0.0) -> list[Episode]:
        """Episodes with a train-grade deliberation, oldest first; see `each_taught`."""
        return list(self.each_taught(heldout=heldout, since=since))

    def each_taught(self, *, heldout: bool | None = False, since: float = 0.0) -> Iterator[Episode]:
        """Episodes whose own deliberation, or else whose newest train-grade audit, may become a lesson; the
        deliberation given back is that one. Left out: quarantined and blanked ones, and of each its draft and its
        calls but s2a's, since a night holds all at once. `heldout` None gives both parts."""
        after = 0
        while True:
            values = {"heldout": None if heldout is None else int(heldout), "since": since, "after": after}
            with self._read() as con:
                rows = con.execute(_TAUGHT, values).fetchall()
            for row in rows:
                yield _lesson_part(_with_effective(codec.decode(Episode, row["body"]), row["audit"]))
            if not rows:
                return
            after = self._seq(rows[-1]["id"])

    def examinable(self, limit: int) -> list[Episode]:
        """Held-out questions that System 2 has answered, in its own turn or in an audit, once each, newest first.

        The deliberation that is given back is the episode's own, or an audit's where that is better: train-grade before
        serve-grade. At most `limit`: the skills take turns, so that a busy one does not push a rare one out. What a
        night asked again is not among them."""
        rows = self._rows(_EXAMINABLE, (limit,))
        return [_with_effective(codec.decode(Episode, row["body"]), row["audit"]) for row in rows]

    def count_taught(self, since: float = 0.0) -> int:
        """How many lessons-to-be were asked since then (unix seconds), without the held-out ones."""
        sql = """SELECT count(*) FROM episodes e WHERE e.blanked = 0 AND e.heldout = 0 AND e.asked_at >= ? AND
                 (e.grade = 'train' OR e.seq IN (SELECT episode FROM audits WHERE grade = 'train'))
                 AND e.id NOT IN (SELECT episode_id FROM quarantine)"""
        return int(self._rows(sql, (since,))[0][0])

    def outcomes(
        self,
        *,
        skill: str | None = None,
        adapter: str | None = None,
        heldout: bool | None = None,
        since: float | None = None,
    ) -> list[Outcome]:
        """What System 1 said and whether System 2 agreed, oldest first; for a million rows see `outcome_columns`."""
        with self._read() as con:
            names, keep = _chosen(con, skill, adapter, heldout, since)
            rows = [row for part in outcomes.parts(con, keep) for row in part]
            ids = _ids(con, rows)
        return [outcomes.outcome(row, ids[int(row["seq"])], names) for row in rows if int(row["seq"]) in ids]

    def outcome_columns(
        self,
        *,
        skill: str | None = None,
        adapter: str | None = None,
        heldout: bool | None = None,
        since: float | None = None,
        only: Sequence[str] = (),
    ) -> Columns:
        """The same as arrays of one length n, in order of asking (all, or the columns named in `only`):

        floats, NaN where unknown: logprob_sum, logprob_mean, logprob_min, logprob_p10, first_margin, novelty,
        agreement, base_logprob, confidence, threshold, propensity, s1_seconds, s2_seconds, asked_at; integers, -1
        where unknown: seq, skill, adapter (-1: the base), n_tokens, s1_tokens, s2_tokens, agrees, heldout, format_ok,
        kind (0 ask, 1 practice, 2 replay). `names[code]` is the name of a skill or an adapter; `names` is always there.
        """
        with self._read() as con:
            names, keep = _chosen(con, skill, adapter, heldout, since)
            columns = outcomes.columns(con, tuple(only), keep)
        columns["names"] = np.array([names.get(i, "") for i in range(max(names, default=-1) + 1)], dtype=object)
        return columns

    def _seq(self, episode_id: str) -> int:
        """An episode's row number; looks again after a flush, for one remembered a moment ago."""
        for fresh in (False, True):
            if fresh:
                self.flush()
            with self._read() as con:
                seq = ingest.find(con, episode_id)
            if seq is not None:
                return seq
        raise NotFound(f"there is no episode {episode_id}", param="episode_id")


def needle(text: str) -> str:
    """A text to look for, as `holds` wants it: caseless, with JSON's escapes."""
    return codec.encode(text.casefold())[1:-1].decode()


def holds(body: bytes, sought: str) -> bool:
    """Whether a stored record says `sought` (see `needle`) anywhere."""
    return sought in codec.unpack(body).decode().casefold()


def _lesson_part(episode: Episode) -> Episode:
    thought = episode.deliberation
    if thought is not None and not any(call.stage == "rewrite" for call in thought.calls):  # curation reads s2a's
        thought = replace(thought, calls=())
    return replace(episode, draft=None, deliberation=thought)


def _with_effective(episode: Episode, audit: bytes | None) -> Episode:
    """The episode with the better of its own deliberation and an audit's; its own where they are alike."""
    own = episode.deliberation
    if audit is None or (own is not None and own.verdict.grade is Grade.TRAIN):
        return episode
    checked = codec.decode(Audit, audit).deliberation
    alike = own is not None and own.verdict.grade is checked.verdict.grade
    return episode if alike else replace(episode, deliberation=checked)


def _chosen(
    con: sqlite3.Connection, skill: str | None, adapter: str | None, heldout: bool | None, since: float | None
) -> tuple[dict[int, str], outcomes.Keep]:
    """The names behind the codes, and the test that a packed row has to pass."""
    names = {int(row["id"]): str(row["name"]) for row in con.execute("SELECT id, name FROM names")}
    codes = {name: number for number, name in names.items()}
    asked = {"skill": skill, "adapter": adapter}
    same = {column: codes.get(name, -2) for column, name in asked.items() if name is not None}
    same |= {} if heldout is None else {"heldout": int(heldout)}

    def keep(part: npt.NDArray[Any]) -> Any:
        wanted: Any = True if since is None else part["asked_at"] >= since
        for column, number in same.items():
            wanted &= part[column] == number
        return wanted

    return names, keep


def _ids(con: sqlite3.Connection, rows: Sequence[Any]) -> dict[int, str]:
    if not rows:
        return {}
    ends = (int(rows[0]["seq"]), int(rows[-1]["seq"]))
    found = con.execute("SELECT seq, id FROM episodes WHERE seq BETWEEN ? AND ?", ends)
    return {int(row["seq"]): str(row["id"]) for row in found}
