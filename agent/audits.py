"""Audits: a share of System 1's answers is thought through in the background, never in a user's way."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable

from agent.in_force import InForce
from memory.errors import SecondNatureError
from memory.records import Ask, Audit, Deliberation, Episode
from memory.store import Memory
from policies.audit import AuditSettings, audit_probability
from policies.skills import SkillSettings

log = logging.getLogger("secondnature.audits")
Think = Callable[[Ask, SkillSettings], Awaitable[Deliberation]]
Saw = Callable[[Episode, Audit], Awaitable[None]]


async def nobody(_episode: Episode, _audit: Audit) -> None:
    """Watches nothing."""


class Audits:
    """A bounded queue of answers to check, worked off at the lowest priority."""

    def __init__(self, memory: Memory, settings: AuditSettings, active: int, waiting: int) -> None:
        self._memory = memory
        self._settings = settings
        self._active = active
        self._queue: asyncio.Queue[tuple[Episode, SkillSettings]] = asyncio.Queue(waiting)
        self._accepted: Counter[str] = Counter()  # answers accepted so far, by adapter
        self._workers: list[asyncio.Task[None]] = []
        self._saw: Saw = nobody

    @property
    def waiting(self) -> int:
        """Audits drawn and not yet done."""
        return self._queue.qsize()

    def probability(self, confidence: float | None, threshold: float | None, force: InForce) -> float:
        """The chance of auditing this answer if it is accepted; 0 while the queue is full, and logged as such."""
        if self._queue.full():
            return 0.0
        name = force.adapter.name if force.adapter else ""
        return audit_probability(confidence, threshold, self._accepted[name], self._settings)

    def accepted(self, adapter: str | None) -> None:
        """Count one accepted answer: a new adapter's first ones are audited more."""
        self._accepted[adapter or ""] += 1

    def offer(self, episode: Episode, skill: SkillSettings) -> None:
        """Queue one answer for its audit; the draw was made, and logged, by route()."""
        self._queue.put_nowait((episode, skill))

    def start(self, think: Think, saw: Saw = nobody) -> None:
        """Begin working the queue off; `saw` is told of each audit that is done."""
        self._saw = saw
        self._workers = [asyncio.create_task(self._work(think)) for _ in range(self._active)]

    async def stop(self) -> None:
        """Stop at once. What was drawn and is not done stays unobserved, and nothing draws it again: its answer's log
        keeps the propensity it had, so a stop thins the audits; slow ones under way are lost a little more often."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    async def idle(self) -> None:
        """Wait until every audit that was drawn is done."""
        await self._queue.join()

    async def _work(self, think: Think) -> None:
        while True:
            episode, skill = await self._queue.get()
            try:
                await self._check(think, episode, skill)
            except SecondNatureError as error:
                log.warning("audit of %s failed: %s", episode.ask.id, error.message, extra={"episode": episode.ask.id})
            except Exception:  # whatever it is, the next audit is done all the same
                log.exception("audit of %s failed", episode.ask.id, extra={"episode": episode.ask.id})
            finally:
                self._queue.task_done()

    async def _check(self, think: Think, episode: Episode, skill: SkillSettings) -> None:
        thought = await think(episode.ask, skill)
        drafted = episode.draft.answer if episode.draft else None
        agrees = drafted is not None and drafted == thought.verdict.answer
        audit = Audit(episode.ask.id, thought, agrees, time.time())
        self._memory.remember_audit(audit)
        await self._saw(episode, audit)
