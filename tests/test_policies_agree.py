"""Votes, early stop and grades."""

from __future__ import annotations

from collections import Counter
from itertools import product

import pytest

from memory.records import AnswerType, Attempt, Grade
from policies import agree
from policies.agree import AgreementSettings

FOUR_FIRST = AgreementSettings(block=4, stop_confidence=0.95, train_attempts=4)


def attempts(*answers: str | None, perturbation: str | None = None) -> list[Attempt]:
    return [Attempt(a, a or "?", 0, i, perturbation) for i, a in enumerate(answers)]


def test_three_to_nothing_stops_by_default_and_two_to_one_does_not() -> None:
    rule = AgreementSettings()
    assert agree.stop(["7"] * 3, rule).error == pytest.approx(0.0625)
    assert not agree.stop(["7", "7", "8"], rule).stop
    assert agree.needed(["7", "7", "8"], rule) == 2
    assert agree.stop(["7", "7", "8", "7", "7"], rule).stop
    assert agree.verdict(attempts("7", "7", "7"), rule).grade is Grade.TRAIN


def test_four_to_nothing_stops_and_three_to_one_does_not() -> None:
    rule = FOUR_FIRST
    assert agree.stop(["7"] * 4, rule).stop
    assert agree.stop(["7"] * 4, rule).error == pytest.approx(0.03125)
    assert not agree.stop(["7", "7", "7", "8"], rule).stop
    assert agree.stop(["7", "8"] * 4, rule).reason == "all 8 attempts drawn"


def test_unparseable_attempts_are_a_rival() -> None:
    assert not agree.stop(["7", "7", None, None], AgreementSettings()).stop


def test_the_certain_rule_never_changes_the_winner() -> None:
    rule = AgreementSettings(stop="certain", max_samples=6)
    stopped = 0
    for votes in product("ab", repeat=6):
        for n in range(1, 6):
            if agree.stop(votes[:n], rule).stop:
                stopped += 1
                assert Counter(votes[:n]).most_common(1)[0][0] == Counter(votes).most_common(1)[0][0]
                break
    assert stopped == 8 + 16  # 4 to 0, and 4 to 1 with the one among the first four


def test_never_draws_the_cap() -> None:
    assert not agree.stop(["7"] * 7, AgreementSettings(stop="never")).stop


def test_cancel_stops_where_train_grade_is_out_of_reach() -> None:
    votes = ["1", "2", "3", "4"]
    assert not agree.stop(votes, AgreementSettings()).stop
    assert agree.stop(votes, AgreementSettings(cancel=True)).reason.endswith("out of reach")
    assert not agree.stop(["1", "1", "3", "4"], AgreementSettings(cancel=True)).stop


@pytest.mark.parametrize(
    "rule",
    [
        AgreementSettings(),
        AgreementSettings(stop="certain", cancel=True),
        AgreementSettings(block=3, stop_confidence=0.93, cancel=True),
        AgreementSettings(block=2, stop_confidence=0.85, max_samples=7),
    ],
)
def test_no_attempt_is_drawn_that_drawing_one_by_one_would_not_have_drawn(rule: AgreementSettings) -> None:
    fewer_requests = 0
    for votes in product("abc", repeat=rule.max_samples):
        one_by_one = in_draws = agree.needed([], rule)
        requests = 1
        while not agree.stop(votes[:one_by_one], rule).stop:
            one_by_one += 1
        while not agree.stop(votes[:in_draws], rule).stop:
            in_draws += agree.needed(votes[:in_draws], rule)
            requests += 1
        assert in_draws == one_by_one
        fewer_requests += one_by_one - rule.block + 1 - requests
    assert fewer_requests > 0


def test_never_stopping_draws_the_rest_at_once() -> None:
    rule = AgreementSettings(block=4, stop="never", max_samples=9)
    assert [agree.needed(["7"] * n, rule) for n in (0, 4, 9)] == [4, 5, 0]


def test_leader_posterior_is_the_beta_tail() -> None:
    assert agree.leader_posterior(0, 0) == 0.5
    assert agree.leader_posterior(4, 0) == pytest.approx(1 - 0.5**5)
    assert agree.leader_posterior(3, 3) == 0.5


def test_train_grade_needs_share_attempts_and_majority() -> None:
    rule = FOUR_FIRST
    assert agree.verdict(attempts("7", "7", "7", "8"), rule).grade is Grade.TRAIN
    few = agree.verdict(attempts("7", "7", "7"), rule)
    assert (few.grade, few.reason) == (
        Grade.SERVE,
        "3 of 3 attempts agree; not for training: 3 attempts at the question as asked, 4 needed",
    )
    split = agree.verdict(attempts("7", "7", "8", "9"), rule)
    assert (split.answer, split.share, split.grade) == ("7", 0.5, Grade.SERVE)
    assert "no strict majority" in split.reason
    assert "below train_share" in agree.verdict(attempts("7", "7", "7", "8", "9"), rule).reason


