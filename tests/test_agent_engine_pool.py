"""Several engines as one: balance, adapters before traffic, engines that die, join late and come back."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from aiohttp import web

from agent.engine.balance import Member, choose, head
from agent.engine.client import Delta, Engine, Sampling
from agent.engine.pool import EnginePool
from agent.engine.settings import EngineSettings
from agent.engine.supervisor import free_port
from engine_fakes import FakeVllm, fault, serving
from memory.errors import BadInput, NotFound, Unavailable
from memory.records import Message

CHAT = "/v1/chat/completions"
ONE = Path("/adapters/sn-0001-aaaaaa")


def ask(text: str = "What is 2 + 2?") -> tuple[Message, ...]:
    return ({"role": "user", "content": text},)


def pool_of(*urls: str, probe_s: float = 60) -> EnginePool:
    return EnginePool(EngineSettings(urls=urls, probe_s=probe_s, timeout_s=5))


@pytest.fixture
async def fakes() -> AsyncIterator[list[FakeVllm]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(serving(FakeVllm())) for _ in range(3)]


@pytest.fixture
async def pool(fakes: list[FakeVllm]) -> AsyncIterator[EnginePool]:
    one = pool_of(*(fake.url for fake in fakes))
    yield one
    await one.close()


async def refuse_with_crash(request: web.Request) -> web.StreamResponse:
    """The server dies in the middle of the request."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def test_a_pool_of_one_is_an_engine() -> None:
    async with serving(FakeVllm()) as fake:
        one = pool_of(fake.url)
        assert await one.healthy()
        assert (await one.chat("base", ask(), Sampling()))[0].text == "The answer is 4."
        assert len([piece async for piece in one.stream("base", ask(), Sampling())]) == 6
        assert (await one.forward(CHAT, {"model": "base", "messages": list(ask())})).status == 200
        assert len(await one.tokenize("base", "one two")) == 2
        assert await one.models() == ["base"]
        await one.close()


async def test_no_engine_at_all_is_said() -> None:
    one = pool_of(f"http://127.0.0.1:{free_port()}")
    assert not await one.healthy()
    with pytest.raises(Unavailable) as caught:
        await one.chat("base", ask(), Sampling())
    with pytest.raises(Unavailable):
        await one.load_adapter("sn-0001-aaaaaa", ONE)
    await one.close()
    assert caught.value.retry_after_s == 5


async def test_the_same_head_goes_to_the_same_engine(pool: EnginePool, fakes: list[FakeVllm]) -> None:
    for _ in range(5):
        await pool.chat("base", ask("a long shared head"), Sampling())
    assert sorted(len(fake.asked) for fake in fakes) == [0, 0, 5]


async def test_different_heads_spread(pool: EnginePool, fakes: list[FakeVllm]) -> None:
    for n in range(60):
        await pool.chat("base", ask(f"question {n}"), Sampling())
    assert min(len(fake.asked) for fake in fakes) >= 8


async def test_a_popular_head_overflows_to_the_others(pool: EnginePool, fakes: list[FakeVllm]) -> None:
    hold = asyncio.Event()
    for fake in fakes:
        fake.hold = hold
    streams = [pool.stream("base", ask("everybody asks this"), Sampling()) for _ in range(12)]
    await asyncio.gather(*(anext(stream) for stream in streams))
    counts = [len(fake.asked) for fake in fakes]
    hold.set()
    for stream in streams:
        await stream.aclose()
    assert sum(counts) == 12
    assert max(counts) <= 5  # a quarter above the mean of four
    assert all(member.load == 0 for member in pool.members)


def test_the_head_is_the_first_message_or_its_beginning() -> None:
    system: tuple[Message, ...] = ({"role": "system", "content": "S" * 2000}, {"role": "user", "content": "q"})
    assert head("base", system) == head("base", (system[0], {"role": "user", "content": "other"}))
    assert head("base", system) != head("sn-0001-aaaaaa", system)
    assert head("base", ask("A" * 600 + "x")) == head("base", ask("A" * 600 + "y"))
    assert head("base", ()) == "base\n"


async def test_an_adapter_is_on_all_or_on_none(pool: EnginePool, fakes: list[FakeVllm]) -> None:
    await pool.load_adapter("sn-0001-aaaaaa", ONE)
    assert all("sn-0001-aaaaaa" in fake.adapters for fake in fakes)

    async def refuse(request: web.Request) -> web.StreamResponse:
        return fault(400, "rank 64 is above max_lora_rank")

    fakes[1].refuse = refuse
    with pytest.raises(BadInput, match="max_lora_rank"):
        await pool.load_adapter("sn-0002-bbbbbb", ONE)
    assert all("sn-0002-bbbbbb" not in fake.adapters for fake in fakes)
    assert await pool.models() == ["base", "sn-0001-aaaaaa"]
    await pool.unload_adapter("sn-0001-aaaaaa")
    assert await pool.models() == ["base"]


