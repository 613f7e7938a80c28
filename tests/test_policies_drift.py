"""The online step, the alarm's wealth, and what a rung alarm asks for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.drift import STAKES, Alarm, DriftSettings, revert, step, watch

SETTINGS = DriftSettings()


def watched(disagreements, propensity=0.02, floor=0.02, alpha=0.05, settings=SETTINGS):
    alarm = Alarm()
    for disagrees in disagreements:
        alarm = watch(alarm, bool(disagrees), propensity, floor, alpha, settings)
    return alarm


def test_a_disagreement_raises_the_threshold_and_agreements_lower_it():
    raised = step(0.8, True, 0.02, 0.05, SETTINGS)
    assert raised == pytest.approx(0.8 + 0.0005 / 0.02 * 0.95)
    assert step(0.8, False, 0.02, 0.05, SETTINGS) == pytest.approx(0.8 - 0.0005 / 0.02 * 0.05)
    assert step(0.8, True, 1.0, 0.05, SETTINGS) - 0.8 < raised - 0.8


def test_at_the_goal_the_step_stands_still_on_average():
    moves = [step(0.8, d, 0.02, 0.05, SETTINGS) - 0.8 for d in [True] + [False] * 19]
    assert sum(moves) == pytest.approx(0.0, abs=1e-12)


@given(st.floats(0.5, 0.999), st.booleans(), st.floats(0.001, 1), st.floats(0.001, 0.5))
@settings(deadline=None)
def test_the_threshold_stays_within_its_limits(threshold, disagrees, propensity, alpha):
    assert 0.5 <= step(threshold, disagrees, propensity, alpha, SETTINGS) <= 0.999


@pytest.mark.parametrize(
    ("threshold", "disagrees", "after"),
    [(0.9995, True, 0.9995), (0.9995, False, 0.99825), (0.3, False, 0.3), (0.3, True, 0.5)],
)
def test_beyond_its_limits_it_moves_only_the_way_that_the_audit_points(threshold, disagrees, after):
    assert step(threshold, disagrees, 0.02, 0.05, SETTINGS) == pytest.approx(after)


@given(st.floats(0, 1), st.booleans(), st.floats(0.001, 1), st.floats(0.001, 0.5))
@settings(deadline=None)
def test_a_disagreement_never_lowers_it_and_an_agreement_never_raises_it(threshold, disagrees, propensity, alpha):
    moved = step(threshold, disagrees, propensity, alpha, SETTINGS) - threshold
    assert moved >= 0 if disagrees else moved <= 0


def test_the_step_can_be_off():
    assert step(0.3, True, 0.02, 0.05, DriftSettings(online=False)) == 0.3


@given(st.lists(st.booleans(), max_size=60), st.floats(0.02, 1.0), st.floats(0.01, 0.3), st.floats(0.0, 1.0))
@settings(deadline=None)
def test_the_wealth_cannot_be_expected_to_grow_while_the_promise_holds(history, propensity, alpha, slack):
    """One step from any state: over audits of either outcome at a risk of at most alpha the mean does not rise."""
    alarm = watched(history, propensity, 0.02, alpha, DriftSettings(false_alarm=1e-9))
    risk = alpha * slack
    up, down = (watch(alarm, d, propensity, 0.02, alpha, DriftSettings(false_alarm=1e-9)) for d in (True, False))
    assert risk * up.wealth + (1 - risk) * down.wealth <= alarm.wealth * (1 + 1e-9)
    assert all(stake >= 0 for stake in down.stakes)
    assert down.reserve > 0


def test_disagreements_beyond_the_goal_ring_the_alarm_and_it_stays_rung():
    alarm = watched([True] * 10)
    assert alarm.rung
    assert watch(alarm, False, 0.02, 0.02, 0.05, SETTINGS) is alarm


def test_agreement_does_not_ruin_the_bettor():
    long_peace = watched([False] * 2000)
    assert not long_peace.rung
    assert watched([False] * 2000 + [True] * 12).rung, "after long good times a dozen disagreements still ring it"


def test_dense_audits_count_for_less():
    few = [False, True] * 6
    assert watched(few, propensity=0.15).wealth < watched(few, propensity=0.02).wealth
    assert watched(few, propensity=0.001).wealth == watched(few, propensity=0.02).wealth


def test_the_state_outlives_a_restart():
    alarm = watched([True, False, True])
    assert Alarm.from_json(alarm.to_json()) == alarm
    assert len(alarm.stakes) == len(STAKES)


def test_what_a_rung_alarm_asks_for():
    calm, rung = watched([False]), watched([True] * 10)
    assert revert(calm, 0.8, 0.9, 0.05) is None
    back = revert(rung, 0.8, 0.9, 0.05)
    assert back.threshold == 0.9
    assert "back from 0.800 to the certified 0.900" in back.reason
    assert revert(rung, 0.9, 0.9, 0.05).threshold is None
    assert "System 2 answers" in revert(rung, 0.95, 0.9, 0.05).reason
    assert "nothing is certified" in revert(rung, 0.8, None, 0.05).reason


def test_false_alarms_are_as_rare_as_promised():
    """200 skills exactly at the goal, 800 audits each of mixed propensities, looked at after every one."""
    rng = np.random.default_rng(0)
    settings = DriftSettings(false_alarm=0.1)
    rung = 0
    for _ in range(200):
        alarm = Alarm()
        for disagrees, dense in zip(rng.random(800) < 0.1, rng.random(800) < 0.5, strict=True):
            alarm = watch(alarm, bool(disagrees), 0.15 if dense else 0.02, 0.02, 0.1, settings)
        rung += alarm.rung
    assert rung <= 20
