"""Recalibration while the service runs: when it is due, what it sets, and what it leaves alone."""

from __future__ import annotations

from pathlib import Path

from agent.day import Day
from agent.in_force import RECALIBRATION, VIGIL
from agent.recalibrate import audits_of, look, outcomes_of
from agent.vigil import rule_of
from day_fakes import ScriptedEngine, day
from policies.calibration import usable
from tuning_fakes import answered, remember_past


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


LOOSE = {"max_disagreement": 0.3, "confidence": 0.8}


def remember_alike(one: Day, skill: str, start: int, n: int, agreeing: int, at: float = 1e6) -> None:
    """`n` answers that System 1 is equally sure of, of which in each ten `agreeing` agree with System 2's."""
    for number in range(start, start + n):
        one.memory.remember(answered(number, 0.9, number % 10 < agreeing, skill=skill, asked_at=at))
    one.memory.flush()


async def test_a_skill_refused_by_itself_does_not_hide_behind_the_others(tmp_path: Path) -> None:
    one = day(tmp_path, ScriptedEngine(quiet), goal=LOOSE)
    remember_alike(one, "dates", 0, 100, agreeing=3)
    for number, skill in enumerate(("units", "names", "roots", "signs")):
        remember_alike(one, skill, 100 + 40 * number, 40, agreeing=10)
    await look(one, {})
    newest = {change.skill: change for change in reversed(one.memory.threshold_history())}
    general, refused = newest[None], newest["dates"]
    assert general.certificate is not None
    assert (general.certificate["n"], general.certificate["disagreements"]) == (160, 0)
    assert refused.certificate is not None
    assert (refused.certificate["threshold"], refused.certificate["more_audits"]) == (None, None)
    assert general.value is not None
    assert refused.value == max(0.7, general.value)
    assert "not certified by itself" in refused.why
    assert rule_of(one.memory.threshold_history(), "dates", None, 0.3).certified is None
    assert set(newest) == {None, "dates"}
    one.memory.close()


async def test_a_lost_certificate_loosens_nothing(tmp_path: Path) -> None:
    one = day(tmp_path, ScriptedEngine(quiet), goal=LOOSE)
    one.memory.set_threshold("sums", 0.97, RECALIBRATION, "certified at the last fit")
    remember_alike(one, "sums", 0, 150, agreeing=2)
    await look(one, {})
    newest = next(c for c in one.memory.threshold_history() if c.skill == "sums")
    assert (newest.value, newest.why[:23]) == (0.97, "not certified by itself")
    one.memory.close()


async def test_a_certificate_that_a_refit_does_not_confirm_stands_no_more(tmp_path: Path) -> None:
    one = day(tmp_path, ScriptedEngine(quiet), goal=LOOSE)
    remember_alike(one, "sums", 0, 100, agreeing=10)
    await look(one, {})
    before = rule_of(one.memory.threshold_history(), "sums", None, 0.3).certified
    assert before is not None
    remember_alike(one, "sums", 100, 150, agreeing=2)
    await look(one, {})
    newest = next(c for c in one.memory.threshold_history() if c.skill == "sums")
    assert (newest.who, newest.value) == (RECALIBRATION, max(0.7, before))
    assert "not certified by itself" in newest.why
    assert rule_of(one.memory.threshold_history(), "sums", None, 0.3).certified is None
    one.memory.set_threshold("sums", 0.9, "ann", "caution")
    remember_alike(one, "sums", 250, 150, agreeing=2)
    await look(one, {})
    assert one.pointer.now.thresholds["sums"] == 0.9
    one.memory.set_threshold("sums", None, VIGIL, "broken")
    remember_alike(one, "sums", 400, 200, agreeing=2, at=one.memory.clock() + 1.0)
    await look(one, {})
    assert one.pointer.now.thresholds["sums"] is None
    one.memory.close()
