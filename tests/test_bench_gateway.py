"""The benches of the gateway, of swaps and of thinking: what they count, on inputs whose figures are known."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import httpx
import numpy as np
import pytest
from aiohttp import web

from agent.engine.client import Sampling, VllmEngine
from bench.__main__ import FULL, QUICK, following
from bench.gateway import SYSTEM1, Client, _hop, _turn
from bench.load import burst, target
from bench.mock_engine import TOKENS, MockEngine
from bench.practice import Phase, counted
from bench.spread import error_of_median
from bench.swaps import Seen, Span, _row, ratio_error
from bench.thinking import ADAPTIVE, WAYS, Way, drawn
from memory.records import Attempt
from policies.agree import AgreementSettings

ASKED = ({"role": "user", "content": "What is 12 + 30?"},)


@asynccontextmanager
async def mocked() -> AsyncIterator[str]:
    runner = web.AppRunner(MockEngine().app())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_the_mock_engine_speaks_what_our_client_reads() -> None:
    async with mocked() as url:
        engine = VllmEngine(url)
        (said,) = await engine.chat("base", ASKED, Sampling(max_tokens=8, logprobs=2))
        assert (said.text, said.completion_tokens, len(said.logprobs)) == ("base", TOKENS, TOKENS)
        assert said.first_margin is not None
        pieces = [piece async for piece in engine.stream("base", ASKED, Sampling(logprobs=2))]
        assert sum(len(piece.logprobs) for piece in pieces) == TOKENS
        assert pieces[-1].completion_tokens == TOKENS
        assert len(await engine.chat("base", ASKED, Sampling(n=3))) == 3
        await engine.close()


async def test_a_bare_proxy_passes_answers_streams_and_faults_on_as_they_are() -> None:
    async with mocked() as url, httpx.AsyncClient() as http:
        with _hop(url) as hop:
            for body in ({"model": "base", "logprobs": True}, {"model": "base", "stream": True}):
                (told, passed) = [await http.post(f"{one}/v1/chat/completions", json=body) for one in (url, hop)]
                assert passed.status_code == 200
                assert (passed.content, passed.headers["content-type"]) == (told.content, told.headers["content-type"])
            assert (await http.post(f"{hop}/v1/nowhere", json={})).status_code == 404


async def test_a_burst_counts_answers_and_those_that_failed() -> None:
    async with mocked() as url:
        path = f"{url}/v1/chat/completions"
        good = await burst(target("mock", path, {"model": "base", "messages": []}), 2, 0.05)
        bad = await burst(target("mock", f"{url}/nowhere", {}), 1, 0.02)
    assert (good.failed, bad.failed) == (0, len(bad.latencies))
    assert len(good.latencies) > 2
    assert good.per_s == pytest.approx(len(good.latencies) / good.seconds)


async def test_a_question_begins_with_what_no_cache_knows() -> None:
    async with aiohttp.ClientSession() as session:
        client = Client(session, "http://127.0.0.1:1", "any", SYSTEM1, seed=1)
        asked = [client._body() for _ in range(200)]
    beginnings = {body["messages"][0]["content"][:8] for body in asked}
    assert len(beginnings) == 200
    assert {4, 12} <= {body["max_tokens"] for body in asked} <= set(range(4, 13))


def test_a_run_that_was_ended_goes_on_at_a_bench() -> None:
    assert following(FULL, None)[0].startswith("bench.gateway")
    assert following(FULL, "bench.scale") == ["bench.scale"]
    assert following(FULL, "bench.whatif")[:2] == ["bench.whatif", "bench.whatif --rows 10000000"]
    with pytest.raises(ValueError, match=r"bench\.lora is not run here; choose one of bench\.gateway, bench\.added"):
        following(QUICK, "bench.lora")


def test_what_the_gateway_adds_is_taken_within_the_turns() -> None:
    turn = _turn("gateway", [12.0, 25.0, 31.0], [10.0, 20.0, 30.0], [1.0, 2.0, 3.0])
    assert (turn.p50_ms, turn.added_ms) == (25.0, 2.0)
    assert turn.outside_ms == (1.5, 2.0, 2.5)


def samples(answers: str, lengths: list[int]) -> list[tuple[Attempt, int]]:
    return [(Attempt(a, a, 0, i), n) for i, (a, n) in enumerate(zip(answers, lengths, strict=True))]


def test_three_equal_votes_are_less_than_half_the_price_and_a_doubt_costs_all() -> None:
    as_delivered = WAYS[0]
    assert drawn(samples("aaaabbbb", [10] * 8), as_delivered)[1] == 30
    votes, tokens = drawn(samples("aabbaabb", [10] * 8), as_delivered)
    assert (len(votes), tokens) == (8, 80)
    assert drawn(samples("aabaaaaa", [10] * 8), as_delivered)[1] == 50  # two more may decide, and do
    assert drawn(samples("aabaaaaa", [10] * 8), Way("3, then 3", ADAPTIVE, (3,)))[1] == 60


def test_samples_under_way_cost_what_they_have_grown_to_when_the_vote_is_decided() -> None:
    way = Way("cancelled", AgreementSettings(block=4, max_samples=4, stop="certain"), (4,), cancelled=True)
    votes, tokens = drawn(samples("aaab", [10, 12, 14, 30]), way)
    assert ([v.answer for v in votes], tokens) == (["a", "a", "a"], 10 + 12 + 14 + 14)
    later = Way("then 2", ADAPTIVE, (4, 2))
    assert drawn(samples("aaabaabb", [10] * 8), later)[1] == 60  # 5 votes to 1 of 8 are decided


def test_a_swap_that_answers_as_another_is_seen() -> None:
    alone = {"base": ["b0", "b1"], "sn-1": ["x0", "x1"]}
    seen = Seen([(0.0, 1.0, 0, "base", "b0"), (1.0, 2.0, 1, "base", "b1"), (3.0, 5.0, 0, "sn-1", "b0"),
                 (5.0, 7.0, 1, "sn-1", "??"), (20.0, 21.0, 1, "sn-1", "x1"), (2.5, 3.7, 0, "base", "b0")],
                failed=1)  # fmt: skip
    row = _row(seen, [Span("sn-1", 3.5, 3.8, 4.2)], alone, warmed=True)
    assert (row.requests, row.failed, row.wrong) == (7, 1, 1)
    assert (row.during, row.warming, row.calm) == (2, 2, 3)
    assert (row.nobodys, row.nobodys_in_calm) == (pytest.approx(1 / 3), 0.0)
    assert (row.p50_calm_ms, row.p50_during_ms) == (1000.0, 2000.0)
    assert (row.p99_calm_ms, row.p99_during_ms) == (1000.0, 2000.0)
    assert (row.warm_s, row.flip_s, row.p50_warming_ms) == pytest.approx((0.3, 0.4, 1600.0))
    assert row.first_answer_s == pytest.approx(3.5)  # asked before it, so the one that began afterwards counts


def test_a_swap_that_nobody_heard_of_is_an_error_and_no_figure() -> None:
    seen = Seen([(0.0, 1.0, 0, "base", "b0")])
    with pytest.raises(RuntimeError, match="--calm"):
        _row(seen, [Span("sn-1", 3.5, 3.8, 4.5)], {"base": ["b0"], "sn-1": ["x0"]}, warmed=True)


def test_an_engines_tokens_are_read_from_its_metrics() -> None:
    page = (
        "# TYPE vllm:generation_tokens_total counter\n"
        'vllm:generation_tokens_total{engine="0",model_name="base"} 120.0\n'
        'vllm:generation_tokens_total{engine="1",model_name="base"} 30.0\n'
        'vllm:prompt_tokens_total{engine="0"} 7.0\n'
    )
    assert counted(page) == 150.0
    assert Phase(150.0, 2.0).per_s == 75.0


def test_the_error_of_a_median_is_how_far_medians_lie_apart() -> None:
    drawn_ = np.random.default_rng(1).normal(2.0, 9.4, (2_000, 300))
    apart = float(np.std(np.median(drawn_, axis=1)))
    assert error_of_median(drawn_[0]) == pytest.approx(apart, rel=0.2)


def test_the_error_of_a_ratio_of_p99s_is_how_far_ratios_of_whole_runs_lie_apart() -> None:
    generator = np.random.default_rng(2)

    def run() -> tuple[list[list[float]], list[list[float]]]:
        """24 swaps; what holds one of them up, holds all of its 30 answers up."""
        held = generator.normal(0.1, 0.03, 24)
        return [list(generator.normal(1 + more, 0.05, 30)) for more in held], [
            list(generator.normal(1, 0.05, 20)) for _ in held
        ]

    def ratio(part: list[list[float]], calm: list[list[float]]) -> float:
        return float(np.percentile(np.concatenate(part), 99) / np.percentile(np.concatenate(calm), 99))

    runs = [run() for _ in range(400)]
    apart = float(np.std([ratio(*one) for one in runs]))
    assert np.mean([ratio_error(*one) for one in runs[:40]]) == pytest.approx(apart, rel=0.2)
