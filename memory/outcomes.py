"""The numbers of every routed episode, packed so that a million of them are read in a fraction of a second.

A row is `ROW.itemsize` bytes at slot `seq % CHUNK_ROWS` of the blob of chunk `seq // CHUNK_ROWS`, where `seq` is the
episode's row number. Rows are written in place with SQLite's incremental blob access, so an audit that arrives weeks
later changes some bytes and not a chunk. One row of SQL per episode costs 0.5 to 1.2 s per million to fetch; chunks
cost about a tenth.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from memory.records import Audit, Deliberation, Episode, Outcome, Signals

CHUNK_ROWS = 1024
_FLOATS = (
    "logprob_sum", "logprob_mean", "logprob_min", "logprob_p10", "first_margin", "novelty", "agreement",
    "base_logprob", "confidence", "threshold", "propensity", "s1_seconds", "s2_seconds", "asked_at",
)  # fmt: skip
_SIGNAL_FLOATS = _FLOATS[:8]
ROW = np.dtype(
    [(name, "<f8") for name in _FLOATS]
    + [(name, "<i4") for name in ("seq", "skill", "adapter", "n_tokens", "s1_tokens", "s2_tokens")]
    + [(name, "i1") for name in ("valid", "agrees", "heldout", "format_ok", "kind")]
)
KINDS = ("ask", "practice", "replay")  # the codes of column "kind", in order; others are -1
Columns = dict[str, npt.NDArray[Any]]
Keep = Callable[[npt.NDArray[Any]], Any]  # rows of dtype ROW -> mask, or True for all


def agreement(episode: Episode, deliberation: Deliberation | None) -> bool | None:
    """Whether the draft's normalised answer is the verdict's; None: one of them is missing (a draft that was stopped
    has no answer) or the verdict was not understood."""
    if episode.draft is None or episode.draft.stopped or deliberation is None or deliberation.verdict.answer is None:
        return None
    return episode.draft.answer == deliberation.verdict.answer


def write(con: sqlite3.Connection, seq: int, episode: Episode, skill: int, adapter: int) -> None:
    """Store the outcome of an episode that has a draft; `skill` and `adapter` are codes of table `names`."""
    row = _row(seq, episode, skill, adapter)
    if row is not None:
        _put(con, seq, row)


def write_audit(con: sqlite3.Connection, seq: int, audit: Audit) -> None:
    """Add what an audit observed to an episode's outcome."""
    row = _get(con, seq)
    if row is not None:
        agrees = audit.agrees if audit.deliberation.verdict.answer is not None else None
        _observe(row, audit.deliberation, agrees)
        _put(con, seq, row)


def clear(con: sqlite3.Connection, seqs: Iterable[int]) -> None:
    """Overwrite outcomes with zeros."""
    for seq in seqs:
        if _get(con, seq) is not None:
            _put(con, seq, np.zeros((), ROW))


def parts(con: sqlite3.Connection, keep: Keep) -> Iterator[npt.NDArray[Any]]:
    """The rows that `keep` wants, chunk by chunk as structured arrays of dtype `ROW`, in order of `seq`."""
    for (blob,) in con.execute("SELECT rows FROM outcome_chunks ORDER BY chunk"):
        part = np.frombuffer(blob, dtype=ROW)
        wanted = (part["valid"] == 1) & keep(part)
        yield part if wanted.all() else part[wanted]


def columns(con: sqlite3.Connection, names: tuple[str, ...], keep: Keep) -> Columns:
    """The named columns (all, where none is named) of the rows that `keep` wants, each in one piece of memory.

    Chunk by chunk, so that only one chunk and the columns asked for are held: five of 25 columns of a million rows
    take a third of the time of all of them.
    """
    names = names or tuple(n for n in ROW.names or () if n != "valid")
    most = CHUNK_ROWS * int(con.execute("SELECT count(*) FROM outcome_chunks").fetchone()[0])
    found = {name: np.empty(most, ROW[name]) for name in names}
    count = 0
    for part in parts(con, keep):
        for name in names:
            found[name][count : count + len(part)] = part[name]
        count += len(part)
    return {name: column[:count] for name, column in found.items()}


