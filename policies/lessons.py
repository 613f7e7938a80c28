"""One lesson: the question as System 1 is asked it, and the words in which the agreed answer is said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from memory.records import AnswerType, Deliberation, Episode, Lesson
from policies.answers import find, normalise
from policies.skills import SkillSettings, direct_messages


def lesson_of(episode: Episode, thought: Deliberation, skill: SkillSettings, weight: float) -> Lesson:
    """The lesson that `thought` teaches about the episode's question, as `skill` has System 1 asked it."""
    ask, verdict = episode.ask, thought.verdict
    return Lesson(
        episode_id=ask.id,
        skill=ask.skill,
        source=ask.source,
        prompt_key=ask.prompt_key,
        messages=direct_messages(ask.messages, skill),
        answer=answer_text(thought, ask.answer_type, skill.choices),
        answer_type=ask.answer_type,
        method=thought.method,
        votes=verdict.votes.get(verdict.answer or "", 0),
        attempts=len(thought.attempts),
        share=verdict.share,
        learned_at=ask.asked_at,
        weight=weight,
    )


def answer_text(deliberation: Deliberation, answer_type: AnswerType, choices: Sequence[str] = ()) -> str:
    """The target: the agreed answer as most of the agreeing attempts wrote it, "" if there is none.

    Numbers keep the teacher's commas and decimals and lose signs of currency; options, yes/no and verdicts
    are said in their normalised form; free text is the deliberation's own.
    """
    answer = deliberation.verdict.answer
    if answer is None:
        return ""
    if answer_type is AnswerType.FREE_TEXT:
        return deliberation.text.strip() or answer
    if answer_type not in (AnswerType.NUMBER, AnswerType.SHORT_TEXT):
        return answer
    written = (find(a.text, answer_type, choices) for a in deliberation.attempts if a.answer == answer)
    forms = Counter(form.strip(" $£€%") for form in written if form is not None)
    right = {form: n for form, n in forms.items() if normalise(form, answer_type, choices) == answer}
    return min(right, key=lambda form: (-right[form], len(form), form)) if right else answer


def feedback_weight(
    scores: Iterable[float], corrections: Iterable[str], answer: str | None, answer_type: AnswerType
) -> float:
    """A lesson's weight, 0..1, after feedback: the lowest score, 0 if a correction says something else.

    Nothing raises it: praise is not agreement, and one person must not teach everybody by voting.
    """
    said = (normalise(text, answer_type) for text in corrections)
    if any(other is not None and other != answer for other in said):
        return 0.0
    return min([1.0, *(min(max(score, 0.0), 1.0) for score in scores)])
