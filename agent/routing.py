"""Who answers: the router's decision from what is in force, and what is known of it before there is a draft."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from agent.day import Day
from agent.in_force import InForce
from memory.records import Ask, Deliberation, Draft, Mode, RouteDecision, System
from policies.route import route
from policies.skills import SkillSettings


def decide(day: Day, ask: Ask, skill: SkillSettings, force: InForce, drafted: Draft) -> RouteDecision:
    """The route and its propensity, from what is in force."""
    threshold = force.threshold(skill.name)
    why_not = obstacle(day, ask)
    # What cannot be parsed cannot be trusted; of a draft that was stopped nothing was parsed, but a bound is known.
    known = drafted.answer is not None or drafted.stopped
    decision = route(
        ask.mode,
        drafted.confidence if known else 0.0,
        threshold,
        day.config.route,
        audit_probability=day.audits.probability(drafted.confidence, threshold, force),
        chance=day.chance(),
        system2_can=why_not is None,
        why_not=why_not or "",
        deliberate=skill.name in force.deliberate,
        red_listed=skill.settled and not skill.train,
        distrusted=skill.settled and not force.trusts(skill.name),
        skilled=skill.settled,
    )
    return _of_stopped(decision, drafted) if drafted.stopped else decision


def _of_stopped(decision: RouteDecision, drafted: Draft) -> RouteDecision:
    """System 2 runs, but the pair that calibration and what-if read is not there: it had no chance of being seen."""
    said = f"{decision.reason} No end of the draft could have more: it was stopped after "
    return replace(decision, reason=f"{said}{drafted.completion.completion_tokens} tokens.", propensity=0.0)


def obstacle(day: Day, ask: Ask) -> str | None:
    """Why System 2 cannot serve this request, as the end of a sentence; None if it can."""
    return unusual(ask) or day.mixing_fault()


def unusual(ask: Ask) -> str | None:
    """What in a request only the engine itself can serve, as the end of a sentence; None if nothing."""
    params = ask.params
    shape = params.get("response_format")
    if params.get("tools") or params.get("functions"):
        return "it uses tools"
    if (params.get("n") or 1) != 1:
        return "it asks for several choices"
    if (isinstance(shape, Mapping) and shape.get("type") != "text") or params.get("structured_outputs"):
        return "it asks for structured output"
    if params.get("logprobs"):
        return "it asks for token log-probabilities"
    if any(not isinstance(message.get("content"), str) for message in ask.messages):
        return "its messages are not all plain text"
    return None


def limit_of(day: Day, skill: SkillSettings, force: InForce) -> float | None:
    """0..1, the threshold that a draft of this skill has to reach; None: there is none."""
    own = force.threshold(skill.name)
    return day.config.route.threshold if own is None else own


def surely_system2(day: Day, ask: Ask, skill: SkillSettings, force: InForce) -> bool:
    """True where no draft could be trusted, so System 2 need not wait for it."""
    if ask.mode is Mode.SYSTEM1 or obstacle(day, ask) is not None:
        return False
    if ask.mode is Mode.SYSTEM2 or not skill.train or skill.name in force.deliberate or not force.trusts(skill.name):
        return ask.mode is Mode.SYSTEM2 or skill.settled
    unsure = force.calibrator is None or limit_of(day, skill, force) is None
    return unsure and day.config.route.unknown == "system2" and skill.settled


def surely_system1(day: Day, ask: Ask, skill: SkillSettings, force: InForce) -> bool:
    """True where System 1 answers whatever its confidence turns out to be, so its words can be sent as they come."""
    if ask.mode is Mode.SYSTEM1 or obstacle(day, ask) is not None:
        return True
    if ask.mode is Mode.SYSTEM2:
        return False
    if not skill.settled and day.config.route.unskilled != "auto":
        return day.config.route.unskilled == "system1"
    if skill.settled and (not skill.train or skill.name in force.deliberate or not force.trusts(skill.name)):
        return False
    return limit_of(day, skill, force) is None and day.config.route.unknown == "system1"


def may_stop(day: Day, ask: Ask, skill: SkillSettings, force: InForce) -> float | None:
    """0..1, the confidence below which a draft may be stopped in its middle; None: it is written to its end.

    Only a draft that the confidence decides about, and whose pair nobody calibrates or certifies by: those of the
    bare base and of held-out questions are always whole. A draft near the threshold is kept for the dearer signals.
    """
    if not day.config.system1.stop_early or ask.mode is not Mode.AUTO or obstacle(day, ask) is not None:
        return None
    if force.adapter is None or force.calibrator is None or ask.heldout:
        return None
    if not skill.settled and day.config.route.unskilled != "auto":
        return None
    limit = limit_of(day, skill, force)
    return None if limit is None else limit - day.config.system1.grey_width


def fall_back(decision: RouteDecision, thought: Deliberation | None) -> RouteDecision:
    """System 1's answer stands where System 2 was run and found none."""
    if thought is None:
        return decision
    reason = f"System 2 found no answer ({thought.verdict.reason}), so System 1's stands"
    return replace(decision, system=System.SYSTEM1, reason=reason)
