"""What routing by calibrated confidence is worth, from a state folder in which real questions were answered.

    python -m bench.routing STATE [--adapter NAME] [--seed 1] [--out docs/routing.md]

Every answer that System 1 drafted and System 2 answered too is a pair, so each router's cost and quality is computed
and not simulated. Compared: always System 1, always System 2, a random router, a fixed threshold on the model's own
probability, and thresholds on the raw and on the calibrated confidence (cross-fitted: each row is scored by a fit that
did not see it). Quality is the share of right answers where the questions are the demo's, whose right answers are
known, else agreement with System 2. Rows weigh 1/propensity.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from agent.confidence import BASE
from agent.plots import reliability_svg
from bench.demo.skills import DRAWS, distinct
from bench.extras import file_of, kept_in, section
from bench.logged import rows_of
from memory.records import Episode, Outcome
from memory.store import Memory
from policies.answers import normalise
from policies.calibration import CalibrationSettings, cross_fitted, cross_fitted_report, raw_report
from policies.confidence import raw_confidence
from policies.reliability import CalibrationReport, Floats
from policies.skills import last_user_text

FIXED = (0.3, 0.9)  # thresholds on the raw confidence that somebody might have typed
SHARES = np.linspace(0.0, 1.0, 101)  # of answers that System 2 gives
COLOURS = {"calibrated": "#1f6feb", "raw": "#d29922", "random": "#8b949e"}

Reports = Mapping[str, tuple[CalibrationReport, CalibrationReport]]
"""By skill ("all": together): the raw confidence's figures and the calibrated one's."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Answers of which both systems' outcome is known and could be graded, shape (n,) each."""

    raw: Floats  # 0..1
    calibrated: Floats  # 0..1, cross-fitted
    weight: Floats  # 1/propensity
    first: Floats  # quality of System 1's answer, 0 or 1
    second: Floats  # of System 2's
    cheap: Floats  # tokens of the draft
    dear: Floats  # tokens of the deliberation


@dataclass(frozen=True, slots=True)
class Curve:
    """A router at each share of `SHARES`, from nothing escalated to everything."""

    cost: Floats  # tokens per answer over those of always System 2
    quality: Floats  # 0..1


def pairs_of(memory: Memory, rows: list[Outcome], gold: Mapping[str, str] | None) -> Pairs:
    """The answers of which both systems' outcome is known and can be graded. `gold`: question -> right answer."""
    calibrated = cross_fitted(rows, CalibrationSettings())
    kept = [i for i in range(len(rows)) if not np.isnan(calibrated[i]) and rows[i].s2_tokens]
    graded = [_graded(memory, rows[i], gold) for i in kept]
    known = [(i, mark) for i, mark in zip(kept, graded, strict=True) if mark is not None]
    rows, calibrated = [rows[i] for i, _ in known], calibrated[[i for i, _ in known]]
    return Pairs(
        raw=np.array([raw_confidence(row.signals) or 0.0 for row in rows]),
        calibrated=calibrated,
        weight=np.array([1 / row.propensity for row in rows]),
        first=np.array([mark[0] for _, mark in known]),
        second=np.array([mark[1] for _, mark in known]),
        cheap=np.array([row.s1_tokens for row in rows], dtype=float),
        dear=np.array([row.s2_tokens for row in rows], dtype=float),
    )


def _graded(memory: Memory, row: Outcome, gold: Mapping[str, str] | None) -> tuple[float, float] | None:
    """(System 1's quality, System 2's); None where the right answer is not known."""
    if gold is None:
        return float(bool(row.agrees)), 1.0
    episode = memory.episode(row.episode_id)
    right = gold.get(last_user_text(episode.ask.messages))
    if right is None:
        return None
    wanted = normalise(right, episode.ask.answer_type)
    return float(_said1(episode) == wanted), float(_said2(memory, episode) == wanted)


def _said1(episode: Episode) -> str | None:
    return episode.draft.answer if episode.draft else None


def _said2(memory: Memory, episode: Episode) -> str | None:
    thoughts = [audit.deliberation for audit in memory.audits(episode.ask.id)]
    thoughts += [episode.deliberation] if episode.deliberation else []
    return thoughts[-1].verdict.answer if thoughts else None


def demo_gold(seed: int, most: int = 5_000) -> dict[str, str]:
    """The right answers of the demo's questions, by text."""
    return {q.text: q.gold for skill in DRAWS for q in islice(distinct(skill, seed), most)}


def routed(pairs: Pairs, confidence: Floats) -> Curve:
    """Escalate the least confident first; answers between two shares are split in proportion."""
    order = np.argsort(confidence, kind="stable")
    weight = pairs.weight[order]
    share = np.concatenate([[0.0], np.cumsum(weight) / weight.sum()])
    gain = np.concatenate([[0.0], np.cumsum(weight * (pairs.second - pairs.first)[order]) / weight.sum()])
    spent = np.concatenate([[0.0], np.cumsum(weight * pairs.dear[order]) / weight.sum()])
    start, always = _mean(pairs, pairs.first), _mean(pairs, pairs.dear)
    cost = (_mean(pairs, pairs.cheap) + np.interp(SHARES, share, spent)) / always
    return Curve(cost=cost, quality=start + np.interp(SHARES, share, gain))


