"""Which system answers: a pure decision with its reason and its propensity.

The order of the rules is the order of trust: what System 2 cannot do, what the caller named, what the
operator forbade to System 1, what is unknown, and only then the confidence.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from memory.records import Mode, RouteDecision, System
from memory.settings import Settings


class RouteSettings(Settings):
    """How an ask in auto mode is routed where the evidence is missing."""

    threshold: float | None = Field(
        default=None,
        ge=0.0,
        le=1.0,
        description="confidence from which System 1 answers until one is tuned or certified, 0..1",
    )
    unknown: Literal["system1", "system2"] = Field(
        default="system2",
        description="who answers in auto mode while the confidence is unknown or no threshold is set",
    )
    unskilled: Literal["auto", "system1", "system2"] = Field(
        default="system1",
        description="who answers in auto mode a question of no known skill; auto: as the confidence says",
    )
    alike: bool = Field(
        default=False,
        description="recognise a question that no caller names and no pattern matches by its likeness to earlier ones",
    )


def route(
    mode: Mode,
    confidence: float | None,
    threshold: float | None,
    settings: RouteSettings,
    *,
    audit_probability: float,
    chance: float,
    system2_can: bool = True,
    why_not: str = "",
    deliberate: bool = False,
    red_listed: bool = False,
    distrusted: bool = False,
    skilled: bool = True,
) -> RouteDecision:
    """Decide who answers one ask.

    `threshold` (0..1) is the one in force for the skill, None where none was set: then `settings.threshold`.
    `chance` is a uniform draw from [0, 1): an answer of System 1 is audited where it is below
    `audit_probability`. `why_not` says, as the end of a sentence, what System 2 cannot serve ("it names
    tools"). `deliberate`: the skill was found not to distil; `red_listed`: the operator keeps it from System
    1; `distrusted`: trust was taken from it until a new certificate; `skilled`: the question belongs to a known skill.

    The decision's propensity is 1 where System 2 answers, 0 where it cannot serve, else `audit_probability`.
    A caller who names System 2 for what it cannot serve is answered by System 1 and told so in the reason.
    """
    limit = settings.threshold if threshold is None else threshold
    system, by_confidence, reason = _choose(
        mode, confidence, limit, settings, system2_can, why_not, deliberate, red_listed, distrusted, skilled
    )
    propensity = 1.0 if system is System.SYSTEM2 else audit_probability if system2_can else 0.0
    return RouteDecision(
        system=system,
        reason=reason,
        confidence=confidence,
        threshold=limit if by_confidence else None,
        propensity=propensity,
        audit=system is System.SYSTEM1 and chance < propensity,
    )


def _choose(
    mode: Mode,
    confidence: float | None,
    limit: float | None,
    settings: RouteSettings,
    system2_can: bool,
    why_not: str,
    deliberate: bool,
    red_listed: bool,
    distrusted: bool,
    skilled: bool,
) -> tuple[System, bool, str]:
    """(who, whether the confidence decided, why)."""
    if not system2_can:
        because = f": {why_not}" if why_not else ""
        return System.SYSTEM1, False, f"System 2 cannot serve this request{because}."
    if mode is Mode.SYSTEM1:
        return System.SYSTEM1, False, "The caller asked for System 1."
    if mode is Mode.SYSTEM2:
        return System.SYSTEM2, False, "The caller asked for System 2."
    if red_listed:
        return System.SYSTEM2, False, "The skill is red-listed: System 1 may not answer it."
    if deliberate:
        return System.SYSTEM2, False, "The skill is deliberate: it did not become automatic."
    if distrusted:
        return System.SYSTEM2, False, "System 1 has lost its trust in this skill until a new certificate."
    if not skilled and settings.unskilled != "auto":
        return (
            System(settings.unskilled),
            False,
            f"No skill is known for it; {settings.unskilled} answers, as configured.",
        )
    if confidence is None or limit is None:
        missing = "The confidence is unknown" if confidence is None else "No threshold is set"
        return System(settings.unknown), False, f"{missing}; {settings.unknown} answers, as configured."
    if confidence >= limit:
        return System.SYSTEM1, True, f"Confidence {confidence:.3f} reaches the threshold {limit:.3f}."
    return System.SYSTEM2, True, f"Confidence {confidence:.3f} is below the threshold {limit:.3f}."
