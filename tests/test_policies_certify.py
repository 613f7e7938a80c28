"""Exact tails, the fixed sequence, thinning, and what a certificate says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binom

from memory.records import Outcome, Signals
from policies.binomial import allowed, audits_for, binomial_tail, upper_bound
from policies.certify import CertifySettings, Goal, certify, certify_log, certify_skills
from policies.thinning import (
    AuditLog,
    audit_log,
    audit_log_columns,
    rolling_floor,
    uniform_draw,
    uniform_draws,
)

SETTINGS = CertifySettings()
GOAL = Goal(max_disagreement=0.05, confidence=0.9)


def log(confidence, disagrees, propensity=1.0, floor=None):
    """A log where every draw of thinning is one half."""
    n = len(confidence)
    propensity = np.broadcast_to(np.asarray(propensity, dtype=float), n)
    floors = propensity if floor is None else np.broadcast_to(np.asarray(floor, dtype=float), n)
    return AuditLog(np.asarray(confidence, float), propensity, floors, np.asarray(disagrees, float), np.full(n, 0.5))


def outcome(i, confidence, agrees, propensity=1.0, skill="sums", heldout=True, adapter="sn-0001-aaaaaa"):
    signals = Signals(-0.1, -0.1, -0.1, -0.1, 0.9, 1, True)
    return Outcome(
        f"ep-{i}", skill, adapter, signals, confidence, 0.8, propensity, agrees, heldout, 1, 100, 0.1, 1.0, float(i)
    )


@pytest.mark.parametrize(
    ("n", "at_2", "at_5", "at_10"),
    [(50, -1, 0, 1), (100, -1, 1, 5), (200, 1, 5, 14), (300, 2, 9, 22), (500, 5, 18, 40), (1000, 13, 40, 87)],
)
def test_disagreements_allowed(n, at_2, at_5, at_10):
    assert [allowed(n, alpha, 0.1) for alpha in (0.02, 0.05, 0.10)] == [at_2, at_5, at_10]


def test_fewest_audits_without_a_disagreement():
    assert [audits_for(0, alpha, 0.1) for alpha in (0.02, 0.05, 0.10)] == [114, 45, 22]


@given(st.integers(0, 300), st.integers(1, 3000), st.floats(0.001, 0.5))
@settings(deadline=None)
def test_tails_equal_scipys(k, n, p):
    k = min(k, n)
    assert binomial_tail(k, n, p) == pytest.approx(binom.cdf(k, n, p), rel=1e-7, abs=1e-12)


@given(st.integers(0, 50), st.integers(51, 2000), st.floats(0.01, 0.4))
@settings(deadline=None)
def test_the_upper_bound_is_clopper_and_pearsons(k, n, delta):
    assert upper_bound(k, n, delta) == pytest.approx(beta.ppf(1 - delta, k + 1, n - k), abs=1e-6)


@given(st.integers(0, 30), st.floats(0.01, 0.3), st.floats(0.01, 0.3))
@settings(deadline=None)
def test_audits_for_is_the_inverse_of_allowed(k, alpha, delta):
    n = audits_for(k, alpha, delta)
    assert allowed(n, alpha, delta) >= k
    assert allowed(n - 1, alpha, delta) < k


def test_a_clean_log_certifies_its_loosest_threshold():
    confidence = np.linspace(0.5, 1.0, 400)
    found = certify_log(log(confidence, np.zeros(400)), GOAL, SETTINGS)
    assert (found.threshold, found.n, found.disagreements, found.more_audits) == (0.5, 400, 0, 0)
    assert found.bound == pytest.approx(upper_bound(0, 400, 0.1))
    assert found.coverage == 1.0
    assert "0 of 400" in found.why


def test_the_sequence_stops_at_the_first_failure():
    """Disagreements only between 0.5 and 0.6; below them all is well again, but the test has ended."""
    confidence = np.linspace(0.0, 1.0, 1001)
    disagrees = ((confidence > 0.5) & (confidence < 0.6)).astype(float)
    found = certify_log(log(confidence, disagrees), GOAL, SETTINGS)
    assert found.threshold > 0.5
    assert [step.passed for step in found.steps] == [True] * (len(found.steps) - 1) + [False]
    assert all(a.threshold > b.threshold for a, b in zip(found.steps, found.steps[1:], strict=False))
    assert found.bound <= 0.05


def test_too_few_audits_say_how_many_more():
    found = certify_log(log(np.linspace(0.9, 1.0, 30), np.zeros(30)), GOAL, SETTINGS)
    assert (found.threshold, found.bound, found.more_audits) == (None, None, 15)
    assert "15 more" in found.why


def test_a_rate_below_the_goal_but_unproven_says_how_many_more():
    disagrees = np.zeros(60)
    disagrees[::30] = 1
    found = certify_log(log(np.full(60, 0.9), disagrees), GOAL, SETTINGS)
    assert found.threshold is None
    n = 60 + found.more_audits
    assert allowed(n, 0.05, 0.1) >= int(n * 2 / 60)


def test_a_rate_above_the_goal_says_that_audits_will_not_help():
    disagrees = np.zeros(400)
    disagrees[::5] = 1
    found = certify_log(log(np.linspace(0.8, 1.0, 400), disagrees), GOAL, SETTINGS)
    assert (found.threshold, found.more_audits) == (None, None)
    assert "will not help" in found.why


def test_thinning_keeps_audits_at_the_floors_rate():
    rng = np.random.default_rng(0)
    n = 20_000
    confidence, propensity = rng.random(n), np.where(rng.random(n) < 0.5, 0.2, 1.0)
    dense = AuditLog(confidence, propensity, np.full(n, 0.2), np.zeros(n), rng.random(n))
    found = certify_log(dense, GOAL, SETTINGS)
    assert found.n == pytest.approx(n * 0.5 + n * 0.5 * 0.2, rel=0.05)


def test_the_floor_is_of_its_time():
    changing = np.array([0.2] * 300 + [0.02] * 300)
    changing[::7] = 1.0
    floors = rolling_floor(changing)
    assert set(floors[:240]) == {0.2}
    assert set(floors[310:]) == {0.02}
    assert (floors <= changing).all()
    assert rolling_floor(np.array([])).shape == (0,)


def test_the_draw_is_the_ids_alone_and_uniform():
    draws = np.array([uniform_draw(f"ep-{i}") for i in range(4000)])
    assert uniform_draw("ep-7") == draws[7]
    assert ((draws >= 0) & (draws < 1)).all()
    np.testing.assert_allclose(np.quantile(draws, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.03)


def test_draws_of_row_numbers_are_uniform_and_stable():
    draws = uniform_draws(np.arange(100_000))
    assert ((draws >= 0) & (draws < 1)).all()
    np.testing.assert_allclose(np.quantile(draws, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.01)
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 0.02
    np.testing.assert_array_equal(uniform_draws(np.arange(5, 9)), draws[5:9])


def test_columns_and_records_make_the_same_log():
    agrees = [None if i % 3 == 0 else i % 5 > 0 for i in range(90)]
    rows = [
        outcome(i, None if i == 7 else i / 100, a, propensity=0.5, heldout=i % 2 == 0) for i, a in enumerate(agrees)
    ]
    arrays = {
        "confidence": np.array([np.nan if i == 7 else i / 100 for i in range(90)]),
        "propensity": np.full(90, 0.5),
        "agrees": np.array([-1 if a is None else int(a) for a in agrees], dtype=np.int8),
        "heldout": np.arange(90) % 2 == 0,
        "adapter": np.zeros(90, dtype=np.int32),
        "skill": np.arange(90) % 4,
        "seq": np.arange(90, dtype=np.int32),
    }
    ours, theirs = audit_log_columns(arrays), audit_log(rows)
    for name in ("confidence", "propensity", "floor", "disagrees"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    assert len(audit_log_columns(arrays, skill=2).confidence) == 22


def test_only_held_out_questions_certify_a_trained_adapter():
    rows = [outcome(i, 0.9, True, heldout=i % 2 == 0) for i in range(200)]
    assert len(audit_log(rows).confidence) == 100
    assert len(audit_log([outcome(i, 0.9, True, heldout=False, adapter=None) for i in range(20)]).confidence) == 20
    assert len(audit_log([outcome(0, None, True)]).confidence) == 0


def test_requests_that_system_2_cannot_serve_do_not_empty_the_sample():
    rows = [outcome(i, 0.9, None if i % 10 == 0 else True, propensity=0.0 if i % 10 == 0 else 0.5) for i in range(300)]
    made = audit_log(rows)
    assert len(made.confidence) == 270
    assert set(made.floor) == {0.5}


def test_skills_with_enough_audits_are_certified_by_themselves():
    rows = [outcome(i, 0.9, True) for i in range(80)]
    rows += [outcome(100 + i, 0.9, i % 2 == 0, skill="dates") for i in range(80)]
    rows += [outcome(200 + i, 0.9, True, skill="rare") for i in range(10)]
    found = certify_skills(rows, GOAL, SETTINGS)
    assert set(found) == {"sums", "dates"}
    assert found["sums"].threshold == 0.9
    assert found["dates"].threshold is None
    assert certify(rows, GOAL, SETTINGS).threshold is None


def test_unaudited_answers_count_for_coverage_only():
    disagrees = np.zeros(400)
    disagrees[100:] = np.nan
    found = certify_log(log(np.linspace(0.5, 1.0, 400)[::-1], disagrees), GOAL, SETTINGS)
    assert found.n == 100
    assert found.coverage == pytest.approx(0.25)
