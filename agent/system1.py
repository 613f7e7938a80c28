"""System 1: the model asked directly, with the confidence of its answer.

A draft that the confidence decides about can be listened to while it is written, and stopped as soon as no end of it
could reach the threshold (policies/early.py): System 2 then begins some tokens sooner, and the decision is the one
that the whole draft would have led to. What is recorded of a stopped draft is marked `stopped`: its text as far as it
went, no answer, and the signals and the confidence of its best possible end. It makes no pair with System 2's verdict
(whether it would have agreed is not known), and the episode's propensity is 0: calibration and certificates do not
read it, and what-if counts it as escalated from its bound upwards and as unsupported below. Held-out questions, and
all under the bare base, are never stopped, for those are what calibration and certificates are made of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from time import perf_counter
from typing import Any

from pydantic import Field

from agent.engine.client import Delta, Engine, Sampling
from agent.in_force import InForce
from memory.records import Ask, Completion, Draft, Message
from memory.settings import Settings
from policies.answers import extract
from policies.confidence import signals
from policies.early import ANY_LEAST, GREEDY_LEAST, Heard, hopeless
from policies.skills import SkillSettings, direct_messages, last_user_text

STOPPED = "stopped"  # the finish reason of a draft that was given up


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
    stop_early: bool = Field(
        True,
        description="stop a draft as soon as no end of it could reach the threshold, and think at once",
    )
    margin: bool = Field(
        False,
        description="ask for the likeliest other first token too, one more signal (it added nothing yet)",
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
        logprobs=2 if settings.margin else 0,
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


async def draft_or_stop(
    ask: Ask,
    skill: SkillSettings,
    force: InForce,
    engine: Engine,
    base: str,
    settings: System1Settings,
    enough: float,
    priority: int = 0,
) -> Draft:
    """`draft`, but stopped, with the engine, where it can no longer be as sure as `enough` (0..1)."""
    model = force.adapter.name if force.adapter else base
    messages = direct_messages(ask.messages, skill)
    drawn = sampling(ask.params, skill, settings)
    started, deltas, heard = perf_counter(), list[Delta](), _heard(drawn, messages, force)
    async with aclosing(engine.stream(model, messages, _counted(drawn), priority=priority)) as flow:
        async for delta in flow:
            deltas.append(delta)
            heard = _and(heard, delta)
            hope = (
                hopeless(heard, force.calibrator, skill.name, enough) if force.calibrator and delta.logprobs else None
            )
            if hope and delta.finish_reason is None:
                said = replace(joined(deltas, model, perf_counter() - started), finish_reason=STOPPED)
                return Draft(said, None, hope.signals, hope.confidence, stopped=True)
    return scored(joined(deltas, model, perf_counter() - started), messages, skill, force)


def _heard(drawn: Sampling, messages: Sequence[Message], force: InForce) -> Heard:
    """A draft of which nothing was said yet."""
    greedy = drawn.temperature == 0 and not drawn.extra  # what else the caller asks for may forbid likely tokens
    novelty = force.lessons.novelty(last_user_text(messages)) if force.lessons else None
    assert drawn.max_tokens is not None  # `sampling` always says
    return Heard((), drawn.max_tokens, novelty=novelty, least=GREEDY_LEAST if greedy else ANY_LEAST)


def _and(heard: Heard, delta: Delta) -> Heard:
    margin = heard.first_margin if heard.nats else delta.first_margin
    return replace(heard, nats=(*heard.nats, *delta.logprobs), first_margin=margin)


def _counted(drawn: Sampling) -> Sampling:
    """With the tokens' number in every piece: of a stream that is stopped nobody sees the last one."""
    wanted = {"include_usage": True, "continuous_usage_stats": True}
    return replace(drawn, extra={**drawn.extra, "stream_options": wanted})


def joined(deltas: Sequence[Delta], model: str, seconds: float) -> Completion:
    """The completion that a stream amounted to."""
    counts = [d for d in deltas if d.completion_tokens is not None]
    return Completion(
        text="".join(d.text for d in deltas),
        model=model,
        prompt_tokens=counts[-1].prompt_tokens or 0 if counts else 0,
        completion_tokens=counts[-1].completion_tokens or 0 if counts else len(deltas),
        finish_reason=next((d.finish_reason for d in reversed(deltas) if d.finish_reason), None),
        seconds=seconds,
        logprobs=tuple(value for d in deltas for value in d.logprobs),
        first_margin=next((d.first_margin for d in deltas if d.first_margin is not None), None),
    )


def scored(completion: Completion, messages: Sequence[Message], skill: SkillSettings, force: InForce) -> Draft:
    """A completion with its answer, its free signals and its calibrated confidence; `messages`: what was asked of
    System 1, as a lesson would have it."""
    answer = extract(completion.text, skill.answer_type, skill.choices)
    novelty = force.lessons.novelty(last_user_text(messages)) if force.lessons else None
    found = signals(completion, answer, novelty=novelty)
    confidence = force.calibrator.predict(found, skill.name) if force.calibrator else None
    return Draft(completion, answer, found, confidence)
