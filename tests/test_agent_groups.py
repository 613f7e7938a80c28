"""Questions form a skill by themselves: it has an id, keeps it, and is seen wherever skills are."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from agent.answer import answer
from agent.cli.commands import app as commands
from agent.day import Day
from agent.engine.client import Priority
from agent.evaluate import examine, heldout, report
from agent.groups import groups, grown, keep_groups, kept, look
from agent.http.chat import make_ask, parse
from agent.http.guard import LOCAL
from agent.known import known
from agent.skills import table
from agent.steps import thinking
from agent.triggers import Search
from agent.tuning import apply_threshold
from day_fakes import ScriptedEngine, day
from memory.errors import NotFound
from memory.records import AnswerType, Episode, Mode, System
from memory.store import Memory
from memory_fakes import adapter, episode
from policies.curate import curate
from policies.curation import CurateSettings

SMALL = {"least": 12, "least_shown": 8}
EVERY = {"floor": 1.0, "band": 1.0, "new_adapter": 1.0}


def script(model: str, text: str) -> str:
    """Minutes are counted; the rest is talk."""
    digits = [int(word) for word in text.split() if word.isdigit()]
    if "minutes" in text and digits:
        said = str(60 * digits[0])
        return said if "only" in text else f"That makes {said}." if "Think" not in text else f"The answer is {said}."
    return "Well, that depends on what you like."


async def ask(one: Day, text: str, mode: Mode = Mode.AUTO) -> Episode:
    """As a request without a skill's name comes in."""
    body = {"model": "secondnature", "messages": [{"role": "user", "content": text}], "mode": mode.value}
    made, skill = make_ask(parse(orjson.dumps(body)), one, LOCAL)
    told = await answer(one, made, skill)
    await one.audits.idle()
    return told


def minutes(n: int) -> str:
    return f"How many minutes are {n} hours of work?"


async def asked_often(one: Day, n: int = 20, start: int = 2) -> None:
    for number in range(start, start + n):
        await ask(one, minutes(number))
    one.memory.flush()


def opened(tmp_path: Path, mode: str = "observe", chance: float = 0.999) -> Day:
    made = day(tmp_path, ScriptedEngine(script), groups={**SMALL, "mode": mode}, chance=chance, audit=EVERY)
    made.audits.start(lambda ask, skill: thinking(made, ask, skill, Priority.AUDIT))
    return made


async def close(one: Day) -> None:
    await one.audits.stop()
    one.memory.close()


async def test_questions_of_a_kind_become_a_skill_that_outcomes_and_the_table_know(tmp_path: Path) -> None:
    one = opened(tmp_path, chance=0.0)  # every answer of System 1 is audited
    await asked_often(one)
    await look(one)
    (skill,) = one.alike.grown
    assert (skill.name[:5], skill.answer_type, skill.observe) == ("like-", AnswerType.NUMBER, True)
    founder = one.memory.episode(kept(one.memory)[0].founder)
    assert founder.ask.prompt_key[:8] not in skill.name, "the name outlives its question and tells nothing of it"
    told = await ask(one, minutes(77))
    assert told.ask.skill == skill.name
    assert (told.reply, told.decision.system) == ("That makes 4620.", System.SYSTEM1)  # answered as before
    assert (await ask(one, "What shall I cook tonight?")).ask.skill == "unknown"
    one.memory.flush()
    (outcome,) = one.memory.outcomes(skill=skill.name)
    assert outcome.agrees is True
    assert [row["n"] for row in table(one.memory) if row["skill"] == skill.name] == [1]
    with pytest.raises(NotFound):  # it decides nothing, so it has no threshold
        apply_threshold(one, skill.name, 0.5, "ann", "a trial")
    await close(one)


