"""Novelty: near what was taught, far from what was not, in a fraction of a millisecond."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.novelty import DIMENSIONS, Lessons, lessons, vectors

SUMS = [f"What is {a} + {b}?" for a in range(10, 40) for b in range(10, 40, 3)]


def test_what_was_taught_is_not_new_and_another_kind_of_question_is() -> None:
    taught = lessons(SUMS)
    same, alike = taught.novelty("What is 12 + 13?"), taught.novelty("What is 91 + 84?")
    other = taught.novelty("Who wrote the play about the Danish prince?")
    assert same == pytest.approx(0.0, abs=1e-5)
    assert same < alike < 0.4 < other


def test_nothing_taught_says_nothing() -> None:
    assert lessons([]).novelty("What is 12 + 13?") is None


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=200))
def test_any_text_has_a_novelty_and_knows_itself(text: str) -> None:
    found = lessons([text, "What is 12 + 13?"]).novelty(text)
    assert found is not None
    assert 0.0 <= found <= 1.0
    length = float(np.linalg.norm(vectors([text])[0]))
    assert length == pytest.approx(1.0, abs=1e-5) or length == 0.0
    assert found < 1e-5 or length == 0.0


def test_ten_thousand_lessons_cost_less_than_a_millisecond() -> None:
    taught = Lessons(np.ascontiguousarray(np.tile(vectors(SUMS), (34, 1))[:10_000]))
    question = "Anna has 12 apples and buys 30 more at 2 dollars each; what does she pay in total?"
    taught.novelty(question)
    spent = []
    for _ in range(30):
        started = time.thread_time()
        taught.novelty(question)
        spent.append(time.thread_time() - started)
    assert taught.vectors.shape == (10_000, DIMENSIONS)
    assert sorted(spent)[len(spent) // 2] < 0.001
