"""A memory with a past: answers whose confidence tells something about whether System 2 agrees."""

from __future__ import annotations

import math
import random
from dataclasses import replace

from memory.records import Draft, Episode, RouteDecision, Signals, System
from memory.store import Memory
from memory_fakes import completion, deliberation, episode


def answered(number: int, quality: float, agrees: bool, **changes: object) -> Episode:
    """System 2 answered; System 1's draft had log-prob ln(`quality`) and said the same, or not."""
    nats = math.log(quality)
    signals = Signals(nats, nats, nats, nats, quality, 1, True)
    said = "184" if agrees else "183"
    drafted = Draft(completion(said), said, signals, None)
    decision = RouteDecision(System.SYSTEM2, "unknown", None, None, 1.0)
    one = episode(number, adapter=None, **changes)
    return replace(one, adapter_digest=None, draft=drafted, decision=decision, deliberation=deliberation("184"))


def remember_past(memory: Memory, asks: int = 600, skill: str = "sums", seed: int = 0, start: int = 0) -> None:
    """`asks` answers of the base, a System 1 that is nearly always right where it is sure."""
    chance = random.Random(seed)
    for n in range(start, start + asks):
        quality = chance.random() ** 0.25
        memory.remember(answered(n, min(quality, 0.999), chance.random() < quality**0.5, skill=skill))
    memory.flush()
