"""System 1: the model asked directly, with the confidence of its answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from agent.engine.client import Engine, Sampling
from agent.in_force import InForce
from memory.records import Ask, Completion, Draft, Message
from memory.settings import Settings
from policies.answers import extract
from policies.confidence import signals
from policies.skills import SkillSettings, direct_messages, last_user_text


class System1Settings(Settings):
    """Direct answers."""

    temperature: float = Field(
        0.0, ge=0, le=2, description="sampling temperature unless the caller gives one; 0 is greedy"
    )
    max_tokens: int = Field(512, ge=1, description="tokens of a direct answer where neither caller nor skill says")
    novelty: bool = Field(
        True,
        description="tell the confidence how far a question is from the adapter's lessons; a third of a millisecond",
    )
    grey_width: float = Field(
        0.0, ge=0, le=1,
        description="distance of confidence from threshold, each side, in which more is paid for it, 0..1; 0: never",
    )  # fmt: skip
    grey_samples: int = Field(2, ge=1, le=16, description="more samples drawn there, whose agreement is a signal")
    grey_temperature: float = Field(0.7, ge=0, le=2, description="sampling temperature of those samples")


def sampling(params: Mapping[str, Any], skill: SkillSettings, settings: System1Settings) -> Sampling:
    """The caller's own sampling parameters, with the skill's and the service's defaults beneath."""
    rest = dict(params)
    asked = rest.pop("max_completion_tokens", None) or rest.pop("max_tokens", None)
    rest.pop("max_tokens", None)
    temperature = rest.pop("temperature", None)
    stop = rest.pop("stop", None) or ()
    return Sampling(
        temperature=settings.temperature if temperature is None else temperature,
        max_tokens=asked or skill.max_answer_tokens or settings.max_tokens,
        logprobs=2,  # the drawn token and its rival: the first-token margin needs both
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        extra=rest,
    )


async def draft(
    ask: Ask,
    skill: SkillSettings,
    force: InForce,
    engine: Engine,
    base: str,
    settings: System1Settings,
    priority: int = 0,
) -> Draft:
    """Ask the live System 1 once. Raises what the engine raises (Unavailable, BadInput, TimedOut)."""
    model = force.adapter.name if force.adapter else base
    messages = direct_messages(ask.messages, skill)
    (completion,) = await engine.chat(model, messages, sampling(ask.params, skill, settings), priority=priority)
    return scored(completion, messages, skill, force)


def scored(completion: Completion, messages: Sequence[Message], skill: SkillSettings, force: InForce) -> Draft:
    """A completion with its answer, its free signals and its calibrated confidence; `messages`: what was asked of
    System 1, as a lesson would have it."""
    answer = extract(completion.text, skill.answer_type, skill.choices)
    novelty = force.lessons.novelty(last_user_text(messages)) if force.lessons else None
    found = signals(completion, answer, novelty=novelty)
    confidence = force.calibrator.predict(found, skill.name) if force.calibrator else None
    return Draft(completion, answer, found, confidence)
