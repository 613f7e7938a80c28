"""Deciding early: a draft is stopped where no end of it could be trusted, and nothing that is learnt from suffers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.answer import answer
from agent.day import Day
from agent.engine.client import Delta, Sampling
from agent.in_force import InForce
from agent.stream import streamed, streams_live
from day_fakes import ScriptedEngine, asked, day
from memory.records import Adapter, AdapterStatus, Completion, Draft, Episode, Message, Mode, System
from policies.calibration import Calibrator, usable
from policies.confidence import FEATURES
from policies.replay import replay
from policies.thinning import audit_log

ADAPTER = Adapter("sn-0001-aaaaaa", "d" * 64, "sha256:base", AdapterStatus.LIVE, 1.0, 10, 1.0, "test")
LIMIT = 0.85
CALIBRATOR = Calibrator(
    method="platt", n=211, bias=8.73, platt=(1.016, -0.039), means=(0.0,) * len(FEATURES),
    weights=(1.573, 3.173, 2.506, 2.096, -0.202, -2.227, *(0.0,) * 8),
)  # fmt: skip
FORCE = InForce(ADAPTER, CALIBRATOR, {None: LIMIT})
LEARNT, HELD_OUT = "What is 9 + 4?", "What is 3 + 5?"  # by the hash of the prompt


class Spoken(ScriptedEngine):
    """System 1 says the same tokens, with the same log-probs, however it is asked; System 2 says `thought`."""

    def __init__(self, nats: Sequence[float], thought: str = "The answer is 8.") -> None:
        super().__init__(lambda model, text: thought)
        self.nats = tuple(nats)
        self.drawn = 0  # tokens of drafts that were generated
        self.wanted: list[Sampling] = []

    async def chat(
        self, model: str, messages: Sequence[Message], sampling: Sampling, *, priority: int = 0
    ) -> tuple[Completion, ...]:
        if sampling.logprobs is None:
            return await super().chat(model, messages, sampling, priority=priority)
        self.drawn += len(self.nats)
        text = "8" * len(self.nats)
        return (Completion(text, model, 10, len(self.nats), "stop", 0.01, self.nats, 0.2),)

    async def stream(
        self, model: str, messages: Sequence[Message], sampling: Sampling, *, priority: int = 0
    ) -> AsyncGenerator[Delta, None]:
        self.wanted.append(sampling)
        yield Delta("", prompt_tokens=10, completion_tokens=0)
        for n, nat in enumerate(self.nats, 1):
            self.drawn += 1
            margin = 0.2 if n == 1 else None
            yield Delta("8", (nat,), margin, prompt_tokens=10, completion_tokens=n)
        yield Delta("", finish_reason="stop", prompt_tokens=10, completion_tokens=len(self.nats))


def a_day(tmp_path: Path, engine: Any, *, stop: bool = True, force: InForce = FORCE, **more: Any) -> Day:
    return day(tmp_path, engine, force=force, system1={"stop_early": stop}, **more)


def draft_of(episode: Episode) -> Draft:
    assert episode.draft is not None
    return episode.draft


@pytest.mark.parametrize("nats", [[-1.5, -0.9, -0.2, -0.1], [-0.01, -0.02], [-0.05, -2.5, -0.01], [-0.3, -0.3, -0.3]])
async def test_the_decision_is_that_of_the_whole_draft_for_fewer_tokens(tmp_path: Path, nats: list[float]) -> None:
    whole, early = Spoken(nats), Spoken(nats)
    one, two = a_day(tmp_path / "one", whole, stop=False), a_day(tmp_path / "two", early)
    slow, fast = await answer(one, *asked(one, LEARNT)), await answer(two, *asked(two, LEARNT))
    assert fast.decision.system is slow.decision.system
    assert fast.reply == slow.reply
    if fast.decision.system is System.SYSTEM2:
        assert early.drawn < whole.drawn
        assert draft_of(fast).stopped
        assert draft_of(slow).confidence <= draft_of(fast).confidence < LIMIT  # type: ignore[operator]
        assert fast.tokens == slow.tokens - (whole.drawn - early.drawn)
    else:
        assert (early.drawn, draft_of(fast)) == (
            whole.drawn,
            replace(draft_of(slow), completion=draft_of(fast).completion),
        )
    one.memory.close()
    two.memory.close()


async def test_a_stopped_draft_says_so_and_teaches_no_calibration(tmp_path: Path) -> None:
    one = a_day(tmp_path, Spoken([-1.5, -0.9, -0.2]))
    episode = await answer(one, *asked(one, LEARNT))
    said = draft_of(episode).completion
    assert (said.finish_reason, said.completion_tokens, said.prompt_tokens, said.text) == ("stopped", 1, 10, "8")
    assert episode.decision.propensity == 0.0
    assert "stopped after 1 token" in episode.decision.reason
    one.memory.flush()
    assert one.memory.episode(episode.ask.id) == episode
    (row,) = one.memory.outcomes()
    assert (row.agrees, row.propensity, row.s1_tokens, row.s2_tokens) == (None, 0.0, 1, episode.deliberation.tokens)  # type: ignore[union-attr]
    assert usable([row], 100) == []
    assert len(audit_log([row]).confidence) == 0
    one.memory.close()


async def test_what_if_counts_it_as_escalated_down_to_its_bound_and_as_unsupported_below(tmp_path: Path) -> None:
    one = a_day(tmp_path, Spoken([-1.2, -0.9, -0.2]))
    bound = draft_of(await answer(one, *asked(one, LEARNT))).confidence
    assert bound is not None
    assert 0.02 < bound < LIMIT
    one.memory.flush()
    below, above = replay(one.memory.outcome_columns(), [bound - 0.01, bound + 0.01]).points
    assert (above.escalated, above.accepted) == (1.0, 0)
    assert (below.escalated, below.out_of_support is None) == (0.0, False)
    assert np.isclose(CALIBRATOR.predict(one.memory.outcomes()[0].signals, "sums") or 0.0, bound)
    one.memory.close()


async def test_what_calibrates_is_never_stopped(tmp_path: Path) -> None:
    nats = [-1.5, -0.9, -0.2]
    a = a_day(tmp_path / "a", Spoken(nats))
    assert asked(a, HELD_OUT)[0].heldout
    b = a_day(tmp_path / "b", Spoken(nats), force=replace(FORCE, adapter=None))
    for one, text in ((a, HELD_OUT), (b, LEARNT)):
        episode = await answer(one, *asked(one, text))
        assert (draft_of(episode).stopped, episode.decision.system) == (False, System.SYSTEM2)
        assert episode.decision.propensity == 1.0
        one.memory.flush()
        assert len(usable(one.memory.outcomes(), 100)) == 1
        one.memory.close()


async def test_the_draft_is_written_out_where_system2_finds_nothing(tmp_path: Path) -> None:
    engine = Spoken([-1.5, -0.9, -0.2], thought="I cannot say.")
    one = a_day(tmp_path, engine)
    episode = await answer(one, *asked(one, LEARNT))
    assert (episode.decision.system, episode.reply) == (System.SYSTEM1, "888")
    assert (draft_of(episode).stopped, draft_of(episode).extra_tokens, engine.drawn) == (False, 1, 4)
    assert "System 2 found no answer" in episode.decision.reason
    one.memory.close()


async def test_a_draft_that_need_not_be_trusted_is_not_stopped(tmp_path: Path) -> None:
    one = a_day(tmp_path, Spoken([-1.5, -0.9, -0.2]))
    forced = await answer(one, *asked(one, LEARNT, Mode.SYSTEM1))
    mixed = await answer(replace(one, mixing_fault=lambda: "the engine mixes"), *asked(one, LEARNT, number=2))
    assert [draft_of(e).stopped for e in (forced, mixed)] == [False, False]
    assert mixed.reply == "888"
    one.memory.close()


async def test_tokens_that_the_caller_forbids_may_be_less_likely_than_any(tmp_path: Path) -> None:
    engine = Spoken([-0.01])
    one = a_day(tmp_path, engine)
    await answer(one, *asked(one, LEARNT, logit_bias={"5": -100}))
    assert engine.wanted[0].extra["logit_bias"] == {"5": -100}
    assert engine.wanted[0].extra["stream_options"]["continuous_usage_stats"] is True
    one.memory.close()


async def test_system1_streams_too_where_no_threshold_is_set_and_it_is_to_answer_then(tmp_path: Path) -> None:
    one = a_day(tmp_path, Spoken([-0.01, -0.02]), force=InForce(ADAPTER), route={"unknown": "system1"})
    ask, skill = asked(one, LEARNT)
    assert streams_live(one, ask, skill)
    *pieces, episode = [piece async for piece in streamed(one, ask, skill)]
    assert isinstance(episode, Episode)
    assert (pieces, episode.decision.system) == (["8", "8"], System.SYSTEM1)
    assert not streams_live(one, *asked(one, LEARNT, Mode.SYSTEM2))
    one.memory.close()
    two = a_day(tmp_path / "two", Spoken([-0.01]), route={"unknown": "system1"})
    assert not streams_live(two, *asked(two, LEARNT))  # a threshold decides
    two.memory.close()
