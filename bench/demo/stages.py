"""The demo's stages: measure, live through a day of questions, let it learn, keep asking during the swap."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.demo.asking import Answered, Asker, accuracy, by_skill
from bench.demo.service import DemoFailed, Service
from bench.demo.show import Bar, Show
from bench.demo.skills import Question

POLL_S = 0.25  # seconds between two looks at the night
SWAP_STAGES = frozenset({"evaluate", "judge", "promote", "swap", "recalibrate"})
CALM_PAUSE_S = 4.0  # seconds between questions while the trainer has the processor
BUSY_ASKERS = 4  # users who ask without a pause from the examination to the end of the swap
NIGHT_LIMIT_S = 1800.0  # seconds


@dataclass
class NightSeen:
    """A night as a user outside saw it."""

    report: dict[str, Any] = field(default_factory=dict)  # the service's own report
    answers: list[Answered] = field(default_factory=list)  # to all that was asked meanwhile
    swap_from: float | None = None  # perf_counter when the examination began
    swap_to: float | None = None  # perf_counter when the night was over
    seconds: float = 0.0  # wall time

    def during_swap(self) -> list[Answered]:
        """Answers whose question was under way between the examination's start and the night's end."""
        if self.swap_from is None or self.swap_to is None:
            return []
        return [a for a in self.answers if a.at >= self.swap_from and a.at - a.seconds <= self.swap_to]


async def measure(asker: Asker, questions: Sequence[Question], mode: str, show: Show, title: str) -> list[Answered]:
    """Ask all, one bar for all. Raises DemoFailed where the first questions all fail."""
    answers: list[Answered] = []
    with show.bars(title) as bars:
        async for answer in asker.ask_all(questions, mode):
            answers.append(answer)
            share = accuracy(answers)
            bars[title](len(answers), len(questions), f"{share:.0%} right" if share is not None else "")
            _stop_if_broken(answers)
    return _in_order(answers, questions)


async def live_a_day(asker: Asker, questions: Sequence[Question], show: Show) -> list[Answered]:
    """Stream the day's questions in auto mode, one bar a skill."""
    answers: list[Answered] = []
    totals = {skill: sum(q.skill == skill for q in questions) for skill in dict.fromkeys(q.skill for q in questions)}
    with show.bars(*totals) as bars:
        for skill, total in totals.items():
            bars[skill](0, total)
        async for answer in asker.ask_all(questions):
            answers.append(answer)
            skill = answer.question.skill
            mine = by_skill(answers)[skill]
            thought = sum(a.system == "system2" for a in mine)
            bars[skill](len(mine), totals[skill], f"{thought} thought through, {accuracy(mine):.0%} right")
            _stop_if_broken(answers)
    return _in_order(answers, questions)


def _in_order(answers: Sequence[Answered], questions: Sequence[Question]) -> list[Answered]:
    """The answers in the order of their questions, not of their coming."""
    place = {question.text: i for i, question in enumerate(questions)}
    return sorted(answers, key=lambda answer: place[answer.question.text])


def mixed(groups: Sequence[Sequence[Question]]) -> list[Question]:
    """The groups interleaved in proportion, so that the day's traffic looks alike from start to end."""
    placed = [((i + 0.5) / len(group), question) for group in groups for i, question in enumerate(group)]
    return [question for _, question in sorted(placed, key=lambda pair: pair[0])]


async def sleep_on_it(service: Service, asker: Asker, traffic: Sequence[Question], show: Show) -> NightSeen:
    """Start a night, show its progress, and keep asking until it is over.

    Raises DemoFailed when the night fails or has nothing to learn. A rejected candidate is no failure here.
    """
    seen, started = NightSeen(), time.perf_counter()
    known = {night["id"] for night in (await _get(service))["last"]}
    await asyncio.to_thread(service.call, "/api/night", {"why": "the demonstration's night"})
    questions = itertools.cycle(traffic)
    askers = [asyncio.create_task(_keep_asking(i, asker, questions, seen)) for i in range(BUSY_ASKERS)]
    try:
        row = await _watch(service, seen, known, show)
        await asyncio.sleep(1.0)  # a few more questions under the new adapter
    finally:
        for task in askers:
            task.cancel()
        await asyncio.gather(*askers, return_exceptions=True)
    seen.report, seen.seconds = row.get("report") or {}, time.perf_counter() - started
    if row["outcome"] not in ("promoted", "rejected"):
        raise DemoFailed(f"the night {row['outcome']}: {seen.report.get('reason')}\n{service.last_lines()}")
    return seen


async def _watch(service: Service, seen: NightSeen, known: set[Any], show: Show) -> dict[str, Any]:
    """Show each stage until the night has a row of its own that is finished."""
    deadline = time.perf_counter() + NIGHT_LIMIT_S
    with show.bars("night") as bars:
        while time.perf_counter() < deadline:
            service.must_live()
            told = await _get(service)
            _show_stage(told["progress"], bars["night"])
            if told["progress"]["stage"] in SWAP_STAGES and seen.swap_from is None:
                seen.swap_from = time.perf_counter()
            new = [row for row in told["last"] if row["id"] not in known and row["outcome"]]
            if new and not told["running"]:
                seen.swap_to = time.perf_counter()
                return dict(new[0])
            await asyncio.sleep(POLL_S)
    raise DemoFailed(f"the night was not over after {NIGHT_LIMIT_S:.0f} s\n{service.last_lines()}")


def _show_stage(progress: dict[str, Any], bar: Bar) -> None:
    bar(progress["done"], progress["total"], progress["said"], progress["stage"])


async def _get(service: Service) -> dict[str, Any]:
    return dict(await asyncio.to_thread(service.call, "/api/night"))


async def _keep_asking(place: int, asker: Asker, questions: Iterator[Question], seen: NightSeen) -> None:
    """One of the night's users. The first asks now and then from the start, the others once the swap is near."""
    for n in itertools.count():
        busy = seen.swap_from is not None
        if not busy:
            await asyncio.sleep(CALM_PAUSE_S if place == 0 else POLL_S)
            if place > 0:
                continue
        # System 2 would take the processor from the trainer: in the calm hours the users want direct answers.
        seen.answers.append(await asker.ask(next(questions), "auto" if busy and n % 4 == 0 else "system1"))


def _stop_if_broken(answers: Sequence[Answered]) -> None:
    """Raises DemoFailed with the first fault when ten requests failed and none was answered."""
    if len(answers) >= 10 and all(a.reply is None for a in answers):
        raise DemoFailed(f"no question is answered: {answers[0].error}")
