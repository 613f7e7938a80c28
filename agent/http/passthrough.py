"""Requests that only the engine itself can serve (tools, several choices, structured output, images)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any

import orjson

from agent.answer import direct_episode
from agent.config import Config
from agent.day import Day
from agent.engine.client import CHAT, Raw
from agent.engine.wire import error
from agent.http import shape
from agent.in_force import InForce
from memory.records import Ask, Completion, Episode
from policies.skills import SkillSettings

LINES_OF_EVENT = 2  # a server-sent event is a line of JSON and an empty one; chunks are cut anywhere


def engine_body(day: Day, ask: Ask, force: InForce, *, stream: bool = False) -> dict[str, Any]:
    """The caller's own request under the live System 1's name, with an end to its answer."""
    model = force.adapter.name if force.adapter else day.base
    body: dict[str, Any] = {**bounded(ask.params, day.config), "model": model, "messages": list(ask.messages)}
    return body | {"stream": True, "stream_options": {"include_usage": True}} if stream else body


def bounded(params: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """The caller's parameters; where they set no length, a direct answer's, and all choices within the limit."""
    if "max_tokens" in params or "max_completion_tokens" in params:  # checked at the door
        return dict(params)
    share = config.limits.answer_tokens // (params.get("n") or 1)
    return {**params, "max_tokens": max(1, min(config.system1.max_tokens, share))}


async def forwarded(day: Day, ask: Ask, skill: SkillSettings) -> tuple[bytes, Episode]:
    """The engine's answer with our provenance on it, and the remembered episode.

    Raises the engine's error in our own words (BadInput, NotFound, ...), so that its shape is one everywhere.
    """
    started = day.clock()
    with day.pointer.hold() as force:
        async with day.system1_room.enter():
            raw: Raw = await day.engine.forward(CHAT, engine_body(day, ask, force))
        if raw.status >= 400:
            raise error(raw.status, raw.body)
        answer: dict[str, Any] = orjson.loads(raw.body)
        said = _completion(answer, day.clock() - started)
        episode = direct_episode(day, ask, skill, force, said)
    answer |= {"model": day.config.http.model_name, "secondnature": shape.provenance(episode)}
    return orjson.dumps(answer), episode


async def forwarded_stream(
    day: Day, ask: Ask, skill: SkillSettings, heard: Callable[[int], None] = lambda tokens: None
) -> AsyncGenerator[bytes, None]:
    """The engine's events as they come; the episode is remembered when they end.

    `heard` is told how many tokens were generated so far: the events, until the engine has said the number. What the
    engine refuses is raised instead of the first chunk. Closing this generator closes the request to the engine.
    """
    started = day.clock()
    seen: list[bytes] = []
    lines = 0
    with day.pointer.hold() as force:
        async with day.system1_room.enter():
            flow = await day.engine.forward_stream(CHAT, engine_body(day, ask, force, stream=True))
            async with aclosing(flow):
                if flow.status >= 400:
                    raise error(flow.status, b"".join([chunk async for chunk in flow]))
                async for chunk in flow:
                    seen.append(chunk)
                    lines += chunk.count(b"\n")
                    heard(lines // LINES_OF_EVENT)
                    yield chunk
        episode = direct_episode(day, ask, skill, force, _streamed(b"".join(seen), day.clock() - started))
    if episode.tokens:
        heard(episode.tokens)


def _completion(answer: Mapping[str, Any], seconds: float) -> Completion:
    choice, usage = answer["choices"][0], answer.get("usage") or {}
    message = choice.get("message") or {}
    text = message.get("content") or orjson.dumps(message.get("tool_calls") or "").decode()
    return Completion(
        text=text,
        model=str(answer.get("model")),
        prompt_tokens=int(usage.get("prompt_tokens") or 0),
        completion_tokens=int(usage.get("completion_tokens") or 0),
        finish_reason=choice.get("finish_reason"),
        seconds=seconds,
    )


def _streamed(events: bytes, seconds: float) -> Completion:
    """What a stream of events amounted to."""
    lines = (line.removeprefix(b"data:").strip() for line in events.split(b"\n") if line.startswith(b"data:"))
    parts = [orjson.loads(line) for line in lines if line.startswith(b"{")]
    choices = [choice for part in parts for choice in part.get("choices") or ()]
    text = "".join((choice.get("delta") or {}).get("content") or "" for choice in choices)
    usage: dict[str, Any] = next((part["usage"] for part in reversed(parts) if part.get("usage")), {})
    finish = next((c["finish_reason"] for c in reversed(choices) if c.get("finish_reason")), None)
    return Completion(
        text=text,
        model=str(parts[0].get("model")) if parts else "",
        prompt_tokens=int(usage.get("prompt_tokens") or 0),
        completion_tokens=int(usage.get("completion_tokens") or 0),
        finish_reason=finish,
        seconds=seconds,
    )
