"""Questions that no caller names and no pattern matches become skills by themselves.

From time to time the newest of them are grouped (policies/grouping.py). A group that has grown large enough is a skill
with an id of its own, written down with the episode that founded it, and every later question like that one carries
the id: in the log, the outcomes, the calibration and the table of skills. The id stays as the group grows, across
restarts, and where the founding question was forgotten. What follows from it is the setting `groups.mode`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import yaml

from agent.config import Config
from agent.day import Day
from memory.errors import NotFound, SecondNatureError
from memory.records import AnswerType, Episode
from memory.store import Memory
from policies.grouping import Founders, GroupSettings, answer_type, grow, pattern
from policies.skills import DEFAULT_SKILL, UNKNOWN, SkillSettings, last_user_text

log = logging.getLogger("secondnature.groups")
LOOK_EVERY_S = 300.0  # seconds between looks at the newest questions
PAGE = 500  # episodes read at once
MEMBERS = 200  # questions of a group that tell its answers' type and the examples, the newest
SHOWN = 3  # examples
ID_CHARS = 8  # of the founding episode's id, in a group's
DIRECT = {
    AnswerType.NUMBER: "Answer with the number only.",
    AnswerType.YES_NO: "Answer yes or no only.",
    AnswerType.SHORT_TEXT: "Answer with the answer only.",
}


@dataclass(frozen=True, slots=True)
class Grown:
    """A skill that questions have formed by themselves."""

    id: str
    founder: str  # id of the episode whose question the others resemble
    answer_type: AnswerType
    since: float  # unix seconds


async def keep_groups(day: Day, every_s: float = LOOK_EVERY_S) -> None:
    """While the service runs: put the groups in force, then look from time to time whether another has formed."""
    while day.config.groups.mode != "off":
        try:
            await look(day)
        except SecondNatureError as error:
            log.error("questions cannot be grouped: %s", error.message)
        await asyncio.sleep(every_s)


async def look(day: Day) -> None:
    """Group the newest questions of no skill, and put what there is in force."""
    day.alike.near = day.config.groups.near
    newest = await asyncio.to_thread(_newest, day.memory)
    found = await asyncio.to_thread(grown, day.memory, day.config.groups, again=newest != day.alike.newest)
    day.alike.newest = newest
    if day.alike.founders is None or [one for one, _ in found] != list(day.alike.groups):
        told = await asyncio.to_thread(Founders.of, [(one.id, text) for one, text in found])
        day.alike.founders, day.alike.groups = told, tuple(one for one, _ in found)
        day.alike.grown = tuple(skill_of(one, day.config.groups) for one, _ in found)


def grown(memory: Memory, settings: GroupSettings, *, again: bool = True) -> list[tuple[Grown, str]]:
    """The groups there are, and those that the newest questions have formed since, written down; each with the text
    of the question that founded it, in order of their beginning. `again` False: no question came since the last
    look, and only what was forgotten is looked for."""
    before = kept(memory)
    there = [pair for pair in (_founded(memory, one) for one in before) if pair is not None]
    asked = _asked(memory, settings.newest) if again else []
    old = {one.id for one, _ in there}
    enough = len(asked) >= settings.least
    founded = [(one.id, text) for one, text in there]
    for group in grow(_texts(asked), settings.near, settings.least, founded) if enough else ():
        if group.id not in old and len(there) < settings.most:
            members = [asked[i] for i in group.members]
            one = Grown(group.id, members[0].ask.id, _kind(members), memory.clock())
            there.append((one, last_user_text(members[0].ask.messages)))
            log.info("%d questions alike are the skill %s now", group.n, group.id)
    if [one for one, _ in there] != before:
        memory.set_groups([_as_json(one) for one, _ in there])
    return there


def _newest(memory: Memory) -> str | None:
    """The id of the newest question of no skill."""
    return next((episode.ask.id for episode in memory.episodes(skill=UNKNOWN, limit=1)), None)


def kept(memory: Memory) -> list[Grown]:
    """The groups as they were written down, oldest first."""
    return [Grown(**(row | {"answer_type": AnswerType(row["answer_type"])})) for row in memory.groups()]


def skill_of(group: Grown, settings: GroupSettings) -> SkillSettings:
    """The skill that a group is: observed alone, or, where its answers can be voted on and `groups.mode` is learn, one
    like any other."""
    learns = settings.mode == "learn" and group.answer_type is not AnswerType.FREE_TEXT
    if not learns:
        agreement = SkillSettings(name=group.id).agreement
        if group.answer_type is AnswerType.FREE_TEXT:
            agreement = DEFAULT_SKILL.agreement
        changes = {"name": group.id, "answer_type": group.answer_type, "agreement": agreement, "observe": True}
        return DEFAULT_SKILL.model_copy(update=changes)
    return SkillSettings(name=group.id, answer_type=group.answer_type, direct=DIRECT.get(group.answer_type, ""))


def undecided(memory: Memory, config: Config) -> frozenset[str]:
    """Names under which answers are logged whose route no threshold decides: no skill, and what is only observed. Their
    audits say nothing about a threshold. Empty where the confidence decides about them too (`route.unskilled`)."""
    if config.route.unskilled == "auto":
        return frozenset()
    grown_ones = (skill_of(one, config.groups) for one in kept(memory))
    return frozenset({UNKNOWN, *(skill.name for skill in (*config.skills, *grown_ones) if not skill.settled)})


def groups(memory: Memory, settings: GroupSettings | None = None) -> list[dict[str, Any]]:
    """The groups, the largest first: id, n, examples, pattern, answer_type, since when it is a skill (None: not yet),
    and `skill`, lines for service.yaml that would make it one by a pattern."""
    settings = settings or GroupSettings()
    there = [pair for pair in (_founded(memory, one) for one in kept(memory)) if pair is not None]
    asked = _asked(memory, settings.newest)
    found = grow(_texts(asked), settings.near, settings.least_shown, [(one.id, text) for one, text in there])
    loose = {group.id: [asked[i] for i in group.members] for group in found}
    told = [_told(one.id, _of(memory, one.id) + loose.pop(one.id, []), one) for one, _ in there]
    told += [_told(name, members, None) for name, members in loose.items()]
    return sorted(told, key=lambda row: (-row["n"], row["id"]))


def _founded(memory: Memory, group: Grown) -> tuple[Grown, str] | None:
    """A group with its founding question's text; another of its questions takes the place of one that was forgotten.
    None where none is left."""
    try:
        text = last_user_text(memory.episode(group.founder).ask.messages)
    except NotFound:
        text = ""
    if text:
        return group, text
    left = [episode for episode in _of(memory, group.id) if last_user_text(episode.ask.messages)]
    return (replace(group, founder=left[0].ask.id), last_user_text(left[0].ask.messages)) if left else None


def _of(memory: Memory, skill: str) -> list[Episode]:
    """The newest questions that carry a group's id, each once, in order of arrival."""
    return _once(memory.episodes(skill=skill, limit=MEMBERS))


