"""Small pictures: for a terminal in characters, for a page in SVG, both in plain code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from policies.reliability import CalibrationReport, ReliabilityBin

WIDTH, HEIGHT = 60, 12  # characters of a terminal's plot
BARS = 54  # characters of a line of the reliability plot: with its numbers it fits 80
SIDE, PAD = 260, 46  # pixels of one panel of the SVG and of the space around it
FOUND, IDEAL, INK, GRID = "#1f6feb", "#8b949e", "#24292f", "#d0d7de"


def curves(series: Mapping[str, Sequence[tuple[float, float | None]]], marks: Mapping[str, float]) -> list[str]:
    """Curves over x and y in 0..1 as lines of text, each drawn with the first letter of its name; None leaves a gap.

    `marks`: x positions to name below the axis.
    """
    grid = [[" "] * (WIDTH + 1) for _ in range(HEIGHT + 1)]
    for name, points in series.items():
        for x, y in points:
            if y is not None:
                grid[HEIGHT - _cell(y, HEIGHT)][_cell(x, WIDTH)] = name[0]
    lines = [f"{1 - row / HEIGHT:4.0%} |{''.join(cells)}" for row, cells in enumerate(grid)]
    below = [" "] * (WIDTH + 1)
    for name, x in marks.items():
        below[_cell(x, WIDTH)] = name[0]
    lines += [f"     +{'-' * (WIDTH + 1)}", f"      {''.join(below)}"]
    lines += [f"      0{'threshold':^{WIDTH - 1}}1"]
    legend = ", ".join(f"{name[0]}: {name}" for name in (*series, *marks))
    return [*lines, f"      {legend}"]


def reliability(bins: Sequence[ReliabilityBin]) -> list[str]:
    """One line per bin, from least to most confident: what was promised (o), what was found (#) and its interval."""
    lines = ["promised  found    n  0%" + " " * (BARS - 6) + "100%"]
    for one in bins:
        cells = [" "] * (BARS + 1)
        low, high = _cell(one.agreement_low, BARS), _cell(one.agreement_high, BARS)
        cells[low : high + 1] = "-" * (high - low + 1)
        cells[_cell(one.agreement, BARS)] = "#"
        cells[_cell(one.confidence, BARS)] = "o" if cells[_cell(one.confidence, BARS)] != "#" else "@"
        lines.append(f"{one.confidence:8.1%} {one.agreement:6.1%} {one.n:4d}  {''.join(cells)}".rstrip())
    return [*lines, "o promised, # found with its 95 % interval, @ both"]


def reliability_svg(panels: Mapping[str, CalibrationReport]) -> str:
    """Reliability plots side by side, one for each title: found agreement over promised confidence."""
    step = SIDE + 2 * PAD
    drawn = "".join(_panel(title, one, i * step) for i, (title, one) in enumerate(panels.items()))
    size = f'width="{step * len(panels)}" height="{step}" viewBox="0 0 {step * len(panels)} {step}"'
    style = f'font-family="sans-serif" font-size="12" fill="{INK}"'
    body = f'<rect width="100%" height="100%" fill="white"/><g {style}>{drawn}</g>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">{body}</svg>\n'


def _panel(title: str, report: CalibrationReport, left: int) -> str:
    parts = [f'<g transform="translate({left + PAD},{PAD})">']
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        at = round(tick * SIDE)
        parts.append(f'<path d="M0 {SIDE - at}H{SIDE}M{at} 0V{SIDE}" stroke="{GRID}" fill="none"/>')
        parts.append(f'<text x="{at}" y="{SIDE + 16}" text-anchor="middle">{tick:g}</text>')
        parts.append(f'<text x="-6" y="{SIDE - at + 4}" text-anchor="end">{tick:g}</text>')
    parts.append(f'<path d="M0 {SIDE}L{SIDE} 0" stroke="{IDEAL}" stroke-dasharray="4 4"/>')
    parts += [_bin(one) for one in report.bins]
    line = " ".join(f"{SIDE * one.confidence:.1f},{SIDE * (1 - one.agreement):.1f}" for one in report.bins)
    parts.append(f'<polyline points="{line}" fill="none" stroke="{FOUND}" stroke-width="1.5"/>')
    parts.append(f'<text x="0" y="-24" font-weight="bold">{escape(title)}</text>')
    parts.append(f'<text x="0" y="-8">{escape(_figures(report))}</text>')
    parts.append(f'<text x="{SIDE / 2}" y="{SIDE + 34}" text-anchor="middle">promised confidence</text>')
    turned = f'transform="translate(-34,{SIDE / 2}) rotate(-90)" text-anchor="middle"'
    parts.append(f"<text {turned}>agreement with System 2</text></g>")
    return "".join(parts)


def _bin(one: ReliabilityBin) -> str:
    x, y = SIDE * one.confidence, SIDE * (1 - one.agreement)
    low, high = SIDE * (1 - one.agreement_low), SIDE * (1 - one.agreement_high)
    bar = f'<path d="M{x:.1f} {low:.1f}V{high:.1f}" stroke="{FOUND}"/>'
    told = f"promised {one.confidence:.1%}, found {one.agreement:.1%} of {one.n}"
    return f'{bar}<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{FOUND}"><title>{told}</title></circle>'


def _figures(report: CalibrationReport) -> str:
    auroc = "-" if report.auroc is None else f"{report.auroc:.3f}"
    ece = "-" if report.ece is None else f"{report.ece:.3f}"
    return f"ECE {ece}, AUROC {auroc}, {report.n} audits"


def _cell(share: float, size: int) -> int:
    return round(min(max(share, 0.0), 1.0) * size)
