"""The demonstration in the order in which it is told: morning, day, night, the next morning."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from agent.config import Config
from bench.demo.asking import Answered, Asker, accuracy, by_skill
from bench.demo.report import Measured
from bench.demo.service import DemoFailed, Service
from bench.demo.show import Show
from bench.demo.sizes import Size
from bench.demo.skills import Question, split
from bench.demo.stages import NightSeen, live_a_day, measure, mixed, sleep_on_it
from bench.demo.table import percent
from memory.records import Lesson
from memory.store import Memory

READY_LIMIT_S = 1200.0  # seconds; a first run fetches and converts the model
TRAFFIC = 60  # questions of each headroom skill kept for the night's users


@dataclass(frozen=True, slots=True)
class Questions:
    """All that will be asked: no question is in two of the lists."""

    days: tuple[tuple[Question, ...], ...]  # one list before each night
    measured: tuple[Question, ...]
    traffic: tuple[Question, ...]  # asked while it learns


def plan(size: Size, config: Config, seed: int) -> Questions:
    """The run's questions. The same for the same seed."""
    days: list[list[list[Question]]] = [[] for _ in range(size.nights)]
    measured: list[Question] = []
    traffic: list[list[Question]] = []
    skills = {skill.name: skill for skill in config.skills}
    for name, n in size.day.items():
        asked, held = split(skills[name], n + TRAFFIC, size.measured[name], config.heldout_share, seed)
        for part, day in enumerate(days):
            day.append(asked[n * part // size.nights : n * (part + 1) // size.nights])
        measured += held
        traffic.append(asked[n:])
    return Questions(tuple(tuple(mixed(day)) for day in days), tuple(measured), tuple(mixed(traffic)))


async def tell(
    service: Service, config: Config, size: Size, seed: int, measured: Measured, show: Show, started: float
) -> None:
    """Run every part and note what was measured in `measured`. Raises DemoFailed."""
    questions = plan(size, config, seed)
    await wake(service, measured, show)
    asker = Asker(service.url, config.skills)
    try:
        await first_answer(asker, questions.traffic[0], measured, show, started)
        measured.direct.append(await direct(asker, questions, show, "before"))
        for number, day in enumerate(questions.days, 1):
            measured.day += await one_day(asker, day, show, number)
            await one_night(service, asker, questions, measured, show)
            measured.direct.append(await direct(asker, questions, show, "after"))
        measured.auto = await next_morning(asker, questions, size, show)
        note_status(service, measured)
    finally:
        await asker.close()


async def wake(service: Service, measured: Measured, show: Show) -> None:
    """Start the daemon and wait until it can answer."""
    show.chapter("The service starts", "A daemon, and under it vLLM with the small model. No network is needed now.")
    begun = time.perf_counter()
    with show.bars("starting") as bars:
        while (missing := await asyncio.to_thread(service.missing)) is not None:
            measured.ready_s = time.perf_counter() - begun
            if measured.ready_s > READY_LIMIT_S:
                raise DemoFailed(f"not ready after {READY_LIMIT_S:.0f} s ({missing})\n{service.last_lines()}")
            bars["starting"](0, 0, f"{measured.ready_s:.0f} s", missing)
            await asyncio.sleep(0.5)
    measured.ready_s = time.perf_counter() - begun
    show.say(f"Ready after {measured.ready_s:.0f} s at {service.url}/v1: any OpenAI client can ask.")


async def first_answer(asker: Asker, question: Question, measured: Measured, show: Show, started: float) -> None:
    """Ask one question and show the whole answer."""
    answer = await asker.ask(question)
    measured.first_answer_s = time.perf_counter() - started
    show.say(f"First question: {question.text}")
    about = f"{answer.system or 'failed'}, {answer.tokens} tokens, {answer.seconds:.1f} s"
    show.say(f"{answer.reply or answer.error}  ({about})")


async def direct(asker: Asker, questions: Questions, show: Show, when: str) -> list[Answered]:
    """System 1 alone on the held-out questions."""
    if when == "before":
        show.chapter("Before", "What System 1, the direct answer, knows: questions that will never be lessons.")
    else:
        show.chapter("After", "The same held-out questions, System 1 alone, with what it learnt in its sleep.")
    answers = await measure(asker, questions.measured, "system1", show, "System 1")
    show.say(scores(answers))
    return answers


async def one_day(asker: Asker, day: Sequence[Question], show: Show, number: int) -> list[Answered]:
    """Unlabelled questions in auto mode: route, deliberate, agree, remember."""
    show.chapter(
        f"Day {number}: {len(day)} questions, no answers given",
        "Where System 1 may not be trusted yet, System 2 thinks four times and votes.",
        "What they agree on becomes a lesson. Nobody tells the service what is right.",
    )
    answers = await live_a_day(asker, day, show)
    show.say(f"In auto mode right: {scores(answers)}")
    return answers


async def one_night(service: Service, asker: Asker, questions: Questions, measured: Measured, show: Show) -> None:
    """Curate, distil, evaluate, judge, promote, swap; users keep asking meanwhile."""
    show.chapter("Night", "Lessons become a LoRA adapter, trained from the frozen base. Users keep asking meanwhile.")
    night = await sleep_on_it(service, asker, questions.traffic, show)
    measured.nights.append(night)
    measured.adapter = night.report.get("adapter")
    measured.lessons.append(await asyncio.to_thread(lessons_of, service, measured.adapter))
    for sentence in told_of_night(night):
        show.say(sentence)


async def next_morning(asker: Asker, questions: Questions, size: Size, show: Show) -> list[Answered]:
    """Held-out questions in auto mode: who answers now, and for how many tokens."""
    show.chapter("The next morning", "The router decides again: System 1 where it is sure, System 2 where it is not.")
    groups: dict[str, list[Question]] = {}
    for question in questions.measured:
        groups.setdefault(question.skill, []).append(question)
    asked = mixed([group[: size.auto] for group in groups.values()])
    answers = await measure(asker, asked, "auto", show, "auto")
    show.say(scores(answers))
    return answers


def note_status(service: Service, measured: Measured) -> None:
    """What is in force at the end, in the service's own words."""
    told = service.call("/api/status")
    measured.digest = told.get("digest")
    measured.model = told.get("base") or measured.model


def lessons_of(service: Service, adapter: str | None) -> list[Lesson]:
    """What an adapter was made of, read from the service's memory for the report's precision alone."""
    if adapter is None:
        return []
    with Memory.open(service.state_dir, read_only=True) as memory:
        return memory.lessons(adapter)


def told_of_night(night: NightSeen) -> list[str]:
    """The night in sentences."""
    told, during = night.report, night.during_swap()
    failed = sum(a.reply is None for a in during)
    lessons = ", ".join(f"{n} {skill}" for skill, n in (told.get("lessons") or {}).items())
    checks = (told.get("gate") or {}).get("checks") or ()
    return [
        f"Learnt: {lessons}. Training took {told.get('train_s') or 0:.0f} s of {night.seconds:.0f} s.",
        *(f"{'passed' if passed else 'FAILED'}  {name}: {sentence}" for name, passed, sentence in checks),
        f"{told.get('outcome')}: {told.get('reason')}",
        f"{len(during)} requests from the examination to the end of the swap, {failed} failed.",
    ]


def scores(answers: Sequence[Answered]) -> str:
    """ "three_sums 29 %, minutes 0 %"."""
    return ", ".join(f"{skill} {percent(accuracy(mine))}" for skill, mine in by_skill(answers).items())
