"""Copies of the database: their age, what a crash leaves of them, and what a restore that is cut short leaves."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.trust import TrustSettings, daily
from memory import base
from memory.backup import restore
from memory.copies import backups, taken_at
from memory.store import Memory, MemorySettings
from memory_fakes import episode

DAY_S = 86_400.0
SECRET = "the blue heron flies at noon"


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 1_000_000_000.0

    def __call__(self) -> float:
        return self.now


def held(path: Path) -> list[str]:
    with base.closing(base.connect(path, read_only=True)) as con:
        return [row["id"] for row in con.execute("SELECT id FROM episodes ORDER BY id")]


def three_days(memory: Memory, clock: Clock) -> list[Path]:
    made = []
    for n in range(3):
        memory.remember(episode(n, source="mallory" if n == 0 else "alice"))
        made.append(memory.backup())
        clock.now += DAY_S
    return made


def test_an_erasure_leaves_the_newest_backup_the_newest(tmp_path: Path) -> None:
    clock = Clock()
    with Memory.open(tmp_path, clock=clock, settings=MemorySettings(keep_backups=3)) as memory:
        old = three_days(memory, clock)
        changed = [path.stat().st_mtime_ns for path in old]
        memory.forget(source="mallory")
        assert [path.stat().st_mtime_ns for path in old] == changed
        assert backups(tmp_path) == old[::-1]
        new = memory.backup()
        assert backups(tmp_path) == [new, *old[:0:-1]], "the oldest went"
    assert restore(tmp_path) == new
    assert held(tmp_path / base.DATABASE) == ["ep-00000001", "ep-00000002"]


def test_a_backup_is_as_old_as_its_name_says(tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    names = ("20261122T031500Z.db", "20261122T031500Z-2.db", "20261122T031500Z-10.db", "before-schema-5-1000.db")
    for n, name in enumerate(names):
        (folder / name).touch()
        os.utime(folder / name, (5000.0 - n, 5000.0 - n))
    (folder / "mine.db").touch()
    os.utime(folder / "mine.db", (2000.0, 2000.0))
    newest_first = [names[2], names[1], names[0], "mine.db", names[3]]
    assert [path.name for path in backups(tmp_path)] == newest_first
    assert taken_at(folder / names[0]) == (1_795_317_300.0, 0)
    assert [path.name for path in backups(tmp_path, 3000.0)] == ["mine.db", names[3], *newest_first[:3]]


def test_a_backup_from_the_future_stops_no_backup_and_is_not_chosen(tmp_path: Path) -> None:
    clock = Clock()
    with Memory.open(tmp_path, clock=clock, settings=MemorySettings(keep_backups=2)) as memory:
        clock.now += 400 * DAY_S
        wrong = memory.backup()
        clock.now -= 400 * DAY_S
        memory.remember(episode(1))
        for _ in range(2):
            assert daily(memory, TrustSettings())["backup"] is not None
            assert daily(memory, TrustSettings())["backup"] is None, "once a day"
            clock.now += DAY_S
        assert not wrong.exists(), "it is the first to go"
        clock.now += 400 * DAY_S
        wrong = memory.backup()
        clock.now -= 400 * DAY_S
    assert restore(tmp_path, clock=clock) != wrong


def unfinished(folder: Path) -> list[Path]:
    """What a process that was killed in the middle of a backup, a restore and a migration leaves."""
    (folder / "backups").mkdir(exist_ok=True)
    left = [
        folder / "backups" / "20261122T031500Z.partial",
        folder / "backups" / "20261122T031500Z.partial-journal",
        folder / "secondnature.restoring",
        folder / "secondnature.migrating",
    ]
    for path in left:
        path.write_text(SECRET)
    return left


def test_what_a_crash_left_of_a_copy_is_erased_at_the_next_start(tmp_path: Path) -> None:
    left = unfinished(tmp_path)
    Memory.open(tmp_path).close()
    assert not any(path.exists() for path in left)


def test_what_a_crash_left_of_a_copy_is_erased_with_what_is_forgotten(tmp_path: Path) -> None:
    with Memory.open(tmp_path) as memory:
        memory.remember(episode(1, source="mallory"))
        left = unfinished(tmp_path)
        memory.forget(source="mallory")
    assert not any(path.exists() for path in left)


def test_a_backup_that_fails_leaves_nothing(tmp_path: Path) -> None:
    # The second call opens the whole copy, to check it.
    with Memory.open(tmp_path) as memory, stopped_at(2, "sqlite3.connect", "partial"), pytest.raises(Killed):
        memory.backup()
    assert list((tmp_path / "backups").iterdir()) == []
    with Memory.open(tmp_path) as memory:
        assert memory.backup().exists()


def test_a_backup_waits_for_an_erasure(tmp_path: Path) -> None:
    with Memory.open(tmp_path) as memory:
        memory.remember(episode(1, source="mallory"))
        memory.remember(episode(2))
        with memory._copying:
            forgetting = threading.Thread(target=memory.forget, kwargs={"source": "mallory"})
            forgetting.start()
            forgetting.join(0.2)
            assert forgetting.is_alive(), "a copy under way would keep what is erased meanwhile"
        forgetting.join()
        assert held(memory.backup()) == ["ep-00000002"]


class Killed(BaseException):
    """The process ends here."""


_plan: dict[str, Any] = {"left": None}


def _hook(event: str, args: tuple[Any, ...]) -> None:
    """Stop at the n-th of certain calls. An audit hook cannot be taken away: it is quiet without a plan."""
    if _plan["left"] is None or event not in _plan["events"]:
        return
    if _plan["only"] in "".join(map(str, args)):
        _plan["left"] -= 1
        if _plan["left"] == 0:
            raise Killed


sys.addaudithook(_hook)


@contextmanager
def stopped_at(call: int, events: str, only: str = "") -> Iterator[None]:
    _plan.update(left=call, events=events.split(), only=only)
    try:
        yield
    finally:
        _plan["left"] = None


@pytest.mark.parametrize("call", range(1, 12))
def test_a_restore_that_is_cut_short_leaves_the_old_database_or_the_new(tmp_path: Path, call: int) -> None:
    with Memory.open(tmp_path) as memory:
        memory.remember(episode(1))
        memory.backup()
        memory.remember(episode(2))
    done = False
    with stopped_at(call, "shutil.copyfile os.rename os.remove"):
        try:
            restore(tmp_path)
            done = True
        except Killed:
            pass
    with Memory.open(tmp_path) as memory:
        ids = [e.ask.id for e in memory.episodes()]
    assert ids in (["ep-00000002", "ep-00000001"], ["ep-00000001"])
    assert done is (ids == ["ep-00000001"])
    assert restore(tmp_path).exists()
    assert held(tmp_path / base.DATABASE) == ["ep-00000001"]


def test_the_log_of_the_old_database_does_not_reach_the_new_one(tmp_path: Path) -> None:
    memory = Memory.open(tmp_path)
    memory.remember(episode(1))
    memory.backup()
    memory.remember(episode(2))
    memory.flush()
    log = (tmp_path / f"{base.DATABASE}-wal").read_bytes()
    whole = (tmp_path / base.DATABASE).read_bytes()
    memory.close()
    (tmp_path / base.DATABASE).write_bytes(whole)
    (tmp_path / f"{base.DATABASE}-wal").write_bytes(log)  # as a crash leaves it
    restore(tmp_path)
    assert held(tmp_path / base.DATABASE) == ["ep-00000001"]
    (kept,) = tmp_path.glob("damaged-*.db")
    assert held(kept) == ["ep-00000001", "ep-00000002"], "the old one is kept whole"
