"""Swaps under a constant load: what fails, what slows down, and whether every answer is by whom it says.

Two adapters have learnt by heart what to say to a few questions, each with a word of its own: an answer tells who gave
it. The questions share a long beginning, so that the prefix cache is used: an answer from another adapter's cache
would be the other's, or neither's. Every answer names its adapter in a header, and is compared with what that one
said alone.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import aiohttp
import numpy as np

from bench.served import Served
from memory.records import AnswerType, Lesson, Message

LOAD = 8  # requests under way
QUESTIONS = 8
TOKENS = 8
BASE = "base"
SPEAKERS = ("Amber", "Birch")  # each its own adapter's word
OPENING = "You are asked many small questions on a long day. Answer each of them shortly, in plain words. " * 3


@dataclass(frozen=True)
class SwapRow:
    """Swaps under a constant load."""

    swaps: int
    requests: int
    failed: int
    wrong: int  # answers that are another System 1's and not the named one's
    nobodys: float  # 0..1, share of answers under a swap or within a second of it that are neither's
    nobodys_in_calm: float  # 0..1
    p99_before_ms: float  # of those not near a swap
    during: int  # answers under way during a swap
    p99_during_ms: float
    flip_s: float  # median seconds from the command until the pointer flips
    first_answer_s: float  # median seconds from the command until an answer of the new one


@dataclass
class Seen:
    """The load's answers."""

    answers: list[tuple[float, float, int, str, str]] = field(default_factory=list)  # began, ended, question, who, text
    failed: int = 0


def lessons_of(speaker: str) -> list[Lesson]:
    """What an adapter is taught, so that it is known by its answers."""
    return [_lesson(n, f"{speaker} says {n}, {speaker} says {n}.") for n in range(QUESTIONS)]


def _lesson(n: int, answer: str) -> Lesson:
    key = f"{n:064x}"
    kind = AnswerType.SHORT_TEXT
    return Lesson(key, "speaking", "bench", key, messages(n), answer, kind, "gold", 1, 1, 1.0, 0.0)


def messages(n: int) -> tuple[Message, ...]:
    """Question `n`."""
    asked = f"Say something about number {n}."
    return {"role": "system", "content": OPENING}, {"role": "user", "content": asked}


async def swaps(one: Served, count: int, calm_s: float) -> SwapRow:
    """Put one adapter after the other in force under load, `calm_s` seconds apart."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        alone = await references(session, one)
        seen, done = Seen(), asyncio.Event()
        load = [asyncio.create_task(_keep_asking(session, one, seen, done, n)) for n in range(LOAD)]
        spans, flips = [], []
        for name in itertools.islice(itertools.cycle(one.adapters), count):
            await asyncio.sleep(calm_s)
            began = time.perf_counter()
            flips.append(await _promote(session, one, name))
            spans.append((began, time.perf_counter(), name))
        await asyncio.sleep(calm_s)
        done.set()
        await asyncio.gather(*load)
    return _row(seen, spans, flips, alone)


async def references(session: aiohttp.ClientSession, one: Served) -> dict[str, list[str]]:
    """What the base and each adapter answer to every question, alone; the base is in force again afterwards."""
    found = {BASE: [(await _ask(session, one, n))[1] for n in range(QUESTIONS)]}
    for name in one.adapters:
        await _promote(session, one, name)
        found[name] = [(await _ask(session, one, n))[1] for n in range(QUESTIONS)]
    for _ in one.adapters:
        async with session.post(f"{one.url}/api/rollback", json={"why": "bench"}) as said:
            await said.read()
    return found


async def _keep_asking(
    session: aiohttp.ClientSession, one: Served, seen: Seen, done: asyncio.Event, first: int
) -> None:
    for n in itertools.count(first, 3):
        if done.is_set():
            return
        began = time.perf_counter()
        try:
            who, text = await _ask(session, one, n % QUESTIONS)
            seen.answers.append((began, time.perf_counter(), n % QUESTIONS, who, text))
        except (RuntimeError, aiohttp.ClientError):
            seen.failed += 1


async def _ask(session: aiohttp.ClientSession, one: Served, n: int) -> tuple[str, str]:
    """(who answered, what). Raises RuntimeError."""
    body: dict[str, Any] = {"model": "secondnature", "mode": "system1", "max_tokens": TOKENS, "temperature": 0}
    body["messages"] = messages(n)
    async with session.post(f"{one.url}/v1/chat/completions", json=body) as said:
        told = await said.json()
        if said.status != 200:
            raise RuntimeError(f"status {said.status}")
        who = said.headers.get("x-secondnature-adapter", BASE)
    return who, told["choices"][0]["message"]["content"]


async def _promote(session: aiohttp.ClientSession, one: Served, name: str) -> float:
    """Seconds until the flip. Raises RuntimeError."""
    async with session.post(f"{one.url}/api/adapters/{name}/promote", json={"why": "bench"}) as said:
        told = await said.json()
        if said.status != 200:
            raise RuntimeError(f"the swap was refused: {told}")
    return float(told["flip_s"])


def _row(seen: Seen, spans: list[tuple[float, float, str]], flips: list[float], alone: dict[str, list[str]]) -> SwapRow:
    during = [a for a in seen.answers if any(a[0] < to and a[1] > began for began, to, _ in spans)]
    near = [a for a in seen.answers if any(a[0] < to + 1 and a[1] > began for began, to, _ in spans)]
    calm = [a for a in seen.answers if a not in set(near)]
    p99 = [1000 * float(np.percentile([a[1] - a[0] for a in part], 99)) for part in (calm, during)]
    firsts = [min((a[1] for a in seen.answers if a[3] == name and a[0] > began), default=np.nan) - began
              for began, _, name in spans]  # fmt: skip
    return SwapRow(
        swaps=len(spans),
        requests=len(seen.answers) + seen.failed,
        failed=seen.failed,
        wrong=sum(_is_anothers(a, alone) for a in seen.answers),
        nobodys=_nobodys(near, alone),
        nobodys_in_calm=_nobodys(calm, alone),
        p99_before_ms=p99[0],
        during=len(during),
        p99_during_ms=p99[1],
        flip_s=median(flips),
        first_answer_s=median(firsts),
    )


def _is_anothers(answer: tuple[float, float, int, str, str], alone: dict[str, list[str]]) -> bool:
    _, _, n, who, text = answer
    return text != alone[who][n] and any(text == said[n] for said in alone.values())


def _nobodys(answers: list[tuple[float, float, int, str, str]], alone: dict[str, list[str]]) -> float:
    """Share of the answers that nobody gave alone."""
    return sum(all(a[4] != said[a[2]] for said in alone.values()) for a in answers) / max(1, len(answers))


def told(swap: SwapRow) -> str:
    """In words."""
    return (
        f"{swap.swaps} swaps under {LOAD} requests at once: {swap.failed} of {swap.requests} requests failed, "
        f"{swap.wrong} answered as another; in nobody's words {swap.nobodys:.1%} near a swap and "
        f"{swap.nobodys_in_calm:.1%} in calm; p99 {swap.p99_during_ms:.0f} ms of the {swap.during} under way during a "
        f"swap, {swap.p99_before_ms:.0f} ms otherwise (ratio {swap.p99_during_ms / swap.p99_before_ms:.2f}); "
        f"{swap.flip_s:.2f} s from the command to the flip, {swap.first_answer_s:.2f} s to the first answer of the "
        "new one"
    )
