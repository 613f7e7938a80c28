"""Rewrite the question, then answer the rewriting: the two stages that rar and s2a share."""

from __future__ import annotations

from collections.abc import Callable

from agent.system2.problem import Problem, attempts_of
from agent.system2.settings import System2Settings
from agent.system2.think import Think, together
from memory.records import Attempt, Message

Answering = Callable[[str], tuple[Message, ...]]


async def then_answer(
    problem: Problem,
    think: Think,
    settings: System2Settings,
    n: int,
    *,
    stage: str,
    rewriting: tuple[Message, ...],
    answering: Answering,
    answers_each: int = 1,
) -> tuple[Attempt, ...]:
    """`n` attempts: one call for ceil(n / answers_each) rewritings, then one call for the answers of each.

    `answering`: the second stage's prompt for a rewriting. A budget spent in the second stage raises
    TimedOut.
    """
    count = -(-n // answers_each)
    first = await think.ask(
        stage,
        rewriting,
        n=count,
        temperature=settings.attempt_temperature(problem.skill, count),
        max_tokens=settings.max_tokens,
    )
    calls = await together(
        (
            think.ask(
                "answer",
                answering(done.text.strip()),
                n=(each := min(answers_each, n - i * answers_each)),
                temperature=settings.attempt_temperature(problem.skill, each),
                max_tokens=settings.max_tokens,
                parents=(first.id,),
            )
            for i, done in enumerate(first.completions)
        )
    )
    return tuple(attempt for call in calls for attempt in attempts_of(problem, call))
