"""When nights run by themselves: APScheduler's timer with our decision, on a real memory and a set clock."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

from agent.scheduler import Scheduler, waiting_lessons
from memory.errors import Conflict
from memory.store import Memory
from memory_fakes import episode
from policies.schedule import ScheduleSettings

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC).timestamp()
DAILY = {"cron": "0 3 * * *", "timezone": "UTC", "min_new_lessons": 1}


class Learner:
    """Counts the nights it is asked for."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.asked = asyncio.Event()

    async def __call__(self, reason: str) -> None:
        self.reasons.append(reason)
        self.asked.set()


def scheduler(memory: Memory, learner: Learner, *, running: bool = False, **settings: object) -> Scheduler:
    return Scheduler(
        memory, ScheduleSettings.model_validate(DAILY | settings), lambda: running, learner, clock=lambda: NOON
    )


def memory_with(tmp_path: Path, lessons: int) -> Memory:
    """A memory that holds agreed answers which nobody has learnt."""
    memory = Memory.open(tmp_path, clock=lambda: NOON)
    for number in range(lessons):
        memory.remember(episode(number))
    memory.flush()
    return memory


async def test_a_night_missed_while_the_service_was_down_runs_at_the_start(tmp_path: Path) -> None:
    memory, learner = memory_with(tmp_path, 40), Learner()
    assert waiting_lessons(memory) > 0
    one = scheduler(memory, learner)
    one.start(last_seen=NOON - 86_400)
    await asyncio.wait_for(learner.asked.wait(), 10)
    one.stop()
    assert "missed" in learner.reasons[0]
    memory.close()


async def test_nothing_was_missed_by_a_service_that_was_up_since_the_last_night(tmp_path: Path) -> None:
    memory, learner = memory_with(tmp_path, 40), Learner()
    one = scheduler(memory, learner)
    one.start(last_seen=NOON - 60)
    await one._look()
    one.stop()
    assert learner.reasons == []
    memory.close()


async def test_enough_lessons_start_a_night_without_waiting_for_the_hour(tmp_path: Path) -> None:
    memory, learner = memory_with(tmp_path, 40), Learner()
    await scheduler(memory, learner, enough_lessons=waiting_lessons(memory))._look()
    assert len(learner.reasons) == 1
    memory.close()


async def test_never_two_nights_at_once(tmp_path: Path) -> None:
    memory, learner = memory_with(tmp_path, 40), Learner()
    await scheduler(memory, learner, running=True, enough_lessons=1)._look(fired=True)
    assert learner.reasons == []

    async def conflict(reason: str) -> None:
        learner.reasons.append(reason)
        raise Conflict("already under way")

    settings = ScheduleSettings.model_validate(DAILY)
    await Scheduler(memory, settings, lambda: False, conflict, clock=lambda: NOON)._look(fired=True)
    assert len(learner.reasons) == 1  # the conflict was taken calmly
    memory.close()


def test_the_next_night_is_when_cron_fires_next(tmp_path: Path) -> None:
    memory = memory_with(tmp_path, 0)
    assert scheduler(memory, Learner()).next_night == datetime(2026, 11, 21, 3, 0, tzinfo=UTC).timestamp()
    assert scheduler(memory, Learner(), enabled=False).next_night is None
    memory.close()
