"""What a night's training costs the day on the same processors: the day's latencies beside it and without it.

    python -m bench.beside [--rounds 2] [--seconds 40] [--clients 4] [--json]

A service with the real engine is asked short questions (`mode: system1`) without a pause, in turn without a trainer
and beside one of each kind: the trainer as delivered, which works a quarter of the time that somebody waits
(`train.busy_share`), and one that never gives way. Each time the trainer's first
steps are waited for, and it is ended afterwards. The figures to compare are p50 and p99 over those without a trainer
in the same run, and how many lessons a second the trainer made meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from rich.console import Console
from rich.table import Table

from adapters.dataset import write_data
from adapters.job import Job, TrainSettings, write_job
from adapters.model import get_model
from agent.give_way import give_way
from bench.gateway import SYSTEM1, Client, burst
from bench.served import MODEL, served
from bench.train import questions

WAYS: Mapping[str, dict[str, Any] | None] = {
    "none": None,
    "as delivered": {},
    "never gives way": {"busy_share": 1.0},
}
LESSONS = 2000  # more than it can learn before it is ended
FIRST_STEPS = 2


@dataclass
class Trainer:
    """A trainer under way."""

    lessons: int = 0  # seen so far


@dataclass(frozen=True)
class Row:
    """One way, all rounds together."""

    way: str
    answers: int
    p50_ms: float
    p99_ms: float
    p50_ratio: float  # to no trainer
    p99_ratio: float
    answers_s: float
    lessons_s: float


async def measure(rounds: int, seconds: float, at_once: int) -> list[Row]:
    """Each way once a round, in turn. Raises RuntimeError where a request or the trainer fails."""
    took: dict[str, list[float]] = {way: [] for way in WAYS}
    learnt = dict.fromkeys(WAYS, 0)
    with served() as one, tempfile.TemporaryDirectory() as folder:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            client = Client(session, one.url, "any", SYSTEM1, seed=31)
            await burst(client, at_once, seconds / 4)  # warm
            for turn in range(rounds):
                for way, settings in WAYS.items():
                    async with training(Path(folder) / f"{turn}-{way[:7]}", settings) as trainer:
                        before = trainer.lessons
                        times, _ = await burst(client, at_once, seconds)
                        took[way] += times
                        learnt[way] += trainer.lessons - before
                    print(f"{way}: {len(took[way])} answers", file=sys.stderr, flush=True)
    alone = took["none"]
    return [row(way, took[way], alone, learnt[way], rounds * seconds) for way in WAYS]


@contextlib.asynccontextmanager
async def training(folder: Path, how: dict[str, Any] | None) -> AsyncIterator[Trainer]:
    """The night's trainer, over its first steps, ended on leaving; `how` None: nobody trains."""
    trainer, warm = Trainer(), asyncio.Event()
    if how is None:
        yield trainer
        return
    settings = TrainSettings(device="cpu", **how)
    job = prepared(folder, settings)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "adapters.train", str(job), stdout=asyncio.subprocess.PIPE, start_new_session=True
    )

    async def listen() -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            event = json.loads(line)
            if event["event"] == "progress":
                trainer.lessons = event["step"] * settings.batch
                if event["step"] >= FIRST_STEPS:
                    warm.set()
        warm.set()

    listening = asyncio.create_task(listen())
    try:
        await warm.wait()
        if listening.done():
            raise RuntimeError(f"the trainer ended with code {await process.wait()}")
        giving = asyncio.create_task(give_way(process.pid, settings.busy_share, lambda: True))
        yield trainer
        giving.cancel()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await listening


def prepared(folder: Path, settings: TrainSettings) -> Path:
    """A job of many lessons; its file."""
    folder.mkdir(parents=True)
    base = get_model(MODEL)
    write_data(folder / "lessons.jsonl", questions(LESSONS, seed=3))
    job = Job(
        number=1, base=base.path, base_identity=base.identity, data=str(folder / "lessons.jsonl"),
        out=str(folder / "adapters"), train=settings,
    )  # fmt: skip
    write_job(folder / "job.json", job)
    return folder / "job.json"


def row(way: str, took: list[float], alone: list[float], lessons: int, seconds: float) -> Row:
    """A way's figures beside those without a trainer."""
    p50, p99 = (float(np.percentile(took, q)) for q in (50, 99))
    calm50, calm99 = (float(np.percentile(alone, q)) for q in (50, 99))
    return Row(way, len(took), p50, p99, p50 / calm50, p99 / calm99, len(took) / seconds, lessons / seconds)


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(prog="python -m bench.beside", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2, help="how often each way is measured")
    parser.add_argument("--seconds", type=float, default=40, help="of load each time")
    parser.add_argument("--clients", type=int, default=4, help="who ask without a pause")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows = asyncio.run(measure(given.rounds, given.seconds, given.clients))
    if given.json:
        return print(json.dumps([asdict(one) for one in rows], indent=1))
    table = Table(title=f"{given.clients} clients that never pause, {given.rounds} times {given.seconds:g} s each")
    for name in ("trainer", "answers", "p50 ms", "ratio", "p99 ms", "ratio", "answers/s", "lessons/s"):
        table.add_column(name, justify="left" if name == "trainer" else "right")
    for one in rows:
        table.add_row(
            one.way, str(one.answers), f"{one.p50_ms:.0f}", f"{one.p50_ratio:.2f}", f"{one.p99_ms:.0f}",
            f"{one.p99_ratio:.2f}", f"{one.answers_s:.2f}", f"{one.lessons_s:.2f}",
        )  # fmt: skip
    Console().print(table)


if __name__ == "__main__":
    main()
