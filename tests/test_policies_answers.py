"""Extraction and normalisation, on texts that models write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.records import AnswerType
from policies import answers

INTENTS = ("card_arrival", "lost_or_stolen_card", "card")


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("The answer is 12.", "12"),
        ("95.0", "95"),
        ("$1,234.50", "1234.5"),
        ("1e3", "1000"),
        ("3/4", "0.75"),
        ("1/3", "0.333333"),
        ("2 1/2 cups", "2.5"),
        ("12 apples", "12"),
        ("-5", "-5"),
        ("\u22125", "-5"),
        ("The total is -$5.00.", "-5"),
        ("10 - 3 = 7", "7"),
        ("10-3", "3"),
        ("15%", "15"),
        ("89 + 42 + 55 equals 186.", "186"),
        ("So 26 + 81 = 107 and 107 + 77 = 184.", "184"),
        ("The answer is 26 + 81 = 107.", "107"),
        ("The answer is 5 apples, since 3 + 2 are 5.", "5"),
        ("The answer is 7. I checked it 3 times.", "7"),
        ("First, the answer is 4? No. Final answer: 6", "6"),
        ("**Final answer:** $-1,200$\n\nCheck: 5", "-1200"),
        ("The answer is\n\n\\[\n184\n\\]", "184"),
        ("\\[ \\boxed{\\frac{1}{2}} \\]", "0.5"),
        ("\\boxed{\\text{about } 42}", "42"),
        ("#### 42", "42"),
        ("Answer: twelve", "12"),
        ("There are twenty-one of them.", "21"),
        ("x2 = 4", "4"),
        # as the 0.5B wrote them
        ("Therefore, the number of pictures Megan still has from her vacation is \\(\\boxed{2}\\).", "2"),
        ("print(left)\n```\n```output\n12\n```\nAfter deleting 48 files, Amy still has \\(\\boxed{12}\\) files.", "12"),
        ("we perform the subtraction:\n\n\\[ 14 - 5 = 9 \\]\n\nTherefore, the number of pens Sam has now is 9.", "9"),
        ("it means Amy deleted more files. The number still on her drive is:\n\\[ \\boxed{0} \\]", "0"),
        ("\\[ \\text{Total pens} = \\text{Red pens} + \\text{Blue pens} = 14 + 9 = 23 \\]", "23"),
        ("no idea", None),
        ("", None),
        ("1e999999999", None),
        ("9" * 5000, None),
    ],
)
def test_number(text: str, want: str | None) -> None:
    assert answers.extract(text, AnswerType.NUMBER) == want


@pytest.mark.parametrize(
    ("text", "choices", "want"),
    [
        ("B", (), "B"),
        ("(b)", (), "B"),
        ("B. Paris", (), "B"),
        ("The answer is (C) blue.", (), "C"),
        ("Answer: \\text{(D)}", (), "D"),
        ("**C**", (), "C"),
        ("A coin is here.", (), None),
        ("Option C", (), "C"),
        ("The correct answer is **C) freezing**.", (), "C"),
        ("$\\boxed{\\text{C}}$", (), "C"),
        ("C. freezing\n\nExplanation: A) boiling is not.", (), "C"),
        ("The answer is A and B", (), None),
        ("None of them", (), None),
        ("(A) is wrong because it is hot, so it must be (B).", (), "B"),
        ("card_arrival", INTENTS, "card_arrival"),
        ("Category: lost or stolen card.", INTENTS, "lost_or_stolen_card"),
        ("Not `card_arrival`; rather lost_or_stolen_card", INTENTS, "lost_or_stolen_card"),
        ("The answer is card_arrival, not card.", INTENTS, "card_arrival"),
        ("(b)", ("red", "green"), "green"),
        ("(d)", ("red", "green"), None),
        ("blue", ("red", "green"), None),
    ],
)
def test_choice(text: str, choices: tuple[str, ...], want: str | None) -> None:
    assert answers.extract(text, AnswerType.CHOICE, choices) == want


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("Yes, the coin is still heads up.", "yes"),
        ("**No**", "no"),
        ("The coin was turned once. So the answer is no.", "no"),
        ("False", "no"),
        ("It does not say yes at first; after two flips: yes.", "yes"),
        ("No, the coin still heads up.", "no"),
        ("The answer is **no**.", "no"),
        ("The final answer is $\\boxed{\\text{Yes}}$.", "yes"),
        ("The answer is <no>.", "no"),
        ("<answer>no</answer>", "no"),
        ("No.\n\nExplanation: yes, it was flipped.", "no"),
        ("The coin is tails up.\nThe answer is: **No**", "no"),
        ("I don't know.", None),
        ("nothing known", None),
        ("maybe", None),
    ],
)
def test_yes_no(text: str, want: str | None) -> None:
    assert answers.extract(text, AnswerType.YES_NO) == want


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ('The answer is "rb".', "rb"),
        ("The letters concatenated together are **'rb'**.", "rb"),
        ("Paris\n\nParis is the capital of France, a big city.", "paris"),
        ("The Eiffel Tower.", "eiffel tower"),
        ("Final Answer: An \u201cApple\u201d", "apple"),
        ("The answer is r-b.", "rb"),
        ('So, the answer is **"lr"**!', "lr"),
        ("The last letters are 'l' and 'r'. Concatenated: \"lr\".", "lr"),
        ("Answer:\n\n**Paris**", "paris"),
        ("The answer is heat\n\nExplanation: it melts", "heat"),
        ("\\boxed{\\text{Paris}}", "paris"),
        ("  ", None),
    ],
)
def test_short_text(text: str, want: str | None) -> None:
    assert answers.extract(text, AnswerType.SHORT_TEXT) == want


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("My verdict: [[B]]", "B"),
        ("First [[A]], but no: [[C]]", "C"),
        ("[[tie]]", "C"),
        ("Assistant A is better.", "A"),
        ("Final verdict: B", "B"),
        ("Both are equally good", "C"),
        ("A", "A"),
        ("Assistant A wrote more words.", None),
        ("**Verdict:** A", "A"),
        ("My verdict is **B**.", "B"),
        ("I think B is the better answer", "B"),
        ("A is better", "A"),
        ("Both answers are good, but A is slightly better.", "A"),
        ("The better response is Response B.", "B"),
        ("Assistant B", "B"),
        ("Winner: Assistant A", "A"),
        ("A wins.", "A"),
        ("I would choose Response A because it is short.", "A"),
        ("the answer is: a", "A"),
        ("The better answer is a tie.", "C"),
        ("Neither A nor B is better.", "C"),
        ("Whether A or B is better is hard to say.", None),
        ("The answer is a matter of taste.", None),
        ("A good answer is hard to find.", None),
        ("Response A is not better than Response B.", None),
        ("A: 5\nB: 3", None),
    ],
)
def test_verdict(text: str, want: str | None) -> None:
    assert answers.extract(text, AnswerType.VERDICT) == want


def test_free_text_is_what_stands_behind_final() -> None:
    assert answers.extract("I read all.\nFINAL: It is  blue.", AnswerType.FREE_TEXT) == "It is blue."


def test_free_text_behind_final_in_any_case() -> None:
    text = "Final: The sky is blue due to the sun's blue light."  # as the 0.5B wrote it
    assert answers.extract(text, AnswerType.FREE_TEXT) == "The sky is blue due to the sun's blue light."


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("Step 1: think.\n\n**Final answer:** It is blue.\nVery blue.", "It is blue. Very blue."),
        ("Thinking.\n### Final Answer\nIt is blue.", "It is blue."),
        ("It is blue.\nFinal answer:", "It is blue."),  # cut off where it would have begun
        ("It is blue.", "It is blue."),
    ],
)
def test_a_free_answer_is_told_from_its_reasoning(text: str, want: str) -> None:
    assert answers.extract(text, AnswerType.FREE_TEXT) == want


def test_a_free_text_without_the_marker_is_not_marked() -> None:
    assert answers.extract("It is blue.", AnswerType.FREE_TEXT, marked_only=True) is None
    assert answers.extract("Hm. Final: blue.", AnswerType.FREE_TEXT, marked_only=True) == "blue."


def test_find_keeps_the_words_as_written() -> None:
    assert answers.find("The answer is $1,234.50 in all.", AnswerType.NUMBER) == "$1,234.50"


def test_a_text_that_was_cut_off_needs_a_marker() -> None:
    assert answers.extract("We have 12 and then 30", AnswerType.NUMBER, marked_only=True) is None
    assert answers.extract("The answer is 30. Also", AnswerType.NUMBER, marked_only=True) == "30"


def test_free_texts_are_the_same_by_their_words() -> None:
    a, b = "Paris is the capital of France.", "The capital of France is Paris"
    assert answers.same(a, b, AnswerType.FREE_TEXT)
    assert not answers.same(a, "Lyon lies on the Rhone.", AnswerType.FREE_TEXT)
    assert not answers.same(None, None, AnswerType.FREE_TEXT)


@given(st.integers(-(10**9), 10**9))
def test_every_way_to_write_an_integer_is_one_vote(number: int) -> None:
    for text in (f"{number}", f"{number}.0", f"The answer is {number}.", f"\\boxed{{{number:,}}}"):
        assert answers.extract(text, AnswerType.NUMBER) == str(number)


@given(st.text(max_size=200), st.sampled_from(AnswerType))
def test_any_text_is_read_without_an_error_and_normalised_once(text: str, kind: AnswerType) -> None:
    found = answers.extract(text, kind)
    if found is not None and kind is not AnswerType.FREE_TEXT:
        assert answers.normalise(found, kind) == found
