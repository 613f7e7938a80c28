"""Recognising a skill by likeness: what earlier questions of each skill looked like, learnt beside everything else.

Off as delivered (`route.alike`): a question that only looks like a skill is then answered, and learnt, as one of it.
Only questions whose skill a caller named or a pattern matched are learnt from, so that a likeness never rests on
another likeness.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from agent.day import Day
from memory.errors import SecondNatureError
from memory.store import Memory
from policies.matching import Matcher, learn
from policies.skills import SkillSettings, last_user_text, recognise

log = logging.getLogger("secondnature.likeness")
LOOK_EVERY_S = 600.0  # seconds between looks at the newest questions
EACH = 200  # questions of each skill, the newest


async def keep_alike(day: Day) -> None:
    """While the service runs: learn from time to time what each skill's questions look like."""
    while day.config.route.alike:
        try:
            day.alike.now = await asyncio.to_thread(learnt, day.memory, day.config.skills)
        except SecondNatureError as error:
            log.error("earlier questions cannot be read: %s", error.message)
        await asyncio.sleep(LOOK_EVERY_S)


def learnt(memory: Memory, skills: Sequence[SkillSettings]) -> Matcher:
    """A matcher from the newest questions of each skill that were recognised without one."""
    return learn({skill.name: _questions(memory, skill, skills) for skill in skills})


def _questions(memory: Memory, skill: SkillSettings, skills: Sequence[SkillSettings]) -> list[str]:
    asked = [episode.ask for episode in memory.episodes(skill=skill.name, limit=EACH)]
    return [
        last_user_text(ask.messages)
        for ask in asked
        if skill.pattern is None or recognise(ask.messages, None, skills).name == skill.name
    ]
