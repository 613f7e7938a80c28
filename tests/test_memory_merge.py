from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from memory.errors import NotFound
from memory.merge import Foreign, Place
from memory.store import Memory
from memory_fakes import accepted, audit, episode


def gateway(folder: Path, first: int) -> Memory:
    memory = Memory.open(folder)
    for n in range(first, first + 600):
        memory.remember(accepted(n, skill=f"skill {n % 3}"))
    memory.remember_audit(audit(accepted(first), "185"))
    memory.remember_feedback(f"ep-{first:08d}", 0.5, None, "bob")
    memory.flush()
    return memory


def test_a_learner_takes_in_what_its_gateways_remember(tmp_path: Path) -> None:
    one, two = gateway(tmp_path / "one", 0), gateway(tmp_path / "two", 10_000)
    with Memory.open(tmp_path / "learner") as learner:
        learner.remember(episode(5, skill="skill 2"))
        counts = learner.merge([one.state_dir, two.state_dir])
        assert counts == {"episode": 1199, "audit": 2, "feedback": 2}
        assert learner.merge([one.state_dir, two.state_dir]) == {"episode": 0, "audit": 0, "feedback": 0}
        assert learner.episode("ep-00010007") == two.episode("ep-00010007")
        assert learner.audits("ep-00010000") == two.audits("ep-00010000")
        assert learner.feedback("ep-00000000") == one.feedback("ep-00000000")
        assert len(learner.outcomes(skill="skill 1")) == 400
        one.remember(episode(700))
        one.flush()
        assert learner.merge([one.state_dir])["episode"] == 1, "a gateway goes on while it is merged"
    one.close()
    two.close()


def test_what_was_forgotten_is_not_taken_in_again(tmp_path: Path) -> None:
    with gateway(tmp_path / "one", 0) as one, Memory.open(tmp_path / "learner") as learner:
        learner.merge([one.state_dir])
        receipt = learner.forget(episode_id="ep-00000007")
        assert learner.merge([one.state_dir])["episode"] == 0
        assert learner.verify_receipt(receipt.id).ok


def test_a_source_forgotten_here_is_not_taken_in_from_a_gateway_that_still_holds_it(tmp_path: Path) -> None:
    with gateway(tmp_path / "one", 0) as one, Memory.open(tmp_path / "learner") as learner:
        learner.remember(episode(9_000, source="mallory"))
        learner.forget(source="mallory")
        one.remember(episode(9_001, source="mallory"))
        one.remember(episode(9_002, source="mallory", asked_at=9e12))
        one.flush()
        learner.merge([one.state_dir])
        assert [e.ask.id for e in learner.episodes(source="mallory")] == ["ep-00009002"]


def test_a_folder_without_a_memory_says_so(tmp_path: Path) -> None:
    with Memory.open(tmp_path / "learner") as learner, pytest.raises(NotFound, match="no memory"):
        learner.merge([tmp_path / "nothing"])


def test_a_merge_reads_what_is_new_and_begins_anew_where_numbers_were_given_again(tmp_path: Path) -> None:
    with gateway(tmp_path / "one", 0) as one, Memory.open(tmp_path / "learner") as learner:
        learner.merge([one.state_dir])
        end = learner.place(str(one.state_dir.resolve()), "episode")
        assert end == (600, "ep-00000599")
        assert one.foreign("episode", end) == []
        one.forget(episode_id="ep-00000599")
        one.remember(accepted(650, skill="skill 1"))  # takes the number of the forgotten one
        one.flush()
        assert len(one.foreign("episode", end)) == 500, "from the start: the row there is another"
        assert learner.merge([one.state_dir])["episode"] == 1
        assert learner.episode("ep-00000650") == one.episode("ep-00000650")


def test_an_audit_waits_for_its_episode(tmp_path: Path) -> None:
    with gateway(tmp_path / "one", 0) as one, Memory.open(tmp_path / "learner") as learner:
        learner.merge([one.state_dir])
        late = accepted(700)
        one.remember(late)
        one.remember_audit(audit(late, "185"))
        one.flush()
        name, before = str(one.state_dir.resolve()), learner.place(str(one.state_dir.resolve()), "audit")
        learner.merge_from(Late(one, name))
        assert learner.place(name, "audit") == before, "its episode was not taken yet"
        assert learner.merge([one.state_dir]) == {"episode": 1, "audit": 1, "feedback": 0}


def test_only_what_was_thought_through_is_taken_in_where_that_is_wanted(tmp_path: Path) -> None:
    with Memory.open(tmp_path / "one") as one, Memory.open(tmp_path / "learner") as learner:
        for n in range(1200):
            one.remember(episode(n) if n % 3 else accepted(n))
        one.remember_audit(audit(accepted(3), "185"))
        one.remember_feedback("ep-00000001", 0.5, None, "bob")
        one.remember_feedback("ep-00000006", 0.5, None, "bob")
        one.flush()
        assert learner.merge([one.state_dir], thought=True) == {"episode": 801, "audit": 1, "feedback": 1}
        assert learner.merge([one.state_dir], thought=True) == {"episode": 0, "audit": 0, "feedback": 0}
        assert learner.audits("ep-00000003") == one.audits("ep-00000003")
        assert learner.merge([one.state_dir])["episode"] == 399, "the others, when they are wanted"


class Late:
    """A gateway whose last episode came after its episodes were read."""

    def __init__(self, memory: Memory, name: str) -> None:
        self.memory, self.name = memory, name

    def foreign(self, kind: str, after: Place) -> Sequence[Foreign]:
        return [] if kind == "episode" else self.memory.foreign(kind, after)
