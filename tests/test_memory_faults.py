from __future__ import annotations

import errno
import os
import resource
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from memory import base, codec, journal, store
from memory.errors import Conflict, Damaged, NotFound, StorageFull
from memory.store import Memory, MemorySettings, restore
from memory_fakes import adapter, episode

HERE = Path(__file__).parent


class Disk:
    """A journal's disk that can be full."""

    def __init__(self) -> None:
        self.room: int | None = None  # bytes it still takes; None: any number

    def write(self, fd: int, data: bytes) -> int:
        if self.room is None:
            return os.write(fd, data)
        if self.room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = os.write(fd, data[: self.room])
        self.room -= taken
        return taken


def test_a_full_disk_refuses_the_new_and_keeps_the_old(tmp_path: Path) -> None:
    disk = Disk()
    memory = Memory.open(tmp_path, write=disk.write)
    memory.remember(episode(1))
    disk.room = 100
    with pytest.raises(StorageFull, match="free disk space") as half:
        memory.remember(episode(2))
    with pytest.raises(StorageFull):
        memory.remember(episode(3))
    assert half.value.retry_after_s is not None
    disk.room = None
    memory.remember(episode(4))
    memory.close()
    with Memory.open(tmp_path) as again:
        assert [e.ask.id for e in again.episodes()] == ["ep-00000004", "ep-00000001"]
        assert again.events() == []


def test_a_half_written_line_that_cannot_be_cut_off_spoils_no_other(tmp_path: Path) -> None:
    disk, lines = Disk(), []
    whole = journal.Journal(tmp_path, 1 << 20, disk.write)
    whole.append("episode", b'{"n":1}')
    disk.room = 9
    whole._cut = lambda: setattr(whole, "_dirty", True)  # type: ignore[method-assign]
    with pytest.raises(StorageFull):
        whole.append("episode", b'{"n":2}')
    disk.room = None
    whole.append("episode", b'{"n":3}')
    lines = [line for segment in journal.segments(tmp_path) for line in journal.read(segment)]
    assert [(line.body, line.torn) for line in lines] == [
        (b'{"n":1}', False),
        (b'{"kind":"', True),
        (b'{"n":3}', False),
    ]


def test_a_real_limit_on_file_size_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from memory_fakes import episode
from memory.errors import StorageFull
from memory.store import Memory
memory = Memory.open(Path(sys.argv[1]))
n = 0
try:
    while True:
        memory.remember(episode(n))
        n += 1
except StorageFull:
    print(n, flush=True)
