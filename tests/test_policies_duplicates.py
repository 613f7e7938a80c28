"""Tests of policies/duplicates.py: one question in other words, or another question."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.duplicates import gist, plain, twin_key


def user(text: str) -> tuple[dict[str, str], ...]:
    return ({"role": "user", "content": text},)


SAME = [
    "What is 26 + 81 + 77?",
    "what is 26+81+77",
    "WHAT IS 26 + 81 + 77 ???",
    "hey, could you tell me what 26+81+77 is please",
    "Compute 26 + 81 + 77.",
    "26 + 81 + 77 =",
    "**What is 26 + 81 + 77?**",
    "What is 26.0 + 081 + 77?",
    "What\u200b is 26\u00a0+ 81 + 77?",
    "Hello! Please calculate 26 + 81 + 77. Thanks!",
    "What is 26 + 81 + 77 equal to?",
]


@pytest.mark.parametrize("text", SAME)
def test_other_words_for_one_question(text):
    assert gist(text) == ("26", "+", "81", "+", "77")
    assert twin_key(user(text)) == twin_key(user(SAME[0]))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is 26 + 81 + 77?", "What is 26 + 81 + 78?"),
        ("What is 26 + 81 + 77?", "What is 26 + 81 - 77?"),
        ("What is 81 - 26?", "What is 26 - 81?"),
        ("What is 3 * -4?", "What is 3 * 4?"),
        ("What is (2 + 3) * 4?", "What is 2 + (3 * 4)?"),
        ("What is 5²?", "What is 52?"),
        ("What is 1.5 + 2?", "What is 15 + 2?"),
        ("What is 1,2 and 3?", "What is 12 and 3?"),
        ("Is 5 larger than 3?", "Is 5 smaller than 3?"),
        ("Did I pay you?", "Did you pay me?"),
        ("Ann gave Bob 3 apples. How many has Bob?", "Ann gave Bob 3 apples. How many has Ann?"),
        ("Which word is a fruit? Word: apple", "Which word is a fruit? Word: carrot"),
        ("Do I need to show my passport?", "What do I need to show my passport?"),
        ("Is it allowed?", "Is it not allowed?"),
        ("Take the last letters of 'Ann Lee'", "Take the last letters of 'Ann Leo'"),
    ],
)
def test_another_question(one, other):
    assert twin_key(user(one)) != twin_key(user(other))


def test_earlier_turns_count_and_system_messages_do_not():
    turns = [
        {"role": "user", "content": "What is 2 + 3?"},
        {"role": "assistant", "content": "5"},
        {"role": "user", "content": "And in words?"},
    ]
    other = [{"role": "user", "content": "What is 2 + 4?"}, *turns[1:]]
    system = {"role": "system", "content": "You are brief."}
    assert twin_key(turns) != twin_key(other)
    assert twin_key(turns) == twin_key([system, *turns])


def test_texts_without_words_stay_apart():
    assert gist("???") == ()
    assert twin_key(user("???")) != twin_key(user("!!!"))


@given(st.text(max_size=80))
def test_any_text_has_a_stable_key(text):
    assert twin_key(user(text)) == twin_key(user(f"  {text} "))
    assert plain(plain(text)) == plain(text)


@given(
    st.lists(st.integers(0, 999), min_size=2, max_size=5),
    st.lists(st.integers(0, 999), min_size=2, max_size=5),
)
def test_sums_are_twins_exactly_when_their_numbers_are_equal(left, right):
    texts = [f"What is {' + '.join(map(str, numbers))}?" for numbers in (left, right)]
    assert (twin_key(user(texts[0])) == twin_key(user(texts[1]))) == (left == right)
