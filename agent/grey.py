"""Near the threshold a surer confidence is worth its price: more samples, and the frozen base's own opinion.

Off as delivered: the calibration has to see such signals before they help, and each costs a call of the engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from agent.engine.client import Engine
from agent.in_force import InForce
from agent.system1 import System1Settings, sampling
from memory.records import Ask, Completion, Draft, Message, Mode
from policies.answers import extract
from policies.skills import SkillSettings, direct_messages


def is_grey(draft: Draft, ask: Ask, threshold: float | None, settings: System1Settings) -> bool:
    """Whether the confidence is so near the threshold that more should be paid for it."""
    if ask.mode is not Mode.AUTO or threshold is None or draft.confidence is None or draft.answer is None:
        return False
    return settings.grey_width > 0 and abs(draft.confidence - threshold) <= settings.grey_width


async def consulted(
    draft: Draft,
    ask: Ask,
    skill: SkillSettings,
    force: InForce,
    engine: Engine,
    base: str,
    settings: System1Settings,
    priority: int = 0,
) -> Draft:
    """The draft with the dearer signals, and its confidence by them. Raises what the engine raises.

    The samples come from the System 1 that drafted, the opinion from the base; both calls go out at once.
    """
    messages = direct_messages(ask.messages, skill)
    drawn = sampling(ask.params, skill, settings)
    drawn = replace(drawn, n=settings.grey_samples, temperature=settings.grey_temperature, logprobs=None)
    model = force.adapter.name if force.adapter else base
    samples, opinion = await asyncio.gather(
        engine.chat(model, messages, drawn, priority=priority),
        _opinion(engine, base, messages, draft.completion.text, wanted=force.adapter is not None),
    )
    signals = replace(draft.signals, agreement=_agreement(samples, draft, skill), base_logprob=opinion)
    confidence = force.calibrator.predict(signals, skill.name) if force.calibrator else None
    spent = sum(one.completion_tokens for one in samples)
    return replace(draft, signals=signals, confidence=confidence, extra_tokens=draft.extra_tokens + spent)


async def _opinion(engine: Engine, base: str, messages: Sequence[Message], text: str, *, wanted: bool) -> float | None:
    """Nats per token of the answer under the base; None where the base itself drafted, or nothing was said."""
    nats = await engine.answer_logprobs(base, messages, text) if wanted and text else ()
    return sum(nats) / len(nats) if nats else None


def _agreement(samples: Sequence[Completion], draft: Draft, skill: SkillSettings) -> float:
    """0..1, share of the samples that say what the draft says."""
    said = [extract(one.text, skill.answer_type, skill.choices) for one in samples]
    return sum(answer == draft.answer for answer in said) / len(said)
