"""What was practised before: a prompt is thought through once by each method that it is practised with."""

from __future__ import annotations

from agent.day import Day
from policies.skills import SkillSettings


def answered_before(day: Day, prompt_key: str, skill: SkillSettings) -> tuple[str, str] | None:
    """(episode id, grade) of this prompt's answer by System 2 as the skill is set up today; None: it has none.

    Another skill, method or variant is another answer: practising one file with several compares them.
    """
    return day.memory.answered_key(prompt_key, skill.name, skill.method, day.config.system2.variant(skill))
