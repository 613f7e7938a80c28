"""A trainer beside people: it works a share of the time while they wait, all of it else, and never stays stopped."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from agent.give_way import LOOK_S, WORK_S, give_way
from day_fakes import ScriptedEngine, day

ROOT = Path(__file__).parent.parent
ENOUGH_S = 20.0  # seconds within which a busy machine gets round to it


@pytest.fixture
def worker() -> Iterator[psutil.Process]:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True) as process:
        yield psutil.Process(process.pid)
        process.kill()


async def seen(worker: psutil.Process, state: str) -> bool:
    """Whether it comes to be in that state."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(ENOUGH_S):
            while worker.status() != state:
                await asyncio.sleep(LOOK_S / 4)
            return True
    return False


async def test_it_stops_and_goes_on_while_somebody_waits(worker: psutil.Process) -> None:
    giving = asyncio.create_task(give_way(worker.pid, 0.25, lambda: True))
    for _ in range(3):
        assert await seen(worker, psutil.STATUS_STOPPED)
        assert await seen(worker, psutil.STATUS_RUNNING)
    giving.cancel()


async def test_it_goes_on_at_once_when_nobody_waits_any_more(worker: psutil.Process) -> None:
    waiting = True
    giving = asyncio.create_task(give_way(worker.pid, 0.001, lambda: waiting))  # the pause would take 100 s
    assert await seen(worker, psutil.STATUS_STOPPED)
    waiting = False
    assert await seen(worker, psutil.STATUS_RUNNING)
    giving.cancel()


async def test_one_that_is_stopped_goes_on_when_the_watch_ends(worker: psutil.Process) -> None:
    giving = asyncio.create_task(give_way(worker.pid, 0.001, lambda: True))
    assert await seen(worker, psutil.STATUS_STOPPED)
    giving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await giving
    assert await seen(worker, psutil.STATUS_RUNNING)


async def test_a_whole_share_is_never_stopped_and_a_dead_group_is_left(worker: psutil.Process) -> None:
    await give_way(worker.pid, 1.0, lambda: True)
    worker.kill()
    worker.wait()
    ended = asyncio.create_task(give_way(worker.pid, 0.5, lambda: True))
    await asyncio.wait([ended], timeout=ENOUGH_S + WORK_S)
    assert ended.done()


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells a child of its parent's death")
def test_a_stopped_trainer_does_not_outlive_the_service() -> None:
    child = (
        "import os, time; from adapters.process import end_with_parent; end_with_parent(os.getppid()); "
        "print('up', flush=True); time.sleep(600)"
    )
    parent = (
        f"import subprocess, sys; one = subprocess.Popen([sys.executable, '-c', {child!r}], stdout=subprocess.PIPE); "
        "one.stdout.readline(); print(one.pid, flush=True); one.wait()"
    )
    with subprocess.Popen([sys.executable, "-c", parent], cwd=ROOT, stdout=subprocess.PIPE, text=True) as service:
        assert service.stdout is not None
        trainer = psutil.Process(int(service.stdout.readline()))
        trainer.suspend()
        service.kill()
    psutil.wait_procs([trainer], timeout=ENOUGH_S)
    assert not trainer.is_running() or trainer.status() == psutil.STATUS_ZOMBIE


async def test_people_wait_for_questions_and_nobody_for_practice(tmp_path: Path) -> None:
    one = day(tmp_path, ScriptedEngine(lambda model, text: "7"))
    assert not one.people_wait()
    async with one.system2_room.enter(awaited=False):
        assert not one.people_wait()
        async with one.system1_room.enter():
            assert one.people_wait()
    assert not one.people_wait()
    one.memory.close()
