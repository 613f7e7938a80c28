"""What the statistics of skills are computed from, and where each skill's watch over its audits stands."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

from memory import codec, outcomes
from memory.base import Base

PAGE = 500  # bodies read at once
CHUNK = 20_000  # rows of numbers read at once
_KINDS: Mapping[str, type] = {
    "seq": np.int64, "skill": object, "adapter": object, "system1": bool, "tokens": np.float64, "seconds": np.float64,
    "score": np.float64, "asked_at": np.float64,
}  # fmt: skip
_ANSWERS = """
SELECT e.seq, e.skill, e.adapter, e.system = 'system1' AS system1, e.tokens, e.seconds, f.score, e.asked_at
FROM episodes e LEFT JOIN (SELECT episode, avg(score) AS score FROM feedback GROUP BY episode) f ON f.episode = e.seq
WHERE e.kind = 'ask' AND e.mode = 'auto' AND e.asked_at >= :since AND (:any OR e.adapter IS :adapter) ORDER BY e.seq
"""
_THOUGHTS = """
SELECT e.seq AS at, e.skill, b.body, (SELECT avg(f.score) FROM feedback f WHERE f.episode = e.seq) AS score
FROM episodes e JOIN bodies b ON b.seq = e.seq
WHERE e.method IS NOT NULL AND e.kind != 'replay' AND e.asked_at >= :since AND e.seq > :after ORDER BY e.seq LIMIT :page
"""
_AUDITS = """
SELECT a.rowid AS at, e.skill, a.body, NULL AS score FROM audits a JOIN episodes e ON e.seq = a.episode
WHERE a.audited_at >= :since AND a.rowid > :after ORDER BY a.rowid LIMIT :page
"""
_TRAFFIC = """
SELECT min(CAST((asked_at - :since) / :step AS INTEGER), :last) AS bin, count(*) AS n,
       sum(system = 'system1') AS system1, sum(tokens) AS tokens, sum(seconds) AS seconds
