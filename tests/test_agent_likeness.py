"""Recognition by likeness: learnt from what was named or matched, used only where it is wanted."""

from __future__ import annotations

import asyncio
from pathlib import Path

from agent.likeness import keep_alike, learnt
from day_fakes import SUMS, ScriptedEngine, day
from memory_fakes import accepted
from policies.skills import recognise

NAMED = {**SUMS, "name": "minutes", "pattern": None}


def quiet(model: str, text: str) -> str:
    return "8"


def question(text: str) -> tuple[dict[str, str], ...]:
    return ({"role": "user", "content": text},)


async def test_a_question_is_recognised_by_its_likeness_where_that_is_wanted(tmp_path: Path) -> None:
    one = day(tmp_path, ScriptedEngine(quiet), skills=[SUMS, NAMED], route={"alike": True})
    for n in range(20):
        text = f"How many minutes are {n + 2} hours and {n + 5} minutes?"
        one.memory.remember(accepted(n, skill="minutes", messages=question(text)))
    one.memory.flush()
    kept = asyncio.create_task(keep_alike(one))
    while one.alike.now is None:
        await asyncio.sleep(0.01)
    kept.cancel()
    asked = question("How many minutes are 31 hours and 44 minutes?")
    assert recognise(asked, None, one.config.skills, learned=one.alike.now).name == "minutes"
    other = question("Who wrote the play about the Danish prince?")
    assert recognise(other, None, one.config.skills, learned=one.alike.now).name == "unknown"
    one.memory.close()


async def test_as_delivered_nothing_is_learnt(tmp_path: Path) -> None:
    one = day(tmp_path, ScriptedEngine(quiet))
    await keep_alike(one)  # returns at once
    assert one.alike.now is None
    one.memory.close()


def test_a_likeness_never_rests_on_another(tmp_path: Path) -> None:
    one = day(tmp_path, ScriptedEngine(quiet))
    for n in range(20):  # of the skill, yet its pattern does not match them: an earlier likeness said so
        one.memory.remember(accepted(n, skill="sums", messages=question(f"Sum up chapter {n} of the book")))
    one.memory.flush()
    assert learnt(one.memory, one.config.skills).match("Sum up chapter 3 of the book") is None
    one.memory.close()
