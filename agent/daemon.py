"""The one place that builds everything: memory, engine, day, night, schedule. `python -m agent serve` runs it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from adapters.manifest import verify
from adapters.model import ModelFolder
from adapters.registry import reconcile
from agent.admission import Room
from agent.audits import Audits
from agent.by_hand import promote
from agent.config import Config
from agent.day import Day
from agent.engine.check import EngineCheck, check_base
from agent.engine.client import Engine, Priority
from agent.engine.launch import BASE
from agent.engine.pool import EnginePool
from agent.engine.supervisor import Supervisor
from agent.fleet import Fleet
from agent.forget import previous, prune_idle, retire_learners
from agent.groups import keep_groups
from agent.in_force import Pointer
from agent.learn import Night, NightReport
from agent.likeness import keep_alike
from agent.metrics import Metrics
from agent.novelty import keep_lessons
from agent.recalibrate import in_force_for, keep_calibrated
from agent.scheduler import Scheduler, note_seen
from agent.skills import update_states
from agent.steps import thinking
from agent.swap import Swap, swap
from agent.traces import open_traces
from agent.trust import keep_house
from agent.vigil import Vigil
from memory.errors import BadInput, Conflict, Damaged, NotFound
from memory.records import Adapter, AdapterStatus, Ask, Deliberation
from memory.store import Memory
from policies.skills import SkillSettings

log = logging.getLogger("secondnature")


class Daemon:
    """What runs, and the few verbs that change it."""

    def __init__(self, config: Config, model: ModelFolder, memory: Memory) -> None:
        self.config, self.model, self.memory = config, model, memory
        self.supervisor: Supervisor | None = None  # None: the engines at `engine.urls` are somebody else's
        self.base = BASE
        self.fleet = Fleet(self)
        if config.engine.urls:
            self.engine: Engine = EnginePool(config.engine, admit=self.fleet.admit)
        else:
            state_dir = Path(config.state_dir).resolve()
            self.supervisor = Supervisor(config.engine, Path(model.path), state_dir, on_ready=self._engine_ready)
            self.engine = self.supervisor.engine
        room = config.admission
        self.traces = open_traces(config.traces)
        self.day = Day(
            config=config,
            engine=self.traces.engine(self.engine),
            memory=memory,
            pointer=Pointer(),
            metrics=Metrics(),
            audits=Audits(memory, config.audit, room.audit_active, room.audit_waiting),
            system1_room=Room("System 1", room.system1_active, room.system1_waiting),
            system2_room=Room("System 2", room.system2_active, room.system2_waiting),
            practice_room=Room("practice", room.system2_active, room.system2_waiting),
            base=self.base,
            chance=random.random,
            mixing_fault=self.mixing_fault,
            not_ready=self.not_ready,
            traces=self.traces,
        )
        self.night, self.vigil = Night(self.day, model), Vigil(self.day, config.drift)
        self.scheduler = Scheduler(memory, config.schedule, lambda: self.night.running, self.learn)
        self.started_at = time.time()
        self.mixing: EngineCheck | None = None  # None: not checked yet
        self._tasks: set[asyncio.Task[Any]] = set()

    def mixing_fault(self) -> str | None:
        """Why System 2 must not run beside the live adapter; None: it may."""
        if self.day.pointer.now.adapter is None or self.mixing is None or self.mixing.passed:
            return None
        return f"the engine mixes adapters into the base's answers ({self.mixing.sentence})"

    async def start(self) -> None:
        """Bring the live adapter back, check the engine, begin audits and the schedule. The engine may still start."""
        if not self.fleet.follows:  # a gateway's adapters are the learner's, and so is what is decided
            self._start_learning()
        self.day.audits.start(self._audit, self.vigil.saw)
        if self.supervisor is not None:
            await self.supervisor.start()
        else:
            self.spawn(self.fleet.engines_ready())
        self.spawn(self.fleet.run())
        self.spawn(keep_alike(self.day))
        self.spawn(keep_groups(self.day))
        self.spawn(keep_house(self.memory, self.config.trust))

    def _start_learning(self) -> None:
        found = reconcile(self.memory, self.adapters_dir, self.model.identity)
        if found.changed:
            log.warning("folders and registry were out of step and are not any more: %s", found)
        seen = Path(self.config.state_dir) / "seen"
        self.scheduler.start(seen.stat().st_mtime if seen.exists() else None)
        self.spawn(note_seen(seen))
        self.spawn(keep_calibrated(self.day))
        self.spawn(keep_lessons(self.day))

    @property
    def adapters_dir(self) -> Path:
        """Where the adapters lie."""
        return self.fleet.adapters_dir(Path(self.config.state_dir).resolve() / "adapters")

    async def stop(self) -> None:
        """Finish what was accepted (uvicorn has), stop the rest, and close the memory."""
        self.scheduler.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.day.audits.stop()
        if self.supervisor is not None:
            await self.supervisor.stop()
        else:
            await self.engine.close()
        await asyncio.to_thread(self.traces.close)
        self.memory.close()

    async def _audit(self, ask: Ask, skill: SkillSettings) -> Deliberation:
        return await thinking(self.day, ask, skill, Priority.AUDIT)

    async def _engine_ready(self) -> None:
        """Each time its own engine begins to answer, before any question: check it, load what is in force."""
        self.mixing = await check_base(self.engine, self.base, Path(self.model.path))
        log.log(logging.INFO if self.mixing.passed else logging.ERROR, "engine check: %s", self.mixing.sentence)
        await self.fleet.bring_back()

    def not_ready(self) -> str | None:
        """Why no question can be answered now; None: it can."""
        if self.supervisor is None:
            return self.fleet.waiting
        return None if self.supervisor.ready else self.supervisor.reason

    def engine_state(self) -> str:
        """The engine's state in a word."""
        return "at engine.urls" if self.supervisor is None else self.supervisor.state.value

    async def bring_back(self) -> None:
        """Load the live adapter again and put it in force; a damaged one is quarantined and the base answers."""
        live = self.memory.live()
        if live is not None:
            try:
                await swap(self.day, in_force_for(self.day, live), self.verified(live))
                return
            except (Damaged, NotFound, BadInput) as error:
                log.error("%s cannot be used, the base answers: %s", live.name, error.message)
                self.memory.make_live(None, error.message)
                self.memory.set_adapter_status(live.name, AdapterStatus.QUARANTINED, error.message)
        self.day.pointer.flip(in_force_for(self.day, None))
        self.day.metrics.live(None, None)

    def verified(self, adapter: Adapter) -> Path:
        """Its folder. Raises NotFound, Damaged where it is not what the registry knows."""
        folder = self.adapters_dir / adapter.name
        if not folder.exists():  # trust.keep_adapters
            raise NotFound(f"the folder of {adapter.name} is gone (old ones are deleted); choose another one")
        manifest = verify(folder, self.model.identity)
        if manifest.digest != adapter.digest:
            raise Damaged(
                f"{adapter.name}: the folder's digest is not the registry's; delete the folder and learn again"
            )
        return folder

    async def learn(self, reason: str, *, wait: bool = True) -> NightReport | None:
        """Run a night. Raises Conflict while one is under way. With `wait` False it goes on in the background."""
        self.fleet.refuse()
        if self.night.running:
            raise Conflict("a night is already under way; see `secondnature status`", retry_after_s=60)
        task = self.spawn(self._night(reason))
        return await asyncio.shield(task) if wait else None

    async def _night(self, reason: str) -> NightReport:
        """A night, and then the end of every adapter that learnt from what was forgotten since."""
        await self.fleet.merge()
        report = await self.night.run(reason)
        await retire_learners(self, "at night")
        live = self.day.pointer.now.adapter
        await asyncio.to_thread(update_states, self.memory, self.config.automaticity, live.name if live else None)
        await self._prune()
        return report

    async def _prune(self) -> None:
        """Free the room of old adapters. No swap may begin meanwhile: it could choose one of them."""
        pointer = self.day.pointer
        async with pointer.changing:
            in_use = [row.name for row in self.memory.adapters() if pointer.in_flight(row.name)]
            in_use += [pointer.now.adapter.name] if pointer.now.adapter else []
            try:
                gone = await asyncio.to_thread(prune_idle, self.memory, self.config.trust.keep_adapters, in_use)
            except OSError as error:  # a night that went well must not fail over it
                log.warning("old adapters could not be deleted: %s", error)
            else:
                log.info("old adapters deleted: %s", ", ".join(gone) or "none")

    async def promote(self, name: str, why: str, *, now: bool = False) -> Swap:
        """See by_hand.promote."""
        return await promote(self, name, why, now=now)

    async def rollback(self, why: str) -> Swap:
        """Put the adapter that was live before in force again, or the base. Raises NotFound on the base."""
        self.not_at_night()
        live = self.memory.live()
        if live is None:
            raise NotFound("the base answers already; there is nothing to roll back")
        before = previous(self.memory, live)
        swapped = await swap(self.day, in_force_for(self.day, before), self.verified(before) if before else None)
        self.memory.make_live(before.name if before else None, why)
        return swapped

    def not_at_night(self) -> None:
        """Raises where a person may put nothing in force: a night does so now, or this gateway follows a learner."""
        self.fleet.refuse()
        if self.night.running and self.night.progress.stage in ("promote", "swap"):
            raise Conflict("a night is swapping adapters; try again in a moment", retry_after_s=5)

    async def missing(self) -> list[str]:
        """What keeps questions from being answered."""
        fault = self.not_ready() or (None if await self.engine.healthy() else "it does not answer")
        said = [f"engine: {fault}"] if fault else []
        return said + ([f"memory: {self.memory.problem}"] if self.memory.problem else [])

    async def measure(self) -> None:
        """Bring the gauges up to date."""
        metrics = self.day.metrics
        metrics.audits.set(self.day.audits.waiting)
        metrics.in_flight.labels("system1").set(self.day.system1_room.occupied)
        metrics.in_flight.labels("system2").set(self.day.system2_room.occupied)
        metrics.engine_up.set(await self.engine.healthy())
        metrics.trust(self.day.pointer.now.thresholds, self.vigil.wealth)

    async def status(self) -> dict[str, Any]:
        """What happens now."""
        force = self.day.pointer.now
        return {
            "model": self.config.model,
            "base": self.model.identity,
            "uptime_s": time.time() - self.started_at,
            "engine": {"state": self.engine_state(), "healthy": await self.engine.healthy()},
            "mixing": self.mixing.sentence if self.mixing else "not checked yet",
            "adapter": force.adapter.name if force.adapter else None,
            "digest": force.adapter.digest if force.adapter else None,
            "calibration": force.calibrator.method if force.calibrator else "unknown",
            "thresholds": {skill or "*": value for skill, value in force.thresholds.items()},
            "deliberate": sorted(force.deliberate),
            "queues": {
                "system1": self.day.system1_room.occupied,
                "system2": self.day.system2_room.occupied,
                "audits": self.day.audits.waiting,
            },
            "memory": await asyncio.to_thread(self.memory.counts),  # it counts every row
            "fleet": self.fleet.told(),
            "next_night": None if self.fleet.follows else self.scheduler.next_night,
            "night": await asyncio.to_thread(self.night_status),
        }

    def night_status(self) -> dict[str, Any]:
        """A running night's progress, and the last ones."""
        return self.night.told()

    def spawn(self, work: Any) -> asyncio.Task[Any]:
        """Run something beside everything else, until it is done or the daemon stops."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


@contextlib.asynccontextmanager
async def opened(config: Config, model: ModelFolder, memory: Memory) -> AsyncIterator[Daemon]:
    """A running daemon over an open memory, which it closes. Raises BadConfig where there is no vLLM to start."""
    daemon = Daemon(config, model, memory)
    try:
        await daemon.start()
        yield daemon
    finally:
        await daemon.stop()
