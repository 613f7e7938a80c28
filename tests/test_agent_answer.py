"""The day's story: who answers, why, what is remembered, and what happens when something is missing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from agent.answer import answer
from agent.day import require_ready
from agent.engine.client import Priority, Sampling
from agent.in_force import InForce
from agent.routing import obstacle
from agent.steps import thinking
from agent.stream import streamed, streams_live
from day_fakes import SURE, ScriptedEngine, asked, day
from memory.errors import TooMany, Unavailable
from memory.records import Adapter, AdapterStatus, Completion, Message, Mode, System
from policies.confidence import FEATURES

ADAPTER = Adapter("sn-0001-aaaaaa", "d" * 64, "sha256:base", AdapterStatus.LIVE, 1.0, 10, 1.0, "test")


def script(model: str, text: str) -> str:
    """System 1 (asked for the number only) says 7, or 8 under an adapter; System 2 says 8."""
    if "Number only" in text:
        return "8" if model.startswith("sn-") else "7"
    return "3 + 5 = 8. The answer is 8."


def calibrated(probability_logit: float, threshold: float | None, adapter: Adapter | None = None) -> InForce:
    """A calibrator that says the same of every parsed answer."""
    zeros = (0.0,) * len(FEATURES)
    calibrator = replace(SURE, weights=zeros, means=zeros, bias=probability_logit)
    return InForce(adapter, calibrator, {} if threshold is None else {None: threshold})


async def test_without_calibration_system2_answers_and_the_pair_is_remembered(tmp_path: Path) -> None:
    one = day(tmp_path, ScriptedEngine(script))
    episode = await answer(one, *asked(one, "What is 3 + 5?"))
    assert (episode.reply, episode.decision.system, episode.decision.propensity) == ("8", System.SYSTEM2, 1.0)
    assert episode.draft is not None
    assert episode.draft.answer == "7"
    one.memory.flush()
    assert one.memory.episode(episode.ask.id) == episode
    assert [row.agrees for row in one.memory.outcomes()] == [False]
    one.memory.close()


async def test_a_sure_draft_is_the_answer_and_costs_one_call(tmp_path: Path) -> None:
    engine = ScriptedEngine(script)
    one = day(tmp_path, engine, force=calibrated(4.0, 0.9, ADAPTER))
    episode = await answer(one, *asked(one, "What is 3 + 5?"))
    assert (episode.reply, episode.decision.system, episode.adapter) == ("8", System.SYSTEM1, ADAPTER.name)
    assert engine.asked == [(ADAPTER.name, "What is 3 + 5?\nNumber only.")]
    assert "reaches the threshold" in episode.decision.reason
    one.memory.close()


async def test_an_unsure_draft_is_thought_through_on_the_base_alone(tmp_path: Path) -> None:
    engine = ScriptedEngine(script)
    one = day(tmp_path, engine, force=calibrated(-4.0, 0.9, ADAPTER))
    episode = await answer(one, *asked(one, "What is 3 + 5?"))
    assert episode.decision.system is System.SYSTEM2
    assert [model for model, _ in engine.asked] == [ADAPTER.name, "base"]
    one.memory.close()


async def test_a_draft_that_cannot_be_parsed_is_never_trusted(tmp_path: Path) -> None:
    one = day(tmp_path, ScriptedEngine(lambda model, text: "hm" if "only" in text else "The answer is 8."),
              force=calibrated(9.0, 0.5))  # fmt: skip
    episode = await answer(one, *asked(one, "What is 3 + 5?"))
    assert (episode.decision.system, episode.decision.confidence) == (System.SYSTEM2, 0.0)
    one.memory.close()


async def test_system2_without_an_answer_leaves_system1s(tmp_path: Path) -> None:
    one = day(tmp_path, ScriptedEngine(lambda model, text: "7" if "only" in text else "I cannot say."))
    episode = await answer(one, *asked(one, "What is 3 + 5?"))
    assert (episode.reply, episode.decision.system) == ("7", System.SYSTEM1)
    assert "System 2 found no answer" in episode.decision.reason
    one.memory.close()


async def test_a_deliberate_skill_is_thought_through_however_sure_the_draft(tmp_path: Path) -> None:
    force = replace(calibrated(9.0, 0.1), deliberate=frozenset({"sums"}))
    one = day(tmp_path, ScriptedEngine(script), force=force)
    episode = await answer(one, *asked(one, "What is 3 + 5?"))
    assert episode.decision.system is System.SYSTEM2
    assert "deliberate" in episode.decision.reason
    one.memory.close()


async def test_an_audit_checks_a_direct_answer_in_the_background(tmp_path: Path) -> None:
    one = day(tmp_path, ScriptedEngine(script), force=calibrated(4.0, 0.9, ADAPTER), chance=0.0)
    one.audits.start(lambda ask, skill: thinking(one, ask, skill, Priority.AUDIT))
    episode = await answer(one, *asked(one, "What is 3 + 5?"))
    assert (episode.decision.audit, episode.decision.propensity) == (True, 0.2)
    await one.audits.idle()
    one.memory.flush()
    (audit,) = one.memory.audits(episode.ask.id)
    assert audit.agrees
    assert [row.agrees for row in one.memory.outcomes()] == [True]
    await one.audits.stop()
    one.memory.close()


async def test_audits_that_never_end_hold_no_answer_back_and_take_no_place_of_a_users(tmp_path: Path) -> None:
    class StuckAudits(ScriptedEngine):
        async def chat(
            self, model: str, messages: Sequence[Message], sampling: Sampling, *, priority: int = 0
        ) -> tuple[Completion, ...]:
            if priority == Priority.AUDIT:
                stuck.set()
                await asyncio.Event().wait()
            return await super().chat(model, messages, sampling, priority=priority)

    stuck = asyncio.Event()
    one = day(
        tmp_path, StuckAudits(script), force=calibrated(4.0, 0.9, ADAPTER), chance=0.0,
        admission={"system1_active": 1, "system1_waiting": 0, "system2_active": 1, "system2_waiting": 0,
                   "audit_active": 1, "audit_waiting": 3},
    )  # fmt: skip
    one.audits.start(lambda ask, skill: thinking(one, ask, skill, Priority.AUDIT))
    first = await answer(one, *asked(one, "What is 3 + 5?"))
    await stuck.wait()
    later = [await answer(one, *asked(one, "What is 3 + 5?", number=n)) for n in range(2, 9)]
    thought = await answer(one, *asked(one, "What is 3 + 5?", Mode.SYSTEM2, number=9))
    assert (first.decision.audit, thought.decision.system) == (True, System.SYSTEM2)
    assert {episode.decision.system for episode in later} == {System.SYSTEM1}
    audited = [episode for episode in later if episode.decision.audit]
    assert (len(audited), one.audits.waiting) == (3, 3), "one is held by the engine, three wait, the rest is let be"
    assert {episode.decision.propensity for episode in later if not episode.decision.audit} == {0.0}, "and is logged so"
    await one.audits.stop()
    one.memory.close()


async def test_a_full_queue_turns_away_at_once_and_remembers_nothing(tmp_path: Path) -> None:
    engine = ScriptedEngine(script)
    engine.gate.clear()
    one = day(tmp_path, engine, admission={"system1_active": 1, "system1_waiting": 0})
    first = asyncio.create_task(answer(one, *asked(one, "What is 3 + 5?", Mode.SYSTEM1)))
    while not engine.asked:
        await asyncio.sleep(0)
    with pytest.raises(TooMany) as caught:
        await answer(one, *asked(one, "What is 4 + 4?", Mode.SYSTEM1, 2))
    assert caught.value.retry_after_s
    engine.gate.set()
    await first
    one.memory.flush()
    assert one.memory.counts()["episodes"] == 1
    one.memory.close()


async def test_a_swap_lets_the_requests_in_flight_end_under_the_old_adapter(tmp_path: Path) -> None:
    engine = ScriptedEngine(script)
    engine.gate.clear()
    one = day(tmp_path, engine, force=calibrated(4.0, 0.9, ADAPTER))
    old = asyncio.create_task(answer(one, *asked(one, "What is 3 + 5?", Mode.SYSTEM1)))
    while not engine.asked:
        await asyncio.sleep(0)
    newer = replace(ADAPTER, name="sn-0002-bbbbbb")
    one.pointer.flip(calibrated(4.0, 0.9, newer))
    drained = asyncio.create_task(one.pointer.drained(ADAPTER.name))
    new = asyncio.create_task(answer(one, *asked(one, "What is 4 + 4?", Mode.SYSTEM1, 2)))
    await asyncio.sleep(0)
    assert not drained.done()
    engine.gate.set()
    assert ((await old).adapter, (await new).adapter) == (ADAPTER.name, newer.name)
    await asyncio.wait_for(drained, 5)
    one.memory.close()


async def test_what_only_the_engine_can_serve_is_named(tmp_path: Path) -> None:
    one = day(tmp_path, ScriptedEngine(script))
    cases = {"tools": [{}], "n": 3, "response_format": {"type": "json_object"}, "logprobs": True}
    said = [obstacle(one, asked(one, "What is 3 + 5?", **{key: value})[0]) for key, value in cases.items()]
    assert said == ["it uses tools", "it asks for several choices", "it asks for structured output",
                    "it asks for token log-probabilities"]  # fmt: skip
    assert obstacle(one, asked(one, "What is 3 + 5?", response_format={"type": "text"})[0]) is None
    mixed = replace(one, mixing_fault=lambda: "the engine mixes")
    episode = await answer(mixed, *asked(mixed, "What is 3 + 5?", Mode.SYSTEM2))
    assert (episode.decision.system, "the engine mixes" in episode.decision.reason) == (System.SYSTEM1, True)
    one.memory.close()


async def test_system1_streams_as_it_is_made_where_the_route_is_known(tmp_path: Path) -> None:
    one = day(tmp_path, ScriptedEngine(lambda model, text: "one two three"))
    ask, skill = asked(one, "Tell me something.")
    assert streams_live(one, ask, skill)
    *pieces, episode = [piece async for piece in streamed(one, ask, skill)]
    assert pieces == ["one ", "two ", "three"]
    assert episode.reply == "one two three"
    assert not streams_live(one, *asked(one, "What is 3 + 5?"))
    one.memory.close()


def test_an_engine_that_restarts_is_said_before_anything_is_queued(tmp_path: Path) -> None:
    one = replace(day(tmp_path, ScriptedEngine(script)), not_ready=lambda: "The engine is restarting.")
    with pytest.raises(Unavailable, match="restarting") as caught:
        require_ready(one)
    assert caught.value.retry_after_s
    one.memory.close()
