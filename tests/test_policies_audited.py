"""Audits as arrays say what the records say, whichever way they came."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from memory.records import Outcome, Signals
from policies.audited import Audited, audited, audited_columns
from policies.calibration import CalibrationSettings, cross_fitted, cross_fitted_arrays, fit_arrays
from policies.rescoring import READ

SKILLS = ("dates", "sums")


def outcome(number: int, rng: Random) -> Outcome:
    nats = None if rng.random() < 0.1 else -2 * rng.random()
    signals = Signals(
        nats, nats, nats, nats, rng.random(), rng.randrange(1, 9), rng.random() < 0.9,
        rng.random() if rng.random() < 0.5 else None,
    )  # fmt: skip
    agrees = rng.random() < (0.3 if nats is None else 1 + nats / 2)
    return Outcome(
        str(number), SKILLS[number % 2], None, signals, None, None, 0.5 if number % 3 else 1.0, agrees, True, 1, 100,
        0.1, 1.0, float(number),
    )  # fmt: skip


@pytest.fixture
def rows() -> list[Outcome]:
    rng = Random(3)
    return [outcome(number, rng) for number in range(700)]


def columns_of(rows: list[Outcome]) -> dict[str, np.ndarray]:
    columns = {
        name: np.array([getattr(row.signals, name) for row in rows], dtype=float) for name in READ if name != "skill"
    }
    return columns | {
        "skill": np.array([SKILLS.index(row.skill) for row in rows], dtype=np.int32),
        "agrees": np.array([int(bool(row.agrees)) for row in rows], dtype=np.int8),
        "propensity": np.array([row.propensity for row in rows]),
        "seq": np.array([int(row.episode_id) for row in rows], dtype=np.int32),
    }


def test_columns_and_records_make_the_same_arrays(rows: list[Outcome]) -> None:
    kept = np.arange(100, 600)
    found = audited_columns(columns_of(rows), kept, SKILLS, folds=5)
    wanted = audited(rows[100:600], folds=5)
    for name in ("x", "parsed", "agrees", "weight", "skill", "fold"):
        np.testing.assert_allclose(getattr(found, name), getattr(wanted, name), err_msg=name)
    assert (len(found), found.names, wanted.names) == (500, SKILLS, SKILLS)


def test_a_part_keeps_its_rows_together(rows: list[Outcome]) -> None:
    whole = audited(rows, folds=5)
    part = whole.some(whole.fold == 2)
    assert isinstance(part, Audited)
    assert set(part.fold.tolist()) == {2}
    np.testing.assert_array_equal(part.x, whole.x[whole.fold == 2])


@pytest.mark.parametrize("isotonic_from", [50, 100_000], ids=["isotonic", "platt"])
def test_a_fit_predicts_arrays_as_it_predicts_one(rows: list[Outcome], isotonic_from: int) -> None:
    settings = CalibrationSettings(isotonic_from=isotonic_from)
    arrays = audited(rows, settings.folds)
    fitted = fit_arrays(arrays, settings)
    wanted = fitted.predict_many([row.signals for row in rows], [row.skill for row in rows])
    np.testing.assert_allclose(fitted.predict_audited(arrays), wanted, atol=1e-12)


def test_cross_fitting_never_shows_a_row_to_its_own_fit(rows: list[Outcome]) -> None:
    settings = CalibrationSettings()
    arrays = audited(rows, settings.folds)
    found = cross_fitted_arrays(arrays, settings)
    for part in range(settings.folds):
        mine = arrays.fold == part
        of_others = fit_arrays(arrays.some(~mine), settings).predict_audited(arrays.some(mine))
        np.testing.assert_array_equal(found[mine], of_others)
    np.testing.assert_array_equal(found, cross_fitted(rows, settings))
