"""Many questions for the engine, a bounded number under way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from memory.errors import SecondNatureError

A = TypeVar("A")
B = TypeVar("B")
AT_ONCE = 32  # under way at once; the engine batches them


async def in_turn(
    one: Callable[[A], Awaitable[B]], many: Sequence[A], done: Callable[[int], None] = lambda n: None
) -> list[B]:
    """The results in order, AT_ONCE at a time. The first fault cancels the rest and is raised as itself."""
    gate, finished = asyncio.Semaphore(AT_ONCE), 0

    async def bounded(item: A) -> B:
        nonlocal finished
        async with gate:
            result = await one(item)
        finished += 1
        done(finished)
        return result

    tasks = [asyncio.ensure_future(bounded(item)) for item in many]
    try:
        return list(await asyncio.gather(*tasks))
    except (SecondNatureError, asyncio.CancelledError):
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
