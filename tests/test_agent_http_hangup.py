"""A caller who hangs up ends the work, and only that caller's hanging up is called so."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.requests import Request

from agent.http.chat import until_gone
from memory.errors import CallerGone


class Line:
    """A connection that says it is closed once `cut` is set."""

    def __init__(self) -> None:
        self.cut, self.left = asyncio.Event(), False  # left: nobody listens for the hanging up any more
        self.request = Request({"type": "http", "method": "POST", "path": "/", "headers": []}, receive=self.receive)

    async def receive(self) -> Any:
        try:
            await self.cut.wait()
        except asyncio.CancelledError:
            self.left = True
            raise
        return {"type": "http.disconnect"}


class Work:
    """Begins, waits for leave to end, and knows whether it was stopped."""

    def __init__(self) -> None:
        self.begun, self.leave, self.stopped = asyncio.Event(), asyncio.Event(), False

    async def run(self) -> str:
        self.begun.set()
        try:
            await self.leave.wait()
        except asyncio.CancelledError:
            self.stopped = True
            raise
        return "done"


async def test_a_caller_who_hangs_up_stops_the_work() -> None:
    line, work = Line(), Work()
    task = asyncio.create_task(until_gone(line.request, work.run()))
    await work.begun.wait()
    line.cut.set()
    with pytest.raises(CallerGone):
        await task
    assert work.stopped


async def test_work_that_ends_is_answered_and_the_connection_is_left_alone() -> None:
    line, work = Line(), Work()
    task = asyncio.create_task(until_gone(line.request, work.run()))
    await work.begun.wait()
    work.leave.set()
    assert await task == "done"
    await asyncio.sleep(0)
    assert line.left


async def test_a_deadline_from_outside_is_not_taken_for_a_hangup() -> None:
    line, work = Line(), Work()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await until_gone(line.request, work.run())
    assert work.stopped
    task = asyncio.create_task(until_gone(line.request, Work().run()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
