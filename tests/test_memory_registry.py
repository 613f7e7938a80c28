from __future__ import annotations

from pathlib import Path

import pytest

from memory.errors import Conflict, NotFound
from memory.records import AdapterStatus, SkillScore
from memory.store import Memory
from memory_fakes import adapter, episode, lesson


@pytest.fixture
def memory(tmp_path: Path):
    with Memory.open(tmp_path, clock=lambda: 5_000_000.0) as opened:
        yield opened


def test_an_adapter_comes_back_equal(memory: Memory) -> None:
    memory.add_adapter(adapter(1))
    assert memory.adapter("sn-0001-000001") == adapter(1)
    assert memory.adapters() == [adapter(1)]
    with pytest.raises(NotFound):
        memory.adapter("sn-0009-000009")


def test_a_name_is_never_reused_and_numbers_grow(memory: Memory) -> None:
    assert memory.next_adapter_number() == 1
    memory.add_adapter(adapter(1))
    memory.add_adapter(adapter(41))
    assert memory.next_adapter_number() == 42
    with pytest.raises(Conflict, match="never reused"):
        memory.add_adapter(adapter(1))


def test_going_live_retires_the_one_before_in_one_step(memory: Memory) -> None:
    memory.add_adapter(adapter(1))
    memory.add_adapter(adapter(2))
    assert memory.live() is None
    memory.make_live("sn-0001-000001", "the gate passed")
    memory.make_live("sn-0002-000002", "better")
    live = memory.live()
    assert live is not None
    assert (live.name, live.reason) == ("sn-0002-000002", "better")
    assert memory.adapter("sn-0001-000001").status is AdapterStatus.RETIRED
    assert "sn-0002-000002" in memory.adapter("sn-0001-000001").reason
    memory.make_live("sn-0001-000001", "rolled back")
    assert memory.adapter("sn-0002-000002").status is AdapterStatus.RETIRED
    memory.make_live(None, "back to the base")
    assert memory.live() is None


def test_a_swap_to_an_unknown_adapter_changes_nothing(memory: Memory) -> None:
    memory.add_adapter(adapter(1))
    memory.make_live("sn-0001-000001", "good")
    with pytest.raises(NotFound):
        memory.make_live("sn-0009-000009", "typo")
    live = memory.live()
    assert live is not None
    assert live.name == "sn-0001-000001"
    memory.make_live("sn-0001-000001", "again")
    assert memory.adapter("sn-0001-000001").status is AdapterStatus.LIVE


def test_status_and_report_are_set(memory: Memory) -> None:
    memory.add_adapter(adapter(1))
    memory.set_adapter_status("sn-0001-000001", AdapterStatus.QUARANTINED, "poisoned")
    memory.set_adapter_report("sn-0001-000001", {"scores": [1, 2]})
    found = memory.adapter("sn-0001-000001")
    assert (found.status, found.reason, found.report) == (AdapterStatus.QUARANTINED, "poisoned", {"scores": [1, 2]})
    with pytest.raises(Conflict, match="make_live"):
        memory.set_adapter_status("sn-0001-000001", AdapterStatus.LIVE, "no")
    with pytest.raises(NotFound):
        memory.set_adapter_status("sn-0009-000009", AdapterStatus.RETIRED, "no")
    with pytest.raises(NotFound):
        memory.set_adapter_report("sn-0009-000009", {})


def test_lessons_are_kept_once_for_all_adapters(memory: Memory) -> None:
    first, second = lesson(episode(1)), lesson(episode(2))
    assert memory.record_lessons("sn-0001-000001", [first, second]) == 2
    assert memory.record_lessons("sn-0001-000001", [first, second]) == 2
    assert memory.record_lessons("sn-0002-000002", [second]) == 1
    assert memory.lessons_of("sn-0001-000001") == ["ep-00000001", "ep-00000002"]
    assert memory.lessons("sn-0002-000002") == [second]
    assert memory.learners("ep-00000002") == ["sn-0001-000001", "sn-0002-000002"]
    assert memory.counts()["lessons"] == 2


def test_the_score_matrix_is_in_the_order_of_the_adapters(memory: Memory) -> None:
    memory.add_adapter(adapter(10))
    memory.add_adapter(adapter(9))
    scores = [SkillScore("sums", 50, 0.3, 0.6, 0.7), SkillScore("dates", 20, 0.5, 0.5, None)]
    memory.record_scores("sn-0010-00000a", scores)
    memory.record_scores("sn-0009-000009", scores[:1])
    memory.record_scores("sn-0009-000009", [SkillScore("sums", 51, 0.3, 0.4, 0.7)])
    matrix = memory.score_matrix()
    assert list(matrix) == ["sn-0009-000009", "sn-0010-00000a"]
    assert matrix["sn-0009-000009"] == {"sums": SkillScore("sums", 51, 0.3, 0.4, 0.7)}
    assert matrix["sn-0010-00000a"]["dates"].headroom is None


def test_a_calibration_belongs_to_an_adapter_version(memory: Memory) -> None:
    assert memory.calibration(None) is None
    memory.set_calibration(None, {"kind": "platt", "a": -1.5})
    memory.set_calibration("sn-0001-000001", {"kind": "isotonic"})
    memory.set_calibration("sn-0001-000001", {"kind": "isotonic", "n": 600})
    assert memory.calibration(None) == {"kind": "platt", "a": -1.5}
    assert memory.calibration("sn-0001-000001") == {"kind": "isotonic", "n": 600}
