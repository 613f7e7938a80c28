"""Skills from the memory: table, states, the gate's matrix, methods, export."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from agent import skills
from agent.groups import groups
from agent.in_force import VIGIL
from memory.errors import BadInput, NotFound
from memory.records import AdapterStatus, Grade, SkillScore, SkillState
from memory.store import Memory
from memory_fakes import accepted, adapter, audit, deliberation, episode, lesson
from policies.automaticity import AutomaticitySettings
from policies.skills import SkillSettings, recognise

LIVE = "sn-0001-000001"
SETTINGS = AutomaticitySettings(min_answers=10, min_audits=5)


def filled(tmp_path: Path, by_system1: int = 18, others: int = 2) -> Memory:
    """Twenty answers of one skill under the live adapter, every direct one audited and right."""
    memory = Memory.open(tmp_path)
    memory.add_adapter(adapter(1))
    memory.make_live(LIVE, "best")
    for n in range(by_system1):
        one = accepted(n, adapter=LIVE)
        memory.remember(one)
        memory.remember_audit(audit(one))
    for n in range(by_system1, by_system1 + others):
        memory.remember(episode(n, adapter=LIVE))
    memory.flush()
    memory.record_lessons(LIVE, [lesson(episode(0))])
    memory.record_scores(LIVE, [SkillScore("sums", 40, 0.5, 0.9, 0.5, 18, 2)])
    return memory


def test_the_table_tells_each_skill_under_the_live_system1(tmp_path: Path) -> None:
    with filled(tmp_path) as memory:
        skills.update_states(memory, SETTINGS, LIVE)
        sums, unasked = skills.table(memory, ["sums", "dates"])
    assert (sums["skill"], sums["adapter"], sums["n"], sums["system1_share"]) == ("sums", LIVE, 20, 0.9)
    assert (sums["state"], sums["audits"], sums["agreement"], sums["lessons"]) == ("automatic", 18, 1.0, 1)
    assert sums["headroom"] == pytest.approx(0.1)
    assert "System 1 answers 90 %" in sums["reason"]
    assert (unasked["skill"], unasked["n"], unasked["state"]) == ("dates", 0, "practising")


def test_states_are_written_when_they_change_and_an_alarm_starts_the_count_anew(tmp_path: Path) -> None:
    with filled(tmp_path) as memory:
        assert set(skills.update_states(memory, SETTINGS, LIVE)) == {"sums"}
        assert skills.update_states(memory, SETTINGS, LIVE) == {}
        memory.set_threshold("sums", None, VIGIL, "broken", adapter=LIVE)
        memory.set_skill_state("sums", SkillState.LAPSED, "broken", LIVE)
        assert skills.update_states(memory, SETTINGS, LIVE) == {}
        assert memory.skill_states()["sums"].state is SkillState.LAPSED


def test_a_deliberate_skill_stays_so_until_a_person_releases_it(tmp_path: Path) -> None:
    with filled(tmp_path) as memory:
        memory.set_skill_state("sums", SkillState.DELIBERATE, "fair try")
        assert skills.update_states(memory, SETTINGS, LIVE) == {}
        with pytest.raises(BadInput, match="why"):
            skills.release(memory, "sums", "ann", " ")
        skills.release(memory, "sums", "ann", "a larger base now")
        assert memory.skill_states()["sums"].state is SkillState.PRACTISING
        with pytest.raises(NotFound, match="not deliberate"):
            skills.release(memory, "sums", "ann", "again")


def test_one_skill_shows_versions_methods_and_history(tmp_path: Path) -> None:
    with filled(tmp_path) as memory:
        memory.set_threshold("sums", 0.8, "ann", "enough", adapter=LIVE)
        shown = skills.one(memory, "sums")
        with pytest.raises(NotFound, match="did you mean 'sums'"):
            skills.one(memory, "sumz")
    assert [version["adapter"] for version in shown["versions"]] == [LIVE]
    assert [change["value"] for change in shown["thresholds"]] == [0.8]
    assert shown["scores"][LIVE]["won"] == 18
    assert shown["methods"][0]["runs"] == 20


def test_the_gates_matrix_holds_only_what_once_answered_people(tmp_path: Path) -> None:
    with filled(tmp_path) as memory:
        for number, status in ((2, AdapterStatus.REJECTED), (3, AdapterStatus.QUARANTINED), (4, None)):
            memory.add_adapter(adapter(number))
            memory.record_scores(adapter(number).name, [SkillScore("sums", 40, 0.9, 0.99, 0.1)])
            if status:
                memory.set_adapter_status(adapter(number).name, status, "test")
        memory.make_live(adapter(4).name, "better")
        assert list(skills.once_live(memory)) == [LIVE, adapter(4).name]
        told = skills.matrix(memory)
    assert (told["adapters"], told["skills"]) == ((LIVE, adapter(4).name), ("sums",))
    assert told["acc"] == 0.99
    assert told["backward"] == pytest.approx(0.09)


def test_methods_tell_what_they_gained_and_cost(tmp_path: Path) -> None:
    with Memory.open(tmp_path) as memory:
        memory.remember(episode(0))
        memory.remember(replace(episode(1), deliberation=deliberation("185", Grade.SERVE)))
        memory.remember(replace(episode(2), deliberation=replace(deliberation(None, Grade.NONE), method="bsm")))
        memory.remember(episode(3, skill="dates"))
        memory.flush()
        dates, cot, bsm = skills.methods(memory)
        assert [row["skill"] for row in skills.methods(memory, "dates")] == ["dates"]
    assert (cot["method"], cot["runs"], cot["attempts"], cot["serve_share"], cot["train_share"]) == (
        "cot",
        2,
        4,
        1,
        0.5,
    )
    assert (cot["corrected"], cot["tokens"], cot["tokens_per_lesson"], cot["seconds"]) == (0.5, 48, 96, 2.5)
    assert (bsm["serve_share"], bsm["agreement"], bsm["corrected"], bsm["tokens_per_lesson"]) == (0, None, None, None)
    assert dates["skill"] == "dates"


def test_methods_are_told_apart_by_variant_and_by_what_people_said(tmp_path: Path) -> None:
    with Memory.open(tmp_path) as memory:
        memory.remember(episode(0))
        memory.remember(replace(episode(1), deliberation=replace(deliberation(), method="rar")))
        memory.remember(
            replace(episode(2), deliberation=replace(deliberation(), method="rar", variant="variant=one_step"))
        )
        memory.remember(replace(episode(3), deliberation=deliberation(None, Grade.NONE)))  # people read System 1's
        for number, score in ((0, 1.0), (1, 0.0), (1, 0.5), (3, 0.0)):
            memory.remember_feedback(f"ep-{number:08d}", score, None, "bob")
        memory.flush()
        cot, rar, one_step = skills.methods(memory)
    assert [(row["method"], row["variant"]) for row in (cot, rar, one_step)] == [
        ("cot", ""), ("rar", ""), ("rar", "variant=one_step"),
    ]  # fmt: skip
    assert [(row["feedback"], row["rated"]) for row in (cot, rar, one_step)] == [(1.0, 1), (0.25, 1), (None, 0)]


def test_versions_are_exported_as_csv_and_parquet(tmp_path: Path) -> None:
    with filled(tmp_path / "state") as memory:
        rows = skills.flat(skills.versions(memory), memory.skill_states())
    skills.export(rows, tmp_path / "skills.csv")
    skills.export(rows, tmp_path / "skills.parquet")
    with (tmp_path / "skills.csv").open() as file:
        (read,) = csv.DictReader(file)
    assert (read["skill"], read["adapter"], float(read["system1_share"])) == ("sums", LIVE, 0.9)
    assert pq.read_table(tmp_path / "skills.parquet").to_pylist() == rows
    with pytest.raises(BadInput, match=r"\.csv or \.parquet"):
        skills.export(rows, tmp_path / "skills.xlsx")


def test_questions_of_no_skill_become_a_proposed_one(tmp_path: Path) -> None:
    with Memory.open(tmp_path) as memory:
        for n in range(12):
            text = f"How many minutes are {n + 2} hours and {3 * n + 5} minutes?"
            one = episode(n, skill="unknown", messages=({"role": "user", "content": text},))
            memory.remember(replace(one, deliberation=None, reply=str(60 * n)))
        memory.remember(episode(20, skill="unknown", messages=({"role": "user", "content": "Sing me a song."},)))
        memory.remember(episode(21))
        memory.flush()
        (found,) = groups(memory)
    assert (found["n"], found["answer_type"]) == (12, "number")
    assert found["examples"][0] == "How many minutes are 2 hours and 5 minutes?"
    (written,) = yaml.safe_load(found["skill"])
    made = SkillSettings(**written)
    asked = ({"role": "user", "content": "How many minutes are 9 hours and 58 minutes?"},)
    assert recognise(asked, None, [made]).name == found["id"]
