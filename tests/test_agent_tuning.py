"""A threshold is looked at, applied and taken back; each takes effect on the next request."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agent.answer import answer
from agent.day import Day
from agent.groups import undecided
from agent.in_force import VIGIL
from agent.recalibrate import WHO, outcomes_of
from agent.tuning import apply_threshold, logged, undo_threshold, whatif
from day_fakes import SURE, ScriptedEngine, asked, day
from memory.errors import BadInput, NotFound
from memory.records import System
from memory_fakes import episode
from policies.calibration import CalibrationSettings, fit, rescored
from policies.confidence import FEATURES
from tuning_fakes import answered, remember_past

ZEROS = (0.0,) * len(FEATURES)
HALF_SURE = replace(SURE, weights=ZEROS, means=ZEROS, bias=0.8473)  # says 0.70 of every parsed answer


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Day]:
    made = day(tmp_path, ScriptedEngine(lambda model, text: "8" if "Number only" in text else "The answer is 8."))
    made.memory.set_calibration(None, json.loads(HALF_SURE.to_json()))
    yield made
    made.memory.close()


async def who_answers(one: Day) -> System:
    return (await answer(one, *asked(one, "What is 3 + 5?"))).decision.system


async def test_applying_routes_the_next_request_otherwise_and_undo_takes_it_back(one: Day) -> None:
    one.memory.set_threshold("sums", 0.9, WHO, "certified")
    one.memory.set_threshold(None, 0.95, WHO, "certified")
    applied = apply_threshold(one, "sums", 0.6, "ann", "it is good enough")
    assert (applied["value"], applied["who"], applied["why"]) == (0.6, "ann", "it is good enough")
    assert await who_answers(one) is System.SYSTEM1
    one.memory.set_threshold(None, 0.94, WHO, "certified again")
    undone = undo_threshold(one, "ann", "it was not")
    assert (undone["id"], undone["now"]) == (applied["id"], 0.9)
    assert await who_answers(one) is System.SYSTEM2
    assert one.memory.threshold(None) == 0.94
    with pytest.raises(NotFound, match="nobody set"):
        undo_threshold(one, "ann", "again")


def test_undo_takes_back_only_what_belongs_to_the_live_adapter_and_to_the_skill_named(one: Day) -> None:
    for_sums = apply_threshold(one, "sums", 0.6, "ann", "a trial")
    general = apply_threshold(one, None, 0.7, "ann", "a trial")
    one.memory.set_threshold("sums", 0.5, "ann", "yesterday's", adapter="sn-0001-aaaaaa")
    with pytest.raises(NotFound, match="nobody set a threshold for 'dates' by hand under the base"):
        undo_threshold(one, "ann", "", "dates")
    assert undo_threshold(one, "ann", "it was not good", "sums")["id"] == for_sums["id"]
    assert undo_threshold(one, "ann", "nor that")["id"] == general["id"]
    with pytest.raises(NotFound, match="under the base: nothing to undo"):
        undo_threshold(one, "ann", "again")
    assert one.memory.threshold("sums", "sn-0001-aaaaaa") == 0.5


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_what_is_no_threshold_is_refused(one: Day, value: float) -> None:
    with pytest.raises(BadInput, match="between 0 and 1"):
        apply_threshold(one, "sums", value, "ann", "why not")
    with pytest.raises(NotFound, match="did you mean 'sums'"):
        apply_threshold(one, "sum", 0.5, "ann", "why not")
    with pytest.raises(BadInput, match="say why"):
        apply_threshold(one, "sums", 0.5, "ann", " ")
    assert one.memory.threshold_history() == []


def test_the_curve_is_of_one_system_1_with_the_confidences_of_today(one: Day) -> None:
    one.memory.set_calibration("sn-0001-aaaaaa", json.loads(HALF_SURE.to_json()))
    for number in range(40):
        one.memory.remember(episode(number, adapter="sn-0001-aaaaaa"))
        one.memory.remember(episode(100 + number, adapter="sn-0002-bbbbbb"))
        one.memory.remember(episode(200 + number, adapter=None))
    one.memory.flush()
    fitted = whatif(one.memory, "sums", "sn-0001-aaaaaa", [0.5, 0.69, 0.71])
    logged = whatif(one.memory, "sums", "sn-0002-bbbbbb", [0.39, 0.41])
    assert (fitted["n"], fitted["calibration"], [p["accepted"] for p in fitted["points"]]) == (40, "platt", [40, 40, 0])
    assert (logged["n"], logged["calibration"]) == (40, "unknown")
    assert [p["accepted"] for p in logged["points"]] == [40, 0]  # logged: 0.4
    base = whatif(one.memory, "sums", None)
    assert (base["n"], base["audits"], base["certificate"]["more_audits"]) == (40, 40, 5)
    assert base["in_force"] is None
    assert whatif(one.memory, "nothing", None)["n"] == 0


def test_what_the_columns_say_is_what_the_records_say(one: Day) -> None:
    """The curve's confidences, read as columns, are those of the calibration's own way through the records."""
    remember_past(one.memory, asks=300)
    settings = CalibrationSettings()
    rows = outcomes_of(one.memory, None)
    fitted = fit(rows, settings)
    one.memory.set_calibration(None, json.loads(fitted.to_json()))
    columns, method = logged(one.memory, None, settings)
    by_number = [replace(row, episode_id=str(seq)) for row, seq in zip(rows, columns["seq"], strict=True)]
    wanted = [row.confidence for row in rescored(by_number, fitted, settings)]
    assert (method, len(rows)) == ("platt", 300)
    np.testing.assert_allclose(columns["confidence"], wanted, atol=1e-9)


def test_stopped_drafts_are_told_and_leave_the_curve_to_the_held_out_answers(one: Day) -> None:
    name = "sn-0001-aaaaaa"  # without a calibration: the confidences are the logged ones, 0.4
    for number in range(60):
        made = episode(number, adapter=name, heldout=number % 3 == 0)
        decision = replace(made.decision, threshold=0.8, propensity=1.0 if number % 3 == 0 else 0.0)
        drafted = made.draft and replace(made.draft, answer=None, stopped=number % 3 > 0)
        one.memory.remember(replace(made, decision=decision, draft=drafted if number % 3 else made.draft))
    one.memory.flush()
    found = whatif(one.memory, "sums", name, [0.3, 0.8])
    assert (found["stopped"]["n"], found["stopped"]["below"], found["stopped"]["heldout"]) == (40, 0.8, 20)
    assert "below 0.800 the curve is that of the 20 held-out answers" in found["stopped"]["says"]
    loose, strict = found["points"]
    assert (loose["accepted"], loose["out_of_support"], strict["accepted"]) == (20, None, 0)
    assert whatif(one.memory, "sums", None)["stopped"] is None


def test_what_no_threshold_decides_about_is_left_out_of_the_general_curve(one: Day) -> None:
    for number in range(30):
        one.memory.remember(episode(number, adapter=None))
        one.memory.remember(episode(100 + number, adapter=None, skill="unknown"))
    one.memory.flush()
    aside = undecided(one.memory, one.config)
    assert aside == {"unknown"}
    assert whatif(one.memory, without=aside)["n"] == 30
    assert whatif(one.memory, "unknown", without=aside)["n"] == 30
    assert whatif(one.memory)["n"] == 60
    auto = one.config.model_copy(update={"route": one.config.route.model_copy(update={"unskilled": "auto"})})
    assert undecided(one.memory, auto) == frozenset()


def test_what_a_skill_answered_before_its_alarm_certifies_it_no_more(one: Day) -> None:
    remember_past(one.memory, asks=100)
    remember_past(one.memory, asks=100, skill="dates", start=100)
    one.memory.set_threshold("sums", None, VIGIL, "broken")
    later = one.memory.clock() + 1.0
    for number in range(200, 230):
        one.memory.remember(answered(number, 0.9, True, asked_at=later))
    one.memory.flush()
    one.memory.set_calibration(None, json.loads(HALF_SURE.to_json()))
    found = whatif(one.memory, "sums")
    assert (found["n"], found["certificate"]["n"], found["certificate"]["disagreements"]) == (130, 30, 0)
    assert "more uniform audits are needed" in found["certificate"]["why"]
    assert whatif(one.memory, "dates")["certificate"]["n"] > 30
    general = whatif(one.memory)["certificate"]
    assert general["n"] == whatif(one.memory, "dates")["certificate"]["n"]  # sums has a decision of its own
    assert "Not in it, with thresholds of their own: sums." in general["why"]


def test_the_audits_that_a_threshold_would_cost_are_those_of_the_settings(one: Day) -> None:
    remember_past(one.memory, asks=60)
    few, many = (whatif(one.memory, thresholds=[0.0], audit_share=share)["points"][0] for share in (0.02, 0.5))
    assert (few["accepted"], few["disagreement"]) == (many["accepted"], many["disagreement"])
    assert many["tokens"] - few["tokens"] == pytest.approx(0.48 * 48)  # System 2 takes 48 tokens an answer here
