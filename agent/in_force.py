"""What is in force right now: one frozen snapshot, replaced whole, so that no answer mixes two adapters' rules."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from memory.records import Adapter
from policies.calibration import Calibrator
from policies.novelty import Lessons

RECALIBRATION, VIGIL = "recalibration", "vigil"
MACHINES = frozenset({RECALIBRATION, VIGIL})
"""Who sets thresholds without a person: the nightly and running recalibration, and the watch over audits."""


@dataclass(frozen=True, slots=True)
class InForce:
    """The live adapter and the calibration, thresholds and red list that belong to it."""

    adapter: Adapter | None = None  # None: the base answers
    calibrator: Calibrator | None = None  # None: too few audits; every confidence is unknown
    thresholds: Mapping[str | None, float | None] = field(default_factory=dict)  # by skill; None: all others
    deliberate: frozenset[str] = frozenset()  # skills that System 1 may not answer
    lessons: Lessons | None = None  # what the adapter was taught; None: not read yet, novelty is unknown

    def threshold(self, skill: str) -> float | None:
        """0..1, the skill's own threshold, else the global one; None where none was set or trust was taken away."""
        return self.thresholds.get(skill, self.thresholds.get(None))

    def trusts(self, skill: str) -> bool:
        """False where a decision took trust away (a threshold of None): System 2 answers, whatever the settings."""
        decided = skill if skill in self.thresholds else None
        return decided not in self.thresholds or self.thresholds[decided] is not None


class Pointer:
    """The one place that says what is in force, and who still answers under what was."""

    def __init__(self, force: InForce | None = None) -> None:
        self.now = force or InForce()
        self.changing = asyncio.Lock()  # held while an adapter is loaded and flipped to, or unloaded
        self._in_flight: Counter[str] = Counter()
        self._idle: dict[str, asyncio.Event] = {}  # set when an adapter's last request ends
        self._era = 0
        self._of_era: Counter[int] = Counter()  # requests under way, by the era in which they began
        self._era_over = asyncio.Event()

    @contextmanager
    def hold(self) -> Iterator[InForce]:
        """Answer under one snapshot; its adapter is not unloaded while held."""
        force, era = self.now, self._era
        self._of_era[era] += 1
        try:
            with self.keep(force.adapter):
                yield force
        finally:
            self._of_era[era] -= 1
            if not self._of_era[era]:
                del self._of_era[era]
                self._era_over.set()

    @contextmanager
    def keep(self, adapter: Adapter | None) -> Iterator[None]:
        """Neither unload an adapter nor delete its folder meanwhile. `passed` does not wait for this."""
        name = adapter.name if adapter else ""
        self._in_flight[name] += 1
        try:
            yield
        finally:
            self._in_flight[name] -= 1
            if not self._in_flight[name]:
                del self._in_flight[name]
                if name in self._idle:
                    self._idle.pop(name).set()

    def flip(self, force: InForce) -> InForce:
        """Put another snapshot in force; returns the one before. Requests under way keep theirs."""
        before, self.now = self.now, force
        return before

    def in_flight(self, name: str) -> int:
        """Requests still answered under an adapter."""
        return self._in_flight[name]

    async def drained(self, name: str) -> None:
        """Wait until no request is answered under the adapter any more."""
        if self._in_flight[name]:
            await self._idle.setdefault(name, asyncio.Event()).wait()

    async def passed(self) -> None:
        """Wait until all that is answered now has been: a grace period, as in read-copy-update (McKenney, 1998)."""
        last, self._era = self._era, self._era + 1
        while any(era <= last for era in self._of_era):
            self._era_over.clear()
            await self._era_over.wait()
