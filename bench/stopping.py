"""The early stop of a vote, simulated: how often it changes the winner, and what it draws.

    python -m bench.stopping [--questions 20000] [--json]

Questions of one kind each: a sample is right with a chance that is the same for all of a kind; half of the wrong ones
say the same (the distractor), the others each something else. A vote is drawn as the service draws it, by the default
rule and others up to 8 samples, and compared with the winner of all 8 of the same samples.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from random import Random

from rich.console import Console
from rich.table import Table

from policies import agree
from policies.agree import AgreementSettings

RIGHT = (0.95, 0.8, 0.6, 0.4, 0.3)  # chance of a right sample, 0..1
CAP = 8


def first(n: int, posterior: float) -> AgreementSettings:
    """`n` samples first, up to 8, and an early stop at a posterior; that many train."""
    return AgreementSettings(block=n, stop_confidence=posterior, train_attempts=n, max_samples=CAP)


RULES: Mapping[str, AgreementSettings] = {
    "as delivered": AgreementSettings(max_samples=CAP),
    "4 first, posterior 0.95": first(4, 0.95),
    "3 first, posterior 0.93": first(3, 0.93),
    "2 first, posterior 0.85": first(2, 0.85),
    "certain": AgreementSettings(block=4, stop="certain", max_samples=CAP),
}


@dataclass(frozen=True)
class Row:
    """One rule on one kind of question."""

    rule: str
    right: float  # 0..1, chance of a right sample
    samples: float  # drawn per question
    changed: float  # 0..1, share of the questions whose winner is not that of all 8
    winner_right: float  # 0..1, share whose winner is right
    full_right: float  # 0..1, the same of all 8


def samples(chance: Random, right: float) -> list[str]:
    """What 8 samples of one question say."""
    said = []
    for n in range(CAP):
        drawn = chance.random()
        wrong = "distractor" if drawn < right + (1 - right) / 2 else f"other {n}"
        said.append("right" if drawn < right else wrong)
    return said


def voted(said: list[str], rule: AgreementSettings) -> list[str]:
    """The samples that the rule draws."""
    n = 0
    while not agree.stop(said[:n], rule).stop:
        n += agree.needed(said[:n], rule)
    return said[:n]


def winner(said: list[str]) -> str:
    """Most votes; ties go to the one that came first."""
    return Counter(said).most_common(1)[0][0]


def measure(questions: int) -> list[Row]:
    """Every rule on the same samples of every kind."""
    rows = []
    for right in RIGHT:
        chance = Random(right)
        drawn = [samples(chance, right) for _ in range(questions)]
        full = [winner(said) for said in drawn]
        for name, rule in RULES.items():
            votes = [voted(said, rule) for said in drawn]
            won = [winner(said) for said in votes]
            rows.append(
                Row(
                    name, right, sum(map(len, votes)) / questions,
                    sum(mine != all8 for mine, all8 in zip(won, full, strict=True)) / questions,
                    won.count("right") / questions, full.count("right") / questions,
                )
            )  # fmt: skip
    return rows


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m bench.stopping", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--questions", type=int, default=20_000, help="of each kind")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows = measure(given.questions)
    if given.json:
        return print(json.dumps([asdict(row) for row in rows], indent=1))
    table = Table("rule", "right samples", "drawn of 8", "winner changed", "winner right", "right of all 8")
    for r in rows:
        shares = (f"{100 * share:.2f} %" for share in (r.changed, r.winner_right, r.full_right))
        table.add_row(r.rule, f"{r.right:.2f}", f"{r.samples:.2f}", *shares)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
