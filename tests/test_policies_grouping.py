"""Groups of questions: found by themselves, stable as they grow, and made into a pattern where they share a form."""

from __future__ import annotations

import random
import re

from memory.records import AnswerType
from policies.grouping import answer_type, grow, pattern

KINDS = {
    "minutes": lambda r: f"How many minutes are {r.randint(2, 24)} hours and {r.randint(2, 59)} minutes?",
    "letters": lambda r: f'Take the last letters of "{r.choice("abc")}nna {r.choice("def")}ob" and join them.',
    "areas": lambda r: f"A field is {r.randint(2, 90)} m long and {r.randint(2, 90)} m wide. What is its area?",
}


def questions(n: int = 60, seed: int = 0) -> tuple[list[tuple[str, str]], list[str]]:
    """(key, text) of mixed kinds, and the kinds."""
    chance = random.Random(seed)
    kinds = [chance.choice(list(KINDS)) for _ in range(n)]
    return [(f"{i:064x}"[::-1], KINDS[kind](chance)) for i, kind in enumerate(kinds)], kinds


def test_the_kinds_are_found() -> None:
    asked, kinds = questions()
    groups = grow(asked)
    assert sum(group.n for group in groups) == 60
    assert [{kinds[i] for i in group.members} for group in groups] == [{kind} for kind in
            [kinds[group.members[0]] for group in groups]]  # fmt: skip
    assert len(groups) == 3


def test_a_group_keeps_its_id_and_its_members_as_it_grows() -> None:
    asked, _ = questions(200)
    before = {group.id: group.members for group in grow(asked[:80])}
    after = {group.id: group.members for group in grow(asked)}
    assert set(before) == set(after)
    for name, members in before.items():
        assert after[name][: len(members)] == members


def test_what_resembles_nothing_is_left_out() -> None:
    odd = ["Who painted the ceiling?", "Translate: good morning", "Write a poem about rain.", "Why is ice slippery?"]
    assert grow([(f"{i:064x}", text) for i, text in enumerate(odd)]) == []
    assert grow([]) == []


def test_a_pattern_keeps_what_all_share_and_blanks_what_differs() -> None:
    chance = random.Random(1)
    minutes = [KINDS["minutes"](chance) for _ in range(20)]
    made = pattern(minutes)
    assert made is not None
    assert all(re.search(made, text) for text in minutes)
    assert not re.search(made, "How many seconds are 3 hours and 5 minutes?")
    letters = pattern([KINDS["letters"](chance) for _ in range(20)])
    assert letters is not None
    assert re.search(letters, 'Take the last letters of "xy zz" and join them.')
    assert pattern(["one two", "three four"]) is None
    assert pattern(["one", "two three", "four five six"]) is None
    assert pattern([]) is None


def test_answers_tell_their_type() -> None:
    assert answer_type(["3", "-4.5", "1,000"]) is AnswerType.NUMBER
    assert answer_type(["yes", "No"]) is AnswerType.YES_NO
    assert answer_type(["Paris", "New York"]) is AnswerType.SHORT_TEXT
    assert answer_type(["a long text that goes on and on"]) is AnswerType.FREE_TEXT
    assert answer_type([]) is AnswerType.FREE_TEXT
