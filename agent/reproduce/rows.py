"""The rows of a table: what each asked, how often it was right, what it cost. Gold answers are read here alone."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from adapters.evaluate import wilson
from agent.reproduce.answered import Answer
from agent.reproduce.data import OUTSIDE, Question
from memory.records import SkillScore
from policies.answers import fold
from policies.promote import change_interval, sign_tail

Right = Callable[[str | None, str], bool]
Z95 = 1.96  # standard deviations on either side of a mean that hold 95 % of a normal law
SWAPPED = {"A": "B", "B": "A", "C": "C"}


@dataclass(frozen=True, slots=True)
class Share:
    """Hits of n, with Wilson's 95 % interval."""

    hits: int
    n: int

    @property
    def value(self) -> float | None:
        """0..1; None without questions."""
        return self.hits / self.n if self.n else None

    @property
    def interval(self) -> tuple[float, float]:
        """0..1, both ends."""
        found = wilson(self.hits, self.n)
        return (found.low, found.high) if found else (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean of counts over questions, with its 95 % interval by the normal law: mean +- 1.96 sd / sqrt(n)."""

    value: float
    n: int
    half: float | None  # 1.96 sd / sqrt(n), sd over n - 1; None: one question alone says nothing of the spread

    @property
    def interval(self) -> tuple[float, float] | None:
        """Both ends, in the counts' unit."""
        return None if self.half is None else (self.value - self.half, self.value + self.half)


def mean_of(counts: Sequence[int]) -> Mean:
    """Their mean and interval. Raises ValueError without any."""
    n = len(counts)
    return Mean(fmean(counts), n, Z95 * stdev(counts) / n**0.5 if n > 1 else None)


@dataclass(frozen=True, slots=True)
class Row:
    """One row, measured."""

    name: str
    shares: Mapping[str, Share]  # by measure, in the table's order; empty: not run yet
    tokens: Mean | None  # generated for a test prompt, all calls and samples together; None: not run yet
    hits: tuple[bool, ...] = ()  # by test question, for the paired comparison
    lessons: int | None = None  # the adapter learnt
    precision: Share | None = None  # right targets among the lessons
    train_s: float | None = None  # seconds of training


def exactly(answer: str | None, gold: str) -> bool:
    """The normalised answer is the true one."""
    return answer is not None and answer == gold


def named(answer: str | None, gold: str) -> bool:
    """The answer names the true one, accents aside: "the city of Bogotá" is right for "Bogota"."""
    return answer is not None and f" {_plain(gold)} " in f" {_plain(answer)} "


def _plain(text: str) -> str:
    return fold("".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)))


def accuracy(questions: Sequence[Question], answers: Sequence[Answer], right: Right) -> dict[str, Share]:
    """One share over all questions."""
    return {"accuracy": Share(sum(hits(questions, answers, right)), len(questions))}


def by_opinion(questions: Sequence[Question], answers: Sequence[Answer], right: Right) -> dict[str, Share]:
    """Questions with an opinion and without; then each kind of opinion."""
    hit = hits(questions, answers, right)

    def share(*groups: str) -> Share:
        chosen = [h for h, q in zip(hit, questions, strict=True) if q.group in groups]
        return Share(sum(chosen), len(chosen))

    biased = ("refuted", "misled", "confirmed")
    return {"biased": share(*biased), "unbiased": share("unbiased"), **{group: share(group) for group in biased}}


def judged(questions: Sequence[Question], answers: Sequence[Answer], right: Right) -> dict[str, Share]:
    """Agreement with people on the pairs as asked, and the share of pairs whose verdict follows the order; the same of
    the pairs from outside, where there are some."""
    shares = _judged(questions, answers, right, "")
    outside = _judged(questions, answers, right, OUTSIDE)
    return shares | (outside if any(share.n for share in outside.values()) else {})


def _judged(questions: Sequence[Question], answers: Sequence[Answer], right: Right, where: str) -> dict[str, Share]:
    pairs: dict[str, dict[str, Answer]] = {}
    agreed = []
    for q, a in zip(questions, answers, strict=True):
        if q.group in (f"{where}asked", f"{where}swapped"):
            pairs.setdefault(q.item, {})[q.group.removeprefix(where)] = a
        if q.group == f"{where}asked":
            agreed.append(right(a.answer, q.gold))
    changed = [p["swapped"].answer != SWAPPED.get(p["asked"].answer or "") for p in pairs.values() if len(p) == 2]
    inconsistent = Share(sum(changed), len(changed))
    return {f"{where}agreement": Share(sum(agreed), len(agreed)), f"{where}inconsistent": inconsistent}


def hits(questions: Sequence[Question], answers: Sequence[Answer], right: Right) -> list[bool]:
    """Whether each answer is right."""
    return [right(a.answer, q.gold) for q, a in zip(questions, answers, strict=True)]


def score(name: str, before: Sequence[bool], after: Sequence[bool]) -> SkillScore:
    """Two rows on the same questions as the gate reads them."""
    n = len(before)
    won = sum(a and not b for b, a in zip(before, after, strict=True))
    lost = sum(b and not a for b, a in zip(before, after, strict=True))
    return SkillScore(name, n, sum(before) / n, sum(after) / n, 1 - sum(before) / n, won, lost)


def gain(before: Row, after: Row) -> str:
    """The paired difference with its 95 % interval and sign test, as a sentence's end."""
    found = score("", before.hits, after.hits)
    low, high = change_interval(found)
    assert found.won is not None
    assert found.lost is not None
    p = sign_tail(found.won, found.lost)
    points = 100 * (found.after - found.before)
    return (
        f"{points:+.1f} points (95 % interval {100 * low:+.1f} to {100 * high:+.1f}; one-sided sign test p = {p:.2g})"
    )


def headroom(system1: Row, ways: Sequence[Row]) -> str:
    """Whether any System 2 leaves System 1 something to learn: said before anything is distilled.

    Beyond chance: a one-sided sign test at 0.05.
    """
    best = max(ways, key=lambda row: sum(row.hits))
    found = score("", system1.hits, best.hits)
    said = "Headroom"
    if sign_tail(found.won or 0, found.lost or 0) > 0.05:
        said = "**No headroom beyond chance**"
    if found.after <= found.before:
        said = "**No headroom**"
    return (
        f"{said}: the best System 2, {best.name.removeprefix('System 2: ')}, against System 1: {gain(system1, best)}."
    )
