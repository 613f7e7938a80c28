"""The gateway against vLLM alone, and a swap under load, on one machine in one run.

    python -m bench.gateway [--pairs 60] [--tokens 1] [--rounds 6] [--seconds 8] [--json]

The same kind of short question is asked of vLLM itself (`/v1/chat/completions`: plain, and with the log-probabilities
that confidence needs) and of the service (`mode: system1`), which asks the same vLLM.
One at a time they are asked in turn, whole and streamed, each way twice, of which the second counts: what an answer
leaves to be done after it then falls on the same way's next one, as it does where somebody uses one of them. What the
gateway adds is the median of the differences within the turns. These scatter with the engine, the less the less it has
to do: all ask one question again and again, whose beginning is in its prefix cache, and want one token. What does not
scatter is the part of an answer's time that lies outside the gateway's own call of the engine, a call like the one that
is made without a gateway. The least that a proxy can be (bench/hop.py) is asked in the same turns: what it adds, any
process between caller and engine does.
Then each way is kept busy at each concurrency, round by round, another one first in each, and ratios are medians of the
rounds' own. No question is asked twice then: each begins with a number of its own, within the first block of the prefix
cache, else what one way asked would be cached for the next. Answers are of 4 to 12 tokens, the same lengths in the same
order for each: of one length all would end in the same step of the engine, and whoever asks the next ones all together
would seem faster.
Last, adapters are swapped under a constant load (bench/swaps.py).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import aiohttp
import numpy as np
from rich.console import Console
from rich.table import Table

from agent.engine.supervisor import free_port
from bench.proxies import listening, local
from bench.served import Served, rotated, served
from bench.spread import error_of_median, quartiles
from bench.swaps import SPEAKERS, SwapRow, lessons_of, swaps, told

TOKENS = 1  # of an answer, one at a time
QUESTION = "What is 351 + 248? Say the number only, without a word before or after it."  # one at a time
LENGTHS = (4, 12)  # tokens of an answer, many at once
SYSTEM1: dict[str, Any] = {"mode": "system1", "model": "secondnature"}
PLAIN: dict[str, Any] = {"model": "base"}
SCORED: dict[str, Any] = {"model": "base", "logprobs": True, "top_logprobs": 0}
PEER, OURS = "vLLM, log-probs", "gateway"  # what the gateway asks for, and what it makes of it
HOP = "bare proxy"  # asked for the same, and makes nothing of it

Load = tuple[list[float], float]
"""Milliseconds of each answer, and answers per second."""


@dataclass(frozen=True)
class Turn:
    """Requests one at a time, in turn."""

    what: str
    requests: int
    p50_ms: float
    p99_ms: float
    added_ms: float  # over vLLM with log-probs, median of the differences within a turn
    added_low_ms: float  # ends of the middle half of those differences
    added_high_ms: float
    added_error_ms: float  # its standard error
    outside_ms: tuple[float, float, float] | None  # not in the gateway's call of the engine: quartiles


@dataclass(frozen=True)
class Row:
    """One way of asking at one concurrency, medians over the rounds."""

    what: str
    concurrency: int
    requests: int
    p50_ms: float
    p99_ms: float
    per_s: float  # answers per second
    ratio: float  # of answers per second to vLLM's with log-probs in the same round
    ratio_error: float  # its standard error
    plain_ratio: float  # to plain vLLM's
    p50_added_ms: float  # over the same


class Client:
    """Asks one server short questions, none of them twice, or one of them again and again."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        key: str,
        fixed: Mapping[str, Any],
        seed: int,
        question: str | None = None,
    ) -> None:
        """`fixed`: what every request's body holds besides its question; with max_tokens, else lengths differ.
        `question`: the only one; None: a new one each time."""
        self.session, self.url, self.fixed = session, f"{url}/v1/chat/completions", fixed
        self.question = question
        self.length = random.Random(1)  # the same for every client
        self.headers = {"Authorization": f"Bearer {key}"}
        self.episodes: list[str] = []  # of the answers that name one
        self.draw = random.Random(seed)  # of its own: a question asked before would be in the prefix cache

    async def ask(self) -> float:
        """Milliseconds of one request. Raises RuntimeError on any other status than 200."""
        started = time.perf_counter()
        async with self.session.post(self.url, json=self._body(), headers=self.headers) as said:
            await said.read()
            _check(said.status)
            self.episodes += said.headers.getall("x-secondnature-episode-id", [])
        return 1000 * (time.perf_counter() - started)

    async def first(self) -> float:
        """Milliseconds until a stream's first words. Raises RuntimeError."""
        body, heard = {**self._body(), "stream": True}, None
        started = time.perf_counter()
        async with self.session.post(self.url, json=body, headers=self.headers) as said:
            _check(said.status)
            async for line in said.content:
                if heard is None and line.startswith(b"data: {") and _words(line):
                    heard = time.perf_counter()
        if heard is None:
            raise RuntimeError("the stream said nothing")
        return 1000 * (heard - started)

    def _body(self) -> dict[str, Any]:
        number, a, b = self.draw.randrange(10**8, 10**9), self.draw.randint(100, 999), self.draw.randint(100, 999)
        drawn = f"{number}: what is {a} + {b}? Say the number only."
        message = {"role": "user", "content": self.question or drawn}
        length = {"max_tokens": self.length.randint(*LENGTHS), "ignore_eos": True}
        return {**length, **self.fixed, "messages": [message], "temperature": 0}


