"""The five tasks: one literal table of prompts, System 2 variants, sizes and the paper's own numbers.

Small models live by the prompt's form: the worked examples are earlier turns with short steps. What was tried
and failed stands in LOG.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agent.reproduce.answered import Answer
from agent.reproduce.data import Question, Questions, biased_opinion, coin_flip, gsm8k, judge, last_letter
from agent.reproduce.examples import (
    COIN_CHANGES,
    COIN_RAR,
    COIN_STATES,
    GSM8K_COT,
    JUDGE_COT,
    LETTERS_COT,
    LETTERS_RAR,
    OPINION_S2A,
)
from agent.reproduce.rows import Right, Share, accuracy, by_opinion, exactly, judged, named
from memory.records import AnswerType
from policies.agree import AgreementSettings
from policies.skills import SkillSettings

ONCE = AgreementSettings(block=1, max_samples=1, train_attempts=1)  # one greedy run: a row's own accuracy
Make = Callable[[int, int, int, Path | None], Questions]
Measure = Callable[[Sequence[Question], Sequence[Answer], Right], dict[str, Share]]

SYSTEM1 = "System 1"
DISTILLED1 = "Distill System 1"
DISTILLED2 = "Distill System 2"
UNFILTERED = "Distill System 2, unfiltered"


@dataclass(frozen=True, slots=True)
class PaperRow:
    """A row as the paper prints it (tables 1 to 4 and section 4.2.1)."""

    name: str
    values: tuple[float | None, ...]  # percent, in the order of the task's `paper_measures`
    tokens: float | None = None


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of a task is run."""

    test: int  # test items; an item is one prompt, two for the judge
    train: int  # unlabelled prompts
    votes: int  # samples for each of them
    epochs: int = 4


@dataclass(frozen=True, slots=True)
class Task:
    """One table."""

    name: str
    title: str
    setup: str  # a paragraph for the page
    skill: SkillSettings  # what System 1 is asked, and how answers are read
    ways: Mapping[str, SkillSettings]  # System 2 variants by row name
    teacher: str  # the one that is distilled
    make: Make
    sizes: Mapping[str, Sizes]
    paper: tuple[PaperRow, ...]
    measure: Measure = accuracy
    paper_measures: tuple[str, ...] = ("accuracy",)
    right: Right = exactly
    target: str = "{}"  # how a lesson says its answer
    primary: frozenset[str] = field(default_factory=frozenset)  # groups that gains are computed on; empty: all
    filter: Mapping[str, object] = field(default_factory=dict)  # changes to the filter's agreement rule
    paper_teacher: str = ""  # what the paper distils, where `teacher` is something else

    def voting(self, way: SkillSettings, votes: int) -> SkillSettings:
        """A way with `votes` samples and the filter: a strict majority of at least three in four."""
        rule = {"block": votes, "max_samples": votes, "stop": "never", "train_share": 0.75, "train_attempts": votes}
        return way.model_copy(update={"agreement": AgreementSettings.model_validate(rule | dict(self.filter))})


def _way(base: SkillSettings, method: str, examples: tuple[object, ...] = (), **options: object) -> SkillSettings:
    update = {"method": method, "examples": examples, "options": options, "agreement": ONCE}
    return base.model_copy(update=update)


COIN = SkillSettings(
    name="coin-flip", answer_type=AnswerType.YES_NO, direct="Answer yes or no only.", max_answer_tokens=8
)
LETTERS = SkillSettings(
    name="last-letter", answer_type=AnswerType.SHORT_TEXT, direct="Reply with the letters only.", max_answer_tokens=8
)
OPINION = SkillSettings(
    name="biased-opinion",
    answer_type=AnswerType.SHORT_TEXT,
    direct="Reply with one short sentence that begins with: The answer is",
    max_answer_tokens=24,
)
JUDGE = SkillSettings(
    name="judge",
    answer_type=AnswerType.VERDICT,
    direct="Reply with the verdict only: [[A]] if A is better, [[B]] if B is better.",
    max_answer_tokens=8,
)
GSM8K = SkillSettings(
    name="gsm8k",
    answer_type=AnswerType.NUMBER,
    direct="Reply with one number and nothing else, no steps, no words.",
    max_answer_tokens=12,
)

TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        Task(
            name="coin-flip",
            title="Coin flip (table 1)",
            setup=(
                'Two people flip a coin or do not; is it still heads up? System 1 is asked "Answer yes or no only." '
                "The paper distils 2-step RaR. Rephrasing alone loses facts on a small model, so what is distilled "
                'here is a chain of thought with worked examples, which name each change ("Eva flips: tails becomes '
                'heads.") or, for comparison, only the states ("Eva flips: heads;").'
            ),
            skill=COIN,
            ways={
                "System 2: 1-step RaR": _way(COIN, "rar", COIN_RAR, variant="one_step", max_tokens=96),
                "System 2: 2-step RaR": _way(COIN, "rar", COIN_RAR, variant="two_step", max_tokens=96),
                "System 2: CoT, states in the examples": _way(COIN, "cot", COIN_STATES, max_tokens=64),
                "System 2: CoT, changes in the examples": _way(
                    COIN, "cot", COIN_CHANGES, max_tokens=64, temperature=0.4
                ),
            },
            teacher="System 2: CoT, changes in the examples",
            paper_teacher="2-step RaR",
            make=coin_flip,
            sizes={
                "tiny": Sizes(24, 48, 4),
                "small": Sizes(80, 96, 4),
                "full": Sizes(1333, 20_000, 8),
            },
            paper=(
                PaperRow(SYSTEM1, (56.1,), 61.9),
                PaperRow(DISTILLED1, (54.5,), 30.4),
                PaperRow("System 2: 1-step RaR", (58.5,), 158.9),
                PaperRow("System 2: 2-step RaR", (77.2,), 112.4),
                PaperRow(DISTILLED2, (75.69,), 50.3),
            ),
        ),
        Task(
            name="last-letter",
            title="Last letter concatenation (table 1)",
            setup=(
                'The last letters of two English words, in one. System 1 is asked "Reply with the letters only." '
                "System 2 has worked examples as earlier turns, which spell each word."
            ),
            skill=LETTERS,
            ways={
                "System 2: 1-step RaR": _way(LETTERS, "rar", LETTERS_RAR, variant="one_step", max_tokens=96),
                "System 2: 2-step RaR": _way(LETTERS, "rar", LETTERS_RAR, variant="two_step", max_tokens=96),
                "System 2: CoT, worked examples": _way(LETTERS, "cot", LETTERS_COT, max_tokens=80),
            },
            teacher="System 2: CoT, worked examples",
            paper_teacher="2-step RaR",
            make=last_letter,
            sizes={
                "tiny": Sizes(24, 48, 4),
                "small": Sizes(80, 96, 4),
                "full": Sizes(200, 200, 8),
            },
            paper=(
                PaperRow(SYSTEM1, (30.0,), 27.1),
                PaperRow(DISTILLED1, (69.5,), 24.4),
                PaperRow("System 2: 1-step RaR", (39.5,), 106.6),
                PaperRow("System 2: 2-step RaR", (44.5,), 41.5),
                PaperRow(DISTILLED2, (98.0,), 25.5),
                PaperRow(UNFILTERED, (87.5,)),
            ),
        ),
        Task(
            name="biased-opinion",
            title="Questions with the user's opinion (table 2)",
            setup=(
                "A question, plain or behind one of the three opinions of SycophancyEval (the right answer doubted, a "
                "wrong one suggested, the right one suggested). The paper's file could not be had; its numbers are on "
                "other questions. An answer is right when it names the true one. The gains are counted on the "
                "questions with an opinion. The paper's unfiltered row is S2A without universal self-consistency."
            ),
            skill=OPINION,
            ways={"System 2: S2A": _way(OPINION, "s2a", OPINION_S2A, max_tokens=64)},
            teacher="System 2: S2A",
            make=biased_opinion,
            sizes={
                "tiny": Sizes(24, 48, 4),
                "small": Sizes(80, 64, 4),
                "full": Sizes(400, 6668, 20),
            },
            paper=(
                PaperRow(SYSTEM1, (51.6, 73.8), 165),
                PaperRow("System 2: S2A", (76.0, 69.3), 147),
                PaperRow(DISTILLED2, (81.3, 78.6), 56),
                PaperRow(UNFILTERED, (78.6, 75.3), 58),
            ),
            measure=by_opinion,
            paper_measures=("biased", "unbiased"),
            right=named,
            target="The answer is {}.",
            primary=frozenset(("refuted", "misled", "confirmed")),
        ),
        Task(
            name="judge",
            title="Which of two answers is better (table 3)",
            setup=(
                "A question and two answers; people's verdict is known. Agreement is with people, on the pairs as "
                "asked; a pair is inconsistent when swapping the answers does not swap the verdict. The paper's "
                "numbers are OASST2's and MT-Bench's (tokens: OASST2's). Its filter is the order swap: a lesson "
                "keeps its verdict when the answers change places. BSM judges by two criteria, and in a row of its "
                "own by up to five, as the paper's does."
            ),
            skill=JUDGE,
            ways={
                "System 2: CoT": _way(JUDGE, "cot", max_tokens=96),
                "System 2: CoT, worked examples": _way(JUDGE, "cot", JUDGE_COT, max_tokens=96),
                "System 2: BSM": _way(JUDGE, "bsm", criteria=2, orders="asked", plan_tokens=48),
                "System 2: BSM, five criteria": _way(JUDGE, "bsm", criteria=5, orders="asked", plan_tokens=120),
            },
            teacher="System 2: BSM",
            make=judge,
            sizes={
                "tiny": Sizes(20, 32, 1),
                "small": Sizes(30, 60, 1),
                "full": Sizes(273, 19_672, 1),
            },
            paper=(
                PaperRow(SYSTEM1, (32.0, 56.7, 28.1, 80.9), 4),
                PaperRow("System 2: CoT", (45.2, 37.7, 58.9, 30.8), 432.6),
                PaperRow("System 2: BSM", (49.1, 30.4, 64.5, 21.1), 2117.8),
                PaperRow(DISTILLED2, (58.4, 12.2, 72.4, 9.1), 4),
            ),
            measure=judged,
            paper_measures=("agreement", "inconsistent", "MT-Bench agreement", "MT-Bench inconsistent"),
            primary=frozenset(("asked",)),
            filter={"perturb": ("response_order",), "train_share": 0.75},
        ),
        Task(
            name="gsm8k",
            title="Grade-school mathematics (table 4)",
            setup=(
                "The paper's negative result: chains of thought do not become direct answers. System 1 is asked "
                '"Reply with one number and nothing else, no steps, no words." (the paper shows it eight examples '
                "without steps; told less firmly, the 1.5B model begins to explain and is cut off). A target needs a "
                "strict majority of its votes."
            ),
            skill=GSM8K,
            ways={
                "System 2: CoT, worked examples": _way(GSM8K, "cot", GSM8K_COT, max_tokens=200),
                "System 2: CoT, zero-shot, 1 sample": _way(GSM8K, "cot", max_tokens=320),
            },
            teacher="System 2: CoT, worked examples",
            paper_teacher="CoT, zero-shot",
            make=gsm8k,
            sizes={
                "tiny": Sizes(16, 24, 4, epochs=3),
                "small": Sizes(32, 48, 4, epochs=3),
                "full": Sizes(1319, 7473, 10, epochs=3),
            },
            paper=(
                PaperRow(SYSTEM1, (7.58,), 57),
                PaperRow("System 2: CoT, worked examples", (36.39,), 297),
                PaperRow("System 2: CoT, worked examples, vote", (63.84,), 3120),
                PaperRow("System 2: CoT, zero-shot, 1 sample", (52.77,), 270),
                PaperRow("System 2: CoT, zero-shot, vote of 10", (59.44,), 2760),
                PaperRow(DISTILLED2, (7.13,), 18),
            ),
            filter={"train_share": 0.51},
        ),
    )
}
