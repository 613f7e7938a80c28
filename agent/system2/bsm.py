"""bsm: Branch-Solve-Merge as a judge of two responses (Saha et al. 2023, 2310.15123; System 2 Distillation,
4.4).

Branch: a plan of at most 5 criteria, from the question alone. Solve: both responses scored 1 to 5 on each
criterion. Merge: the sums compared (2310.15123), or by the model, which reads the evaluations (figure 9).
In both orders, each readable; a tie unless they agree. Calls with k criteria: 1 + 2k, with `merge: model` 3 + 2k (11
or 13 for k = 5; the branch does not see the responses, so one serves both orders). Greedy; more attempts at
once are samples of the same calls. With `orders: asked` only the order of the prompt is judged (1 + k
calls): together with the perturbation `response_order` that is System 2 Distillation's filter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from agent.system2 import pair
from agent.system2.pair import Pair
from agent.system2.problem import Problem, user
from agent.system2.settings import System2Settings
from agent.system2.think import Think, together
from memory.errors import BadInput
from memory.records import AnswerType, Attempt, Call, Message
from policies import answers

_PLANNED = (
    "How can I sleep better?",
    "1. Relevance: does it answer the question that was asked?\n"
    "2. Correctness: are its statements true?\n"
    "3. Completeness: is anything important missing?\n"
    "4. Clarity: is it easy to understand?",
)
_SOLVED = (
    (
        "How many days has a week?",
        "A week has seven days.",
        "Weeks are long.",
        "Relevance: does it answer?",
        "A: 5\nB: 1",
    ),
    ("What do cows eat?", "Cows eat stones.", "Mostly grass and hay.", "Correctness: is it true?", "A: 1\nB: 5"),
)
_SWAP = {"A": "B", "B": "A", "C": "C"}
_LIST_MARK = re.compile(r"^\s*(?:\d+[.)]|[-*\u2022])?\s*\**\s*")
_NAMED_SCORE = re.compile(
    r"\b(?:Assistant |Response |Score (?:of|for) (?:Assistant |Response )?)?([AB])\W{0,6}([1-5])(?!\d)"
)
_ANY_SCORE = re.compile(r"(?<![\d./])([1-5])(?![\d])")


@dataclass(frozen=True, slots=True)
class Judged:
    """One order's verdict, in the terms of the question as asked."""

    winner: str | None  # "A", "B", "C"; None: no score could be read
    text: str
    call: int


async def attempts(problem: Problem, think: Think, settings: System2Settings, n: int) -> tuple[Attempt, ...]:
    """`n` judgements. Raises BadInput where the question holds no two responses."""
    found = pair.parse(problem.text)
    if found is None:
        raise BadInput(
            "bsm judges two responses: mark them in the last message, for instance as "
            "[The Start of Assistant A's Answer] ... [The End of Assistant A's Answer], and B's alike."
        )
    temperature = settings.attempt_temperature(problem.skill, n)
    plan = await think.ask("branch", _branch(found, settings), max_tokens=settings.bsm.plan_tokens)
    orders = [False, True] if settings.bsm.orders == "both" else [False]
    judged = await together(_judge(found, plan, think, settings, n, temperature, swapped=swapped) for swapped in orders)
    return tuple(_attempt([order[i] for order in judged], i) for i in range(n))


def criteria(plan: str, limit: int) -> list[str]:
    """The plan's lines, without list marks and headings; the whole plan where it has none."""
    lines = [_LIST_MARK.sub("", line).replace("**", "").strip() for line in plan.splitlines()]
    marked = [
        text for line, text in zip(plan.splitlines(), lines, strict=True) if re.match(r"\s*(?:\d+[.)]|[-*])", line)
    ]
    kept = [line for line in marked or lines if len(line) > 3 and not line.endswith(":")]
    return kept[:limit] or ["Overall quality: which response answers the question better?"]


def scores(text: str) -> tuple[int, int] | None:
    """(score of A, score of B), each 1..5, or None where two cannot be read."""
    named = dict(reversed(_NAMED_SCORE.findall(text)))
    if len(named) == 2:
        return int(named["A"]), int(named["B"])
    bare = _ANY_SCORE.findall(text)
    return (int(bare[0]), int(bare[1])) if len(bare) >= 2 else None


