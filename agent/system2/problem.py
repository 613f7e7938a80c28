"""A question as System 2 sees it, and how an inner call becomes votes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from memory.records import AnswerType, Attempt, Call, Message
from policies import answers
from policies.skills import SkillSettings, last_user_text, with_text

_FORMS = {
    AnswerType.NUMBER: "The answer is <number>.",
    AnswerType.CHOICE: "The answer is <option>.",
    AnswerType.YES_NO: "The answer is <yes or no>.",
    AnswerType.SHORT_TEXT: "The answer is <answer>.",
    AnswerType.VERDICT: "[[A]] if A is better, [[B]] if B is better, [[C]] for a tie.",
}
_FREE_TEXT_REQUEST = 'Then write "Final answer:" and behind it the whole answer, as the user should read it.'


@dataclass(frozen=True, slots=True)
class Problem:
    """One question, with the skill that says what an answer to it looks like."""

    messages: tuple[Message, ...]  # as the caller sent them, or perturbed
    skill: SkillSettings

    @property
    def text(self) -> str:
        """The last user message: the question itself."""
        return last_user_text(self.messages)

    @property
    def answer_type(self) -> AnswerType:
        return self.skill.answer_type

    @property
    def form(self) -> str:
        """The last line an answer should end with, "" for free text."""
        return _FORMS.get(self.answer_type, "")

    @property
    def form_request(self) -> str:
        """A sentence that asks for that last line; of a free text, for the answer apart from the reasoning."""
        return f"End with the line: {self.form}" if self.form else _FREE_TEXT_REQUEST

    def reworded(self, text: str) -> Problem:
        """The same conversation with another text for the question."""
        return Problem(with_text(self.messages, text), self.skill)


def with_turns(problem: Problem, shots: Sequence[tuple[str, str]]) -> tuple[Message, ...]:
    """The conversation with earlier question and reply turns put before it, behind any system message.

    They are the same for every question of a skill, so that the engine's prefix cache holds them.
    """
    system = tuple(m for m in problem.messages if m.get("role") == "system")
    rest = tuple(m for m in problem.messages if m.get("role") != "system")
    turns: list[Message] = []
    for asked, replied in shots:
        turns += [{"role": "user", "content": asked}, {"role": "assistant", "content": replied}]
    return (*system, *turns, *rest)


def user(text: str) -> tuple[Message, ...]:
    """A prompt of one user message."""
    return ({"role": "user", "content": text},)


def attempts_of(problem: Problem, call: Call) -> tuple[Attempt, ...]:
    """One vote per sample. A sample cut off by its token limit votes only with an explicitly marked
    answer."""
    return tuple(
        Attempt(
            answers.extract(
                done.text,
                problem.answer_type,
                problem.skill.choices,
                marked_only=done.finish_reason == "length" and problem.answer_type is not AnswerType.FREE_TEXT,
            ),
            done.text,
            call.id,
            i,
        )
        for i, done in enumerate(call.completions)
    )


def one_by_one(problem: Problem, calls: Sequence[Call]) -> tuple[Attempt, ...]:
    """The votes of several calls, in order."""
    return tuple(attempt for call in calls for attempt in attempts_of(problem, call))
