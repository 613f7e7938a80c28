"""When nights run by themselves: APScheduler keeps the time, policies/schedule.py decides."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from memory.errors import Conflict
from memory.store import Memory
from policies.schedule import ScheduleSettings, due, next_start, was_missed

log = logging.getLogger("secondnature.scheduler")
SEEN_EVERY_S = 60  # seconds between notes that the service is up
LOOK_EVERY_S = 30  # seconds between looks at how many lessons wait


class Scheduler:
    """Starts nights by cron, when enough lessons wait, and at the start when one was missed; never two at once."""

    def __init__(
        self,
        memory: Memory,
        settings: ScheduleSettings,
        running: Callable[[], bool],
        learn: Callable[[str], Awaitable[object]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._memory, self._settings = memory, settings
        self._running, self._learn, self._clock = running, learn, clock
        self._apscheduler = AsyncIOScheduler(timezone=UTC)

    @property
    def next_night(self) -> float | None:
        """When cron fires next, unix seconds; None: learning by itself is off."""
        return next_start(self._clock(), self._settings)

    def start(self, last_seen: float | None) -> None:
        """Begin. `last_seen`: unix seconds at which the service was last known to be up; None: never before."""
        if not self._settings.enabled:
            return
        zone = self._settings.timezone
        cron = (
            CronTrigger.from_crontab(self._settings.cron, timezone=zone)
            if zone
            else CronTrigger.from_crontab(self._settings.cron)
        )
        one = {"max_instances": 1, "coalesce": True}
        self._apscheduler.add_job(self._look, cron, kwargs={"fired": True}, **one)
        self._apscheduler.add_job(self._look, IntervalTrigger(seconds=LOOK_EVERY_S), **one)
        if was_missed(self._clock(), self._settings, last_seen=last_seen):
            self._apscheduler.add_job(self._look, kwargs={"missed": True}, next_run_time=datetime.now(UTC), **one)
        self._apscheduler.start()

    def stop(self) -> None:
        """No more nights; one under way is the daemon's to end."""
        if self._apscheduler.running:
            self._apscheduler.shutdown(wait=False)

    async def _look(self, *, fired: bool = False, missed: bool = False) -> None:
        nights = await asyncio.to_thread(self._memory.nights, 1)
        last = nights[0].started_at if nights else None
        waiting = await asyncio.to_thread(waiting_lessons, self._memory)
        found = due(
            self._clock(), self._settings, last_started=last, waiting=waiting, running=self._running(),
            fired=fired, missed=missed,
        )  # fmt: skip
        if found is None:
            return
        log.info("a night is due: %s", found.reason)
        try:
            await self._learn(found.reason)
        except Conflict as error:  # somebody started one by hand in the same moment
            log.info("no second night: %s", error.message)


async def note_seen(seen: Path) -> None:
    """Keep a file's time fresh: at the next start it says since when nobody listened."""
    while True:
        await asyncio.to_thread(seen.touch)
        await asyncio.sleep(SEEN_EVERY_S)


def waiting_lessons(memory: Memory) -> int:
    """Agreed answers that came after the last finished night began; nobody has learnt from them yet."""
    done = next((n for n in memory.nights() if n.outcome in ("promoted", "rejected", "skipped")), None)
    return memory.count_taught(since=done.started_at if done else 0.0)
