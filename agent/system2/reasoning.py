"""The reasoning behind a deliberation's answer, for a caller who asks to see it."""

from __future__ import annotations

from collections.abc import Sequence

from memory.records import Attempt, Call, Deliberation
from policies.answers import token_f1
from policies.skills import message_text


def reasoning(deliberation: Deliberation) -> str:
    """The winner's path: every call it was made from, stage by stage, then the vote. Plain text.

    Of a call with several samples those are shown that the next call on the path was given.
    """
    end = _end(deliberation)
    if end is None:
        return deliberation.verdict.reason
    path = ancestors(deliberation, end[0])
    parts = [f"{call.stage}: {_handed_on(call, path)}" for call in path if call.id != end[0]]
    return "\n\n".join([*parts, end[1].strip(), deliberation.verdict.reason])


def winning_attempt(deliberation: Deliberation) -> Attempt | None:
    """The first attempt that voted for the verdict's answer; the last of all where nobody did; None without
    any."""
    answer = deliberation.verdict.answer
    for attempt in deliberation.attempts:
        if answer is not None and attempt.answer == answer:
            return attempt
    return deliberation.attempts[-1] if deliberation.attempts else None


def ancestors(deliberation: Deliberation, call_id: int) -> tuple[Call, ...]:
    """The call and all it was made from, in the order they ended."""
    wanted, todo = {call_id}, [call_id]
    while todo:
        for parent in deliberation.calls[todo.pop()].parents:
            if parent not in wanted:
                wanted.add(parent)
                todo.append(parent)
    return tuple(call for call in deliberation.calls if call.id in wanted)


def _end(deliberation: Deliberation) -> tuple[int, str] | None:
    """The call that the answer was written in, and its text; None without any attempt."""
    winner, answer = winning_attempt(deliberation), deliberation.verdict.answer
    if winner is None:
        return None
    last = deliberation.calls[-1]
    if answer is not None and winner.answer != answer and last.stage == "compose":  # in words of its own
        return last.id, last.completions[0].text
    return winner.call, winner.text


def _handed_on(call: Call, path: Sequence[Call]) -> str:
    """The samples that stand in the prompts made from them; the likest one where a method changed the words."""
    prompts = [message_text(m) for child in path if call.id in child.parents for m in child.messages]
    texts = list(dict.fromkeys(done.text.strip() for done in call.completions))
    found = [text for text in texts if text and any(text in prompt for prompt in prompts)]
    whole = [text for text in found if not any(text != other and text in other for other in found)]
    likest = max(texts, key=lambda text: max((token_f1(text, prompt) for prompt in prompts), default=0.0))
    return "\n\n".join(whole or [likest])
