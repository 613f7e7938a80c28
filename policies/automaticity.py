"""How automatic each skill has become, by adapter version, and what learning one skill cost another.

Agreement is System 1's answer being System 2's, on the answers that were served and then audited, each weighing
1/propensity; the interval is Wilson's at the effective number of audits (Kish). It is not correctness: accuracy
is what feedback says, where there is any. The matrix's measures are those of continual learning (Lopez-Paz and
Ranzato 2017; Chaudhry et al. 2018): ACC, backward and forward transfer, forgetting.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from memory.records import Audit, Episode, Mode, SkillScore, SkillState, System
from memory.settings import Settings
from policies.reliability import effective_n, wilson

Columns = Mapping[str, npt.NDArray[Any]]
COLUMNS = ("skill", "adapter", "system1", "agrees", "propensity", "tokens", "seconds", "score")


class AutomaticitySettings(Settings):
    """When a skill counts as automatic, and when no longer."""

    min_answers: int = Field(default=50, ge=1, description="answers of a skill before anything is said about it")
    min_audits: float = Field(default=20.0, ge=1, description="effective audits before its agreement counts")
    automatic_share: float = Field(
        default=0.8, gt=0, le=1, description="0..1, share of answers by System 1 from which a skill is automatic"
    )
    min_agreement: float = Field(
        default=0.9, gt=0, le=1, description="0..1, agreement with System 2 that an automatic skill needs"
    )
    lapsed_share: float = Field(
        default=0.6, ge=0, le=1, description="0..1, share of answers by System 1 below which one has lapsed"
    )


@dataclass(frozen=True, slots=True)
class SkillVersion:
    """One skill under one adapter version; None where nobody knows."""

    skill: str
    adapter: str | None  # None: the base
    n: int  # answers in mode auto
    system1_share: float  # 0..1, of them
    audits: int  # audited answers of System 1
    audits_effective: float  # what they are worth after weighting
    agreement: float | None  # 0..1
    agreement_low: float  # 0..1, ends of the 95 % interval; 0 and 1 without audits
    agreement_high: float
    accuracy: float | None  # 0..1, mean feedback
    feedbacks: int
    tokens: float  # generated tokens per answer, mean
    seconds: float  # per answer, median
    heldout: int | None = None  # held-out questions asked of this version
    score: float | None = None  # 0..1, its agreement on them
    headroom: float | None = None  # 0..1, what it left to System 2: 1 - score
    lessons: int = 0  # that this version learnt of the skill


@dataclass(frozen=True, slots=True)
class Standing:
    """A skill's state with its reason."""

    state: SkillState
    reason: str


@dataclass(frozen=True, slots=True)
class Forgetting:
    """R[i, j]: agreement on skill j's held-out questions after adapter i."""

    adapters: tuple[str, ...]  # rows, oldest first
    skills: tuple[str, ...]  # columns
    scores: tuple[tuple[float | None, ...], ...]  # 0..1; None: not measured
    base: tuple[float | None, ...]  # 0..1, by skill, before any adapter
    acc: float | None  # 0..1, mean of the last row
    backward: float | None  # -1..1, BWT: mean of last minus first learnt; below 0: forgotten
    forward: float | None  # -1..1, FWT: mean of just before learnt minus base
    forgetting: float | None  # 0..1, mean of best minus last


def answered(rows: Iterable[tuple[Episode, Audit | None, float | None]]) -> Columns:
    """Columns of answers (episode, its audit, its feedback 0..1) for `by_version`.

    Replays are no answers, and where the caller chose the system it says nothing of whether the router trusts it.
    """
    kept = [row for row in rows if row[0].kind == "ask" and row[0].ask.mode is Mode.AUTO]
    table = [_row(*row) for row in kept]
    columns = zip(*table, strict=True) if table else [()] * len(COLUMNS)
    kinds = (object, object, bool, np.int8, float, float, float, float)
    return {name: np.array(col, dtype=kind) for name, col, kind in zip(COLUMNS, columns, kinds, strict=True)}


