"""Practice: prompts from a file are asked of the running service at low priority, at the engine's full batch rate."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from agent.patience import GONE_S, Patience, duration, sentence
from agent.prompts import Prompt
from memory.errors import BadInput, SecondNatureError
from policies.skills import last_user_text

ROUTE = "/api/practice"
ANSWER_S = 3600.0  # seconds that one prompt may take, its turn in the service's queue included
BATCH, BATCH_BYTES = 200, 200_000  # prompts looked up at once, and bytes of them: a body has its limit
LINE_S = 60.0  # seconds between two lines of progress in a log
GRADES = ("train", "serve", "none")


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a file is practised."""

    skill: str | None = None  # name of the skill of all prompts; None: each is recognised
    source: str = "practice"  # who is asking, for the record
    at_once: int = 32  # prompts under way at once; the service lets in as many as it has room for


async def run(
    url: str,
    key: str | None,
    prompts: Sequence[Prompt],
    wanted: Wanted,
    console: Console,
    *,
    bar: bool = True,
    gone_s: float = GONE_S,
) -> dict[str, Any]:
    """Practise every prompt that the service does not know yet; returns counts by grade, and of those known before.

    A prompt that fails for a reason of its own is counted, told, and does not stop the rest. Raises SecondNatureError
    where the service stays away or nothing more can be asked of it; what was answered is remembered.
    """
    counts: Counter[str] = Counter()

    def tell(text: str) -> None:
        console.print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)

    async with _client(url, key) as client:
        service = Patience(client, tell, gone_s=gone_s)
        grades = await _known(service, prompts, wanted)
        before = Counter(grade for grade in grades if grade)
        rest = [prompt for prompt, grade in zip(prompts, grades, strict=True) if grade is None]
        with _bar(console if bar else None, before.total(), len(prompts), counts) as step:

            async def practise(prompt: Prompt) -> None:
                counts[await _practised(service, prompt, wanted, tell)] += 1
                step()

            try:
                await _all(rest, practise, wanted.at_once)
            except SecondNatureError as error:
                done = before.total() + counts.total() - counts["failed"]
                said = f"{error.message.rstrip('.')}. {done} of {len(prompts)} prompts are answered and remembered"
                raise type(error)(f"{said}: the same command goes on with the rest") from None
    found = {grade: before[grade] + counts[grade] for grade in GRADES}
    return {"prompts": len(prompts), "known": before.total(), **found, "failed": counts["failed"]}


def _client(url: str, key: str | None) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    patient = httpx.Timeout(ANSWER_S, connect=10)
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=patient, limits=httpx.Limits())  # no limit


async def _all(prompts: Sequence[Prompt], practise: Callable[[Prompt], Awaitable[None]], at_once: int) -> None:
    queue = iter(prompts)

    async def work() -> None:
        for prompt in queue:
            await practise(prompt)

    try:
        async with asyncio.TaskGroup() as workers:
            for _ in range(min(at_once, len(prompts))):
                workers.create_task(work())
    except ExceptionGroup as group:
        raise group.exceptions[0] from None


async def _practised(service: Patience, prompt: Prompt, wanted: Wanted, tell: Callable[[str], None]) -> str:
    said = await service.post(ROUTE, {"messages": prompt, "skill": wanted.skill, "source": wanted.source})
    if said.status_code == 200:
        return str(said.json()["grade"])
    tell(f"{last_user_text(prompt)[:60]!r}: {sentence(said)}")
    return "failed"


async def _known(service: Patience, prompts: Sequence[Prompt], wanted: Wanted) -> list[str | None]:
    """The grade of each prompt's answer of an earlier run; None: it has none."""
    grades: list[str | None] = []
    for batch in batches(prompts):
        said = await service.post(f"{ROUTE}/known", {"prompts": batch, "skill": wanted.skill})
        if said.status_code == 413:  # one that is too large for the service: each is told so in its turn
            grades += [None] * len(batch)
        elif said.status_code == 200:
            grades += said.json()["grades"]
        else:
            raise BadInput(sentence(said))
    return grades


def batches(prompts: Sequence[Prompt]) -> Iterator[list[Prompt]]:
    """The prompts in order, `BATCH` at most and about `BATCH_BYTES` at a time."""
    batch: list[Prompt] = []
    size = 0
    for prompt in prompts:
        length = len(orjson.dumps(prompt))
        if batch and (len(batch) == BATCH or size + length > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(prompt)
        size += length
    if batch:
        yield batch


def seconds_left(done: int, total: int, elapsed_s: float) -> float | None:
    """How long the rest takes at the rate so far; None before the first is done. `done` of `total` in `elapsed_s`."""
    return elapsed_s / done * (total - done) if done else None


def progress(known: int, counts: Mapping[str, int], total: int, elapsed_s: float) -> str:
    """What the line says: what was passed over, what was done, by grade, and the time left for the rest.

    Prompts that were known before took no time, so they are no part of the estimate. `total`: with them.
    """
    left = seconds_left(sum(counts.values()), total - known, elapsed_s)
    said = [f"{known} known before"] if known else []
    said += [f"{counts[what]} {what}" for what in (*GRADES, "failed") if counts.get(what)]
    said += [f"{duration(left)} left"] if left else []
    return ", ".join(said)


@contextmanager
def _bar(console: Console | None, known: int, total: int, counts: Mapping[str, int]) -> Iterator[Callable[[], None]]:
    """The progress line while prompts are practised; call what it gives after each."""
    columns = (TextColumn("practice"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[said]}"))
    started = told = time.monotonic()
    with Progress(*columns, console=console, disable=console is None) as bars:
        bar = bars.add_task("practice", total=total, completed=known, said=progress(known, counts, total, 0.0))

        def step() -> None:
            nonlocal told
            now = time.monotonic()
            said = progress(known, counts, total, now - started)
            bars.update(bar, advance=1, said=said)
            if console and not console.is_terminal and now - told >= LINE_S:  # a bar is drawn in terminals alone
                told = now
                console.print(f"practice {known + sum(counts.values())}/{total} {said}", markup=False, soft_wrap=True)

        yield step
