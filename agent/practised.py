"""Practice on the service's side: a prompt is thought through once by each method that it is practised with."""

from __future__ import annotations

import asyncio

from agent.answer import answer
from agent.day import Day
from memory.records import Ask, Episode
from policies.skills import SkillSettings


def answered_before(day: Day, prompt_key: str, skill: SkillSettings) -> tuple[str, str] | None:
    """(episode id, grade) of this prompt's answer by System 2 as the skill is set up today; None: it has none.

    Another skill, method or variant is another answer: practising one file with several compares them.
    """
    return day.memory.answered_key(prompt_key, skill.name, skill.method, day.config.system2.variant(skill))


async def practised(day: Day, ask: Ask, skill: SkillSettings) -> Episode:
    """The answer that System 2 gave before, else its answer now, in practice's own room.

    Raises TooMany where that is full, and what `answer` raises.
    """
    before = await asyncio.to_thread(answered_before, day, ask.prompt_key, skill)  # it may read many bodies
    if before is not None:
        return day.memory.episode(before[0])
    async with day.practice_room.enter():
        return await answer(day, ask, skill, kind="practice")
