"""Many engines as one Engine: health, balance, adapters on all of them before traffic. One engine is a pool of one.

An engine takes traffic only while it answers and holds every wanted adapter; one that joins late or comes back is
admitted and brought up to date first, without keeping the others waiting. An engine that turns out to have lost an
adapter (it was restarted between two looks) is treated as one that is gone. Which one a request goes to: balance.py.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from agent.engine.balance import Member, body_head, body_weight, choose, head
from agent.engine.client import Delta, Engine, Raw, RawStream, Sampling, VllmEngine
from agent.engine.settings import EngineSettings
from agent.engine.wire import RETRY_AFTER_S
from memory.errors import NotFound, SecondNatureError, TimedOut, Unavailable
from memory.records import Completion, Message

log = logging.getLogger(__name__)
T = TypeVar("T")
Admit = Callable[[str, Engine], Awaitable[None]]
GONE = (Unavailable, TimedOut)
LOOK_S = 15.0  # seconds in which an engine must say what it serves; a busy one on a CPU takes a second or two
LOAD_S = 120.0  # seconds in which an engine must load an adapter; 0.03 to 0.14 were seen


class EnginePool:
    """An Engine over others. It looks at them when it is first used, and from then on by itself."""

    def __init__(
        self, settings: EngineSettings, engines: Mapping[str, Engine] | None = None, admit: Admit | None = None
    ) -> None:
        """`engines`: by name; None: the servers at `settings.urls`. `admit`: awaited with the name and the engine
        before one takes its first traffic, and again after it was restarted; where it raises, it takes none."""
        if engines is None:
            engines = {url: _server(url, settings) for url in settings.urls}
        self.members = [Member(name, engine) for name, engine in engines.items()]
        self._probe_s, self._admit = settings.probe_s, admit
        self._wanted: dict[str, Path] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._all_looked = False  # once, after the start
        self._changing = asyncio.Lock()  # held while the adapters of engines in traffic change, or an engine joins

    async def start(self) -> None:
        """Look at once, then regularly, and sooner where a request found an engine gone. The first use does it."""
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._watch(member), name=member.name) for member in self.members]
        if not self._all_looked:
            for member in self.members:
                await member.looked.wait()
            self._all_looked = True

    async def look(self) -> int:
        """Bring every engine that answers up to date; the others take no traffic. Returns how many are up."""
        await asyncio.gather(*(self._look_at(member) for member in self.members))
        return sum(member.up for member in self.members)

    async def chat(
        self, model: str, messages: Sequence[Message], sampling: Sampling, *, priority: int = 0
    ) -> tuple[Completion, ...]:
        def ask(engine: Engine) -> Awaitable[tuple[Completion, ...]]:
            return engine.chat(model, messages, sampling, priority=priority)

        return await self._ask(head(model, messages), ask, model, sampling.n)

    async def stream(
        self, model: str, messages: Sequence[Message], sampling: Sampling, *, priority: int = 0
    ) -> AsyncGenerator[Delta, None]:
        key, tried = head(model, messages), 0
        while True:
            member, begun = await self._pick(key), False
            try:
                with self._busy(member):
                    async with aclosing(member.engine.stream(model, messages, sampling, priority=priority)) as pieces:
                        async for piece in pieces:
                            begun = True
                            yield piece
                return
            except (Unavailable, NotFound) as fault:
                tried += 1
                await self._recover(member, fault, model, last=begun or tried > 1)

    async def forward(self, path: str, body: Mapping[str, Any]) -> Raw:
        async def ask(engine: Engine) -> Raw:
            raw = await engine.forward(path, body)
            self._check_kept(raw.status, body)
            return raw

        return await self._ask(body_head(body), ask, str(body.get("model")), body_weight(body))

    async def forward_stream(self, path: str, body: Mapping[str, Any]) -> RawStream:
        weight = body_weight(body)

        async def ask(engine: Engine) -> RawStream:
            stream = await engine.forward_stream(path, body)
            try:
                self._check_kept(stream.status, body)
            except NotFound:
                await stream.aclose()
                raise
            return stream

        stream, member = await self._ask_of(body_head(body), ask, str(body.get("model")), weight)
        member.load += weight
        stream.on_close(partial(member.release, weight))
        return stream

    async def tokenize(self, model: str, prompt: str | Sequence[Message]) -> tuple[int, ...]:
        return await self._ask("", lambda engine: engine.tokenize(model, prompt), model)

    async def answer_logprobs(self, model: str, messages: Sequence[Message], answer: str) -> tuple[float, ...]:
        key = head(model, messages)
        return await self._ask(key, lambda engine: engine.answer_logprobs(model, messages, answer), model)

    async def read(self, model: str, tokens: Sequence[int]) -> None:
        """On every engine that is up: each has a cache of its own. One that fails is not taken out of traffic."""
        reads = (member.engine.read(model, tokens) for member in self._up())
        results = await asyncio.gather(*reads, return_exceptions=True)
        for fault in filter(None, results):
            raise fault

    async def load_adapter(self, name: str, path: Path) -> None:
        """On every engine that is up, and later on those that are not. All of them or none: then it raises."""
        await self.start()
        async with self._changing:
            members = self._up()
            results = await asyncio.gather(
                *(_within(LOAD_S, member.engine.load_adapter(name, path)) for member in members),
                return_exceptions=True,
            )
            self._drop_gone(members, results)
            refused = [r for r in results if isinstance(r, BaseException) and not isinstance(r, GONE)]
            if refused or not any(member.up for member in members):
                await self._everywhere(lambda engine: engine.unload_adapter(name))
                raise refused[0] if refused else _none_up()
            self._wanted[name] = path

    async def unload_adapter(self, name: str) -> None:
        async with self._changing:
            self._wanted.pop(name, None)
            await self._everywhere(lambda engine: engine.unload_adapter(name))

    async def leave_adapter(self, name: str) -> None:
        """Want it no more, and leave it loaded: others may still be answered by it, and somebody else unloads it."""
        async with self._changing:
            self._wanted.pop(name, None)

    async def models(self) -> list[str]:
        """Those that every engine in traffic has."""
        await self.start()
        lists = await asyncio.gather(*(member.engine.models() for member in self._up()))
        return [name for name in lists[0] if all(name in other for other in lists)]

    async def healthy(self) -> bool:
        await self.start()
        return any(member.up for member in self.members)

    def told(self) -> list[dict[str, Any]]:
        """Each engine for the status."""
        return [{"name": m.name, "up": m.up, "why": "" if m.up else m.why, "load": m.load} for m in self.members]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(member.engine.close() for member in self.members))

    async def _ask(self, key: str, ask: Callable[[Engine], Awaitable[T]], model: str, weight: int = 1) -> T:
        return (await self._ask_of(key, ask, model, weight))[0]

    async def _ask_of(
        self, key: str, ask: Callable[[Engine], Awaitable[T]], model: str, weight: int
    ) -> tuple[T, Member]:
        """Ask one engine; where it is gone, one other. Gives the answer and who answered."""
        for last in (False, True):
            member = await self._pick(key, weight)
            try:
                with self._busy(member, weight):
                    return await ask(member.engine), member
            except (Unavailable, NotFound) as fault:
                await self._recover(member, fault, model, last=last)
        raise AssertionError("unreachable")

    async def _pick(self, key: str, weight: int = 1) -> Member:
        await self.start()
        return choose(key, self._up(), weight)

    def _up(self) -> list[Member]:
        up = [member for member in self.members if member.up]
        if not up:
            raise _none_up()
        return up

    @contextmanager
    def _busy(self, member: Member, weight: int = 1) -> Iterator[None]:
        member.load += weight
        try:
            yield
        finally:
            member.load -= weight

    async def _recover(self, member: Member, fault: SecondNatureError, model: str, *, last: bool) -> None:
        """Make ready for another try, or raise. An engine that forgot an adapter is brought up to date at once."""
        forgot = isinstance(fault, NotFound)
        if forgot and model not in self._wanted:
            raise fault
        self._lost(member, fault)
        if last:
            raise _none_up() if forgot else fault
        if forgot:
            await self._look_at(member)

    def _lost(self, member: Member, fault: SecondNatureError) -> None:
        """Take an engine out of traffic until it was looked at."""
        self._out(member, fault.message)
        member.wake.set()

    def _check_kept(self, status: int, body: Mapping[str, Any]) -> None:
        if status == 404 and body.get("model") in self._wanted:
            raise NotFound("it lost its adapters")

    def _out(self, member: Member, why: str) -> None:
        if member.up or member.why != why:
            log.warning("engine %s is out of traffic: %s", member.name, why)
        member.up, member.why = False, why

    async def _look_at(self, member: Member) -> None:
        async with member.looking:
            try:
                has = await _within(LOOK_S, member.engine.models())
                if member.up and all(name in has for name in self._wanted):
                    return
                await self._join(member, has)
            except SecondNatureError as fault:
                self._out(member, fault.message)
            finally:
                member.looked.set()

    async def _join(self, member: Member, has: Sequence[str]) -> None:
        """Admit an engine and bring it up to date, then let it take traffic."""
        restarted = any(name not in has for name in self._wanted)
        if self._admit is not None and (restarted or not member.admitted):
            member.up = member.admitted = False
            member.looked.set()  # the others answer meanwhile
            await self._admit(member.name, member.engine)
        member.admitted = True
        async with self._changing:  # whatever is wanted by now
            for name, path in self._wanted.items():
                await _within(LOAD_S, member.engine.load_adapter(name, path))
            member.up = True
        log.info("engine %s takes traffic", member.name)

    async def _everywhere(self, act: Callable[[Engine], Awaitable[None]]) -> None:
        """On all that are up; one that is gone meanwhile has lost it anyhow."""
        members = [member for member in self.members if member.up]
        results = await asyncio.gather(*(act(member.engine) for member in members), return_exceptions=True)
        self._drop_gone(members, results)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, GONE):
                raise result

    def _drop_gone(self, members: Sequence[Member], results: Sequence[object]) -> None:
        for member, result in zip(members, results, strict=True):
            if isinstance(result, GONE):
                self._lost(member, result)

    async def _watch(self, member: Member) -> None:
        while True:
            await self._look_at(member)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._probe_s):
                    await member.wake.wait()
            member.wake.clear()


async def _within(seconds: float, answer: Awaitable[T]) -> T:
    """What an engine answers, if it does so in time. Raises TimedOut: one that hangs must not hold up the others."""
    try:
        async with asyncio.timeout(seconds):
            return await answer
    except TimeoutError:
        raise TimedOut(f"it did not answer within {seconds:g} s") from None


def _server(url: str, settings: EngineSettings) -> VllmEngine:
    return VllmEngine(url, key=settings.api_key, timeout_s=settings.timeout_s, seeds=settings.device == "gpu")


def _none_up() -> Unavailable:
    return Unavailable("No engine is up (starting or restarting); ask again soon.", retry_after_s=RETRY_AFTER_S)