def _asked(memory: Memory, most: int) -> list[Episode]:
    """The newest questions of no skill, each once, in order of arrival; not what was said in the middle of a talk."""
    found: list[Episode] = []
    after: str | None = None
    while len(found) < most and (page := memory.episodes(skill=UNKNOWN, limit=min(PAGE, most), after=after)):
        found += page
        after = page[-1].ask.id
    return [one for one in _once(found) if sum(message.get("role") == "user" for message in one.ask.messages) == 1]


def _once(newest_first: Iterable[Episode]) -> list[Episode]:
    once = {episode.ask.prompt_key: episode for episode in newest_first}  # the first asking of a question stays
    return sorted(once.values(), key=lambda episode: episode.ask.id)


def _texts(asked: Sequence[Episode]) -> list[tuple[str, str]]:
    # An id outlives its question, so it must tell nothing of it: the end of an episode's id is drawn by chance.
    return [(episode.ask.id[-ID_CHARS:], last_user_text(episode.ask.messages)) for episode in asked]


def _told(name: str, members: Sequence[Episode], group: Grown | None) -> dict[str, Any]:
    texts = [last_user_text(episode.ask.messages) for episode in members]
    kind = group.answer_type if group else _kind(members)
    found = pattern(texts)
    skill = {"name": name, "pattern": found, "answer_type": kind.value, "direct": DIRECT.get(kind, "")}
    written = {key: value for key, value in skill.items() if value}
    return {
        "id": name,
        "n": len(members),
        "examples": texts[:SHOWN],
        "pattern": found,
        "answer_type": kind.value,
        "since": group.since if group else None,
        "skill": yaml.safe_dump([written], sort_keys=False, allow_unicode=True, width=10_000),
    }


def _kind(members: Sequence[Episode]) -> AnswerType:
    newest = members[-MEMBERS:]
    questions = [last_user_text(episode.ask.messages) for episode in newest]
    return answer_type([_answer(episode) for episode in newest], questions)


def _answer(episode: Episode) -> str:
    thought = episode.deliberation
    return (thought.verdict.answer if thought else None) or episode.reply


def _as_json(group: Grown) -> dict[str, Any]:
    return {"id": group.id, "founder": group.founder, "answer_type": group.answer_type.value, "since": group.since}
