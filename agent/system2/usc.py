"""Universal self-consistency (Chen et al. 2023, 2311.17311): the model finds the consensus of free texts.

select: 1 call that names the most consistent response, as in the paper (8 samples are its best, 16 are worse;
questions of no skill draw at most 4 here, since 8 would double the wait for up to 512 tokens each). compose: 1 call
that writes an answer consistent with the majority behind "FINAL:", as System 2 Distillation does for open
answers (figure 12). Where the responses would overflow, half of them are shown, then a quarter, at least two.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from agent.system2.problem import Problem, user
from agent.system2.settings import System2Settings
from agent.system2.think import Think
from memory.records import Attempt
from policies import answers

_NAMED = re.compile(r"\bresponse\s*#?\s*(\d+)", re.IGNORECASE)


async def select(problem: Problem, think: Think, settings: System2Settings, attempts: Sequence[Attempt]) -> str | None:
    """The answer of the response that the model names; None where it names none, or has no choice."""
    spoken = _fitting(attempts, settings)
    if len(spoken) < 2:
        return None
    text = (
        f"{_shown(problem, spoken)}\n\nCompare these responses. Which one agrees best with most of the others? "
        "Reply with its number only: Response <number>"
    )
    call = await think.ask("select", user(text), max_tokens=16, parents=_parents(spoken))
    reply = call.completions[0].text
    named = _NAMED.search(reply) or re.search(r"(\d+)", reply)
    index = int(named[1]) - 1 if named else -1
    return spoken[index].answer if 0 <= index < len(spoken) else None


async def compose(problem: Problem, think: Think, settings: System2Settings, attempts: Sequence[Attempt]) -> str | None:
    """An answer that the model writes from all responses; None where it writes nothing, or there are not two."""
    spoken = _fitting(attempts, settings)
    if len(spoken) < 2:
        return None
    text = (
        f"{_shown(problem, spoken)}\n\nRead all responses. Write the answer that most of them agree on, "
        'behind the word "FINAL:".'
    )
    call = await think.ask("compose", user(text), max_tokens=settings.max_tokens, parents=_parents(spoken))
    composed = re.sub(r"^\W*response\s*#?\s*\d+\s*:\s*", "", call.completions[0].text, flags=re.IGNORECASE)
    return answers.extract(composed, problem.answer_type, problem.skill.choices)


def _fitting(attempts: Sequence[Attempt], settings: System2Settings) -> list[Attempt]:
    """The attempts that gave an answer, halved until their texts fit."""
    spoken = [a for a in attempts if a.answer is not None]
    while len(spoken) > 2 and sum(len(a.text) for a in spoken) > settings.usc_chars:
        spoken = spoken[: (len(spoken) + 1) // 2]
    return spoken


def _shown(problem: Problem, attempts: Sequence[Attempt]) -> str:
    listed = "\n\n".join(f"Response {i + 1}: {a.text.strip()}" for i, a in enumerate(attempts))
    return f"Question: {problem.text}\n\n{listed}"


def _parents(attempts: Sequence[Attempt]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(a.call for a in attempts))
