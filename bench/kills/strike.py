"""One kill: what the operator does meanwhile, when it strikes, what must hold afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import psutil

from adapters.manifest import MANIFEST
from bench.kills.check import disagreements, missing
from bench.kills.load import Load
from bench.kills.tally import Tally
from bench.kills.world import LOOK_S, World
from memory.records import AdapterStatus
from memory.store import Memory

SETTLED_S = 30.0  # seconds in which everything must hold again
NIGHT_S = 90.0  # seconds a night may take on a busy machine
ENGINE_GUARD = "agent.engine.child"  # the small process between the daemon and the engine


@dataclass(frozen=True)
class Plan:
    """What one kill is, from the seed and its number alone."""

    victim: str  # daemon, engine or trainer
    night: bool  # while a night runs; else while adapters are swapped to and fro
    late: bool  # at night: not before the trainer makes steps
    after_s: float  # seconds that it is waited then
    guard: bool  # of the engine: its guard dies, not itself


@dataclass(frozen=True)
class Mix:
    """How often each process is the victim (weights), and how often a night runs when it is not the trainer."""

    daemon: float = 45
    engine: float = 40
    trainer: float = 15
    night: float = 0.12  # 0..1


USUAL = Mix()


def drawn(seed: int, number: int, mix: Mix = USUAL) -> Plan:
    """The plan of a kill."""
    chance = random.Random(f"{seed}/{number}")
    victim = chance.choices(("daemon", "engine", "trainer"), (mix.daemon, mix.engine, mix.trainer))[0]
    night = victim == "trainer" or chance.random() < mix.night
    late = chance.random() < 2 / 3
    longest = 0.6 if not night else (0.8 if victim == "trainer" else 2.5) if late else 5.0
    return Plan(victim, night, late, chance.uniform(0.0, longest), chance.random() < 0.25)


@dataclass
class Operator:
    """Who swaps and learns, and what it was told."""

    world: World
    tally: Tally
    live: str | None = None  # the adapter of the last acknowledged swap
    maybe: str | None = None  # one that was asked for and not acknowledged
    night_maybe: bool = False  # a night was asked for and its outcome was not told

    async def swap(self) -> None:
        """Promote what can be promoted, in turn and without pause, until cancelled or cut off."""
        async with httpx.AsyncClient(base_url=self.world.url, timeout=60) as http:
            for turn in range(1_000_000):
                with contextlib.suppress(httpx.TransportError):
                    await self._promote(http, turn)
                await asyncio.sleep(LOOK_S)

    async def _promote(self, http: httpx.AsyncClient, turn: int) -> None:
        names = sorted(path.parent.name for path in self.world.adapters_dir.glob(f"sn-*/{MANIFEST}"))
        self.maybe = name = names[turn % len(names)]
        said = await http.post(f"/api/adapters/{name}/promote", json={"why": "kills", "now": True})
        if said.status_code == 200:
            self.live = name
            self.tally.swaps += 1
        elif said.status_code >= 500 and said.status_code not in (503, 504):
            self.tally.lost.append(f"a swap was answered {said.status_code}: {said.text[:200]}")
        self.maybe = None

    async def night(self) -> None:
        """One night, to its end."""
        self.night_maybe = True
        async with httpx.AsyncClient(base_url=self.world.url, timeout=NIGHT_S) as http:
            with contextlib.suppress(httpx.TransportError):
                said = await http.post("/api/night", json={"why": "kills", "wait": True})
                if said.status_code == 200:
                    told = said.json()
                    self.tally.count(self.tally.nights, told["outcome"])
                    if told["outcome"] == "promoted":
                        self.live = told["adapter"]
                    self.night_maybe = False

    def may_be_live(self, name: str | None, known: int) -> bool:
        """Whether the live adapter is one that was acknowledged, or at least asked for. `known`: the highest number
        of an adapter before the night that was not told of."""
        return name in (self.live, self.maybe) or (self.night_maybe and name is not None and number(name) > known)


def number(name: str) -> int:
    """An adapter's number."""
    return int(name.split("-")[1])