def by_version(
    columns: Columns,
    *,
    matrix: Mapping[str, Mapping[str, SkillScore]] | None = None,
    lessons: Mapping[tuple[str, str], int] | None = None,
) -> list[SkillVersion]:
    """Statistics per skill and adapter version, sorted by both.

    columns: of one length n: skill, adapter (names; None: the base), system1 (bool), agrees (1, 0, -1 unknown),
    propensity (0..1 of observing System 2), tokens, seconds, score (feedback 0..1, NaN unknown).
    matrix: adapter -> skill -> score; lessons: (skill, adapter) -> count.
    """
    pairs = list(zip(columns["skill"], columns["adapter"], strict=True))
    codes = {pair: i for i, pair in enumerate(dict.fromkeys(pairs))}
    group = np.fromiter((codes[pair] for pair in pairs), dtype=np.int64, count=len(pairs))
    found = []
    for (skill, adapter), code in sorted(codes.items(), key=lambda item: (item[0][0], item[0][1] or "")):
        rows = {name: columns[name][group == code] for name in COLUMNS[2:]}
        score = (matrix or {}).get(adapter or "", {}).get(skill)
        taught = (lessons or {}).get((skill, adapter or ""), 0)
        found.append(_version(skill, adapter, rows, score, taught))
    return found


def standing(version: SkillVersion, settings: AutomaticitySettings, before: SkillState | None = None) -> Standing:
    """Where a skill stands. `before`: its state until now; a deliberate skill stays so until it is released."""
    if before is SkillState.DELIBERATE:
        return Standing(before, "it did not distil after a fair try; System 2 answers it")
    was_automatic = before in (SkillState.AUTOMATIC, SkillState.LAPSED)
    if version.n < settings.min_answers:
        return _unchanged(before, f"{version.n} answers with this adapter; {settings.min_answers} say something")
    share, agreed = f"System 1 answers {_percent(version.system1_share)}", _agreed(version)
    if was_automatic and version.system1_share < settings.lapsed_share:
        return Standing(SkillState.LAPSED, f"{share}, below {_percent(settings.lapsed_share)}; it was automatic")
    if was_automatic and version.agreement is not None and version.agreement_high < settings.min_agreement:
        wanted = f"surely below {_percent(settings.min_agreement)}"
        return Standing(SkillState.LAPSED, f"{agreed}, {wanted}; it was automatic")
    if version.system1_share < settings.automatic_share:
        return _unchanged(before, f"{share}; automatic from {_percent(settings.automatic_share)}")
    if version.agreement is None or version.audits_effective < settings.min_audits:
        enough = f"{version.audits_effective:.0f} effective audits of the {settings.min_audits:.0f} needed"
        return _unchanged(before, f"{share}; {enough}")
    if version.agreement < settings.min_agreement:
        return _unchanged(before, f"{share}; {agreed}, {_percent(settings.min_agreement)} are needed")
    return Standing(SkillState.AUTOMATIC, f"{share}; {agreed}")


