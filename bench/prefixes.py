"""Which engine is asked with which long prefix, and how often one that still holds it: arithmetic on records."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

Received = tuple[float, str]  # monotonic seconds, the prefix's first line
RULES = "Answer with the number only, in the customer's own units, and never with a sentence. "
RULES_TIMES = 24  # about 2000 characters, a prefix that is worth keeping


@dataclass(frozen=True)
class Warmth:
    """How one way of balancing treats prefixes."""

    way: str
    requests: int
    seen: float  # 0..1, of the requests: to an engine that has had the prefix before
    held: float  # 0..1, of the requests: to an engine that has had it among the last it can hold
    busiest: float  # requests of the busiest engine, times the mean of all


def prefixed(prefixes: int, requests: int, seed: int) -> list[list[dict[str, str]]]:
    """Messages of so many requests, each a question of its own behind one of the prefixes, drawn at random."""
    chance = random.Random(seed)
    return [
        [
            {"role": "system", "content": f"{line(chance.randrange(prefixes))}\n{RULES * RULES_TIMES}"},
            {"role": "user", "content": f"What is {n} + {chance.randrange(1000)}?"},
        ]
        for n in range(requests)
    ]


def line(number: int) -> str:
    """The first line of a prefix, by which it is known."""
    return f"You serve customer {number:04d}."


def warmth(way: str, received: Sequence[Sequence[str]], holds: int) -> Warmth:
    """`received`: the prefixes that each engine was asked with, in its order. `holds`: prefixes an engine can hold."""
    total, most = sum(map(len, received)), max(map(len, received))
    seen = sum(len(one) - len(set(one)) for one in received)
    held = sum(hits(one, holds) for one in received)
    return Warmth(way, total, seen / max(1, total), held / max(1, total), most * len(received) / max(1, total))


def hits(prefixes: Sequence[str], holds: int) -> int:
    """How many of an engine's requests found their prefix among the `holds` that were used last."""
    kept: dict[str, None] = {}  # oldest use first
    found = 0
    for prefix in prefixes:
        found += prefix in kept
        kept.pop(prefix, None)
        kept[prefix] = None
        if len(kept) > holds:
            del kept[next(iter(kept))]
    return found


def in_order(received: Sequence[Sequence[Received]]) -> list[Received]:
    """What all engines were asked with, as it came."""
    return sorted(one for engine in received for one in engine)


def earliest(received: Sequence[Sequence[Received]], count: int) -> list[list[str]]:
    """What each engine was asked with among the first `count` requests of all."""
    kept = set(in_order(received)[:count])
    return [[one[1] for one in engine if one in kept] for engine in received]


def round_robin(order: Sequence[str], engines: int) -> list[list[str]]:
    """The same requests dealt out in turn."""
    return [list(order[n::engines]) for n in range(engines)]


def at_random(order: Sequence[str], engines: int, seed: int) -> list[list[str]]:
    """The same requests dealt out by chance."""
    chance, dealt = random.Random(seed), [list[str]() for _ in range(engines)]
    for prefix in order:
        dealt[chance.randrange(engines)].append(prefix)
    return dealt


def by_prefix(order: Sequence[str], engines: int) -> list[list[str]]:
    """The same requests with one engine for each prefix, prefixes shared out evenly: nothing can be warmer."""
    busy, place, dealt = (
        Counter(dict.fromkeys(range(engines), 0)),
        dict[str, int](),
        [list[str]() for _ in range(engines)],
    )
    for prefix in order:
        if prefix not in place:
            place[prefix] = min(range(engines), key=busy.__getitem__)
            busy[place[prefix]] += 1
        dealt[place[prefix]].append(prefix)
    return dealt
