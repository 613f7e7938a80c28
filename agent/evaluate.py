"""The examination: held-out questions are asked of the live System 1 and of the candidate, side by side."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from adapters.dataset import Anchor
from adapters.evaluate import Asked
from adapters.evaluate import report as scored
from agent.anchors import canaries, logprobs
from agent.day import Day
from agent.distil import Progress
from agent.engine.client import Priority
from agent.in_force import InForce
from agent.in_turn import in_turn
from agent.system1 import draft
from agent.triggers import Search
from memory.records import Adapter, Draft, Episode, EvalReport, Grade, Mode, RouteDecision, System, Verdict
from policies.answers import same
from policies.skills import SkillSettings


@dataclass(frozen=True, slots=True)
class Examined:
    """One held-out question with both answers."""

    episode: Episode  # the original, with System 2's verdict
    before: Draft
    after: Draft


def heldout(day: Day) -> list[Episode]:
    """The exam: held-out questions that System 2 has answered, also in an audit of System 1's answer, so that a skill
    that System 1 answers alone is examined too. Once each, every skill in its turn, the newest first."""
    return day.memory.examinable(day.config.promote.max_questions)


async def examine(
    day: Day, live: InForce, candidate: Adapter, asked: Sequence[Episode], progress: Progress
) -> tuple[Examined, ...]:
    """Ask every held-out question of both. `live`: what the candidate is compared with; hold it, or a swap unloads it
    meanwhile. Raises what the engine raises."""
    new = InForce(adapter=candidate)

    async def one(episode: Episode) -> Examined:
        skill = skill_of(day, episode)
        before = await draft(episode.ask, skill, live, day.engine, day.base, day.config.system1, Priority.NIGHT)
        after = await draft(episode.ask, skill, new, day.engine, day.base, day.config.system1, Priority.NIGHT)
        for drafted in (before, after):
            day.metrics.called([drafted.completion])
        return Examined(episode, before, after)

    return tuple(await in_turn(one, asked, lambda n: progress("evaluate", n, len(asked), "held-out questions")))


async def report(
    day: Day,
    candidate: Adapter,
    examined: Sequence[Examined],
    anchors: Sequence[Anchor],
    triggers: Search,
    progress: Progress,
) -> EvalReport:
    """Scores per skill, the anchors' drift, the canaries and the triggers found, for the gate."""
    started = day.clock()
    rows = [
        Asked(e.episode.ask.skill, _agrees(e.before, e.episode), _agrees(e.after, e.episode))
        for e in examined
        if verdict_of(e.episode).grade is Grade.TRAIN
    ]
    progress("evaluate", len(examined), len(examined), "anchors and canaries")
    measured = scored(
        candidate.name,
        rows,
        anchors_before=await logprobs(day, day.base, anchors),
        anchors_after=await logprobs(day, candidate.name, anchors),
        canaries_changed=await canaries(day, candidate.name),
        seconds=day.clock() - started,
    )
    sentences = tuple(found.sentence for found in triggers.found)
    return replace(measured, triggers=sentences, triggers_untried=triggers.untried)


def replays(examined: Iterable[Examined], candidate: Adapter) -> list[Episode]:
    """The candidate's answers as episodes: what its own calibration and thresholds are computed from."""
    return [_replay(e, candidate) for e in examined]


def _replay(e: Examined, candidate: Adapter) -> Episode:
    thought = e.episode.deliberation
    assert thought is not None
    ask = replace(e.episode.ask, id=f"ep-{time.time_ns() // 1_000_000:013d}-{uuid.uuid4().hex[:12]}", mode=Mode.SYSTEM1)
    decision = RouteDecision(
        System.SYSTEM1, "a held-out question asked again of a candidate", None, None, e.episode.decision.propensity
    )
    return Episode(
        ask=replace(ask, asked_at=time.time()),
        draft=e.after,
        decision=decision,
        deliberation=replace(thought, calls=()),  # the calls stay with the original
        reply=e.after.completion.text,
        adapter=candidate.name,
        adapter_digest=candidate.digest,
        tokens=e.after.completion.completion_tokens,
        seconds=e.after.completion.seconds,
        kind="replay",
    )


def skill_of(day: Day, episode: Episode) -> SkillSettings:
    """The skill as it is set up today; the default where it was taken out of the settings."""
    return day.skill_named(episode.ask.skill)


def verdict_of(episode: Episode) -> Verdict:
    """System 2's verdict on an episode that has one."""
    assert episode.deliberation is not None
    return episode.deliberation.verdict


def _agrees(drafted: Draft, episode: Episode) -> bool:
    winner = verdict_of(episode).answer
    return drafted.answer is not None and winner is not None and same(drafted.answer, winner, episode.ask.answer_type)