def at_random(pairs: Pairs) -> Curve:
    """Escalate any answer with the same probability."""
    first, second = _mean(pairs, pairs.first), _mean(pairs, pairs.second)
    always = _mean(pairs, pairs.dear)
    cost = (_mean(pairs, pairs.cheap) + SHARES * always) / always
    return Curve(cost=cost, quality=first + SHARES * (second - first))


def recovered(curve: Curve) -> tuple[float, float | None, float | None]:
    """(APGR, CPT 50 %, CPT 80 %) after RouteLLM (arXiv 2406.18665): mean share of the quality gap that is recovered,
    and the share of System 2 that recovers half and four fifths of it. NaN, None where there is no gap."""
    gap = curve.quality[-1] - curve.quality[0]
    if gap <= 0:
        return float("nan"), None, None
    share = (curve.quality - curve.quality[0]) / gap
    reach = [float(SHARES[np.argmax(share >= wanted)]) for wanted in (0.5, 0.8)]
    return float(np.trapezoid(share, SHARES)), reach[0], reach[1]


def fixed(pairs: Pairs, threshold: float) -> tuple[float, float, float]:
    """(share escalated, cost, quality) of a fixed threshold (0..1) on the raw confidence."""
    up = pairs.raw < threshold
    cost = (_mean(pairs, pairs.cheap) + _mean(pairs, np.where(up, pairs.dear, 0.0))) / _mean(pairs, pairs.dear)
    return _mean(pairs, up.astype(float)), cost, _mean(pairs, np.where(up, pairs.second, pairs.first))


def _mean(pairs: Pairs, values: Floats) -> float:
    return float(np.average(values, weights=pairs.weight))


def page(pairs: Pairs, believed: Reports, adapter: str | None, quality: str, picture: str) -> str:
    """docs/routing.md."""
    curves = {
        "calibrated": routed(pairs, pairs.calibrated),
        "raw": routed(pairs, pairs.raw),
        "random": at_random(pairs),
    }
    lines = [
        "# Routing on a real model",
        "",
        f"System 1: {adapter or 'the base model'}; {len(pairs.raw)} answers of which both systems' outcome is known "
        f"and could be graded, on questions that it was not trained on. Quality: {quality}. Cost: generated tokens per "
        "answer over those of always System 2, the draft included. Made by `python -m bench.routing`.",
        "",
        "## Can the confidence be believed?",
        "",
        "| skill | audits | agreement | AUROC raw | AUROC calibrated | ECE raw | ECE calibrated |",
        "|---|---|---|---|---|---|---|",
        *(_believed(*one) for one in believed.items()),
        "",
        f"![reliability]({picture}-reliability.svg)",
        "",
        "The calibrated figures are cross-fitted: each answer is scored by a fit that did not see it.",
        "",
        "## What is routing worth?",
        "",
        "| router | System 2 answers | cost | quality | gap recovered, mean (APGR) | for 50 % | for 80 % |",
        "|---|---|---|---|---|---|---|",
        *_rows(pairs, curves),
        "",
        f"![cost and quality]({picture}-quality.svg)",
        "",
        "The gap is that between always System 1 and always System 2; a random router recovers half of it on average.",
        "`for 50 %`: the share of answers that System 2 must give to recover half of the gap.",
    ]
    return "\n".join(lines) + "\n"


def _rows(pairs: Pairs, curves: Mapping[str, Curve]) -> list[str]:
    always = _mean(pairs, pairs.cheap) / _mean(pairs, pairs.dear)
    rows = [
        f"| always System 1 | 0 % | {always:.2f} | {_mean(pairs, pairs.first):.1%} | | | |",
        f"| always System 2 | 100 % | 1.00 | {_mean(pairs, pairs.second):.1%} | | | |",
    ]
    for threshold in FIXED:
        share, cost, quality = fixed(pairs, threshold)
        rows.append(f"| fixed: raw confidence from {threshold} | {share:.0%} | {cost:.2f} | {quality:.1%} | | | |")
    for name, curve in curves.items():
        mean, half, most = recovered(curve)
        reached = "".join(f" {'-' if x is None else f'{x:.0%}'} |" for x in (half, most))
        for at in (25, 50):
            told = f" {mean:.3f} |{reached}" if at == 25 else " | | |"
            rows.append(f"| {name} | {at} % | {curve.cost[at]:.2f} | {curve.quality[at]:.1%} |{told}")
    return rows


def _believed(skill: str, told: tuple[CalibrationReport, CalibrationReport]) -> str:
    raw, calibrated = told
    figures = (raw.auroc, calibrated.auroc, raw.ece, calibrated.ece)
    shown = "".join(" - |" if figure is None else f" {figure:.3f} |" for figure in figures)
    agreement = "-" if raw.agreement is None else f"{raw.agreement:.1%}"
    return f"| {skill} | {raw.n} | {agreement} |{shown}"