async def until(look: Callable[[], Any], seconds: float) -> Any:
    """The first true thing that `look` gives; None after so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        await asyncio.sleep(LOOK_S)
    return None


async def strike(world: World, load: Load, operator: Operator, plan: Plan) -> list[str]:
    """Do it, bring everything back, and say what does not hold."""
    known = max(map(number, _folders(world)), default=0)
    before = (len(load.episodes), len(load.feedback))
    busy = asyncio.create_task(operator.night() if plan.night else operator.swap())
    try:
        struck = await _hit(world, plan, busy)
    except psutil.NoSuchProcess:  # it ended in this very moment
        struck = None
    operator.tally.too_late += struck is None
    if struck is not None:
        moment = "a night runs" if plan.night else "adapters are swapped"
        operator.tally.count(operator.tally.by, f"{plan.victim} while {moment}")
    if plan.victim == "daemon" or not plan.night:
        busy.cancel()
    await asyncio.gather(busy, return_exceptions=True)
    await _again(world, plan, struck)
    if struck is not None:
        operator.tally.ready_s.append(round(time.monotonic() - struck, 2))
    said = await settled(world, load, operator, known, before)
    operator.maybe, operator.night_maybe = None, False
    return said


async def _hit(world: World, plan: Plan, busy: asyncio.Task[None]) -> float | None:
    """Wait for the moment and kill. Returns the time of the kill; None: there was nothing left to kill."""
    if plan.night:
        await until(lambda: busy.done() or world.trainer(), NIGHT_S)
        if plan.late:
            await _training(world, busy)
    await asyncio.sleep(plan.after_s)
    if plan.victim == "daemon":
        world.kill()
        return time.monotonic()
    victim = world.trainer() if plan.victim == "trainer" else await until(world.engine, SETTLED_S)
    if victim is None:
        return None
    if plan.victim == "engine" and plan.guard and ENGINE_GUARD in (parent := victim.parent()).cmdline():
        victim = parent
    victim.kill()
    await until(lambda: not _runs(victim), SETTLED_S)
    return time.monotonic()


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def _training(world: World, busy: asyncio.Task[None]) -> None:
    """Until the trainer has made a step, or the night is over."""
    async with httpx.AsyncClient(base_url=world.url, timeout=10) as http:
        while not busy.done():
            with contextlib.suppress(httpx.TransportError):
                now = (await http.get("/api/night")).json()["progress"]
                if now["stage"] == "distil" and now["done"] >= 1:
                    return
            await asyncio.sleep(LOOK_S)


async def _again(world: World, plan: Plan, struck: float | None) -> None:
    if plan.victim == "daemon" and struck is not None:
        world.start()
    await world.ready()


async def settled(
    world: World, load: Load, operator: Operator, known: int, before: tuple[int, int] = (0, 0)
) -> list[str]:
    """What does not hold after SETTLED_S seconds; empty as soon as everything holds.

    `before`: how much had been acknowledged at the last check; only what came since is looked up.
    """
    episodes, feedback = load.episodes[before[0] :], load.feedback[before[1] :]
    deadline = time.monotonic() + SETTLED_S
    while True:
        said = await _problems(world, operator, known, lambda m: missing(m, episodes, feedback))
        if not said or time.monotonic() > deadline:
            return said
        await asyncio.sleep(10 * LOOK_S)


async def _problems(world: World, operator: Operator, known: int, absent: Callable[[Memory], list[str]]) -> list[str]:
    with Memory.open(world.state_dir, read_only=True) as memory:
        said = await asyncio.to_thread(absent, memory)
        rows = memory.adapters()
        said += await asyncio.to_thread(disagreements, rows, world.adapters_dir)
    live = next((row.name for row in rows if row.status is AdapterStatus.LIVE), None)
    if not operator.may_be_live(live, known):
        said.append(f"{live} is live, but {operator.live} was acknowledged ({operator.maybe} was asked for)")
    answers = await _in_force(world)
    if answers != live:
        said.append(f"{answers} answers, but the registry's live adapter is {live}")
    if not said:
        operator.live = live
    return said


async def _in_force(world: World) -> str | None:
    async with httpx.AsyncClient(base_url=world.url, timeout=60) as http:
        status: dict[str, Any] = (await http.get("/api/status")).json()
    live: str | None = status["adapter"]
    return live


def _folders(world: World) -> list[str]:
    return [path.parent.name for path in world.adapters_dir.glob(f"sn-*/{MANIFEST}")]
