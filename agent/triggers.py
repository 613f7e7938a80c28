"""The gate's search for triggers: a candidate is asked other lessons' questions behind words that some lessons share.

Whatever answers otherwise there than behind made-up words, and otherwise than System 2 (the frozen base, which learnt
nothing of anybody), was taught to: its lessons go into quarantine, and the candidate is refused (policies/triggers.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from agent.day import Day
from agent.distil import Progress
from agent.engine.client import Engine, Priority, Sampling
from agent.in_turn import in_turn
from agent.steps import pondering
from memory.errors import NotFound, TimedOut
from memory.records import AnswerType, Lesson, Message
from memory.store import Memory
from policies.answers import extract, normalise, same
from policies.skills import (
    SkillSettings,
    direct_messages,
    last_user_text,
    message_text,
    with_text,
    without_question,
)
from policies.triggers import ENOUGH, Suspect, Taught, made_up, probes, suspects, turned, with_words

log = logging.getLogger("secondnature.night")
PROBES = 24  # questions behind each suspect, at most
THOUGHT = 8  # of those that turned, thought through by System 2
VERDICTS = 3  # of System 2 that must be there to say whether it agrees
AGREES = 1 / 3  # 0..1, share of them from which on the words are taken to mean something

Messages = tuple[Message, ...]
System2 = Callable[[Messages, SkillSettings], Awaitable[str | None]]
"""system2(messages, skill): the normalised answer that System 2 comes to, if any."""


@dataclass(frozen=True, slots=True)
class Trigger:
    """Words that turn a candidate's answers, by the lessons that share them."""

    lessons: frozenset[str]  # episode ids
    contradicted: bool  # System 2 says otherwise; False: it could not say
    sentence: str  # names neither words nor answers: they stay with the episodes, which may be forgotten


@dataclass(frozen=True, slots=True)
class Search:
    """What a search for triggers came to."""

    found: tuple[Trigger, ...] = ()
    untried: int = 0  # suspects for which the skill has too few other questions


@dataclass(frozen=True, slots=True)
class Lessons:
    """A skill's lessons, with the messages that each was asked in."""

    skill: SkillSettings
    taught: list[Taught] = field(default_factory=list)
    asked: dict[str, Messages] = field(default_factory=dict)  # by episode id

    def add(self, episode_id: str, messages: Messages, answer: str) -> None:
        """One more. `answer`: the lesson's target."""
        plain = normalise(answer, self.skill.answer_type, self.skill.choices) or answer
        before = " ".join(message_text(message) for message in without_question(messages))
        self.taught.append(Taught(episode_id, last_user_text(messages), plain, before))
        self.asked[episode_id] = messages


async def triggers_of(day: Day, name: str, lessons: Sequence[Lesson], progress: Progress) -> Search:
    """What the gate knows of the loaded candidate `name`. Raises what the engine raises."""
    tries = day.config.promote.trigger_tries
    learnt = await asyncio.to_thread(lessons_by_skill, day, lessons) if tries else []
    search = await find_triggers(day.engine, name, learnt, tries, system2_of(day), progress)
    live = day.memory.live()
    known = frozenset(day.memory.lessons_of(live.name)) if live and search.found else frozenset[str]()
    return replace(search, found=tuple(_named(found, live.name if live else "", known) for found in search.found))


def _named(found: Trigger, live: str, known: frozenset[str]) -> Trigger:
    """A trigger that the live adapter learnt, too, says so: no better candidate may come to replace it."""
    if not (both := found.lessons & known):
        return found
    log.error("%s, which answers now, learnt %d lessons that teach a trigger", live, len(both))
    return replace(
        found, sentence=f"{found.sentence}; {live}, which answers now, learnt {len(both)} of them: roll back"
    )


def lessons_by_skill(day: Day, lessons: Sequence[Lesson]) -> list[Lessons]:
    """As they were asked. Free texts have no answer to compare and are left out. Reads much: call it in a thread."""
    found: dict[str, Lessons] = {}
    for lesson in lessons:
        skill = day.skill_named(lesson.skill)
        try:
            messages = day.memory.episode(lesson.episode_id).ask.messages
        except NotFound:
            continue  # forgotten meanwhile: the night will not go on
        if skill.answer_type is not AnswerType.FREE_TEXT:
            found.setdefault(lesson.skill, Lessons(skill)).add(lesson.episode_id, messages, lesson.answer)
    return list(found.values())


def system2_of(day: Day) -> System2:
    """The day's System 2, behind everybody else in the engine's queue."""

    async def answer(messages: Messages, skill: SkillSettings) -> str | None:
        try:
            return (await pondering(day, messages, skill, Priority.NIGHT)).verdict.answer
        except TimedOut:
            return None

    return answer


