"""A soak: mixed traffic on a running service for as long as asked, with swaps and a night, and a graph of it.

    secondnature serve --state-dir state/soak &
    python -m bench.soak --state-dir state/soak --minutes 30 --out docs/soak

Writes `<out>.json` (every ten seconds: answers, failures by kind, latency p50 and p99, memory of the service and of
everything below it) and `<out>.svg`. Code 1 if any failure is unexplained; explained are 429 and 503 with a
Retry-After. The service must run on this machine, since its memory is read from the system.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

BUCKET_S = 10.0  # seconds that one point of the graph stands for
SWAP_EVERY_S = 60.0
MIB = 2**20
WIDTH, HEIGHT, LEFT, TOP = 720, 150, 60, 24  # SVG units; HEIGHT is one panel's


@dataclass
class Point:
    """What happened in one bucket."""

    at_s: float  # seconds since the start
    answers: int = 0
    p50_ms: float | None = None
    p99_ms: float | None = None
    failures: dict[str, int] = field(default_factory=dict)
    service_mib: float = 0.0
    below_mib: float = 0.0  # engine and trainer
    events: list[str] = field(default_factory=list)


class Soak:
    """One run against one service."""

    def __init__(self, http: httpx.AsyncClient, pid: int, seconds: float, seed: int = 5) -> None:
        self.http, self.process, self.seconds = http, psutil.Process(pid), seconds
        self.chance = random.Random(seed)
        self.started = time.monotonic()
        self.latencies: list[float] = []  # seconds, of the bucket under way
        self.failures: Counter[str] = Counter()
        self.events: list[str] = []
        self.points: list[Point] = []

    @property
    def left(self) -> float:
        """Seconds until the end."""
        return self.started + self.seconds - time.monotonic()

    async def run(self, clients: int, night: bool) -> list[Point]:
        """Ask, swap, learn and look, until the time is up."""
        work = [self.ask() for _ in range(clients)] + [self.swap(), self.look()] + ([self.learn()] if night else [])
        await asyncio.gather(*work)
        return self.points

    async def ask(self) -> None:
        """One client: sums, most in auto mode, some streamed, some thought through on request."""
        while self.left > 0:
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
            else:
                self.failures[kind] += 1
                await asyncio.sleep(1.0)  # as a client that reads Retry-After would

    async def _sent(self, body: dict[str, Any]) -> str | None:
        try:
            said = await self.http.post("/v1/chat/completions", json=body)
        except httpx.TransportError as error:
            return f"unexplained: {type(error).__name__}"
        if said.status_code == 200:
            broken = body["stream"] and not said.text.rstrip().endswith("data: [DONE]")
            return "unexplained: a stream without its end" if broken else None
        explained = said.status_code in (429, 503) and "retry-after" in said.headers
        return f"{'explained' if explained else 'unexplained'}: {said.status_code}"

    async def swap(self) -> None:
        """Put usable adapters in force in turn."""
        turn = 0
        while self.left > SWAP_EVERY_S:
            await asyncio.sleep(SWAP_EVERY_S)
            rows = (await self.http.get("/api/adapters")).json()
            names = [row["name"] for row in rows if row["status"] in ("live", "retired")]
            if names:
                name, turn = names[turn % len(names)], turn + 1
                said = await self.http.post(f"/api/adapters/{name}/promote", json={"why": "soak"})
                self.events.append(f"swap {name}" if said.status_code == 200 else f"swap refused {said.status_code}")

    async def learn(self) -> None:
        """One night, after a third of the time."""
        await asyncio.sleep(self.seconds / 3)
        said = await self.http.post("/api/night", json={"why": "soak"})
        self.events.append("night begins" if said.status_code == 200 else f"night refused {said.status_code}")

    async def look(self) -> None:
        """A point every ten seconds."""
        while self.left > 0:
            await asyncio.sleep(min(BUCKET_S, max(self.left, 0.1)))
            self.points.append(self._point())

    def _point(self) -> Point:
        taken, self.latencies = self.latencies, []
        failures, self.failures = dict(self.failures), Counter()
        events, self.events = self.events, []
        low, high = np.percentile(np.array(taken) * 1000, (50, 99)).tolist() if taken else (None, None)
        below = sum(_rss(child) for child in self.process.children(recursive=True))
        at_s = time.monotonic() - self.started
        return Point(at_s, len(taken), low, high, failures, _rss(self.process), below, events)


def _rss(process: psutil.Process) -> float:
    try:
        return float(process.memory_info().rss / MIB)
    except psutil.NoSuchProcess:
        return 0.0


def summed(points: Sequence[Point]) -> dict[str, Any]:
    """The run in a few numbers."""
    failures = sum((Counter(point.failures) for point in points), Counter())
    memory = [point.service_mib for point in points]
    half = len(memory) // 2
    return {
        "minutes": points[-1].at_s / 60,
        "answers": sum(point.answers for point in points),
        "failures": dict(failures),
        "unexplained": sum(n for kind, n in failures.items() if kind.startswith("unexplained")),
        "p99_ms_worst_bucket": max((p.p99_ms for p in points if p.p99_ms is not None), default=None),
        "swaps": sum(event.startswith("swap sn-") for point in points for event in point.events),
        "service_mib_first_half": float(np.median(memory[:half])) if half else None,
        "service_mib_second_half": float(np.median(memory[half:])),
    }


def drawn(points: Sequence[Point], said: str) -> str:
    """Two panels over time: latency (p50 and p99), and the service's memory."""
    panels = (
        ("latency, ms: p50 and p99", [[p.p50_ms or 0.0 for p in points], [p.p99_ms or 0.0 for p in points]]),
        ("memory of the service, MiB", [[p.service_mib for p in points]]),
    )
    parts = [f"<title>{said}</title>"]
    for row, (title, lines) in enumerate(panels):
        top, most = TOP + row * (HEIGHT + 40), max(max(line) for line in lines) or 1.0
        parts.append(f'<text x="{LEFT}" y="{top - 6}">{title}, up to {most:,.0f}</text>')
        parts.append(f'<rect x="{LEFT}" y="{top}" width="{WIDTH - LEFT}" height="{HEIGHT}" fill="none" stroke="#999"/>')
        for line, colour in zip(lines, ("#1f6f8b", "#c8553d"), strict=False):
            parts.append(f'<polyline fill="none" stroke="{colour}" points="{_path(line, points, top, most)}"/>')
    parts.append(f'<text x="{LEFT}" y="{TOP + 2 * (HEIGHT + 40)}">{points[-1].at_s / 60:.0f} minutes</text>')
    size = f'viewBox="0 0 {WIDTH + 10} {TOP + 2 * (HEIGHT + 40) + 10}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">{"".join(parts)}</svg>'
    )


