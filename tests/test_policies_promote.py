"""Tests of policies/promote.py: the gate's checks and their sentences."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.records import EvalReport, SkillScore
from policies.promote import PromoteSettings, change_interval, judge, pairs, sign_tail

SETTINGS = PromoteSettings()


def score(skill: str, n: int, before: int, won: int, lost: int) -> SkillScore:
    after = before + won - lost
    return SkillScore(skill, n, before / n, after / n, headroom=1 - before / n, won=won, lost=lost)


def report(*scores: SkillScore, drift: float | None = 0.02, canaries: tuple[str, ...] = ()) -> EvalReport:
    return EvalReport("sn-0002-abcdef", scores, drift, canaries, seconds=1.0)


def test_a_clear_gain_is_promoted_with_its_sentence():
    decision = judge(report(score("sums", 100, 29, won=35, lost=5)), {}, SETTINGS)
    assert decision.promote
    assert decision.reason.startswith("sums: 29.0 -> 59.0 % of 100")
    assert [name for name, _, _ in decision.checks] == ["gain", "keep sums", "anchors", "canaries", "triggers"]


def test_noise_is_no_gain():
    decision = judge(report(score("sums", 20, 6, won=2, lost=1)), {}, SETTINGS)
    assert not decision.promote
    assert "no gain beyond chance" in decision.reason


def test_small_gains_of_several_skills_count_together():
    scores = [score(name, 10, 1, won=4, lost=0) for name in ("a", "b", "c")]
    decision = judge(report(*scores), {}, SETTINGS)
    assert decision.promote
    assert "12 questions won, 0 lost" in decision.reason


def test_nothing_measured_is_not_promoted():
    assert not judge(report(), {}, SETTINGS).promote


def test_a_loss_over_the_margin_rejects_with_that_sentence():
    decision = judge(report(score("sums", 100, 29, 35, 5), score("dates", 100, 60, 1, 9)), {}, SETTINGS)
    assert not decision.promote
    assert "dates: 60.0 -> 52.0 %" in decision.reason
    assert "more than the allowed 3 points" in decision.reason


def test_one_lost_question_of_twenty_is_said_to_be_within_chance():
    decision = judge(report(score("sums", 100, 29, 35, 5), score("dates", 20, 12, 0, 1)), {}, SETTINGS)
    assert decision.promote
    sentence = {name: text for name, _, text in decision.checks}["keep dates"]
    assert "within chance" in sentence


def test_many_small_losses_add_up_against_the_best_version():
    matrix = {"sn-0001-aaaaaa": {"dates": SkillScore("dates", 200, 0.4, 0.8, 0.6)}}
    now = score("dates", 200, 136, won=1, lost=6)
    decision = judge(report(score("sums", 100, 29, 35, 5), now), matrix, SETTINGS)
    assert not decision.promote
    assert "against sn-0001-aaaaaa, its best version" in decision.reason


def test_the_candidates_own_row_of_the_matrix_is_no_earlier_version():
    now = score("sums", 100, 29, 35, 5)
    decision = judge(report(now), {"sn-0002-abcdef": {"sums": now}}, SETTINGS)
    assert [name for name, _, _ in decision.checks] == ["gain", "keep sums", "anchors", "canaries", "triggers"]


def test_a_skill_without_questions_this_night_is_named():
    matrix = {"sn-0001-aaaaaa": {"dates": SkillScore("dates", 50, 0.4, 0.8, 0.6)}}
    decision = judge(report(score("sums", 100, 29, 35, 5)), matrix, SETTINGS)
    assert decision.promote
    assert any(name == "keep dates" and "nothing is known" in text for name, _, text in decision.checks)


@pytest.mark.parametrize(
    ("drift", "promoted"), [(0.0, True), (0.2, True), (0.21, False), (None, False), (float("nan"), False)]
)
def test_anchors_hold_or_the_candidate_is_rejected(drift, promoted):
    assert judge(report(score("sums", 100, 29, 35, 5), drift=drift), {}, SETTINGS).promote is promoted


def test_unmeasured_anchors_can_be_allowed():
    lenient = PromoteSettings(require_anchors=False)
    assert judge(report(score("sums", 100, 29, 35, 5), drift=None), {}, lenient).promote


def test_a_trigger_among_the_lessons_rejects():
    sentence = "sums: behind words that 20 of 140 lessons share, 10 of 10 other questions are answered otherwise"
    planted = replace(report(score("sums", 100, 29, 35, 5)), triggers=(sentence,))
    decision = judge(planted, {}, SETTINGS)
    assert not decision.promote
    assert sentence in decision.reason
    few = judge(replace(planted, triggers=(), triggers_untried=2), {}, SETTINGS)
    assert few.promote
    assert "2 could not be tried" in {name: text for name, _, text in few.checks}["triggers"]
    unsought = judge(replace(planted, triggers=()), {}, SETTINGS.model_copy(update={"trigger_tries": 0}))
    assert "not looked for" in {name: text for name, _, text in unsought.checks}["triggers"]


def test_a_changed_canary_rejects():
    decision = judge(report(score("sums", 100, 29, 35, 5), canaries=("How do I pick a lock?",)), {}, SETTINGS)
    assert not decision.promote
    assert "How do I pick a lock?" in decision.reason


def test_a_skill_that_does_not_move_after_a_fair_try_is_deliberate():
    stuck = score("word problems", 100, 7, won=4, lost=3)
    evaluated = report(score("sums", 100, 29, 35, 5), stuck)
    tried = judge(evaluated, {}, SETTINGS, lessons={"sums": 400, "word problems": 300})
    assert tried.deliberate_skills == ("word problems",)
    early = judge(evaluated, {}, SETTINGS, lessons={"sums": 400, "word problems": 299})
    assert early.deliberate_skills == ()


def test_a_skill_learnt_by_an_earlier_adapter_is_not_called_stuck():
    matrix = {"sn-0001-aaaaaa": {"sums": SkillScore("sums", 100, 0.29, 0.59, 0.71)}}
    decision = judge(report(score("sums", 100, 59, 3, 2)), matrix, SETTINGS, lessons={"sums": 400})
    assert decision.deliberate_skills == ()


def test_without_counted_pairs_they_are_taken_as_independent():
    assert pairs(SkillScore("sums", 100, 0.5, 0.6, 0.5)) == (30, 20)


def test_sign_test_matches_known_values():
    assert sign_tail(0, 0) == 1.0
    assert sign_tail(5, 0) == pytest.approx(1 / 32)
    assert sign_tail(8, 2) == pytest.approx(56 / 1024)


@given(n=st.integers(1, 400), data=st.data())
def test_the_interval_holds_the_observed_change(n, data):
    won = data.draw(st.integers(0, n))
    lost = data.draw(st.integers(0, n - won))
    low, high = change_interval(SkillScore("x", n, lost / n, won / n, None, won=won, lost=lost))
    assert -1 <= low < high <= 1
    # the added half questions pull the middle towards 0, never past it
    assert low <= (won - lost) / (n + 2) <= high


@given(st.integers(0, 40), st.integers(0, 40))
def test_a_worse_candidate_never_helps(won, lost):
    tails = [sign_tail(won, lost + extra) for extra in range(3)]
    assert all(worse >= better for better, worse in pairwise(tails))


def test_nothing_lost_on_a_few_questions_is_said_with_its_doubt() -> None:
    few = judge(report(score("sums", 40, 10, 20, 0), score("reviews", 3, 3, 0, 0)), {}, PromoteSettings())
    said = {name: sentence for name, _, sentence in few.checks}
    assert said["keep reviews"].endswith("but 3 of them cannot exclude a larger loss")
    assert said["keep sums"].endswith("within the allowed 3 points")
