"""The report's table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table


def table(report: Mapping[str, Any]) -> Table:
    """Before and after per skill: System 1, System 2, share, tokens, latency."""
    made = Table(
        title=f"Before → after the night ({report['adapter']})",
        title_justify="left",
        box=None,
        padding=(0, 1, 0, 0),
    )
    made.add_column("skill", no_wrap=True)
    for name in ("lessons", "right", "System 1", "System 2", "by Sys. 1", "tokens", "wait"):
        made.add_column(name, justify="right", no_wrap=True)
    for skill, row in report["skills"].items():
        made.add_row(skill, *cells(row))
    return made


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """One skill's cells, after its name; the columns of `table`."""
    return (
        str(row["n_lessons"]),
        percent(row["lesson_precision"]),
        change(percent(row["s1_before"]), percent(row["s1_after"])),
        percent(row["s2"]),
        change(percent(row["system1_share_before"]), percent(row["system1_share_after"])),
        change(number(row["tokens_before"]), number(row["tokens_after"])),
        change(seconds(row["median_s_before"]), seconds(row["median_s_after"])),
    )


def change(before: str, after: str) -> str:
    """ "29 %", "59 %" -> "29 → 59 %": a unit that both share is said once."""
    value, _, unit = before.partition(" ")
    return f"{value if after.endswith(f' {unit}') else before} → {after}"


def percent(share: float | None) -> str:
    """0.594 -> "59 %"."""
    return "-" if share is None else f"{share:.0%}".replace("%", " %")


def number(value: float | None) -> str:
    """121.6 -> "122", 4.25 -> "4.2"."""
    return "-" if value is None else f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def seconds(value: float | None) -> str:
    """7.21 -> "7.2 s"."""
    return "-" if value is None else f"{value:.2f} s" if value < 1 else f"{number(value)} s"
