"""Bounded concurrency: System 1 before System 2, and an answer within milliseconds when there is no room."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import Field

from memory.errors import TooMany
from memory.settings import Settings


class AdmissionSettings(Settings):
    """How much is under way at once, per gateway."""

    system1_active: int = Field(256, ge=1, description="requests being answered at once")
    system1_waiting: int = Field(1024, ge=0, description="requests that may wait; more are answered 429")
    system2_active: int = Field(16, ge=1, description="deliberations under way at once")
    system2_waiting: int = Field(512, ge=0, description="deliberations that may wait; more are answered 429")
    audit_active: int = Field(4, ge=1, description="background audits under way at once")
    audit_waiting: int = Field(1000, ge=0, description="audits that may wait; with more, none is drawn")


class Room:
    """A bounded number inside, a bounded number at the door, the rest turned away at once."""

    def __init__(self, name: str, active: int, waiting: int) -> None:
        self.name = name
        self._limit = active + waiting
        self._inside = asyncio.Semaphore(active)
        self.occupied = 0  # inside and waiting
        self.awaited = 0  # of them, those that a person waits for

    @asynccontextmanager
    async def enter(self, *, awaited: bool = True) -> AsyncIterator[None]:
        """Wait for a place. Raises TooMany, at once, if the queue is full."""
        if self.occupied >= self._limit:
            raise TooMany(f"the {self.name} queue is full ({self.occupied} requests); retry later", retry_after_s=2.0)
        self.occupied += 1
        self.awaited += awaited
        try:
            async with self._inside:
                yield
        finally:
            self.occupied -= 1
            self.awaited -= awaited