def forgetting(matrix: Mapping[str, Mapping[str, SkillScore]], learnt: Mapping[str, str] | None = None) -> Forgetting:
    """The matrix and its measures; a measure is None where no skill lets it be computed.

    matrix: adapter (oldest first) -> skill -> score; learnt: skill -> the first adapter with lessons of it; where
    that is not known, the first adapter that was measured on it.
    """
    adapters = tuple(matrix)
    skills = tuple(sorted({skill for row in matrix.values() for skill in row}))
    rows = [[_after(matrix[adapter].get(skill)) for skill in skills] for adapter in adapters]
    scores = np.array(rows, dtype=float).reshape(len(adapters), len(skills))
    base = np.array([_first_before(matrix, skill) for skill in skills], dtype=float)
    own = [_learnt_at(adapters, scores[:, j], (learnt or {}).get(skill)) for j, skill in enumerate(skills)]
    last = scores[-1] if len(adapters) else np.empty(0)
    earlier = [j for j, i in enumerate(own) if i is not None and i < len(adapters) - 1]
    first = np.array([scores[own[j], j] for j in earlier])
    ahead = [scores[i - 1, j] - base[j] for j, i in enumerate(own) if i is not None and i > 0]
    best = [np.nanmax(column) if np.isfinite(column).any() else np.nan for column in scores.T]
    return Forgetting(
        adapters=adapters,
        skills=skills,
        scores=tuple(tuple(_known(x) for x in row) for row in scores),
        base=tuple(_known(x) for x in base),
        acc=_mean(last),
        backward=_mean(last[earlier] - first) if earlier else None,
        forward=_mean(np.array(ahead)),
        forgetting=_mean(np.array(best) - last) if skills else None,
    )


def _row(episode: Episode, audit: Audit | None, score: float | None) -> tuple[Any, ...]:
    observed = -1 if audit is None or audit.deliberation.verdict.answer is None else int(audit.agrees)
    return (
        episode.ask.skill,
        episode.adapter,
        episode.decision.system is System.SYSTEM1,
        observed,
        episode.decision.propensity,
        float(episode.tokens),
        episode.seconds,
        np.nan if score is None else score,
    )


def _version(skill: str, adapter: str | None, rows: Columns, score: SkillScore | None, lessons: int) -> SkillVersion:
    checked = rows["system1"] & (rows["agrees"] >= 0) & (rows["propensity"] > 0)
    weights = 1.0 / rows["propensity"][checked]
    worth = effective_n(weights) if len(weights) else 0.0
    agreement = float(np.average(rows["agrees"][checked], weights=weights)) if len(weights) else None
    low, high = (0.0, 1.0) if agreement is None else wilson(agreement, worth)
    said = rows["score"][np.isfinite(rows["score"])]
    return SkillVersion(
        skill=skill,
        adapter=adapter,
        n=len(rows["system1"]),
        system1_share=float(rows["system1"].mean()),
        audits=int(checked.sum()),
        audits_effective=worth,
        agreement=agreement,
        agreement_low=low,
        agreement_high=high,
        accuracy=float(said.mean()) if len(said) else None,
        feedbacks=len(said),
        tokens=float(rows["tokens"].mean()),
        seconds=float(np.median(rows["seconds"])),
        heldout=score.n if score else None,
        score=score.after if score else None,
        headroom=1.0 - score.after if score else None,
        lessons=lessons,
    )


def _unchanged(before: SkillState | None, reason: str) -> Standing:
    """What was automatic or lapsed stays so while nothing shows otherwise; the rest is practising."""
    kept = before in (SkillState.AUTOMATIC, SkillState.LAPSED)
    return Standing(before if before and kept else SkillState.PRACTISING, reason)


def _agreed(version: SkillVersion) -> str:
    if version.agreement is None:
        return "no audits yet"
    ends = f"{_percent(version.agreement_low)} to {_percent(version.agreement_high)}"
    return f"agreement with System 2 on {version.audits} audits {_percent(version.agreement)} ({ends})"


def _learnt_at(adapters: Sequence[str], column: npt.NDArray[Any], named: str | None) -> int | None:
    """Row of the adapter that first learnt the skill; None: it was never measured from there on."""
    if named in adapters and np.isfinite(column[adapters.index(named)]):
        return adapters.index(named)
    measured = np.flatnonzero(np.isfinite(column))
    return int(measured[0]) if len(measured) else None


def _first_before(matrix: Mapping[str, Mapping[str, SkillScore]], skill: str) -> float:
    return next((row[skill].before for row in matrix.values() if skill in row), np.nan)


def _after(score: SkillScore | None) -> float:
    return np.nan if score is None else score.after


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _mean(values: npt.NDArray[Any]) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else None


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
