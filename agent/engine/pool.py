"""Many engines as one Engine: health, balance, adapters on all of them before traffic. One engine is a pool of one.

An engine takes traffic only while it answers and holds every wanted adapter; one that joins late or comes back is
brought up to date first. Requests go to the engine that read a prompt with the same head before (its prefix cache
holds it), unless that one is loaded above its share: rendezvous hashing with bounded loads (Mirrokni, Thorup and
Zadimoghaddam 2018).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from agent.engine.client import Delta, Engine, Raw, RawStream, Sampling, VllmEngine
from agent.engine.settings import EngineSettings
from agent.engine.wire import RETRY_AFTER_S
from memory.errors import SecondNatureError, TimedOut, Unavailable
from memory.records import Completion, Message

log = logging.getLogger(__name__)
T = TypeVar("T")
SPREAD = 1.25  # an engine may hold this many times the mean of all before the next in line is asked
HEAD_CHARS = 512  # of the first message, where a prompt has only one


@dataclass(slots=True, eq=False)
class Member:
    """One engine in the pool."""

    name: str  # for the log, and to rank it: the url
    engine: Engine
    up: bool = False  # answers, and holds every wanted adapter
    load: int = 0  # requests in flight


class EnginePool:
    """An Engine over others. It looks at them when it is first used, and from then on by itself."""

    def __init__(self, settings: EngineSettings, engines: Mapping[str, Engine] | None = None) -> None:
        """`engines`: by name; None: the servers at `settings.urls`."""
        if engines is None:
            engines = {url: _server(url, settings) for url in settings.urls}
        self.members = [Member(name, engine) for name, engine in engines.items()]
        self._probe_s = settings.probe_s
        self._wanted: dict[str, Path] = {}
        self._task: asyncio.Task[None] | None = None
        self._wake, self._looked = asyncio.Event(), asyncio.Event()
        self._looking = asyncio.Lock()

    async def start(self) -> None:
        """Look at once, then regularly, and sooner where a request found an engine gone. The first use does it."""
        if self._task is None:
            self._task = asyncio.create_task(self._watch(), name="engine-pool")
        await self._looked.wait()

    async def look(self) -> int:
        """Bring every engine that answers up to date; the others take no traffic. Returns how many are up."""
        async with self._looking:
            await asyncio.gather(*(self._look_at(member) for member in self.members))
            self._looked.set()
        return sum(member.up for member in self.members)

    async def chat(
        self, model: str, messages: Sequence[Message], sampling: Sampling, *, priority: int = 0
    ) -> tuple[Completion, ...]:
        return await self._ask(
            head(model, messages), lambda engine: engine.chat(model, messages, sampling, priority=priority)
        )

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
            except Unavailable:
                self._lost(member)
                tried += 1
                if begun or tried > 1:
                    raise

    async def forward(self, path: str, body: Mapping[str, Any]) -> Raw:
        return await self._ask(_body_head(body), lambda engine: engine.forward(path, body))

    async def forward_stream(self, path: str, body: Mapping[str, Any]) -> RawStream:
        key, tried = _body_head(body), 0
        while True:
            member = await self._pick(key)
            member.load += 1
            try:
                stream = await member.engine.forward_stream(path, body)
            except BaseException as fault:
                member.load -= 1
                tried += 1
                if not isinstance(fault, Unavailable) or tried > 1:
                    raise
                self._lost(member)
            else:
                stream.on_close(partial(_release, member))
                return stream

    async def tokenize(self, model: str, prompt: str | Sequence[Message]) -> tuple[int, ...]:
        return await self._ask("", lambda engine: engine.tokenize(model, prompt))

    async def answer_logprobs(self, model: str, messages: Sequence[Message], answer: str) -> tuple[float, ...]:
        return await self._ask(head(model, messages), lambda engine: engine.answer_logprobs(model, messages, answer))

    async def load_adapter(self, name: str, path: Path) -> None:
        """On every engine that is up, and later on those that are not. All of them or none: then it raises."""
        members = await self._up()
        async with self._looking:
            results = await asyncio.gather(
                *(member.engine.load_adapter(name, path) for member in members), return_exceptions=True
            )
            refused = [
                r for r in results if isinstance(r, BaseException) and not isinstance(r, (Unavailable, TimedOut))
            ]
            for member, result in zip(members, results, strict=True):
                if isinstance(result, (Unavailable, TimedOut)):
                    self._lost(member)
            if refused or not any(member.up for member in members):
                await self._everywhere(lambda engine: engine.unload_adapter(name))
                raise refused[0] if refused else _none_up()
            self._wanted[name] = path

    async def unload_adapter(self, name: str) -> None:
        async with self._looking:
            self._wanted.pop(name, None)
            await self._everywhere(lambda engine: engine.unload_adapter(name))

    async def models(self) -> list[str]:
        """Those that every engine in traffic has."""
        lists = await asyncio.gather(*(member.engine.models() for member in await self._up()))
        return [name for name in lists[0] if all(name in other for other in lists)]

    async def healthy(self) -> bool:
        await self.start()
        return any(member.up for member in self.members)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        await asyncio.gather(*(member.engine.close() for member in self.members))

    async def _ask(self, key: str, ask: Callable[[Engine], Awaitable[T]]) -> T:
        """Ask one engine; where it is gone, one other."""
        for last in (False, True):
            member = await self._pick(key)
            try:
                with self._busy(member):
                    return await ask(member.engine)
            except Unavailable:
                self._lost(member)
                if last:
                    raise
        raise AssertionError("unreachable")

    async def _pick(self, key: str) -> Member:
        up = await self._up()
        bound = math.ceil(SPREAD * (sum(member.load for member in up) + 1) / len(up))
        ranked = sorted(up, key=lambda member: _rank(key, member.name))
        return next(member for member in ranked if member.load < bound)

    async def _up(self) -> list[Member]:
        await self.start()
        up = [member for member in self.members if member.up]
        if not up:
            raise _none_up()
        return up

    @contextmanager
    def _busy(self, member: Member) -> Iterator[None]:
        member.load += 1
        try:
            yield
        finally:
            member.load -= 1

    def _lost(self, member: Member) -> None:
        if member.up:
            log.warning("engine %s is gone: out of traffic until it answers again", member.name)
        member.up = False
        self._wake.set()

    async def _look_at(self, member: Member) -> None:
        try:
            has = await member.engine.models()
            for name, path in self._wanted.items():
                if name not in has:
                    await member.engine.load_adapter(name, path)
            if not member.up:
                log.info("engine %s takes traffic", member.name)
            member.up = True
        except SecondNatureError as fault:
            if member.up:
                log.warning("engine %s is out of traffic: %s", member.name, fault.message)
            member.up = False

    async def _everywhere(self, act: Callable[[Engine], Awaitable[None]]) -> None:
        """On all that are up; one that is gone meanwhile has lost it anyhow."""
        members = [member for member in self.members if member.up]
        results = await asyncio.gather(*(act(member.engine) for member in members), return_exceptions=True)
        for member, result in zip(members, results, strict=True):
            if isinstance(result, (Unavailable, TimedOut)):
                self._lost(member)
            elif isinstance(result, BaseException):
                raise result

    async def _watch(self) -> None:
        while True:
            await self.look()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._probe_s):
                    await self._wake.wait()
            self._wake.clear()


def _server(url: str, settings: EngineSettings) -> VllmEngine:
    return VllmEngine(url, key=settings.api_key, timeout_s=settings.timeout_s, seeds=settings.device == "gpu")


def head(model: str, messages: Sequence[Message]) -> str:
    """What prompts with a common cached prefix have in common: the model and the first message, or its start."""
    first = str(messages[0].get("content")) if messages else ""
    return f"{model}\n{first if len(messages) > 1 else first[:HEAD_CHARS]}"


def _body_head(body: Mapping[str, Any]) -> str:
    messages = body.get("messages")
    sound = isinstance(messages, list) and messages and isinstance(messages[0], Mapping)
    return head(str(body.get("model")), messages if sound else ())  # type: ignore[arg-type]  # checked above


def _rank(key: str, name: str) -> bytes:
    return hashlib.blake2b(f"{key}\0{name}".encode(), digest_size=8).digest()


def _release(member: Member) -> None:
    member.load -= 1


def _none_up() -> Unavailable:
    return Unavailable("No engine is up (starting or restarting); ask again soon.", retry_after_s=RETRY_AFTER_S)
