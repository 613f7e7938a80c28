"""A soak: mixed traffic on a service for as long as asked, with swaps and a night, and a graph of it.

    python -m bench.soak --minutes 30 --out docs/soak --docs docs/reliability.md
    python -m bench.soak --state-dir state/soak --minutes 30 --out docs/soak    # on a service that runs already

Without --state-dir it starts a service of its own on the real model (limits raised, two random adapters to swap
between) and ends it. Traffic: sums of three numbers, 70 % in auto mode, 20 % system1, 10 % system2, 30 % streamed;
a swap a minute; a night after a third of the time, however long it takes. Writes `<out>.json` (every ten seconds:
answers, failures by kind, p50 and p99, memory of the service and of everything below it) and `<out>.svg`, and with
--docs the section `bench.soak` of a page. Code 1 if any failure is unexplained; explained are 429 and 503 with a
Retry-After. The service must run on this machine, since its memory is read from the system.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from bench.section import write_section
from bench.soak.report import UNEXPLAINED, Answered, Point, drawn, section, summed
from bench.sums import sums_service

BUCKET_S = 10.0  # seconds that one point of the graph stands for
SWAP_EVERY_S = 60.0
LOOK_S = 2.0  # seconds between two looks at a night
MIB = 2**20
SWAPPABLE = ("live", "retired", "candidate")


class Soak:
    """One run against one service."""

    def __init__(
        self, http: httpx.AsyncClient, pid: int, seconds: float, *, swap_s: float = SWAP_EVERY_S,
        bucket_s: float = BUCKET_S, seed: int = 5,
    ) -> None:  # fmt: skip
        self.http, self.process, self.seconds = http, psutil.Process(pid), seconds
        self.swap_s, self.bucket_s = swap_s, bucket_s
        self.chance = random.Random(seed)
        self.started = time.monotonic()
        self.every: list[Answered] = []
        self.latencies: list[float] = []  # seconds, of the bucket under way
        self.failures: Counter[str] = Counter()
        self.events: list[str] = []
        self.points: list[Point] = []
        self.learning = False
        self.night: tuple[float, float] | None = None  # seconds since the start at which it began and ended

    @property
    def at_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    @property
    def left(self) -> float:
        """Seconds until the end."""
        return self.started + self.seconds - time.monotonic()

    @property
    def going(self) -> bool:
        """Whether there is time left, or a night that has not ended."""
        return self.left > 0 or self.learning

    async def run(self, clients: int, night: bool) -> None:
        """Ask, swap, learn and look, until the time is up and the night over."""
        self.learning = night
        work = [self.ask() for _ in range(clients)] + [self.swap(), self.look()] + ([self.learn()] if night else [])
        await asyncio.gather(*work)

    async def ask(self) -> None:
        """One client: sums, most in auto mode, some streamed, some thought through on request."""
        while self.going:
            numbers = [self.chance.randrange(10, 1000) for _ in range(3)]
            mode = self.chance.choices(("auto", "system1", "system2"), (70, 20, 10))[0]
            body = {
                "model": "secondnature", "mode": mode, "stream": self.chance.random() < 0.3,
                "source": f"soak-{self.chance.randrange(10)}", "max_tokens": 64,
                "messages": [{"role": "user", "content": f"What is {' + '.join(map(str, numbers))}?"}],
            }  # fmt: skip
            began = time.monotonic()
            kind = await self._sent(body)
            if kind is None:
                self.latencies.append(time.monotonic() - began)
                self.every.append(Answered(self.at_s, self.latencies[-1]))
            else:
                self.failures[kind] += 1
                await asyncio.sleep(1.0)  # as a client that reads Retry-After would

    async def _sent(self, body: dict[str, Any]) -> str | None:
        """Why there was no answer; None: there was one, whole."""
        try:
            said = await self.http.post("/v1/chat/completions", json=body)
        except httpx.TransportError as error:
            return f"{UNEXPLAINED}: {type(error).__name__}"
        if said.status_code == 200:
            return _broken(said.text) if body["stream"] else None
        explained = said.status_code in (429, 503) and "retry-after" in said.headers
        return f"{'explained' if explained else UNEXPLAINED}: {said.status_code}"

    async def _told(self, method: str, path: str, **body: Any) -> httpx.Response | None:
        """An operator's request; one that is not answered is a failure like any other."""
        try:
            return await self.http.request(method, path, **body)
        except httpx.TransportError as error:
            self.failures[f"{UNEXPLAINED}: {type(error).__name__} at {path}"] += 1
            return None

    async def swap(self) -> None:
        """Put usable adapters in force in turn."""
        turn = 0
        while self.left > self.swap_s:
            await asyncio.sleep(self.swap_s)
            rows = await self._told("GET", "/api/adapters")
            usable = rows is not None and rows.status_code == 200
            names = [row["name"] for row in rows.json() if row["status"] in SWAPPABLE] if rows and usable else []
            if names:
                name, turn = names[turn % len(names)], turn + 1
                said = await self._told("POST", f"/api/adapters/{name}/promote", json={"why": "soak"})
                if said is not None:
                    done = said.status_code == 200
                    self.events.append(f"swap {name}" if done else f"swap refused {said.status_code}")

    async def learn(self) -> None:
        """One night, after a third of the time, to its end."""
        await asyncio.sleep(self.seconds / 3)
        said = await self._told("POST", "/api/night", json={"why": "soak"})
        begun = said is not None and said.status_code == 200
        self.events.append("night begins" if begun else "night refused")
        began_s = self.at_s
        while begun:
            await asyncio.sleep(min(LOOK_S, self.seconds / 10))
            now = await self._told("GET", "/api/night")
            if now is None:
                break
            if not now.json()["running"]:
                last = now.json()["last"][0]
                self.events.append(f"night {last['outcome']}")
                self.night = (began_s, self.at_s)
                break
        self.learning = False

    async def look(self) -> None:
        """A point every ten seconds."""
        while self.going:
            await asyncio.sleep(min(self.bucket_s, self.left) if self.left > 0 else self.bucket_s)
            self.points.append(self._point())

    def _point(self) -> Point:
        taken, self.latencies = self.latencies, []
        failures, self.failures = dict(self.failures), Counter()
        events, self.events = self.events, []
        low, high = np.percentile(np.array(taken) * 1000, (50, 99)).tolist() if taken else (None, None)
        below = sum(_rss(child) for child in _children(self.process))
        return Point(self.at_s, len(taken), low, high, failures, _rss(self.process), below, events)

    def end(self) -> None:
        """A last point for what ended after the last look."""
        if self.latencies or self.failures or self.events:
            self.points.append(self._point())


