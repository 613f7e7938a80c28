"""The day: ask -> draft -> score -> route -+-> System 1 -----------------------> remember -> reply
+-> deliberate (System 2) -> agree -> remember -> reply
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from agent.admission import Room
from agent.audits import Audits
from agent.config import Config
from agent.engine.client import Engine, Priority
from agent.engine.wire import RETRY_AFTER_S
from agent.grey import consulted, is_grey
from agent.in_force import InForce, Pointer
from agent.metrics import Metrics
from agent.system1 import draft, scored
from agent.system2.deliberate import deliberate
from agent.system2.problem import Problem
from agent.system2.think import Think
from agent.traces import OFF, Traces
from agent.traces import answered as told_answer
from agent.traces import asked as told_ask
from agent.traces import drafted as told_draft
from agent.traces import thought as told_thought
from memory.errors import Unavailable
from memory.records import Ask, Completion, Deliberation, Draft, Episode, Grade, Mode, RouteDecision, System
from memory.store import Memory
from policies.matching import Matcher
from policies.route import route
from policies.skills import UNKNOWN, SkillSettings, direct_messages

log = logging.getLogger("secondnature.answer")


@dataclass
class Alike:
    """What earlier questions of each skill look like; None: not learnt, or not wanted (agent/likeness.py)."""

    now: Matcher | None = None


@dataclass(frozen=True)
class Day:
    """What answering needs, built once by the daemon. Time and chance are arguments."""

    config: Config
    engine: Engine
    memory: Memory
    pointer: Pointer
    metrics: Metrics
    audits: Audits
    system1_room: Room
    system2_room: Room
    base: str  # the engine's name for the frozen base model
    chance: Callable[[], float]  # uniform in [0, 1)
    clock: Callable[[], float] = time.perf_counter  # seconds
    not_ready: Callable[[], str | None] = lambda: None  # why the engine cannot be asked now
    mixing_fault: Callable[[], str | None] = lambda: None  # why the base cannot be trusted (agent/engine/check.py)
    traces: Traces = OFF
    alike: Alike = field(default_factory=Alike)


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
    if reply is None:
        assert drafted is not None  # System 2 without a verdict falls back on the draft
        reply = drafted.completion.text
        decision = _fall_back(decision, thought)
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


def require_ready(day: Day) -> None:
    """Raises Unavailable while the engine starts or restarts, before anything is drafted or queued."""
    if why := day.not_ready():
        raise Unavailable(f"{why} Ask again soon.", retry_after_s=RETRY_AFTER_S)


def remember(day: Day, episode: Episode, skill: SkillSettings) -> Episode:
    """Write an answered request down (no disk is waited for), count it, and queue its audit if one was drawn."""
    with day.traces.span("remember", {"gen_ai.response.id": episode.ask.id}):
        day.memory.remember(episode)
    day.metrics.answered(episode)
    log.info("%s", episode.decision.reason, extra=_logged(episode))
    if episode.decision.system is System.SYSTEM1:
        day.audits.accepted(episode.adapter)
    if episode.decision.audit:
        day.audits.offer(episode, skill)
    return episode


def _generated(drafted: Draft | None) -> int:
    return drafted.completion.completion_tokens + drafted.extra_tokens if drafted else 0


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


async def _decide(
    day: Day, ask: Ask, skill: SkillSettings, force: InForce, kind: str
) -> tuple[Draft, RouteDecision, Deliberation | None]:
    """Draft, route and, where System 2 is called for, deliberate."""
    if _surely_system2(day, ask, skill, force):
        # The draft decides nothing here, but it is half of the pair that calibration and the gate learn from.
        drafting_meanwhile = asyncio.create_task(drafting(day, ask, skill, force))
        try:
            thought = await deliberating(day, ask, skill, kind)
            drafted = await drafting_meanwhile
        except BaseException:
            drafting_meanwhile.cancel()
            raise
        return drafted, decide(day, ask, skill, force, drafted), thought
    drafted = await drafting(day, ask, skill, force)
    limit = force.threshold(skill.name)
    if is_grey(drafted, ask, day.config.route.threshold if limit is None else limit, day.config.system1):
        drafted = await consulting(day, ask, skill, force, drafted)
    decision = decide(day, ask, skill, force, drafted)
    if decision.system is System.SYSTEM1:
        return drafted, decision, None
    return drafted, decision, await deliberating(day, ask, skill, kind)


async def drafting(day: Day, ask: Ask, skill: SkillSettings, force: InForce) -> Draft:
    """System 1, within its own bounded room."""
    async with day.system1_room.enter():
        with day.traces.span("draft", {}) as span:
            said = await draft(ask, skill, force, day.engine, day.base, day.config.system1, priority=Priority.SYSTEM1)
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
    """System 2, within its own bounded room; practice stands behind people in the engine's queue."""
    async with day.system2_room.enter():
        return await thinking(day, ask, skill, Priority.AUDIT if kind == "practice" else Priority.SYSTEM2)


