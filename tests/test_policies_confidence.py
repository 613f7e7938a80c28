"""Signals of a direct answer and the vector that calibration reads."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory.records import Completion, Signals
from policies.confidence import FEATURES, feature_matrix, features, raw_confidence, signals

nats = st.lists(st.floats(min_value=-30, max_value=0), min_size=1, max_size=40)


def completion(logprobs=(), margin=None, tokens=None):
    return Completion(
        "42", "base", 10, len(logprobs) if tokens is None else tokens, "stop", 0.1, tuple(logprobs), margin
    )


def test_signals_of_three_tokens():
    found = signals(completion((-0.1, -0.3, -0.2), margin=0.7), "42")
    assert found.logprob_sum == pytest.approx(-0.6)
    assert found.logprob_mean == pytest.approx(-0.2)
    assert found.logprob_min == -0.3
    assert found.logprob_p10 == pytest.approx(np.percentile([-0.1, -0.3, -0.2], 10))
    assert (found.first_margin, found.n_tokens, found.format_ok) == (0.7, 3, True)


def test_only_the_answers_span_counts():
    found = signals(completion((-5.0, -0.1, -0.2, -4.0), margin=0.9), "42", span=(1, 3))
    assert found.logprob_sum == pytest.approx(-0.3)
    assert found.n_tokens == 2
    assert found.first_margin is None, "the margin is of the first token, which is not in the span"


def test_what_is_not_known_stays_none():
    found = signals(completion((), tokens=4), None)
    assert found.logprob_sum is found.logprob_mean is found.logprob_min is found.logprob_p10 is None
    assert found.novelty is found.agreement is found.base_logprob is None
    assert (found.n_tokens, found.format_ok) == (4, False)


def test_raw_confidence_is_the_models_own_probability():
    assert raw_confidence(signals(completion((-0.5, -0.5)), "42")) == pytest.approx(math.exp(-1))
    assert raw_confidence(signals(completion((-0.5,)), None)) == 0.0
    assert raw_confidence(signals(completion(), "42")) is None


@given(nats)
@settings(deadline=None)
def test_signals_are_ordered_and_never_positive(values):
    found = signals(completion(values), "42")
    assert found.logprob_min <= found.logprob_p10 <= 0
    assert found.logprob_min - 1e-9 <= found.logprob_mean <= 0
    assert found.logprob_sum <= found.logprob_mean + 1e-9
    assert found.logprob_p10 == pytest.approx(np.percentile(values, 10), abs=1e-9)


@given(nats)
@settings(deadline=None)
def test_features_are_finite_where_known_and_grow_with_confidence(values):
    row = dict(zip(FEATURES, features(signals(completion(values, margin=0.5), "42", novelty=0.2)), strict=True))
    surer = dict(zip(FEATURES, features(signals(completion([v / 2 for v in values], margin=0.5), "42")), strict=True))
    assert surer["logprob_sum"] >= row["logprob_sum"]
    assert row["novelty_known"] == row["logprobs_known"] == 1.0
    assert row["agreement_known"] == 0.0
    assert math.isnan(row["agreement"])
    assert all(math.isfinite(v) for k, v in row.items() if k not in ("agreement", "base_logprob"))


def test_a_matrix_has_a_row_per_answer():
    rows = [Signals(-1.0, -0.5, -0.8, -0.7, 0.3, 2, True), Signals(None, None, None, None, None, 5, True)]
    matrix = feature_matrix(rows)
    assert matrix.shape == (2, len(FEATURES))
    np.testing.assert_array_equal(matrix[0], features(rows[0]))
    assert feature_matrix([]).shape == (0, len(FEATURES))
