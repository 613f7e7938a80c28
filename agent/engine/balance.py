"""Which engine a request goes to: rendezvous hashing with bounded loads (Mirrokni, Thorup and Zadimoghaddam 2018).

Requests with a common head go to the engine that read it before (its prefix cache holds it), unless that one is
loaded above its share. Short heads are not worth a queue: they are spread evenly. Gateways that do not know of each
other choose the same engine for the same head.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.engine.client import Engine
from memory.records import Message

SPREAD = 1.25  # an engine may hold this many times the mean of all before the next in line is asked
WORTH_CHARS = 256  # a shorter head is read again in no time: its requests are spread evenly instead
HEAD_CHARS = 512  # of the first message, where a prompt has only one


@dataclass(slots=True, eq=False)
class Member:
    """One engine in the pool."""

    name: str  # for the log, and to rank it: the url
    engine: Engine
    up: bool = False  # answers, was admitted, and holds every wanted adapter
    load: int = 0  # samples in flight
    admitted: bool = False  # not again until it was restarted
    why: str = ""  # why it is out of traffic
    looked: asyncio.Event = field(default_factory=asyncio.Event)  # set after the first look
    wake: asyncio.Event = field(default_factory=asyncio.Event)  # look now
    looking: asyncio.Lock = field(default_factory=asyncio.Lock)

    def release(self, samples: int) -> None:
        self.load -= samples


def choose(key: str, up: Sequence[Member], weight: int = 1) -> Member:
    """The engine for a request of `weight` samples with head `key`, of those in traffic (at least one)."""
    spread = SPREAD if len(key) >= WORTH_CHARS else 1.0
    bound = math.ceil(spread * (sum(member.load for member in up) + weight) / len(up))
    ranked = sorted(up, key=lambda member: _rank(key, member.name))
    return next(member for member in ranked if member.load < bound)


def head(model: str, messages: Sequence[Message]) -> str:
    """What prompts with a common cached prefix have in common: the model and the first message, or its start."""
    first = str(messages[0].get("content")) if messages else ""
    return f"{model}\n{first if len(messages) > 1 else first[:HEAD_CHARS]}"


def body_head(body: Mapping[str, Any]) -> str:
    """The same for a request that is passed on as it came."""
    messages = body.get("messages")
    sound = isinstance(messages, list) and messages and isinstance(messages[0], Mapping)
    return head(str(body.get("model")), messages if sound else ())  # type: ignore[arg-type]  # checked above


def body_weight(body: Mapping[str, Any]) -> int:
    """How many samples a request asks for."""
    n = body.get("n")
    return n if isinstance(n, int) and n > 0 else 1


def _rank(key: str, name: str) -> bytes:
    return hashlib.blake2b(f"{key}\0{name}".encode(), digest_size=8).digest()