async def test_a_beginning_is_read_to_every_engine(pool: EnginePool, fakes: list[FakeVllm]) -> None:
    await pool.load_adapter("sn-0001-aaaaaa", ONE)
    await pool.read("sn-0001-aaaaaa", (5, 6, 7))
    for fake in fakes:
        (body,) = fake.completed
        told = {name: body[name] for name in ("model", "prompt", "max_tokens")}
        assert told == {"model": "sn-0001-aaaaaa", "prompt": [5, 6, 7], "max_tokens": 1}
    with pytest.raises(NotFound):
        await pool.read("sn-0002-bbbbbb", (5,))
    assert sum(told["up"] for told in pool.told()) == len(fakes), "a refusal is no engine's end"


async def test_a_request_is_asked_again_of_another(pool: EnginePool, fakes: list[FakeVllm]) -> None:
    await pool.chat("base", ask("a"), Sampling())
    first = next(fake for fake in fakes if fake.asked)
    first.refuse = refuse_with_crash
    assert (await pool.chat("base", ask("a"), Sampling()))[0].text == "The answer is 4."
    assert sum(member.up for member in pool.members) == 2
    assert (await pool.forward(CHAT, {"model": "base", "messages": list(ask("a"))})).status == 200


async def test_a_stream_that_has_not_begun_is_asked_again(pool: EnginePool, fakes: list[FakeVllm]) -> None:
    await pool.chat("base", ask("a"), Sampling())
    next(fake for fake in fakes if fake.asked).refuse = refuse_with_crash
    assert len([piece async for piece in pool.stream("base", ask("a"), Sampling())]) == 6
    assert all(member.load == 0 for member in pool.members)


async def test_a_forwarded_stream_that_has_not_begun_is_asked_again(pool: EnginePool, fakes: list[FakeVllm]) -> None:
    body = {"model": "base", "messages": list(ask("a")), "stream": True}
    await pool.chat("base", ask("a"), Sampling())
    next(fake for fake in fakes if fake.asked).refuse = refuse_with_crash
    stream = await pool.forward_stream(CHAT, body)
    assert sum(member.load for member in pool.members) == 1
    assert b"[DONE]" in b"".join([chunk async for chunk in stream])
    await stream.aclose()
    assert sum(member.load for member in pool.members) == 0


async def test_a_request_is_asked_again_once_only(pool: EnginePool, fakes: list[FakeVllm]) -> None:
    await pool.start()
    for fake in fakes:
        fake.refuse = refuse_with_crash
    with pytest.raises(Unavailable):
        await pool.chat("base", ask(), Sampling())
    assert sum(len(fake.asked) for fake in fakes) == 2


class Scripted:
    """An engine whose stream breaks after one piece."""

    def __init__(self) -> None:
        self.streams = 0

    async def models(self) -> list[str]:
        return ["base"]

    async def stream(
        self, model: str, messages: Sequence[Message], sampling: Sampling, *, priority: int = 0
    ) -> AsyncGenerator[Delta, None]:
        self.streams += 1
        yield Delta("half a")
        raise Unavailable("gone")

    async def close(self) -> None:
        return


async def test_a_stream_that_has_begun_is_not_asked_again() -> None:
    engines = {"a": Scripted(), "b": Scripted()}
    pool = EnginePool(EngineSettings(probe_s=60), engines)  # type: ignore[arg-type]  # what the test needs of it
    pieces = pool.stream("base", ask(), Sampling())
    assert (await anext(pieces)).text == "half a"
    with pytest.raises(Unavailable):
        await anext(pieces)
    await pool.close()
    assert Counter(engine.streams for engine in engines.values()) == {1: 1, 0: 1}


async def test_one_that_joins_late_gets_the_adapters_first() -> None:
    port = free_port()
    async with serving(FakeVllm()) as early:
        pool = pool_of(early.url, f"http://127.0.0.1:{port}")
        await pool.load_adapter("sn-0001-aaaaaa", ONE)
        assert [member.up for member in pool.members] == [True, False]
        async with serving(FakeVllm(), port) as late:
            assert await pool.look() == 2
            assert late.adapters == {"sn-0001-aaaaaa": str(ONE)}
        await pool.close()


async def test_one_that_came_back_empty_gets_them_again(pool: EnginePool, fakes: list[FakeVllm]) -> None:
    await pool.load_adapter("sn-0001-aaaaaa", ONE)
    fakes[0].adapters.clear()  # restarted between two looks
    await pool.look()
    assert fakes[0].adapters == {"sn-0001-aaaaaa": str(ONE)}


async def test_one_that_cannot_take_the_adapters_gets_no_traffic(pool: EnginePool, fakes: list[FakeVllm]) -> None:
    await pool.load_adapter("sn-0001-aaaaaa", ONE)

    async def refuse(request: web.Request) -> web.StreamResponse:
        return fault(404, "No adapter found")

    fakes[0].adapters.clear()
    fakes[0].refuse = refuse
    assert await pool.look() == 2
    assert [member.up for member in pool.members] == [False, True, True]


