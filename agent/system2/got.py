"""got: Graph of Thoughts (Besta et al. 2023, 2308.09687): a graph of operations over thoughts.

Operations, by name, in the order of `operations`: generate (k solutions of one request), score, keep_best,
aggregate (the kept solutions merged into a new one beside them), improve (the best one looked over and
corrected, beside it). There the score is a local function of the task (errors counted), Aggregate makes one
and Improve tries 3 times, as here. The aggregate is scored before improve chooses what to improve. Here,
without labels, a thought's score is the share of the thoughts so far that have the same answer (`score_by:
agreement`, no call), or the share of yes among `score_samples` judgements by the model (`score_by: model`, 1
call for each unscored thought). Calls per attempt with the default plan: 3 with agreement, up to k + 7 with
the model. One attempt is one graph. The paper draws up to 1536 tokens at temperature 1.0; here `max_tokens`
and `temperature` are System 2's own, one for all methods, and a skill's `options` change them.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

from agent.system2 import cot
from agent.system2.problem import Problem, attempts_of, user
from agent.system2.settings import System2Settings
from agent.system2.think import Think, together
from memory.records import Attempt, Call
from policies import answers


@dataclass(frozen=True, slots=True)
class Thought:
    """A whole solution: a vertex of the graph."""

    attempt: Attempt
    calls: tuple[int, ...]  # the call that wrote it, then the one that scored it
    score: float | None = None  # 0..1; None: not scored yet


@dataclass(frozen=True, slots=True)
class Graph:
    """What the operations work on."""

    problem: Problem
    think: Think
    settings: System2Settings


Operation = Callable[[Graph, list[Thought]], Awaitable[list[Thought]]]


async def attempts(problem: Problem, think: Think, settings: System2Settings, n: int) -> tuple[Attempt, ...]:
    """`n` graphs, each ending in its best thought."""
    return tuple(await together(_run(Graph(problem, think, settings)) for _ in range(n)))


async def _run(graph: Graph) -> Attempt:
    thoughts: list[Thought] = []
    for name in graph.settings.got.operations:
        thoughts = await OPERATIONS[name](graph, thoughts)
    return _ranked(thoughts)[0].attempt


async def _generate(graph: Graph, thoughts: list[Thought]) -> list[Thought]:
    """k new solutions by chain of thought. 1 call."""
    call = await graph.think.ask(
        "generate",
        cot.prompt(graph.problem, graph.settings),
        n=graph.settings.got.generate,
        temperature=graph.settings.temperature,
        max_tokens=graph.settings.max_tokens,
    )
    return [*thoughts, *_thoughts(graph, call)]


async def _score(graph: Graph, thoughts: list[Thought]) -> list[Thought]:
    """A score for each thought: the share with its answer, or the model's yes votes where it has none yet."""
    if graph.settings.got.score_by == "agreement":
        given = [thought.attempt.answer for thought in thoughts]
        kind = graph.problem.answer_type
        return [
            replace(t, score=sum(answers.same(t.attempt.answer, other, kind) for other in given) / len(given))
            for t in thoughts
        ]
    return await together(_judged(graph, thought) for thought in thoughts)


async def _judged(graph: Graph, thought: Thought) -> Thought:
    if thought.score is not None:
        return thought
    if thought.attempt.answer is None:
        return replace(thought, score=0.0)
    call = await graph.think.ask(
        "score",
        user(
            f"Problem: {graph.problem.text}\n\nProposed solution:\n{thought.attempt.text}\n\n"
            "Check each step of the solution. Is its final answer right? Reply with one word: yes or no."
        ),
        n=graph.settings.got.score_samples,
        temperature=graph.settings.temperature,
        max_tokens=4,
        parents=thought.calls,
    )
    yes = sum(bool(re.match(r"\W*yes\b", done.text, re.IGNORECASE)) for done in call.completions)
    return replace(thought, score=yes / len(call.completions), calls=(*thought.calls, call.id))


async def _keep_best(graph: Graph, thoughts: list[Thought]) -> list[Thought]:
    """The best `keep` thoughts. No call."""
    return _ranked(thoughts)[: graph.settings.got.keep]


async def _aggregate(graph: Graph, thoughts: list[Thought]) -> list[Thought]:
    """The thoughts, and one made of all of them. 1 call; none where there is a single thought."""
    if len(thoughts) < 2:
        return thoughts
    shown = "\n\n".join(f"Solution {i + 1}:\n{t.attempt.text}" for i, t in enumerate(thoughts))
    text = (
        f"Problem: {graph.problem.text}\n\n{shown}\n\nWrite one correct solution, step by step, using the parts "
        f"of these solutions that are right. {graph.problem.form_request}"
    )
    return [*thoughts, *await _rewritten(graph, "aggregate", text, thoughts)]


async def _improve(graph: Graph, thoughts: list[Thought]) -> list[Thought]:
    """The thoughts, and corrected versions of the best one. `improve_tries` samples of 1 call."""
    best = _ranked(thoughts)[0]
    text = (
        f"Problem: {graph.problem.text}\n\nA solution that may hold mistakes:\n{best.attempt.text}\n\n"
        f"Do each step again and write the corrected solution. {graph.problem.form_request}"
    )
    return [*thoughts, *await _rewritten(graph, "improve", text, [best], graph.settings.got.improve_tries)]


async def _rewritten(graph: Graph, stage: str, text: str, sources: list[Thought], n: int = 1) -> list[Thought]:
    call = await graph.think.ask(
        stage,
        user(text.strip()),
        n=n,
        temperature=graph.settings.temperature if n > 1 else 0.0,
        max_tokens=graph.settings.max_tokens,
        parents=tuple(dict.fromkeys(c for source in sources for c in source.calls)),
    )
    return _thoughts(graph, call)


def _thoughts(graph: Graph, call: Call) -> list[Thought]:
    return [Thought(attempt, (call.id,)) for attempt in attempts_of(graph.problem, call)]


def _ranked(thoughts: list[Thought]) -> list[Thought]:
    """Best first: answered before unanswered, then by score; ties as they came."""
    return sorted(thoughts, key=lambda t: (t.attempt.answer is None, -(t.score or 0.0)))


OPERATIONS: Mapping[str, Operation] = {
    "generate": _generate,
    "score": _score,
    "keep_best": _keep_best,
    "aggregate": _aggregate,
    "improve": _improve,
}
