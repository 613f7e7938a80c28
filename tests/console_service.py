"""The console's service for the tests: a whole daemon over a scripted engine, on a loopback port."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from adapters.model import ModelFolder
from adapters_fakes import BASE
from agent.config import Config
from agent.daemon import Daemon
from agent.day import Day
from agent.http.app import build
from agent.recalibrate import in_force_for
from agent.serve import take_port, url_of
from console_fakes import HOSTILE, fill, learnt, settings
from day_fakes import ScriptedEngine
from memory.records import Adapter
from memory.store import Memory

NATS = -0.35  # per token of a scripted draft: the calibrator makes it a confidence of 0.92


@dataclass(frozen=True)
class Served:
    """A running service."""

    url: str
    daemon: Daemon
    adapters: list[Adapter]  # oldest first; the last is live

    @property
    def day(self) -> Day:
        return self.daemon.day


def script(model: str, text: str) -> str:
    if "hostile" in text:
        return HOSTILE
    return "42" if "Number only" in text else "Step by step it makes 42. The answer is 42."


@contextmanager
def served(state_dir: Path, n: int = 3000) -> Iterator[Served]:
    """The application over a memory with `n` episodes and two adapters."""
    memory = Memory.open(state_dir)
    now = time.time()
    adapters = learnt(memory, state_dir, now)
    fill(memory, adapters, n, now)
    config = settings(state_dir)
    daemon = Daemon(config, ModelFolder(str(state_dir), BASE, "folder", "scripted"), memory)
    daemon.engine = ScriptedEngine(script, logprob=NATS)
    daemon.fleet.waiting = None  # no server is looked at: the scripted engine is ready
    daemon.day = daemon.night.day = replace(daemon.day, engine=daemon.engine, chance=lambda: 0.999)
    daemon.day.pointer.flip(in_force_for(daemon.day, memory.live()))
    with running(daemon, config) as url:
        yield Served(url, daemon, adapters)
    memory.close()


@contextmanager
def running(daemon: Daemon, config: Config, port: int = 0) -> Iterator[str]:
    """The application's address while it runs, in a thread with its own event loop. `port`: 0 for any."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.daemon = daemon
        yield

    listening = take_port("127.0.0.1", port)
    wanted = uvicorn.Config(
        build(config, lifespan), log_config=None, access_log=False, lifespan="on", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(wanted)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])), daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    try:
        yield url_of(listening)
    finally:
        server.should_exit = True
        thread.join(10)
