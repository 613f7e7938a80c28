"""Several engines and several gateways, beside LiteLLM's proxy with its router: ratios within one run.

    python -m bench.engines [--engines 1 2 4] [--seconds 7] [--rounds 2] [--kills 3] [--json]
                            [--parts scaling prefixes gateways kill] [--without-litellm]

The engines are mocks (bench/mock_engine.py) of a fixed capacity: so many requests at once (`--slots`), each after so
long (`--service-ms`). Slow ones are meant, so that they and not what stands above them are the limit: a proxy that
itself answers 80 requests a second cannot show what a second engine of 80 adds.

- scaling: one gateway, and LiteLLM, above 1, 2 and 4 engines, loaded in turn, with as many connections for each engine.
  The ratios are to the fewest engines of the same system; that of the answers would be the number of engines.
- prefixes: requests behind one of many long system messages, and the share of them that went to an engine which had
  seen this one before, by what the engines received. Round robin, chance, and one engine for each prefix are the
  gateway's requests dealt out anew.
- gateways: one and two gateways above the same two engines, with the same connections in all; and above two engines
  that answer at once, where the processors are the limit.
- kill: two engines under load, one of them killed (SIGKILL) half-way, and started again afterwards.

LiteLLM's router is as delivered (simple shuffle, 2 retries, a cool-down of 5 s); bench/proxies.py installs it. Load,
gateways, LiteLLM and engines share the machine's processors.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from statistics import median
from typing import Any

import uvloop
from rich.console import Console
from rich.table import Table

from bench.above import GATEWAY, MOST, Sizes, World, gateway, opened, unlimited
from bench.load import Burst, burst, burst_on_each
from bench.prefixes import Received, Warmth, at_random, by_prefix, earliest, in_order, prefixed, round_robin, warmth
from bench.proxies import Row, in_turn, install_litellm, row

AGAIN_S = 6.0  # until a gateway has looked at a lost engine again (engine.probe_s) and LiteLLM has cooled down
SEED = 11
ROOM = 1.5  # an engine holds so many times its even part of the prefixes
QUESTIONS = [[{"role": "user", "content": f"What is {n} + 30? Say the number only."}] for n in range(256)]


@dataclass(frozen=True)
class Beside:
    """Some of something, beside the fewest of it. The ratios are within one run."""

    what: str
    count: int  # engines below it, or gateways
    connections: int
    answers: int
    failed: int
    per_s: float  # answers per second
    per_s_ratio: float
    p99_ms: float
    p99_ratio: float
    cpu_ms: float  # processor time of the gateways or of LiteLLM per answer


@dataclass(frozen=True)
class Killed:
    """One system while an engine of two was killed, all kills together."""

    what: str
    kills: int
    answers: int
    failed: int
    longest_ms: float
    calm_longest_ms: float  # of the same load, nobody killed


def scaling(world: World) -> list[Beside]:
    """Every system above every number of engines."""
    sizes = world.sizes
    loads = {
        (system, n): partial(burst, door.target(QUESTIONS), n * sizes.per_engine)
        for n in sizes.engines
        for system, door in world.above(n).items()
    }
    found = uvloop.run(in_turn(loads, sizes.rounds, sizes.seconds))
    return beside({(what, n): steady(what, n * sizes.per_engine, bursts) for (what, n), bursts in found.items()})


def gateways(world: World) -> list[Beside]:
    """One gateway and two, above engines that are the limit and above engines that are not."""
    sizes = world.sizes
    with contextlib.ExitStack() as stack:
        free = unlimited(stack, sizes)
        above = {
            "busy engines": [world.doors[GATEWAY, 2], gateway(stack, world.mocks.urls[:2])],
            "instant engines": [gateway(stack, free) for _ in range(2)],
        }
        loads = {
            (what, n): partial(burst_on_each, [door.target(QUESTIONS) for door in doors[:n]], 2 * sizes.per_engine)
            for what, doors in above.items()
            for n in (1, 2)
        }
        found = uvloop.run(in_turn(loads, sizes.rounds, sizes.seconds))
    return beside({(what, n): steady(what, 2 * sizes.per_engine, bursts) for (what, n), bursts in found.items()})


def steady(what: str, connections: int, bursts: Sequence[Burst]) -> Row:
    """Medians over the rounds; answers a second without the end of each, when not every engine is busy any more."""
    return replace(row(what, connections, bursts), per_s=median(one.steady_per_s for one in bursts))


def beside(found: Mapping[tuple[str, int], Row]) -> list[Beside]:
    """Every row with its ratios to the fewest of the same."""
    least = {what: found[what, min(n for other, n in found if other == what)] for what, _ in found}
    return [
        Beside(
            what=what,
            count=n,
            connections=one.connections,
            answers=one.requests,
            failed=one.failed,
            per_s=one.per_s,
            per_s_ratio=one.per_s / least[what].per_s,
            p99_ms=one.p99_ms,
            p99_ratio=one.p99_ms / least[what].p99_ms,
            cpu_ms=one.cpu_ms,
        )
        for (what, n), one in sorted(found.items(), key=lambda item: (list(least).index(item[0][0]), item[0][1]))
    ]


def prefixes(world: World) -> list[Warmth]:
    """How warm the engines are that requests go to: every system's, and the gateway's requests dealt out anew."""
    sizes, engines = world.sizes, max(world.sizes.engines)
    seconds = sizes.seconds * sizes.rounds
    asked = prefixed(sizes.prefixes, math.ceil(sizes.capacity(engines) * seconds), SEED)
    found: dict[str, list[list[Received]]] = {}
    for system, door in world.above(engines).items():
        world.mocks.received(engines)  # and forgotten: caches are cold for everybody
        uvloop.run(burst(door.target(asked), engines * sizes.per_engine, seconds))
        found[system] = world.mocks.received(engines)
    return compared(found, engines, holds(sizes))


def compared(found: Mapping[str, Sequence[Sequence[Received]]], engines: int, holds: int) -> list[Warmth]:
    """All over as many requests, those of the slowest system: the longer a run, the more has been seen."""
    count = min(sum(map(len, received)) for received in found.values())
    order = [prefix for _, prefix in in_order(found[GATEWAY])[:count]]
    ways = {system: earliest(received, count) for system, received in found.items()}
    ways |= {"round robin": round_robin(order, engines), "chance": at_random(order, engines, SEED)}
    ways["one engine for each prefix"] = by_prefix(order, engines)
    return [warmth(way, received, holds) for way, received in ways.items()]


def holds(sizes: Sizes) -> int:
    """How many prefixes one of the most engines holds."""
    return math.ceil(ROOM * sizes.prefixes / max(sizes.engines))


def kill(world: World) -> list[Killed]:
    """Each system's second engine killed in the middle of a load, after a load in which nothing happens."""
    sizes, found = world.sizes, dict[str, list[tuple[Burst, Burst]]]()
    for turn in range(sizes.kills):
        if turn:
            time.sleep(AGAIN_S)
        for system, door in world.above(2).items():
            load = partial(burst, door.target(QUESTIONS), 2 * sizes.per_engine)
            calm = uvloop.run(load(sizes.seconds))
            under = uvloop.run(struck(load(sizes.seconds), sizes.seconds / 2, partial(world.mocks.kill, 1)))
            world.mocks.start(1)
            found.setdefault(system, []).append((calm, under))
    return [killed(system, pairs) for system, pairs in found.items()]


