"""The client against a small server on a real socket."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from agent.engine.client import Delta, Priority, Sampling, VllmEngine
from agent.engine.supervisor import free_port
from engine_fakes import WORDS, FakeVllm, fault, serving
from memory.errors import BadInput, NotFound, SecondNatureError, TimedOut, TooMany, Unavailable

ASK = ({"role": "user", "content": "What is 2 + 2?"},)
TEXT = "".join(WORDS)
CHAT = "/v1/chat/completions"


@pytest.fixture
async def fake() -> AsyncIterator[FakeVllm]:
    async with serving(FakeVllm()) as running:
        yield running


@pytest.fixture
async def engine(fake: FakeVllm) -> AsyncIterator[VllmEngine]:
    one = VllmEngine(f"{fake.url}/v1/", key="sesame", timeout_s=5)
    yield one
    await one.close()


async def test_a_plain_answer_carries_counts_and_no_logprobs(engine: VllmEngine, fake: FakeVllm) -> None:
    (said,) = await engine.chat("base", ASK, Sampling(max_tokens=5, stop=("\n",)))
    assert (said.text, said.model, said.finish_reason) == (TEXT, "base", "stop")
    assert (said.prompt_tokens, said.completion_tokens) == (9, 5)
    assert said.logprobs == ()
    assert said.first_margin is None
    assert said.seconds > 0
    assert fake.asked[0] == {
        "model": "base",
        "messages": list(ASK),
        "temperature": 0.0,
        "max_tokens": 5,
        "stop": ["\n"],
    }
    assert fake.headers[0]["Authorization"] == "Bearer sesame"


async def test_logprobs_and_the_first_margin(engine: VllmEngine) -> None:
    (said,) = await engine.chat("base", ASK, Sampling(logprobs=2))
    assert said.logprobs == (-0.5,) * 5
    assert said.first_margin == pytest.approx(math.exp(-0.5) - math.exp(-1.5))


async def test_without_alternatives_the_margin_is_unknown(engine: VllmEngine) -> None:
    (said,) = await engine.chat("base", ASK, Sampling(logprobs=0))
    assert said.logprobs == (-0.5,) * 5
    assert said.first_margin is None


@pytest.mark.parametrize("logprobs", [None, 0])
async def test_each_of_several_samples_has_its_own_count(engine: VllmEngine, logprobs: int | None) -> None:
    said = await engine.chat("base", ASK, Sampling(n=3, temperature=0.8, logprobs=logprobs))
    assert [one.completion_tokens for one in said] == [5, 5, 5]


async def test_a_cpu_engine_never_sees_a_seed(engine: VllmEngine, fake: FakeVllm) -> None:
    await engine.chat("base", ASK, Sampling(extra={"seed": 1, "top_k": 5}))
    await engine.forward(CHAT, {"model": "base", "messages": list(ASK), "seed": 1})
    stream = await engine.forward_stream(CHAT, {"model": "base", "messages": list(ASK), "seed": 1, "stream": True})
    await stream.aclose()
    assert [("seed" in body) for body in fake.asked] == [False] * 3
    assert fake.asked[0]["top_k"] == 5


async def test_a_gpu_engine_gets_the_seed(fake: FakeVllm) -> None:
    one = VllmEngine(fake.url, seeds=True)
    await one.chat("base", ASK, Sampling(extra={"seed": 1}))
    await one.close()
    assert fake.asked[0]["seed"] == 1


async def test_the_priority_is_sent(engine: VllmEngine, fake: FakeVllm) -> None:
    await engine.chat("base", ASK, Sampling(), priority=Priority.NIGHT)
    assert fake.asked[0]["priority"] == 3


async def test_a_stream_comes_in_pieces_with_counts_at_the_end(engine: VllmEngine) -> None:
    pieces = [piece async for piece in engine.stream("base", ASK, Sampling(logprobs=2))]
    assert "".join(piece.text for piece in pieces) == TEXT
    assert [piece.first_margin is None for piece in pieces] == [False, True, True, True, True, True]
    assert sum((piece.logprobs for piece in pieces), ()) == (-0.5,) * 5
    assert pieces[-2].finish_reason == "stop"
    assert pieces[-1] == Delta("", prompt_tokens=9, completion_tokens=5)


async def test_closing_a_stream_ends_the_request(engine: VllmEngine, fake: FakeVllm) -> None:
    fake.hold = asyncio.Event()
    pieces = engine.stream("base", ASK, Sampling())
    assert (await anext(pieces)).text == "The"
    await pieces.aclose()
    async with asyncio.timeout(5):
        await fake.gone.wait()
    assert fake.gone.is_set()


async def test_cancelling_the_reader_ends_the_request(engine: VllmEngine, fake: FakeVllm) -> None:
    fake.hold = asyncio.Event()
    first = asyncio.Event()

    async def read() -> None:
        async for _ in engine.stream("base", ASK, Sampling()):
            first.set()

    reader = asyncio.create_task(read())
    await first.wait()
    reader.cancel()
    async with asyncio.timeout(5):
        await fake.gone.wait()
    assert fake.gone.is_set()


async def test_forward_gives_the_answer_untouched(engine: VllmEngine, fake: FakeVllm) -> None:
    raw = await engine.forward(CHAT, {"model": "base", "messages": list(ASK), "new_field": {"a": 1}})
    assert raw.status == 200
    assert b"choices" in raw.body
    assert fake.asked[0]["new_field"] == {"a": 1}


async def test_forward_gives_errors_untouched(engine: VllmEngine) -> None:
    raw = await engine.forward(CHAT, {"model": "nobody", "messages": []})
    assert raw.status == 404
    assert b"does not exist" in raw.body
    stream = await engine.forward_stream(CHAT, {"model": "nobody", "messages": [], "stream": True})
    assert stream.status == 404
    assert b"does not exist" in b"".join([chunk async for chunk in stream])
    await stream.aclose()


async def test_a_forwarded_stream_is_cut_by_closing_it(engine: VllmEngine, fake: FakeVllm) -> None:
    fake.hold = asyncio.Event()
    closed = []
    stream = await engine.forward_stream(CHAT, {"model": "base", "messages": list(ASK), "stream": True})
    stream.on_close(lambda: closed.append(True))
    async for chunk in stream:
        assert chunk.startswith(b"data: ")
        break
    await stream.aclose()
    await stream.aclose()
    async with asyncio.timeout(5):
        await fake.gone.wait()
    assert closed == [True]


@pytest.mark.parametrize(
    ("status", "message", "param", "kind", "said", "field"),
    [
        (400, "This model's maximum context length is 2048 tokens.", "input_tokens", BadInput, "too long", "messages"),
        (400, "n must be at least 1", "n", BadInput, "n must be", "n"),
        (404, "The model `x` does not exist.", "model", NotFound, "does not exist", "model"),
        (401, "Unauthorized", None, Unavailable, "engine.api_key", None),
        (429, "slow down", None, TooMany, "full", None),
        (500, "EngineCore died", None, Unavailable, "restarted", None),
        (503, "starting", None, Unavailable, "ask again", None),
    ],
)
async def test_errors_are_named(
    engine: VllmEngine,
    fake: FakeVllm,
    status: int,
    message: str,
    param: str | None,
    kind: type[SecondNatureError],
    said: str,
    field: str | None,
) -> None:
    async def refuse(request: web.Request) -> web.StreamResponse:
        return fault(status, message, param)

    fake.refuse = refuse
    with pytest.raises(kind) as plain:
        await engine.chat("base", ASK, Sampling())
    with pytest.raises(kind):
        await anext(engine.stream("base", ASK, Sampling()))
    assert said in plain.value.message
    assert plain.value.param == field


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b'{"detail": "x"}', b'{"error": "x"}', b'"x"', b"\xff"])
async def test_an_error_of_any_shape_is_read(engine: VllmEngine, fake: FakeVllm, body: bytes) -> None:
    async def refuse(request: web.Request) -> web.StreamResponse:
        return web.Response(status=400, body=body)

    fake.refuse = refuse
    with pytest.raises(BadInput):
        await engine.chat("base", ASK, Sampling())


async def test_an_answer_that_is_not_json_is_named(engine: VllmEngine, fake: FakeVllm) -> None:
    async def refuse(request: web.Request) -> web.StreamResponse:
        return web.Response(text="hello")

    fake.refuse = refuse
    with pytest.raises(Unavailable, match=r"engine\.urls"):
        await engine.chat("base", ASK, Sampling())


async def test_nobody_listens() -> None:
    one = VllmEngine(f"http://127.0.0.1:{free_port()}")
    assert not await one.healthy()
    with pytest.raises(Unavailable) as caught:
        await one.chat("base", ASK, Sampling())
    with pytest.raises(Unavailable):
        await anext(one.stream("base", ASK, Sampling()))
    with pytest.raises(Unavailable):
        await one.forward_stream(CHAT, {})
    await one.close()
    assert caught.value.retry_after_s == 5


async def test_an_engine_that_goes_away_while_answering(engine: VllmEngine, fake: FakeVllm) -> None:
    async def refuse(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    fake.refuse = refuse
    with pytest.raises(Unavailable, match="went away"):
        await engine.chat("base", ASK, Sampling())


async def test_an_engine_that_goes_away_in_a_stream() -> None:
    fake = FakeVllm()
    fake.hold = asyncio.Event()
    async with serving(fake):
        one = VllmEngine(fake.url)
        pieces = one.stream("base", ASK, Sampling())
        assert (await anext(pieces)).text == "The"
    with pytest.raises(Unavailable, match="went away"):
        await anext(pieces)
    await one.close()


async def test_silence_is_a_timeout(fake: FakeVllm) -> None:
    fake.hold = asyncio.Event()

    async def refuse(request: web.Request) -> web.StreamResponse:
        assert fake.hold is not None
        await fake.hold.wait()
        return web.Response()

    one = VllmEngine(fake.url, timeout_s=0.1)
    pieces = one.stream("base", ASK, Sampling())
    assert (await anext(pieces)).text == "The"
    with pytest.raises(TimedOut):
        await anext(pieces)
    fake.refuse = refuse
    with pytest.raises(TimedOut, match=r"engine\.timeout_s"):
        await one.chat("base", ASK, Sampling())
    await one.close()


async def test_loading_and_unloading_twice_is_once(engine: VllmEngine, fake: FakeVllm) -> None:
    await engine.load_adapter("sn-0001-aaaaaa", Path("/adapters/1"))
    await engine.load_adapter("sn-0001-aaaaaa", Path("/adapters/1"))
    assert await engine.models() == ["base", "sn-0001-aaaaaa"]
    await engine.unload_adapter("sn-0001-aaaaaa")
    await engine.unload_adapter("sn-0001-aaaaaa")
    assert await engine.models() == ["base"]


async def test_a_folder_that_is_no_adapter(engine: VllmEngine, fake: FakeVllm) -> None:
    async def refuse(request: web.Request) -> web.StreamResponse:
        return fault(404, "Loading lora sn-0001-aaaaaa failed: No adapter found for /x")

    fake.refuse = refuse
    with pytest.raises(NotFound, match="No adapter found"):
        await engine.load_adapter("sn-0001-aaaaaa", Path("/x"))


async def test_the_logprobs_of_a_given_answer_are_the_last(engine: VllmEngine, fake: FakeVllm) -> None:
    asked = ({"role": "user", "content": "one two three four five six"},)  # six of the nine tokens
    assert await engine.answer_logprobs("base", asked, "184") == (-6.0, -7.0, -8.0)
    assert fake.asked[0]["messages"][-1] == {"role": "assistant", "content": "184"}
    assert fake.asked[0]["continue_final_message"]


async def test_tokens_of_a_text_and_of_messages(engine: VllmEngine) -> None:
    assert len(await engine.tokenize("base", "one two three")) == 3
    assert len(await engine.tokenize("base", ASK)) == 5


async def test_a_stream_reuses_its_connection(engine: VllmEngine, fake: FakeVllm) -> None:
    ports = set()

    async def note(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        ports.add(request.transport.get_extra_info("peername")[1])
        return await fake.stream(request, fake.asked[-1])

    fake.refuse = note
    for _ in range(3):
        assert [piece async for piece in engine.stream("base", ASK, Sampling())]
    assert len(ports) == 1
