"""What was tried and what was lost, over any number of runs: a JSON file that each run adds to."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

VICTIMS = {"daemon": "the service", "engine": "the engine", "trainer": "the trainer"}


@dataclass
class Tally:
    """Sums over all runs of one seed."""

    seed: int
    kills: int = 0  # how many were planned and done: the next run goes on with this one
    by: dict[str, int] = field(default_factory=dict)  # "daemon while swapping" -> kills
    too_late: int = 0  # the trainer had finished before the moment that was drawn; nothing was killed
    episodes: int = 0  # acknowledged answers
    feedback: int = 0  # acknowledged feedback
    swaps: int = 0  # acknowledged promotions by hand
    nights: dict[str, int] = field(default_factory=dict)  # outcome -> nights
    failures: dict[str, int] = field(default_factory=dict)  # what clients were told instead of an answer
    lost: list[str] = field(default_factory=list)  # every broken promise, in words
    odd: list[str] = field(default_factory=list)  # failures that nothing explains, in words
    runs: int = 0
    minutes: float = 0.0
    ready_s: list[float] = field(default_factory=list)  # seconds from each kill until questions were answered again

    def count(self, kind: dict[str, int], name: str, n: int = 1) -> None:
        """Add to one of the dictionaries."""
        kind[name] = kind.get(name, 0) + n


def read(path: Path, seed: int) -> Tally:
    """The tally so far; a new one where there is none. Raises ValueError where it is another seed's."""
    if not path.exists():
        return Tally(seed)
    found = Tally(**json.loads(path.read_text(encoding="utf-8")))
    if found.seed != seed:
        raise ValueError(f"{path} was made with --seed {found.seed}; give that, or another file")
    return found


def write(path: Path, tally: Tally) -> None:
    """Keep it: whole, or as it was before."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(asdict(tally), indent=1), encoding="utf-8")
    part.replace(path)


def section(tally: Tally) -> str:
    """The tally in Markdown."""
    rows = ["| killed (SIGKILL) | while | times |", "|---|---|---:|"]
    for name, n in sorted(tally.by.items()):
        victim, _, moment = name.partition(" while ")
        rows.append(f"| {VICTIMS[victim]} | {moment} | {n} |")
    killed = sum(tally.by.values())
    nights = ", ".join(f"{n} {outcome}" for outcome, n in sorted(tally.nights.items()))
    told = ", ".join(f"{n} {kind}" for kind, n in sorted(tally.failures.items()))
    again = sorted(tally.ready_s)
    waits = f"{again[len(again) // 2]:.1f} s in the median, {again[-1]:.1f} s at most" if again else "-"
    lost = "**Lost: nothing.**" if not tally.lost else f"**Lost: {len(tally.lost)}** - " + "; ".join(tally.lost[:10])
    return "\n".join([
        *rows, "",
        f"{killed} kills in {tally.runs} runs, {tally.minutes:.0f} minutes. Acknowledged meanwhile: "
        f"{tally.episodes} answers, {tally.feedback} feedbacks, {tally.swaps} swaps; nights: {nights or 'none'}. "
        f"Not answered, and told so: {told or 'none'}. Questions were answered again after {waits}. {lost}",
    ])  # fmt: skip
