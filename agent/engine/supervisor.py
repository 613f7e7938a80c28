"""Starts vLLM as a child, waits until it answers, restarts it when it dies, and gives up with a reason.

One task, `_run`, tells the whole story: start, wait until ready, watch, note the crash, wait, start again.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from enum import StrEnum
from pathlib import Path

from agent.engine import launch, stale
from agent.engine.client import VllmEngine
from agent.engine.settings import EngineSettings
from memory.errors import SecondNatureError, Unavailable

log = logging.getLogger(__name__)
LONGEST_BACKOFF_S = 60.0
LOOK_EVERY_S = 0.2  # while starting
DEAF_LOOKS = 6  # looks at a running engine's health that may fail before it is ended: it is stuck


class EngineState(StrEnum):
    """Where the engine stands."""

    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    FAILED = "failed"
    STOPPED = "stopped"


class Supervisor:
    """The daemon's one engine. `engine` is its client; it follows the engine from port to port."""

    def __init__(
        self,
        settings: EngineSettings,
        model: Path,
        state_dir: Path,
        *,
        on_ready: Callable[[], Awaitable[None]],
        clock: Callable[[], float] = time.monotonic,
        command: Callable[[int], list[str]] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`on_ready`: awaited each time the engine answers, before traffic: load the live adapter there.

        `command`: makes the command line for a port; None: vLLM's. Raises BadConfig where there is no vLLM.
        `environment`: variables for the engine beside its own, which they may replace.
        """
        self.settings = settings
        self.state = EngineState.STOPPED
        self.reason = "The engine was not started."
        self.restarts = 0
        self._device = launch.find_device(settings) if command is None else "cpu"
        self._command = command or (lambda port: launch.command(settings, model, port, self._device))
        key = secrets.token_urlsafe(24)
        self._environment = {**launch.environment(settings, key, self._device), **(environment or {})}
        self.engine = VllmEngine(
            "http://127.0.0.1:1", key=key, timeout_s=settings.timeout_s, seeds=self._device == "gpu"
        )
        self._on_ready, self._clock = on_ready, clock
        self._pid_file = state_dir / "engine.pid"
        self.log_file = state_dir / "logs" / "engine.log"
        self._crashes: list[float] = []
        self._was_ready = False
        self._child: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    async def start(self) -> None:
        """Begin; returns at once. A stale engine of an earlier daemon is ended first."""
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(stale.end, self._pid_file)
        self._become(EngineState.STARTING, "The engine is starting.")
        self._task = asyncio.create_task(self._run(), name="engine-supervisor")

    async def wait_ready(self) -> None:
        """Until the engine answers. Raises Unavailable where it never will, with the last lines of its log.

        `reason` has no log lines in it: it is what callers are told.
        """
        while self.state not in (EngineState.READY, EngineState.FAILED, EngineState.STOPPED):
            await self._changed.wait()
        if self.state is not EngineState.READY:
            log_ = f"The end of {self.log_file}:\n{last_lines(self.log_file)}"
            raise Unavailable(f"{self.reason} {log_}")

    async def stop(self) -> None:
        """End the engine and all its processes; at most 15 s."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        await self._end_child()
        await self.engine.close()
        self._become(EngineState.STOPPED, "The engine was stopped.")

    @property
    def ready(self) -> bool:
        """Whether the engine answers and the live adapter is loaded."""
        return self.state is EngineState.READY

    async def _run(self) -> None:
        try:
            while await self._once():
                await asyncio.sleep(self._backoff_s())
                self.restarts += 1
        except asyncio.CancelledError:
            raise
        except Exception as fault:  # the supervisor must not die silently: say why, and leave the engine down
            log.exception("the engine's supervisor failed")
            self._become(EngineState.FAILED, f"The engine's supervisor failed: {fault!r}. Restart the service.")
        finally:
            await self._end_child()

    async def _once(self) -> bool:
        """One life of the engine. Returns whether to start it again."""
        child = await self._spawn()
        was_ready = False
        try:
            await self._until_ready(child)
            await self._on_ready()
            was_ready = True
            self._become(EngineState.READY, "The engine is ready.")
            why = await self._until_gone(child)
        except SecondNatureError as fault:
            why = fault.message
        await self._end_child()
        return self._note_crash(why, was_ready)

    async def _spawn(self) -> asyncio.subprocess.Process:
        port = self.settings.port or free_port()
        self.engine.move(f"http://127.0.0.1:{port}")
        self._child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "agent.engine.child",
            str(self._pid_file),
            str(self.log_file),
            *self._command(port),
            env=self._environment,
            stdin=asyncio.subprocess.PIPE,  # held open: its end tells the child that we are gone
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        log.info("engine started on port %d, its log is %s", port, self.log_file)
        return self._child

    async def _until_ready(self, child: asyncio.subprocess.Process) -> None:
        deadline = self._clock() + self.settings.startup_timeout_s
        while not await self.engine.healthy():
            if child.returncode is not None:
                raise Unavailable(f"The engine ended while starting ({_status(child.returncode)}).")
            if self._clock() > deadline:
                limit = self.settings.startup_timeout_s
                raise Unavailable(f"The engine did not answer within {limit:g} s (engine.startup_timeout_s).")
            await asyncio.sleep(LOOK_EVERY_S)

    async def _until_gone(self, child: asyncio.subprocess.Process) -> str:
        """Watch a running engine; returns what became of it."""
        deaf = 0
        while deaf < DEAF_LOOKS:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.settings.probe_s):
                    return f"The engine ended ({_status(await child.wait())})."
            deaf = 0 if await self.engine.healthy() else deaf + 1
        return f"The engine did not answer {DEAF_LOOKS} looks at its health: ended."

    def _note_crash(self, why: str, was_ready: bool) -> bool:
        """Count it, say it, decide whether to go on."""
        now = self._clock()
        window = self.settings.restart_window_s
        self._crashes = [at for at in self._crashes if now - at < window] + [now]
        self._was_ready = self._was_ready or was_ready
        # One that never answered has a fault that restarting seldom mends (its port was taken): one more try.
        most = self.settings.max_restarts if self._was_ready else 1
        if len(self._crashes) > most:
            count = len(self._crashes)
            said = f"{why} That was crash {count} within {window:g} s: it is left down. Mend the cause and restart."
            self._become(EngineState.FAILED, said)
            return False
        self._become(EngineState.RESTARTING, f"{why} It is being restarted.")
        return True

    def _backoff_s(self) -> float:
        first = self.settings.restart_backoff_s
        return min(LONGEST_BACKOFF_S, first * 2.0 ** (len(self._crashes) - 1))

    async def _end_child(self) -> None:
        """Close the child's input, upon which it ends the engine's whole group."""
        child, self._child = self._child, None
        if child is None or child.returncode is not None:
            return
        assert child.stdin is not None
        child.stdin.close()
        try:
            async with asyncio.timeout(15):
                await child.wait()
        except TimeoutError:
            child.kill()
            await asyncio.to_thread(stale.end, self._pid_file)

    def _become(self, state: EngineState, reason: str) -> None:
        self.state, self.reason = state, reason
        level = logging.INFO if state in (EngineState.STARTING, EngineState.READY) else logging.WARNING
        log.log(level, "engine %s: %s", state.value, reason)
        self._changed.set()
        self._changed = asyncio.Event()


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def last_lines(path: Path, count: int = 15) -> str:
    """The end of a log, for a message; empty where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 16_384))
            return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-count:])
    except FileNotFoundError:
        return ""


def _status(code: int) -> str:
    return f"killed by signal {code - 128}" if code > 128 else f"exit status {code}"
