"""From signals to P(agree): fit, prediction, shrinkage and the report."""

import json
import timeit
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, roc_auc_score

from memory.errors import Damaged
from memory.records import Outcome, Signals
from policies.calibration import (
    CalibrationSettings,
    Calibrator,
    cross_fitted_report,
    fit,
    raw_report,
    report,
    rescored,
    usable,
)
from policies.reliability import auroc, effective_n, measure, risk_coverage, wilson

SETTINGS = CalibrationSettings()
OFFSETS = {"easy": 1.5, "even": 0.0, "hard": -1.5}


def outcomes(n, seed=0, skills=tuple(OFFSETS), propensities=(1.0,), adapter="sn-0001-aaaaaa"):
    """A world where the log-probs say something and the skill says more; propensity is independent of both."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        skill = skills[int(rng.integers(len(skills)))]
        known = rng.normal()
        total = -float(np.exp(rng.normal(-1 - 0.8 * known, 0.5)))
        tokens = int(rng.integers(1, 6))
        agrees = bool(rng.random() < 1 / (1 + np.exp(-(1.5 * known + OFFSETS[skill]))))
        signals = Signals(total, total / tokens, 0.8 * total, 0.6 * total, float(np.exp(total)), tokens, True)
        propensity = float(rng.choice(propensities))
        rows.append(
            Outcome(
                episode_id=f"ep-{seed}-{i}",
                skill=skill,
                adapter=adapter,
                signals=signals,
                confidence=None,
                threshold=None,
                propensity=propensity,
                agrees=agrees,
                heldout=True,
                s1_tokens=tokens,
                s2_tokens=100,
                s1_seconds=0.1,
                s2_seconds=1.0,
                asked_at=float(i),
            )
        )
    return rows


@pytest.mark.parametrize(
    ("n", "method", "ece"),
    [(150, "platt", 0.12), (499, "platt", 0.06), (500, "isotonic", 0.06), (3000, "isotonic", 0.03)],
)
def test_a_fit_is_calibrated_on_new_answers_and_better_than_raw(n, method, ece):
    fits = [fit(outcomes(n, seed), SETTINGS, "sn-0001-aaaaaa") for seed in range(10, 14)]
    assert {(c.method, c.n, c.adapter) for c in fits} == {(method, n, "sn-0001-aaaaaa")}
    fresh = outcomes(4000, seed=1)
    after, before = [report(fresh, calibrator) for calibrator in fits], raw_report(fresh)
    assert np.mean([one.ece for one in after]) < min(ece, before.ece)
    assert all(one.auroc > before.auroc for one in after)
    assert all(one.brier < before.brier for one in after)


def test_the_cross_fitted_report_is_an_honest_forecast():
    rows = outcomes(3000)
    forecast = cross_fitted_report(rows, SETTINGS)
    found = report(outcomes(6000, seed=1), fit(rows, SETTINGS))
    assert forecast.n == 3000
    assert forecast.auroc == pytest.approx(found.auroc, abs=0.03)
    assert forecast.brier == pytest.approx(found.brier, abs=0.02)
    assert set(forecast.skills) == set(OFFSETS)
    assert sum(one.n for one in forecast.skills.values()) == 3000


def test_small_skills_keep_the_global_fit_and_large_ones_follow_their_own():
    rows = outcomes(1500, skills=("easy", "hard"))
    tiny = [
        replace(row, skill="tiny", episode_id=f"t{i}") for i, row in enumerate(outcomes(3, seed=5, skills=("hard",)))
    ]
    calibrator = fit(rows + tiny, SETTINGS)
    signals = rows[0].signals
    unseen = calibrator.predict(signals, "never seen")
    assert calibrator.predict(signals, "easy") > unseen > calibrator.predict(signals, "hard")
    assert abs(calibrator.predict(signals, "tiny") - unseen) < abs(calibrator.predict(signals, "hard") - unseen)


def test_stronger_shrinkage_moves_a_skill_towards_the_global_fit():
    rows = outcomes(600)
    signals = rows[0].signals
    loose = fit(rows, CalibrationSettings(shrinkage=1))
    tight = fit(rows, CalibrationSettings(shrinkage=10_000))
    middle = tight.predict(signals, "none")
    assert abs(tight.predict(signals, "hard") - middle) < 0.05 < abs(loose.predict(signals, "hard") - middle)


def test_weights_undo_the_oversampling_of_disagreements():
    """Where System 2 is observed ten times as often for disagreements, a fit weighted in full still finds the rate."""
    rng = np.random.default_rng(2)
    kept = [
        replace(row, propensity=1.0 if not row.agrees else 0.1)
        for row in outcomes(8000)
        if not row.agrees or rng.random() < 0.1
    ]
    fresh = outcomes(4000, seed=1)
    truth = np.mean([row.agrees for row in fresh])
    calibrator = fit(kept, SETTINGS.model_copy(update={"max_weight": 10.0}))
    assert np.mean(calibrator.predict_many(*zip(*((r.signals, r.skill) for r in fresh), strict=True))) == pytest.approx(
        truth, abs=0.05
    )


def test_a_few_heavy_audits_do_not_carry_the_fit_away():
    """Who was audited depends on signals alone, as the router has it: bounded weights then lose nothing."""
    rows = outcomes(600)
    heavy = [replace(row, propensity=0.02 if i % 40 == 0 else 1.0) for i, row in enumerate(rows)]
    fresh = outcomes(4000, seed=1)
    bounded = report(fresh, fit(heavy, SETTINGS)).brier
    in_full = report(fresh, fit(heavy, SETTINGS.model_copy(update={"max_weight": 50.0}))).brier
    even = report(fresh, fit(rows, SETTINGS)).brier
    assert bounded < in_full
    assert bounded == pytest.approx(even, abs=0.005)


def test_too_few_audits_leave_the_confidence_unknown_unless_the_prior_is_chosen():
    rows = outcomes(50)
    assert fit(rows, SETTINGS).predict(rows[0].signals, "easy") is None
    prior = fit(rows, CalibrationSettings(before_fit="prior", prior_ceiling=0.8))
    assert prior.predict(rows[0].signals, "easy") == pytest.approx(0.8 * np.exp(rows[0].signals.logprob_sum))
    assert prior.predict(replace(rows[0].signals, logprob_sum=None), "easy") is None


def test_rescoring_uses_fits_that_did_not_see_the_row():
    rows = outcomes(400)
    calibrator = fit(rows, SETTINGS)
    unseen = replace(rows[0], episode_id="unseen", agrees=None)
    again = rescored([*rows, unseen], calibrator, SETTINGS)
    assert again[-1].confidence == calibrator.predict(unseen.signals, unseen.skill)
    own = calibrator.predict_many([r.signals for r in rows], [r.skill for r in rows])
    held = np.array([row.confidence for row in again[:-1]])
    assert (held != own).mean() > 0.9
    agrees = np.array([float(row.agrees) for row in rows])
    assert np.square(held - agrees).mean() > np.square(own - agrees).mean(), "its own fit flatters"
    assert rescored(rows[:3], Calibrator(), SETTINGS)[0].confidence is None


def test_an_unparseable_answer_has_confidence_zero():
    broken = replace(outcomes(1)[0].signals, format_ok=False)
    for calibrator in (Calibrator(), fit(outcomes(200), SETTINGS)):
        assert calibrator.predict(broken, "easy") == 0.0


def test_missing_logprobs_are_unknown_where_the_fit_never_saw_them_missing():
    rows = outcomes(300)
    bare = Signals(None, None, None, None, None, 3, True)
    assert fit(rows, SETTINGS).predict(bare, "easy") is None
    mixed = [replace(row, signals=bare) if i % 3 == 0 else row for i, row in enumerate(rows)]
    assert 0 < fit(mixed, SETTINGS).predict(bare, "easy") < 1


def test_an_extra_that_the_fit_never_saw_does_not_move_the_confidence():
    calibrator = fit(outcomes(300), SETTINGS)
    signals = outcomes(1)[0].signals
    assert calibrator.predict(replace(signals, novelty=0.9, agreement=1.0), "easy") == calibrator.predict(
        signals, "easy"
    )


@pytest.mark.parametrize("agrees", [True, False])
def test_a_log_of_one_kind_still_fits_and_is_never_certain(agrees):
    rows = [replace(row, agrees=agrees) for row in outcomes(200)]
    p = fit(rows, SETTINGS).predict(rows[0].signals, "easy")
    assert (0.9 < p < 1) if agrees else (0 < p < 0.1)


def test_only_held_out_or_untrained_questions_calibrate():
    rows = outcomes(40)
    taught = [replace(row, heldout=False) for row in rows[:20]]
    assert usable(taught, 100) == []
    assert len(usable([replace(row, adapter=None) for row in taught], 100)) == 20
    assert usable([replace(rows[0], agrees=None), replace(rows[1], propensity=0.0)], 100) == []
    assert [row.asked_at for row in usable(rows, 5)] == [35.0, 36.0, 37.0, 38.0, 39.0]


@pytest.mark.parametrize("n", [50, 200, 800])
def test_json_keeps_every_prediction(n):
    rows = outcomes(n)
    calibrator = fit(rows, SETTINGS)
    again = Calibrator.from_json(calibrator.to_json())
    assert again == calibrator
    assert [again.predict(r.signals, r.skill) for r in rows] == [calibrator.predict(r.signals, r.skill) for r in rows]


def test_a_calibrator_of_other_features_is_refused():
    stored = json.loads(fit(outcomes(200), SETTINGS).to_json())
    stored["features"] = stored["features"][1:]
    with pytest.raises(Damaged, match="other signals"):
        Calibrator.from_json(json.dumps(stored))


def test_prediction_takes_microseconds():
    calibrator = fit(outcomes(800), SETTINGS)
    signals = outcomes(1)[0].signals
    best = min(timeit.repeat(lambda: calibrator.predict(signals, "easy"), number=200, repeat=5)) / 200
    assert best < 100e-6


@given(st.lists(st.tuples(st.integers(0, 10), st.booleans(), st.floats(0.5, 20)), min_size=2, max_size=60))
@settings(deadline=None)
def test_auroc_and_brier_equal_scikit_learns(rows):
    p = np.array([row[0] / 10 for row in rows])
    y = np.array([float(row[1]) for row in rows])
    w = np.array([row[2] for row in rows])
    found = measure(p, y, w)
    assert found.brier == pytest.approx(brier_score_loss(y, p, sample_weight=w))
    if 0 < y.sum() < len(y):
        assert auroc(p, y, w) == pytest.approx(roc_auc_score(y, p, sample_weight=w))
    else:
        assert found.auroc is None


def test_ece_of_a_calibrated_and_of_a_shifted_confidence():
    rng = np.random.default_rng(0)
    p = rng.random(20_000)
    y = (rng.random(20_000) < p).astype(float)
    ones = np.ones(20_000)
    assert measure(p, y, ones).ece < 0.015
    assert measure(np.full(20_000, 0.9), (rng.random(20_000) < 0.6).astype(float), ones).ece == pytest.approx(
        0.3, abs=0.02
    )


def test_risk_grows_with_coverage_where_confidence_ranks():
    rng = np.random.default_rng(0)
    p = rng.random(5000)
    y = (rng.random(5000) < p).astype(float)
    points, area = risk_coverage(p, y, np.ones(5000))
    assert points[-1].coverage == pytest.approx(1.0)
    assert points[-1].risk == pytest.approx(1 - y.mean())
    assert points[0].risk < points[9].risk < points[-1].risk
    assert area < points[-1].risk


def test_a_report_of_nothing_says_so():
    found = report([], Calibrator())
    assert (found.n, found.auroc, found.ece, found.bins) == (0, None, None, ())
    unknown = report(outcomes(10), Calibrator())
    assert (unknown.n, unknown.unknown) == (0, 10)


def test_small_pieces():
    assert effective_n(np.ones(7)) == pytest.approx(7)
    assert effective_n(np.array([1.0, 0.0])) == pytest.approx(1)
    assert effective_n(np.array([])) == 0
    assert wilson(0.0, 0) == (0.0, 1.0)
    low, high = wilson(0.1, 100)
    assert (low, high) == (pytest.approx(0.0552, abs=1e-3), pytest.approx(0.1744, abs=1e-3))
