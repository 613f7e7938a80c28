"""Asking a service that is busy, restarting or away for a while: waiting as long as it says, and telling why."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import httpx

from memory.errors import SecondNatureError, Unavailable

BUSY = frozenset({429, 502, 503})  # HTTP statuses: no room, or it starts, or a proxy finds it away; waited out
ENDS = frozenset({401, 403, 507})  # no other request would fare better: the key was revoked, the disk is full
TRIES = 3  # of a request that the engine has no answer to in its time (504)
GONE_S = 60.0  # seconds without any answer after which the service is taken for gone
LONG_S = 10.0  # seconds of waiting from which on it is told
LOOK_S = 60.0  # seconds of one wait at most: what was refused until midnight may be allowed before, and asking is free
RETRY_S = 2.0  # seconds to wait where nothing is said


class Patience:
    """Requests to one service, from any number of tasks."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        tell: Callable[[str], None],
        *,
        gone_s: float = GONE_S,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client, self._tell, self._gone_s, self._clock, self._sleep = client, tell, gone_s, clock, sleep
        self._answered = False  # whether it ever did
        self._silent_since: float | None = None  # seconds of the clock; None: the last request was answered
        self._waiting_since: float | None = None  # None: the last request was let in
        self._told = False  # that it waits

    async def post(self, path: str, body: Mapping[str, Any]) -> httpx.Response:
        """The service's answer: success, or a fault of this request's own.

        Raises Unavailable where nothing answers, at the first request at once, later after `gone_s`; and a
        SecondNatureError with the service's sentence where no other request would fare better.
        """
        late = 0
        while True:
            try:
                said = await self._client.post(path, json=body)
            except httpx.TransportError as error:
                await self._unanswered(error)
                continue
            self._answered, self._silent_since = True, None
            late += said.status_code == 504
            if said.status_code in ENDS:
                raise SecondNatureError(sentence(said))
            if said.status_code in BUSY or (said.status_code == 504 and late < TRIES):
                await self._wait(_retry_after_s(said), sentence(said))
            else:
                self._let_in()
                return said

    async def _unanswered(self, error: httpx.TransportError) -> None:
        why = str(error) or type(error).__name__
        if not self._answered:
            raise Unavailable(
                f"no service answers at {self._client.base_url} ({why}); start it with `secondnature serve`"
            )
        now = self._clock()
        self._silent_since = now if self._silent_since is None else self._silent_since
        if now - self._silent_since >= self._gone_s:
            raise Unavailable(f"the service has not answered for {duration(self._gone_s)} ({why})")
        await self._wait(min(RETRY_S, self._gone_s / 4), f"the service does not answer ({why})")

    async def _wait(self, seconds: float, why: str) -> None:
        now = self._clock()
        self._waiting_since = now if self._waiting_since is None else self._waiting_since
        if not self._told and max(seconds, now - self._waiting_since) >= LONG_S:
            self._told = True
            self._tell(f"waiting, {duration(seconds)} if nothing changes: {why}")
        await self._sleep(min(seconds, LOOK_S))

    def _let_in(self) -> None:
        if self._told:
            self._tell("going on")
        self._waiting_since, self._told = None, False


def sentence(said: httpx.Response) -> str:
    """What the service says about a fault."""
    try:
        return str(said.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"{said.request.method} {said.request.url.path} was answered {said.status_code}"


def duration(seconds: float) -> str:
    """Seconds as a person says them: "40 s", "12 min", "7 h 5 min"."""
    minutes, hours = round(seconds / 60), int(seconds / 60 + 0.5) // 60
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{hours} h {minutes % 60} min"


def _retry_after_s(said: httpx.Response) -> float:
    try:
        return max(float(said.headers.get("Retry-After", RETRY_S)), 0.1)
    except ValueError:  # the header may also be a date, where a proxy wrote it
        return RETRY_S