def _check(status: int) -> None:
    if status != 200:
        raise RuntimeError(f"status {status}")


def _words(line: bytes) -> bool:
    choices = json.loads(line.removeprefix(b"data: ")).get("choices") or [{}]
    return bool((choices[0].get("delta") or {}).get("content"))


def clients(
    session: aiohttp.ClientSession, one: Served, seed: int, tokens: int | None = None, question: str | None = None
) -> dict[str, Client]:
    """The three ways. `tokens`: of an answer; None: as many as `LENGTHS` allows, drawn. `question`: see Client."""
    said: dict[str, Any] = {} if tokens is None else {"max_tokens": tokens}
    return {
        "vLLM": Client(session, one.engine_url, one.engine_key, PLAIN | said, seed, question),
        PEER: Client(session, one.engine_url, one.engine_key, SCORED | said, seed + 1, question),
        OURS: Client(session, one.url, "any", SYSTEM1 | said, seed + 2, question),
    }


async def in_turn(one: Served, pairs: int, tokens: int = TOKENS, *, stream: bool) -> list[Turn]:
    """Requests one at a time, answers of so many tokens, each way twice per turn, of which the second counts."""
    with _hop(one.engine_url) as hop:
        async with aiohttp.ClientSession() as session:
            ways = clients(session, one, 0, tokens, QUESTION)
            ways[HOP] = Client(session, hop, one.engine_key, ways[PEER].fixed, 0, QUESTION)
            took: dict[str, list[float]] = {name: [] for name in ways}
            for turn in range(pairs + 2):  # the first two warm
                for name in rotated(ways, turn):
                    ask = ways[name].first if stream else ways[name].ask
                    await ask()
                    took[name].append(await ask())
            named = [] if stream else list(zip(took[OURS], ways[OURS].episodes[1::2], strict=True))[2:]
            outside = [whole - await engines_ms(session, one.url, episode) for whole, episode in named]
    took = {name: values[2:] for name, values in took.items()}
    return [_turn(name, values, took[PEER], outside if name == OURS else []) for name, values in took.items()]


@contextmanager
def _hop(engine: str) -> Iterator[str]:
    """A bare proxy above an engine: its address."""
    port = free_port()
    with listening([sys.executable, "-m", "bench.hop", "--port", str(port), "--engine", engine], local(port)):
        yield local(port)


async def engines_ms(session: aiohttp.ClientSession, url: str, episode: str) -> float:
    """Milliseconds of the gateway's call of the engine, as it remembers the episode."""
    async with session.get(f"{url}/api/episodes/{episode}") as said:
        _check(said.status)
        return 1000 * float((await said.json())["episode"]["draft"]["completion"]["seconds"])


def _turn(what: str, took: Sequence[float], peer: Sequence[float], outside: Sequence[float]) -> Turn:
    added = np.array(took) - np.array(peer)
    p50, p99 = (float(np.percentile(took, q)) for q in (50, 99))
    low, middle, high = quartiles(added)
    error = error_of_median(added)
    return Turn(what, len(took), p50, p99, middle, low, high, error, quartiles(outside) if outside else None)


async def burst(client: Client, concurrency: int, seconds: float) -> Load:
    """Keep so many requests under way for so long: milliseconds of each, and answers per second."""
    until, times = time.perf_counter() + seconds, list[float]()

    async def keep_asking() -> None:
        while time.perf_counter() < until:
            times.append(await client.ask())

    started = time.perf_counter()
    await asyncio.gather(*(keep_asking() for _ in range(concurrency)))
    return times, len(times) / (time.perf_counter() - started)


