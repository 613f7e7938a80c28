"""The demo's questions: seeded generators, each with the gold answer that only the report reads.

A question is fresh: no generator repeats itself within a run, and the measured ones are drawn from those that the
service's own rule (`policies.skills.is_heldout`) never trains on, so none of them can have been a lesson.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from policies.answers import extract, normalise
from policies.skills import SkillSettings, is_heldout, prompt_key

NAMES = [
    "Ann",
    "Ben",
    "Carl",
    "Dora",
    "Emma",
    "Finn",
    "Gina",
    "Hugo",
    "Ida",
    "Jack",
    "Kate",
    "Liam",
    "Mia",
    "Noah",
    "Olga",
    "Paul",
    "Rosa",
    "Sam",
    "Tina",
    "Vera",
]
THINGS = ["stamps", "shells", "coins", "cards", "marbles", "stickers"]
STEPS = [("finds", 1), ("buys", 1), ("loses", -1), ("gives away", -1)]
PLACES = ["hotel", "restaurant", "film", "book", "concert", "museum", "cafe", "course", "flight", "garden"]
PARTS = ["staff", "food", "music", "view", "room", "service", "story", "price", "light", "seats"]
GOOD = [
    "wonderful",
    "excellent",
    "lovely",
    "superb",
    "delightful",
    "great",
    "perfect",
    "charming",
    "fantastic",
    "pleasant",
]
BAD = ["terrible", "awful", "dreadful", "horrible", "disappointing", "poor", "dirty", "rude", "boring", "unpleasant"]


@dataclass(frozen=True, slots=True)
class Question:
    """What a user types, and the truth, which is never sent."""

    skill: str
    text: str
    gold: str


Draw = Callable[[random.Random], tuple[str, str]]
"""One random (question, gold answer)."""


def three_sums(chance: random.Random) -> tuple[str, str]:
    """What is 26 + 81 + 77?"""
    a, b, c = (chance.randint(10, 99) for _ in range(3))
    return f"What is {a} + {b} + {c}?", str(a + b + c)


def plus_minus(chance: random.Random) -> tuple[str, str]:
    """What is 44 + 55 - 38?

    Terms below 60: with larger ones all of System 2's samples fail alike at steps such as "116-46", and teach it.
    """
    a, b = chance.randint(10, 59), chance.randint(10, 59)
    c = chance.randint(10, min(99, a + b - 10))
    return f"What is {a} + {b} - {c}?", str(a + b - c)


def minutes(chance: random.Random) -> tuple[str, str]:
    """How many minutes are 7 hours and 25 minutes?"""
    hours, more = chance.randint(2, 9), chance.randint(2, 59)
    return f"How many minutes are {hours} hours and {more} minutes?", str(60 * hours + more)


def stories(chance: random.Random) -> tuple[str, str]:
    """A word problem of four steps, in any order: more than a direct answer of a small network can follow."""
    who, things, have = chance.choice(NAMES), chance.choice(THINGS), chance.randint(40, 70)
    told = [f"{who} has {have} {things}."]
    for verb, sign in chance.sample(STEPS, 4):
        n = chance.randint(11, 60) if sign > 0 else chance.randint(3, 19)
        have += sign * n
        told.append(f"{who} {verb} {n} {things}.")
    return f"{' '.join(told)} How many {things} does {who} have in the end?", str(have)


def reviews(chance: random.Random) -> tuple[str, str]:
    """ "The hotel was lovely, the staff superb and the food great." Is this review positive?"""
    gold, words = chance.choice((("yes", GOOD), ("no", BAD)))
    first, second, third = chance.sample(words, 3)
    one, other = chance.sample(PARTS, 2)
    told = f"The {chance.choice(PLACES)} was {first}, the {one} was {second} and the {other} was {third}."
    return f'"{told}" Is this review positive?', gold


DRAWS: dict[str, Draw] = {
    "three_sums": three_sums,
    "plus_minus": plus_minus,
    "minutes": minutes,
    "stories": stories,
    "reviews": reviews,
}


def distinct(skill: str, seed: int) -> Iterator[Question]:
    """Endless different questions of a skill, the same for the same seed; ends where a generator runs dry."""
    chance, seen = random.Random(f"{skill}-{seed}"), set[str]()
    misses = 0
    while misses < 2000:
        text, gold = DRAWS[skill](chance)
        misses = misses + 1 if text in seen else 0
        if text not in seen:
            seen.add(text)
            yield Question(skill, text, gold)


def split(
    skill: SkillSettings, n_day: int, n_measured: int, heldout_share: float, seed: int
) -> tuple[list[Question], list[Question]]:
    """(questions of the day, questions to measure with), disjoint; fewer where a generator runs dry.

    `heldout_share` must be the service's own: the measured ones are all on the side it never trains on. The day
    has both sides in their natural share, as any stream of questions would. System 2's worked examples are left out.
    """
    shown = {example.question for example in skill.examples}
    fresh = (question for question in distinct(skill.name, seed) if question.text not in shown)
    day: list[Question] = []
    measured: list[Question] = []
    for position, question in enumerate(fresh):
        safe = is_heldout(prompt_key([{"role": "user", "content": question.text}]), heldout_share)
        # Of the safe ones the first few go to the day: the service needs some to judge its own adapters with.
        of_day = len(day) < n_day and (not safe or position < n_day)
        if of_day:
            day.append(question)
        elif safe and len(measured) < n_measured:
            measured.append(question)
        if len(day) >= n_day and len(measured) >= n_measured:
            break
    return day, measured


def right(question: Question, reply: str, skill: SkillSettings) -> bool:
    """Whether a reply says the gold answer, read as the service itself reads answers."""
    said = extract(reply, skill.answer_type, skill.choices)
    return said is not None and said == normalise(question.gold, skill.answer_type, skill.choices)
