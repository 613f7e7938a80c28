from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory import journal
from memory.journal import Journal
from memory.store import Memory, MemorySettings
from memory_fakes import episode


def test_a_line_is_one_write(tmp_path: Path) -> None:
    writes: list[bytes] = []

    def write(fd: int, data: bytes) -> int:
        writes.append(data)
        return os.write(fd, data)

    lines = Journal(tmp_path, 1 << 20, write)
    lines.append("episode", b"{}")
    lines.append("audit", b'{"a":"line\\nbreak"}')
    assert writes == [b'{"kind":"episode","body":{}}\n', b'{"kind":"audit","body":{"a":"line\\nbreak"}}\n']
    (segment,) = journal.segments(tmp_path)
    assert [(line.kind, line.body) for line in journal.read(segment)] == [
        ("episode", b"{}"),
        ("audit", b'{"a":"line\\nbreak"}'),
    ]


def test_a_segment_goes_when_all_its_lines_are_committed(tmp_path: Path) -> None:
    lines = Journal(tmp_path, 60)
    for _ in range(5):
        lines.append("episode", b'{"n":1}')
    assert len(journal.segments(tmp_path)) == 3
    assert lines.settled(committed=1) == []
    assert [p.name for p in lines.settled(committed=3)] == ["0000000001.jsonl"]
    assert [p.name for p in lines.settled(committed=5)] == ["0000000002.jsonl"]
    lines.rotate()
    assert [p.name for p in lines.settled(committed=5)] == ["0000000003.jsonl"]


def test_a_new_process_begins_a_new_segment(tmp_path: Path) -> None:
    Journal(tmp_path, 1000).append("episode", b"{}")
    Journal(tmp_path, 1000).append("episode", b"{}")
    assert [p.name for p in journal.segments(tmp_path)] == ["0000000001.jsonl", "0000000002.jsonl"]


def test_an_erased_segment_was_overwritten(tmp_path: Path) -> None:
    lines = Journal(tmp_path, 1000)
    lines.append("episode", b'{"secret":1}')
    (segment,) = journal.segments(tmp_path)
    other = tmp_path / "link"
    other.hardlink_to(segment)
    journal.erase(segment)
    assert set(other.read_bytes()) == {0}
    assert not segment.exists()


def test_the_journal_stays_small_under_load(tmp_path: Path) -> None:
    with Memory.open(tmp_path, settings=MemorySettings(journal_mib=0.02)) as memory:
        for n in range(300):
            memory.remember(episode(n))
        memory.flush()
        memory.flush()  # segments are dropped after the commit that the first one waited for
        assert memory.counts()["journal_bytes"] < 0.05 * 2**20
        assert memory.counts()["episodes"] == 300


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_in_a_segment_are_read_without_a_fault(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    segment = tmp_path_factory.mktemp("journal") / "0000000001.jsonl"
    segment.write_bytes(data)
    found = list(journal.read(segment))
    assert sum(len(line.body) for line in found) <= len(data)
    assert all(line.torn or line.body for line in found) or b'"body":}' in data


@settings(max_examples=15, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_in_a_segment_do_not_stop_the_start(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    state_dir = tmp_path_factory.mktemp("state")
    (state_dir / "journal").mkdir()
    (state_dir / "journal" / "0000000001.jsonl").write_bytes(data)
    with Memory.open(state_dir) as memory:
        memory.remember(episode(1))
        assert memory.episode("ep-00000001") == episode(1)
