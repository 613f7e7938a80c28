"""rar: Rephrase and Respond (Deng et al. 2023, 2311.04205; System 2 Distillation, section 4.2).

- `one_step`: 1 call that rewords the question and answers it.
- `two_step`: 2 calls; the second is sent the rephrased question alone, as System 2 Distillation does
  (figures 4 and 5), or with `send: both` the original too, as the RaR paper does. Both papers leave the
  temperature open; `n` attempts are n rephrasings of one request, each answered once (`answers_each` more
  often: the coin flip's 8 by 8). The skill's examples are worked with their `reasoning` as the rephrased
  question.
"""

from __future__ import annotations

from agent.system2 import rewrite
from agent.system2.problem import Problem, attempts_of, with_turns
from agent.system2.settings import System2Settings
from agent.system2.think import Think
from memory.records import Attempt, Message


async def attempts(problem: Problem, think: Think, settings: System2Settings, n: int) -> tuple[Attempt, ...]:
    """`n` answers, each to a rephrased question."""
    if settings.rar.variant == "one_step":
        call = await think.ask(
            "rephrase and answer",
            one_step(problem, settings),
            n=n,
            temperature=settings.attempt_temperature(problem.skill, n),
            max_tokens=settings.max_tokens,
        )
        return attempts_of(problem, call)
    return await rewrite.then_answer(
        problem,
        think,
        settings,
        n,
        stage="rephrase",
        rewriting=rephrasing(problem, settings),
        answering=lambda text: answering(problem, settings, text),
        answers_each=settings.rar.answers_each,
    )


def one_step(problem: Problem, settings: System2Settings) -> tuple[Message, ...]:
    """The question, and the request to reword and answer it."""
    request = settings.rar.one_step_request
    shots = [
        (f"{e.question}\n{request}", f"Reworded: {e.reasoning}\nThe answer is {e.answer}.")
        for e in problem.skill.examples
    ]
    form = f" {problem.form_request}" if not shots else ""
    return with_turns(problem.reworded(f"{problem.text}\n{request}{form}"), shots)


def rephrasing(problem: Problem, settings: System2Settings) -> tuple[Message, ...]:
    """First step: the question, and the request to reword it alone."""
    request = settings.rar.request
    shots = [(f'"{e.question}"\n{request}', e.reasoning) for e in problem.skill.examples if e.reasoning]
    return with_turns(problem.reworded(f'"{problem.text}"\n{request}'), shots)


def answering(problem: Problem, settings: System2Settings, rephrased: str) -> tuple[Message, ...]:
    """Second step: the rephrased question alone, or behind the original."""
    rephrased = rephrased.strip('" ')
    shots = [
        (_second(e.question, e.reasoning, settings), f"The answer is {e.answer}.")
        for e in problem.skill.examples
        if e.reasoning
    ]
    return with_turns(problem.reworded(_second(problem.text, rephrased, settings)), shots)


def _second(original: str, rephrased: str, settings: System2Settings) -> str:
    suffix = f"\n{settings.rar.answer_request}" if settings.rar.answer_request else ""
    if settings.rar.send == "rephrased":
        return rephrased + suffix
    return (
        f"(original) {original}\n(rephrased) {rephrased}\n"
        f"Use your answer to the rephrased question to answer the original question.{suffix}"
    )
