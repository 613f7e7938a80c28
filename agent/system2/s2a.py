"""s2a: System 2 Attention (Weston & Sukhbaatar 2023, 2311.11829; System 2 Distillation, section 4.3).

2 calls: rewrite the text without opinion and irrelevance, under two fixed headings; answer the rewritten
text alone, asked to be unbiased. The papers draw both stages with top-p 0.9 (2311.11829 at temperature
0.6); here by temperature alone, because top-p halves the speed of sampling on a CPU, and at System 2's own 0.7,
at which docs/paper.md was measured (a skill's `options`: `temperature: 0.6`). `n` attempts are n
rewritings of one request, each answered once. The skill's examples are worked with their `reasoning` as the
rewritten text.
"""

from __future__ import annotations

import re

from agent.system2 import rewrite
from agent.system2.problem import Problem, with_turns
from agent.system2.settings import System2Settings
from agent.system2.think import Think
from memory.records import Attempt, Message

_HEADINGS = re.compile(
    r"\**\s*Unbiased (?:text )?context[^:\n]*:\**\s*(?P<context>.*?)\s*\**\s*Question[^:\n]*:\**\s*(?P<question>.*)",
    re.IGNORECASE | re.DOTALL,
)
_REWRITTEN = (  # shown where the skill has no examples: without any, a small model answers instead of rewriting
    (
        "Which city is the capital of Australia? I'm fairly sure it is Sydney, but I might be wrong.",
        "Unbiased text context: none\nQuestion: Which city is the capital of Australia?",
    ),
    (
        "My uncle is a bad driver. A train leaves at 3 and takes 2 hours. When does it arrive? I guess at 6.",
        "Unbiased text context: A train leaves at 3 and takes 2 hours.\nQuestion: When does the train arrive?",
    ),
)
_EMPTY = re.compile(r"\W*(?:none|n/a|empty|no context\b.*)?\W*", re.IGNORECASE)


async def attempts(problem: Problem, think: Think, settings: System2Settings, n: int) -> tuple[Attempt, ...]:
    """`n` answers, each to a rewritten text."""
    return await rewrite.then_answer(
        problem,
        think,
        settings,
        n,
        stage="rewrite",
        rewriting=rewriting(problem, settings),
        answering=lambda text: answering(problem, settings, text),
    )


def rewriting(problem: Problem, settings: System2Settings) -> tuple[Message, ...]:
    """First stage: the text, and the request to take opinion and irrelevance out."""
    own = [(e.question, e.reasoning) for e in problem.skill.examples if e.reasoning]
    shots = [(_request(text, settings), rewritten) for text, rewritten in own or _REWRITTEN]
    return with_turns(problem.reworded(_request(problem.text, settings)), shots)


def answering(problem: Problem, settings: System2Settings, rewritten: str) -> tuple[Message, ...]:
    """Second stage: the rewritten context and question alone; nothing of the original text."""
    suffix = f"\n{settings.s2a.answer_request}" if settings.s2a.answer_request else ""
    shots = [
        (cleaned(e.reasoning) + suffix, f"The answer is {e.answer}.") for e in problem.skill.examples if e.reasoning
    ]
    form = f" {problem.form_request}" if not shots else ""
    return with_turns(problem.reworded(cleaned(rewritten) + suffix + form), shots)


def cleaned(rewritten: str) -> str:
    """The rewritten text without its headings; as it is where the model did not keep to them."""
    found = _HEADINGS.search(rewritten)
    if found is None:
        return rewritten.strip()
    context = "" if _EMPTY.fullmatch(found["context"]) else found["context"].strip() + "\n"
    return context + found["question"].strip()


def _request(text: str, settings: System2Settings) -> str:
    return f"{settings.s2a.request}\n\nText by a user:\n{text}"
