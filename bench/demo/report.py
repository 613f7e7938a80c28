"""What was measured, as report.json: pure functions of the answers. Gold answers are read here and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.demo.asking import (
    Answered,
    accuracy,
    by_skill,
    mean_tokens,
    median_seconds,
    percentile_seconds,
    system1_share,
)
from bench.demo.stages import NightSeen
from memory.records import Lesson
from policies.answers import normalise

MOST_LOST = 0.03  # accuracy that a skill may lose without the gate saying so, 0..1


@dataclass
class Measured:
    """All that a run measured, in the order in which it came."""

    model: str
    engine: str
    size: str
    first_answer_s: float = 0.0  # from the demo's start to the first answer
    ready_s: float = 0.0  # from the daemon's start until it could answer
    day: list[Answered] = field(default_factory=list)  # auto mode, before any adapter
    direct: list[list[Answered]] = field(default_factory=list)  # System 1 on the held-out: before, after each night
    auto: list[Answered] = field(default_factory=list)  # auto mode on held-out questions, after
    nights: list[NightSeen] = field(default_factory=list)
    lessons: list[list[Lesson]] = field(default_factory=list)  # of each night's adapter
    adapter: str | None = None
    digest: str | None = None
    wall_s: float = 0.0


def build(measured: Measured) -> dict[str, Any]:
    """The report, with the keys that README.md names and a few more."""
    last = measured.nights[-1]
    return {
        "model": measured.model,
        "engine": measured.engine,
        "size": measured.size,
        "skills": {skill: _skill(measured, skill) for skill in by_skill(measured.direct[0])},
        "swap": _swap(measured.nights),
        "train_s": sum(night.report.get("train_s") or 0.0 for night in measured.nights),
        "wall_s": round(measured.wall_s, 1),
        "adapter": measured.adapter,
        "digest": measured.digest,
        "gate": last.report.get("gate"),
        "outcome": last.report.get("outcome"),
        "reason": last.report.get("reason"),
        "ready_s": round(measured.ready_s, 1),
        "first_answer_s": round(measured.first_answer_s, 1),
        "nights": [_night(night) for night in measured.nights],
        "curve": _curve(measured),
    }


def _skill(measured: Measured, skill: str) -> dict[str, Any]:
    before = by_skill(measured.direct[0])[skill]
    after = by_skill(measured.direct[-1])[skill]
    day = by_skill(measured.day).get(skill, [])
    auto = by_skill(measured.auto).get(skill, [])
    thought = [a for a in day if a.system == "system2"]
    lessons = [x for x in (measured.lessons[-1] if measured.lessons else []) if x.skill == skill]
    gold = {a.episode: a.question.gold for night in measured.nights for a in night.answers}
    gold |= {a.episode: a.question.gold for a in day}
    return {
        "n_heldout": len(before),
        "n_lessons": len(lessons),
        "lesson_precision": precision(lessons, gold),
        "s1_before": accuracy(before),
        "s1_after": accuracy(after),
        "s2": accuracy(thought),
        "n_s2": len(thought),
        "system1_share_before": system1_share(day),
        "system1_share_after": system1_share(auto),
        "tokens_before": mean_tokens(day),
        "tokens_after": mean_tokens(auto),
        "auto_before": accuracy(day),
        "auto_after": accuracy(auto),
        "n_auto_after": len(auto),
        "median_s_before": median_seconds(day),
        "median_s_after": median_seconds(auto),
        "failed": sum(a.reply is None for a in (*before, *day, *after, *auto)),
    }


def precision(lessons: Sequence[Lesson], gold: Mapping[str, str]) -> float | None:
    """Share of the lessons that teach the truth, 0..1; None where no lesson's truth is known."""
    known = [lesson for lesson in lessons if lesson.episode_id in gold]
    if not known:
        return None
    right = sum(
        normalise(lesson.answer, lesson.answer_type) == normalise(gold[lesson.episode_id], lesson.answer_type)
        for lesson in known
    )
    return right / len(known)


def _swap(nights: Sequence[NightSeen]) -> dict[str, Any]:
    during = [answer for night in nights for answer in night.during_swap()]
    swaps = [night.report.get("swap") or {} for night in nights]
    return {
        "requests_during": len(during),
        "failed": sum(a.reply is None for a in during),
        "load_s": next((s["load_s"] for s in reversed(swaps) if s.get("load_s") is not None), None),
        "flip_s": next((s["flip_s"] for s in reversed(swaps) if s.get("flip_s") is not None), None),
        "median_s": median_seconds(during),
        "p99_s": percentile_seconds(during, 0.99),
        "requests_in_the_night": sum(len(night.answers) for night in nights),
        "failed_in_the_night": sum(a.reply is None for night in nights for a in night.answers),
        "answered_by_old": sum(a.reply is not None and a.adapter != _new(nights) for a in during),
        "answered_by_new": sum(a.reply is not None and a.adapter == _new(nights) for a in during),
    }


def _new(nights: Sequence[NightSeen]) -> str | None:
    name = nights[-1].report.get("adapter") if nights else None
    return str(name) if name else "?"


def _night(night: NightSeen) -> dict[str, Any]:
    keys = ("outcome", "reason", "adapter", "lessons", "dropped", "train_s")
    return {key: night.report.get(key) for key in keys} | {"seconds": round(night.seconds, 1)}


def _curve(measured: Measured) -> list[dict[str, Any]]:
    """System 1's accuracy by lessons: before the first night, then after each."""
    points = []
    for number, answers in enumerate(measured.direct):
        lessons = measured.lessons[number - 1] if number else []
        counts = {skill: sum(x.skill == skill for x in lessons) for skill in by_skill(answers)}
        scores = {skill: accuracy(mine) for skill, mine in by_skill(answers).items()}
        points.append({"night": number, "lessons": counts, "s1": scores})
    return points


def complaints(report: Mapping[str, Any]) -> list[str]:
    """Why the run is not a success, a sentence each; none where it is."""
    found = []
    if report["outcome"] != "promoted" and not too_few_to_tell(report):
        found.append(f"the night's candidate was not promoted: {report['reason']}")
    for skill, row in report["skills"].items():
        if row["failed"]:
            found.append(f"{row['failed']} questions of {skill} failed")
        lost = (row["s1_before"] or 0.0) - (row["s1_after"] or 0.0)
        if lost > MOST_LOST and not _said_by_gate(skill, report["gate"]):
            found.append(f"{skill} lost {lost:.0%} and the gate did not say so")
    if report["swap"]["failed"]:
        found.append(f"{report['swap']['failed']} requests failed during the swap")
    return found


def too_few_to_tell(report: Mapping[str, Any]) -> bool:
    """Whether a smoke run's gate found no fault but no sure gain either: of some eighty lessons and thirty held-out
    questions that is a matter of luck, and the loop has turned all the same."""
    smoke = report["size"] == "small" and report["outcome"] == "rejected"
    checks = (report["gate"] or {}).get("checks") or ()
    return smoke and [name for name, passed, _ in checks if not passed] == ["gain"]


def _said_by_gate(skill: str, gate: Mapping[str, Any] | None) -> bool:
    checks = (gate or {}).get("checks") or ()
    return any(skill in sentence for _, _, sentence in checks)
