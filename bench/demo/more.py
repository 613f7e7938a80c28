"""The day after a demo: more fresh questions of the same skills, in auto mode, to a service on the demo's state.

    secondnature serve --config state/demo/service.yaml --state-dir state/demo     # in another terminal
    python -m bench.demo.more http://127.0.0.1:8600 --config state/demo/service.yaml [--each 60] [--seed 4242]

All lie on the side of the split that is never trained on, so that `bench.routing` and `bench.extras` can judge the
adapter by them. Prints the share of System 1 and how many answers were right, by skill.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
from collections.abc import Sequence
from pathlib import Path

from agent.config import load
from bench.demo.asking import Asker, accuracy, by_skill, system1_share
from bench.demo.show import Show
from bench.demo.sizes import SKILLS
from bench.demo.skills import Question, distinct
from bench.demo.stages import live_a_day
from policies.skills import SkillSettings, is_heldout, prompt_key


def fresh(skills: Sequence[SkillSettings], each: int, heldout_share: float, seed: int) -> list[Question]:
    """Held-out questions, `each` of every skill of the demo, in turn."""
    known = {skill.name for skill in skills}
    rows = [
        itertools.islice((q for q in distinct(skill, seed) if _heldout(q, heldout_share)), each)
        for skill in SKILLS
        if skill in known
    ]
    return [question for turn in itertools.zip_longest(*rows) for question in turn if question is not None]


def _heldout(question: Question, share: float) -> bool:
    return is_heldout(prompt_key([{"role": "user", "content": question.text}]), share)


async def ask_more(url: str, skills: Sequence[SkillSettings], questions: Sequence[Question]) -> None:
    """Ask all and print each skill's line."""
    asker, show = Asker(url, skills), Show()
    try:
        answers = await live_a_day(asker, questions, show)
    finally:
        await asker.close()
    for skill, given in by_skill(answers).items():
        share, good = system1_share(given), accuracy(given)
        by = "none answered" if share is None else f"{share:.0%} by System 1"
        show.say(f"{skill}: {len(given)} questions, {by}, {good:.0%} right")


def main() -> None:
    """Ask."""
    parser = argparse.ArgumentParser(prog="python -m bench.demo.more", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("url", help="the service, as `secondnature serve` prints it")
    parser.add_argument("--config", type=Path, required=True, help="the demo's service.yaml")
    parser.add_argument("--each", type=int, default=60, help="questions of each skill")
    parser.add_argument("--seed", type=int, default=4242, help="another than the demo's own, or they are asked twice")
    given = parser.parse_args()
    config = load(given.config)
    questions = fresh(config.skills, given.each, config.heldout_share, given.seed)
    asyncio.run(ask_more(given.url.rstrip("/"), config.skills, questions))


if __name__ == "__main__":
    main()
