"""Recognition, System 1's prompt, and the keys of questions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from policies import skills
from policies.skills import DEFAULT_SKILL, SkillSettings

SUMS = SkillSettings(name="sums", pattern=r"what is \d+ \+", direct="Reply with the number only.")
COIN = SkillSettings(name="coin", pattern="coin")


def ask(text: str) -> tuple[dict[str, str], ...]:
    return ({"role": "user", "content": text},)


def test_a_name_wins_over_a_pattern() -> None:
    assert skills.recognise(ask("What is 2 + 2?"), "coin", [SUMS, COIN]) is COIN


def test_a_pattern_matches_the_last_user_message_in_any_case() -> None:
    chat = (*ask("Flip a coin."), {"role": "assistant", "content": "Done."}, *ask("WHAT IS 2 + 2?"))
    assert skills.recognise(chat, None, [SUMS, COIN]) is SUMS
    assert skills.recognise(chat, "no such skill", [SUMS, COIN]) is SUMS


def test_what_nothing_matches_is_unknown_and_not_trained_on() -> None:
    found = skills.recognise(ask("Hello"), None, [SUMS, COIN])
    assert found is DEFAULT_SKILL
    assert (found.name, found.train) == ("unknown", False)


def test_a_pattern_that_does_not_compile_is_refused() -> None:
    with pytest.raises(ValidationError, match="not a regular expression"):
        SkillSettings(name="broken", pattern="(")


def test_the_direct_prompt_adds_the_instruction_to_the_last_user_message() -> None:
    asked = skills.direct_messages(({"role": "system", "content": "Be kind."}, *ask("What is 2 + 2?")), SUMS)
    assert [m["content"] for m in asked] == ["Be kind.", "What is 2 + 2?\nReply with the number only."]
    assert skills.direct_messages(ask("Heads?"), COIN) == ask("Heads?")


def test_the_instruction_may_stand_before_the_question() -> None:
    first = SUMS.model_copy(update={"direct_place": "before"})
    assert skills.direct_messages(ask("What is 2 + 2?"), first) == ask("Reply with the number only.\nWhat is 2 + 2?")
    parts = ({"role": "user", "content": [{"type": "text", "text": "What is 2 + 2?"}]},)
    shown = skills.direct_messages(parts, first)[0]["content"]
    assert [part["text"] for part in shown] == ["Reply with the number only.", "What is 2 + 2?"]


def test_parts_of_a_message_are_kept() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:"}}
    chat = ({"role": "user", "content": [{"type": "text", "text": "What is it?"}, image]},)
    assert skills.last_user_text(chat) == "What is it?"
    assert skills.with_suffix(chat, "Briefly.")[0]["content"][-1] == {"type": "text", "text": "Briefly."}
    assert skills.with_text(chat, "What colour?")[0]["content"] == [image, {"type": "text", "text": "What colour?"}]


@given(st.text(max_size=50))
def test_case_and_white_space_make_no_other_question(text: str) -> None:
    assert skills.prompt_key(ask(text)) == skills.prompt_key(ask(f"  {text} \n"))
    assert skills.prompt_key(ask("What  IS it?")) == skills.prompt_key(ask("what is\nit?"))


def test_a_role_makes_another_question() -> None:
    assert skills.prompt_key(ask("Hi")) != skills.prompt_key(({"role": "system", "content": "Hi"},))


def test_about_a_tenth_is_held_out_and_always_the_same() -> None:
    keys = [skills.prompt_key(ask(f"question {i}")) for i in range(5000)]
    held = [skills.is_heldout(key) for key in keys]
    assert 0.08 < sum(held) / len(held) < 0.12
    assert held == [skills.is_heldout(key) for key in keys]
    assert not skills.is_heldout(keys[0], 0.0)
    assert skills.is_heldout(keys[0], 1.0)
