"""System 1 token by token, where it is known beforehand that System 1 answers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from agent.answer import direct_episode
from agent.day import Day
from agent.engine.client import Delta, Priority
from agent.routing import surely_system1
from agent.system1 import joined, sampling
from agent.traces import answered, asked
from memory.records import Ask, Episode
from policies.skills import SkillSettings, direct_messages

Piece = str | Episode
"""A piece of text; the last piece is the episode."""


def streams_live(day: Day, ask: Ask, skill: SkillSettings) -> bool:
    """Whether the route is System 1 whatever the draft's confidence. Ask and stream without a wait between."""
    return surely_system1(day, ask, skill, day.pointer.now)


async def streamed(
    day: Day, ask: Ask, skill: SkillSettings, heard: Callable[[int], None] = lambda tokens: None
) -> AsyncGenerator[Piece, None]:
    """Pieces of System 1's answer as they are made, then the remembered episode.

    `heard` is told how many tokens were generated so far. Closing this generator (the caller went away) closes the
    request to the engine, which stops generating.
    """
    started = day.clock()
    traced = day.traces.span("invoke_agent secondnature", asked(ask, "ask"), current=False)
    with traced as span, day.pointer.hold() as force:
        async with day.system1_room.enter():
            name = force.adapter.name if force.adapter else day.base
            messages = direct_messages(ask.messages, skill)
            deltas: list[Delta] = []
            tokens = 0
            drawn = sampling(ask.params, skill, day.config.system1)
            with span.around():
                source = day.engine.stream(name, messages, drawn, priority=Priority.SYSTEM1)
            async with aclosing(source) as flow:
                async for delta in flow:
                    deltas.append(delta)
                    tokens += len(delta.logprobs) or bool(delta.text)
                    heard(tokens)
                    if delta.text:
                        yield delta.text
        with span.around():
            episode = direct_episode(day, ask, skill, force, joined(deltas, name, day.clock() - started))
        heard(episode.tokens)
        span.set(answered(episode))
    yield episode
