"""The reasoning behind a deliberation's answer, for a caller who asks to see it."""

from __future__ import annotations

from memory.records import Attempt, Call, Deliberation


def reasoning(deliberation: Deliberation) -> str:
    """The winner's path: every call it was made from, stage by stage, then the vote. Plain text.

    Of an earlier call with several samples the first is shown; the winner's own sample is shown for the last.
    """
    winner = winning_attempt(deliberation)
    if winner is None:
        return deliberation.verdict.reason
    path = ancestors(deliberation, winner.call)
    parts = [_stage(call, 0) for call in path if call.id != winner.call]
    parts.append(winner.text.strip())
    return "\n\n".join([*parts, deliberation.verdict.reason])


def winning_attempt(deliberation: Deliberation) -> Attempt | None:
    """The first attempt that voted for the verdict's answer; the last of all where nobody won; None without
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


def _stage(call: Call, sample: int) -> str:
    return f"{call.stage}: {call.completions[sample].text.strip()}"
