"""Practising on the service's side: what is thought through again, and what is given back."""

from __future__ import annotations

import itertools
from pathlib import Path

from agent.answer import answer
from agent.practised import answered_before
from agent.skills import methods
from day_fakes import SUMS, ScriptedEngine, asked, day
from memory.records import Mode
from policies.skills import SkillSettings

QUESTION = "What is 3 + 5?"


def script(model: str, text: str) -> str:
    return "8" if "Number only" in text else "3 + 5 = 8. The answer is 8."


async def test_each_method_thinks_a_prompt_through_once_and_has_a_row(tmp_path: Path) -> None:
    one = day(tmp_path, ScriptedEngine(script))
    ways = [{"method": "cot"}, {"method": "rar"}, {"method": "rar", "options": {"variant": "one_step"}}]
    for way in ways * 2:
        ask, _ = asked(one, QUESTION, number=len(one.memory.episodes()))
        skill = SkillSettings.model_validate(SUMS | way)
        if answered_before(one, ask.prompt_key, skill) is None:
            await answer(one, ask, skill, kind="practice")
            one.memory.flush()
    rows = methods(one.memory, "sums")
    assert [(row["method"], row["variant"], row["runs"]) for row in rows] == [
        ("cot", "", 1), ("rar", "", 1), ("rar", "variant=one_step", 1),
    ]  # fmt: skip
    one.memory.close()


async def test_practice_gives_a_question_up_once_it_can_be_no_lesson(tmp_path: Path) -> None:
    numbers = itertools.count()
    one = day(tmp_path, ScriptedEngine(lambda model, text: f"The answer is {next(numbers)}."))
    skill = SkillSettings.model_validate(SUMS | {"agreement": {"block": 2, "max_samples": 8}})

    async def attempts(number: int, kind: str, skill: SkillSettings) -> int:
        ask, _ = asked(one, QUESTION, number=number, mode=Mode.SYSTEM2)
        await answer(one, ask, skill, kind=kind)
        one.memory.flush()
        thought = one.memory.episode(ask.id).deliberation
        assert thought is not None
        return len(thought.attempts)

    assert await attempts(0, "ask", skill) == 8
    assert await attempts(1, "practice", skill) == 5  # two alike in the first request: 2 + 3 left are fewer than 6
    assert await attempts(2, "practice", skill.model_copy(update={"train": False})) == 8
    one.memory.close()