async def struck(load: Coroutine[Any, Any, Burst], after_s: float, strike: Callable[[], None]) -> Burst:
    """A load during which something happens."""
    under_way = asyncio.create_task(load)
    await asyncio.sleep(after_s)
    strike()
    return await under_way


def killed(what: str, pairs: Sequence[tuple[Burst, Burst]]) -> Killed:
    """All kills together; each is a calm load, and one with a kill."""
    return Killed(
        what=what,
        kills=len(pairs),
        answers=sum(len(under.latencies) for _, under in pairs),
        failed=sum(under.failed for _, under in pairs),
        longest_ms=max(under.percentile(100) for _, under in pairs),
        calm_longest_ms=max(calm.percentile(100) for calm, _ in pairs),
    )


PARTS: Mapping[str, Callable[[World], Sequence[Any]]] = {
    "scaling": scaling,
    "prefixes": prefixes,
    "gateways": gateways,
    "kill": kill,  # last: a gateway needs some seconds to take the engine back
}


def engines_below(parts: Sequence[str], engines: Sequence[int]) -> list[int]:
    """The numbers of engines above which something must stand for these parts."""
    needed = {"scaling": {*engines}, "prefixes": {max(engines)}, "gateways": {2}, "kill": {2}}
    return sorted({n for part in parts for n in needed[part]})


