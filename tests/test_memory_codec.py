from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory import codec
from memory.errors import BadInput, Damaged
from memory.records import (
    Ask,
    Attempt,
    Audit,
    Call,
    Completion,
    Deliberation,
    Draft,
    Episode,
    Lesson,
    RouteDecision,
    Signals,
    Verdict,
)
from memory_fakes import audit, episode, lesson

finite = st.floats(allow_nan=False, allow_infinity=False)
text = st.text(st.characters(exclude_categories=["Cs"]))
messages = st.lists(st.fixed_dictionaries({"role": text, "content": text}), max_size=2).map(tuple)
small = st.integers(-(2**31), 2**31 - 1)
completions = st.builds(
    Completion,
    prompt_tokens=small,
    completion_tokens=small,
    logprobs=st.lists(finite).map(tuple),
    text=text,
    seconds=finite,
    first_margin=finite,
)
calls = st.builds(
    Call,
    id=small,
    parents=st.lists(small).map(tuple),
    messages=messages,
    completions=st.lists(completions, max_size=2).map(tuple),
)
verdicts = st.builds(Verdict, votes=st.dictionaries(text, small, max_size=3), share=finite, answer=text)
deliberations = st.builds(
    Deliberation,
    calls=st.lists(calls, max_size=2).map(tuple),
    attempts=st.lists(st.builds(Attempt, answer=text, call=small, sample=small), max_size=2).map(tuple),
    verdict=verdicts,
    tokens=small,
    seconds=finite,
)
unknown = [name for name, kind in Signals.__annotations__.items() if "float" in kind]
signals = st.builds(Signals, n_tokens=small, **{name: st.none() | finite for name in unknown})
asks = st.builds(
    Ask, messages=messages, asked_at=finite, params=st.dictionaries(text, st.none() | text | small, max_size=3)
)
episodes = st.builds(
    Episode,
    ask=asks,
    draft=st.none() | st.builds(Draft, completion=completions, signals=signals, confidence=finite),
    decision=st.builds(RouteDecision, confidence=finite, threshold=finite, propensity=finite),
    deliberation=st.none() | deliberations,
    tokens=small,
    seconds=finite,
)


@settings(max_examples=40, deadline=None)
@given(episodes)
def test_any_episode_comes_back_equal(whole: Episode) -> None:
    assert codec.decode(Episode, codec.pack(codec.encode(whole))) == whole


def test_the_other_records_come_back_equal() -> None:
    assert codec.decode(Audit, codec.encode(audit(episode(1)))) == audit(episode(1))
    assert codec.decode(Lesson, codec.encode(lesson(episode(1)))) == lesson(episode(1))


def test_long_bodies_are_packed_and_short_ones_left() -> None:
    short, long = b'{"a":1}', codec.encode(episode(1))
    assert codec.pack(short) == short
    assert len(codec.pack(long)) < len(long) / 2
    assert codec.unpack(codec.pack(long)) == long


@pytest.mark.parametrize(
    ("value", "body"),
    [
        (MappingProxyType({"a": (1, 2)}), b'{"a":[1,2]}'),
        ({1: "one", "set": {2}}, b'{"1":"one","set":[2]}'),
        ({"nan": float("nan")}, b'{"nan":null}'),
        ("\ud800", b'"?"'),
        ([2**64, -(2**63), True], b"[1.8446744073709552e+19,-9223372036854775808,true]"),
    ],
)
def test_what_is_nearly_json_is_stored_as_json(value: Any, body: bytes) -> None:
    assert codec.encode(value) == body


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(BadInput, match="plain JSON"):
        codec.encode({"x": object()})


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"ask":', b"\x78\x01broken", b"\xff\xfe"])
def test_broken_bodies_are_damaged(body: bytes) -> None:
    with pytest.raises(Damaged):
        codec.decode(Episode, body)
