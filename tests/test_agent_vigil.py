"""The watch over audits: a skill that breaks its promise loses its trust at once, and only that skill."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from agent.answer import answer
from agent.day import Day
from agent.engine.client import Priority
from agent.in_force import RECALIBRATION, VIGIL, InForce
from agent.recalibrate import in_force_for, set_by_hand
from agent.steps import thinking
from agent.vigil import Vigil, alarmed_at, moved, rule_of
from day_fakes import SUMS, SURE, ScriptedEngine, asked, day
from memory.records import System
from policies.certify import Certificate
from policies.confidence import FEATURES
from policies.drift import DriftSettings

OTHER = {**SUMS, "name": "products", "pattern": r"^What is \d+ x \d+\?$"}
EAGER = {"floor": 1.0, "band": 1.0, "new_adapter": 1.0}  # every answer of System 1 is audited


def wrong(model: str, text: str) -> str:
    """System 1 says 7; System 2 says 8 of sums and 7 of products."""
    return "7" if "Number only" in text else "The answer is 8." if "+" in text else "The answer is 7."


def certified(threshold: float | None) -> dict[str, object]:
    return asdict(Certificate(threshold, 60, 1, 0.05, 0.05, 0.9, 0.5, 0, "audited"))


def watched(tmp_path: Path, settings: DriftSettings | None = None, chance: float = 0.0) -> tuple[Day, Vigil]:
    """A day whose System 1 is 98 % sure of everything and trusted from 0.8."""
    zeros = (0.0,) * len(FEATURES)
    one = day(tmp_path, ScriptedEngine(wrong), chance=chance, audit=EAGER, skills=[SUMS, OTHER])
    one.memory.set_calibration(None, json.loads(
        replace(SURE, weights=zeros, means=zeros, bias=4.0).to_json()))  # fmt: skip
    one.memory.set_threshold(None, 0.8, RECALIBRATION, "certified", certified(0.8))
    one.pointer.flip(in_force_for(one, None))
    vigil = Vigil(one, settings or DriftSettings())
    one.audits.start(lambda ask, skill: thinking(one, ask, skill, Priority.AUDIT), vigil.saw)
    return one, vigil


async def ask(one: Day, text: str, number: int) -> System:
    episode = await answer(one, *asked(one, text, number=number))
    await one.audits.idle()
    return episode.decision.system


async def close(one: Day) -> None:
    await one.audits.stop()
    one.memory.close()


async def test_audits_that_disagree_take_the_skills_trust_away_and_leave_the_others(tmp_path: Path) -> None:
    one, vigil = watched(tmp_path)
    systems = [await ask(one, f"What is {n} + 5?", n) for n in range(1, 9)]
    assert systems[0] is System.SYSTEM1
    assert systems[-1] is System.SYSTEM2
    assert "lost its trust" in (await answer(one, *asked(one, "What is 30 + 5?", number=30))).decision.reason
    assert await ask(one, "What is 3 x 5?", 20) is System.SYSTEM1
    assert one.memory.thresholds()["sums"] is None
    (event,) = one.memory.events()
    assert (event.who, event.what, event.detail["skill"], event.detail["to"]) == (VIGIL, "alarm", "sums", None)
    assert "no longer holds" in event.why
    assert vigil.wealth["sums"] >= 20 > vigil.wealth["products"]
    assert 'secondnature_alarms_total{skill="sums"} 1.0' in one.metrics.render().decode()
    assert not in_force_for(one, None).trusts("sums")
    assert not set_by_hand(one.memory, "sums", None)
    assert set(alarmed_at(one.memory, None)) == {"sums"}
    await close(one)


async def test_a_looser_threshold_goes_back_to_the_certified_one_first(tmp_path: Path) -> None:
    one, _ = watched(tmp_path)
    one.memory.set_threshold("sums", 0.9, RECALIBRATION, "certified", certified(0.9))
    one.memory.set_threshold("sums", 0.6, "ann", "let us see", {"max_disagreement": 0.05})
    one.pointer.flip(in_force_for(one, None))
    for n in range(1, 20):
        await ask(one, f"What is {n} + 5?", n)
    changes = [c for c in one.memory.threshold_history() if c.who == VIGIL]
    assert [c.value for c in reversed(changes)] == [0.9, None]
    assert "back from 0.600 to the certified 0.900" in changes[-1].why
    await close(one)


async def test_a_persons_goal_is_the_promise_that_is_watched(tmp_path: Path) -> None:
    one, vigil = watched(tmp_path)
    one.memory.set_threshold("sums", 0.6, "ann", "half is enough", {"max_disagreement": 0.9})
    one.pointer.flip(in_force_for(one, None))
    for n in range(1, 12):
        assert await ask(one, f"What is {n} + 5?", n) is System.SYSTEM1
    assert vigil.wealth["sums"] < 20
    assert one.pointer.now.threshold("sums") == 0.6  # a person's threshold is never moved
    await close(one)


async def test_the_step_moves_the_threshold_and_a_restart_finds_it_there(tmp_path: Path) -> None:
    one, _ = watched(tmp_path, DriftSettings(eta=0.01, false_alarm=1e-9))
    before = in_force_for(one, None).threshold("sums")
    await ask(one, "What is 3 + 5?", 1)
    stricter = one.pointer.now.threshold("sums")
    assert stricter == pytest.approx(0.8 + 0.01 * 0.95)
    assert before == 0.8
    assert in_force_for(one, None).threshold("sums") == stricter
    assert one.pointer.now.threshold("products") == 0.8
    await ask(one, "What is 3 x 5?", 2)
    assert one.pointer.now.threshold("products") == pytest.approx(0.8 - 0.01 * 0.05)
    one.memory.set_threshold("sums", 0.7, "ann", "a new decision begins a new watch")
    assert moved(one.memory, None).keys() == {"products"}
    await close(one)


async def test_answers_that_the_threshold_did_not_let_through_tell_nothing(tmp_path: Path) -> None:
    one, vigil = watched(tmp_path)
    one.pointer.flip(InForce(None, one.pointer.now.calibrator, {}))
    for n in range(1, 12):
        await ask(one, f"What is {n} + 5?", n)
    assert vigil.wealth == {}
    await close(one)


async def test_an_answer_that_a_stricter_threshold_would_not_let_through_tells_nothing_of_it(tmp_path: Path) -> None:
    one, vigil = watched(tmp_path)
    episode = await answer(one, *asked(one, "What is 1 + 5?"))
    one.memory.set_threshold("sums", 0.99, "ann", "stricter")
    one.pointer.flip(in_force_for(one, None))
    await one.audits.idle()
    assert episode.decision.audit
    assert vigil.wealth == {}
    await close(one)


def test_a_certificate_that_an_alarm_broke_certifies_no_more(tmp_path: Path) -> None:
    one = day(tmp_path, ScriptedEngine(wrong))
    memory = one.memory
    memory.set_threshold("sums", 0.9, RECALIBRATION, "certified", certified(0.9))
    assert rule_of(memory.threshold_history(), "sums", None, 0.05).certified == 0.9
    memory.set_threshold("sums", None, VIGIL, "broken")
    memory.set_threshold("sums", 0.7, "ann", "again", {"max_disagreement": 0.1})
    rule = rule_of(memory.threshold_history(), "sums", None, 0.05)
    assert (rule.certified, rule.by_hand, rule.alpha) == (None, True, 0.1)
    assert rule_of(memory.threshold_history(), "sums", "sn-0001-aaaaaa", 0.05).change == 0
    memory.close()
