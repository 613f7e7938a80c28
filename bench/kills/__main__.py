"""Kill the service, its engine and its trainer at random moments under load, and look for what was lost.

    python -m bench.kills --kills 300 --seed 1 --minutes 4 --tally docs/kills.json --docs docs/reliability.md

A real service with its supervised engine (a scripted one, behind real HTTP) and real nights that train a tiny random
model. OpenAI's client asks without pause, an operator swaps adapters or starts a night, and at a moment drawn from
the seed one of the three processes gets SIGKILL. After each restart: every acknowledged answer and feedback is in
the database, the live adapter is one that was acknowledged and it answers, rows and folders agree, nothing is
half-made. The tally is kept after every kill: a run that is ended goes on where it was, until --kills are done.
Code 1 if anything was lost; its state folder is then left for study.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from adapters.registry import reconcile
from bench.kills import tally as tallies
from bench.kills.check import missing
from bench.kills.load import Load
from bench.kills.strike import USUAL, Mix, Operator, Plan, drawn, settled, strike, until
from bench.kills.tally import Tally
from bench.kills.world import World
from bench.section import write_section
from memory.store import Memory

FIRST_QUESTIONS = 70  # thought through before the first kill, so that the nights have lessons
ORPHANS_S = 30.0  # seconds in which a trainer whose service died has ended


async def run(
    folder: Path, tally: Tally, kills: int, minutes: float, keep: Path | None = None, mix: Mix = USUAL
) -> None:
    """Go on from `tally.kills` to `kills`, for at most so many minutes; everything is added to the tally."""
    started = time.monotonic()
    world = World(folder)
    await asyncio.to_thread(world.make)
    load = Load(world.url, f"{tally.seed}/{tally.kills}")
    operator = Operator(world, tally)
    world.start()
    try:
        await world.ready()
        await _first_lessons(load)
        while tally.kills < kills and time.monotonic() - started < 60 * minutes:
            await _one(world, load, operator, drawn(tally.seed, tally.kills, mix))
            if keep:
                tallies.write(keep, tally)
        await load.stop()
        tally.lost += await _last_look(world, load, operator)
    finally:
        if world.alive():
            world.kill()
        _add(tally, load, started)


def _add(tally: Tally, load: Load, started: float) -> None:
    """This run's sums."""
    tally.runs += 1
    tally.minutes += (time.monotonic() - started) / 60
    tally.episodes += len(load.episodes)
    tally.feedback += len(load.feedback)
    tally.odd += load.odd
    for kind, n in load.failures.items():
        tally.count(tally.failures, kind, n)


async def _first_lessons(load: Load) -> None:
    load.start()
    chance = random.Random(load.seed)
    await asyncio.gather(*(load.ask(chance, "system2", "teacher") for _ in range(FIRST_QUESTIONS)))


async def _one(world: World, load: Load, operator: Operator, plan: Plan) -> None:
    tally, began = operator.tally, time.monotonic()
    said = await strike(world, load, operator, plan)
    tally.lost += [f"kill {tally.kills} ({plan}): {line}" for line in said]
    tally.kills += 1
    took = time.monotonic() - began
    print(f"{tally.kills}: {plan.victim}{' at night' if plan.night else ''}, {took:.1f} s, lost {said}", flush=True)


async def _last_look(world: World, load: Load, operator: Operator) -> list[str]:
    """Everything that was ever acknowledged in this run, once more, after the service has stopped in order."""
    said = await settled(world, load, operator, known=10**9)
    code = await asyncio.to_thread(world.stop)
    if code not in (0, -signal.SIGTERM):  # uvicorn sends itself the signal again once all is finished
        said.append(f"the service stopped with code {code}")
    await until(lambda: not list(world.adapters_dir.glob(".making-*")), ORPHANS_S)
    with Memory.open(world.state_dir) as memory:
        said += missing(memory, load.episodes, load.feedback)
        found = reconcile(memory, world.adapters_dir, world.base)
    return [*said, f"rows and folders were out of step at the end: {found}"] if found.changed else said


def main() -> int:
    """Kill, count, tell. Returns 1 where something was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300, help="kills in all, over all runs of this tally")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=60.0, help="end this run after so long; the next goes on")
    parser.add_argument("--tally", type=Path, help="JSON file that every run adds to")
    parser.add_argument("--docs", type=Path, help="page whose section `bench.kills` is written from the tally")
    given = parser.parse_args()
    tally = tallies.read(given.tally, given.seed) if given.tally else Tally(given.seed)
    folder = Path(tempfile.mkdtemp(prefix="secondnature-kills-"))
    try:
        asyncio.run(run(folder, tally, given.kills, given.minutes, given.tally))
    finally:
        if given.tally:
            tallies.write(given.tally, tally)
    text = tallies.section(tally)
    print(text)
    if given.docs:
        write_section(given.docs, "bench.kills", text)
    if tally.lost or tally.odd:
        print(f"\nlost: {tally.lost}\nodd: {tally.odd}\nthe state is in {folder}", file=sys.stderr)
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
