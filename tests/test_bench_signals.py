"""What each signal is worth, on drawn answers."""

from __future__ import annotations

import pytest

from bench.signals import LEFT_OUT, blind, measure
from test_policies_calibration import outcomes


def test_a_blinded_signal_is_unknown_and_the_others_stay() -> None:
    (row,) = blind(outcomes(1), ("logprob_sum",))
    assert row.signals.logprob_sum is None
    assert row.signals.n_tokens == outcomes(1)[0].signals.n_tokens


def test_each_choice_is_measured_against_all_signals() -> None:
    found = {row.signals: row for row in measure(outcomes(200))}
    assert set(found) == set(LEFT_OUT)
    whole, without = found["all of them"], found["no log-probabilities"]
    assert (whole.change, whole.change_low, whole.change_high) == (0, 0, 0)
    assert without.auroc == pytest.approx(whole.auroc + without.change)
    assert without.change < 0
    assert without.change_low <= without.change <= without.change_high


def test_answers_that_all_agree_tell_nothing() -> None:
    agreed = [row for row in outcomes(50) if row.agrees]
    with pytest.raises(ValueError, match="nothing to tell apart"):
        measure(agreed)
