"""One live thought per method on the real engine with the real small model: that it runs, not that it is right."""

from __future__ import annotations

import pytest

from agent.engine.client import Engine
from agent.system2.deliberate import METHODS, deliberate
from agent.system2.problem import Problem, user
from agent.system2.settings import System2Settings
from agent.system2.think import Think
from memory.records import Deliberation
from policies.skills import SkillSettings
from record_outputs import CASES

pytestmark = pytest.mark.engine

LIVE = [
    "direct voted",
    "cot few-shot",
    "cot two calls",
    "rar two steps",
    "s2a",
    "bsm sum",
    "tot",
    "got",
    "open compose",
]
STAGES = {
    "direct": {"answer"},
    "cot": {"reason"},
    "rar": {"rephrase", "answer"},
    "s2a": {"rewrite", "answer"},
    "bsm": {"branch", "solve", "solve, swapped"},
    "tot": {"propose", "value"},
    "got": {"generate", "aggregate", "improve"},
}


async def live(engine: Engine, base_model: str, name: str) -> Deliberation:
    asked = CASES[name]
    problem = Problem(user(asked["question"]), SkillSettings.model_validate(asked["skill"]))
    return await deliberate(problem, Think(engine, base_model), System2Settings())


@pytest.mark.parametrize("name", LIVE)
async def test_a_method_thinks_live(engine: Engine, base_model: str, name: str) -> None:
    thought = await live(engine, base_model, name)
    assert {call.stage for call in thought.calls} >= STAGES[thought.method]
    assert thought.tokens == sum(done.completion_tokens for call in thought.calls for done in call.completions) > 0
    assert all(done.model == base_model for call in thought.calls for done in call.completions)
    assert len(thought.attempts) == sum(thought.verdict.votes.values()) > 0


async def test_worked_examples_make_the_small_model_add(engine: Engine, base_model: str) -> None:
    """Four samples are drawn by chance, each right four times in five: one of them at least."""
    thought = await live(engine, base_model, "cot few-shot")
    assert "184" in {attempt.answer for attempt in thought.attempts}


def test_every_method_is_asked_live() -> None:
    assert {CASES[name]["skill"]["method"] for name in LIVE} == set(METHODS)