async def _judge(
    found: Pair, plan: Call, think: Think, settings: System2Settings, n: int, temperature: float, *, swapped: bool
) -> list[Judged]:
    """`n` verdicts on the responses in one order."""
    shown = found.swapped() if swapped else found
    listed = criteria(plan.completions[0].text, settings.bsm.criteria)
    solved = await together(
        think.ask(
            "solve, swapped" if swapped else "solve",
            _solve(shown, criterion),
            n=n,
            temperature=temperature,
            max_tokens=settings.bsm.score_tokens,
            parents=(plan.id,),
        )
        for criterion in listed
    )
    if settings.bsm.merge == "sum":
        return [_by_sum(listed, solved, i, swapped=swapped) for i in range(n)]
    merging = (_by_model(shown, listed, solved, i, think, settings, swapped=swapped) for i in range(n))
    return await together(merging)


def _by_sum(listed: list[str], solved: list[Call], i: int, *, swapped: bool) -> Judged:
    read = [(c, scores(call.completions[i].text)) for c, call in zip(listed, solved, strict=True)]
    known = [(c, s) for c, s in read if s is not None]
    lines = [f"{c.split(':')[0]}: A {s[0]}, B {s[1]}" for c, s in known]
    a, b = sum(s[0] for _, s in known), sum(s[1] for _, s in known)
    winner = None if not known else "A" if a > b else "B" if b > a else "C"
    order = " (responses swapped)" if swapped else ""
    text = "\n".join([*lines, f"Sum{order}: A {a}, B {b}"])
    return Judged(_SWAP[winner] if winner and swapped else winner, text, solved[-1].id)


async def _by_model(
    found: Pair,
    listed: list[str],
    solved: list[Call],
    i: int,
    think: Think,
    settings: System2Settings,
    *,
    swapped: bool,
) -> Judged:
    evaluations = [f"{c}\n{call.completions[i].text}" for c, call in zip(listed, solved, strict=True)]
    merged = await think.ask(
        "merge, swapped" if swapped else "merge",
        user(_merge(found, evaluations)),
        max_tokens=settings.bsm.merge_tokens,
        parents=tuple(call.id for call in solved),
    )
    text = merged.completions[0].text
    winner = answers.extract(text, AnswerType.VERDICT)
    return Judged(_SWAP[winner] if winner and swapped else winner, text, merged.id)


def _attempt(orders: list[Judged], sample: int) -> Attempt:
    """One vote: the winner all orders name, else a tie; None where one of them could not be read, since a winner
    in one order alone may be a preference for a place."""
    named = {order.winner for order in orders}
    winner = None if None in named else named.pop() if len(named) == 1 else "C"
    lines = "\n".join(order.text for order in orders)
    return Attempt(winner, f"{lines}\n[[{winner}]]" if winner else lines, orders[-1].call, sample)


def _branch(found: Pair, settings: System2Settings) -> tuple[Message, ...]:
    """The plan's prompt, with a demonstration: without one a small model answers the question instead."""
    return (
        *user(_plan_request(_PLANNED[0], settings)),
        _reply(_PLANNED[1]),
        *user(_plan_request(found.question, settings)),
    )


def _plan_request(question: str, settings: System2Settings) -> str:
    return (
        f"Question: {question}\n\nTwo assistants have answered this question, and a judge will compare their answers. "
        f"Do not answer it. List up to {settings.bsm.criteria} criteria for the judge, the most important first, "
        "one on each line with a few words on how to check it."
    )


def _solve(found: Pair, criterion: str) -> tuple[Message, ...]:
    """The evaluation's prompt, with two demonstrations, one won by each side."""
    shown = [(_solve_request(*asked), _reply(scored)) for *asked, scored in _SOLVED]
    turns = [turn for request, reply in shown for turn in (*user(request), reply)]
    return (*turns, *user(_solve_request(found.question, found.a, found.b, criterion)))


def _solve_request(question: str, a: str, b: str, criterion: str) -> str:
    return (
        f"{_shown(question, a, b)}\n\nJudge both answers by this criterion alone: "
        f"{criterion}\nGive each a whole number from 1 (bad) to 5 (excellent). Reply in exactly two lines:\n"
        "A: <score>\nB: <score>"
    )


def _reply(text: str) -> Message:
    return {"role": "assistant", "content": text}


def _merge(found: Pair, evaluations: list[str]) -> str:
    points = "\n\n".join(f"Evaluation {i + 1}. {e}" for i, e in enumerate(evaluations))
    return (
        f"{_shown(found.question, found.a, found.b)}\n\nThe answers were scored from 1 to 5, one criterion at a time:"
        f"\n\n{points}\n\n"
        "Say in one sentence which answer is better over all. Then write the verdict on the last line: "
        "[[A]] if A is better, [[B]] if B is better, [[C]] for a tie."
    )


def _shown(question: str, a: str, b: str) -> str:
    return f"Question: {question}\n\nAnswer A:\n{a}\n\nAnswer B:\n{b}"
