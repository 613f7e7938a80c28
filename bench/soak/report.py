"""A soak in a few numbers, in a graph, and in Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np

UNEXPLAINED = "unexplained"  # how the kind of a failure begins that no Retry-After explains
WIDTH, HEIGHT, LEFT, TOP, GAP = 720, 150, 60, 24, 40  # SVG units; HEIGHT is one panel's
BLUE, RED = "#1f6f8b", "#c8553d"


@dataclass
class Point:
    """What happened in one bucket."""

    at_s: float  # seconds since the start
    answers: int = 0
    p50_ms: float | None = None
    p99_ms: float | None = None
    failures: dict[str, int] = field(default_factory=dict)
    service_mib: float = 0.0
    below_mib: float = 0.0  # engine and trainer
    events: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer."""

    at_s: float  # when it was whole, seconds since the start
    seconds: float  # how long it took


def summed(
    points: Sequence[Point], answers: Sequence[Answered] = (), night: tuple[float, float] | None = None
) -> dict[str, Any]:
    """The run in a few numbers. `night`: seconds since the start at which it began and ended."""
    failures = sum((Counter(point.failures) for point in points), Counter())
    events = [event for point in points for event in point.events]
    half = len(points) // 2
    low, high = _percentiles(answers)
    at_night = [a for a in answers if night and night[0] <= a.at_s <= night[1]]
    by_day = [a for a in answers if night and not night[0] <= a.at_s <= night[1]]
    return {
        "minutes": points[-1].at_s / 60,
        "answers": sum(point.answers for point in points),
        "failures": dict(failures),
        "unexplained": sum(n for kind, n in failures.items() if kind.startswith(UNEXPLAINED)),
        "p50_ms": low,
        "p99_ms": high,
        "p50_p99_ms_by_day": _percentiles(by_day),
        "p50_p99_ms_at_night": _percentiles(at_night),
        "p99_ms_worst_bucket": max((p.p99_ms for p in points if p.p99_ms is not None), default=None),
        "swaps": sum(event.startswith("swap sn-") for event in events),
        "nights": [event for event in events if event.startswith("night")],
        "service_mib_first_half": _median([point.service_mib for point in points[:half]]),
        "service_mib_second_half": _median([point.service_mib for point in points[half:]]),
        "below_mib_most": max(point.below_mib for point in points),
    }


def _percentiles(answers: Sequence[Answered]) -> tuple[float | None, float | None]:
    """p50 and p99 in milliseconds; None without an answer."""
    if not answers:
        return None, None
    low, high = np.percentile([1000 * a.seconds for a in answers], (50, 99)).tolist()
    return low, high


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None


def drawn(points: Sequence[Point], said: str) -> str:
    """Three panels over time: latency (p50 and p99), answers per second, the service's memory. Vertical lines: a swap
    (thin), a night's begin and end (thick)."""
    seconds = np.diff([0.0, *(p.at_s for p in points)])
    rates = [p.answers / max(float(s), 1e-9) for p, s in zip(points, seconds, strict=True)]
    panels = (
        ("latency, ms: p50 and p99", [[p.p50_ms or 0.0 for p in points], [p.p99_ms or 0.0 for p in points]]),
        ("answers per second", [rates]),
        ("memory of the service, MiB", [[p.service_mib for p in points]]),
    )
    parts = [f"<title>{escape(said)}</title>", *_marks(points, len(panels))]
    for row, (title, lines) in enumerate(panels):
        top, most = TOP + row * (HEIGHT + GAP), max(max(line) for line in lines) or 1.0
        parts.append(f'<text x="{LEFT}" y="{top - 6}">{title}, up to {most:,.0f}</text>')
        parts.append(f'<rect x="{LEFT}" y="{top}" width="{WIDTH - LEFT}" height="{HEIGHT}" fill="none" stroke="#999"/>')
        for line, colour in zip(lines, (BLUE, RED), strict=False):
            parts.append(f'<polyline fill="none" stroke="{colour}" points="{_path(line, points, top, most)}"/>')
    high = TOP + len(panels) * (HEIGHT + GAP)
    parts.append(f'<text x="{LEFT}" y="{high}">{points[-1].at_s / 60:.0f} minutes</text>')
    size = f'viewBox="0 0 {WIDTH + 10} {high + 10}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>'
    )


def _marks(points: Sequence[Point], panels: int) -> list[str]:
    """A line through all panels for each bucket in which something was changed."""
    bottom, marks = TOP + panels * (HEIGHT + GAP) - GAP, []
    for point in points:
        if point.events:
            night = any(event.startswith("night") for event in point.events)
            x, wide, colour = _x(point, points), 2.0 if night else 0.6, RED if night else "#bbb"
            said = f"<title>{escape(', '.join(point.events))}</title>"
            line = f'x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}" stroke="{colour}" stroke-width="{wide}"'
            marks.append(f"<line {line}>{said}</line>")
    return marks


def _x(point: Point, points: Sequence[Point]) -> float:
    return LEFT + point.at_s * (WIDTH - LEFT) / points[-1].at_s


def _path(line: Sequence[float], points: Sequence[Point], top: float, most: float) -> str:
    return " ".join(
        f"{_x(p, points):.1f},{top + HEIGHT * (1 - y / most):.1f}" for y, p in zip(line, points, strict=True)
    )


def section(told: dict[str, Any], picture: str, command: str) -> str:
    """The run in Markdown. `picture`: the graph's address, from the page."""
    failures = ", ".join(f"{n} {kind}" for kind, n in sorted(told["failures"].items())) or "none"
    rows = (
        ("minutes", f"{told['minutes']:.0f}"),
        ("requests answered", f"{told['answers']}"),
        ("failures", failures),
        ("of them unexplained (no 429 or 503 with Retry-After)", f"**{told['unexplained']}**"),
        ("latency p50, p99", _pair((told["p50_ms"], told["p99_ms"]))),
        ("by day", _pair(told["p50_p99_ms_by_day"])),
        ("while the night ran", _pair(told["p50_p99_ms_at_night"])),
        ("p99 of the worst ten seconds", f"{_n(told['p99_ms_worst_bucket'])} ms"),
        ("swaps", f"{told['swaps']}"),
        ("night", "; ".join(told["nights"]) or "none"),
        (
            "memory of the service, median of the first and of the second half",
            f"{_n(told['service_mib_first_half'])} MiB, {_n(told['service_mib_second_half'])} MiB",
        ),
        ("memory of the engine and the trainer, at most", f"{_n(told['below_mib_most'])} MiB"),
    )
    table = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
    return "\n".join([f"`{command}`", "", *table, "", f"![latency, answers and memory over the soak]({picture})"])


def _n(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _pair(values: tuple[float | None, float | None]) -> str:
    return ", ".join(f"{_n(value)} ms" for value in values)
