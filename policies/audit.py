"""How often System 2 checks, in the background, an answer that System 1 gave.

Every probability is known before the coin is tossed and is logged with the episode: that is what makes any
other threshold computable from the log (policies/replay.py) and this one certifiable (policies/certify.py).
"""

from __future__ import annotations

from pydantic import Field

from memory.settings import Settings


class AuditSettings(Settings):
    """Shares of accepted System 1 answers that System 2 checks in the background."""

    floor: float = Field(
        default=0.02,
        ge=0.0,
        le=1.0,
        description="share of all accepted answers audited; at 0 no threshold can be replayed or certified",
    )
    band: float = Field(
        default=0.15, ge=0.0, le=1.0, description="share audited where the confidence is near the threshold"
    )
    band_width: float = Field(
        default=0.1,
        ge=0.0,
        le=1.0,
        description="what is near: distance of confidence from threshold, each side, 0..1",
    )
    new_adapter: float = Field(
        default=0.2, ge=0.0, le=1.0, description="share audited among a new adapter's first accepted answers"
    )
    new_adapter_answers: int = Field(
        default=200, ge=0, description="how many accepted answers count as a new adapter's first, answers"
    )


def audit_probability(
    confidence: float | None, threshold: float | None, accepted_so_far: int, settings: AuditSettings
) -> float:
    """0..1, the chance that this answer of System 1 is checked: the largest share that applies.

    `accepted_so_far` counts the answers of System 1 under the adapter now live, before this one.
    With no confidence or no threshold (the caller named System 1) only the floor and the new adapter's share
    apply.
    """
    shares = [settings.floor]
    if confidence is not None and threshold is not None and abs(confidence - threshold) <= settings.band_width:
        shares.append(settings.band)
    if accepted_so_far < settings.new_adapter_answers:
        shares.append(settings.new_adapter)
    return max(shares)