def titles(sizes: Sizes) -> dict[str, str]:
    """What stands above each table."""
    each = f"{sizes.slots} requests at once, {sizes.service_ms:g} ms each, so {sizes.capacity(1):g} answers/s"
    return {
        "scaling": f"count: mock engines below, of {each}; ratios to the fewest",
        "prefixes": f"{sizes.prefixes} prefixes, {max(sizes.engines)} engines; held: among the last {holds(sizes)} "
        "of its engine",
        "gateways": f"count: gateways above two engines (busy: as above; instant: they answer at once); load, gateways "
        f"and engines share {os.cpu_count()} processors",
        "kill": f"one engine of two killed in the middle of {sizes.seconds:g} s of load",
    }


def table(rows: Sequence[Any]) -> Table:
    """A column for each field."""
    made = Table()
    for n, field in enumerate(fields(rows[0])):
        made.add_column(field.name.replace("_", " "), justify="right" if n else "left")
    for one in rows:
        made.add_row(*(shown(name, value) for name, value in asdict(one).items()))
    return made


def shown(name: str, value: str | float) -> str:
    """A figure with the digits that its kind deserves."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if value >= 100 or name.endswith("longest_ms") else f"{value:.2f}"


def asked() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m bench.engines", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engines", type=int, nargs="+", default=[1, 2, 4], choices=range(1, MOST + 1), metavar="N")
    parser.add_argument("--slots", type=int, default=8, help="requests that an engine answers at once")
    parser.add_argument("--service-ms", type=float, default=400.0, help="that each takes")
    parser.add_argument("--connections", type=int, default=16, help="for each engine")
    parser.add_argument("--prefixes", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=7.0, help="of each burst: many services, and half a one")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--without-litellm", action="store_true")
    parser.add_argument("--port", type=int, default=8940, help=f"of the first engine; {MOST + 2} more are used")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def main() -> None:
    """Run it."""
    given = asked()
    sizes = Sizes(
        engines=tuple(sorted({*given.engines})), slots=given.slots, service_ms=given.service_ms,
        per_engine=given.connections, prefixes=given.prefixes, seconds=given.seconds, rounds=given.rounds,
        kills=given.kills, port=given.port,
    )  # fmt: skip
    parts = [part for part in PARTS if part in given.parts]
    version = None if given.without_litellm else install_litellm()
    with contextlib.ExitStack() as stack:
        world = opened(stack, sizes, engines_below(parts, sizes.engines), version is not None)
        found = {part: PARTS[part](world) for part in parts}
    if given.json:
        rows = {part: [asdict(one) for one in found[part]] for part in parts}
        return print(json.dumps({"litellm": version, **rows}, indent=1))
    console = Console(width=120)
    for part in parts:
        console.print(f"{part}: {titles(sizes)[part]}", table(found[part]), sep="\n", highlight=False)
    missing = "LiteLLM: left out" if given.without_litellm else "LiteLLM could not be installed here: not measured"
    console.print(f"LiteLLM {version}" if version else missing)


if __name__ == "__main__":
    main()
