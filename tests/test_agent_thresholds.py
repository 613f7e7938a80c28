"""What is in force is told in the same words by status, what-if, the console's routes and the command line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from agent.cli.commands import app as commands
from agent.in_force import RECALIBRATION, VIGIL
from agent.recalibrate import in_force_for
from agent.thresholds import in_force, of_day
from agent.tuning import apply_threshold, undo_threshold
from console_service import Served, served
from memory.store import Memory
from policies.drift import Alarm

CERTIFICATE = {"threshold": 0.8, "bound": 0.041, "max_disagreement": 0.05}


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    with Memory.open(tmp_path) as one:
        yield one


def says(memory: Memory, skill: str | None = "sums", default: float | None = None) -> str:
    told = in_force(memory, (skill,), None, default)[skill or "*"]
    return "nothing" if told is None else str(told["says"])


def test_each_kind_of_decision_has_its_words(memory: Memory) -> None:
    assert says(memory) == "nothing"
    assert says(memory, default=0.9) == "System 1 answers from 0.900, the settings' own."
    memory.set_threshold(None, 0.95, RECALIBRATION, "not certified: 12 more audits are needed")
    assert says(memory) == "System 1 answers from 0.950, decided without a certificate."
    memory.set_threshold("sums", 0.8, RECALIBRATION, "60 audits", CERTIFICATE)
    assert says(memory) == "System 1 answers from 0.800, certified (at most 4.1% disagreement)."
    assert "0.950" in says(memory, "dates")
    memory.set_threshold("sums", 0.85, "ann", "caution", CERTIFICATE)
    assert "0.850, decided on a certificate from 0.800 (" in says(memory)
    memory.set_threshold("sums", None, VIGIL, "6 of 9 audits disagree")
    assert says(memory) == "System 2 alone: trust was taken away until a new certificate."


def test_a_step_since_is_told_with_what_was_decided(memory: Memory) -> None:
    made = memory.set_threshold("sums", 0.8, RECALIBRATION, "60 audits", CERTIFICATE)
    alarm = Alarm(audits=12, disagreements=2)
    memory.set_watch(None, "sums", {"change": made.id, "threshold": 0.8, "alarm": alarm.to_json()})
    assert says(memory).endswith("12 audits since, 2 of them disagreeing, have not moved it.")
    memory.set_watch(None, "sums", {"change": made.id, "threshold": 0.8123, "alarm": alarm.to_json()})
    told = in_force(memory, ("sums",), None)["sums"]
    assert told is not None
    assert (told["value"], told["decided"], told["certified"], told["bound"]) == (0.8123, 0.8, 0.8, 0.041)
    assert (told["audits"], told["disagreements"], told["who"]) == (12, 2, RECALIBRATION)
    assert told["says"] == (
        "System 1 answers from 0.8123; 0.800 was certified (at most 4.1% disagreement); 12 audits since, 2 of them "
        "disagreeing, have moved it by +0.0123."
    )
    memory.set_threshold("sums", 0.7, RECALIBRATION, "again")  # a new decision begins a new watch
    assert "0.700" in says(memory)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path, 60) as one:
        yield one


def test_all_views_say_the_same_once_the_step_has_moved_a_threshold(site: Served) -> None:
    day, adapter = site.day, site.adapters[1].name
    decided = next(c for c in day.memory.threshold_history() if (c.skill, c.adapter) == ("sums", adapter))
    kept = {"change": decided.id, "threshold": 0.8623, "alarm": Alarm(audits=7, disagreements=1).to_json()}
    day.memory.set_watch(adapter, "sums", kept)
    day.pointer.flip(in_force_for(day, day.pointer.now.adapter))
    with httpx.Client(base_url=site.url, timeout=60) as http:
        status = http.get("/api/status").json()
        found = http.get("/api/whatif", params={"skill": "sums"}).json()["in_force"]
        shown = http.get("/api/thresholds").json()["in_force"]
    assert status["thresholds"]["sums"] == found["value"] == 0.8623
    assert status["in_force"]["sums"] == found == shown["sums"]
    assert set(status["in_force"]) == {"*", "sums"}
    assert "0.850 was certified; 7 audits since, 1 of them disagreeing, have moved it by +0.0123." in found["says"]
    at_home = ["--state-dir", str(day.memory.state_dir)]
    for words in (["status", "--url", site.url], ["tune", "--skill", "sums"]):
        said = CliRunner().invoke(commands, [*words, *at_home])
        assert found["says"] in " ".join(said.stdout.split()), said.output


def test_undo_says_what_is_in_force_again(site: Served) -> None:
    day = site.day
    day.pointer.flip(replace(day.pointer.now, thresholds={}))
    apply_threshold(day, "sums", 0.95, "ann", "complaints")
    assert of_day(day)["sums"] is not None
    assert undo_threshold(day, "ann", "they stopped")["now"] == 0.85
