"""System 2's single entry: think a question through by a method, vote, and say what was agreed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from agent.system2 import bsm, cot, direct, got, rar, s2a, tot, usc, vote
from agent.system2.problem import Problem
from agent.system2.settings import System2Settings, voted
from agent.system2.think import Think
from memory.errors import BadConfig, TimedOut
from memory.records import AnswerType, Attempt, Deliberation, Verdict
from policies import agree, answers
from policies.skills import SkillSettings

METHODS: Mapping[str, vote.Method] = {
    "direct": direct.attempts,
    "cot": cot.attempts,
    "rar": rar.attempts,
    "s2a": s2a.attempts,
    "bsm": bsm.attempts,
    "tot": tot.attempts,
    "got": got.attempts,
}


def method_of(skill: SkillSettings) -> vote.Method:
    """The skill's method; of `vote` the one that is voted over. Raises BadConfig for an unknown one."""
    named = voted(skill).method
    if named not in METHODS:
        known = f"{', '.join(METHODS)}, or vote with options: {{of: one of these}}"
        raise BadConfig(f"skill {skill.name}: no method {named!r}; use one of {known}.")
    return METHODS[named]


def check(skill: SkillSettings, settings: System2Settings) -> None:
    """Raises BadConfig where the skill's method or one of its options is unknown or wrong: at the start, not
    at its first question."""
    method_of(skill)
    settings.for_skill(skill)


async def deliberate(problem: Problem, think: Think, settings: System2Settings) -> Deliberation:
    """Answer by the skill's method and agreement rule.

    `settings`: the service's; the skill's own options are put in here. Raises BadConfig for an unknown
    method, TimedOut where the budget was spent before any attempt ended, and whatever the engine raises.
    """
    skill = problem.skill
    method = method_of(skill)
    own = settings.for_skill(skill)
    attempts = await vote.attempts(method, problem, think, own)
    chosen = await _consensus(problem, think, own, attempts)
    verdict = agree.verdict(attempts, skill.agreement, problem.answer_type, chosen)
    return Deliberation(
        skill.method,
        think.calls,
        attempts,
        verdict,
        shown(problem, attempts, verdict),
        think.tokens,
        think.seconds,
        settings.variant(skill),
    )


async def _consensus(
    problem: Problem, think: Think, settings: System2Settings, attempts: tuple[Attempt, ...]
) -> str | None:
    """The model's choice among free texts where the skill wants it; None leaves it to the count."""
    how = problem.skill.agreement.select
    if how == "majority" or problem.answer_type is not AnswerType.FREE_TEXT:
        return None
    try:
        return await (usc.select if how == "usc_select" else usc.compose)(problem, think, settings, attempts)
    except TimedOut:  # the attempts are there: count them
        return None


def shown(problem: Problem, attempts: tuple[Attempt, ...], verdict: Verdict) -> str:
    """What a user reads: the winner as most of its attempts wrote it; the last attempt's text if nobody
    won."""
    if verdict.answer is None:
        return attempts[-1].text if attempts else ""
    if problem.answer_type is AnswerType.FREE_TEXT:
        return verdict.answer
    written = Counter(
        answers.find(a.text, problem.answer_type, problem.skill.choices) or ""
        for a in attempts
        if a.answer == verdict.answer and a.perturbation is None
    )
    return written.most_common(1)[0][0] if written else verdict.answer
