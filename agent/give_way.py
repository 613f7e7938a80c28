"""A night's trainer on the day's processors: while people wait for answers it works a share of the time only.

A low priority alone does not do it: the engine's threads wait for each other at every step of the model, and the
kernel's turns and the shared caches and memory make the slowest of them late (LOG.md, "What a night costs the day").
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from time import monotonic

WORK_S = 0.1  # seconds of work in a row while somebody waits
LOOK_S = 0.02  # seconds between two looks whether somebody still does


async def give_way(group: int, share: float, busy: Callable[[], bool]) -> None:
    """Stop and continue a process group so that it works `share` (above 0 to 1) of the time in which it is `busy`.

    Runs until it is cancelled or the group is gone; the group goes on then.
    """
    if share >= 1:
        return
    pause_s = WORK_S * (1 - share) / share
    try:
        while True:
            await asyncio.sleep(WORK_S)
            if busy():
                os.killpg(group, signal.SIGSTOP)
                until = monotonic() + pause_s
                while busy() and (left := until - monotonic()) > 0:  # noqa: ASYNC110 - whoever answers knows nothing of it
                    await asyncio.sleep(min(LOOK_S, left))
                os.killpg(group, signal.SIGCONT)
    except ProcessLookupError:
        return
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGCONT)
