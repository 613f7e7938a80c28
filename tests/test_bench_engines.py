"""The bench of several engines and gateways: what it counts, on known records and on mocks that queue."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from aiohttp import web

from agent.engine.client import Sampling
from agent.engine.pool import EnginePool
from agent.engine.settings import EngineSettings
from bench.above import Sizes
from bench.engines import PARTS, QUESTIONS, beside, compared, engines_below, holds, killed, shown, struck, table, titles
from bench.load import Burst, burst, burst_on_each, target, together
from bench.mock_engine import MockEngine
from bench.prefixes import at_random, by_prefix, earliest, hits, in_order, line, prefixed, round_robin, warmth
from bench.proxies import Row, in_turn

SIZES = Sizes((1, 2, 4), 8, 400.0, 16, 64, 1.0, 1, 1, 8940)


@asynccontextmanager
async def busy(slots: int | None, service_s: float) -> AsyncIterator[tuple[MockEngine, str]]:
    engine = MockEngine(slots, service_s)
    runner = web.AppRunner(engine.app())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield engine, f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def measured(what: str, per_s: float, p99_ms: float) -> Row:
    return Row(what, 16, 100, 0, per_s, 1.0, p99_ms, 1.0)


def test_ratios_are_to_the_fewest_of_the_same_system() -> None:
    found = {
        ("gateway", 4): measured("gateway", 78, 300),
        ("gateway", 1): measured("gateway", 20, 200),
        ("LiteLLM", 1): measured("LiteLLM", 10, 100),
        ("LiteLLM", 4): measured("LiteLLM", 15, 400),
    }
    rows = [(one.what, one.count, one.per_s_ratio, one.p99_ratio) for one in beside(found)]
    assert rows == [("gateway", 1, 1, 1), ("gateway", 4, 3.9, 1.5), ("LiteLLM", 1, 1, 1), ("LiteLLM", 4, 1.5, 4)]


def test_an_engine_finds_the_prefixes_it_used_last() -> None:
    assert hits("abab", 2) == 2
    assert hits("abab", 1) == 0
    assert hits("abacb", 2) == 1, "b was used before a, so c takes its place"
    told = warmth("way", ["aab", "a"], holds=1)
    assert (told.requests, told.seen, told.held, told.busiest) == (4, 0.25, 0.25, 1.5)
    assert warmth("nobody asked", ["", ""], holds=1).seen == 0


def test_the_same_requests_are_dealt_out_anew() -> None:
    received = [[(1.0, "a"), (3.0, "b")], [(2.0, "a"), (4.0, "c")]]
    assert earliest(received, 3) == [["a", "b"], ["a"]]
    order = [prefix for _, prefix in in_order(received)]
    assert order == ["a", "a", "b", "c"]
    assert round_robin(order, 2) == [["a", "b"], ["a", "c"]]
    assert by_prefix(order, 2) == [["a", "a", "c"], ["b"]]
    for way in (at_random(order, 2, 1), at_random(order, 3, 2)):
        assert sorted(prefix for one in way for prefix in one) == order


def test_all_ways_are_compared_over_as_many_requests() -> None:
    ours = [[(1.0, "a"), (2.0, "a"), (5.0, "a")], [(3.0, "b"), (4.0, "b"), (6.0, "b")]]
    other = [[(1.0, "a"), (2.0, "b")], [(3.0, "a"), (4.0, "b")]]
    rows = compared({"gateway": ours, "LiteLLM": other}, 2, holds=1)
    assert [one.requests for one in rows] == [4] * 5
    assert [(one.way, one.seen) for one in rows[:3]] == [("gateway", 0.5), ("LiteLLM", 0.0), ("round robin", 0.0)]


def test_one_engine_for_each_prefix_is_warmer_than_chance() -> None:
    order = [str(one[0]["content"]).partition("\n")[0] for one in prefixed(64, 2000, seed=1)]
    best, chance, turns = (
        warmth("", dealt, holds(SIZES))
        for dealt in (by_prefix(order, 4), at_random(order, 4, 1), round_robin(order, 4))
    )
    assert set(order) == {line(n) for n in range(64)}
    assert best.held == best.seen == (2000 - 64) / 2000
    assert chance.held == pytest.approx(holds(SIZES) / 64, abs=0.05)  # the share of the prefixes that an engine holds
    assert turns.held == pytest.approx(chance.held, abs=0.05)


def test_bursts_at_the_same_time_are_one() -> None:
    one = together([Burst((1.0, 2.0), 1, 2.0, 0.5), Burst((9.0,), 0, 1.0, 0.25)])
    assert (one.latencies, one.failed, one.seconds, one.cpu_s) == ((1.0, 2.0, 9.0), 1, 2.0, 0.75)
    drained = together([Burst((1.0,) * 10, 0, 2.0, 0.0, late=6, late_s=1.0), Burst((1.0,) * 4, 0, 1.0, 0.0)])
    assert drained.steady_per_s == 8.0, "of 14 answers, 6 came after the load"


def test_kills_are_summed_and_the_longest_answer_is_told() -> None:
    calm, under = Burst((10.0,), 0, 1.0, 0.0), Burst((10.0, 70.0), 1, 1.0, 0.0)
    told = killed("gateway", [(calm, under), (calm, under)])
    assert (told.kills, told.answers, told.failed, told.longest_ms, told.calm_longest_ms) == (2, 4, 2, 70.0, 10.0)
    assert [shown("longest_ms", 70.0), shown("per_s", 7.0), shown("per_s", 1234.5)] == ["70", "7.00", "1234"]
    assert table([told]).row_count == 1


def test_only_what_the_parts_need_is_started() -> None:
    assert engines_below(list(PARTS), [1, 4]) == [1, 2, 4]
    assert engines_below(["kill"], [1, 4]) == [2]
    assert engines_below(["prefixes"], [1, 4]) == [4]
    assert set(titles(SIZES)) == set(PARTS)
    assert SIZES.capacity(2) == 40


async def test_a_mock_engine_of_a_fixed_capacity_gives_that_and_no_more() -> None:
    async with busy(2, 0.05) as (engine, url):
        aim = target("mock", f"{url}/v1/chat/completions", *({"model": "base", "messages": one} for one in QUESTIONS))
        found = await in_turn({"two": lambda s: burst(aim, 2, s), "six": lambda s: burst(aim, 6, s)}, 1, 0.2)
        ((two,), (six,)) = found.values()
        assert two.per_s <= 2 / 0.05
        assert six.per_s <= 2 / 0.05
        assert six.percentile(50) > 2 * two.percentile(50)
        asked = [first for _, first in engine.received]
    assert asked[:2] == [QUESTIONS[0][0]["content"], QUESTIONS[1][0]["content"]], "in turn"


async def test_a_load_is_shared_out_and_something_happens_in_its_middle() -> None:
    async with busy(1, 0.01) as (one, url), busy(1, 0.01) as (two, other):
        aims = [target("", f"{at}/v1/chat/completions", {"model": "base", "messages": []}) for at in (url, other)]
        began, struck_at = time.monotonic(), list[float]()
        told = await struck(burst_on_each(aims, 2, 0.2), 0.1, lambda: struck_at.append(time.monotonic() - began))
        assert len(told.latencies) == len(one.received) + len(two.received)
        assert min(len(one.received), len(two.received)) > 0
    assert 0.1 <= struck_at[0] < told.seconds


async def test_the_pool_keeps_a_prefix_with_one_mock_engine() -> None:
    """What the bench finds of a gateway, of its pool alone; it holds without a load, where nobody overflows."""
    async with AsyncExitStack() as stack:
        engines = [await stack.enter_async_context(busy(8, 0.0)) for _ in range(2)]
        pool = EnginePool(EngineSettings(urls=tuple(url for _, url in engines), probe_s=60))
        for messages in prefixed(16, 120, seed=2):
            await pool.chat("base", messages, Sampling(max_tokens=8))  # type: ignore[arg-type]  # plain dicts
        await pool.close()
        received = [[prefix for _, prefix in engine.received] for engine, _ in engines]
    told = warmth("pool", received, holds=16)
    assert told.requests == 120
    assert told.seen == (120 - 16) / 120
    assert told.busiest < 2
