from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from memory.errors import BadInput, Conflict, NotFound
from memory.records import Grade, RouteDecision, System
from memory.store import Memory
from memory_fakes import accepted, audit, completion, deliberation, episode


@pytest.fixture
def memory(tmp_path: Path):
    with Memory.open(tmp_path, clock=lambda: 5_000_000.0) as opened:
        yield opened


def test_an_episode_comes_back_equal_with_every_inner_call(memory: Memory) -> None:
    kept = episode(7)
    memory.remember(kept)
    assert memory.episode(kept.ask.id) == kept


def test_an_episode_of_a_moment_ago_is_found_before_its_group_is_committed(tmp_path: Path) -> None:
    from memory.store import MemorySettings

    with Memory.open(tmp_path, settings=MemorySettings(commit_every_s=5.0)) as memory:
        memory.remember(episode(1))
        assert memory.episode("ep-00000001").ask.skill == "sums"


def test_an_unknown_episode_is_not_found(memory: Memory) -> None:
    with pytest.raises(NotFound, match="ep-nothing"):
        memory.episode("ep-nothing")


def test_remembering_twice_keeps_one(memory: Memory) -> None:
    memory.remember(episode(1))
    memory.remember(episode(1, reply="another"))
    memory.flush()
    assert memory.counts()["episodes"] == 1
    assert memory.episode("ep-00000001").reply == "The total is 184."


def test_what_json_cannot_hold_is_refused_and_what_it_nearly_holds_is_kept(memory: Memory) -> None:
    with pytest.raises(BadInput):
        memory.remember(episode(1, params={"f": object()}))
    memory.remember(episode(2, messages=({"role": "user", "content": "broken \ud800 text"},)))
    assert memory.episode("ep-00000002").ask.messages[0]["content"] == "broken ? text"


def test_filters_and_pages(memory: Memory) -> None:
    for n in range(20):
        memory.remember(episode(n, skill="sums" if n % 2 else "dates", source="bob" if n < 5 else "alice"))
    memory.remember(accepted(20, adapter=None, heldout=True))
    memory.flush()
    assert [e.ask.id for e in memory.episodes(limit=2)] == ["ep-00000020", "ep-00000019"]
    assert [e.ask.id for e in memory.episodes(limit=1, after="ep-00000003")] == ["ep-00000002"]
    assert len(memory.episodes(skill="dates")) == 10
    assert len(memory.episodes(source="bob", skill="sums")) == 2
    assert [e.ask.id for e in memory.episodes(system="system1")] == ["ep-00000020"]
    assert [e.ask.id for e in memory.episodes(heldout=True)] == ["ep-00000020"]
    assert len(memory.episodes(adapter="sn-0001-aaaaaa")) == 20
    assert len(memory.episodes(since=1_000_005.0, until=1_000_008.0)) == 3


def test_text_is_found_in_prompts_and_inner_calls_whatever_its_case(memory: Memory) -> None:
    memory.remember(episode(3, reply='she said "Grüß Gott"\nand left'))
    memory.remember(episode(4))
    memory.flush()
    assert [e.ask.id for e in memory.episodes(text="WHAT IS 4 + 81")] == ["ep-00000004"]
    assert len(memory.episodes(text="sample 2: the total")) == 2
    assert [e.ask.id for e in memory.episodes(text='"grüß gott"\nAND')] == ["ep-00000003"]
    assert memory.episodes(text="no such words") == []


def test_audits_come_back_and_change_the_outcome(memory: Memory) -> None:
    first, second = accepted(1), accepted(2)
    memory.remember(first)
    memory.remember(second)
    check = audit(first, answer="185")
    memory.remember_audit(check)
    memory.remember_audit(check)
    assert memory.audits(first.ask.id) == [check]
    before, after = memory.outcomes()[1], memory.outcomes()[0]
    assert (before.agrees, before.s2_tokens, before.s2_seconds) == (None, None, None)
    assert (after.agrees, after.s2_tokens, after.s2_seconds) == (False, 48, 2.5)


def test_an_audit_of_an_unknown_episode_is_dropped(memory: Memory) -> None:
    memory.remember_audit(audit(episode(9)))
    memory.flush()
    assert memory.counts()["audits"] == 0


def test_an_outcome_holds_what_was_logged(memory: Memory) -> None:
    kept = episode(1)
    memory.remember(kept)
    memory.flush()
    (found,) = memory.outcomes()
    assert kept.draft is not None
    assert found.signals == kept.draft.signals
    assert (found.episode_id, found.skill, found.adapter) == ("ep-00000001", "sums", "sn-0001-aaaaaa")
    assert (found.confidence, found.threshold, found.propensity) == (0.4, 0.8, 1.0)
    assert (found.agrees, found.s1_tokens, found.s2_tokens, found.heldout) == (True, 12, 48, False)
    assert (found.s1_seconds, found.s2_seconds, found.asked_at) == (0.25, 2.5, 1_000_001.0)


