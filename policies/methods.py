"""What each System 2 method gained and cost on the questions that were really asked, per skill.

A method gains where its answer differs from the direct one and can be trusted: `corrected` is the share of its
verdicts that contradict System 1's draft. It costs tokens and seconds for each of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class MethodUse:
    """One method on one skill. Means are per run of System 2."""

    skill: str
    method: str
    runs: int  # deliberations, audits included
    attempts: float  # votes per run, mean
    agreement: float | None  # 0..1, mean share of the votes that the winner has; None: nobody ever won
    serve_share: float  # 0..1, runs that gave an answer
    train_share: float  # 0..1, runs that gave a lesson
    corrected: float | None  # 0..1, share of verdicts that contradict the draft; None: there was no pair
    tokens: float  # generated tokens per run, mean
    seconds: float  # wall seconds per run, mean
    tokens_per_lesson: float | None  # generated tokens over train-grade runs; None: there was none


@dataclass(slots=True)
class _Sum:
    runs: int = 0
    attempts: int = 0
    won: int = 0
    shares: float = 0.0
    train: int = 0
    pairs: int = 0
    corrected: int = 0
    tokens: int = 0
    seconds: float = 0.0


def by_method(thoughts: Iterable[tuple[str, Mapping[str, Any], bool | None]]) -> list[MethodUse]:
    """Sums over (skill, deliberation as JSON, whether the draft said the same), in one pass, sorted by skill and
    then by runs."""
    sums: dict[tuple[str, str], _Sum] = {}
    for skill, thought, same in thoughts:
        _add(sums.setdefault((skill, str(thought["method"])), _Sum()), thought, same)
    found = [_use(skill, method, one) for (skill, method), one in sums.items()]
    return sorted(found, key=lambda use: (use.skill, -use.runs, use.method))


def _add(one: _Sum, thought: Mapping[str, Any], same: bool | None) -> None:
    verdict = thought["verdict"]
    one.runs += 1
    one.attempts += len(thought["attempts"])
    one.tokens += thought["tokens"]
    one.seconds += thought["seconds"]
    if verdict["grade"] != "none":
        one.won += 1
        one.shares += verdict["share"]
        one.train += verdict["grade"] == "train"
    if same is not None:
        one.pairs += 1
        one.corrected += not same


def _use(skill: str, method: str, one: _Sum) -> MethodUse:
    return MethodUse(
        skill=skill,
        method=method,
        runs=one.runs,
        attempts=one.attempts / one.runs,
        agreement=one.shares / one.won if one.won else None,
        serve_share=one.won / one.runs,
        train_share=one.train / one.runs,
        corrected=one.corrected / one.pairs if one.pairs else None,
        tokens=one.tokens / one.runs,
        seconds=one.seconds / one.runs,
        tokens_per_lesson=one.tokens / one.train if one.train else None,
    )
