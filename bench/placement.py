"""What an adapter learns where it sits: each choice of projections and rank trained on the same lessons.

    python -m bench.placement [--seeds 2] [--json]

240 sums and differences of three numbers with their right answers, three passes, and 200 others that no lesson holds:
the share of them that the greedy answer gets wholly right, nats per answer token, lessons per second, the trainer's
peak memory and the adapter's size. What a choice costs while it answers, `python -m bench.lora --projections` says.
Rates are of a process that has the machine to itself; shares and nats do not depend on that.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from rich.console import Console
from rich.table import Table

from adapters.dataset import write_data
from adapters.job import Job, TrainSettings, write_job
from adapters.model import get_model
from bench.train import SIZES, heldout, ours, questions
from memory.records import Lesson

MLP, ATTENTION = ("gate", "up", "down"), ("q", "k", "v", "o")
CHOICES: Mapping[str, dict[str, Any]] = {
    "every one": {},
    "gate, up, down": {"projections": MLP},
    "q, k, v, o": {"projections": ATTENTION},
    "every one, rank 8": {"rank": 8},
    "gate, up, down, rank 8": {"projections": MLP, "rank": 8},
}
HELDOUT = 200


@dataclass(frozen=True)
class Row:
    """One choice, mean over the seeds."""

    projections: str
    right: float  # 0..1 of the questions held out
    right_by_seed: tuple[float, ...]
    nats: float  # per answer token, held out
    lessons_s: float
    peak_mib: float
    adapter_mib: float


def measure(model: str, seeds: int, threads: int) -> list[Row]:
    """Every choice with every seed (of the adapter's beginning and the order of the lessons)."""
    base, (lessons, epochs) = get_model(model), SIZES["full"]
    rows = []
    for name, choice in CHOICES.items():
        told = []
        for seed in range(seeds):
            with tempfile.TemporaryDirectory(prefix="secondnature-bench-") as folder:
                at = Path(folder)
                write_data(at / "lessons.jsonl", questions(lessons, seed=1))
                write_data(at / "heldout.jsonl", unseen(lessons))
                settings = TrainSettings(epochs=epochs, threads=threads, nice=0, device="cpu", **choice)
                job = Job(
                    number=1, base=base.path, base_identity=base.identity, data=str(at / "lessons.jsonl"),
                    out=str(at / "adapters"), seed=seed, train=settings,
                )  # fmt: skip
                write_job(at / "job.json", job)
                told.append(tried(at / "job.json"))
            print(f"{name}, seed {seed}: {told[-1]}", file=sys.stderr, flush=True)
        rows.append(row(name, told))
    return rows


def unseen(lessons: int) -> list[Lesson]:
    """Questions that are none of the lessons'."""
    known = [lesson.messages for lesson in questions(lessons, seed=1)]
    return [one for one in questions(2 * HELDOUT, seed=2) if one.messages not in known][:HELDOUT]


def tried(job: Path) -> dict[str, float]:
    """Train a job, and examine what came of it."""
    trained, adapter = ours(job)
    size = (Path(adapter) / "adapter_model.safetensors").stat().st_size / 2**20
    return {**heldout(job, adapter), "lessons_s": trained["lessons_s"], "peak_mib": trained["peak_mib"], "size": size}


def row(name: str, told: Sequence[Mapping[str, float]]) -> Row:
    """A choice's figures over its seeds."""
    over = {key: mean(one[key] for one in told) for key in told[0]}
    return Row(
        name, over["right"], tuple(one["right"] for one in told), over["nats"], over["lessons_s"], over["peak_mib"],
        over["size"],
    )  # fmt: skip


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(prog="python -m bench.placement", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="qwen2.5-coder-0.5b-instruct", help="a built-in name or a folder")
    parser.add_argument("--seeds", type=int, default=2, help="how often each choice is trained")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the trainer
    rows = measure(given.model, given.seeds, given.threads)
    if given.json:
        return print(json.dumps([asdict(one) for one in rows], indent=1))
    table = Table(title=f"{SIZES['full'][0]} lessons, {HELDOUT} questions held out, {given.seeds} seeds each")
    for name in ("projections", "right", "each seed", "nats", "lessons/s", "peak MiB", "adapter MiB"):
        table.add_column(name, justify="left" if name == "projections" else "right")
    for one in rows:
        each = " ".join(f"{share:.0%}" for share in one.right_by_seed)
        table.add_row(
            one.projections, f"{one.right:.1%}", each, f"{one.nats:.3f}", f"{one.lessons_s:.2f}",
            f"{one.peak_mib:.0f}", f"{one.adapter_mib:.1f}",
        )  # fmt: skip
    Console().print(table)


if __name__ == "__main__":
    main()
