"""Questions asked of System 1 or of System 2, each answered once and kept."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from agent.engine.client import Engine, Priority, Sampling
from agent.in_turn import in_turn
from agent.reproduce.answered import Answer, key_of
from agent.reproduce.data import Question
from agent.reproduce.lab import Lab, Paused
from agent.system2.deliberate import deliberate
from agent.system2.problem import Problem, user
from agent.system2.think import Think
from memory.errors import TimedOut
from memory.records import Deliberation, Grade
from policies.agree import AgreementSettings
from policies.answers import extract
from policies.lessons import answer_text
from policies.skills import SkillSettings, direct_messages

# Of a rule of agreement a key says what differs from these, whatever the defaults have become since keys were made.
UNSAID = {"block": 4, "stop_confidence": 0.95, "train_attempts": 4}
One = Callable[[Engine, str, str], Awaitable[Answer]]
"""one(engine, key, text): the answer to a prompt."""


async def direct(
    lab: Lab, row: str, model: str, questions: Sequence[Question], skill: SkillSettings, adapter: Path | None = None
) -> list[Answer]:
    """System 1: the model asked once, greedy. `model`: the base's name in the engine, or that of the adapter in the
    folder `adapter`, which is loaded for the time."""

    async def one(engine: Engine, key: str, text: str) -> Answer:
        sampling = Sampling(max_tokens=skill.max_answer_tokens)
        messages = direct_messages(user(text), skill)
        (done,) = await engine.chat(model, messages, sampling, priority=Priority.SYSTEM1)
        answer = extract(done.text, skill.answer_type, skill.choices)
        return Answer(key, answer, done.completion_tokens, done.seconds, done.text)

    how = [skill.direct, skill.direct_place, skill.max_answer_tokens]
    asked = ["direct", model if adapter else "", *how]
    return await _every(lab, row, questions, asked, one, (model, adapter) if adapter else None)


async def thought(lab: Lab, row: str, questions: Sequence[Question], skill: SkillSettings) -> list[Answer]:
    """System 2 by the skill's method and agreement rule, on the frozen base."""

    async def one(engine: Engine, key: str, text: str) -> Answer:
        think = Think(engine, lab.model, priority=Priority.NIGHT)
        started = time.perf_counter()
        try:
            found = await deliberate(Problem(user(text), skill), think, lab.system2)
        except TimedOut:
            return Answer(key, None, think.tokens, time.perf_counter() - started)
        return _kept(key, found, skill)

    return await _every(lab, row, questions, ["thought", _seen(skill), said(lab.system2)], one)


def _kept(key: str, found: Deliberation, skill: SkillSettings) -> Answer:
    plain = [a for a in found.attempts if a.perturbation is None]
    return Answer(
        key,
        found.verdict.answer,
        found.tokens,
        found.seconds,
        answer_text(found, skill.answer_type, skill.choices),
        found.verdict.grade is Grade.TRAIN,
        plain[0].answer if plain else None,
        found.verdict.votes,
    )


def _seen(skill: SkillSettings) -> Any:
    """What System 2 reads of a skill: System 1's own words only where they are what is sampled."""
    own = set() if skill.method == "direct" else {"direct", "direct_place", "max_answer_tokens"}
    told = {name: value for name, value in said(skill).items() if name not in own | {"agreement"}}
    unsaid, rule = AgreementSettings().model_dump(mode="json") | UNSAID, skill.agreement
    idle = {"stop_confidence"} if rule.stop != "beta" or rule.max_samples == 1 else set()
    agreement = {k: v for k, v in rule.model_dump(mode="json").items() if v != unsaid[k] and k not in idle}
    return told | ({"agreement": agreement} if agreement else {})


def said(settings: Any) -> Any:
    """What differs from the defaults: a setting that a later version adds does not lose the answers kept."""
    return settings.model_dump(mode="json", exclude_defaults=True)


async def _every(
    lab: Lab,
    row: str,
    questions: Sequence[Question],
    asked: Sequence[Any],
    one: One,
    adapter: tuple[str, Path] | None = None,
) -> list[Answer]:
    """The answers in the questions' order: those that are kept, and the rest asked now.

    Raises Paused when the time is over before all are answered; what is under way is waited for and kept.
    """
    keys = {q.text: key_of(lab.base.identity, *asked, q.text) for q in questions}
    missing = [(key, text) for text, key in keys.items() if lab.answers.get(key) is None]
    lab.say(row, len(keys) - len(missing), len(keys))
    if missing:
        if lab.left_s <= 0:
            raise Paused
        lab.worked = True
        engine = await lab.bench.engine()
        if adapter:
            await engine.load_adapter(*adapter)

        async def in_time(item: tuple[str, str]) -> None:
            if lab.left_s > 0:
                lab.answers.add(await one(engine, *item))

        await in_turn(in_time, missing, lambda n: lab.say(row, len(keys) - len(missing) + n, len(keys)))
        if adapter:
            await engine.unload_adapter(adapter[0])
    found = [lab.answers.get(keys[q.text]) for q in questions]
    if any(answer is None for answer in found):
        raise Paused
    return [answer for answer in found if answer is not None]
