"""Figures in the documentation are written by the program that measured them, between two marks."""

from __future__ import annotations

from pathlib import Path


def write_section(page: Path, name: str, text: str) -> None:
    """Replace what stands in `page` between `<!-- name -->` and `<!-- end of name -->`.

    Raises ValueError where the page does not have both marks, in this order, once each.
    """
    head, tail = f"<!-- {name} -->", f"<!-- end of {name} -->"
    whole = page.read_text(encoding="utf-8")
    before, found, rest = whole.partition(head)
    _, closed, after = rest.partition(tail)
    if not (found and closed) or whole.count(head) != 1 or whole.count(tail) != 1:
        raise ValueError(f"{page} must hold the lines {head} and {tail} once each, in this order")
    page.write_text(f"{before}{head}\n\n{text.strip()}\n\n{tail}{after}", encoding="utf-8")