async def at_once(one: Served, levels: Sequence[int], rounds: int, seconds: float) -> list[Row]:
    """Every way at every concurrency, taken in turn so that a drift of the machine hits all alike."""
    rows = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        for level in levels:
            ways = clients(session, one, seed=1000 * level)
            seen: dict[str, list[Load]] = {name: [] for name in ways}
            for client in ways.values():
                await burst(client, level, 1.0)  # warm
            for turn in range(rounds):
                for name in rotated(ways, turn):
                    seen[name].append(await burst(ways[name], level, seconds))
            rows += [_row(name, level, found, seen[PEER], seen["vLLM"]) for name, found in seen.items()]
    return rows


def _row(what: str, level: int, found: list[Load], peer: list[Load], plain: list[Load]) -> Row:
    p50, p99 = (median(float(np.percentile(times, q)) for times, _ in found) for q in (50, 99))
    pairs = list(zip(found, peer, strict=True))
    ratios = [mine / theirs for (_, mine), (_, theirs) in pairs]
    return Row(
        what=what,
        concurrency=level,
        requests=sum(len(times) for times, _ in found),
        p50_ms=p50,
        p99_ms=p99,
        per_s=median(rate for _, rate in found),
        ratio=median(ratios),
        ratio_error=error_of_median(ratios),
        plain_ratio=median(mine / bare for (_, mine), (_, bare) in zip(found, plain, strict=True)),
        p50_added_ms=median(median(mine) - median(theirs) for (mine, _), (theirs, _) in pairs),
    )


def show_turns(title: str, turns: Sequence[Turn]) -> None:
    """One table."""
    table = Table("asked", "requests", "p50 ms", "p99 ms", "added ms (median, its error, middle half)", title=title)
    for t in turns:
        added = f"{t.added_ms:+.2f} ± {t.added_error_ms:.2f} ({t.added_low_ms:+.2f} to {t.added_high_ms:+.2f})"
        table.add_row(t.what, str(t.requests), f"{t.p50_ms:.1f}", f"{t.p99_ms:.1f}", added)
    Console(width=120).print(table)
    for t in turns:
        if t.outside_ms:
            low, middle, high = t.outside_ms
            print(f"of the {t.what}'s time outside its call of the engine: {middle:.2f} ms ({low:.2f} to {high:.2f})")


def show_rows(rows: Sequence[Row]) -> None:
    """One table."""
    table = Table(
        "asked", "at once", "requests", "p50 ms", "p99 ms", "answers/s", "ratio", "to plain vLLM", "p50 added ms"
    )
    for r in rows:
        cells = (r.what, str(r.concurrency), str(r.requests), f"{r.p50_ms:.1f}", f"{r.p99_ms:.1f}")
        table.add_row(
            *cells,
            f"{r.per_s:.2f}",
            f"{r.ratio:.3f} ± {r.ratio_error:.3f}",
            f"{r.plain_ratio:.3f}",
            f"{r.p50_added_ms:+.1f}",
        )
    Console(width=120).print(table)


async def measure(one: Served, given: argparse.Namespace) -> dict[str, Sequence[Turn | Row | SwapRow]]:
    """Everything, on one engine; each part is shown as soon as it is there, unless all is wanted as JSON."""
    found: dict[str, Sequence[Turn | Row | SwapRow]] = {}
    for name, title, stream in (("in_turn", "one at a time", False), ("first_words", "a stream's first words", True)):
        found[name] = turns = await in_turn(one, given.pairs, given.tokens, stream=stream) if given.pairs else []
        if turns and not given.json:
            show_turns(f"{title}, in turn", turns)
    found["at_once"] = rows = await at_once(one, given.levels, given.rounds, given.seconds)
    if rows and not given.json:
        show_rows(rows)
    found["swaps"] = swapped = [await swaps(one, given.calm, given.now)] if given.swaps else []
    if swapped and not given.json:
        print(told(swapped[0]), flush=True)
    return found


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m bench.gateway", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=60, help="turns one at a time; 0: none")
    parser.add_argument("--tokens", type=int, default=TOKENS, help="of an answer, one at a time")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each burst")
    parser.add_argument("--levels", type=int, nargs="*", default=[1, 8, 32, 64])
    parser.add_argument("--swaps", type=int, default=6, help="under load; 0: none")
    parser.add_argument("--now", action="store_true", help="swaps without warming")
    parser.add_argument("--calm", type=float, default=8.0, help="seconds of calm between a swap and the next")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    taught = [lessons_of(speaker) for speaker in SPEAKERS] if given.swaps else []
    with served(adapters=0, taught=taught, copies=given.swaps) as one:
        found = asyncio.run(measure(one, given))
    if given.json:
        print(json.dumps({name: [asdict(row) for row in part] for name, part in found.items()}, indent=1))


if __name__ == "__main__":
    main()
