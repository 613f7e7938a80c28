"""How much is asked: a long run for the lift, about twenty minutes on two cores, or a smoke run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Size:
    """A run's extent."""

    day: Mapping[str, int]  # unlabelled questions of each skill
    measured: Mapping[str, int]  # held-out questions by skill, asked of System 1 before and after each night
    auto: int  # of them, asked once more in auto mode after the last night
    nights: int = 1  # the day is cut into as many parts, each followed by a night
    epochs: int = 3  # passes over the lessons
    heldout_share: float = 0.15  # 0..1, of the day's questions: the gate and the calibration live on them


SKILLS = ("three_sums", "plus_minus", "minutes", "stories", "reviews")
SIZES: Mapping[str, Size] = {
    "full": Size(
        day={"three_sums": 200, "plus_minus": 480, "minutes": 70, "stories": 20, "reviews": 20},
        measured={"three_sums": 100, "plus_minus": 100, "minutes": 40, "stories": 30, "reviews": 30},
        auto=15,
        epochs=4,
    ),
    # Few lessons, most of two skills: more passes over them, and a third held out: a quarter of the minutes are learnt,
    # and of fewer than thirty questions the gate could not tell that from chance. A skill of which System 1 knows
    # something needs its share of the lessons, or the others' overwrite it, and enough held out for two lost to be
    # chance.
    "small": Size(
        day={"three_sums": 40, "plus_minus": 8, "minutes": 130, "stories": 4, "reviews": 40},
        measured=dict.fromkeys(SKILLS, 20),
        auto=6,
        epochs=6,
        heldout_share=0.35,
    ),
}