async def test_where_it_may_learn_its_questions_are_thought_through_and_become_lessons(tmp_path: Path) -> None:
    one = opened(tmp_path, "learn")
    await asked_often(one)
    await look(one)
    (skill,) = one.alike.grown
    assert (skill.train, skill.observe, skill.direct) == (True, False, "Answer with the number only.")
    for number in range(100, 130):
        told = await ask(one, minutes(number))
        assert (told.ask.skill, told.decision.system) == (skill.name, System.SYSTEM2)
    one.memory.flush()
    taught = one.memory.taught(heldout=None)
    curation = curate(taught, CurateSettings(single_user=True), known(one, taught))
    assert {lesson.skill for lesson in curation.kept} == {skill.name}
    exam = [kept_out for kept_out in heldout(one) if kept_out.ask.skill == skill.name]
    assert exam
    candidate = adapter(1)
    examined = await examine(one, one.pointer.now, candidate, exam, lambda *told: None)
    measured = await report(one, candidate, examined, (), Search(), lambda *told: None)
    assert [(score.skill, score.after) for score in measured.scores] == [(skill.name, 1.0)]
    await close(one)


async def test_a_skill_keeps_its_id_as_it_grows_across_a_restart_and_without_its_founder(tmp_path: Path) -> None:
    one = opened(tmp_path)
    await asked_often(one)
    await look(one)
    (first,) = kept(one.memory)
    await asked_often(one, 30, start=50)
    await look(one)
    assert kept(one.memory) == [first]
    await close(one)
    again = opened(tmp_path)
    await look(again)
    told = await ask(again, minutes(99))
    assert told.ask.skill == first.id
    again.memory.flush()
    again.memory.forget(episode_id=first.founder)
    await look(again)
    (later,) = kept(again.memory)
    assert (later.id, later.since) == (first.id, first.since)
    assert later.founder != first.founder
    assert (await ask(again, minutes(98))).ask.skill == first.id
    await close(again)


async def test_a_group_of_which_nothing_is_left_is_gone(tmp_path: Path) -> None:
    one = opened(tmp_path)
    await asked_often(one)
    await look(one)
    for asked in one.memory.episodes(limit=1000):
        one.memory.forget(episode_id=asked.ask.id)
    await look(one)
    assert (kept(one.memory), one.alike.grown) == ([], ())
    assert (await ask(one, minutes(98))).ask.skill == "unknown"
    await close(one)


async def test_off_means_that_nothing_is_grouped(tmp_path: Path) -> None:
    one = opened(tmp_path, "off")
    await asked_often(one)
    await keep_groups(one)  # ends at once
    assert one.memory.groups() == []
    await close(one)


async def test_groups_are_listed_with_their_members_old_and_new(tmp_path: Path) -> None:
    one = opened(tmp_path)
    await asked_often(one, 10)
    (loose,) = groups(one.memory, one.config.groups)
    assert (loose["n"], loose["since"]) == (10, None)
    await asked_often(one, 10, start=30)
    await look(one)
    await asked_often(one, 5, start=60)
    (formed,) = groups(one.memory, one.config.groups)
    assert (formed["id"], formed["n"]) == (loose["id"], 25)
    assert formed["since"] is not None
    said = CliRunner().invoke(commands, ["skills", "groups", "--state-dir", str(tmp_path)])
    assert f"{formed['id']}: 25 questions, a skill since" in said.stdout.replace("\n", " ")
    await close(one)


def test_no_more_groups_than_wanted_become_skills(tmp_path: Path) -> None:
    chance = random.Random(1)
    with Memory.open(tmp_path) as memory:
        one = day(tmp_path / "other", ScriptedEngine(script), groups={"least": 3, "most": 1})
        one.memory.close()
        for number in range(24):
            text = minutes(number) if chance.random() < 0.5 else f"Which colour has thing number {number} in the shop?"
            made = episode(number, skill="unknown")
            memory.remember(replace(made, ask=replace(made.ask, messages=({"role": "user", "content": text},))))
        memory.flush()
        assert len(grown(memory, one.config.groups)) == 1
        assert len(kept(memory)) == 1
