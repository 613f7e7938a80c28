"""What one memory decides, another follows: adapter, calibration, thresholds, skills' states, keys."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from adapters_fakes import BASE
from memory.records import Adapter, AdapterStatus, SkillState
from memory.rows import Key
from memory.store import Memory

KEY = Key("k1", "h" * 64, "ask", "a client", 1.0)
NAME = "sn-0001-aaaaaa"


def adapter(name: str = NAME) -> Adapter:
    return Adapter(name, "d" * 64, BASE, AdapterStatus.CANDIDATE, 5.0, 10, 1.0, "made", {"evaluation": {"long": "x"}})


class Clock:
    now = 100.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Memory, Memory]]:
    clock = Clock()
    with Memory.open(tmp_path / "learner", clock) as learner, Memory.open(tmp_path / "gateway", clock) as gateway:
        yield learner, gateway


def follow(learner: Memory, gateway: Memory) -> None:
    """Over JSON, as it is published."""
    gateway.adopt(orjson.loads(orjson.dumps(learner.decided())))


def test_all_that_is_in_force_is_followed(pair: tuple[Memory, Memory]) -> None:
    learner, gateway = pair
    follow(learner, gateway)
    assert gateway.live() is None
    learner.add_adapter(adapter())
    learner.make_live(NAME, "better")
    learner.set_calibration(NAME, {"method": "platt"})
    learner.set_threshold(None, 0.8, "recalibration", "certified", {"threshold": 0.8}, adapter=NAME)
    learner.set_threshold("sums", 0.6, "ann", "by hand", adapter=NAME)
    learner.set_threshold(None, 0.1, "ann", "the base's own")
    learner.set_skill_state("riddles", SkillState.DELIBERATE, "no gain", NAME)
    learner.add_key(KEY)
    follow(learner, gateway)
    follow(learner, gateway)
    live = gateway.live()
    assert live == replace(adapter(), status=AdapterStatus.LIVE, reason="better", report={})
    assert gateway.calibration(NAME) == {"method": "platt"}
    assert gateway.thresholds(NAME) == {None: 0.8, "sums": 0.6}
    assert [(c.who, c.certificate) for c in gateway.threshold_history()] == [
        ("ann", None), ("recalibration", {"threshold": 0.8}),
    ]  # fmt: skip
    assert gateway.skill_states()["riddles"].state is SkillState.DELIBERATE
    assert len(gateway.skill_history("riddles")) == 1
    assert gateway.keys() == [KEY]


def test_what_is_taken_back_is_taken_back_there_too(pair: tuple[Memory, Memory]) -> None:
    learner, gateway = pair
    for name in (NAME, "sn-0002-bbbbbb"):
        learner.add_adapter(adapter(name))
        learner.make_live(name, "better")
        follow(learner, gateway)
    learner.make_live(NAME, "rolled back")
    learner.set_threshold("sums", 0.6, "ann", "first", adapter=NAME)
    learner.set_threshold("sums", 0.5, "ann", "second", adapter=NAME)
    learner.add_key(KEY)
    follow(learner, gateway)
    assert [(a.name, a.status.value) for a in gateway.adapters()] == [(NAME, "live"), ("sn-0002-bbbbbb", "retired")]
    learner.undo_threshold("ann")
    learner.revoke_key(KEY.id)
    follow(learner, gateway)
    assert gateway.thresholds(NAME) == {"sums": 0.6}
    assert gateway.keys()[0].revoked_at is not None
    learner.undo_threshold("ann")
    follow(learner, gateway)
    assert gateway.thresholds(NAME) == {}
    learner.make_live(None, "the base again")
    follow(learner, gateway)
    assert gateway.live() is None


def test_its_own_alarm_stands_until_a_newer_decision(pair: tuple[Memory, Memory]) -> None:
    learner, gateway = pair
    learner.set_threshold(None, 0.8, "recalibration", "certified")
    learner.set_threshold("sums", 0.6, "recalibration", "certified")
    follow(learner, gateway)
    gateway.set_threshold("sums", None, "vigil", "its audits disagree")
    gateway.set_threshold("dates", None, "vigil", "its audits disagree")
    learner.add_key(KEY)  # something else is published
    follow(learner, gateway)
    assert gateway.thresholds() == {None: 0.8, "sums": None, "dates": None}
    learner.set_threshold("sums", 0.9, "recalibration", "certified anew, with the gateway's audits")
    follow(learner, gateway)
    assert gateway.thresholds() == {None: 0.8, "sums": 0.9, "dates": None}
    learner.set_threshold(None, 0.85, "recalibration", "certified anew")
    follow(learner, gateway)
    assert gateway.thresholds() == {None: 0.85, "sums": 0.9}
