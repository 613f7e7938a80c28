"""Replaying thresholds from a log: exact where the log is complete, honest where it is not."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory.records import Outcome, Signals
from policies.certify import Goal
from policies.replay import ReplaySettings, columns, replay, replay_skills, replay_stopped


def world(n, seed=0, threshold=0.8, floor=0.02, band=0.15):
    rng = np.random.default_rng(seed)
    quality = rng.random(n) ** 0.25
    confidence = quality**1.3
    near = np.abs(confidence - threshold) <= 0.1
    propensity = np.where(confidence < threshold, 1.0, np.where(near, band, floor))
    observed = rng.random(n) < propensity
    agrees = rng.random(n) < quality
    return {
        "confidence": confidence,
        "propensity": propensity,
        "agrees": np.where(observed, agrees, -1).astype(np.int8),
        "s1_tokens": np.full(n, 8),
        "s2_tokens": np.where(observed, rng.integers(100, 300, n), -1),
        "s1_seconds": np.full(n, 0.1),
        "s2_seconds": np.where(observed, rng.gamma(3.0, 1.0, n), np.nan),
        "skill": rng.integers(0, 3, n),
    }, agrees


def test_a_complete_log_is_replayed_exactly():
    log, agrees = world(5000, floor=1.0, band=1.0)
    for point in replay(log, [0.2, 0.5, 0.9], audit_share=0.0).points:
        accepted = log["confidence"] >= point.threshold
        assert point.disagreement == pytest.approx(1 - agrees[accepted].mean())
        assert point.plain == pytest.approx(point.disagreement)
        assert point.escalated == pytest.approx(1 - accepted.mean())
        assert point.audits == point.accepted == accepted.sum()
        assert point.tokens == pytest.approx(np.where(accepted, 8, 8 + log["s2_tokens"]).mean())
        assert point.seconds == pytest.approx(np.where(accepted, 0.1, 0.1 + log["s2_seconds"]).mean())
        assert point.cost == pytest.approx(point.tokens / log["s2_tokens"].mean())
        assert point.out_of_support is None


def test_a_weighted_log_is_replayed_near_the_truth():
    log, agrees = world(200_000)
    for point in replay(log, [0.3, 0.6, 0.8, 0.9]).points:
        truth = 1 - agrees[log["confidence"] >= point.threshold].mean()
        assert point.disagreement == pytest.approx(truth, abs=0.012)
        assert point.low <= truth <= point.high
        assert point.plain == pytest.approx(truth, abs=0.015)


def test_the_control_variate_makes_the_estimate_less_noisy():
    found = {"robust": [], "plain": []}
    for seed in range(40):
        point = replay(world(10_000, seed)[0], [0.3]).points[0]
        found["robust"].append(point.disagreement)
        found["plain"].append(point.plain)
    assert np.std(found["robust"]) < 0.9 * np.std(found["plain"])


def test_the_audits_of_the_new_threshold_are_paid_for():
    log, _ = world(5000, floor=1.0, band=1.0)
    without, with_audits = (replay(log, [0.0], audit_share=share).points[0] for share in (0.0, 0.1))
    assert without.tokens == pytest.approx(8)
    assert with_audits.tokens == pytest.approx(8 + 0.1 * log["s2_tokens"].mean())
    assert with_audits.seconds == without.seconds


def test_where_drafts_were_stopped_the_held_out_answers_speak_below_the_threshold():
    log, agrees = world(200_000)
    rng = np.random.default_rng(5)
    held = rng.random(len(agrees)) < 0.1
    true = log["confidence"].copy()
    stopped = (true < 0.8) & ~held & (rng.random(len(agrees)) < 0.7 + 0.3 * (true < 0.5))
    log["confidence"] = np.where(stopped, np.minimum(0.79, true + 0.2), true)  # the best end that it could have had
    log["propensity"][stopped], log["agrees"][stopped] = 0.0, -1
    found = replay_stopped(log, stopped, held, 0.8, [0.3, 0.6, 0.8, 0.9], Goal(max_disagreement=0.1))
    for point in found.points:
        accepted = true >= point.threshold
        assert point.low <= 1 - agrees[accepted].mean() <= point.high
        assert point.escalated == pytest.approx(1 - accepted.mean(), abs=0.01)
        assert point.out_of_support is None
    assert found.n == len(agrees)
    assert "could not have been observed" in replay(log, [0.6]).points[0].out_of_support


def test_answers_that_could_not_be_audited_are_out_of_support():
    log, _ = world(5000)
    log["propensity"] = np.where(log["confidence"] >= 0.8, 0.0, 1.0)
    log["agrees"] = np.where(log["confidence"] >= 0.8, -1, log["agrees"])
    point = replay(log, [0.5]).points[0]
    assert "could not have been observed" in point.out_of_support


def test_too_few_audits_are_out_of_support():
    point = replay(world(500)[0], [0.95]).points[0]
    assert "are needed" in point.out_of_support
    loose = replay(world(500)[0], [0.5], settings=ReplaySettings(min_effective=1.0)).points[0]
    assert loose.out_of_support is None


def test_an_unknown_confidence_is_always_escalated():
    log, _ = world(1000, floor=1.0, band=1.0)
    log["confidence"] = log["confidence"].copy()
    log["confidence"][:250] = np.nan
    assert replay(log, [0.0]).points[0].escalated == pytest.approx(0.25)


def test_nothing_accepted_is_always_system_2():
    log, _ = world(1000, floor=1.0, band=1.0)
    log["confidence"] = np.minimum(log["confidence"], 0.98)
    point = replay(log, [0.99]).points[0]
    assert (point.escalated, point.disagreement, point.accepted, point.out_of_support) == (1.0, None, 0, None)
    assert (point.low, point.high) == (0.0, 1.0)


def test_an_empty_log_and_a_log_without_audits():
    empty = {name: column[:0] for name, column in world(10)[0].items()}
    curve = replay(empty, goal=Goal())
    assert (curve.n, curve.audits, curve.recommendation.threshold) == (0, 0, None)
    bare, _ = world(100)
    bare["agrees"] = np.full(100, -1, dtype=np.int8)
    bare["s2_tokens"] = np.full(100, -1)
    point = replay(bare, [0.5]).points[0]
    assert (point.disagreement, point.cost, point.low, point.high) == (None, None, 0.0, 1.0)


def test_it_recommends_the_loosest_threshold_within_the_goal():
    curve = replay(world(100_000)[0], goal=Goal(max_disagreement=0.08, confidence=0.9))
    chosen = curve.recommendation
    assert chosen.point.upper <= 0.08
    assert all(p.upper > 0.08 for p in curve.points if p.threshold < chosen.threshold)
    assert "System 1 answers" in chosen.why


def test_it_recommends_the_safest_threshold_within_a_cost():
    curve = replay(world(100_000)[0], goal=Goal(max_cost=0.5))
    chosen = curve.recommendation
    assert chosen.point.cost <= 0.5
    supported = [p for p in curve.points if p.out_of_support is None and p.disagreement is not None and p.cost <= 0.5]
    assert chosen.point.disagreement == min(p.disagreement for p in supported)
    assert replay(world(1000)[0], goal=Goal(max_cost=0.001)).recommendation.threshold is None


def test_an_impossible_goal_is_refused_with_the_best_there_is():
    chosen = replay(world(20_000)[0], goal=Goal(max_disagreement=0.001)).recommendation
    assert chosen.threshold is None
    assert "nothing meets the goal" in chosen.why


def test_skills_are_replayed_apart():
    log, _ = world(30_000)
    curves = replay_skills({**log, "names": np.array(["sums", "dates", "units"], dtype=object)}, [0.5])
    assert set(curves) == {"sums", "dates", "units"}
    assert sum(curve.n for curve in curves.values()) == 30_000
    part = {name: column[log["skill"] == 1] for name, column in log.items()}
    assert curves["dates"].points[0] == replay(part, [0.5]).points[0]


def test_records_become_columns():
    signals = Signals(-0.1, -0.1, -0.1, -0.1, 0.9, 1, True)
    seen = Outcome("e1", "sums", None, signals, 0.9, 0.8, 0.02, True, True, 3, 100, 0.1, 2.0, 1.0)
    unseen = Outcome("e2", "dates", None, signals, None, None, 1.0, None, True, 4, None, 0.2, None, 2.0)
    made = columns([seen, unseen])
    assert made["agrees"].tolist() == [1, -1]
    assert np.isnan(made["confidence"][1])
    assert replay_skills(made, [0.5])["sums"].points[0].accepted == 1


@given(st.integers(0, 10_000), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_a_stricter_threshold_never_accepts_more(seed, a, b):
    log, _ = world(300, seed)
    points = replay(log, [a, b]).points
    escalated = [p.escalated for p in points]
    assert escalated == sorted(escalated)
    assert all(0 <= p.low <= p.high <= 1 for p in points)
    assert all(p.disagreement is None or p.low <= p.disagreement + 1e-9 for p in points)


def test_a_million_rows_take_less_than_two_seconds():
    log, _ = world(1_000_000)
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        replay(log, goal=Goal())
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 2.0
