"""The day: ask -> draft -> score -> route -+-> System 1 -----------------------> remember -> reply
+-> deliberate (System 2) -> agree -> remember -> reply

What answering needs is in agent/day.py, who answers in agent/routing.py, the engine's work in agent/steps.py.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Any

from agent.day import Day
from agent.grey import is_grey
from agent.in_force import InForce
from agent.routing import decide, fall_back, limit_of, surely_system2
from agent.steps import consulting, deliberating, drafting
from agent.system1 import scored
from agent.traces import answered as told_answer
from agent.traces import asked as told_ask
from memory.records import Ask, Completion, Deliberation, Draft, Episode, Grade, RouteDecision, System
from policies.skills import SkillSettings, direct_messages

log = logging.getLogger("secondnature.answer")


async def answer(day: Day, ask: Ask, skill: SkillSettings, *, kind: str = "ask") -> Episode:
    """Answer one request and remember it.

    Raises what the engine raises (Unavailable, TimedOut, BadInput) and TooMany when a queue is full; then nothing
    was answered and nothing is remembered.
    """
    with day.traces.span("invoke_agent secondnature", told_ask(ask, kind)) as span:
        episode = await _answered(day, ask, skill, kind)
        span.set(told_answer(episode))
        return episode


async def _answered(day: Day, ask: Ask, skill: SkillSettings, kind: str) -> Episode:
    started = day.clock()
    with day.pointer.hold() as force:
        drafted, decision, thought = await _decide(day, ask, skill, force, kind)
        reply = thought.text if thought and thought.verdict.grade is not Grade.NONE else None
        if reply is None and drafted.stopped:
            drafted = await _written_out(day, ask, skill, force, drafted)
            decision = decide(day, ask, skill, force, drafted)
    if reply is None:  # System 2 without a verdict falls back on the draft
        reply = drafted.completion.text
        decision = fall_back(decision, thought)
    episode = Episode(
        ask=ask,
        draft=drafted,
        decision=decision,
        deliberation=thought,
        reply=reply,
        adapter=force.adapter.name if force.adapter else None,
        adapter_digest=force.adapter.digest if force.adapter else None,
        tokens=_generated(drafted) + (thought.tokens if thought else 0),
        seconds=day.clock() - started,
        kind=kind,
    )
    return remember(day, episode, skill)


async def _decide(
    day: Day, ask: Ask, skill: SkillSettings, force: InForce, kind: str
) -> tuple[Draft, RouteDecision, Deliberation | None]:
    """Draft, route and, where System 2 is called for, deliberate."""
    if surely_system2(day, ask, skill, force):
        # The draft decides nothing here, but it is half of the pair that calibration and the gate learn from.
        drafting_meanwhile = asyncio.create_task(drafting(day, ask, skill, force))
        try:
            thought = await deliberating(day, ask, skill, kind)
            drafted = await drafting_meanwhile
        except BaseException:
            drafting_meanwhile.cancel()
            raise
        return drafted, decide(day, ask, skill, force, drafted), thought
    drafted = await drafting(day, ask, skill, force, whole=False)
    if is_grey(drafted, ask, limit_of(day, skill, force), day.config.system1):
        drafted = await consulting(day, ask, skill, force, drafted)
    decision = decide(day, ask, skill, force, drafted)
    if decision.system is System.SYSTEM2:
        return drafted, decision, await deliberating(day, ask, skill, kind)
    if drafted.stopped:  # System 2 has become unable to serve meanwhile
        drafted = await _written_out(day, ask, skill, force, drafted)
        decision = decide(day, ask, skill, force, drafted)
    return drafted, decision, None


async def _written_out(day: Day, ask: Ask, skill: SkillSettings, force: InForce, stopped: Draft) -> Draft:
    """The whole draft after all, where it turns out to be the answer."""
    drafted = await drafting(day, ask, skill, force)
    return replace(drafted, extra_tokens=drafted.extra_tokens + stopped.completion.completion_tokens)


def remember(day: Day, episode: Episode, skill: SkillSettings) -> Episode:
    """Write an answered request down (no disk is waited for), have it counted, and queue its audit if one was drawn."""
    with day.traces.span("remember", {"gen_ai.response.id": episode.ask.id}):
        day.memory.remember(episode)
    asyncio.get_running_loop().call_soon(_tell, day, episode)  # the reply goes out first
    if episode.decision.system is System.SYSTEM1:
        day.audits.accepted(episode.adapter)
    if episode.decision.audit:
        day.audits.offer(episode, skill)
    return episode


def _tell(day: Day, episode: Episode) -> None:
    day.metrics.answered(episode)
    log.info("%s", episode.decision.reason, extra=_logged(episode))


def direct_episode(day: Day, ask: Ask, skill: SkillSettings, force: InForce, said: Completion) -> Episode:
    """A request that System 1 answered without a choice, remembered."""
    drafted = scored(said, direct_messages(ask.messages, skill), skill, force)
    episode = Episode(
        ask=ask,
        draft=drafted,
        decision=decide(day, ask, skill, force, drafted),
        deliberation=None,
        reply=said.text,
        adapter=force.adapter.name if force.adapter else None,
        adapter_digest=force.adapter.digest if force.adapter else None,
        tokens=said.completion_tokens,
        seconds=said.seconds,
    )
    return remember(day, episode, skill)


def _generated(drafted: Draft) -> int:
    return drafted.completion.completion_tokens + drafted.extra_tokens


def _logged(episode: Episode) -> dict[str, Any]:
    """The fields of an answer's log line."""
    return {
        "episode": episode.ask.id,
        "skill": episode.ask.skill,
        "system": episode.decision.system.value,
        "adapter": episode.adapter,
        "tokens": episode.tokens,
        "seconds": round(episode.seconds, 4),
    }
