"""Recalibration while the service runs: when it is due, what it sets, and what it leaves alone."""

from __future__ import annotations

from pathlib import Path

from agent.in_force import RECALIBRATION, VIGIL
from agent.recalibrate import audits_of, look, outcomes_of
from day_fakes import ScriptedEngine, day
from policies.calibration import usable
from tuning_fakes import remember_past


def quiet(model: str, text: str) -> str:
    return "8"


async def test_it_fits_when_there_are_enough_audits_and_again_with_a_quarter_more(tmp_path: Path) -> None:
    one = day(tmp_path, ScriptedEngine(quiet))
    seen: dict[str | None, int] = {}
    remember_past(one.memory, asks=90)
    assert not await look(one, seen)
    remember_past(one.memory, asks=60, start=90)
    assert await look(one, seen)
    assert one.pointer.now.calibrator is not None
    assert one.pointer.now.calibrator.n == seen[None] == 150
    remember_past(one.memory, asks=30, start=150)
    assert not await look(one, seen)
    remember_past(one.memory, asks=10, start=180)
    assert await look(one, seen)
    one.memory.close()


async def test_a_fit_that_reads_a_bounded_number_is_still_repeated(tmp_path: Path) -> None:
    one = day(tmp_path, ScriptedEngine(quiet), calibration={"max_audits": 100})
    seen: dict[str | None, int] = {}
    remember_past(one.memory, asks=200)
    assert await look(one, seen)
    assert one.pointer.now.calibrator is not None
    assert one.pointer.now.calibrator.n == 100
    assert not await look(one, seen)
    remember_past(one.memory, asks=60, start=200)
    assert await look(one, seen)
    one.memory.close()


async def test_the_count_is_what_calibration_would_use(tmp_path: Path) -> None:
    one = day(tmp_path, ScriptedEngine(quiet))
    remember_past(one.memory, asks=20)
    assert audits_of(one.memory, None) == len(usable(outcomes_of(one.memory, None), 1000)) == 20
    assert audits_of(one.memory, "sn-0001-aaaaaa") == 0
    one.memory.close()


async def test_after_an_alarm_only_later_audits_certify_the_skill(tmp_path: Path) -> None:
    one = day(tmp_path, ScriptedEngine(quiet), goal={"max_disagreement": 0.3, "confidence": 0.8})
    remember_past(one.memory, asks=200)
    await look(one, {})
    assert one.pointer.now.thresholds["sums"] is not None
    one.memory.set_threshold("sums", None, VIGIL, "broken")
    remember_past(one.memory, asks=60, start=200)
    await look(one, {})
    assert one.pointer.now.thresholds["sums"] is None
    assert [c.who for c in one.memory.threshold_history() if c.skill == "sums"] == [VIGIL, RECALIBRATION]
    one.memory.close()