def believed_of(rows: Sequence[Outcome]) -> Reports:
    """(raw, calibrated) reports of all skills together, and of each."""
    raw, calibrated = raw_report(rows), cross_fitted_report(rows, CalibrationSettings())
    return {"all": (raw, calibrated)} | {s: (raw.skills[s], calibrated.skills[s]) for s in sorted(raw.skills)}


def curves_svg(curves: Mapping[str, Curve], ends: Mapping[str, tuple[float, float]]) -> str:
    """Quality over cost; `ends`: named points."""
    wide, high, pad = 460, 280, 48
    low = min(float(c.quality.min()) for c in curves.values())
    top = max(float(c.quality.max()) for c in curves.values())
    far = max(float(c.cost.max()) for c in curves.values())

    def at(cost: float, quality: float) -> str:
        return f"{pad + wide * cost / far:.1f},{pad + high * (top - quality) / max(top - low, 1e-9):.1f}"

    drawn = [f'<rect x="{pad}" y="{pad}" width="{wide}" height="{high}" fill="none" stroke="#d0d7de"/>']
    for i, (name, curve) in enumerate(curves.items()):
        line = " ".join(at(float(c), float(q)) for c, q in zip(curve.cost, curve.quality, strict=True))
        drawn.append(f'<polyline points="{line}" fill="none" stroke="{COLOURS[name]}" stroke-width="2"/>')
        drawn.append(f'<text x="{pad + 8}" y="{pad + 18 + 16 * i}" fill="{COLOURS[name]}">{name}</text>')
    for i, (name, point) in enumerate(ends.items()):
        x, y = (float(number) for number in at(*point).split(","))
        side, off = ("start", 8) if x < wide / 2 else ("end", -8)
        text = f'<text x="{x + off}" y="{y - 4 + 16 * i}" text-anchor="{side}">{name}</text>'
        drawn.append(f'<circle cx="{x}" cy="{y}" r="4"/>{text}')
    for share, y in ((top, pad + 4), (low, pad + high)):
        drawn.append(f'<text x="{pad - 6}" y="{y}" text-anchor="end">{share:.0%}</text>')
    drawn.append(f'<text x="{pad + wide / 2}" y="{pad + high + 32}" text-anchor="middle">cost, 0 to {far:.2f}</text>')
    size = f'width="{wide + 2 * pad}" height="{high + 2 * pad}"'
    body = f'<rect width="100%" height="100%" fill="white"/>{"".join(drawn)}'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">{body}</svg>\n'


def write(pairs: Pairs, believed: Reports, adapter: str | None, quality: str, out: Path) -> None:
    """The page and its two pictures beside it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page(pairs, believed, adapter, quality, out.stem))
    panels = dict(zip(("raw", "calibrated"), believed["all"], strict=True))
    out.with_name(f"{out.stem}-reliability.svg").write_text(reliability_svg(panels))
    curves = {
        "calibrated": routed(pairs, pairs.calibrated),
        "raw": routed(pairs, pairs.raw),
        "random": at_random(pairs),
    }
    ends = {
        "always System 1": (_mean(pairs, pairs.cheap) / _mean(pairs, pairs.dear), _mean(pairs, pairs.first)),
        "always System 2": (1.0, _mean(pairs, pairs.second)),
        **{f"raw from {threshold}": fixed(pairs, threshold)[1:] for threshold in FIXED},
    }
    out.with_name(f"{out.stem}-quality.svg").write_text(curves_svg(curves, ends))


def main() -> int:
    """Run it. Returns 0, or 1 where there are too few pairs."""
    parser = argparse.ArgumentParser(prog="python -m bench.routing", description=__doc__)
    parser.add_argument("state", type=Path, help="a state folder")
    parser.add_argument("--adapter", default=BASE, help="whose answers; default: the bare base")
    parser.add_argument("--seed", type=int, help="the demo's seed: grade by its right answers")
    parser.add_argument("--out", type=Path, default=Path("docs/routing.md"))
    given = parser.parse_args()
    adapter = None if given.adapter == BASE else given.adapter
    gold = None if given.seed is None else demo_gold(given.seed)
    with Memory.open(given.state, read_only=True) as memory:
        rows, threshold = rows_of(memory, adapter), memory.threshold(None, adapter)
        pairs = pairs_of(memory, rows, gold)
    if len(pairs.raw) < 50:
        print(f"only {len(pairs.raw)} pairs: too few to say anything")
        return 1
    quality = "agreement with System 2" if gold is None else "right answers"
    write(pairs, believed_of(rows), adapter, quality, given.out)
    if kept := kept_in(file_of(given.state, adapter)):
        given.out.write_text("\n".join([given.out.read_text(), *section(rows, kept, threshold)]) + "\n")
    print(given.out.read_text())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