import os
os._exit(9)
"""
    Memory.open(tmp_path).close()

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    child = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        preexec_fn=limit,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)])},
        timeout=60,
        check=False,
    )
    acknowledged = int(child.stdout)
    assert acknowledged > 10, child.stderr.decode()
    with Memory.open(tmp_path) as memory:
        assert memory.counts()["episodes"] == acknowledged
        assert memory.outcomes()[-1].episode_id == f"ep-{acknowledged - 1:08d}"


def test_the_writer_keeps_what_the_database_refuses_and_tries_again(tmp_path: Path) -> None:
    with Memory.open(tmp_path) as memory:
        writer = memory._writing()
        pages = writer._con.execute("PRAGMA page_count").fetchone()[0]
        memory._write(lambda con: con.execute(f"PRAGMA max_page_count = {pages}"), transaction=False)
        for n in range(200):
            memory.remember(episode(n))
        with pytest.raises(StorageFull, match="full"):
            memory.flush()
        assert "full" in (memory.problem or "")
        assert memory.pending > 0
        with pytest.raises(StorageFull):
            memory.add_adapter(adapter(1))
        release = threading.Event()
        writer._con.execute("PRAGMA max_page_count = 1000000")
        while memory.problem is not None:
            release.wait(0.05)
        memory.flush()
        assert memory.counts()["episodes"] == 200
        assert memory.pending == 0


def test_closing_while_the_disk_refuses_leaves_the_rest_in_the_journal(tmp_path: Path) -> None:
    memory = Memory.open(tmp_path)
    pages = memory._write(lambda con: con.execute("PRAGMA page_count").fetchone()[0])
    memory._write(lambda con: con.execute(f"PRAGMA max_page_count = {pages}"), transaction=False)
    for n in range(200):
        memory.remember(episode(n))
    memory.close()
    with Memory.open(tmp_path) as again:
        assert again.counts()["episodes"] == 200


def test_too_much_waiting_for_a_slow_disk_is_refused(tmp_path: Path) -> None:
    settings = MemorySettings(max_pending=10, commit_every_s=5.0)
    with Memory.open(tmp_path, settings=settings) as memory:
        for n in range(10):
            memory.remember(episode(n))
        with pytest.raises(StorageFull, match="wait for the database"):
            memory.remember(episode(10))
        memory.flush()
        memory.remember(episode(99))
        assert memory.episode("ep-00000099").ask.id == "ep-00000099"


def test_a_torn_line_is_dropped_and_noted(tmp_path: Path) -> None:
    Memory.open(tmp_path).close()
    whole = b'{"kind":"episode","body":%s}\n' % codec.encode(episode(1))
    (tmp_path / "journal" / "0000000007.jsonl").write_bytes(whole + whole.replace(b"00001", b"00002")[:-40])
    with Memory.open(tmp_path) as memory:
        assert [e.ask.id for e in memory.episodes()] == ["ep-00000001"]
        (event,) = memory.events()
        assert (event.who, event.what) == ("memory", "journal")
        assert "torn" in event.why


def test_a_line_that_is_no_record_is_put_aside_and_noted(tmp_path: Path) -> None:
    Memory.open(tmp_path).close()
    line = b'{"kind":"episode","body":{"ask":1}}\n{"kind":"dream","body":{}}\n'
    (tmp_path / "journal" / "0000000007.jsonl").write_bytes(line)
    with Memory.open(tmp_path) as memory:
        assert memory.counts()["episodes"] == 0
        assert len(memory.events()) == 2
    assert (tmp_path / "journal" / journal.REJECTED).read_bytes().count(b"\n") == 2


def test_a_record_no_database_takes_does_not_stop_the_others(tmp_path: Path) -> None:
    with Memory.open(tmp_path) as memory:
        memory.remember(episode(1))
        memory.remember(episode(2, tokens=2**63))
        memory.remember(episode(3))
        memory.flush()
        assert [e.ask.id for e in memory.episodes()] == ["ep-00000003", "ep-00000001"]
    assert b"ep-00000002" in (tmp_path / "journal" / journal.REJECTED).read_bytes()


def test_replaying_a_journal_twice_changes_nothing(tmp_path: Path) -> None:
    with Memory.open(tmp_path) as memory:
        memory.remember(episode(1))
        memory.remember_feedback("ep-00000001", 0.5, None, "bob")
        memory.flush()
        (segment,) = journal.segments(tmp_path / "journal")
        kept = segment.read_bytes()
    segment.write_bytes(kept + kept)
    with Memory.open(tmp_path) as again:
        assert (again.counts()["episodes"], again.counts()["feedback"], len(again.outcomes())) == (1, 1, 1)


def test_a_second_process_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    with Memory.open(tmp_path) as memory:
        with pytest.raises(Conflict, match=f"process {os.getpid()}"):
            Memory.open(tmp_path)
        memory.remember(episode(1))
        memory.flush()
        with Memory.open(tmp_path, read_only=True) as beside:
            assert beside.episode("ep-00000001") == episode(1)
            assert beside.read_only
            with pytest.raises(Conflict, match="read-only"):
                beside.remember(episode(2))
            memory.remember(episode(3))
            memory.flush()
            assert beside.counts()["episodes"] == 2
    with Memory.open(tmp_path) as after:
        assert after.counts()["episodes"] == 2


def test_reading_an_empty_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no memory"):
        Memory.open(tmp_path, read_only=True)


def test_a_folder_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageFull, match="choose another"):
        Memory.open(tmp_path / "file" / "state")


def damage(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 8192)


def test_a_damaged_database_is_found_and_restored_from_the_newest_backup(tmp_path: Path) -> None:
    with Memory.open(tmp_path) as memory:
        memory.remember(episode(1))
        old = memory.backup()
        memory.remember(episode(2))
        newest = memory.backup()
        memory.remember(episode(3))
        memory.flush()
        lost = [segment.read_bytes() for segment in journal.segments(tmp_path / "journal")]
    damage(tmp_path / base.DATABASE)
    with pytest.raises(Damaged, match=newest.name):
        Memory.open(tmp_path)
    assert restore(tmp_path) == newest
    with Memory.open(tmp_path) as again:
        assert [e.ask.id for e in again.episodes()] == ["ep-00000002", "ep-00000001"]
    assert len(lost) == 1
    assert len(list(tmp_path.glob("damaged-*.db"))) == 1
    assert restore(tmp_path, Path(old.name)) == old
    with Memory.open(tmp_path) as again:
        assert [e.ask.id for e in again.episodes()] == ["ep-00000001"]


def test_a_large_database_is_checked_after_a_crash_alone(tmp_path: Path) -> None:
    settings = MemorySettings(check_mib=0.0)
    Memory.open(tmp_path, settings=settings).close()
    damage(tmp_path / base.DATABASE)  # the time of change tells
    with pytest.raises(Damaged):
        Memory.open(tmp_path, settings=settings)
    assert not (tmp_path / "closed").exists()


def test_a_database_closed_in_order_is_known(tmp_path: Path) -> None:
    Memory.open(tmp_path).close()
    assert store.was_closed(tmp_path)
    assert not store.was_closed(tmp_path), "the mark is used up"


def test_a_damaged_backup_is_passed_over(tmp_path: Path) -> None:
    with Memory.open(tmp_path) as memory:
        memory.remember(episode(1))
        good, bad = memory.backup(), memory.backup()
    damage(bad)
    with pytest.raises(Damaged):
        restore(tmp_path, bad)
    assert restore(tmp_path) == good
    damage(good)
    with pytest.raises(Damaged, match="every backup"):
        restore(tmp_path)
    with pytest.raises(NotFound):
        restore(tmp_path, Path("never.db"))


def test_a_restore_waits_for_no_running_service(tmp_path: Path) -> None:
    with Memory.open(tmp_path) as memory:
        memory.backup()
        with pytest.raises(Conflict):
            restore(tmp_path)


def test_old_backups_are_removed(tmp_path: Path) -> None:
    with Memory.open(tmp_path, settings=MemorySettings(keep_backups=3)) as memory:
        made = [memory.backup() for _ in range(5)]
    assert sorted((tmp_path / "backups").glob("*")) == sorted(made[2:])


def test_a_database_of_another_program_is_damaged(tmp_path: Path) -> None:
    (tmp_path / base.DATABASE).write_bytes(b"not a database" * 1000)
    with pytest.raises(Damaged, match="no backup"):
        Memory.open(tmp_path)


def test_a_flipped_byte_in_a_stored_text_is_found_when_it_is_read(tmp_path: Path) -> None:
    with Memory.open(tmp_path) as memory:
        memory.remember(episode(1))
        memory.flush()
        body = bytearray(memory._rows("SELECT body FROM bodies")[0]["body"])
        body[len(body) // 2] ^= 0xFF
        memory._write(lambda con: con.execute("UPDATE bodies SET body = ?", (bytes(body),)))
        with pytest.raises(Damaged):
            memory.episode("ep-00000001")


def test_a_night_that_died_with_its_process_is_marked(tmp_path: Path) -> None:
    memory = Memory.open(tmp_path)
    memory.start_night("enough lessons")
    with pytest.raises(Conflict, match="under way"):
        memory.start_night("again")
    memory.close()
    with Memory.open(tmp_path) as again:
        assert [n.outcome for n in again.nights()] == ["interrupted"]
        again.finish_night(again.start_night("cron"), "rejected", {"why": "gate"}, "sn-0001-a")
        assert again.nights()[0].report == {"why": "gate"}


def test_foreign_keys_hold(tmp_path: Path) -> None:
    with Memory.open(tmp_path) as memory, pytest.raises(sqlite3.IntegrityError):
        memory._write(lambda con: con.execute("INSERT INTO bodies VALUES (99, x'00')"))
