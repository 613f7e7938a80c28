from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from memory import base, ingest, migrations
from memory.codec import encode
from memory.errors import Damaged
from memory.ingest import Item
from memory.store import Memory
from memory_fakes import accepted, episode

NEWEST = len(migrations.MIGRATIONS)


@pytest.mark.parametrize("start", range(1, NEWEST))
def test_every_older_schema_moves_forward_with_its_rows(tmp_path: Path, start: int) -> None:
    path = tmp_path / base.DATABASE
    migrations.apply(path, 0, start, now=1.0)
    with closing(base.connect(path)) as con:
        for n in range(3):
            ingest.insert(con, Item(episode(n), encode(episode(n))))
    with Memory.open(tmp_path, clock=lambda: 7.0) as memory:
        assert [e.ask.id for e in memory.episodes()] == ["ep-00000002", "ep-00000001", "ep-00000000"]
        memory.remember(accepted(9))
        memory.forget(episode_id="ep-00000001")
        assert len(memory.outcomes()) == 3
    assert migrations.version(path) == NEWEST
    with closing(sqlite3.connect(path)) as con:
        assert con.execute("SELECT number FROM migrations").fetchall() == [(n + 1,) for n in range(NEWEST)]


def test_the_original_is_kept_as_a_backup(tmp_path: Path) -> None:
    migrations.apply(tmp_path / base.DATABASE, 0, 1, now=1.0)
    Memory.open(tmp_path, clock=lambda: 7.0).close()
    (backup,) = (tmp_path / "backups").glob("before-schema-*.db")
    assert migrations.version(backup) == 1


def test_a_step_that_fails_leaves_the_original(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / base.DATABASE
    migrations.apply(path, 0, 1, now=1.0)

    def broken(db: migrations.Db) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(migrations, "MIGRATIONS", (migrations.episodes, broken))
    with pytest.raises(sqlite3.OperationalError):
        migrations.bring_forward(path, tmp_path / "backups", now=2.0)
    assert migrations.version(path) == 1
    monkeypatch.undo()
    Memory.open(tmp_path).close()
    assert migrations.version(path) == NEWEST


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / base.DATABASE
    Memory.open(tmp_path).close()
    with closing(sqlite3.connect(path)) as con:
        con.execute("INSERT INTO migrations VALUES (99, 'tomorrow', 0)")
        con.commit()
    with pytest.raises(Damaged, match="newer version"):
        Memory.open(tmp_path)


@pytest.mark.parametrize(
    ("sql", "index"),
    [
        ("SELECT seq FROM episodes WHERE id = 'x'", "idx_episodes_id"),
        ("SELECT id FROM episodes WHERE prompt_key = 'x'", "idx_episodes_prompt_key"),
        ("SELECT * FROM episodes WHERE skill = 'x' AND asked_at > 1", "idx_episodes_skill_asked_at"),
        ("SELECT * FROM episodes WHERE source = 'x'", "idx_episodes_source_asked_at"),
        ("SELECT * FROM episodes WHERE adapter = 'x'", "idx_episodes_adapter_asked_at"),
        ("SELECT * FROM audits WHERE episode = 1", "idx_audits_episode"),
        ("SELECT * FROM feedback WHERE episode = 1", "idx_feedback_episode"),
        ("SELECT * FROM lessons WHERE episode_id = 'x'", "idx_lessons_episode_id"),
    ],
)
def test_queries_use_their_index(tmp_path: Path, sql: str, index: str) -> None:
    with Memory.open(tmp_path) as memory:
        plan = memory._rows(f"EXPLAIN QUERY PLAN {sql}")
        assert index in " ".join(str(row["detail"]) for row in plan)
