"""The pictures, as inline SVG that says in words what it shows."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from bench.demo.table import percent

WIDTH, LEFT, RIGHT, ROW = 720, 130, 70, 44  # SVG units
HEIGHT, TOP, BOTTOM = 340, 20, 50
MARKS = (
    "M0,-5 L5,4 L-5,4 Z", "M-4,-4 H4 V4 H-4 Z", "M0,-5 L5,0 L0,5 L-5,0 Z", "M-5,0 A5,5 0 1,0 5,0 A5,5 0 1,0 -5,0 Z",
    "M-5,-2 H-2 V-5 H2 V-2 H5 V2 H2 V5 H-2 V2 H-5 Z", "M0,5 L5,-4 L-5,-4 Z",
)  # fmt: skip


def dumbbells(report: Mapping[str, Any]) -> str:
    """One line a skill: ring before, disc after, dashed bar at System 2."""
    rows = list(report["skills"].items())
    height = ROW * len(rows) + 60
    parts = [_title("dumb", "System 1 before and after, by skill", _spoken(report))]
    parts += [_gridline(share, 15, height - 35) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    for i, (skill, row) in enumerate(rows):
        parts.append(_dumbbell(skill, row, 35 + i * ROW))
    return _svg("dumb", height, parts)


def _dumbbell(skill: str, row: Mapping[str, Any], y: int) -> str:
    before, after = _x(row["s1_before"]), _x(row["s1_after"])
    teacher = (
        "" if row["s2"] is None
        else f'<line class="teacher" x1="{_x(row["s2"]):.1f}" x2="{_x(row["s2"]):.1f}" y1="{y - 13}" y2="{y + 13}" '
        'stroke-width="3" stroke-dasharray="4 2"/>'
    )  # fmt: skip
    return (
        f'<text x="{LEFT - 12}" y="{y + 4}" text-anchor="end">{escape(_words(skill))}</text>'
        f'<line class="trail" x1="{before:.1f}" x2="{after:.1f}" y1="{y}" y2="{y}"/>{teacher}'
        f'<circle class="before" cx="{before:.1f}" cy="{y}" r="6" fill-opacity="0" stroke-width="2.5"/>'
        f'<circle class="after" cx="{after:.1f}" cy="{y}" r="6"/>'
        f'<text x="{WIDTH - 4}" y="{y + 4}" text-anchor="end">{percent(row["s1_after"])}</text>'
    )


def curve(report: Mapping[str, Any]) -> str:
    """System 1's accuracy against lessons: one line and one mark a skill, a point for each night."""
    points = report["curve"]
    most = max((n for point in points for n in point["lessons"].values()), default=0) or 1
    parts = [_title("curve", "Accuracy by number of lessons", _spoken(report))]
    parts += [_level(share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    parts += [_tick(round(most * share), most) for share in (0.0, 0.5, 1.0)]
    skills = list(report["skills"])
    ends = _spread([_y(points[-1]["s1"][skill]) for skill in skills])
    for i, skill in enumerate(skills):
        parts.append(_line(skill, points, most, MARKS[i % len(MARKS)], ends[i]))
    parts.append(f'<text class="soft" x="{WIDTH / 2}" y="{HEIGHT - 8}" text-anchor="middle">lessons</text>')
    return _svg("curve", HEIGHT, parts)


def _line(skill: str, points: Any, most: int, mark: str, label_y: float) -> str:
    places = [(_across(p["lessons"].get(skill, 0), most), _y(p["s1"][skill])) for p in points]
    path = " ".join(f"{'M' if i == 0 else 'L'}{x:.1f},{y:.1f}" for i, (x, y) in enumerate(places))
    marks = "".join(f'<path class="after" d="{mark}" transform="translate({x:.1f},{y:.1f})"/>' for x, y in places)
    x, y = places[-1]
    # The label keeps its distance from other labels; a thin line leads back to the mark.
    return (
        f'<path class="trail" d="{path}"/>{marks}'
        f'<line class="grid" x1="{x:.1f}" y1="{y:.1f}" x2="{WIDTH - 108}" y2="{label_y:.1f}"/>'
        f'<path class="after" d="{mark}" transform="translate({WIDTH - 100},{label_y:.1f})"/>'
        f'<text x="{WIDTH - 90}" y="{label_y + 4:.1f}">{escape(_words(skill))}</text>'
    )


def _spread(heights: list[float], gap: float = 18.0) -> list[float]:
    """The heights moved apart until labels of `gap` units no longer touch, in their order, inside the picture."""
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    placed = list(heights)
    for below, above in zip(order[1:], order, strict=False):
        placed[below] = max(placed[below], placed[above] + gap)
    over = placed[order[-1]] - (HEIGHT - BOTTOM) if order else 0.0
    return [y - max(0.0, over) for y in placed]


def _svg(name: str, height: int, parts: list[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="{name}-title {name}-desc" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    )


def _title(name: str, title: str, desc: str) -> str:
    return f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-desc">{escape(desc)}</desc>'


def _spoken(report: Mapping[str, Any]) -> str:
    return "; ".join(
        f"{_words(skill)}: System 1 {percent(row['s1_before'])} before and {percent(row['s1_after'])} after "
        f"{row['n_lessons']} lessons, System 2 {percent(row['s2'])}"
        for skill, row in report["skills"].items()
    )


def _x(share: float | None) -> float:
    return LEFT + (share or 0.0) * (WIDTH - LEFT - RIGHT)


def _y(share: float | None) -> float:
    return HEIGHT - BOTTOM - (share or 0.0) * (HEIGHT - TOP - BOTTOM)


def _across(lessons: int, most: int) -> float:
    return 55 + lessons / most * (WIDTH - 55 - 150)


def _gridline(share: float, top: int, bottom: int) -> str:
    x = _x(share)
    return (
        f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>'
        f'<text class="soft" x="{x:.1f}" y="{bottom + 20}" text-anchor="middle">{percent(share)}</text>'
    )


def _level(share: float) -> str:
    y = _y(share)
    return (
        f'<line class="grid" x1="55" x2="{WIDTH - 130}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="soft" x="47" y="{y + 4:.1f}" text-anchor="end">{percent(share)}</text>'
    )


def _tick(lessons: int, most: int) -> str:
    x = _across(lessons, most)
    return f'<text class="soft" x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{lessons}</text>'


def _words(skill: str) -> str:
    return skill.replace("_", " ")
