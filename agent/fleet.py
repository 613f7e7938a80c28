"""Several gateways, one learner, the same engines.

The learner swaps on every engine, flips its own pointer, and publishes what is in force. A gateway looks at the
publication, checks the adapter's digest, makes sure that every engine holds it, and flips its own pointer. It leaves
the replaced adapter loaded; the learner unloads it when no gateway can be answering under it any more. What gateways
remember flows back: the learner takes their memories in, from time to time and before each night.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from adapters.manifest import verify
from agent.engine.check import EngineCheck, check_base
from agent.engine.client import Engine
from agent.engine.pool import EnginePool
from agent.published import COPY, FleetSettings, Published, get, is_address, read, write
from agent.recalibrate import in_force_for
from agent.swap import swap
from memory.errors import BadInput, Conflict, Damaged, NotFound, SecondNatureError, StorageFull, Unavailable
from memory.merge import Foreign, Place
from memory.store import Memory

if TYPE_CHECKING:
    from agent.daemon import Daemon

log = logging.getLogger("secondnature.fleet")
RECORDS = "/api/records"
AGAIN_S = 0.5  # seconds between looks at engines that are not up yet


class Fleet:
    """A daemon's place among others; of one that is alone, its engines at `engine.urls`."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon, self.settings = daemon, daemon.config.fleet
        self.follows = self.settings.role == "gateway"
        self.shared = bool(daemon.config.engine.urls)  # the engines are others' too
        self.published: Published | None = None  # a learner's last, or what a gateway adopted
        self._on_file: int | None = None  # version that the file holds
        self.fault: str | None = None  # why the publication or a memory cannot be had now
        self.waiting: str | None = "The engines at engine.urls are being looked at." if self.shared else None
        self.merged: dict[str, dict[str, Any]] = {}  # by origin: when, and how many of what
        self._publishing, self._one_look = threading.Lock(), asyncio.Lock()

    def adapters_dir(self, own: Path) -> Path:
        """Where the adapters lie: a gateway has none of its own."""
        return Path(self.published.adapters) if self.follows and self.published else own

    def refuse(self) -> None:
        """Raises Conflict at a gateway, which decides nothing."""
        if self.follows:
            raise Conflict(f"this is a gateway: it follows {self.settings.published}; ask the learner")

    async def admit(self, name: str, engine: Engine) -> None:
        """Check one of the engines at `engine.urls` before its first traffic; gateways go by the learner's check."""
        if self.follows:
            return
        daemon = self._daemon
        place = daemon.adapters_dir  # the one folder that engines must see
        try:
            found = await check_base(engine, daemon.base, Path(daemon.model.path), place)
        except (BadInput, NotFound) as error:
            found = EngineCheck(False, f"it takes no adapter from {place}: {error.message}", 0, 0, 0.0)
        log.log(logging.INFO if found.passed else logging.ERROR, "engine check of %s: %s", name, found.sentence)
        if daemon.mixing is None or daemon.mixing.passed or not found.passed:
            daemon.mixing = replace(found, sentence=f"{name}: {found.sentence}")

    async def engines_ready(self) -> None:
        """Wait for the first engine at `engine.urls`, however long it takes, and put in force what is."""
        while self.waiting:
            try:
                if await self._daemon.engine.healthy():
                    if not self.follows:
                        await self._daemon.bring_back()
                    elif self.published is None:
                        await self.look()
                    self.waiting = None
                    return
                self.waiting = "no engine at engine.urls answers"
            except SecondNatureError as error:  # whatever it is, somebody may mend it while we wait
                self.waiting = error.message
            await asyncio.sleep(AGAIN_S)

    async def bring_back(self) -> None:
        """Load the adapter in force on the daemon's own engine, which has just begun to answer."""
        if not self.follows:
            await self._daemon.bring_back()
            return
        self.published = None
        try:
            await self.look()
        except SecondNatureError as error:  # the base answers until there is a publication
            log.warning("%s", error.message)

    async def run(self) -> None:
        """While the service runs: follow, or lead."""
        if self.follows:
            await self._again(self.look)
        elif self.settings.leads:
            await asyncio.gather(self._again(self.publish), self._merging())

    async def look(self) -> None:
        """Adopt what is published where it is new. Raises where it cannot be had or used; what is in force stays."""
        async with self._one_look:
            await self._look()

    async def _look(self) -> None:
        where = self.settings.published
        assert where is not None
        try:
            found = await asyncio.to_thread(read, where, self.settings.api_key)
        except Unavailable:
            copy = Path(self._daemon.config.state_dir) / COPY
            if self.published is not None or not copy.exists():
                raise
            found = await asyncio.to_thread(read, str(copy))  # after a restart, while the learner is away
        known = self.published.version if self.published else 0
        if found.version < known:
            raise Damaged(f"{where} went back from version {known} to {found.version}; who else publishes there?")
        if found.version > known:
            await self._adopt(found)

    async def _adopt(self, found: Published) -> None:
        daemon, row = self._daemon, found.decided["adapter"]
        if found.base != daemon.model.identity:
            raise Damaged(f"the learner's base is {found.base[:19]}, this gateway's {daemon.model.identity[:19]}")
        folder = Path(found.adapters) / row["name"] if row else None
        if folder and (await asyncio.to_thread(verify, folder, found.base)).digest != row["digest"]:
            raise Damaged(f"{folder} is not the adapter that was published: its digest is another")
        before = daemon.day.pointer.now.adapter
        await asyncio.to_thread(daemon.memory.adopt, found.decided)
        if self.shared and found.mixing:
            daemon.mixing = EngineCheck(found.mixing["passed"], found.mixing["sentence"], 0, 0, 0.0)
        force = in_force_for(daemon.day, daemon.memory.live())
        await swap(daemon.day, force, folder, keep=self.shared)
        if self.shared and before and (row is None or before.name != row["name"]):
            daemon.spawn(self._leave(before.name))
        self.published = found
        await asyncio.to_thread(write, Path(daemon.config.state_dir) / COPY, found)
        log.info("version %d adopted: %s", found.version, row["name"] if row else "the base")

    async def _leave(self, name: str) -> None:
        """Want a replaced adapter no more once nothing here is answered under it."""
        pointer = self._daemon.day.pointer
        await pointer.drained(name)
        async with pointer.changing:
            if pointer.now.adapter is None or pointer.now.adapter.name != name:
                assert isinstance(self._daemon.engine, EnginePool)
                await self._daemon.engine.leave_adapter(name)

    async def publish(self) -> None:
        """Write the publication where the file does not hold it yet."""
        now = await asyncio.to_thread(self.publication)
        if self.settings.published and now.version != self._on_file:
            try:
                await asyncio.to_thread(write, Path(self.settings.published), now)
            except OSError as error:
                raise StorageFull(f"{self.settings.published} cannot be written: {error.strerror}") from None
            self._on_file = now.version
            log.info("version %d published", now.version)

    def publication(self) -> Published:
        """What is in force now, under a new version where it is new. Reads the database: call it in a thread."""
        daemon = self._daemon
        with self._publishing:
            mixing = {"passed": daemon.mixing.passed, "sentence": daemon.mixing.sentence} if daemon.mixing else None
            now = time.time()
            decided = daemon.memory.decided()
            found = Published(int(now), now, daemon.model.identity, str(daemon.adapters_dir), mixing, decided)
            if self.published is None and (before := self._written()):
                self.published, self._on_file = before, before.version
            if self.published is None or not found.says_the_same(self.published):
                last = self.published.version if self.published else 0
                self.published = replace(found, version=max(found.version, last + 1))
            return self.published

    def _written(self) -> Published | None:
        try:
            return read(self.settings.published) if self.settings.published else None
        except SecondNatureError:
            return None

    async def merge(self) -> dict[str, dict[str, Any]]:
        """Take in what the gateways remember; one that cannot be reached is left for the next time."""
        for origin in self.settings.gateways:
            try:
                counts = await asyncio.to_thread(take_in, self._daemon.memory, origin, self.settings)
                self.merged[origin] = {"at": time.time(), **counts, "fault": None}
                log.info("taken in from %s: %s", origin, counts)
            except SecondNatureError as error:
                self.merged.setdefault(origin, {})["fault"] = error.message
                log.warning("nothing was taken in from %s: %s", origin, error.message)
        return self.merged

    async def _merging(self) -> None:
        while self.settings.gateways:
            await self.merge()
            await asyncio.sleep(self.settings.merge_every_s)

    async def _again(self, act: Any) -> None:
        while True:
            try:
                await act()
                self.fault = None
            except SecondNatureError as error:
                if self.fault != error.message:
                    log.warning("%s", error.message)
                self.fault = error.message
            await asyncio.sleep(self.settings.look_s)

    def told(self) -> dict[str, Any]:
        """For the status."""
        engine = self._daemon.engine
        version = self.published.version if self.published else None
        engines = engine.told() if isinstance(engine, EnginePool) else []
        row = {"role": self.settings.role, "version": version, "fault": self.fault, "engines": engines}
        return row | {"merged": self.merged}


class Gateway:
    """A gateway's memory, read over HTTP."""

    def __init__(self, url: str, key: str | None) -> None:
        self.name, self._key = url.rstrip("/"), key

    def foreign(self, kind: str, after: Place) -> Sequence[Foreign]:
        """See memory.merge.Origin."""
        query: dict[str, Any] = {"kind": kind, "place": after[0], "own": after[1]}
        return [Foreign(**row) for row in orjson.loads(get(self.name + RECORDS, self._key, **query))]


def take_in(memory: Memory, origin: str, settings: FleetSettings) -> dict[str, int]:
    """Merge from a gateway's address or a state folder: new rows by kind. Raises NotFound, Unavailable, Damaged."""
    thought = settings.merge == "thought"
    if is_address(origin):
        return memory.merge_from(Gateway(origin, settings.api_key), thought=thought)
    return memory.merge([Path(origin)], thought=thought)