def test_unparseable_attempts_win_nothing() -> None:
    verdict = agree.verdict(attempts(None, None, None, "7"), AgreementSettings())
    assert (verdict.answer, verdict.grade, dict(verdict.votes)) == ("7", Grade.SERVE, {"": 3, "7": 1})
    silent = agree.verdict(attempts(None, None), AgreementSettings())
    assert (silent.answer, silent.grade) == (None, Grade.NONE)
    assert agree.verdict([], AgreementSettings()).grade is Grade.NONE


def test_a_perturbation_must_be_there_and_agree() -> None:
    rule = AgreementSettings(perturb=("option_order",))
    plain = attempts("A", "A", "A", "A")
    assert "no attempt under option_order" in agree.verdict(plain, rule).reason
    turned = agree.verdict([*plain, *attempts("B", perturbation="option_order")], rule)
    assert (turned.grade, turned.share) == (Grade.SERVE, 0.8)
    assert "changes under option_order" in turned.reason
    kept = agree.verdict([*plain, *attempts("A", perturbation="option_order")], rule)
    assert (kept.grade, kept.reason) == (
        Grade.TRAIN,
        "5 of 5 attempts agree (4 votes to 0: ahead with posterior 0.969), also under option_order",
    )


def test_serve_share_withholds_a_weak_plurality() -> None:
    verdict = agree.verdict(attempts("1", "2", "3"), AgreementSettings(serve_share=0.5))
    assert verdict.grade is Grade.NONE


def test_free_texts_vote_by_their_words_and_the_chosen_one_wins() -> None:
    said = attempts("Paris is the capital.", "The capital is Paris", "It is Lyon, I think.")
    counted = agree.verdict(said, AgreementSettings(), AnswerType.FREE_TEXT)
    assert (counted.answer, counted.share) == ("Paris is the capital.", pytest.approx(2 / 3))
    chosen = agree.verdict(said, AgreementSettings(), AnswerType.FREE_TEXT, "It is Lyon, I think.")
    assert (chosen.answer, chosen.share) == ("It is Lyon, I think.", pytest.approx(1 / 3))


def test_what_the_model_composed_wins_in_words_that_no_attempt_used_and_is_not_trained_on() -> None:
    said = attempts(*["Paris is the capital."] * 4)
    rule = AgreementSettings(select="usc_compose")
    composed = agree.verdict(said, rule, AnswerType.FREE_TEXT, "France is governed from the city on the Seine.")
    assert (composed.answer, composed.share) == ("France is governed from the city on the Seine.", 0.0)
    assert (composed.grade, dict(composed.votes)) == (Grade.SERVE, {"Paris is the capital.": 4})
    assert composed.reason.startswith("composed by the model; 0 of 4 attempts agree; not for training")
    alike = agree.verdict(said, AgreementSettings(select="usc_select"), AnswerType.FREE_TEXT, "The capital is Paris.")
    assert (alike.grade, alike.reason) == (Grade.TRAIN, "selected by the model; 4 of 4 attempts agree")
    assert agree.verdict(attempts(None, None), rule, AnswerType.FREE_TEXT).grade is Grade.NONE


def test_a_tie_between_two_responses_is_served_and_never_trained_on() -> None:
    judged = agree.verdict(attempts(*"CCCC"), AgreementSettings(), AnswerType.VERDICT)
    assert (judged.answer, judged.share, judged.grade) == ("C", 1.0, Grade.SERVE)
    assert "a tie has no winner to learn" in judged.reason
    assert agree.verdict(attempts(*"BBBB"), AgreementSettings(), AnswerType.VERDICT).grade is Grade.TRAIN
    assert agree.verdict(attempts(*"CCCC"), AgreementSettings(), AnswerType.CHOICE).grade is Grade.TRAIN


def test_a_vote_is_drawn_to_as_many_attempts_as_training_needs() -> None:
    rule = AgreementSettings(train_attempts=4)
    assert not agree.stop(["7"] * 3, rule).stop
    assert agree.needed(["7"] * 3, rule) == 1
    assert agree.verdict(attempts("7", "7", "7", "7"), rule).grade is Grade.TRAIN


def test_no_request_is_for_more_than_a_block_or_eight() -> None:
    rule = AgreementSettings(stop="never", max_samples=64)
    assert agree.needed(["7"] * 3, rule) == 8
    assert agree.needed(["7"] * 3, rule.model_copy(update={"block": 16})) == 16


def test_a_sentence_of_the_early_stop_is_about_the_winner() -> None:
    found = agree.verdict(attempts(None, None, None, None, "7"), AgreementSettings())
    assert (found.answer, found.reason.startswith("1 of 5 attempts agree; not for training")) == ("7", True)