def _path(line: Sequence[float], points: Sequence[Point], top: float, most: float) -> str:
    wide = (WIDTH - LEFT) / points[-1].at_s
    return " ".join(
        f"{LEFT + p.at_s * wide:.1f},{top + HEIGHT * (1 - y / most):.1f}" for y, p in zip(line, points, strict=True)
    )


async def soak(state_dir: Path, minutes: float, clients: int, night: bool, key: str | None) -> list[Point]:
    """Run against the service on a state folder."""
    note = json.loads((state_dir / "service.json").read_text())
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with httpx.AsyncClient(base_url=note["url"], headers=headers, timeout=600) as http:
        return await Soak(http, note["pid"], minutes * 60).run(clients, night)


def main() -> None:
    """Soak, write, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--no-night", action="store_true")
    parser.add_argument("--key", help="API key of the role operate")
    parser.add_argument("--out", type=Path, required=True, help="path without its ending")
    given = parser.parse_args()
    points = asyncio.run(soak(given.state_dir, given.minutes, given.clients, not given.no_night, given.key))
    told = summed(points)
    given.out.with_suffix(".json").write_text(
        json.dumps({"sum": told, "points": [asdict(p) for p in points]}, indent=1)
    )
    words = f"{told['answers']} answers in {told['minutes']:.0f} minutes, {told['unexplained']} unexplained failures"
    given.out.with_suffix(".svg").write_text(drawn(points, words))
    print(json.dumps(told, indent=2))
    sys.exit(1 if told["unexplained"] else 0)


if __name__ == "__main__":
    main()
