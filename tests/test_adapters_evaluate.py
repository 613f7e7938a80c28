"""Scores, intervals and drift are plain arithmetic; each is checked against a worked case or a property."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.evaluate import Asked, drift, intervals, report, scores, wilson


def test_scores_count_pairs_per_skill() -> None:
    rows = [Asked("b", True, True), Asked("a", False, True), Asked("a", True, False), Asked("a", False, True)]
    first, second = scores(rows)
    assert (first.skill, first.n, first.won, first.lost) == ("a", 3, 2, 1)
    assert (first.before, first.after, first.headroom) == pytest.approx((1 / 3, 2 / 3, 2 / 3))
    assert (second.skill, second.headroom) == ("b", 0)
    assert scores([]) == ()


def test_wilson_against_the_worked_case() -> None:
    found = wilson(8, 10)  # Wilson 1927's formula: 0.4902..0.9433
    assert found is not None
    assert (found.low, found.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 0) is None
    with pytest.raises(ValueError, match="11 hits"):
        wilson(11, 10)


@given(st.integers(1, 2000), st.floats(0, 1))
def test_an_interval_holds_its_share_and_stays_in_range(n: int, share: float) -> None:
    found = wilson(round(share * n), n)
    assert found is not None
    assert 0 <= found.low <= found.share <= found.high <= 1


def test_intervals_of_a_score_are_those_of_its_counts() -> None:
    (score,) = scores([Asked("a", i < 3, i < 7) for i in range(10)])
    assert intervals(score) == (wilson(3, 10), wilson(7, 10))


def test_drift_is_the_loss_per_token() -> None:
    assert drift([[-1.0, -1.0], [-2.0]], [[-1.5, -1.0], [-2.4]]) == pytest.approx(0.3)
    assert drift([], []) is None
    with pytest.raises(ValueError, match="same tokens"):
        drift([[-1.0]], [[-1.0, -2.0]])


def test_the_report_holds_everything() -> None:
    told = report("sn-1", [Asked("a", False, True)], anchors_before=[[-1.0]], anchors_after=[[-1.1]], seconds=3.0)
    assert told.anchor_drift == pytest.approx(0.1)
    assert told.scores[0].after == 1.0
    assert told.canaries_changed == ()
