"""The service, its engine and its trainer killed at random moments under load (bench/kills, which does hundreds):
nothing that was acknowledged is lost. KILLS sets how often."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from adapters.registry import adapter_of
from adapters_fakes import made_adapter
from bench.kills import tally as tallies
from bench.kills.__main__ import run
from bench.kills.check import disagreements, missing
from bench.kills.strike import Mix, Operator, drawn
from bench.kills.tally import Tally
from bench.kills.world import World
from bench.section import write_section
from memory.records import AdapterStatus
from memory.store import Memory
from memory_fakes import episode

KILLS = int(os.environ.get("KILLS", "20"))
CHEAP = Mix(daemon=25, engine=69, trainer=6, night=0.0)  # a start of the service and a training cost most
SEED = 85  # 14 kills of the engine, 4 of the service and 2 of the trainer among the first 20


async def test_killed_at_random_moments_nothing_that_was_acknowledged_is_lost(tmp_path: Path) -> None:
    tally = Tally(SEED)
    await run(tmp_path, tally, KILLS, 20.0, mix=CHEAP)
    print(tallies.section(tally))
    assert (tally.lost, tally.odd) == ([], [])
    assert tally.kills == KILLS
    assert sum(tally.by.values()) + tally.too_late == KILLS
    assert tally.episodes > 10 * KILLS
    assert tally.feedback > 0
    assert tally.swaps > 0


def test_the_plan_of_a_kill_follows_from_the_seed_and_its_number() -> None:
    plans = [drawn(1, n) for n in range(400)]
    assert plans == [drawn(1, n) for n in range(400)]
    assert plans != [drawn(2, n) for n in range(400)]
    victims = [plan.victim for plan in plans]
    assert min(victims.count(name) for name in ("daemon", "engine", "trainer")) > 30
    assert all(plan.night for plan in plans if plan.victim == "trainer")
    assert {plan.victim for plan in (drawn(SEED, n, CHEAP) for n in range(20))} == {"daemon", "engine", "trainer"}


def test_what_is_lost_is_seen(tmp_path: Path) -> None:
    """A check that always passed would show nothing: each promise is broken once here."""
    with Memory.open(tmp_path) as memory:
        memory.remember(episode(1))
        memory.remember_feedback("ep-00000001", 1.0, None, "me")
        memory.flush()
        assert missing(memory, ["ep-00000001"], ["ep-00000001"]) == []
        assert len(missing(memory, ["ep-00000002"], ["ep-00000002"])) == 2
        adapters = tmp_path / "adapters"
        made = [adapter_of(made_adapter(adapters, n), "made", AdapterStatus.LIVE) for n in (1, 2)]
    assert disagreements(made[:1], adapters) == [f"{made[1].name} is an adapter's folder without a row"]
    assert disagreements(made, adapters) == [f"2 adapters are live: {made[0].name}, {made[1].name}"]
    (adapters / made[0].name / "adapter_model.safetensors").write_bytes(b"other")
    (adapters / ".making-0003-999999999").mkdir()
    half, damaged = disagreements(made, adapters)[:2]
    assert "half-made" in half
    assert made[0].name in damaged


def test_the_live_adapter_must_be_one_that_was_asked_for() -> None:
    one = Operator(World(Path()), Tally(1), live="sn-0001-aaaaaa", maybe="sn-0002-bbbbbb")
    assert one.may_be_live("sn-0001-aaaaaa", 2)
    assert one.may_be_live("sn-0002-bbbbbb", 2)
    assert not one.may_be_live("sn-0003-cccccc", 2)
    one.night_maybe = True
    assert one.may_be_live("sn-0003-cccccc", 2)
    assert not one.may_be_live(None, 2)


def test_a_tally_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "tally.json"
    tally = tallies.read(path, 1)
    tally.kills = 7
    tally.count(tally.by, "engine while a night runs", 7)
    tallies.write(path, tally)
    assert tallies.read(path, 1) == tally
    with pytest.raises(ValueError, match="--seed 1"):
        tallies.read(path, 2)
    assert "| the engine | a night runs | 7 |" in tallies.section(tally)
    tally.lost.append("an episode")
    assert "Lost: 1" in tallies.section(tally)


def test_a_section_is_written_between_its_marks_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- it -->\nold\n<!-- end of it -->\nafter\n")
    for _ in range(2):
        write_section(page, "it", "new\n")
        assert page.read_text() == "before\n<!-- it -->\n\nnew\n\n<!-- end of it -->\nafter\n"
    with pytest.raises(ValueError, match="end of other"):
        write_section(page, "other", "new")
