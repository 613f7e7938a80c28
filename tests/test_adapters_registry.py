"""After any crash, folders and rows agree again."""

from __future__ import annotations

import os
from pathlib import Path

from adapters.manifest import MANIFEST, WEIGHTS
from adapters.process import HIDDEN
from adapters.registry import adapter_of, manifests, next_number, prune, reconcile
from adapters_fakes import BASE, FakeRows, made_adapter
from memory.records import AdapterStatus

DEAD = 2**22 + 1  # above the largest pid of Linux


def test_what_agrees_is_left_alone(tmp_path: Path) -> None:
    rows = FakeRows(adapter_of(made_adapter(tmp_path, 1), "won", AdapterStatus.LIVE))
    assert not reconcile(rows, tmp_path, BASE).changed
    assert rows.adapters()[0].status is AdapterStatus.LIVE


def test_unfinished_folders_are_removed_and_a_running_trainers_kept(tmp_path: Path) -> None:
    for name in (f"{HIDDEN}0001-{DEAD}", f"{HIDDEN}0002-{os.getpid()}", "sn-0003-abcdef"):
        (tmp_path / name).mkdir()
        (tmp_path / name / WEIGHTS).write_bytes(b"half")
    told = reconcile(FakeRows(), tmp_path, BASE)
    assert set(told.removed) == {f"{HIDDEN}0001-{DEAD}", "sn-0003-abcdef"}
    assert [p.name for p in tmp_path.iterdir()] == [f"{HIDDEN}0002-{os.getpid()}"]


def test_a_whole_folder_without_a_row_becomes_a_candidate(tmp_path: Path) -> None:
    manifest, rows = made_adapter(tmp_path, 1), FakeRows()
    assert reconcile(rows, tmp_path, BASE).adopted == (manifest.name,)
    assert rows.rows[manifest.name].status is AdapterStatus.CANDIDATE
    assert not reconcile(rows, tmp_path, BASE).changed


def test_an_unknown_folder_of_another_base_is_reported_and_kept(tmp_path: Path) -> None:
    manifest, rows = made_adapter(tmp_path, 1, base="sha256:other"), FakeRows()
    ((name, why),) = reconcile(rows, tmp_path, BASE).unknown
    assert name == manifest.name
    assert "another" in why or "made for" in why
    assert (tmp_path / name).exists()


def test_a_damaged_live_adapter_is_quarantined_and_the_base_answers(tmp_path: Path) -> None:
    manifest = made_adapter(tmp_path, 1)
    rows = FakeRows(adapter_of(manifest, "won", AdapterStatus.LIVE))
    (tmp_path / manifest.name / WEIGHTS).write_bytes(b"changed")
    ((name, why),) = reconcile(rows, tmp_path, BASE).quarantined
    assert name == manifest.name
    assert "its files were changed" in why
    assert rows.rows[name].status is AdapterStatus.QUARANTINED


def test_a_row_without_a_folder_is_quarantined_unless_it_was_pruned(tmp_path: Path) -> None:
    kept, lost = made_adapter(tmp_path / "elsewhere", 1), made_adapter(tmp_path / "elsewhere", 2)
    rows = FakeRows(adapter_of(kept, "old", AdapterStatus.RETIRED), adapter_of(lost, "new"))
    told = reconcile(rows, tmp_path / "adapters", BASE)
    assert [name for name, _ in told.quarantined] == [lost.name]
    assert rows.rows[kept.name].status is AdapterStatus.RETIRED


def test_adapters_of_another_base_keep_their_status(tmp_path: Path) -> None:
    manifest = made_adapter(tmp_path, 1, base="sha256:other")
    rows = FakeRows(adapter_of(manifest, "won elsewhere", AdapterStatus.LIVE))
    assert not reconcile(rows, tmp_path, BASE).quarantined


def test_numbers_are_above_rows_and_folders(tmp_path: Path) -> None:
    assert next_number(FakeRows(), tmp_path / "none") == 1
    made_adapter(tmp_path, 4)
    assert next_number(FakeRows(), tmp_path) == 5
    (tmp_path / f"{HIDDEN}0009-{DEAD}").mkdir()
    assert next_number(FakeRows(), tmp_path) == 10


def test_prune_keeps_the_newest_and_whatever_may_answer(tmp_path: Path) -> None:
    made = [made_adapter(tmp_path, n) for n in range(1, 6)]
    statuses = [AdapterStatus.LIVE, *[AdapterStatus.RETIRED] * 3, AdapterStatus.CANDIDATE]
    rows = FakeRows(*(adapter_of(m, "", s) for m, s in zip(made, statuses, strict=True)))
    assert prune(rows, tmp_path, keep=1) == (made[1].name, made[2].name)
    assert [m.number for m in manifests(tmp_path)] == [1, 4, 5]
    assert len(rows.adapters()) == 5
    assert prune(rows, tmp_path, keep=1) == ()


def test_a_damaged_manifest_is_not_listed(tmp_path: Path) -> None:
    one, two = made_adapter(tmp_path, 1), made_adapter(tmp_path, 2)
    (tmp_path / one.name / MANIFEST).write_text("{")
    assert [m.name for m in manifests(tmp_path)] == [two.name]
