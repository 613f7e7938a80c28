"""The swap: load under a new name, ask what training expects, flip one pointer, drain the old, unload it.

Adapter names are never reused, because the engine's prefix cache is keyed by name: an old name would answer from
the old weights' cache. Rollback is the same operation with an older name.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.day import Day
from agent.in_force import InForce
from agent.in_turn import in_turn
from agent.system1 import draft
from memory.errors import Damaged
from memory.records import Adapter, Episode

log = logging.getLogger("secondnature.swap")
TOLERANCE = 0.25  # share of canary questions whose answer may differ: bf16 rounding flips near ties between batches


@dataclass(frozen=True, slots=True)
class Swap:
    """What a swap took."""

    adapter: str | None  # now in force; None: the base
    before: str | None  # was in force
    load_s: float  # seconds to load on every engine
    canaries: int  # canary questions asked
    differing: int  # of them answered otherwise than in the examination
    flip_s: float  # seconds from the start until the pointer pointed at the new one
    warm_s: float = 0.0  # seconds before the start in which it was loaded and read the common beginnings


@dataclass(frozen=True, slots=True)
class Expectation:
    """A question and what the adapter is known to answer to it, greedily."""

    episode: Episode
    answer: str | None  # normalised


async def load(day: Day, adapter: Adapter, folder: Path) -> float:
    """Load an adapter on every engine. Returns seconds. Raises what the engine raises."""
    started = day.clock()
    await day.engine.load_adapter(adapter.name, folder)
    return day.clock() - started


async def swap(
    day: Day,
    force: InForce,
    folder: Path | None,
    expected: Sequence[Expectation] = (),
    *,
    keep: bool = False,
    check: Callable[[], None] = lambda: None,
) -> Swap:
    """Put `force` (and its adapter) in place of what is in force; no request fails and none mixes the two.

    `keep`: leave the old adapter loaded. `check` may refuse, by raising, at the last moment before the flip. Raises
    Damaged, with nothing changed, where the adapter answers its canary questions otherwise than it did in the
    examination; else what the engine raises.
    """
    started = day.clock()
    async with day.pointer.changing:
        load_s = await load(day, force.adapter, folder) if force.adapter and folder else 0.0
        differing = await ask_canaries(day, force, expected)
        check()
        before = day.pointer.flip(force)
    flip_s = day.clock() - started
    day.metrics.live(force.adapter.name if force.adapter else None, force.adapter.digest if force.adapter else None)
    day.metrics.swap_seconds.set(flip_s)
    old = before.adapter.name if before.adapter else None
    if old and not keep and (force.adapter is None or old != force.adapter.name):
        _retiring.add(task := asyncio.create_task(retire(day, old)))
        task.add_done_callback(_retiring.discard)
    return Swap(force.adapter.name if force.adapter else None, old, load_s, len(expected), differing, flip_s)


_retiring: set[asyncio.Task[None]] = set()  # the loop holds tasks weakly


async def retire(day: Day, name: str) -> None:
    """Unload an adapter once the last request under it has ended, unless it was put in force again meanwhile. Where
    gateways follow, theirs too: nobody counts those, so they are given time."""
    await day.pointer.drained(name)
    if day.config.fleet.leads:
        await asyncio.sleep(day.config.fleet.linger_s)
        await day.pointer.drained(name)
    await unload_idle(day, name)


async def unload_idle(day: Day, name: str) -> None:
    """Out of the engine, unless it answers people by now: the swap that takes its place will retire it then."""
    async with day.pointer.changing:
        now = day.pointer.now.adapter
        if (now is None or now.name != name) and not day.pointer.in_flight(name):
            await day.engine.unload_adapter(name)
            log.info("adapter %s unloaded", name)


async def ask_canaries(day: Day, force: InForce, expected: Sequence[Expectation]) -> int:
    """How many canary questions are answered otherwise than expected. Raises Damaged above the tolerance."""
    if not expected:
        return 0

    async def differs(one: Expectation) -> bool:
        skill = day.skill_named(one.episode.ask.skill)
        said = await draft(one.episode.ask, skill, force, day.engine, day.base, day.config.system1)
        return said.answer != one.answer

    differing = sum(await in_turn(differs, expected))
    if differing > TOLERANCE * len(expected):
        assert force.adapter is not None
        raise Damaged(
            f"{force.adapter.name} answers {differing} of {len(expected)} canary questions otherwise than in its "
            "examination; it was not put in force. Look at the engine's log, then learn again"
        )
    return differing