def _broken(stream: str) -> str | None:
    if '"error"' in stream:
        return f"{UNEXPLAINED}: an error in a stream"
    return None if stream.rstrip().endswith("data: [DONE]") else f"{UNEXPLAINED}: a stream without its end"


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        found: list[psutil.Process] = process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return found


def _rss(process: psutil.Process) -> float:
    try:
        return float(process.memory_info().rss / MIB)
    except psutil.NoSuchProcess:
        return 0.0


async def soak(url: str, pid: int, minutes: float, clients: int, night: bool, key: str | None, **how: Any) -> Soak:
    """Run against a service on this machine. `how`: Soak's own settings."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=1000) as http:
        one = Soak(http, pid, minutes * 60, **how)
        await one.run(clients, night)
        one.end()
        return one


@contextlib.contextmanager
def service(state_dir: Path | None) -> Iterator[tuple[str, int]]:
    """URL and process of the service on a state folder, or of a new one on the real model."""
    if state_dir is not None:
        note = json.loads((state_dir / "service.json").read_text())
        yield note["url"], note["pid"]
        return
    with sums_service(adapters=2) as one:
        yield one.url, one.process.pid


def written(one: Soak, out: Path, page: Path | None) -> dict[str, Any]:
    """Write the figures, the graph and the page's section; returns the sum."""
    told = summed(one.points, one.every, one.night)
    figures = json.dumps({"sum": told, "points": [asdict(p) for p in one.points]}, indent=1)
    out.with_suffix(".json").write_text(figures)
    words = f"{told['answers']} answers in {told['minutes']:.0f} minutes, {told['unexplained']} unexplained failures"
    picture = out.with_suffix(".svg")
    picture.write_text(drawn(one.points, words))
    if page is not None:
        where = os.path.relpath(picture, page.parent)
        write_section(page, "bench.soak", section(told, where, f"python -m bench.soak --minutes {one.seconds / 60:g}"))
    return told


def main() -> int:
    """Soak, write, tell. Returns 1 where a failure is unexplained."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state-dir", type=Path, help="of a service that runs; without it one is started")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--no-night", action="store_true")
    parser.add_argument("--key", help="API key of the role operate")
    parser.add_argument("--out", type=Path, required=True, help="path without its ending")
    parser.add_argument("--docs", type=Path, help="page whose section `bench.soak` is written")
    given = parser.parse_args()
    with service(given.state_dir) as (url, pid):
        one = asyncio.run(soak(url, pid, given.minutes, given.clients, not given.no_night, given.key))
    told = written(one, given.out, given.docs)
    print(json.dumps(told, indent=2))
    return 1 if told["unexplained"] else 0


if __name__ == "__main__":
    sys.exit(main())