def test_a_verdict_nobody_understood_observes_no_agreement(memory: Memory) -> None:
    memory.remember(episode(1, deliberation=deliberation(None, Grade.NONE)))
    memory.remember(episode(2, draft=None))
    memory.flush()
    (found,) = memory.outcomes()
    assert found.agrees is None
    assert found.s2_tokens == 48


def test_columns_are_the_outcomes(memory: Memory) -> None:
    for n in range(2500):  # more than two chunks
        memory.remember(accepted(n, skill=f"skill {n % 3}", adapter=None if n % 5 == 0 else "sn-0001-aaaaaa"))
    memory.flush()
    columns, records = memory.outcome_columns(), memory.outcomes()
    assert len(records) == 2500
    assert [r.asked_at for r in records] == columns["asked_at"].tolist()
    assert [r.skill for r in records] == columns["names"][columns["skill"]].tolist()
    assert [r.adapter is None for r in records] == (columns["adapter"] == -1).tolist()
    assert np.isnan(columns["s2_seconds"]).all()
    assert (columns["agrees"] == -1).all()


def test_columns_are_filtered(memory: Memory) -> None:
    for n in range(40):
        memory.remember(episode(n, skill=f"skill {n % 4}", heldout=n % 10 == 0))
    memory.flush()
    assert len(memory.outcome_columns(skill="skill 1")["seq"]) == 10
    assert len(memory.outcome_columns(skill="never seen")["seq"]) == 0
    assert len(memory.outcome_columns(heldout=True)["seq"]) == 4
    assert len(memory.outcome_columns(since=1_000_030.0)["seq"]) == 10
    assert set(memory.outcome_columns(only=["confidence"])) == {"confidence", "names"}
    assert len(memory.outcomes(skill="skill 0", heldout=True)) == 2


def test_taught_gives_the_deliberation_that_counts(memory: Memory) -> None:
    serve = episode(1, deliberation=deliberation("184", Grade.SERVE))
    for kept in (episode(0), serve, accepted(2), accepted(3), episode(4, heldout=True), episode(5)):
        memory.remember(kept)
    better = audit(serve, "185")
    memory.remember_audit(better)
    memory.remember_audit(audit(accepted(2), grade=Grade.SERVE))
    memory.remember_audit(audit(accepted(3), "186", at=1.0))
    memory.remember_audit(audit(accepted(3), "187", at=2.0))
    memory.flush()
    memory.quarantine("ep-00000005", "looks like an injection")
    taught = {e.ask.id: e.deliberation for e in memory.taught()}
    assert set(taught) == {"ep-00000000", "ep-00000001", "ep-00000003"}
    assert taught["ep-00000001"] == replace(better.deliberation, calls=())  # a lesson has nothing of the calls
    assert taught["ep-00000003"] == replace(deliberation("187"), calls=())
    assert all(e.draft is None for e in memory.taught())
    rewritten = deliberation("188")
    rewritten = replace(rewritten, calls=tuple(replace(call, stage="rewrite") for call in rewritten.calls))
    memory.remember(replace(episode(6), deliberation=rewritten))
    memory.flush()
    kept = {e.ask.id: e.deliberation for e in memory.taught()}["ep-00000006"]
    assert kept is not None
    assert kept.calls == rewritten.calls, "curation reads what s2a was really asked"
    memory.quarantine("ep-00000006", "done with it")
    assert memory.count_taught() == 3
    assert [e.ask.id for e in memory.taught(heldout=True)] == ["ep-00000004"]
    assert len(memory.taught(heldout=None)) == 4
    memory.release("ep-00000005")
    assert len(memory.taught(since=1_000_003.0)) == 2


def test_more_taught_episodes_than_one_read_holds(memory: Memory) -> None:
    for n in range(1203):
        memory.remember(episode(n, deliberation=deliberation(samples=1)))
    memory.flush()
    assert [e.ask.id for e in memory.each_taught()] == [f"ep-{n:08d}" for n in range(1203)]


def test_feedback_needs_an_episode_and_a_score_in_range(memory: Memory) -> None:
    memory.remember(episode(1))
    memory.remember_feedback("ep-00000001", 0.25, None, "bob")
    memory.remember_feedback("ep-00000001", None, "It is 239.", "alice")
    found = memory.feedback("ep-00000001")
    assert [(f.score, f.correction, f.source) for f in found] == [(0.25, None, "bob"), (None, "It is 239.", "alice")]
    assert memory.feedback_scores() == {"ep-00000001": 0.25}
    with pytest.raises(NotFound):
        memory.remember_feedback("ep-nothing", 1.0, None, "bob")
    with pytest.raises(BadInput):
        memory.remember_feedback("ep-00000001", 1.5, None, "bob")
    with pytest.raises(BadInput):
        memory.remember_feedback("ep-00000001", None, None, "bob")


