from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from memory.store import Memory

HERE = Path(__file__).parent
KILLS = int(os.environ.get("MEMORY_KILLS", "24"))


def run_and_kill(state_dir: Path, first: int, after_s: float) -> list[str]:
    """Ids acknowledged by a child that is killed some time after it began to remember."""
    paths = os.pathsep.join([str(HERE.parent), str(HERE)])
    child = subprocess.Popen(
        [sys.executable, str(HERE / "memory_crash_child.py"), str(state_dir), str(first)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    time.sleep(after_s)  # the moment of death is what is tested
    child.send_signal(signal.SIGKILL)
    lines = child.stdout.read().split(b"\n")
    child.wait()
    assert child.returncode == -signal.SIGKILL
    return [line.decode() for line in lines[:-1]]  # an id without its newline was not acknowledged


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """One state folder that lived through many deaths, and every id that was acknowledged in it."""
    state_dir = tmp_path_factory.mktemp("killed")
    chance = random.Random(20261122)
    acknowledged: list[str] = []
    for kill in range(KILLS):
        acknowledged += run_and_kill(state_dir, kill * 100_000, chance.uniform(0.0, 0.12))
    return state_dir, acknowledged


def test_every_acknowledged_episode_survives_kill_9_at_random_moments(killed: tuple[Path, list[str]]) -> None:
    state_dir, acknowledged = killed
    with Memory.open(state_dir) as memory:
        held = {row["id"] for row in memory._rows("SELECT id FROM episodes")}
        outcomes = memory.outcome_columns()
        assert len(acknowledged) > KILLS, "the children were killed before they did anything"
        assert [name for name in acknowledged if name not in held] == []
        assert len(outcomes["seq"]) == len(held)
        assert memory.episode(acknowledged[-1]).ask.id == acknowledged[-1]
        assert list((state_dir / "journal").glob("*.jsonl")) == []


def test_every_audit_of_an_acknowledged_episode_survives(killed: tuple[Path, list[str]]) -> None:
    state_dir, acknowledged = killed
    with Memory.open(state_dir) as memory:
        audited = {row[0] for row in memory._rows("SELECT e.id FROM audits a JOIN episodes e ON e.seq = a.episode")}
        expected = {name for name in acknowledged if int(name[3:]) % 7 == 0}
        assert expected <= audited
        agreed = memory.outcome_columns(only=["agrees"])["agrees"]
        assert (agreed >= 0).sum() >= len(acknowledged)
