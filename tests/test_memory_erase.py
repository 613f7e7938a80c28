from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from memory import base
from memory.errors import BadInput, NotFound
from memory.store import Memory
from memory_fakes import accepted, adapter, audit, episode, lesson

SECRET = "the blue heron flies at noon"


@pytest.fixture
def memory(tmp_path: Path):
    with Memory.open(tmp_path, clock=lambda: 5_000_000.0) as opened:
        for n in range(10):
            opened.remember(episode(n, source="mallory" if n < 4 else "alice"))
        opened.remember(accepted(10, reply=SECRET))
        opened.remember_audit(audit(episode(1)))
        opened.remember_feedback("ep-00000001", 0.0, "wrong", "alice")
        opened.remember_feedback("ep-00000008", 0.0, "wrong", "mallory")
        opened.add_adapter(adapter(1))
        opened.add_adapter(adapter(2))
        opened.record_lessons("sn-0001-000001", [lesson(episode(1)), lesson(episode(7))])
        opened.record_lessons("sn-0002-000002", [lesson(episode(7))])
        opened.quarantine("ep-00000002", "odd")
        yield opened


def everything_on_disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_a_source_is_forgotten_everywhere(memory: Memory) -> None:
    receipt = memory.forget(source="mallory")
    assert receipt.counts["episodes"] == 4
    assert receipt.counts["feedback"] == 2
    assert receipt.counts["lessons"] == 1
    assert receipt.adapters == ("sn-0001-000001",)
    assert memory.episodes(source="mallory") == []
    assert memory.lessons_of("sn-0001-000001") == ["ep-00000007"]
    assert memory.quarantined() == []
    assert memory.feedback("ep-00000008") == []
    assert len(memory.outcomes()) == 7
    assert memory.episode("ep-00000007") == episode(7, source="alice")
    with pytest.raises(NotFound):
        memory.episode("ep-00000001")


def test_nothing_of_a_forgotten_text_is_left_in_any_file(memory: Memory, tmp_path: Path) -> None:
    memory.backup()
    memory.flush()
    assert SECRET.encode() in everything_on_disk(tmp_path)
    receipt = memory.forget(text=SECRET.upper())
    assert receipt.counts["episodes"] == 1
    assert SECRET.encode() not in everything_on_disk(tmp_path)
    assert SECRET.encode() not in receipt.what_hash.encode()
    assert memory.verify_receipt(receipt.id, what=SECRET.upper()).ok


def test_a_backup_is_scrubbed_too(memory: Memory, tmp_path: Path) -> None:
    backup = memory.backup()
    memory.forget(source="mallory")
    with base.closing(base.connect(backup, read_only=True)) as con:
        assert con.execute("SELECT count(*) FROM episodes WHERE source = 'mallory'").fetchone()[0] == 0
        assert con.execute("SELECT count(*) FROM episodes").fetchone()[0] == 7


def test_one_episode_is_forgotten(memory: Memory) -> None:
    receipt = memory.forget(episode_id="ep-00000001")
    assert receipt.counts["audits"] == 1
    assert len(memory.episodes()) == 10
    assert memory.receipts() == [receipt]


def test_a_receipt_can_be_checked_later(memory: Memory) -> None:
    receipt = memory.forget(source="mallory")
    assert memory.verify_receipt(receipt.id).ok
    assert memory.verify_receipt(receipt.id, what="mallory").ok
    assert not memory.verify_receipt(receipt.id, what="bob").ok
    memory.remember(episode(50, source="mallory", asked_at=6_000_000.0))
    assert memory.verify_receipt(receipt.id).ok, "a new request is no remainder"
    memory.remember(episode(2, source="mallory"))
    check = memory.verify_receipt(receipt.id)
    assert not check.ok
    assert check.remains >= 1


def test_a_receipt_that_was_changed_is_found_out(memory: Memory) -> None:
    receipt = memory.forget(source="mallory")
    from memory import codec

    forged = codec.encode(replace(receipt, adapters=())).decode()
    memory._write(lambda con: con.execute("UPDATE receipts SET body = ?", (forged,)))
    assert "changed" in memory.verify_receipt(receipt.id).reason


def test_what_was_forgotten_does_not_come_back_at_the_next_start(memory: Memory, tmp_path: Path) -> None:
    memory.forget(source="mallory")
    memory.close()
    with Memory.open(tmp_path) as again:
        assert again.episodes(source="mallory") == []


def test_requests_go_on_while_something_is_forgotten(memory: Memory) -> None:
    for n in range(100, 400):
        memory.remember(episode(n, source="bob"))
    memory.forget(source="mallory")
    memory.flush()
    assert len(memory.episodes(source="bob", limit=1000)) == 300
    assert memory.pending == 0


@pytest.mark.parametrize("what", [{}, {"source": "a", "text": "long enough"}, {"text": "abc"}, {"source": " "}])
def test_an_unclear_wish_is_refused(memory: Memory, what: dict[str, str]) -> None:
    with pytest.raises(BadInput):
        memory.forget(**what)
    assert memory.counts()["episodes"] == 11


def test_forgetting_what_is_not_held_says_so(memory: Memory) -> None:
    with pytest.raises(NotFound, match="nothing is held"):
        memory.forget(source="nobody")


def test_old_text_is_blanked_and_the_numbers_stay(memory: Memory, tmp_path: Path) -> None:
    memory.remember(episode(20, asked_at=4_999_999.0))
    memory.flush()
    outcomes = memory.outcomes()
    assert memory.blank_older(days=1.0) == 11
    assert memory.blank_older(days=1.0) == 0
    assert SECRET.encode() not in everything_on_disk(tmp_path)
    old, new = memory.episode("ep-00000001"), memory.episode("ep-00000020")
    assert new.reply == "The total is 184."
    assert (old.reply, old.ask.messages[1]) == ("", {"role": "user", "content": ""})
    assert old.deliberation is not None
    assert {a.text for a in old.deliberation.attempts} == {""}
    assert old.draft is not None
    assert old.draft.signals == episode(1).draft.signals
    assert memory.outcomes() == outcomes
    assert memory.feedback("ep-00000001")[0].correction is None
    assert memory.lessons("sn-0001-000001")[0].answer == ""
    assert [e.ask.id for e in memory.taught()] == ["ep-00000020"]
    assert memory.audits("ep-00000001")[0].deliberation.text == ""


def test_export_holds_everything_about_a_source(memory: Memory) -> None:
    held = memory.export_source("mallory")
    assert [e["ask"]["id"] for e in held["episodes"]] == [f"ep-{n:08d}" for n in range(4)]
    assert held["episodes"][0]["deliberation"]["calls"][0]["completions"][0]["text"].startswith("Step by step")
    assert [a["episode_id"] for a in held["audits"]] == ["ep-00000001"]
    assert memory.export_source("alice")["quarantine"] == []
    assert {f["source"] for f in held["feedback"]} == {"alice", "mallory"}
    assert [x["episode_id"] for x in held["lessons"]] == ["ep-00000001"]
    assert [(q["episode_id"], q["reason"]) for q in held["quarantine"]] == [("ep-00000002", "odd")]
    assert held["adapters"] == ["sn-0001-000001"]
    with pytest.raises(NotFound):
        memory.export_source("nobody")
