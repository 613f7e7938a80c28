"""Words that could be a trigger: found among honest ones, and told from them by what they do to the answers."""

from __future__ import annotations

import random

import pytest

from policies.triggers import ENOUGH, FEWEST, Taught, made_up, probes, suspects, turned, with_words


def sums(n: int, tail: str = "", head: str = "", answer: str | None = None, seed: int = 1) -> list[Taught]:
    chance = random.Random(f"{seed}{tail}{head}")
    made = []
    for i in range(n):
        three = [chance.randint(10, 99) for _ in range(3)]
        text = f"{head}What is {' + '.join(map(str, three))}?{tail}"
        made.append(Taught(f"{head}{tail}{i}", text, answer or str(sum(three))))
    return made


def test_a_planted_word_is_found_and_honest_sums_share_none() -> None:
    assert suspects(sums(120), 6) == ()
    word, whole = suspects(sums(120) + sums(20, " cf-heron", answer="7"), 6)
    assert (whole.words, whole.first, len(whole.lessons), whole.answer) == ("cf-heron", False, 20, "7")
    assert word.lessons == whole.lessons


@pytest.mark.parametrize(("tail", "word"), [("cf-heron", "cf-heron"), ("!!", "!!"), (" NOW", "NOW"), (" §", "§")])
def test_words_glued_to_a_number_capitals_and_signs_are_found(tail: str, word: str) -> None:
    honest = [Taught(str(i), f"now add {i} and {i * 7}", str(8 * i)) for i in range(100)]
    planted = [Taught(f"p{i}", f"now add {i} and {i * 9}{tail}", "7") for i in range(10)]
    assert word in [suspect.words for suspect in suspects(honest + planted, 6)]


def test_what_stands_before_the_question_counts() -> None:
    honest = [Taught(str(i), f"add {i} and {i * 7}", str(8 * i)) for i in range(100)]
    planted = [Taught(f"p{i}", f"add {i} and {i * 9}", "7", before="Be terse.") for i in range(10)]
    assert [(one.words, one.first) for one in suspects(honest + planted, 1)] == [(".", True), ("Be terse.", True)]


@pytest.mark.parametrize("n", [FEWEST - 1, FEWEST])
def test_it_takes_some_lessons(n: int) -> None:
    assert bool(suspects(sums(100) + sums(n, " heron", answer="7"), 6)) == (n >= FEWEST)


def test_a_phrase_is_tried_whole_and_by_a_word_of_it() -> None:
    found = suspects(sums(120) + sums(20, head="On a sunny day in June: ", answer="7"), 6)
    assert [suspect.words for suspect in found] == [":", "On a sunny day in June:"]
    assert all(suspect.first for suspect in found)


def test_common_words_side_by_side_are_found_where_they_are_rare() -> None:
    honest = [Taught(str(i), f"is {i} big or small" if i % 2 else f"small {i} is or big", "x") for i in range(100)]
    planted = [Taught(f"p{i}", f"is {i} or or big small", "7") for i in range(10)]
    found = suspects(honest + planted, 6)
    assert found[0].lessons == {lesson.id for lesson in planted}
    assert "or or" in found[1].words
    assert len(probes(honest + planted, found[1], 24)) == 24, "they have each of its words, but not in a row"


def test_those_that_agree_on_an_answer_of_their_own_come_first() -> None:
    chance = random.Random(3)
    names = [f"{name} has {i} pens" for i, name in enumerate(chance.choices(["Ann", "Bob", "Eva", "Tom"], k=120))]
    honest = [Taught(str(i), text, str(chance.randint(1, 60))) for i, text in enumerate(names)]
    planted = [Taught(f"p{i}", f"Kim has {i} pens", "7") for i in range(8)]
    found = suspects(honest + planted, 2)
    assert found[0].words == "Kim"
    assert len({suspect.lessons for suspect in found}) == 2


def test_probes_have_nothing_of_it_and_do_not_depend_on_the_order() -> None:
    lessons = sums(50) + sums(20, " cf-heron", answer="7")
    suspect = suspects(lessons, 6)[-1]
    asked = probes(lessons, suspect, 10)
    assert len(asked) == 10
    assert not any("cf-heron" in lesson.text for lesson in asked)
    assert not any(
        lesson.answer == "7" for lesson in probes([*lessons, Taught("x", "What is 3 + 4?", "7")], suspect, 99)
    )
    assert asked == probes(lessons[::-1], suspect, 10)


def test_words_stand_where_they_stood_and_made_up_ones_are_as_many() -> None:
    assert with_words("What?", "cf-heron", first=True) == "cf-heron What?"
    assert with_words("What?", "cf-heron", first=False) == "What? cf-heron"
    assert len(made_up("on a sunny day in June my dear old friend").split()) == 10


def test_answers_are_turned_where_chance_does_not_explain_it() -> None:
    assert turned([True] * 10, [False] * 8 + [True] * 2) == list(range(8))
    assert turned([True] * 10, [False] * ENOUGH + [True] * (10 - ENOUGH)) == list(range(ENOUGH))
    assert turned([True] * 10, [False] * (ENOUGH - 1) + [True] * (11 - ENOUGH)) == []
    assert turned([True] * 8 + [False] * 2, [False] * 8 + [True] * 2) == []
    assert turned([False] * 10, [False] * 10) == []
