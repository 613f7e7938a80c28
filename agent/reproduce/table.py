"""A task's section of docs/paper.md: markdown from the measured rows, and the place where it goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from agent.reproduce.rows import Mean, Row, Share
from agent.reproduce.tasks import PaperRow, Task

HEAD = """# The paper's tables on one's own model

"Distilling System 2 into System 1" (Yu, Xu, Weston and Kulikov 2024, arXiv 2407.06023) measured Llama-2-70B-chat.
`secondnature reproduce TASK` runs the same rows on the service's own base model: System 1, each System 2, and adapters
distilled from self-consistent direct answers (Distill System 1), from System 2 behind the filter, and from System 2
without it. Brackets hold Wilson's 95 % interval; tokens are generated tokens per test prompt, all calls and samples
together, as mean ± 1.96 sd / √n (95 %, n test prompts). The paper's numbers stand beside ours for the shape, not for
the level: its model is 140 times larger.
"""
ORDER = ("coin-flip", "last-letter", "biased-opinion", "judge", "gsm8k")


def markdown(task: Task, rows: Sequence[Row], said: Sequence[str], facts: Mapping[str, str]) -> str:
    """The section: what was run, headroom, the table, what came of it."""
    paper = {row.name: row for row in task.paper}
    measures = next((list(row.shares) for row in rows if row.shares), list(task.paper_measures))
    head = ["row", *measures, "tokens", *(f"paper: {name}" for name in (*task.paper_measures, "tokens"))]
    lines = [_line(head), _line(["---", *["--:"] * (len(head) - 1)])]
    names = [row.name for row in rows]
    for row in rows:
        lines.append(_line([row.name, *_measured(row, measures), *_printed(paper.get(row.name), task)]))
    for only in task.paper:
        if only.name not in names:
            lines.append(_line([f"{only.name} (the paper alone)", *["-"] * (len(measures) + 1), *_printed(only, task)]))
    told = [f"- {name}: {value}" for name, value in facts.items()]
    learnt = [_learnt(row) for row in rows if row.lessons is not None]
    parts = [f"## {task.title}", task.setup, "\n".join(told), said[0] if said else "", "\n".join(lines)]
    parts += ["\n".join(f"- {sentence}" for sentence in (*learnt, *said[1:]))]
    return "\n\n".join(part for part in parts if part) + "\n"


def _measured(row: Row, measures: Sequence[str]) -> list[str]:
    shares = [shown(row.shares.get(name)) for name in measures]
    return [*shares, counted(row.tokens)]


def _printed(row: PaperRow | None, task: Task) -> list[str]:
    if row is None:
        return ["-"] * (len(task.paper_measures) + 1)
    values = [f"{value:g} %" if value is not None else "-" for value in row.values]
    return [*values, "-" if row.tokens is None else f"{row.tokens:g}"]


def _learnt(row: Row) -> str:
    right = f", {shown(row.precision)} of their targets right" if row.precision else ""
    seconds = f", trained in {row.train_s:.0f} s" if row.train_s is not None else ""
    return f"{row.name}: {row.lessons} lessons{right}{seconds}."


def shown(share: Share | None) -> str:
    """ "62.5 % [51, 73]"; a dash where nothing was measured."""
    if share is None or share.value is None:
        return "-"
    low, high = share.interval
    return f"{100 * share.value:.1f} % [{100 * low:.0f}, {100 * high:.0f}]"


def counted(mean: Mean | None) -> str:
    """ "33.6 ± 1.2": a mean and half its interval; a dash where nothing was measured."""
    if mean is None:
        return "-"
    return f"{mean.value:.1f}" + ("" if mean.half is None else f" ± {mean.half:.1f}")


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def put(path: Path, name: str, section: str) -> None:
    """Write a task's section into the page, in place of its earlier one; other sections and words stay."""
    page = path.read_text(encoding="utf-8") if path.exists() else HEAD
    sections = _sections(page)
    sections[name] = section.strip()
    head = page.split("<!-- task:", 1)[0].strip()
    ordered = sorted(sections, key=lambda n: ORDER.index(n) if n in ORDER else len(ORDER))
    body = "\n\n".join(f"<!-- task: {n} -->\n{sections[n]}\n<!-- end: {n} -->" for n in ordered)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{head}\n\n{body}\n", encoding="utf-8")


def _sections(page: str) -> dict[str, str]:
    found = {}
    for part in page.split("<!-- task: ")[1:]:
        name, rest = part.split(" -->\n", 1)
        found[name] = rest.split(f"\n<!-- end: {name} -->", 1)[0]
    return found
