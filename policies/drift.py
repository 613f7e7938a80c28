"""Keeping the promise while questions drift: an online step for the threshold, and an alarm.

The step moves the threshold after each audit of an accepted answer (adaptive conformal inference with
intermittent feedback, arXiv 2503.10345): tau += eta / pi * (1[disagrees] - alpha). Its long-run average holds
alpha whatever the questions do, but promises nothing about the next hundred answers.

The alarm does: it bets against "System 1 disagrees with at most alpha of accepted answers" (Waudby-Smith and
Ramdas, arXiv 2010.09686). One audit with probability pi multiplies a stake by 1 + l r (d - alpha), r = floor
/ pi. Since audits happen with probability pi, its mean is 1 + l floor (risk - alpha) <= 1 as long as the
promise holds, so the wealth is an e-process: by Ville's inequality the chance that it ever reaches 1/delta is
at most delta, looked at after every audit, for ever. Several stakes l share the wealth, and a part of it is
held back and staked bit by bit, so that long good times do not ruin the bettor before the bad ones come; both
keep the mean at most 1.

Both take only audits of answers that System 1 gave. States are frozen: in, and out.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from json import dumps, loads

from pydantic import Field

from memory.settings import Settings

STAKES = (0.05, 0.1, 0.2, 0.4, 0.8)  # as shares of 1/alpha, the largest stake that cannot lose everything


class DriftSettings(Settings):
    """The online step and the alarm."""

    online: bool = Field(default=True, description="move thresholds after each audit; else only by hand or night")
    eta: float = Field(
        default=0.0005,
        gt=0.0,
        le=0.1,
        description="threshold moved per disagreement of an answer audited for certain, in confidence",
    )
    lowest: float = Field(default=0.5, ge=0.0, le=1.0, description="lowest threshold the step may reach, 0..1")
    highest: float = Field(default=0.999, ge=0.0, le=1.0, description="highest threshold the step may reach, 0..1")
    false_alarm: float = Field(
        default=0.05, gt=0.0, lt=1.0, description="chance that a watch over a skill within its goal ever rings, 0..1"
    )


@dataclass(frozen=True, slots=True)
class Alarm:
    """The bettor's state for one skill under one adapter and one certified threshold."""

    reserve: float = 1.0  # wealth not yet staked
    stakes: tuple[float, ...] = (0.0,) * len(STAKES)  # wealth riding on each of `STAKES`
    audits: int = 0
    disagreements: int = 0
    rung: bool = False  # once rung it stays rung until a new state is begun

    @property
    def wealth(self) -> float:
        """Evidence against the promise; 1 at the start, 20 at a false-alarm chance of 0.05."""
        return self.reserve + sum(self.stakes)

    def to_json(self) -> str:
        """One line that `from_json` reads back exactly: the state outlives a restart."""
        return dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Alarm:
        """The stored state."""
        stored = loads(text)
        return cls(**{**stored, "stakes": tuple(stored["stakes"])})


@dataclass(frozen=True, slots=True)
class Reversion:
    """What to do for a skill whose alarm rang."""

    threshold: float | None  # 0..1, back to this one; None: System 2 answers until a new certificate
    reason: str  # for a person


def step(threshold: float, disagrees: bool, propensity: float, alpha: float, settings: DriftSettings) -> float:
    """The threshold (0..1) after one audit of an accepted answer; the same where the step is off.

    `propensity` (0..1, above 0) is that of the audit, `alpha` (0..1) the disagreement aimed at.
    A disagreement never lowers it and an agreement never raises it: a threshold outside [lowest, highest] is pulled
    to the nearer end only by what moves it that way, and stays where it is otherwise.
    """
    if not settings.online:
        return threshold
    moved = threshold + settings.eta / propensity * (float(disagrees) - alpha)
    within = min(max(moved, settings.lowest), settings.highest)
    return max(within, threshold) if disagrees else min(within, threshold)


def watch(
    alarm: Alarm, disagrees: bool, propensity: float, floor: float, alpha: float, settings: DriftSettings
) -> Alarm:
    """The state after one audit of an accepted answer.

    `floor` (0..1) is the smallest propensity an accepted answer may have; a `propensity` below it counts as
    it. `alpha` (0..1) is the promised disagreement.
    """
    if alarm.rung:
        return alarm
    audits = alarm.audits + 1
    staked = alarm.reserve / (audits + 1)  # what is held back shrinks as 1/(audits + 1): 1, 1/2, 1/3, ...
    each = staked / len(STAKES)
    swing = min(1.0, floor / propensity) * (float(disagrees) - alpha) / alpha
    stakes = tuple((held + each) * (1.0 + stake * swing) for held, stake in zip(alarm.stakes, STAKES, strict=True))
    after = replace(
        alarm,
        reserve=alarm.reserve - staked,
        stakes=stakes,
        audits=audits,
        disagreements=alarm.disagreements + int(disagrees),
    )
    return replace(after, rung=after.wealth >= 1.0 / settings.false_alarm)


def revert(alarm: Alarm, threshold: float, certified: float | None, alpha: float) -> Reversion | None:
    """What a rung alarm asks for; None while it has not rung.

    Back to the last certified threshold where the one in force is looser; where it is the certified one (or a
    stricter one) that broke, or nothing was certified, System 2 answers.
    """
    if not alarm.rung:
        return None
    seen = f"{alarm.disagreements} of {alarm.audits} audits disagree, beyond the goal of {alpha:.1%}"
    if certified is not None and threshold < certified:
        return Reversion(certified, f"{seen}: back from {threshold:.3f} to the certified {certified:.3f}.")
    broke = "nothing is certified" if certified is None else f"the certified {certified:.3f} no longer holds"
    return Reversion(None, f"{seen}, and {broke}: System 2 answers until a new certificate.")
