"""The steps of an answer that the engine works at, each within its bounded room and seen by the traces."""

from __future__ import annotations

from agent.day import Day
from agent.engine.client import Priority
from agent.grey import consulted
from agent.in_force import InForce
from agent.routing import may_stop
from agent.system1 import draft, draft_or_stop
from agent.system2.deliberate import deliberate
from agent.system2.problem import Problem
from agent.system2.think import Think
from agent.traces import drafted as told_draft
from agent.traces import thought as told_thought
from memory.records import Ask, Deliberation, Draft, Message
from policies.skills import SkillSettings


async def drafting(day: Day, ask: Ask, skill: SkillSettings, force: InForce, *, whole: bool = True) -> Draft:
    """System 1, within its own bounded room. Not `whole`: it may be stopped where it can no longer be trusted."""
    enough = None if whole else may_stop(day, ask, skill, force)
    given = (ask, skill, force, day.engine, day.base, day.config.system1)
    async with day.system1_room.enter():
        with day.traces.span("draft", {}) as span:
            if enough is None:
                said = await draft(*given, priority=Priority.SYSTEM1)
            else:
                said = await draft_or_stop(*given, enough, priority=Priority.SYSTEM1)
            span.set(told_draft(said))
            return said


async def consulting(day: Day, ask: Ask, skill: SkillSettings, force: InForce, drafted: Draft) -> Draft:
    """More signals for a draft near the threshold, within System 1's room."""
    async with day.system1_room.enter():
        with day.traces.span("consult", {}) as span:
            more = await consulted(drafted, ask, skill, force, day.engine, day.base, day.config.system1)
            span.set(told_draft(more))
            return more


async def deliberating(day: Day, ask: Ask, skill: SkillSettings, kind: str = "ask") -> Deliberation:
    """System 2, within its own bounded room; practice stands behind people in the engine's queue, and gives a question
    up once it can be no lesson: nobody waits for its answer."""
    practice = kind == "practice"
    if practice and skill.train:
        skill = skill.model_copy(update={"agreement": skill.agreement.model_copy(update={"cancel": True})})
    async with day.system2_room.enter(awaited=not practice):
        return await thinking(day, ask, skill, Priority.AUDIT if practice else Priority.SYSTEM2)


async def thinking(day: Day, ask: Ask, skill: SkillSettings, priority: Priority) -> Deliberation:
    """System 2, seen by the traces as part of an answer."""
    with day.traces.span("deliberate", {"gen_ai.response.id": ask.id, "secondnature.skill": skill.name}) as span:
        done = await pondering(day, ask.messages, skill, priority)
        span.set(told_thought(done))
        return done


async def pondering(day: Day, messages: tuple[Message, ...], skill: SkillSettings, priority: Priority) -> Deliberation:
    """System 2 on the frozen base: never on an adapter, which would make it its own teacher."""
    settings = day.config.system2.for_skill(skill)
    think = Think(
        day.engine,
        day.base,
        budget_tokens=min(settings.budget_tokens, day.config.limits.system2_tokens),
        budget_s=settings.budget_s,
        priority=priority,
    )
    return await deliberate(Problem(messages, skill), think, day.config.system2)
