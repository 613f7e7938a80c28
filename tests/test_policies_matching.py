"""The learned match of a question to a skill."""

from __future__ import annotations

from policies import matching
from policies.skills import DEFAULT_SKILL, SkillSettings, recognise

NAMES = ("Ann", "Ben", "Cyn", "Dan", "Eva", "Flo", "Gus", "Hal")
QUESTIONS = {
    "sums": [f"What is {n} + {2 * n} + {n + 7}?" for n in range(10, 20)],
    "coin": [f"A coin is heads up. {who} flips the coin. Is it still heads up?" for who in NAMES],
    "rare": ["Sing a song."] * 3,
}


def test_a_question_in_a_known_form_is_matched() -> None:
    learned = matching.learn(QUESTIONS)
    assert learned.match("What is 55 + 66 + 77?") == "sums"
    assert learned.match("A coin is heads up. Zoe flips the coin. Is it still heads up?") == "coin"


def test_other_questions_and_rare_skills_match_nothing() -> None:
    learned = matching.learn(QUESTIONS)
    assert learned.match("Write a poem about the sea in spring.") is None
    assert learned.match("") is None
    assert learned.match("Sing a song.") is None
    assert matching.learn({}).match("What is 1 + 2 + 3?") is None


def test_the_match_comes_after_name_and_pattern() -> None:
    learned = matching.learn(QUESTIONS)
    sums, coin = SkillSettings(name="sums"), SkillSettings(name="coin", pattern="what is")
    asked = ({"role": "user", "content": "What is 55 + 66 + 77?"},)
    assert recognise(asked, None, [sums], learned=learned) is sums
    assert recognise(asked, None, [sums, coin], learned=learned) is coin
    assert recognise(asked, None, [SkillSettings(name="other")], learned=learned) is DEFAULT_SKILL
