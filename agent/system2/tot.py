"""tot: Tree of Thoughts, breadth-first (Yao et al. 2023, 2305.10601): propose, value, keep b.

A state is the reasoning so far, one step a line. Each level: every kept state is continued by `propose`
next steps, each new state is valued by `values` judgements (sure 20, likely 1, impossible 0.001, summed, as
in the paper's game of 24), and the best `keep` go on. Steps are drawn by letting the model go on with its
own reasoning, which works where a small model would not follow a request for "the next step". Calls per
tree: up to steps x keep x (1 + propose), plus one to finish a tree that ends without an answer; finished
states are neither continued nor valued again. One attempt is one tree. The paper has 3 values, 3 or 4 levels
and temperature 0.7, as here; it keeps 5 of about 8 proposals. Here 2 are kept of 3 from each: as in the paper,
a vote of four trees could be 600 calls, beyond a small machine and the default budget (a skill's `options`:
`keep: 5, propose: 8`). Its 1,000 tokens hold all proposals; the 80 here are one step, which ends with its line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from agent.system2.problem import Problem, user, with_turns
from agent.system2.settings import System2Settings
from agent.system2.think import Think, together
from memory.records import AnswerType, Attempt, Message
from policies import answers

_WEIGHTS = {"sure": 20.0, "likely": 1.0, "impossible": 0.001}
_WORTH = re.compile(r"\b(sure|likely|impossible)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class State:
    """Reasoning so far."""

    text: str
    value: float  # summed weights of its judgements
    calls: tuple[int, ...]  # the call that wrote its last step, then those that valued it
    sample: int  # which completion of that call
    done: bool  # it holds an answer


async def attempts(problem: Problem, think: Think, settings: System2Settings, n: int) -> tuple[Attempt, ...]:
    """`n` trees, each ending in one answer."""
    return tuple(await together(_tree(problem, think, settings) for _ in range(n)))


async def _tree(problem: Problem, think: Think, settings: System2Settings) -> Attempt:
    frontier = [State("", 0.0, (), 0, False)]
    for _ in range(settings.tot.steps):
        frontier = await _level(problem, think, settings, frontier)
        if all(state.done for state in frontier):
            break
    best = frontier[0]
    if not best.done:
        best = await _finish(problem, think, settings, best)
    answer = answers.extract(best.text, problem.answer_type, problem.skill.choices)
    return Attempt(answer, best.text.strip(), best.calls[0], best.sample)


async def _level(problem: Problem, think: Think, settings: System2Settings, frontier: list[State]) -> list[State]:
    """Propose and value from every open state; the best `keep` of the new and the finished ones."""
    open_states = [state for state in frontier if not state.done]
    proposed = await together(_propose(problem, think, settings, state) for state in open_states)
    fresh = {state.text: state for states in proposed for state in states}  # equal steps are one state
    valued = await together(_value(problem, think, settings, state) for state in fresh.values())
    finished = [state for state in frontier if state.done]
    return sorted([*finished, *valued], key=lambda state: -state.value)[: settings.tot.keep]


async def _propose(problem: Problem, think: Think, settings: System2Settings, state: State) -> list[State]:
    call = await think.ask(
        "propose",
        _prompt(problem, settings, state.text),
        n=settings.tot.propose,
        temperature=settings.temperature,
        max_tokens=settings.tot.step_tokens,
        stop=("\n",),
        parents=state.calls,
        go_on=bool(state.text),
    )
    return [_grown(problem, state, done.text, call.id, i) for i, done in enumerate(call.completions)]


def _grown(problem: Problem, state: State, step: str, call: int, sample: int) -> State:
    text = f"{state.text}{step.strip()}\n"
    marked = answers.extract(text, problem.answer_type, problem.skill.choices, marked_only=True)
    return State(text, state.value, (call,), sample, marked is not None or not step.strip())


async def _value(problem: Problem, think: Think, settings: System2Settings, state: State) -> State:
    """The state with the sum of its judgements' weights; an unreadable judgement counts 0."""
    call = await think.ask(
        "value",
        user(
            f"Problem: {problem.text}\n\nReasoning so far:\n{state.text}\n"
            "Check every step. Will this reasoning reach the right answer? "
            "Reply with one word: sure, likely or impossible."
        ),
        n=settings.tot.values,
        temperature=settings.temperature,
        max_tokens=settings.tot.value_tokens,
        parents=state.calls,
    )
    found = [_WORTH.search(done.text) for done in call.completions]
    value = sum(_WEIGHTS[hit[1].lower()] for hit in found if hit)
    return State(state.text, value, (*state.calls, call.id), state.sample, state.done)


async def _finish(problem: Problem, think: Think, settings: System2Settings, state: State) -> State:
    """The best state carried on to its end, greedily."""
    lead = "Final answer:" if problem.answer_type is AnswerType.FREE_TEXT else "The answer is"
    call = await think.ask(
        "finish",
        _prompt(problem, settings, f"{state.text}{lead}"),
        max_tokens=settings.tot.step_tokens,
        stop=("\n",),
        parents=state.calls,
        go_on=True,
    )
    text = f"{state.text}{lead} {call.completions[0].text.strip()}"
    return State(text, state.value, (call.id,), 0, True)


def _prompt(problem: Problem, settings: System2Settings, text: str) -> tuple[Message, ...]:
    """The question, its examples one step a line, and the reasoning so far as the reply to go on with."""
    shots = [(e.question, f"{_lines(e.reasoning)}\nThe answer is {e.answer}.") for e in problem.skill.examples]
    asked = problem if shots else problem.reworded(f"{problem.text}\n{settings.tot.instruction} {problem.form_request}")
    started: tuple[Message, ...] = ({"role": "assistant", "content": text},) if text else ()
    return (*with_turns(asked, shots), *started)


def _lines(reasoning: str) -> str:
    """One sentence a line: a full stop followed by a space ends a step."""
    return re.sub(r"(?<=[.!?])\s+", "\n", reasoning.strip())