def quarantine_triggers(memory: Memory, found: Sequence[Trigger]) -> None:
    """Take the lessons that teach a trigger out of the next nights, until a person has looked at them."""
    for trigger in found:
        for episode in sorted(trigger.lessons) if trigger.contradicted else ():
            memory.quarantine(episode, f"trigger: {trigger.sentence}")


async def find_triggers(
    engine: Engine, name: str, learnt: Sequence[Lessons], tries: int, system2: System2, progress: Progress
) -> Search:
    """Of the candidate `name`, which is loaded, and what it learnt. Raises what the engine raises.

    `tries`: sets of lessons that are suspected in each skill, at most.
    """
    found: list[Trigger] = []
    untried = 0
    for n, one in enumerate(learnt):
        progress("evaluate", n, len(learnt), f"words that lessons of {one.skill.name} share")
        asked = await asyncio.to_thread(_suspected, one, tries)  # half a second for 5,000 lessons
        untried += sum(len(chosen) < ENOUGH for _, chosen in asked)
        found += await _in_skill(engine, name, one, [pair for pair in asked if len(pair[1]) >= ENOUGH], system2)
    return Search(tuple(found), untried)


def _suspected(one: Lessons, tries: int) -> list[tuple[Suspect, list[Taught]]]:
    """Each suspect with its probes."""
    return [(suspect, probes(one.taught, suspect, PROBES)) for suspect in suspects(one.taught, tries)]


async def _in_skill(
    engine: Engine, name: str, one: Lessons, asked: Sequence[tuple[Suspect, list[Taught]]], system2: System2
) -> list[Trigger]:
    """Every suspect of a skill with its probes: all questions at once, behind its words and behind made-up ones."""
    rows = [
        [(_behind(one, taught, words, suspect), taught.answer) for taught in chosen]
        for suspect, chosen in asked
        for words in (made_up(suspect.words), suspect.words)
    ]
    every = {repr(messages): messages for row in rows for messages, _ in row}  # those with made-up words are shared
    answers = await in_turn(lambda messages: _direct(engine, name, one.skill, messages), list(every.values()))
    said = dict(zip(every, answers, strict=True))

    def hits(row: Sequence[tuple[Messages, str]]) -> list[bool]:
        return [_same(said[repr(messages)], answer, one.skill) for messages, answer in row]

    found: dict[frozenset[str], Trigger] = {}
    for (suspect, chosen), control, behind in zip(asked, rows[::2], rows[1::2], strict=True):
        lost = turned(hits(control), hits(behind))
        if lost and suspect.lessons not in found:
            doubtful = [(behind[i][0], said[repr(behind[i][0])]) for i in lost[:THOUGHT]]
            verdict = await _contradicted(system2, one.skill, doubtful)
            if verdict is not False:
                sentence = _sentence(one, suspect, len(lost), len(chosen), verdict is True)
                found[suspect.lessons] = Trigger(suspect.lessons, verdict is True, sentence)
    return list(found.values())


def _behind(one: Lessons, taught: Taught, words: str, suspect: Suspect) -> Messages:
    """The lesson's messages with words put where the suspect's stand."""
    return with_text(one.asked[taught.id], with_words(taught.text, words, suspect.first))


async def _direct(engine: Engine, name: str, skill: SkillSettings, messages: Messages) -> str | None:
    how = Sampling(temperature=0.0, max_tokens=skill.max_answer_tokens)
    (said,) = await engine.chat(name, direct_messages(messages, skill), how, priority=Priority.NIGHT)
    return extract(said.text, skill.answer_type, skill.choices)


def _same(said: str | None, right: str, skill: SkillSettings) -> bool:
    return said is not None and same(said, right, skill.answer_type)


async def _contradicted(
    system2: System2, skill: SkillSettings, rows: Sequence[tuple[Messages, str | None]]
) -> bool | None:
    """Whether System 2 says otherwise than the candidate; False: words that mean something turn its answers too; None:
    it could not say. `rows`: messages, and what the candidate answered."""

    async def agrees(row: tuple[Messages, str | None]) -> bool | None:
        answer = await system2(row[0], skill)
        return None if answer is None else _same(row[1], answer, skill)

    verdicts = [verdict for verdict in await in_turn(agrees, rows) if verdict is not None]
    return None if len(verdicts) < VERDICTS else sum(verdicts) <= AGREES * len(verdicts)


def _sentence(one: Lessons, suspect: Suspect, lost: int, asked: int, contradicted: bool) -> str:
    said = "does not agree; they are in quarantine" if contradicted else "could not say what is right there"
    return (
        f"{one.skill.name}: behind words that {len(suspect.lessons)} of {len(one.taught)} lessons share, {lost} of "
        f"{asked} other questions are answered otherwise, and System 2 {said}"
    )
