"""Printing: tables for people, JSON for programs."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

console = Console()
errors = Console(stderr=True)


def as_json(value: Any) -> None:
    """One JSON document on standard output."""
    text = orjson.dumps(value, default=str, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS)
    print(text.decode())


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table; None is shown as a dash, and nothing in it is read as markup."""
    drawn = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        drawn.add_column(column, overflow="fold")
    for row in rows:
        drawn.add_row(*(_escaped(cell) for cell in row))
    console.print(drawn)


def facts(pairs: Mapping[str, Any]) -> None:
    """Names and values, one a line."""
    width = max(map(len, pairs), default=0)
    for name, value in pairs.items():
        console.print(f"[bold]{name:<{width}}[/bold]  {_escaped(value)}", highlight=False)


def when(unix: float | None) -> str:
    """Unix seconds as local time."""
    return "-" if unix is None else datetime.datetime.fromtimestamp(unix).strftime("%Y-%m-%d %H:%M:%S")


def in_words(threshold: Mapping[str, Any] | None) -> str:
    """A threshold as agent/thresholds.py tells it, with who decided it, when and why."""
    if threshold is None:
        return "no threshold was set."
    decided = f" Decided by {threshold['who']} on {when(threshold['when'])}: {threshold['why']}"
    return str(threshold["says"]) + (decided if threshold["when"] is not None else "")


def percent(share: float | None) -> str:
    """0..1 as a percentage."""
    return "-" if share is None else f"{100 * share:.1f} %"


def _escaped(cell: Any) -> str:
    return "-" if cell is None else str(cell).replace("[", "\\[")
