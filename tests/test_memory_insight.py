"""What statistics of skills are read from, on a real memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from memory.records import Grade, Mode, SkillScore
from memory.store import Memory
from memory_fakes import accepted, adapter, audit, deliberation, episode, lesson


def test_answers_are_columns_with_their_audits_and_feedback(tmp_path: Path) -> None:
    with Memory.open(tmp_path) as memory:
        checked, unchecked = accepted(1), accepted(2, adapter=None)
        wanted = episode(5)  # the caller asked for System 1, so it is no choice of the router's
        wanted = replace(wanted, ask=replace(wanted.ask, mode=Mode.SYSTEM1))
        for one in (episode(0), checked, unchecked, episode(3, kind="replay"), replace(episode(4), draft=None), wanted):
            memory.remember(one)
        memory.remember_audit(audit(checked, answer="183"))
        memory.remember_feedback(unchecked.ask.id, 0.5, None, "ann")
        memory.flush()
        found = memory.answer_columns()
        base = memory.answer_columns(adapter=None, every_adapter=False)
    assert list(found["system1"]) == [False, True, True, False]
    assert list(found["agrees"]) == [1, 0, -1, -1]
    assert list(found["propensity"]) == [1.0, 0.05, 0.05, 1.0]
    assert list(found["adapter"]) == ["sn-0001-aaaaaa", "sn-0001-aaaaaa", None, "sn-0001-aaaaaa"]
    assert np.isnan(found["score"]).tolist() == [True, True, False, True]
    assert base["score"].tolist() == [0.5]


def test_an_empty_memory_gives_empty_columns(tmp_path: Path) -> None:
    with Memory.open(tmp_path) as memory:
        assert {len(column) for column in memory.answer_columns().values()} == {0}
        assert list(memory.each_thought()) == []


def test_thoughts_come_page_by_page_with_whether_the_draft_said_the_same(tmp_path: Path) -> None:
    with Memory.open(tmp_path) as memory:
        checked = accepted(2000)
        for n in range(600):
            memory.remember(replace(episode(n), deliberation=deliberation("184" if n % 2 else "185")))
        memory.remember(replace(episode(700), deliberation=deliberation(None, Grade.NONE)))
        memory.remember(checked)
        memory.remember_audit(audit(checked))
        memory.flush()
        found = list(memory.each_thought())
    assert len(found) == 602
    assert [same for _, _, same, _ in found[:2]] == [False, True]
    assert [same for _, _, same, _ in found[-2:]] == [None, True]
    assert {thought["method"] for _, thought, _, _ in found} == {"cot"}


def test_watches_lessons_and_paired_counts_are_kept(tmp_path: Path) -> None:
    with Memory.open(tmp_path) as memory:
        memory.set_watch(None, "sums", {"threshold": 0.9})
        memory.set_watch(None, "sums", {"threshold": 0.8})
        memory.set_watch("sn-0001-000001", "sums", {"threshold": 0.7})
        one = adapter(1)
        memory.add_adapter(one)
        memory.remember(episode(0))
        memory.flush()
        memory.record_lessons(one.name, [lesson(episode(0))])
        memory.record_scores(one.name, [SkillScore("sums", 40, 0.5, 0.75, 0.5, 12, 2)])
        assert memory.watches(None) == {"sums": {"threshold": 0.8}}
        assert memory.lesson_counts() == {("sums", one.name): 1}
        assert memory.score_matrix()[one.name]["sums"] == SkillScore("sums", 40, 0.5, 0.75, 0.5, 12, 2)
