"""System 1 token by token, where it is known beforehand that System 1 answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from agent.answer import Day, direct_episode, obstacle
from agent.engine.client import Delta, Priority
from agent.system1 import sampling
from agent.traces import answered, asked
from memory.records import Ask, Completion, Episode, Mode
from policies.skills import UNKNOWN, SkillSettings, direct_messages

Piece = str | Episode
"""A piece of text; the last piece is the episode."""


def streams_live(day: Day, ask: Ask, skill: SkillSettings) -> bool:
    """Whether the route is System 1 whatever the draft's confidence."""
    if ask.mode is Mode.SYSTEM1 or obstacle(day, ask) is not None:
        return True
    return ask.mode is Mode.AUTO and skill.name == UNKNOWN and day.config.route.unskilled == "system1"


async def streamed(day: Day, ask: Ask, skill: SkillSettings) -> AsyncIterator[Piece]:
    """Pieces of System 1's answer as they are made, then the remembered episode.

    Closing this generator (the caller went away) closes the request to the engine, which stops generating.
    """
    started = day.clock()
    traced = day.traces.span("invoke_agent secondnature", asked(ask, "ask"), current=False)
    with traced as span, day.pointer.hold() as force:
        async with day.system1_room.enter():
            name = force.adapter.name if force.adapter else day.base
            messages = direct_messages(ask.messages, skill)
            deltas: list[Delta] = []
            drawn = sampling(ask.params, skill, day.config.system1)
            with span.around():
                source = day.engine.stream(name, messages, drawn, priority=Priority.SYSTEM1)
            async with aclosing(source) as flow:
                async for delta in flow:
                    deltas.append(delta)
                    if delta.text:
                        yield delta.text
        with span.around():
            episode = direct_episode(day, ask, skill, force, joined(deltas, name, day.clock() - started))
        span.set(answered(episode))
    yield episode


def joined(deltas: list[Delta], model: str, seconds: float) -> Completion:
    """The completion that a stream amounted to."""
    counts = [d for d in deltas if d.completion_tokens is not None]
    return Completion(
        text="".join(d.text for d in deltas),
        model=model,
        prompt_tokens=counts[-1].prompt_tokens or 0 if counts else 0,
        completion_tokens=counts[-1].completion_tokens or 0 if counts else len(deltas),
        finish_reason=next((d.finish_reason for d in reversed(deltas) if d.finish_reason), None),
        seconds=seconds,
        logprobs=tuple(value for d in deltas for value in d.logprobs),
        first_margin=next((d.first_margin for d in deltas if d.first_margin is not None), None),
    )
