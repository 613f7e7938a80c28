"""What the demo says while it runs: plain sentences, and a bar for whatever takes longer than two seconds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

LOG_WIDTH = 110  # columns of a table in a log
STEP = 0.25  # without a terminal a bar is a line at each quarter


class Bar(Protocol):
    """One bar: how far, of how much, a few words, and the stage they belong to."""

    def __call__(self, done: int, total: int, said: str = "", stage: str = "") -> None: ...


class Show:
    """The console, with or without a terminal behind it."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        if not self.console.is_terminal:
            self.console.width = max(self.console.width, LOG_WIDTH)

    def chapter(self, title: str, *sentences: str) -> None:
        """A part of the story begins."""
        self.console.print()
        self.console.print(f"[bold]{title}[/bold]")
        for sentence in sentences:
            self.say(sentence)

    def say(self, sentence: str) -> None:
        """One plain sentence."""
        self.console.print(f"  {sentence}", markup=False, soft_wrap=True)

    @contextmanager
    def bars(self, *names: str) -> Iterator[dict[str, Bar]]:
        """A live bar for each name, gone dark when the block ends."""
        if not self.console.is_terminal:
            yield {name: self._lines(name) for name in names}
            return
        columns = (
            TextColumn("  {task.description:<14}"), BarColumn(bar_width=32), MofNCompleteColumn(),
            TimeElapsedColumn(), TextColumn("{task.fields[said]}", markup=False),
        )  # fmt: skip
        with Progress(*columns, console=self.console) as progress:
            yield {name: _live(progress, name) for name in names}

    def _lines(self, name: str) -> Bar:
        """Lines instead of a bar: at each quarter of each stage."""
        last = (-1.0, "")

        def bar(done: int, total: int, said: str = "", stage: str = "") -> None:
            nonlocal last
            quarter = (done / total if total else 0.0) // STEP
            if (quarter, stage) != last:
                last = (quarter, stage)
                count = f"{done:>4} of {total}" if total else ""
                self.say("  ".join(word for word in (f"{name:<14}", count, stage, said) if word))

        return bar


def _live(progress: Progress, name: str) -> Bar:
    task = progress.add_task(name, total=None, said="")

    def bar(done: int, total: int, said: str = "", stage: str = "") -> None:
        words = ": ".join(word for word in (stage, said) if word)
        progress.update(task, completed=done, total=total or None, said=words)

    return bar