async def test_a_lost_engine_is_looked_at_at_once(pool: EnginePool, fakes: list[FakeVllm]) -> None:
    await pool.chat("base", ask("a"), Sampling())
    first = next(fake for fake in fakes if fake.asked)
    first.refuse, first.looked = refuse_with_crash, asyncio.Event()
    await pool.chat("base", ask("a"), Sampling())
    async with asyncio.timeout(5):  # far less than the 60 s between two looks
        await first.looked.wait()
    assert await pool.look() == 3


async def test_an_engine_that_lost_an_adapter_is_one_that_is_gone(pool: EnginePool, fakes: list[FakeVllm]) -> None:
    await pool.load_adapter("sn-0001-aaaaaa", ONE)
    await pool.chat("sn-0001-aaaaaa", ask("a"), Sampling())
    first = next(fake for fake in fakes if fake.asked)
    first.adapters.clear()  # restarted a moment ago, and not looked at since
    assert (await pool.chat("sn-0001-aaaaaa", ask("a"), Sampling()))[0].text == "The answer is 4."
    first.adapters.clear()
    assert len([piece async for piece in pool.stream("sn-0001-aaaaaa", ask("a"), Sampling())]) == 6
    first.adapters.clear()
    body = {"model": "sn-0001-aaaaaa", "messages": list(ask("a"))}
    assert (await pool.forward(CHAT, body)).status == 200
    first.adapters.clear()
    stream = await pool.forward_stream(CHAT, body | {"stream": True})
    assert stream.status == 200
    await stream.aclose()
    assert await pool.look() == 3
    assert first.adapters == {"sn-0001-aaaaaa": str(ONE)}
    with pytest.raises(NotFound):
        await pool.chat("nobody's", ask("a"), Sampling())
    assert all(member.up for member in pool.members)


async def test_an_engine_that_hangs_keeps_nobody_waiting(
    pool: EnginePool, fakes: list[FakeVllm], monkeypatch: pytest.MonkeyPatch
) -> None:
    await pool.start()
    monkeypatch.setattr("agent.engine.pool.LOOK_S", 0.1)
    monkeypatch.setattr("agent.engine.pool.LOAD_S", 0.1)

    async def hang(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        return web.Response()

    fakes[0].refuse = hang
    await pool.load_adapter("sn-0001-aaaaaa", ONE)
    assert [member.up for member in pool.members] == [False, True, True]
    assert await pool.look() == 2
    assert "0.1 s" in pool.told()[0]["why"]


async def test_each_engine_is_admitted_before_its_first_traffic_and_after_a_restart() -> None:
    async with serving(FakeVllm()) as early, serving(FakeVllm()) as late:
        admitted, let_in = list[str](), asyncio.Event()

        async def admit(name: str, engine: Engine) -> None:
            admitted.append(name)
            if name == late.url:
                await let_in.wait()

        settings = EngineSettings(urls=(early.url, late.url), probe_s=60, timeout_s=5)
        pool = EnginePool(settings, admit=admit)
        assert len(await pool.chat("base", ask(), Sampling())) == 1, "the first does not wait for the second"
        await pool.load_adapter("sn-0001-aaaaaa", ONE)
        assert late.adapters == {}
        let_in.set()
        assert await pool.look() == 2
        assert late.adapters == {"sn-0001-aaaaaa": str(ONE)}, "what was loaded while it was being admitted"
        late.adapters.clear()
        assert await pool.look() == 2
        await pool.close()
    assert admitted == [early.url, late.url, late.url]


async def test_an_adapter_is_left_to_others(pool: EnginePool, fakes: list[FakeVllm]) -> None:
    await pool.load_adapter("sn-0001-aaaaaa", ONE)
    await pool.leave_adapter("sn-0001-aaaaaa")
    assert all("sn-0001-aaaaaa" in fake.adapters for fake in fakes)
    fakes[0].adapters.clear()  # whoever owns it has unloaded it
    assert await pool.look() == 3
    assert fakes[0].adapters == {}


async def test_many_samples_weigh_as_many_requests(pool: EnginePool, fakes: list[FakeVllm]) -> None:
    seats = [Member(name, Scripted()) for name in "abc"]  # type: ignore[arg-type]  # nobody asks them
    long = "a head" * 100
    first = choose(long, seats)
    first.load = 8
    assert choose(long, seats) is not first
    assert choose(long, seats, weight=64) is first, "its share is larger, and its cache is warm"
    await pool.chat("base", ask(), Sampling(n=8, temperature=0.7))
    assert all(member.load == 0 for member in pool.members)


def test_short_heads_are_spread_evenly_and_long_ones_stay_where_they_are_known() -> None:
    seats = [Member(name, Scripted()) for name in "abc"]  # type: ignore[arg-type]  # nobody asks them
    for n in range(300):
        choose(f"base\nWhat is {n} + 1?", seats).load += 1
        assert max(seat.load for seat in seats) - min(seat.load for seat in seats) <= 1
    home = choose("base\n" + "rules " * 100, seats)
    home.load += 20
    assert choose("base\n" + "rules " * 100, seats) is home