async def thinking(day: Day, ask: Ask, skill: SkillSettings, priority: Priority) -> Deliberation:
    """System 2 on the frozen base: never on an adapter, which would make it its own teacher."""
    settings = day.config.system2.for_skill(skill)
    think = Think(
        day.engine,
        day.base,
        budget_tokens=min(settings.budget_tokens, day.config.limits.system2_tokens),
        budget_s=settings.budget_s,
        priority=priority,
    )
    with day.traces.span("deliberate", {"gen_ai.response.id": ask.id, "secondnature.skill": skill.name}) as span:
        done = await deliberate(Problem(ask.messages, skill), think, day.config.system2)
        span.set(told_thought(done))
        return done


def decide(day: Day, ask: Ask, skill: SkillSettings, force: InForce, drafted: Draft) -> RouteDecision:
    """The route and its propensity, from what is in force."""
    threshold = force.threshold(skill.name)
    why_not = obstacle(day, ask)
    return route(
        ask.mode,
        drafted.confidence if drafted.answer is not None else 0.0,  # what cannot be parsed cannot be trusted
        threshold,
        day.config.route,
        audit_probability=day.audits.probability(drafted.confidence, threshold, force),
        chance=day.chance(),
        system2_can=why_not is None,
        why_not=why_not or "",
        deliberate=skill.name in force.deliberate,
        red_listed=not skill.train and skill.name != UNKNOWN,
        distrusted=skill.name != UNKNOWN and not force.trusts(skill.name),
        skilled=skill.name != UNKNOWN,
    )


def obstacle(day: Day, ask: Ask) -> str | None:
    """Why System 2 cannot serve this request, as the end of a sentence; None if it can."""
    return unusual(ask) or day.mixing_fault()


def unusual(ask: Ask) -> str | None:
    """What in a request only the engine itself can serve, as the end of a sentence; None if nothing."""
    params = ask.params
    shape = params.get("response_format")
    if params.get("tools") or params.get("functions"):
        return "it uses tools"
    if (params.get("n") or 1) != 1:
        return "it asks for several choices"
    if (isinstance(shape, Mapping) and shape.get("type") != "text") or params.get("structured_outputs"):
        return "it asks for structured output"
    if params.get("logprobs"):
        return "it asks for token log-probabilities"
    if any(not isinstance(message.get("content"), str) for message in ask.messages):
        return "its messages are not all plain text"
    return None


def _surely_system2(day: Day, ask: Ask, skill: SkillSettings, force: InForce) -> bool:
    """True where no draft could be trusted, so System 2 need not wait for it."""
    if ask.mode is Mode.SYSTEM1 or obstacle(day, ask) is not None:
        return False
    if ask.mode is Mode.SYSTEM2 or not skill.train or skill.name in force.deliberate or not force.trusts(skill.name):
        return ask.mode is Mode.SYSTEM2 or skill.name != UNKNOWN
    no_limit = force.threshold(skill.name) is None and day.config.route.threshold is None
    unsure = force.calibrator is None or no_limit
    return unsure and day.config.route.unknown == "system2" and skill.name != UNKNOWN


def _fall_back(decision: RouteDecision, thought: Deliberation | None) -> RouteDecision:
    if thought is None:
        return decision
    reason = f"System 2 found no answer ({thought.verdict.reason}), so System 1's stands"
    return replace(decision, system=System.SYSTEM1, reason=reason)
