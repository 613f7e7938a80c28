"""The gateway against vLLM alone, and a swap under load, on one machine in one run.

    python -m bench.gateway [--rounds 3] [--seconds 20] [--json]

The same short questions are asked of vLLM itself (`/v1/chat/completions`, plain, and with the log-probabilities that
confidence needs) and of the service (`mode: system1`), in turn, at each concurrency; a row's ratios are of medians over
the rounds. Then, under a constant load, an adapter is swapped in and out: failed requests, and the 99th percentile of
the requests under way during a swap against the others.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import aiohttp
import numpy as np
from rich.console import Console
from rich.table import Table

from bench.served import Served, served

TOKENS = 8  # of an answer
SWAPS = 6
LOAD = 8  # requests under way during the swaps
SYSTEM1 = {"mode": "system1", "model": "secondnature"}
PLAIN: dict[str, Any] = {"model": "base"}
SCORED: dict[str, Any] = {"model": "base", "logprobs": True, "top_logprobs": 2}


@dataclass(frozen=True)
class Row:
    """One way of asking at one concurrency, over all rounds."""

    what: str
    concurrency: int
    requests: int
    p50_ms: float
    p99_ms: float
    per_s: float  # answers per second


@dataclass(frozen=True)
class SwapRow:
    """Swaps under a constant load."""

    swaps: int
    requests: int
    failed: int
    p99_before_ms: float
    p99_during_ms: float
    flip_s: float  # median seconds from the command until the pointer flips


class Client:
    """Asks one server short questions, none of them twice."""

    def __init__(self, session: aiohttp.ClientSession, url: str, key: str, fixed: Mapping[str, Any]) -> None:
        self.session, self.url, self.fixed = session, f"{url}/v1/chat/completions", fixed
        self.headers = {"Authorization": f"Bearer {key}"}
        self.draw = random.Random(7)

    async def ask(self) -> float:
        """Milliseconds of one request. Raises RuntimeError on any other status than 200."""
        text = f"What is {self.draw.randint(10, 99)} + {self.draw.randint(10, 99)}?"
        message = {"role": "user", "content": f"{text} Say the number only."}
        body = {**self.fixed, "messages": [message], "max_tokens": TOKENS, "temperature": 0}
        started = time.perf_counter()
        async with self.session.post(self.url, json=body, headers=self.headers) as said:
            await said.read()
            if said.status != 200:
                raise RuntimeError(f"status {said.status}")
        return 1000 * (time.perf_counter() - started)


async def burst(client: Client, concurrency: int, seconds: float) -> tuple[list[float], float]:
    """Keep so many requests under way for so long: milliseconds of each, and answers per second."""
    until, times = time.perf_counter() + seconds, list[float]()

    async def keep_asking() -> None:
        while time.perf_counter() < until:
            times.append(await client.ask())

    started = time.perf_counter()
    await asyncio.gather(*(keep_asking() for _ in range(concurrency)))
    return times, len(times) / (time.perf_counter() - started)


async def compare(one: Served, levels: list[int], rounds: int, seconds: float) -> list[Row]:
    """Every way at every concurrency, taken in turn so that a drift of the machine hits all alike."""
    rows = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        ways = {
            "vLLM": Client(session, one.engine_url, one.engine_key, PLAIN),
            "vLLM, log-probs": Client(session, one.engine_url, one.engine_key, SCORED),
            "gateway": Client(session, one.url, "any", SYSTEM1),
        }
        for level in levels:
            seen: dict[str, list[tuple[list[float], float]]] = {name: [] for name in ways}
            for client in ways.values():
                await burst(client, level, 1.0)  # warm
            for _, (name, client) in itertools.product(range(rounds), ways.items()):
                seen[name].append(await burst(client, level, seconds))
            rows += [row(name, level, found) for name, found in seen.items()]
    return rows


def row(what: str, level: int, found: list[tuple[list[float], float]]) -> Row:
    """Medians over the rounds."""
    p50, p99 = (median(float(np.percentile(times, q)) for times, _ in found) for q in (50, 99))
    return Row(what, level, sum(len(t) for t, _ in found), p50, p99, median(rate for _, rate in found))


async def swaps(one: Served) -> SwapRow:
    """Swap the adapter in and out under load."""
    spans: list[tuple[float, float]] = []
    flips: list[float] = []
    asked: list[tuple[float, float]] = []  # (began, ended)
    failed, done = 0, asyncio.Event()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        client = Client(session, one.url, "any", SYSTEM1)

        async def keep_asking() -> None:
            nonlocal failed
            while not done.is_set():
                began = time.perf_counter()
                try:
                    await client.ask()
                    asked.append((began, time.perf_counter()))
                except (RuntimeError, aiohttp.ClientError):
                    failed += 1

        load = [asyncio.create_task(keep_asking()) for _ in range(LOAD)]
        for number in range(SWAPS):
            await asyncio.sleep(5)  # the calm between swaps is what they are compared with
            path = f"/api/adapters/{one.adapter}/promote" if number % 2 == 0 else "/api/rollback"
            began = time.perf_counter()
            async with session.post(one.url + path, json={"why": "bench"}) as said:
                told = await said.json()
            spans.append((began, time.perf_counter()))
            flips.append(told["flip_s"])
        done.set()
        await asyncio.gather(*load)
    during = [e - b for b, e in asked if any(b < to and e > frm for frm, to in spans)]
    before = [e - b for b, e in asked if not any(b < to and e > frm for frm, to in spans)]
    p99 = [1000 * float(np.percentile(times, 99)) for times in (before, during)]
    return SwapRow(SWAPS, len(asked) + failed, failed, p99[0], p99[1], median(flips))


def show(rows: list[Row], swap: SwapRow) -> None:
    """Two tables."""
    console = Console()
    table = Table("asked", "at once", "requests", "p50 ms", "p99 ms", "answers/s", "p50 added", "throughput ratio")
    for level, group in itertools.groupby(rows, key=lambda r: r.concurrency):
        found = list(group)
        for r in found:
            added, ratio = r.p50_ms - found[0].p50_ms, r.per_s / found[0].per_s
            cells = (r.what, level, r.requests, f"{r.p50_ms:.1f}", f"{r.p99_ms:.1f}", f"{r.per_s:.2f}")
            table.add_row(*map(str, cells), f"{added:+.1f} ms", f"{ratio:.3f}")
    console.print(table)
    console.print(
        f"{swap.swaps} swaps under {LOAD} requests at once: {swap.failed} of {swap.requests} requests failed; p99 "
        f"{swap.p99_during_ms:.0f} ms during, {swap.p99_before_ms:.0f} ms otherwise (ratio "
        f"{swap.p99_during_ms / swap.p99_before_ms:.2f}); {swap.flip_s:.2f} s from the command to the flip",
        soft_wrap=True,
    )


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m bench.gateway", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each burst")
    parser.add_argument("--levels", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with served() as one:
        rows = asyncio.run(compare(one, given.levels, given.rounds, given.seconds))
        swap = asyncio.run(swaps(one))
    if given.json:
        print(json.dumps({"gateway": [asdict(r) for r in rows], "swap": asdict(swap)}, indent=1))
    else:
        show(rows, swap)


if __name__ == "__main__":
    main()
