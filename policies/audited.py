"""Audited answers as arrays: what a fit reads, made once and cut into folds without making it again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from memory.records import Outcome
from policies.confidence import FEATURES, feature_column, feature_matrix
from policies.fitting import fold_of
from policies.offpolicy import Columns
from policies.reliability import Floats


@dataclass(frozen=True, slots=True)
class Audited:
    """Answers of System 1 that System 2 answered too, arrays of length n each."""

    x: Floats  # shape (n, len(FEATURES)), NaN for unknown
    parsed: npt.NDArray[np.bool_]  # whether the answer could be read as its type
    agrees: Floats  # 1 or 0
    weight: Floats  # 1/propensity
    skill: npt.NDArray[np.intp]  # codes into `names`
    names: tuple[str, ...]
    fold: npt.NDArray[np.intp]  # 0..folds-1, by the episode

    def __len__(self) -> int:
        return len(self.agrees)

    def some(self, mask: npt.NDArray[np.bool_]) -> Audited:
        """The rows where `mask` is True."""
        x, parsed, agrees = self.x[mask], self.parsed[mask], self.agrees[mask]
        return Audited(x, parsed, agrees, self.weight[mask], self.skill[mask], self.names, self.fold[mask])


def audited(rows: Sequence[Outcome], folds: int) -> Audited:
    """Outcomes whose System 2 is known, as arrays."""
    names = tuple(sorted({row.skill for row in rows}))
    code = {name: i for i, name in enumerate(names)}
    return Audited(
        x=feature_matrix([row.signals for row in rows]),
        parsed=np.array([row.signals.format_ok for row in rows], dtype=bool),
        agrees=np.array([float(bool(row.agrees)) for row in rows], dtype=np.float64),
        weight=np.array([1.0 / row.propensity for row in rows], dtype=np.float64),
        skill=np.array([code[row.skill] for row in rows], dtype=np.intp),
        names=names,
        fold=np.array([fold_of(row.episode_id, folds) for row in rows], dtype=np.intp),
    )


def audited_columns(columns: Columns, at: npt.NDArray[np.intp], names: Sequence[str], folds: int) -> Audited:
    """The rows `at` of a log in columns (those of `policies.rescoring.READ`, agrees, propensity and seq).

    The folds go by row number and not by episode id, which a log in columns does not hold.
    """
    part = {name: np.asarray(column)[at] for name, column in columns.items()}
    return Audited(
        x=np.stack([feature_column(part, name) for name in FEATURES], axis=1),
        parsed=part["format_ok"] != 0,
        agrees=(part["agrees"] > 0).astype(np.float64),
        weight=1.0 / part["propensity"].astype(np.float64),
        skill=part["skill"].astype(np.intp),
        names=tuple(names),
        fold=np.array([fold_of(str(seq), folds) for seq in part["seq"].tolist()], dtype=np.intp),
    )
