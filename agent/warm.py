"""Before an adapter is put in force under load: it is loaded, and the day's common beginnings are read to it.

The engine's prefix cache is keyed by the adapter's name, so that what many questions begin with (a system prompt,
worked examples) has to be computed anew for a new adapter: all of it in the step of its first question, and every
answer under way waits for that step. And its matrices are packed during its first second (agent/engine/fused_lora.py).
Here both are done before: it is loaded, and then read a piece at a time, with a grace period before each, so that an
answer that takes no longer than the pause meets one piece. Gateways of a fleet with engines of their own
(`fleet.published`) flip unwarmed, so that a learner's rollback reaches them at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import orjson

from agent.day import Day
from agent.swap import load
from memory.errors import BadInput, SecondNatureError
from memory.records import Adapter, Episode, Message
from policies.skills import direct_messages

log = logging.getLogger("secondnature.warm")
Tokens = tuple[int, ...]

NEWEST = 100  # questions that are looked at
PIECES = 64  # read at the most: 2,048 tokens of common beginnings in blocks of 32
PAUSE_S = 2.0  # seconds at the most that a piece waits for those who are answered: thoughts may take a minute


async def warm(day: Day, adapter: Adapter, folder: Path) -> float:
    """Load an adapter everywhere and read the newest questions' common beginnings to it, within `engine.warm_s`: what
    is not read by then is computed when somebody asks. Returns seconds. Raises what loading it raises: an engine that
    cannot be warmed, or is gone meanwhile, is for the swap to find."""
    started, within = day.clock(), day.config.engine.warm_s
    if not within:
        return 0.0
    async with day.pointer.changing:
        await load(day, adapter, folder)
    try:
        async with asyncio.timeout(within):
            await _read(day, adapter.name, day.clock() + within)
    except TimeoutError:
        log.info("%s: not all beginnings were read in %g s", adapter.name, within)
    except SecondNatureError as fault:  # somebody else's engine may know no completions
        log.warning("%s could not be warmed: %s", adapter.name, fault.message)
    return day.clock() - started


async def _read(day: Day, name: str, until: float) -> None:
    pieces = await _pieces(day)
    for n, tokens in enumerate(pieces):
        await _grace(day, min(PAUSE_S, (until - day.clock()) / (len(pieces) - n + 1)))
        await day.engine.read(name, tokens)
    await _grace(day, min(PAUSE_S, until - day.clock()))


def common_beginnings(prompts: Mapping[Tokens, int], block: int, most: int) -> list[Tokens]:
    """Beginnings, of whole blocks of `block` tokens, that two questions or more share: the most frequent first, each
    after its own beginning. `prompts`: how often each was asked."""
    shared: Counter[Tokens] = Counter()
    for prompt, times in prompts.items():
        for end in range(block, min(len(prompt), block * most) + 1, block):
            shared[prompt[:end]] += times
    found = (beginning for beginning, times in shared.items() if times > 1)
    return sorted(found, key=lambda beginning: (-shared[beginning], len(beginning)))[:most]


async def _pieces(day: Day) -> list[Tokens]:
    newest = await asyncio.to_thread(day.memory.episodes, kind="ask", limit=NEWEST)
    asked = Counter(orjson.dumps(_messages(day, episode)) for episode in newest if episode.ask.messages)
    prompts: Counter[Tokens] = Counter()
    for messages, times in asked.items():
        with contextlib.suppress(BadInput):  # the template takes no such messages today
            prompts[await day.engine.tokenize(day.base, orjson.loads(messages))] += times
    return await asyncio.to_thread(common_beginnings, prompts, day.config.engine.kv_block_tokens, PIECES)


def _messages(day: Day, episode: Episode) -> tuple[Message, ...]:
    """As System 1 is asked. Questions with tools go to the engine as they came, and begin otherwise: those are not
    read."""
    return tuple(direct_messages(episode.ask.messages, day.skill_named(episode.ask.skill)))


async def _grace(day: Day, seconds: float) -> None:
    """Let those who are answered now be answered, but wait no longer than this."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, seconds)):
            await day.pointer.passed()