FROM episodes WHERE kind = 'ask' AND asked_at >= :since AND asked_at <= :until GROUP BY bin ORDER BY bin
"""


class Thought(NamedTuple):
    """One run of System 2, as statistics want it."""

    skill: str
    deliberation: Mapping[str, Any]  # as JSON
    same: bool | None  # whether System 1's draft said the same; None: one of them was not understood
    score: float | None  # 0..1, mean of what people gave its answer; None: nothing, or they read another answer


class Insight(Base):
    """Reads for statistics; a million answers are columns, bodies come as a stream."""

    def answer_columns(
        self, *, adapter: str | None = None, every_adapter: bool = True, since: float = 0.0
    ) -> dict[str, npt.NDArray[Any]]:
        """Answers to people's questions as arrays of one length, in order of asking, for
        `policies.automaticity.by_version`, those alone whose system the router chose (mode auto): skill, adapter
        (names; None: the base), system1 (bool), agrees (1, 0, -1 unknown), propensity (0..1), tokens, seconds, score
        (feedback 0..1, NaN unknown), and asked_at (unix seconds).

        With `every_adapter` False those of `adapter` alone (None: the base). `since`: unix seconds.
        """
        values = {"since": since, "any": every_adapter, "adapter": adapter}
        with self._read() as con:
            parts = list(_chunks(con.execute(_ANSWERS, values)))
            seen = outcomes.columns(con, ("seq", "agrees", "propensity"), lambda part: True)
        whole = {name: np.concatenate([part[name] for part in parts]) for name in _KINDS}
        agrees, propensity = _observed(whole.pop("seq"), seen)
        return whole | {"agrees": agrees, "propensity": propensity}

    def each_thought(self, since: float = 0.0) -> Iterator[Thought]:
        """Every run of System 2, audits included. Read `PAGE` at a time, so that memory stays flat."""
        for skill, body, score in self._pages(_THOUGHTS, since):
            if thought := body.get("deliberation"):
                drafted, agreed = (body.get("draft") or {}).get("answer"), thought["verdict"]["answer"]
                same = None if drafted is None or agreed is None else drafted == agreed
                # Where there was no verdict, people read and judged System 1's answer.
                yield Thought(skill, thought, same, score if thought["verdict"]["grade"] != "none" else None)
        for skill, body, _ in self._pages(_AUDITS, since):
            thought = body["deliberation"]
            yield Thought(skill, thought, None if thought["verdict"]["answer"] is None else bool(body["agrees"]), None)

    def traffic(self, since: float, until: float, bins: int) -> list[dict[str, Any]]:
        """Answers to people between two times (unix seconds), in `bins` equal spans; spans without any are left out:
        bin (0 to bins - 1), n answers, system1 of them, tokens generated and seconds, summed."""
        values = {"since": since, "until": until, "step": (until - since) / bins, "last": bins - 1}
        with self._read() as con:
            return [dict(row) for row in con.execute(_TRAFFIC, values)]

    def lesson_counts(self) -> dict[tuple[str, str], int]:
        """(skill, adapter) -> lessons that the adapter learnt of the skill."""
        sql = """SELECT e.skill, a.adapter, count(*) AS n FROM adapter_lessons a JOIN lessons l ON l.id = a.lesson
                 JOIN episodes e ON e.id = l.episode_id GROUP BY e.skill, a.adapter"""
        return {(row["skill"], row["adapter"]): int(row["n"]) for row in self._rows(sql)}

    def set_groups(self, groups: Sequence[Mapping[str, Any]]) -> None:
        """The skills that questions have formed by themselves, as JSON (agent/groups.py)."""
        row = ("groups", codec.encode(list(groups)).decode())
        self._write(lambda con: con.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", row))

    def groups(self) -> list[dict[str, Any]]:
        """What was set."""
        row = self._row("SELECT value FROM meta WHERE key = 'groups'")
        return [] if row is None else list(orjson.loads(row["value"]))

    def set_watch(self, adapter: str | None, skill: str, watch: Mapping[str, Any]) -> None:
        """Where the watch over a skill's audits stands under an adapter (None: the base), as JSON."""
        row = (adapter or "", skill, codec.encode(watch).decode(), self.clock())
        self._write(lambda con: con.execute("INSERT OR REPLACE INTO watches VALUES (?, ?, ?, ?)", row))

    def watches(self, adapter: str | None) -> dict[str, dict[str, Any]]:
        """What was set, by skill."""
        rows = self._rows("SELECT skill, body FROM watches WHERE adapter = ?", (adapter or "",))
        return {row["skill"]: orjson.loads(row["body"]) for row in rows}

    def _pages(self, sql: str, since: float) -> Iterator[tuple[str, dict[str, Any], float | None]]:
        after = -1
        while True:
            with self._read() as con:
                rows = con.execute(sql, {"since": since, "after": after, "page": PAGE}).fetchall()
            if not rows:
                return
            for row in rows:
                yield row["skill"], orjson.loads(codec.unpack(row["body"])), row["score"]
            after = int(rows[-1]["at"])


def _chunks(rows: sqlite3.Cursor) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """Rows of `_ANSWERS` as arrays, part by part and at least one; each name is kept once, not a million times."""
    names: dict[str | None, str | None] = {}
    page: list[Any] = [()]
    while page:
        page = rows.fetchmany(CHUNK)
        columns: list[Any] = list(zip(*page, strict=True)) or [()] * len(_KINDS)
        columns[1:3] = [[names.setdefault(name, name) for name in column] for column in columns[1:3]]
        columns[6] = [np.nan if score is None else score for score in columns[6]]
        yield {name: np.array(column, dtype=kind) for (name, kind), column in zip(_KINDS.items(), columns, strict=True)}


def _observed(
    seq: npt.NDArray[np.int64], seen: Mapping[str, npt.NDArray[Any]]
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float64]]:
    """(agrees, propensity) of the episodes numbered `seq`; -1 and 1 where an episode has no outcome."""
    agrees, propensity = np.full(len(seq), -1, dtype=np.int8), np.ones(len(seq))
    if len(seq) and len(seen["seq"]):
        at = np.minimum(np.searchsorted(seen["seq"], seq), len(seen["seq"]) - 1)
        found = seen["seq"][at] == seq
        agrees[found], propensity[found] = seen["agrees"][at][found], seen["propensity"][at][found]
    return agrees, propensity
