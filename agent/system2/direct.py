"""direct: System 1's own prompt on the frozen base, sampled. The paper's "Distill System 1" row (section
4.2).

One call. With `vote` it is self-consistency of the direct answer.
"""

from __future__ import annotations

from agent.system2.problem import Problem, attempts_of
from agent.system2.settings import System2Settings
from agent.system2.think import Think
from memory.records import Attempt
from policies.skills import direct_messages


async def attempts(problem: Problem, think: Think, settings: System2Settings, n: int) -> tuple[Attempt, ...]:
    """`n` direct answers, from one request."""
    call = await think.ask(
        "answer",
        direct_messages(problem.messages, problem.skill),
        n=n,
        temperature=settings.attempt_temperature(problem.skill, n),
        max_tokens=problem.skill.max_answer_tokens,
    )
    return attempts_of(problem, call)
