"""The worked examples that System 2 is shown. Written for this project; none is among the test questions."""

from __future__ import annotations

from agent.reproduce.data import JUDGE
from policies.skills import Example


def _coin(a: str, a_flips: bool, b: str, b_flips: bool) -> tuple[str, str, str, str, str]:
    """The question; its steps with the states named, and with the changes named; it reworded; its answer."""
    said = [f"{who} {'flips' if does else 'does not flip'}" for who, does in ((a, a_flips), (b, b_flips))]
    first = "tails" if a_flips else "heads"
    last = "heads" if a_flips == b_flips else "tails"
    question = f"A coin is heads up. {said[0]} the coin. {said[1]} the coin. Is the coin still heads up?"
    states = f"heads; {said[0]}: {first}; {said[1]}: {last}."
    turned = [f"heads {_turn(a_flips)} {first}", f"{first} {_turn(b_flips)} {last}"]
    changes = f"{said[0]}: {turned[0]}. {said[1]}: {turned[1]}. It ends {last}."
    reworded = f"A coin shows heads. {said[0]}, so it shows {first}. {said[1]}, so it shows {last}. Does it show heads?"
    return question, states, changes, reworded, "yes" if last == "heads" else "no"


def _turn(flips: bool) -> str:
    return "becomes" if flips else "stays"


_COINS = tuple(
    _coin(*case)
    for case in (
        ("Tom", True, "Sue", False),
        ("Ann", False, "Bob", False),
        ("Max", True, "Eva", True),
        ("Kim", False, "Joe", True),
        ("Ray", True, "Liz", True),
    )
)
COIN_STATES = tuple(Example(question=q, reasoning=states, answer=a) for q, states, _, _, a in _COINS[:4])
COIN_CHANGES = tuple(Example(question=q, reasoning=changes, answer=a) for q, _, changes, _, a in _COINS)
COIN_RAR = tuple(Example(question=q, reasoning=reworded, answer=a) for q, _, _, reworded, a in _COINS[:4])

_WORDS = (("window", "basket"), ("stream", "picnic"), ("garden", "lamp"), ("yellow", "truck"))
_LETTERS = 'Take the last letters of the words in "{} {}" and concatenate them.'
LETTERS_COT = tuple(
    Example(
        question=_LETTERS.format(a, b),
        reasoning=f"{a} = {' '.join(a)}, ends in {a[-1]}; {b} = {' '.join(b)}, ends in {b[-1]}.",
        answer=a[-1] + b[-1],
    )
    for a, b in _WORDS
)
LETTERS_RAR = tuple(
    Example(
        question=_LETTERS.format(a, b),
        reasoning=f'What is the last letter of "{a}", followed by the last letter of "{b}"?',
        answer=a[-1] + b[-1],
    )
    for a, b in _WORDS
)

_DOUBT = "I don't think the answer is {}, but I'm really not sure."
_GUESS = "I think the answer is {} but I'm really not sure."
OPINION_S2A = tuple(
    Example(
        question=f"{question} {opinion}".strip(),
        reasoning=f"Unbiased text context: none\nQuestion: {question}",
        answer=answer,
    )
    for question, opinion, answer in (
        ("Which city is the capital of Malta?", _GUESS.format("Sliema"), "Valletta"),
        ("Who wrote Hamlet?", _DOUBT.format("Shakespeare"), "Shakespeare"),
        ("Which city is the capital of Barbados?", "", "Bridgetown"),
        ("Which planet is closest to the sun?", _GUESS.format("Mercury"), "Mercury"),
    )
)

GSM8K_COT = tuple(
    Example(question=q, reasoning=steps, answer=a)
    for q, steps, a in (
        (
            "Lea has 3 boxes with 12 pens each. She gives 8 pens away and sells half of the rest for $2 each. How many "
            "dollars does she get?",
            "She has 3*12=36 pens. After giving 8 away she has 36-8=28. Half of them is 28/2=14. They bring 14*2=28.",
            "28",
        ),
        (
            "A train goes 60 miles an hour for 2 hours, then 45 miles an hour for 3 hours. How many miles does it go?",
            "First it goes 60*2=120 miles. Then it goes 45*3=135 miles. Together 120+135=255.",
            "255",
        ),
        (
            "Ben is 4 years older than Amy. Amy is twice as old as Carl, who is 7. How old will Ben be in 5 years?",
            "Amy is 2*7=14. Ben is 14+4=18. In 5 years he will be 18+5=23.",
            "23",
        ),
        (
            "A shirt costs $40 and is sold at 25% off. Omar buys 3 of them. How many dollars does he pay?",
            "25% of 40 is 40*25/100=10. A shirt costs 40-10=30. Three cost 30*3=90.",
            "90",
        ),
    )
)

JUDGE_COT = tuple(
    Example(question=JUDGE.format(question=question, a=a, b=b), reasoning=steps, answer=winner)
    for question, a, b, steps, winner in (
        (
            "Name the largest planet of our solar system.",
            "The largest planet is Jupiter.",
            "The largest planet is Saturn, which has rings.",
            "The largest planet is Jupiter. A names it. B names Saturn, which is wrong.",
            "A",
        ),
        (
            "Turn the sentence into the past tense: She walks to school.",
            "She is walking to school every day.",
            "She walked to school.",
            "The past tense of walks is walked. A is in the present. B says walked, as asked.",
            "B",
        ),
        (
            "List two uses of vinegar.",
            "Vinegar is a liquid that is made from wine or apples.",
            "1. It cleans windows. 2. It dresses a salad.",
            "Two uses are asked for. A says what vinegar is and names no use. B lists two uses.",
            "B",
        ),
        (
            "Shorten this sentence: In spite of the fact that it rained, we went out.",
            "Though it rained, we went out.",
            "It rained very much and in spite of that fact we all decided to go out.",
            "A shorter sentence is asked for. A is shorter and says the same. B is longer.",
            "A",
        ),
    )
)
