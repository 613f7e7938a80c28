"""The night: curate -> distil (subprocess) -> evaluate -> judge -+-> promote -> swap -> recalibrate
+-> reject, with the reason
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from adapters.dataset import Anchor
from adapters.manifest import Manifest
from adapters.model import ModelFolder
from adapters.registry import adapter_of, next_number
from agent.anchors import make_anchors
from agent.day import Day
from agent.distil import distil
from agent.evaluate import Examined, examine, heldout, replays, report
from agent.forget import delete_folder
from agent.in_force import InForce
from agent.known import known, quarantine_conflicts
from agent.recalibrate import in_force_for, recalibrate
from agent.skills import once_live
from agent.swap import Expectation, Swap, load, swap, unload_idle
from agent.triggers import quarantine_triggers, triggers_of
from memory.errors import Conflict, Damaged, SecondNatureError
from memory.records import Adapter, AdapterStatus, EvalReport, GateDecision, Lesson, SkillState
from policies.curate import curate
from policies.curation import Curation
from policies.promote import judge

log = logging.getLogger("secondnature.night")
CANARY_QUESTIONS = 16  # held-out questions asked again at the swap


@dataclass
class Progress:
    """What a night is doing, for whoever looks."""

    stage: str = "idle"  # curate, distil, evaluate, judge, promote, swap, recalibrate, idle
    done: int = 0
    total: int = 0
    said: str = ""
    since: float = field(default_factory=time.time)  # unix seconds

    def __call__(self, stage: str, done: int, total: int, said: str) -> None:
        self.since = self.since if stage == self.stage else time.time()
        self.stage, self.done, self.total, self.said = stage, done, total, said


@dataclass(frozen=True, slots=True)
class NightReport:
    """How a night went."""

    outcome: str  # "promoted" | "rejected" | "skipped" | "failed"
    reason: str
    adapter: str | None = None
    lessons: dict[str, int] = field(default_factory=dict)  # kept, by skill
    dropped: dict[str, int] = field(default_factory=dict)  # by reason code
    gate: GateDecision | None = None
    swap: Swap | None = None
    train_s: float | None = None

    def as_json(self) -> dict[str, Any]:
        """For the registry, the API and the report."""
        return asdict(self)


class Night:
    """Runs nights, one at a time."""

    def __init__(self, day: Day, base: ModelFolder) -> None:
        self.day, self.base = day, base
        self.progress = Progress()
        self.running = False
        self.over = asyncio.Event()  # set while no night is under way
        self.over.set()
        self.spoiled: str | None = None  # why the night under way must not go on
        self.candidate: str | None = None  # made by the night under way and not judged yet
        self.last: NightReport | None = None

    async def run(self, reason: str) -> NightReport:
        """One night from curate to recalibrate. Raises Conflict while another is under way; every other fault is
        recorded as the night's outcome, and leaves the live adapter as it was.
        """
        if self.running:
            raise Conflict("a night is already under way; see `secondnature status`")
        memory = self.day.memory
        night = memory.start_night(reason)
        self.running, self.spoiled = True, None
        self.over.clear()
        try:
            self.last = await self._story(reason)
        except SecondNatureError as error:
            log.error("the night failed at %s: %s", self.progress.stage, error.message)
            self.last = NightReport("failed", f"{self.progress.stage}: {error.message}")
        except BaseException:
            self.last = NightReport("failed", f"{self.progress.stage}: stopped")
            raise
        finally:
            assert self.last is not None
            memory.finish_night(night, self.last.outcome, self.last.as_json(), self.last.adapter)
            self.day.metrics.nights.labels(self.last.outcome).inc()
            self.progress("idle", 0, 0, f"{self.last.outcome}: {self.last.reason}")
            self.running = False
            self.over.set()
        return self.last

    async def _story(self, reason: str) -> NightReport:
        curation, anchors = await self._curate()
        lessons = Counter(lesson.skill for lesson in curation.kept)
        dropped = Counter(str(one.code) for one in curation.dropped)
        told = NightReport("skipped", "", lessons=dict(lessons), dropped=dict(dropped))
        if not curation.kept:
            return replace(told, reason="nothing to learn: " + (_most(dropped) or "no agreed answers yet"))
        manifest = await self._distil(curation.kept, anchors)
        candidate = self._register(manifest, curation.kept)
        told = replace(told, adapter=candidate.name, train_s=manifest.train_s)
        self.candidate = candidate.name
        try:
            return await self._judged(told, candidate, curation.kept, anchors)
        except SecondNatureError as error:
            await self._abandon(candidate, error)
            raise
        finally:
            self.candidate = None

    async def _judged(
        self, told: NightReport, candidate: Adapter, lessons: Sequence[Lesson], anchors: Sequence[Anchor]
    ) -> NightReport:
        """From the trained candidate to its place in force, or the reason against it."""
        await load(self.day, candidate, self.folder(candidate.name))
        live = self.day.pointer.now
        with self.day.pointer.keep(live.adapter):  # whatever an operator swaps meanwhile
            examined, measured = await self._evaluate(live, candidate, lessons, anchors)
        gate = self._judge(measured, Counter(told.lessons))
        self._note_states(gate, candidate)
        if gate.promote and (other := self._overtaken(live)):
            await self._put_aside(candidate, measured, gate, other)
            return replace(told, outcome="rejected", reason=other, gate=gate)
        if not gate.promote:
            await self._reject(candidate, measured, gate)
            return replace(told, outcome="rejected", reason=gate.reason, gate=gate)
        swapped = await self._promote(candidate, measured, gate, examined)
        return replace(told, outcome="promoted", reason=gate.reason, gate=gate, swap=swapped)

    def _overtaken(self, live: InForce) -> str | None:
        """Why a candidate that passed is not put in force by the night: somebody changed what it was compared with."""
        before, now = _name(live), _name(self.day.pointer.now)
        if before == now:
            return None
        return (
            f"{now} was put in force while the candidate was compared with {before}; promote it by hand, or learn again"
        )

    async def _curate(self) -> tuple[Curation, tuple[Anchor, ...]]:
        self.progress("curate", 0, 1, "choosing the lessons")
        day, memory = self.day, self.day.memory
        await asyncio.to_thread(memory.flush)
        taught = await asyncio.to_thread(memory.taught, heldout=None)  # twins of held-out ones stay out too
        before = await asyncio.to_thread(known, day, taught)
        curation = await asyncio.to_thread(curate, taught, day.config.curate, before)
        put_aside = await asyncio.to_thread(quarantine_conflicts, memory, taught, curation, before)
        kept, dropped = len(curation.kept), len(curation.dropped)
        log.info("curated: %d lessons kept, %d dropped, %d put into quarantine", kept, dropped, put_aside)
        return curation, (await make_anchors(day, self.progress) if curation.kept else ())

    async def _distil(self, lessons: Sequence[Lesson], anchors: Sequence[Anchor]) -> Manifest:
        self._go_on()  # nothing is awaited from here to the lessons' file, which forgetting deletes
        day = self.day
        self.progress("distil", 0, 1, f"training on {len(lessons)} lessons")
        state_dir = day.memory.state_dir.resolve()
        number = next_number(day.memory, state_dir / "adapters")
        learnt = anchors[: len(anchors) - len(anchors) // 4]  # the last quarter only measures the drift
        busy = day.people_wait if not day.config.engine.urls else lambda: False
        return await distil(lessons, learnt, number, self.base, state_dir, day.config.train, self.progress, busy)

    def _register(self, manifest: Manifest, lessons: Sequence[Lesson]) -> Adapter:
        if self.spoiled:
            delete_folder(self.folder(manifest.name))
        self._go_on()
        adapter = adapter_of(manifest, "made; not examined yet")
        self.day.memory.add_adapter(adapter)
        self.day.memory.record_lessons(adapter.name, lessons)
        return adapter

    def _go_on(self) -> None:
        """Raises Conflict where something was forgotten meanwhile: no trace of it may come back."""
        if self.spoiled:
            raise Conflict(self.spoiled)

    async def _evaluate(
        self, live: InForce, candidate: Adapter, lessons: Sequence[Lesson], anchors: Sequence[Anchor]
    ) -> tuple[tuple[Examined, ...], EvalReport]:
        day = self.day
        asked = heldout(day)
        self.progress("evaluate", 0, len(asked), "held-out questions")
        examined = await examine(day, live, candidate, asked, self.progress)
        triggers = await triggers_of(day, candidate.name, lessons, self.progress)
        unseen = anchors[len(anchors) - len(anchors) // 4 :]
        measured = await report(day, candidate, examined, unseen, triggers, self.progress)
        self._go_on()
        quarantine_triggers(day.memory, triggers.found)
        day.memory.record_scores(candidate.name, measured.scores)
        for episode in replays(examined, candidate):
            day.memory.remember(episode)
        return examined, measured

    def _judge(self, measured: EvalReport, lessons: Counter[str]) -> GateDecision:
        self.progress("judge", 0, 1, "the gate")
        return judge(measured, once_live(self.day.memory), self.day.config.promote, lessons=lessons)

    def _note_states(self, gate: GateDecision, candidate: Adapter) -> None:
        for skill in gate.deliberate_skills:
            reason = f"it did not become automatic after a fair try ({candidate.name})"
            self.day.memory.set_skill_state(skill, SkillState.DELIBERATE, reason, candidate.name)

    async def _reject(self, candidate: Adapter, measured: EvalReport, gate: GateDecision) -> None:
        memory = self.day.memory
        memory.set_adapter_report(candidate.name, _told(measured, gate))
        memory.set_adapter_status(candidate.name, AdapterStatus.REJECTED, gate.reason)
        await unload_idle(self.day, candidate.name)

    async def _put_aside(self, candidate: Adapter, measured: EvalReport, gate: GateDecision, why: str) -> None:
        """A candidate that passed stays one: a person may promote it."""
        self.day.memory.set_adapter_report(candidate.name, _told(measured, gate))
        self.day.memory.set_adapter_status(candidate.name, AdapterStatus.CANDIDATE, why)
        await unload_idle(self.day, candidate.name)

    async def _abandon(self, candidate: Adapter, error: SecondNatureError) -> None:
        """A night that failed leaves no candidate loaded, and none that looks as if it had been examined."""
        if _name(self.day.pointer.now) == candidate.name:
            return  # it got as far as the swap
        with contextlib.suppress(SecondNatureError):
            await unload_idle(self.day, candidate.name)
        with contextlib.suppress(SecondNatureError):  # forgotten meanwhile
            if self.day.memory.adapter(candidate.name).status is AdapterStatus.CANDIDATE:
                why = f"the night failed before it was judged: {error.message}"
                self.day.memory.set_adapter_status(candidate.name, AdapterStatus.REJECTED, why)

    async def _promote(
        self, candidate: Adapter, measured: EvalReport, gate: GateDecision, examined: Sequence[Examined]
    ) -> Swap:
        """Recalibrate first, so that the pointer flips to an adapter with its own confidence and threshold."""
        day = self.day
        self.progress("promote", 0, 1, "calibrating the candidate's confidence")
        await asyncio.to_thread(day.memory.flush)
        await recalibrate(day, candidate.name)
        force = in_force_for(day, candidate)
        self.progress("swap", 0, 1, "loading, canaries, flip, drain")
        expected = [Expectation(e.episode, e.after.answer) for e in examined[:CANARY_QUESTIONS]]
        day.memory.set_adapter_report(candidate.name, _told(measured, gate))
        try:
            swapped = await swap(day, force, self.folder(candidate.name), expected)
        except Damaged as error:
            day.memory.set_adapter_status(candidate.name, AdapterStatus.REJECTED, error.message)
            await day.engine.unload_adapter(candidate.name)
            raise
        day.memory.make_live(candidate.name, gate.reason)
        return swapped

    def told(self) -> dict[str, Any]:
        """A running night's progress, and the last ones, for whoever asks."""
        progress = self.progress
        now = {"stage": progress.stage, "done": progress.done, "total": progress.total, "said": progress.said}
        last = [
            {"id": n.id, "reason": n.reason, "started_at": n.started_at, "finished_at": n.finished_at,
             "outcome": n.outcome, "adapter": n.adapter, "report": n.report}
            for n in self.day.memory.nights(20)
        ]  # fmt: skip
        return {"running": self.running, "progress": now | {"since": progress.since}, "last": last}

    def folder(self, name: str) -> Path:
        """Where an adapter lies."""
        return Path(self.day.config.state_dir).resolve() / "adapters" / name


def _name(force: InForce) -> str:
    return force.adapter.name if force.adapter else "the base"


def _told(measured: EvalReport, gate: GateDecision) -> dict[str, Any]:
    return {"evaluation": asdict(measured), "gate": asdict(gate)}


def _most(dropped: Counter[str]) -> str:
    return ", ".join(f"{n} {code}" for code, n in dropped.most_common(4))
