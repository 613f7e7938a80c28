"""What the live adapter was taught, kept in memory so that a draft can tell how far its question is from it."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from agent.day import Day
from memory.errors import SecondNatureError
from memory.store import Memory
from policies.novelty import Lessons, lessons
from policies.skills import last_user_text

log = logging.getLogger("secondnature.novelty")
LOOK_EVERY_S = 5.0  # seconds between looks at whether another adapter is live
MOST = 10_000  # lessons compared with, the newest: what a draft may cost is a fraction of a millisecond


async def keep_lessons(day: Day, every_s: float = LOOK_EVERY_S) -> None:
    """While the service runs: put the live adapter's lessons in force, a moment after the adapter itself. A swap does
    not wait for them; until then novelty is unknown."""
    while True:
        try:
            await put_lessons(day)
        except SecondNatureError as error:
            log.error("the live adapter's lessons cannot be read: %s", error.message)
        await asyncio.sleep(every_s)


async def put_lessons(day: Day) -> None:
    """Read and hash the live adapter's lessons where that was not done yet, beside everything else."""
    adapter = day.pointer.now.adapter
    if adapter is None or day.pointer.now.lessons is not None or not day.config.system1.novelty:
        return
    found = await asyncio.to_thread(_taught, day.memory, adapter.name)
    if day.pointer.now.adapter == adapter:
        day.pointer.flip(replace(day.pointer.now, lessons=found))


def _taught(memory: Memory, adapter: str) -> Lessons:
    return lessons([last_user_text(lesson.messages) for lesson in memory.lessons(adapter)[-MOST:]])
