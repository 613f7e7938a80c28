"""Swaps under a constant load: what fails, what slows down, and whether every answer is by whom it says.

Two adapters have learnt by heart what to say to a few questions, each with a word of its own: an answer tells who gave
it. What each says alone is asked first. Then copies of them under new names are put in force in turn: as after a
night, no prefix cache knows their names, and the questions share a long beginning, which has to be computed anew.
Every answer names its adapter in a header, and is compared with what that one says alone. First the new one is warmed
(agent/warm.py). Its swap lasts until `SETTLING` seconds after the flip: by then the old adapter's last answers and the
new one's first ones are there. Calm begins `RESTED` seconds after the flip; what lies between is in neither. That an
old adapter's cache never answers is a test of its own (tests/test_engine_lora.py).
"""

from __future__ import annotations

import asyncio
import bisect
import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import aiohttp
import numpy as np

from bench.served import Served
from memory.records import AnswerType, Lesson, Message

LOAD = 8  # requests under way
QUESTIONS = 4
TOKENS = 8
BASE = "base"
SETTLING = 3.0  # seconds after a flip that belong to the swap
RESTED = 8.0  # seconds after a flip from which on it is calm
DRAWS = 1000  # of the bootstrap
SPEAKERS = ("Amber", "Birch")  # each its own adapter's word
OPENING = "You are asked many small questions on a long day. Answer each of them shortly, in plain words. " * 3


Answer = tuple[float, float, int, str, str]
"""When it began and ended (seconds), the question, who answered, what."""


@dataclass(frozen=True)
class SwapRow:
    """Swaps under a constant load."""

    swaps: int
    warmed: bool
    requests: int
    failed: int
    wrong: int  # answers that are another System 1's and not the named one's
    nobodys: float  # 0..1, share of answers during a swap that are nobody's
    nobodys_in_calm: float  # 0..1
    calm: int  # answers begun in calm that ended before the next swap's command
    p50_calm_ms: float
    p99_calm_ms: float
    warming: int  # answers under way at some moment from the command until the warming's end
    p50_warming_ms: float
    p99_warming_ms: float
    warming_error: float  # standard error of p99_warming_ms / p99_calm_ms
    during: int  # answers under way at some moment from there until the swap has settled
    p50_during_ms: float
    p99_during_ms: float
    during_error: float  # standard error of p99_during_ms / p99_calm_ms
    warm_s: float  # median seconds of warming
    flip_s: float  # median seconds from its end until the pointer flips
    first_answer_s: float  # median seconds from the command until an answer of the new one


@dataclass(frozen=True)
class Span:
    """A swap, in seconds of one clock."""

    name: str  # of whom
    began: float  # the command
    warm: float  # the warming's end
    flip: float


@dataclass
class Seen:
    """The load's answers."""

    answers: list[Answer] = field(default_factory=list)
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


async def swaps(one: Served, calm_s: float, now: bool = False) -> SwapRow:
    """Put the copies one after the other in force under load, after `calm_s` seconds of calm each, warmed or `now`.

    `one.adapters`: a speaker for each of `SPEAKERS`, then copies of them in turn. Raises RuntimeError where the
    speakers cannot be told apart or a swap is refused.
    """
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        alone = await references(session, one)
        seen, done = Seen(), asyncio.Event()
        load = [asyncio.create_task(_keep_asking(session, one, seen, done, n)) for n in range(LOAD)]
        spans = []
        for name in one.adapters[len(SPEAKERS) :]:
            await asyncio.sleep(calm_s)
            began = time.perf_counter()
            flip_s = await _promote(session, one, name, now)
            spans.append(Span(name, began, time.perf_counter() - flip_s, time.perf_counter()))
            await asyncio.sleep(RESTED)
        await asyncio.sleep(calm_s)
        done.set()
        await asyncio.gather(*load)
    return _row(seen, spans, alone, warmed=not now)


async def references(session: aiohttp.ClientSession, one: Served) -> dict[str, list[str]]:
    """What the base and each adapter answer to every question, alone: a copy as its speaker. The base is in force again
    afterwards. Raises RuntimeError where two say the same to any question."""
    found = {BASE: [(await _ask(session, one, n))[1] for n in range(QUESTIONS)]}
    speakers = one.adapters[: len(SPEAKERS)]
    for name in speakers:
        await _promote(session, one, name, now=True)
        found[name] = [(await _ask(session, one, n))[1] for n in range(QUESTIONS)]
    for _ in speakers:
        async with session.post(f"{one.url}/api/rollback", json={"why": "bench"}) as said:
            if said.status != 200:
                raise RuntimeError(f"the rollback was refused: {await said.text()}")
    if any(len(set(texts)) < len(found) for texts in zip(*found.values(), strict=True)):
        raise RuntimeError(f"the adapters cannot be told apart by their answers: {found}")
    return found | {name: found[speakers[n % len(speakers)]] for n, name in enumerate(one.adapters)}


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
        except (RuntimeError, TimeoutError, aiohttp.ClientError):
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


async def _promote(session: aiohttp.ClientSession, one: Served, name: str, now: bool) -> float:
    """Seconds from the warming's end until the flip. Raises RuntimeError."""
    async with session.post(f"{one.url}/api/adapters/{name}/promote", json={"why": "bench", "now": now}) as said:
        told = await said.json()
        if said.status != 200:
            raise RuntimeError(f"the swap was refused: {told}")
    return float(told["flip_s"])


