"""vote: self-consistency of any method, in blocks with an early stop, then under changed inputs.

Self-Consistency (Wang et al. 2022, 2203.11171) draws 40 chains at temperature 0.7 and takes the majority;
its notes say that 5 to 10 give most of the gain. Here: 3 at first and up to 8 (policies/agree.py), each draw as
large as may decide the vote and one call of the method where the method can sample, until `agree.stop`. Calls: draws x
the method's calls, plus those of each perturbation, which are made only where the plain attempts would
otherwise be train-grade.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from agent.system2 import perturb
from agent.system2.problem import Problem
from agent.system2.settings import System2Settings
from agent.system2.think import Think
from memory.errors import TimedOut
from memory.records import Attempt, Grade
from policies import agree

Method = Callable[[Problem, Think, System2Settings, int], Awaitable[tuple[Attempt, ...]]]


async def attempts(method: Method, problem: Problem, think: Think, settings: System2Settings) -> tuple[Attempt, ...]:
    """Votes until they decide. A spent budget ends the vote with what there is; raises TimedOut if that is
    none."""
    rule = problem.skill.agreement
    votes: list[Attempt] = []
    try:
        while not agree.stop(cast := agree.labels(votes, problem.answer_type), rule).stop:
            votes += await method(problem, think, settings, agree.needed(cast, rule))
        if _worth_perturbing(votes, problem):
            votes += await _perturbed(method, problem, think, settings)
    except TimedOut:
        if not votes:
            raise
    return tuple(votes)


def _worth_perturbing(votes: list[Attempt], problem: Problem) -> bool:
    plain = problem.skill.agreement.model_copy(update={"perturb": ()})
    return problem.skill.train and agree.verdict(votes, plain, problem.answer_type).grade is Grade.TRAIN


async def _perturbed(method: Method, problem: Problem, think: Think, settings: System2Settings) -> list[Attempt]:
    """Attempts at the changed question, their answers in the terms of the question as asked."""
    votes: list[Attempt] = []
    for kind in problem.skill.agreement.perturb:
        change = await perturb.CHANGES[kind](problem, think, settings)
        if change is None:
            continue
        drawn = await method(change.problem, think, settings, problem.skill.agreement.perturb_samples)
        votes += [replace(a, answer=change.back(a.answer), perturbation=kind) for a in drawn]
    return votes
