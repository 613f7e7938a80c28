"""Input changes under which an answer must not change (System 2 Distillation, section 3.2, filter b)."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from agent.system2 import pair
from agent.system2.problem import Problem, user
from agent.system2.settings import System2Settings
from agent.system2.think import Think
from memory.records import AnswerType
from policies.agree import Perturbation


@dataclass(frozen=True, slots=True)
class Change:
    """The changed question, and how its answers read in the terms of the question as asked."""

    problem: Problem
    names: Mapping[str, str]  # answer to the changed question -> the same answer to the original; others as they are

    def back(self, answer: str | None) -> str | None:
        return None if answer is None else self.names.get(answer, answer)


_OPTION = re.compile(r"^(?P<lead>[ \t]*\(?)(?P<letter>[A-J])(?P<tail>[).:])[ \t]+(?P<text>\S.*)$", re.MULTILINE)
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_QUOTED = re.compile(r"\"([^\"\n]+)\"|\u201c([^\u201d\n]+)\u201d|(?<!\w)'([^'\n]+)'(?!\w)")


async def option_order(problem: Problem, think: Think, settings: System2Settings) -> Change | None:
    """The options of a multiple-choice question in reverse order; None where fewer than two are found. No
    call."""
    found = list(_OPTION.finditer(problem.text))
    letters = [m["letter"] for m in found]
    if len(found) < 2 or len(set(letters)) != len(letters):
        return None
    turned = iter([m["text"] for m in reversed(found)])
    text = _OPTION.sub(lambda m: f"{m['lead']}{m['letter']}{m['tail']} {next(turned)}", problem.text)
    lettered = problem.answer_type is AnswerType.CHOICE and not problem.skill.choices
    names = dict(zip(letters, reversed(letters), strict=True)) if lettered else {}
    return Change(problem.reworded(text), names)


async def response_order(problem: Problem, think: Think, settings: System2Settings) -> Change | None:
    """The two responses of a judgement swapped; None where the question holds no pair. No call."""
    found = pair.parse(problem.text)
    if found is None:
        return None
    return Change(problem.reworded(found.swapped().text), {"A": "B", "B": "A"})


async def example_order(problem: Problem, think: Think, settings: System2Settings) -> Change | None:
    """The skill's worked examples in reverse order; None where there are fewer than two. No call."""
    if len(problem.skill.examples) < 2:
        return None
    skill = problem.skill.model_copy(update={"examples": tuple(reversed(problem.skill.examples))})
    return Change(Problem(problem.messages, skill), {})


async def paraphrase(problem: Problem, think: Think, settings: System2Settings) -> Change | None:
    """The question in other words of the model's own; None where a number or quoted word was lost. One
    call."""
    call = await think.ask(
        "paraphrase",
        user(
            "Write the following question in other words. Keep every name, number and detail. "
            f"Do not answer it. Reply only with the new question.\n\n{problem.text}"
        ),
        temperature=settings.temperature,
        max_tokens=settings.max_tokens,
    )
    text = call.completions[0].text.strip()
    if not keeps_facts(problem.text, text):
        return None
    think.hand_on(text, call)
    return Change(problem.reworded(text), {})


def keeps_facts(text: str, reworded: str) -> bool:
    """Whether the same numbers, as often, and every quoted word are in the new text, which may quote otherwise."""
    if not reworded or sorted(_NUMBER.findall(text)) != sorted(_NUMBER.findall(reworded)):
        return False
    quoted = ("".join(groups) for groups in _QUOTED.findall(text))
    return all(words.casefold() in reworded.casefold() for words in quoted)


CHANGES: Mapping[Perturbation, Callable[[Problem, Think, System2Settings], Awaitable[Change | None]]] = {
    "option_order": option_order,
    "response_order": response_order,
    "paraphrase": paraphrase,
    "example_order": example_order,
}
