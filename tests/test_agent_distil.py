"""A trainer that is killed: what it leaves, whoever notices; and which old adapters' folders go after a night."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from adapters.job import TrainSettings
from adapters.manifest import Manifest
from adapters.model import ModelFolder
from adapters.process import HIDDEN
from adapters.registry import adapter_of
from adapters_fakes import BASE, made_adapter, sums
from agent import distil as distilling
from agent.daemon import Daemon
from agent.distil import TrainingFailed, distil, left_by
from agent.forget import previous, prune_idle
from agent.in_force import InForce, Pointer
from memory.records import AdapterStatus
from memory.store import Memory

DEAD = 2**22 + 1  # no process has this number
HERE = Path(__file__).parent


def patched(patch: pytest.MonkeyPatch, where: str) -> None:
    """Have trainer_fake.py take the trainer's place."""
    patch.setattr(distilling, "TRAINER", "trainer_fake")
    patch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), str(HERE.parent)]))
    patch.setenv("DIES", where)


async def killed(folder: Path, where: str, patch: pytest.MonkeyPatch) -> Manifest:
    """A night's training whose trainer dies."""
    patched(patch, where)
    base = ModelFolder(str(folder), BASE, "folder", "tiny")
    return await distil(sums(3), [], 7, base, folder, TrainSettings(), lambda *_: None)


async def test_a_trainer_killed_at_its_work_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TrainingFailed, match="signal 9"):
        await killed(tmp_path, "work", monkeypatch)
    assert list((tmp_path / "adapters").iterdir()) == []


async def test_one_killed_after_the_rename_has_made_an_adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = await killed(tmp_path, "whole", monkeypatch)
    assert manifest.number == 7
    assert [path.name for path in (tmp_path / "adapters").iterdir()] == [manifest.name]


@pytest.mark.skipif(sys.platform != "linux", reason="a trainer gives way on Linux alone")
async def test_a_trainer_gives_way_and_one_that_is_stopped_ends_when_the_night_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patched(monkeypatch, "never")
    base = ModelFolder(str(tmp_path), BASE, "folder", "tiny")
    told = TrainSettings(busy_share=0.001)  # its pause would last 100 s
    night = asyncio.create_task(distil(sums(3), [], 7, base, tmp_path, told, lambda *_: None, lambda: True))
    async with asyncio.timeout(30):
        while psutil.STATUS_STOPPED not in [child.status() for child in psutil.Process().children()]:
            await asyncio.sleep(0.01)
        night.cancel()
        with pytest.raises(asyncio.CancelledError):
            await night
    assert list((tmp_path / "adapters").iterdir()) == []


def test_only_the_dead_are_cleared_up_after(tmp_path: Path) -> None:
    mine, others = tmp_path / f"{HIDDEN}0007-{os.getpid()}", tmp_path / f"{HIDDEN}0008-{DEAD}"
    for folder in (mine, others, tmp_path / f"{HIDDEN}0007-{DEAD}"):
        folder.mkdir()
    assert left_by(tmp_path, 7) is None
    assert sorted(tmp_path.iterdir()) == sorted([mine, others]), "one works still, the other is another night's"


def lived(memory: Memory, n: int) -> list[str]:
    """`n` adapters, live one after the other; the last is live."""
    names = []
    for number in range(1, n + 1):
        row = adapter_of(made_adapter(memory.state_dir / "adapters", number), "made")
        memory.add_adapter(row)
        memory.make_live(row.name, "better")
        names.append(row.name)
    return names


def there(memory: Memory) -> list[str]:
    return sorted(path.name for path in (memory.state_dir / "adapters").iterdir())


def test_after_a_night_the_live_one_the_one_before_and_the_newest_are_kept(tmp_path: Path) -> None:
    with Memory.open(tmp_path) as memory:
        names = lived(memory, 6)
        for name in names[3:5]:
            memory.set_adapter_status(name, AdapterStatus.REJECTED, "the gate")
        assert prune_idle(memory, keep=1, in_use=names[:1]) == (names[1], names[3])
        assert there(memory) == [names[0], names[2], names[4], names[5]]
        live = memory.live()
        assert live is not None
        before = previous(memory, live)
        assert (live.name, before and before.name) == (names[5], names[2])
        assert prune_idle(memory, keep=0) == (names[0], names[4])
        assert there(memory) == [names[2], names[5]]


def test_a_rollback_passes_over_what_was_pruned(tmp_path: Path) -> None:
    with Memory.open(tmp_path) as memory:
        names = lived(memory, 3)
        live = memory.live()
        assert live is not None
        memory.set_adapter_status(names[1], AdapterStatus.QUARANTINED, "spoiled")
        assert prune_idle(memory, keep=0) == ()
        made_adapter(memory.state_dir / "adapters", 9)
        assert previous(memory, live) == memory.adapter(names[0])
        for file in (memory.state_dir / "adapters" / names[0]).iterdir():
            file.unlink()
        (memory.state_dir / "adapters" / names[0]).rmdir()
        assert previous(memory, live) is None


async def test_the_daemon_prunes_and_spares_what_is_in_force(tmp_path: Path) -> None:
    with Memory.open(tmp_path) as memory:
        names = lived(memory, 4)
        pointer = Pointer(InForce(memory.adapter(names[0])))  # as after a swap whose row is not written yet
        day = SimpleNamespace(pointer=pointer)
        config = SimpleNamespace(trust=SimpleNamespace(keep_adapters=0))
        await Daemon._prune(SimpleNamespace(day=day, memory=memory, config=config))  # type: ignore[arg-type]
        assert there(memory) == [names[0], names[2], names[3]]
