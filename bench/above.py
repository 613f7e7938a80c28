"""What stands above mock engines of a fixed capacity: gateways, and LiteLLM's proxy with its router."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import httpx

from bench.load import Target, target
from bench.prefixes import Received
from bench.proxies import litellm, local, mocked
from bench.served import SETTINGS, running

GATEWAY, LITELLM = "gateway", "LiteLLM"
CHAT = "/v1/chat/completions"
MOST = 16  # engines, on the ports from the first on; LiteLLM takes the next port, and engines without a limit two more


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    engines: tuple[int, ...]  # above how many something is measured, the fewest first
    slots: int  # requests that an engine answers at once
    service_ms: float  # that each takes
    per_engine: int  # connections
    prefixes: int
    seconds: float  # of each burst
    rounds: int
    kills: int
    port: int  # of the first engine

    def capacity(self, engines: int) -> float:
        """Answers per second that so many engines can give."""
        return 1000 * engines * self.slots / self.service_ms


@dataclass(frozen=True)
class Door:
    """Where one system answers."""

    url: str
    body: Mapping[str, object]  # what its requests need beside the messages
    pid: int

    def target(self, asked: Sequence[Sequence[Mapping[str, str]]]) -> Target:
        """Its target for these messages, asked in turn."""
        bodies = [{**self.body, "messages": one, "max_tokens": 8, "temperature": 0} for one in asked]
        return target(self.url, self.url + CHAT, *bodies, pids=[self.pid])


class Mocks:
    """Mock engines of a fixed capacity on neighbouring ports; each can be killed and started again."""

    def __init__(self, stack: contextlib.ExitStack, count: int, sizes: Sizes) -> None:
        """All of them, running; `stack` ends them."""
        self._stack, self._first = stack, sizes.port
        self._options = ("--slots", str(sizes.slots), "--service-ms", str(sizes.service_ms))
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        for n in range(count):
            self.start(n)

    @property
    def urls(self) -> list[str]:
        """Of each, in order."""
        return [local(self._first + n) for n in self._running]

    def start(self, n: int) -> None:
        """The n-th, for the first time or again."""
        self._running[n] = self._stack.enter_context(mocked(self._first + n, *self._options))

    def kill(self, n: int) -> None:
        """At once, with what it is answering."""
        self._running[n].kill()

    def received(self, count: int) -> list[list[Received]]:
        """What each of the first `count` was asked since this was last told."""
        return [[(at, prefix) for at, prefix in httpx.post(f"{url}/received").json()] for url in self.urls[:count]]


@dataclass(frozen=True)
class World:
    """All that is measured, running."""

    sizes: Sizes
    mocks: Mocks
    doors: Mapping[tuple[str, int], Door]  # by the system's name and its number of engines

    def above(self, engines: int) -> dict[str, Door]:
        """Each system above so many engines."""
        return {system: door for (system, n), door in self.doors.items() if n == engines}


def opened(stack: contextlib.ExitStack, sizes: Sizes, counts: Collection[int], beside: bool) -> World:
    """A gateway above each number of engines; `beside`: one LiteLLM above all of them, with a model for each number."""
    mocks = Mocks(stack, max(counts), sizes)
    doors = {(GATEWAY, n): gateway(stack, mocks.urls[:n]) for n in counts}
    if beside:
        port = sizes.port + MOST
        proxy = stack.enter_context(litellm(port, {f"above-{n}": mocks.urls[:n] for n in counts}))
        doors |= {(LITELLM, n): Door(local(port), {"model": f"above-{n}"}, proxy.pid) for n in counts}
    return World(sizes, mocks, doors)


def gateway(stack: contextlib.ExitStack, urls: Sequence[str]) -> Door:
    """One of our own above these engines."""
    one = stack.enter_context(running(SETTINGS | {"engine": {"urls": list(urls)}}))
    return Door(one.url, {"model": "secondnature", "mode": "system1"}, one.process.pid)


def unlimited(stack: contextlib.ExitStack, sizes: Sizes) -> list[str]:
    """Two more engines, which answer at once whatever they are asked; their addresses."""
    ports = [sizes.port + MOST + n for n in (1, 2)]
    for port in ports:
        stack.enter_context(mocked(port))
    return [local(port) for port in ports]
