"""Records for the memory's tests: whole ones, deterministic by their number."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from memory.records import (
    Adapter,
    AdapterStatus,
    AnswerType,
    Ask,
    Attempt,
    Audit,
    Call,
    Completion,
    Deliberation,
    Draft,
    Episode,
    Grade,
    Lesson,
    Mode,
    RouteDecision,
    Signals,
    System,
    Verdict,
)


def completion(text: str) -> Completion:
    return Completion(text, "base", 40, 12, "stop", 0.25, (-0.125, -1.5), 0.75)


def deliberation(answer: str | None = "184", grade: Grade = Grade.TRAIN, samples: int = 4) -> Deliberation:
    texts = [f"Step by step, sample {n}: the total is {answer}." for n in range(samples)]
    question = ({"role": "user", "content": "Think step by step."},)
    calls = (
        Call(0, "reason", (), question, tuple(completion(t) for t in texts)),
        Call(1, "merge", (0,), question, (completion("agreed"),)),
    )
    attempts = tuple(Attempt(answer, t, 0, n, None if n else "reworded") for n, t in enumerate(texts))
    verdict = Verdict(answer, {answer or "": samples}, 1.0, grade, "all attempts agree")
    return Deliberation("cot", calls, attempts, verdict, texts[0], 12 * samples, 2.5)


def episode(number: int = 0, **changes: Any) -> Episode:
    """Changes go to the ask where it has such a field, else to the episode."""
    question = f"What is {number} + 81 + 77?"
    ask = Ask(
        id=f"ep-{number:08d}",
        messages=({"role": "system", "content": "You add."}, {"role": "user", "content": question}),
        skill="sums",
        answer_type=AnswerType.NUMBER,
        source="alice",
        mode=Mode.AUTO,
        asked_at=1_000_000.0 + number,
        prompt_key=f"{number:064x}",
        heldout=False,
        params={"temperature": 0.5, "stop": ["\n"]},
    )
    signals = Signals(-1.625, -0.8125, -1.5, -1.4, 0.75, 2, True, novelty=0.5)
    whole = Episode(
        ask=ask,
        draft=Draft(completion("184"), "184", signals, 0.4),
        decision=RouteDecision(System.SYSTEM2, "0.40 is below 0.80", 0.4, 0.8, 1.0),
        deliberation=deliberation(),
        reply="The total is 184.",
        adapter="sn-0001-aaaaaa",
        adapter_digest="a" * 64,
        tokens=60,
        seconds=2.75,
    )
    fields = {name: value for name, value in changes.items() if hasattr(ask, name)}
    rest = {name: value for name, value in changes.items() if not hasattr(ask, name)}
    return replace(whole, ask=replace(ask, **fields), **rest)


def accepted(number: int, **changes: Any) -> Episode:
    """System 1 answered alone."""
    decision = RouteDecision(System.SYSTEM1, "0.90 is at least 0.80", 0.9, 0.8, 0.05, audit=True)
    return episode(number, decision=decision, deliberation=None, **changes)


def audit(of: Episode, answer: str = "184", grade: Grade = Grade.TRAIN, at: float = 2_000_000.0) -> Audit:
    agrees = of.draft is not None and of.draft.answer == answer
    return Audit(of.ask.id, deliberation(answer, grade), agrees, at)


def lesson(of: Episode, answer: str = "184") -> Lesson:
    ask = of.ask
    return Lesson(
        ask.id, ask.skill, ask.source, ask.prompt_key, ask.messages, answer, ask.answer_type, "cot", 4, 4, 1.0, 3e6
    )


def adapter(number: int, status: AdapterStatus = AdapterStatus.CANDIDATE) -> Adapter:
    name = f"sn-{number:04d}-{number:06x}"
    return Adapter(
        name, f"{number:064x}", "base@1", status, 1e6 + number, 10, 60.0, "made", {"gate": {"promote": True}}
    )
