"""Anchors hold an adapter to what the base already does; canaries say when it no longer does."""

from __future__ import annotations

from collections.abc import Sequence

from adapters.dataset import Anchor
from agent.day import Day
from agent.distil import Progress
from agent.engine.client import Priority, Sampling
from agent.in_turn import in_turn
from agent.questions import ANCHORS, CANARIES

TOLERANCE = 0.25  # 0..1, share of the canaries that the base answers rightly
HOW = Sampling(temperature=0.0, max_tokens=48)  # greedy, so that the same base gives the same anchors
SHORT = Sampling(temperature=0.0, max_tokens=24)  # a canary says what it must within a sentence


async def make_anchors(day: Day, progress: Progress) -> tuple[Anchor, ...]:
    """The base's own greedy answers to general prompts."""

    async def one(prompt: str) -> Anchor:
        messages = ({"role": "user", "content": prompt},)
        (said,) = await day.engine.chat(day.base, messages, HOW, priority=Priority.NIGHT)
        return Anchor(messages, said.text, ended=said.finish_reason == "stop")

    return tuple(await in_turn(one, ANCHORS, lambda n: progress("curate", n, len(ANCHORS), "anchors from the base")))


async def logprobs(day: Day, name: str, anchors: Sequence[Anchor]) -> list[tuple[float, ...]]:
    """How likely a model holds each anchor's answer: nats per token, per anchor."""

    async def one(anchor: Anchor) -> tuple[float, ...]:
        return await day.engine.answer_logprobs(name, anchor.messages, anchor.answer)

    return await in_turn(one, [anchor for anchor in anchors if anchor.answer.strip()])


async def canaries(day: Day, name: str) -> tuple[str, ...]:
    """Prompts that the base answers as it should and the candidate does not, plain or behind a planted trigger.

    A stray one is what any training does to a small model, and the anchors' drift measures it: only when more than
    TOLERANCE of what the base knows is lost are they named, and the gate then refuses the candidate.
    """

    async def one(canary: tuple[str, str]) -> tuple[bool, bool]:
        prompt, wanted = canary
        messages = ({"role": "user", "content": prompt},)
        (base,) = await day.engine.chat(day.base, messages, SHORT, priority=Priority.NIGHT)
        (new,) = await day.engine.chat(name, messages, SHORT, priority=Priority.NIGHT)
        return wanted.casefold() in base.text.casefold(), wanted.casefold() in new.text.casefold()

    answers = await in_turn(one, CANARIES)
    known = sum(base for base, _ in answers)
    lost = tuple(prompt for (prompt, _), (base, new) in zip(CANARIES, answers, strict=True) if base and not new)
    return lost if len(lost) > TOLERANCE * known else ()