def test_a_practised_prompt_is_known_by_its_key(memory: Memory) -> None:
    memory.remember(episode(1))
    memory.remember(accepted(2))
    memory.flush()
    assert memory.answered_key(episode(1).ask.prompt_key, "sums", "cot", "") == ("ep-00000001", "train")
    assert memory.answered_key(accepted(2).ask.prompt_key, "sums", "cot", "") is None
    assert memory.answered_key("f" * 64, "sums", "cot", "") is None


def test_another_skill_method_or_variant_has_not_answered_a_prompt(memory: Memory) -> None:
    key = episode(1).ask.prompt_key
    both = replace(deliberation(grade=Grade.SERVE), method="rar", variant="send=both")
    memory.remember(episode(1))
    memory.remember(episode(2, prompt_key=key, deliberation=both))
    memory.flush()
    assert memory.answered_key(key, "sums", "cot", "") == ("ep-00000001", "train")
    assert memory.answered_key(key, "sums", "rar", "send=both") == ("ep-00000002", "serve")
    for asked in (("dates", "cot", ""), ("sums", "rar", ""), ("sums", "cot", "variant=two_calls")):
        assert memory.answered_key(key, *asked) is None


def test_infinite_logprobs_stay_infinite(memory: Memory) -> None:
    broken = deliberation()
    odd = episode(1, deliberation=None, draft=None)

    call = replace(broken.calls[1], completions=(replace(completion("x"), logprobs=(float("-inf"), -1.0)),))
    odd = replace(odd, deliberation=replace(broken, calls=(broken.calls[0], call)))
    memory.remember(odd)
    assert memory.episode("ep-00000001") == odd


def test_many_threads_lose_nothing(memory: Memory) -> None:
    def work(first: int) -> None:
        for n in range(first, first + 100):
            memory.remember(episode(n, deliberation=None))
            if n % 25 == 0:
                memory.episode(f"ep-{n:08d}")

    threads = [threading.Thread(target=work, args=(k * 1000,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    memory.flush()
    assert memory.counts()["episodes"] == 800
    assert len(memory.outcome_columns()["seq"]) == 800
    assert memory.pending == 0


def test_counts_say_which_system_answered(memory: Memory) -> None:
    memory.remember(episode(1))
    memory.remember(accepted(2))
    memory.remember(episode(3, decision=RouteDecision(System.SYSTEM1, "asked for", None, None, 0.0)))
    memory.flush()
    counts = memory.counts()
    assert (counts["system1"], counts["system2"]) == (2, 1)
    assert counts["bytes"] > 0


def test_a_closed_memory_says_so_and_reopens_with_everything(tmp_path: Path) -> None:
    memory = Memory.open(tmp_path)
    memory.remember(episode(1))
    memory.close()
    memory.close()
    with pytest.raises(Conflict, match="closed"):
        memory.remember(episode(2))
    with Memory.open(tmp_path) as again:
        assert again.episode("ep-00000001") == episode(1)
        assert again.counts()["journal_bytes"] == 0


def test_the_exam_asks_of_audited_answers_too_and_every_skill_has_its_turn(memory: Memory) -> None:
    checked, unsure, unheard = accepted(1, heldout=True), accepted(2, heldout=True), accepted(3, heldout=True)
    for one in (checked, unsure, unheard, episode(4)):
        memory.remember(one)
    memory.remember_audit(audit(checked, "185", at=2e6))
    memory.remember_audit(audit(checked, "186", Grade.SERVE, at=3e6))
    memory.remember_audit(audit(unsure, "187", Grade.NONE))
    for number in range(10, 30):
        memory.remember(episode(number, skill="dates", heldout=True))
        memory.remember(episode(100 + number, skill="dates", heldout=True, kind="replay"))
        memory.remember(episode(200 + number, skill="dates", heldout=True, prompt_key=f"{29:064x}"))
    memory.flush()
    exam = memory.examinable(4)
    assert [(one.ask.id, one.ask.skill) for one in exam] == [
        ("ep-00000229", "dates"), ("ep-00000028", "dates"), ("ep-00000027", "dates"), ("ep-00000001", "sums"),
    ]  # fmt: skip
    reference = exam[-1].deliberation
    assert reference is not None
    assert (reference.verdict.answer, reference.verdict.grade) == ("185", Grade.TRAIN)
    assert len(memory.examinable(100)) == 21
