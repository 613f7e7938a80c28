"""A uniform sample out of audits taken at different rates.

Audits are denser near the threshold and in new adapters, and the exact binomial needs uniform ones. So each audit
is kept with probability (smallest propensity in force at its time) / (its own), by a hash of the episode: at any one
time what is kept is a uniform sample of that time's answers. That wastes dense audits near the threshold; a betting
bound on weighted losses (arXiv 2406.10490) would keep them, but the largest weight limits its stakes, and it needs
about as many audits in the end.

Across times it is not uniform: a time whose smallest propensity was twice another's weighs twice as much. What is
certified is the disagreement of answers mixed in that proportion. It is the log's own where the smallest propensity
stayed the same (in the long run it is `audit.floor`), or the rate of disagreement did; where both changed together it
may be off either way. One smallest propensity for the whole log would mend that and throw nearly all audits away.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from memory.records import Outcome
from policies.offpolicy import Columns
from policies.reliability import Floats

FLOOR_WINDOW = 50  # answers on each side; enough that one of them is accepted away from the threshold


@dataclass(frozen=True, slots=True)
class AuditLog:
    """Answers with a confidence, audited or not: arrays of shape (n,)."""

    confidence: Floats  # 0..1
    propensity: Floats  # 0..1, of observing System 2 on this answer
    floor: Floats  # 0..1, smallest propensity that any answer had at that time; at most `propensity`
    disagrees: Floats  # 1, 0, or NaN where System 2 was not run
    uniform: Floats  # 0..1, one fixed draw per answer, independent of everything else


def uniform_draw(episode_id: str) -> float:
    """A number in [0, 1) that only the id decides: thinning is the same whoever repeats it."""
    digest = blake2b(episode_id.encode(), digest_size=8, person=b"thin").digest()
    return int.from_bytes(digest, "big") / 2**64


def audit_log(outcomes: Sequence[Outcome], skill: str | None = None) -> AuditLog:
    """Outcomes as arrays: of one skill or all, with a confidence, on questions System 1 did not train on.

    Pass all outcomes of one adapter version: the floors are read from its whole traffic. Those of the bare base need
    not be held out. Requests that System 2 cannot serve (propensity 0) are left out: nothing is promised for them.
    """
    ordered = sorted(
        (row for row in outcomes if row.confidence is not None and row.propensity > 0), key=lambda row: row.asked_at
    )
    floors = rolling_floor(np.array([row.propensity for row in ordered], dtype=np.float64))
    kept = [
        (row, floor)
        for row, floor in zip(ordered, floors.tolist(), strict=True)
        if (skill is None or row.skill == skill) and (row.heldout or row.adapter is None)
    ]
    rows = [row for row, _ in kept]
    return AuditLog(
        confidence=np.array([row.confidence for row in rows], dtype=np.float64),
        propensity=np.array([row.propensity for row in rows], dtype=np.float64),
        floor=np.array([floor for _, floor in kept], dtype=np.float64),
        disagrees=np.array([math.nan if row.agrees is None else float(not row.agrees) for row in rows]),
        uniform=np.array([uniform_draw(row.episode_id) for row in rows], dtype=np.float64),
    )


def audit_log_columns(columns: Columns, skill: int | None = None) -> AuditLog:
    """`audit_log` of arrays in order of asking, for logs too long for records.

    Reads confidence, propensity, agrees (-1 not observed), heldout, adapter (-1 the base), seq (the row's number,
    which takes the episode id's place in the draw) and, where `skill` is a code, skill.
    """
    confidence = np.asarray(columns["confidence"], dtype=np.float64)
    propensity = np.asarray(columns["propensity"], dtype=np.float64)
    known = ~np.isnan(confidence) & (propensity > 0)
    floors = np.zeros(len(confidence))
    floors[known] = rolling_floor(propensity[known])
    kept = known & ((columns["heldout"] > 0) | (columns["adapter"] < 0))
    if skill is not None:
        kept &= columns["skill"] == skill
    agrees = np.asarray(columns["agrees"])[kept]
    return AuditLog(
        confidence=confidence[kept],
        propensity=propensity[kept],
        floor=floors[kept],
        disagrees=np.where(agrees < 0, np.nan, (agrees == 0).astype(np.float64)),
        uniform=uniform_draws(np.asarray(columns["seq"])[kept]),
    )


def uniform_draws(numbers: npt.NDArray[np.integer[Any]]) -> Floats:
    """A number in [0, 1) for each row number, shape (n,), that it alone decides (splitmix64's finaliser)."""
    x = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    draws: Floats = ((x ^ (x >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) / 2.0**53
    return draws


def rolling_floor(propensity: Floats) -> Floats:
    """Smallest propensity among each answer and its `FLOOR_WINDOW` neighbours in time, shape (n,).

    The rates of auditing change with the adapter's age and the threshold in force; within a window they are
    taken for constant. A window across a change takes the smaller rate, which wastes audits and costs no
    validity.
    """
    if not len(propensity):
        return propensity
    padded = np.pad(propensity, FLOOR_WINDOW, constant_values=np.inf)
    floors: Floats = np.lib.stride_tricks.sliding_window_view(padded, 2 * FLOOR_WINDOW + 1).min(axis=1)
    return floors


def uniform_audits(log: AuditLog) -> tuple[Floats, Floats]:
    """(confidence, disagrees) of the audits that thinning keeps, surest first."""
    observed = ~np.isnan(log.disagrees) & (log.propensity > 0) & (log.floor > 0)
    kept = observed & (log.uniform * log.propensity < log.floor)
    order = np.argsort(-log.confidence[kept], kind="stable")
    return log.confidence[kept][order], log.disagrees[kept][order]
