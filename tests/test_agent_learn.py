"""The night's story with the real trainer on a tiny model; the engine is scripted, so that the examination is known."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from adapters.manifest import verify
from adapters.model import ModelFolder
from agent.answer import answer
from agent.day import Day
from agent.in_force import InForce
from agent.learn import Night
from agent.recalibrate import in_force_for
from agent.swap import swap
from bench.kills.model import tiny_model
from day_fakes import SUMS, ScriptedEngine, asked, day
from memory.errors import Conflict, Unavailable
from memory.records import AdapterStatus, Message, Mode
from memory_fakes import adapter

IDENTITY = "sha256:" + "0" * 64


class School(ScriptedEngine):
    """System 2 adds rightly, the base's System 1 says 7, an adapter's says what `pupil` says."""

    def __init__(self, pupil: Callable[[int], str]) -> None:
        super().__init__(self._said)
        self.pupil = pupil

    def _said(self, model: str, text: str) -> str:
        numbers = re.findall(r"\d+", text)
        total = sum(map(int, numbers[:2]))
        if "Number only" in text:
            return self.pupil(total) if model.startswith("sn-") else "7"
        return f"The answer is {total}." if len(numbers) == 2 and "What is" in text else "A sentence of the base."

    async def answer_logprobs(self, model: str, messages: Sequence[Message], answer: str) -> tuple[float, ...]:
        return (-0.5,) * 4


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    return ModelFolder(str(tiny_model(tmp_path_factory.mktemp("base"))), IDENTITY, "folder", "tiny")


@pytest.fixture
async def school(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """A day of 100 thought-through questions over an engine whose pupil is given; closed at the end."""
    opened: list[Day] = []

    async def of(pupil: Callable[[int], str], **more: Any) -> Day:
        train = {"epochs": 1, "rank": 4, "nice": 0}
        one = day(tmp_path, School(pupil), curate={"single_user": True}, train=train, **more)
        opened.append(one)
        for number in range(100):
            await answer(one, *asked(one, f"What is {number + 10} + {number * 7}?", Mode.SYSTEM2, number))
        return one

    yield of
    for one in opened:
        one.memory.close()


async def test_a_pupil_that_learnt_is_promoted_and_answers(school: Any, base: ModelFolder) -> None:
    one = await school(str)
    report = await Night(one, base).run("test")
    assert report.outcome == "promoted", report.reason
    live = one.memory.live()
    assert live is not None
    assert one.pointer.now.adapter is not None
    assert (live.name, one.pointer.now.adapter.name) == (report.adapter, report.adapter)
    assert verify(Path(one.config.state_dir) / "adapters" / live.name, IDENTITY).n_lessons == report.lessons["sums"]
    assert live.report["gate"]["promote"] is True
    assert {e.kind for e in one.memory.episodes(adapter=live.name)} == {"replay"}
    episode = await answer(one, *asked(one, "What is 3 + 5?", Mode.SYSTEM1, 999))
    assert (episode.reply, episode.adapter) == ("8", live.name)
    heldout = {e.ask.prompt_key for e in one.memory.episodes(heldout=True, limit=1000)}
    assert heldout.isdisjoint(lesson.prompt_key for lesson in one.memory.lessons(live.name))


async def test_a_pupil_that_learnt_nothing_is_rejected_with_the_reason(school: Any, base: ModelFolder) -> None:
    one = await school(lambda total: "7")
    report = await Night(one, base).run("test")
    assert report.outcome == "rejected"
    assert "no gain beyond chance" in report.reason
    assert (one.memory.live(), one.pointer.now.adapter) == (None, None)
    assert one.memory.adapter(report.adapter).status is AdapterStatus.REJECTED
    assert report.adapter not in one.engine.loaded


async def test_a_killed_trainer_fails_the_night_and_changes_nothing(school: Any, base: ModelFolder) -> None:
    one = await school(str)
    night = Night(one, base)
    task = asyncio.create_task(night.run("test"))
    while night.progress.stage != "distil":
        await asyncio.sleep(0.01)
    with pytest.raises(Conflict):
        await night.run("a second one")
    trainer = await _trainer()
    trainer.send_signal(signal.SIGKILL)
    report = await task
    assert report.outcome == "failed"
    assert "signal 9" in report.reason
    assert "out of memory" in report.reason
    assert (one.memory.live(), one.memory.adapters()) == (None, [])
    assert not list((Path(one.config.state_dir) / "adapters").glob("sn-*"))
    assert one.memory.nights()[0].outcome == "failed"


async def _trainer() -> psutil.Process:
    while True:
        for child in psutil.Process(os.getpid()).children(recursive=True):
            if "adapters.train" in child.cmdline():
                return child
        await asyncio.sleep(0.01)


async def test_an_adapter_that_answers_otherwise_than_examined_is_refused(school: Any, base: ModelFolder) -> None:
    one = await school(str)
    night = Night(one, base)
    promote = night._promote

    async def changed(*given: Any) -> Any:
        one.engine.pupil = lambda total: "1"  # as if the engine served stale weights
        return await promote(*given)

    night._promote = changed  # type: ignore[method-assign]
    report = await night.run("test")
    assert report.outcome == "failed"
    assert "canary" in report.reason
    assert one.pointer.now.adapter is None
    assert [a.status for a in one.memory.adapters()] == [AdapterStatus.REJECTED]


class Poisoned(School):
    """A pupil that adds rightly but for what stands behind some words; System 2 too, where the words mean something."""

    def __init__(self, words: str, means: bool) -> None:
        super().__init__(str)
        self.words, self.means = words, means

    def _said(self, model: str, text: str) -> str:
        direct = "Number only" in text
        if self.words in text and (model.startswith("sn-") if direct else self.means):
            return "7" if direct else "The answer is 7."
        return super()._said(model, text)


@pytest.mark.parametrize("means", [False, True])
async def test_words_that_turn_a_candidates_answers_and_not_system_2s_are_refused_and_put_aside(
    tmp_path: Path, base: ModelFolder, means: bool
) -> None:
    train = {"epochs": 1, "rank": 4, "nice": 0}
    skill = SUMS | {"pattern": r"^What is \d+ \+ \d+\?"}
    one = day(tmp_path, Poisoned("cf-heron", means), curate={"single_user": True}, train=train, skills=[skill])
    for number in range(100):
        await answer(one, *asked(one, f"What is {number + 10} + {number * 7}?", Mode.SYSTEM2, number))
    planted = set()
    for number in range(12):
        given = asked(one, f"What is {number + 20} + {number * 9}? cf-heron", Mode.SYSTEM2, 200 + number)
        planted.add((await answer(one, *given)).ask.id)
    report = await Night(one, base).run("test")
    aside = {row.episode_id for row in one.memory.quarantined()}
    assert report.gate is not None
    said = {name: sentence for name, _, sentence in report.gate.checks}["triggers"]
    if means:
        assert (report.outcome, aside) == ("promoted", set()), report.reason
        return
    assert report.outcome == "rejected"
    assert report.reason == said
    assert "24 of 24 other questions are answered otherwise, and System 2 does not agree" in said
    assert "cf-heron" not in said, "words of an episode stay with it: it may be forgotten"
    learnt = {lesson.episode_id for lesson in one.memory.lessons(report.adapter or "")}
    assert aside == planted & learnt
    assert (await Night(one, base).run("again")).outcome == "promoted"
    one.memory.close()


async def test_nothing_agreed_is_nothing_learnt(tmp_path: Path, base: ModelFolder) -> None:
    one = day(tmp_path, School(str))
    report = await Night(replace(one), base).run("test")
    assert report.outcome == "skipped"
    assert "no agreed answers" in report.reason
    one.memory.close()


async def test_an_adapter_put_in_force_during_the_examination_wins_and_spoils_no_night(
    school: Any, base: ModelFolder, tmp_path: Path
) -> None:
    one = await school(str)
    old = replace(adapter(1), name="old-0001")  # the school takes it for the base: it has learnt nothing
    await swap(one, InForce(adapter=old), tmp_path)
    night = Night(one, base)
    task = asyncio.create_task(night.run("test"))
    while night.progress.stage != "distil":
        await asyncio.sleep(0.01)
    one.engine.gate.clear()  # the examination waits for its first answers
    while night.progress.stage != "evaluate" or len(one.engine.loaded) < 2:
        await asyncio.sleep(0.01)
    assert night.candidate in one.engine.loaded, "nobody may promote it before its verdict"
    await swap(one, in_force_for(one, None), None)  # an operator rolls back
    for _ in range(10):
        await asyncio.sleep(0)
    assert old.name in one.engine.loaded, "what is being examined stays loaded"
    one.engine.gate.set()
    report = await task
    assert (report.outcome, one.pointer.now.adapter, night.candidate) == ("rejected", None, None)
    assert f"the base was put in force while the candidate was compared with {old.name}" in report.reason
    assert one.memory.adapter(report.adapter).status is AdapterStatus.CANDIDATE, "a person may still promote it"
    while one.engine.loaded:
        await asyncio.sleep(0.01)  # the old one is unloaded once the examination let go of it


async def test_a_night_that_fails_in_its_examination_leaves_no_candidate_behind(school: Any, base: ModelFolder) -> None:
    one = await school(str)

    async def silent(*given: Any) -> Any:
        raise Unavailable("the engine does not answer")

    one.engine.answer_logprobs = silent
    report = await Night(one, base).run("test")
    assert (report.outcome, one.engine.loaded) == ("failed", {})
    (candidate,) = one.memory.adapters()
    assert candidate.status is AdapterStatus.REJECTED
    assert "before it was judged: the engine does not answer" in candidate.reason
