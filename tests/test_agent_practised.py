"""Practising on the service's side: what is thought through again, and what is given back."""

from __future__ import annotations

from pathlib import Path

from agent.answer import answer
from agent.practised import answered_before
from agent.skills import methods
from day_fakes import SUMS, ScriptedEngine, asked, day
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
