from __future__ import annotations

from pathlib import Path

import pytest

from memory.errors import Conflict, NotFound
from memory.records import SkillState
from memory.rows import Key
from memory.store import Memory
from memory_fakes import episode


@pytest.fixture
def memory(tmp_path: Path):
    times = iter(range(1, 1_000_000))
    with Memory.open(tmp_path, clock=lambda: float(next(times))) as opened:
        yield opened


def test_a_skills_own_threshold_comes_before_the_general_one(memory: Memory) -> None:
    assert memory.threshold("sums") is None
    memory.set_threshold(None, 0.9, "operator", "certified", {"n": 300})
    memory.set_threshold("sums", 0.7, "operator", "certified for sums")
    assert (memory.threshold("sums"), memory.threshold("dates"), memory.threshold(None)) == (0.7, 0.9, 0.9)
    assert memory.thresholds() == {None: 0.9, "sums": 0.7}
    memory.set_threshold("sums", None, "alarm", "drift")
    assert memory.threshold("sums") is None, "trust was taken away from this skill, the general one does not apply"


def test_a_threshold_belongs_to_an_adapter_version(memory: Memory) -> None:
    memory.set_threshold("sums", 0.7, "operator", "certified", adapter="sn-0001-a")
    assert memory.threshold("sums", "sn-0001-a") == 0.7
    assert memory.threshold("sums") is None
    assert memory.threshold("sums", "sn-0002-b") is None


def test_undo_brings_back_what_was_in_force(memory: Memory) -> None:
    memory.set_threshold(None, 0.9, "operator", "first")
    second = memory.set_threshold(None, 0.5, "operator", "too bold", {"n": 3})
    undone = memory.undo_threshold("operator", "too bold indeed")
    assert (undone.id, undone.value, undone.certificate) == (second.id, 0.5, {"n": 3})
    assert memory.threshold(None) == 0.9
    memory.undo_threshold("operator")
    assert memory.threshold(None) is None
    with pytest.raises(NotFound, match="nothing to undo"):
        memory.undo_threshold("operator")
    history = memory.threshold_history()
    assert [(c.value, c.undone_at is not None) for c in history] == [(0.5, True), (0.9, True)]
    assert [e.what for e in memory.events()] == ["undo threshold", "undo threshold"]


def test_a_skills_states_are_kept_with_their_reasons(memory: Memory) -> None:
    memory.set_skill_state("sums", SkillState.PRACTISING, "60 lessons wait")
    memory.set_skill_state("sums", SkillState.AUTOMATIC, "certified", "sn-0001-a")
    memory.set_skill_state("words", SkillState.DELIBERATE, "did not move")
    states = memory.skill_states()
    assert (states["sums"].state, states["sums"].adapter) == (SkillState.AUTOMATIC, "sn-0001-a")
    assert states["words"].reason == "did not move"
    assert [s.state for s in memory.skill_history("sums")] == [SkillState.PRACTISING, SkillState.AUTOMATIC]


def test_quarantine_needs_an_episode_and_is_lifted_once(memory: Memory) -> None:
    memory.remember(episode(1))
    with pytest.raises(NotFound):
        memory.quarantine("ep-nothing", "odd")
    memory.quarantine("ep-00000001", "odd")
    memory.quarantine("ep-00000001", "odder")
    (held,) = memory.quarantined()
    assert (held.episode_id, held.skill, held.source, held.reason) == ("ep-00000001", "sums", "alice", "odder")
    memory.release("ep-00000001")
    with pytest.raises(NotFound):
        memory.release("ep-00000001")
    assert memory.quarantined() == []


def test_keys_are_found_by_hash_and_stay_after_they_are_revoked(memory: Memory) -> None:
    key = Key("k1", "ab" * 32, "ask", "laptop", 1.0, None, {"per_minute": 60})
    memory.add_key(key)
    assert memory.key_by_hash("ab" * 32) == key
    assert memory.key_by_hash("cd" * 32) is None
    with pytest.raises(Conflict):
        memory.add_key(key)
    memory.revoke_key("k1")
    assert memory.keys()[0].revoked_at is not None
    with pytest.raises(NotFound):
        memory.revoke_key("k1")


def test_a_keys_tokens_are_those_of_its_own_callers_since_then(memory: Memory) -> None:
    for number, source in enumerate(["key-1", "key-1/ann", "key-1/bob", "key-10", "key-1-b", "ann"]):
        memory.remember(episode(number, source=source, asked_at=100.0 + number))
    memory.remember(episode(6, source="key-1", asked_at=200.0, kind="replay"))  # an examination, not an answer
    memory.flush()
    each = episode(0).tokens
    assert each > 0
    assert memory.tokens_since("key-1", 0.0) == 3 * each
    assert memory.tokens_since("key-1", 101.0) == 2 * each
    assert memory.tokens_since("key-2", 0.0) == 0


def test_events_are_newest_first(memory: Memory) -> None:
    memory.record_event("operator", "promote", "looks good", {"adapter": "sn-0001-a"})
    memory.record_event("scheduler", "night", "cron")
    assert [e.who for e in memory.events()] == ["scheduler", "operator"]
    assert memory.events()[1].detail == {"adapter": "sn-0001-a"}
    assert len(memory.events(limit=1)) == 1
    assert len(memory.events(since=memory.events()[0].when)) == 1


def test_nights_come_newest_first_with_their_reports(memory: Memory) -> None:
    first = memory.start_night("cron")
    assert memory.nights()[0].finished_at is None
    memory.finish_night(first, "promoted", {"lessons": 12}, "sn-0001-a")
    second = memory.start_night("64 lessons wait")
    nights = memory.nights()
    assert [n.id for n in nights] == [second, first]
    assert (nights[1].outcome, nights[1].adapter, nights[1].report) == ("promoted", "sn-0001-a", {"lessons": 12})
