"""The bench of the grey zone's signals: figures that are known beforehand, asked once, and put into the page."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from agent.recalibrate import outcomes_of
from bench.extras import ask_again, compare, file_of, kept_in, near, section
from bench.logged import rows_of
from day_fakes import ScriptedEngine, settings
from memory.records import Outcome
from memory.store import Memory
from memory_fakes import adapter
from test_agent_grey import Opinionated
from tuning_fakes import remember_past


@pytest.fixture
def rows(tmp_path: Path) -> list[Outcome]:
    with Memory.open(tmp_path / "state") as memory:
        remember_past(memory, asks=400)
        return outcomes_of(memory, None)


def paid(rows: list[Outcome], telling: bool, base: bool = False) -> dict[str, dict[str, float | None]]:
    """Samples that know whether System 2 agrees, most of the time; or that know nothing."""
    chance = random.Random(1)
    found: dict[str, dict[str, float | None]] = {}
    for row in rows:
        knows = telling and chance.random() < 0.8
        says = float(bool(row.agrees)) if knows else float(chance.randrange(3)) / 2
        found[row.episode_id] = {"agreement": says, "base_logprob": -says if base else None, "extra_tokens": 4}
    return found


def test_samples_that_know_raise_the_auroc_and_samples_that_do_not_do_not(rows: list[Outcome]) -> None:
    free, better = compare(rows, paid(rows, telling=True))
    assert (free.name, free.gain, better.name) == ("free signals", None, "and the samples' agreement")
    assert better.low is not None
    assert better.gain is not None
    assert 0.0 < better.low < better.gain
    _, nothing = compare(rows, paid(rows, telling=False))
    assert nothing.gain is not None
    assert nothing.gain < 0.02 < better.gain


def test_the_base_is_asked_for_its_opinion_on_an_adapter_alone(rows: list[Outcome]) -> None:
    assert len(compare(rows, paid(rows, telling=True))) == 2
    assert [one.name for one in compare(rows, paid(rows, telling=True, base=True))][2:] == [
        "and the base's log-prob",
        "and both",
    ]


def test_the_page_has_a_table_and_one_for_the_grey_zone(rows: list[Outcome]) -> None:
    kept = paid(rows, telling=True)
    told = "\n".join(section(rows, kept, 0.9))
    assert "| and the samples' agreement | 400 |" in told
    assert "mean 4.0 tokens beside the draft's" in told
    inside = near(rows, kept, 0.9)
    assert f"The {len(inside)} of them within 0.1 of the threshold of 0.900" in told
    assert "threshold" not in "\n".join(section(rows, kept, None))


async def test_each_answer_is_asked_again_once_and_kept(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with Memory.open(state) as memory:
        remember_past(memory, asks=12)
        wanted = rows_of(memory, None)
        episodes = [memory.episode(row.episode_id) for row in wanted]
    path = file_of(state, None)
    assert kept_in(path) == {}
    engine = ScriptedEngine(lambda model, text: "184")
    await ask_again(episodes, None, settings(), engine, path)  # type: ignore[arg-type]
    kept = kept_in(path)
    assert set(kept) == {row.episode_id for row in wanted}
    told = next(one for one in episodes if one.draft and one.draft.answer == "184")
    assert kept[told.ask.id] == {"agreement": 1.0, "base_logprob": None, "extra_tokens": 4}
    await ask_again([replace(told)], adapter(1), settings(), Opinionated(lambda model, text: "183"), path)  # type: ignore[arg-type]
    assert kept_in(path)[told.ask.id] == {"agreement": 0.0, "base_logprob": -2.0, "extra_tokens": 4}
