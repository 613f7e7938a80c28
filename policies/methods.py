"""What each System 2 method gained and cost on the questions that were really asked, per skill.

A method gains where its answer differs from the direct one and can be trusted: `corrected` is the share of its
verdicts that contradict System 1's draft, and `feedback` is what people thought of its answers. It costs tokens and
seconds for each of them.
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
    variant: str  # how it was set up, where not by its defaults
    runs: int  # deliberations, audits included
    attempts: float  # votes per run, mean
    agreement: float | None  # 0..1, mean share of the votes that the winner has; None: nobody ever won
    serve_share: float  # 0..1, runs that gave an answer
    train_share: float  # 0..1, runs that gave a lesson
    corrected: float | None  # 0..1, share of verdicts that contradict the draft; None: there was no pair
    tokens: float  # generated tokens per run, mean
    seconds: float  # wall seconds per run, mean
    tokens_per_lesson: float | None  # generated tokens over train-grade runs; None: there was none
    feedback: float | None  # 0..1, mean score that people gave its answers; None: they gave none
    rated: int  # answers that were given a score


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
    rated: int = 0
    scores: float = 0.0


def by_method(thoughts: Iterable[tuple[str, Mapping[str, Any], bool | None, float | None]]) -> list[MethodUse]:
    """Sums over (skill, deliberation as JSON, whether the draft said the same, its feedback 0..1), in one pass, by
    skill, method and variant; sorted by skill and then by runs."""
    sums: dict[tuple[str, str, str], _Sum] = {}
    for skill, thought, same, score in thoughts:
        key = (skill, str(thought["method"]), str(thought.get("variant", "")))
        _add(sums.setdefault(key, _Sum()), thought, same, score)
    found = [_use(*key, one) for key, one in sums.items()]
    return sorted(found, key=lambda use: (use.skill, -use.runs, use.method, use.variant))


def _add(one: _Sum, thought: Mapping[str, Any], same: bool | None, score: float | None) -> None:
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
    if score is not None:
        one.rated += 1
        one.scores += score


def _use(skill: str, method: str, variant: str, one: _Sum) -> MethodUse:
    return MethodUse(
        skill=skill,
        method=method,
        variant=variant,
        runs=one.runs,
        attempts=one.attempts / one.runs,
        agreement=one.shares / one.won if one.won else None,
        serve_share=one.won / one.runs,
        train_share=one.train / one.runs,
        corrected=one.corrected / one.pairs if one.pairs else None,
        tokens=one.tokens / one.runs,
        seconds=one.seconds / one.runs,
        tokens_per_lesson=one.tokens / one.train if one.train else None,
        feedback=one.scores / one.rated if one.rated else None,
        rated=one.rated,
    )