def _row(seen: Seen, spans: list[Span], alone: dict[str, list[str]], warmed: bool) -> SwapRow:
    def under_way(begin: Callable[[Span], float], end: Callable[[Span], float]) -> list[Answer]:
        return [a for a in seen.answers if any(a[0] < end(span) and a[1] > begin(span) for span in spans)]

    busy = set(under_way(lambda span: span.began, lambda span: span.flip + RESTED))
    calm = [a for a in seen.answers if a not in busy]
    warming = under_way(lambda span: span.began, lambda span: span.warm)
    during = under_way(lambda span: span.warm, lambda span: span.flip + SETTLING)
    firsts = [[a[1] for a in seen.answers if a[3] == span.name and a[0] > span.began] for span in spans]
    if not all((calm, warming, during, *firsts)):
        raise RuntimeError("too few answers between two swaps, or during one: give more seconds to --calm")
    (p50_calm, p99_calm), (p50_warming, p99_warming), (p50_during, p99_during) = (
        np.percentile([1000 * (a[1] - a[0]) for a in part], (50, 99)) for part in (calm, warming, during)
    )
    begins = [span.began for span in spans]
    warming_error, during_error = (
        ratio_error(_by_swap(part, begins), _by_swap(calm, begins)) for part in (warming, during)
    )
    return SwapRow(
        swaps=len(spans),
        warmed=warmed,
        requests=len(seen.answers) + seen.failed,
        failed=seen.failed,
        wrong=sum(_is_anothers(a, alone) for a in seen.answers),
        nobodys=_nobodys(list({*warming, *during}), alone),
        nobodys_in_calm=_nobodys(calm, alone),
        calm=len(calm),
        p50_calm_ms=float(p50_calm),
        p99_calm_ms=float(p99_calm),
        warming=len(warming),
        p50_warming_ms=float(p50_warming),
        p99_warming_ms=float(p99_warming),
        warming_error=warming_error,
        during=len(during),
        p50_during_ms=float(p50_during),
        p99_during_ms=float(p99_during),
        during_error=during_error,
        warm_s=median(span.warm - span.began for span in spans),
        flip_s=median(span.flip - span.warm for span in spans),
        first_answer_s=median(min(ends) - span.began for ends, span in zip(firsts, spans, strict=True)),
    )


def _by_swap(answers: Iterable[Answer], begins: Sequence[float]) -> list[list[float]]:
    """Seconds of the answers, by the last swap that had begun when they ended; what is before the first, with it."""
    found: list[list[float]] = [[] for _ in begins]
    for answer in answers:
        found[max(0, bisect.bisect(begins, answer[1]) - 1)].append(answer[1] - answer[0])
    return found


def ratio_error(part: Sequence[Sequence[float]], calm: Sequence[Sequence[float]]) -> float:
    """Standard error of the ratio of two p99s, by the bootstrap over swaps (Efron and Tibshirani 1993, chapter 8):
    answers of one swap wait for the same steps, so that whole swaps are drawn and not answers. Where one swap in many
    is held up it says too little. `part` and `calm`: seconds of the answers, swap by swap."""
    drawn, ratios = np.random.default_rng(0), []
    for _ in range(DRAWS):
        swaps = drawn.integers(len(part), size=len(part))
        each, rest = (np.concatenate([np.asarray(of[n]) for n in swaps]) for of in (part, calm))
        if len(each) and len(rest):
            ratios.append(np.percentile(each, 99) / np.percentile(rest, 99))
    return float(np.std(ratios))


def _is_anothers(answer: Answer, alone: dict[str, list[str]]) -> bool:
    _, _, n, who, text = answer
    return text != alone[who][n] and any(text == said[n] for said in alone.values())


def _nobodys(answers: list[Answer], alone: dict[str, list[str]]) -> float:
    """Share of the answers that nobody gave alone."""
    return sum(all(a[4] != said[a[2]] for said in alone.values()) for a in answers) / max(1, len(answers))


def told(swap: SwapRow) -> str:
    """In words."""
    warming, during = (
        f"(p99 {p99 / swap.p99_calm_ms:.2f} ± {error:.2f} times)"
        for p99, error in ((swap.p99_warming_ms, swap.warming_error), (swap.p99_during_ms, swap.during_error))
    )
    first = (
        f"while the new one is warmed p50 {swap.p50_warming_ms:.0f} ms and p99 {swap.p99_warming_ms:.0f} ms of "
        f"{swap.warming} {warming}, for {swap.warm_s:.2f} s; "
    )
    return (
        f"{swap.swaps} swaps under {LOAD} requests at once: {swap.failed} of {swap.requests} requests failed, "
        f"{swap.wrong} answered as another; in nobody's words {swap.nobodys:.1%} during a swap and "
        f"{swap.nobodys_in_calm:.1%} in calm; in calm p50 {swap.p50_calm_ms:.0f} ms and p99 {swap.p99_calm_ms:.0f} ms "
        f"of {swap.calm}; {first if swap.warmed else ''}from {'then' if swap.warmed else 'the command'} until "
        f"{SETTLING:g} s after the flip p50 {swap.p50_during_ms:.0f} ms and p99 {swap.p99_during_ms:.0f} ms of "
        f"{swap.during} {during}; {swap.flip_s:.2f} s to the flip, "
        f"{swap.first_answer_s:.2f} s from the command to the new one's first answer"
    )