def outcome(row: Mapping[str, Any], episode_id: str, names: Mapping[int, str]) -> Outcome:
    """The record of one packed row; NaN and -1 become None."""
    signals = {name: _maybe(row[name]) for name in _SIGNAL_FLOATS}
    return Outcome(
        episode_id=episode_id,
        skill=names[int(row["skill"])],
        adapter=names.get(int(row["adapter"])),
        signals=Signals(**signals, n_tokens=int(row["n_tokens"]), format_ok=bool(row["format_ok"])),
        confidence=_maybe(row["confidence"]),
        threshold=_maybe(row["threshold"]),
        propensity=float(row["propensity"]),
        agrees=None if row["agrees"] < 0 else bool(row["agrees"]),
        heldout=bool(row["heldout"]),
        s1_tokens=int(row["s1_tokens"]),
        s2_tokens=None if row["s2_tokens"] < 0 else int(row["s2_tokens"]),
        s1_seconds=float(row["s1_seconds"]),
        s2_seconds=_maybe(row["s2_seconds"]),
        asked_at=float(row["asked_at"]),
    )


def _row(seq: int, episode: Episode, skill: int, adapter: int) -> npt.NDArray[Any] | None:
    draft = episode.draft
    if draft is None:
        return None
    row = np.zeros((), ROW)
    row["valid"], row["seq"], row["skill"], row["adapter"] = 1, seq, skill, adapter
    for name in _SIGNAL_FLOATS:
        row[name] = _number(getattr(draft.signals, name))
    row["n_tokens"], row["format_ok"] = draft.signals.n_tokens, draft.signals.format_ok
    row["confidence"], row["threshold"] = _number(draft.confidence), _number(episode.decision.threshold)
    row["propensity"], row["asked_at"] = episode.decision.propensity, episode.ask.asked_at
    row["s1_tokens"] = draft.completion.completion_tokens + draft.extra_tokens
    row["s1_seconds"] = draft.completion.seconds
    row["heldout"] = episode.ask.heldout
    row["kind"] = KINDS.index(episode.kind) if episode.kind in KINDS else -1
    _observe(row, episode.deliberation, agreement(episode, episode.deliberation))
    return row


def _observe(row: npt.NDArray[Any], deliberation: Deliberation | None, agrees: bool | None) -> None:
    row["agrees"] = -1 if agrees is None else int(agrees)
    row["s2_tokens"] = -1 if deliberation is None else deliberation.tokens
    row["s2_seconds"] = np.nan if deliberation is None else deliberation.seconds


def _put(con: sqlite3.Connection, seq: int, row: npt.NDArray[Any]) -> None:
    chunk, slot = divmod(seq, CHUNK_ROWS)
    size = CHUNK_ROWS * ROW.itemsize
    con.execute("INSERT OR IGNORE INTO outcome_chunks (chunk, rows) VALUES (?, zeroblob(?))", (chunk, size))
    with con.blobopen("outcome_chunks", "rows", chunk) as blob:
        blob.seek(slot * ROW.itemsize)
        blob.write(row.tobytes())


def _get(con: sqlite3.Connection, seq: int) -> npt.NDArray[Any] | None:
    """A writable copy of one row; None where the episode has no outcome."""
    chunk, slot = divmod(seq, CHUNK_ROWS)
    if con.execute("SELECT 1 FROM outcome_chunks WHERE chunk = ?", (chunk,)).fetchone() is None:
        return None
    with con.blobopen("outcome_chunks", "rows", chunk, readonly=True) as blob:
        blob.seek(slot * ROW.itemsize)
        row = np.frombuffer(blob.read(ROW.itemsize), dtype=ROW)[0:1].copy().reshape(())
    return row if row["valid"] else None


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _maybe(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)
