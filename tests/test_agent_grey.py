"""The dearer signals: novelty of a question under the live adapter, and what is paid near the threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent.answer import answer
from agent.in_force import InForce
from agent.novelty import put_lessons
from agent.recalibrate import in_force_for
from day_fakes import SURE, ScriptedEngine, asked, day
from memory.records import Message, Mode, System
from memory_fakes import adapter, episode, lesson
from policies.confidence import FEATURES

LIVE = adapter(1)


class Opinionated(ScriptedEngine):
    """Also says how likely the base finds an answer."""

    async def answer_logprobs(self, model: str, messages: Sequence[Message], answer: str) -> tuple[float, ...]:
        self.asked.append((model, f"opinion on {answer}"))
        return (-1.0, -3.0)


def script(model: str, text: str) -> str:
    return "8" if "Number only" in text else "The answer is 8."


def sure_of(feature: str, weight: float) -> InForce:
    """A confidence of 0.5 without the feature, more with it."""
    weights = tuple(weight if name == feature else 0.0 for name in FEATURES)
    calibrator = replace(SURE, weights=weights, means=(0.0,) * len(FEATURES))
    return InForce(LIVE, calibrator, {None: 0.6})


async def test_near_the_threshold_more_is_paid_and_the_confidence_follows(tmp_path: Path) -> None:
    engine = Opinionated(script)
    grey = {"grey_width": 0.2, "grey_samples": 3}
    one = day(tmp_path, engine, force=sure_of("agreement", 2.0), system1=grey)
    told = await answer(one, *asked(one, "What is 3 + 5?"))
    assert told.draft is not None
    assert (told.draft.signals.agreement, told.draft.signals.base_logprob) == (1.0, -2.0)
    assert told.decision.system is System.SYSTEM1
    assert (told.draft.extra_tokens, told.tokens) == (6, 8)
    assert [model for model, _ in engine.asked] == [LIVE.name, LIVE.name, "base"]
    one.memory.flush()
    assert one.memory.outcomes()[0].s1_tokens == 8
    assert one.memory.episode(told.ask.id) == told
    one.memory.close()


async def test_elsewhere_and_as_delivered_nothing_is_paid(tmp_path: Path) -> None:
    cases: list[tuple[dict[str, Any], Mode]] = [
        ({}, Mode.AUTO), ({"grey_width": 0.05}, Mode.AUTO), ({"grey_width": 0.2}, Mode.SYSTEM1),
    ]  # fmt: skip
    for number, (settings, mode) in enumerate(cases):
        engine = Opinionated(script)
        one = day(tmp_path / str(number), engine, force=sure_of("agreement", 2.0), system1=settings)
        told = await answer(one, *asked(one, "What is 3 + 5?", mode))
        assert told.draft is not None
        assert (told.draft.signals.agreement, told.draft.extra_tokens) == (None, 0)
        one.memory.close()


async def test_a_drafts_novelty_is_its_distance_to_the_live_adapters_lessons(tmp_path: Path) -> None:
    one = day(tmp_path, ScriptedEngine(script), force=sure_of("novelty", -4.0))
    one.memory.add_adapter(LIVE)
    taught = replace(lesson(episode(0)), messages=({"role": "user", "content": "What is 3 + 5?\nNumber only."},))
    one.memory.record_lessons(LIVE.name, [taught])
    before = await answer(one, *asked(one, "What is 3 + 5?"))
    await put_lessons(one)
    near = await answer(one, *asked(one, "What is 3 + 5?", number=2))
    far = await answer(one, *asked(one, "What is 999999 + 123456?", number=3))
    assert before.draft and near.draft and far.draft  # noqa: PT018
    assert (before.draft.signals.novelty, near.draft.signals.novelty) == (None, 0.0)
    assert far.draft.signals.novelty is not None
    assert far.draft.signals.novelty > 0.1
    assert far.draft.confidence is not None
    assert far.draft.confidence < (near.draft.confidence or 0.0)
    assert in_force_for(one, LIVE).lessons is one.pointer.now.lessons
    assert in_force_for(one, None).lessons is None
    one.memory.close()
