"""The real vLLM with the real small model: adapters beside the base, in one batch, with every slot filled.

Fails without the plugin `secondnature_grouped_lora` on a CPU: run it with SECONDNATURE_TEST_PLUGINS=none to see.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from adapters.model import get_model
from agent.engine.check import check_base, matrix_shapes, write_adapter
from agent.engine.client import Completion, Engine, Priority, Sampling, VllmEngine
from agent.engine.launch import BASE
from agent.engine.settings import EngineSettings
from agent.engine.supervisor import Supervisor
from memory.errors import BadInput, NotFound

pytestmark = pytest.mark.engine
NAMES = ("sn-0001-random", "sn-0002-random")
QUESTIONS = tuple(f"What is {a} + {a + 7}? Answer with the number only." for a in range(11, 27))
GREEDY = Sampling(max_tokens=8)
FIRST = Sampling(max_tokens=1)  # a random adapter's tokens are near ties, which another batch may break otherwise


@pytest.fixture(scope="module")
def model() -> Path:
    return Path(get_model("qwen2.5-coder-0.5b-instruct").path)


@pytest.fixture(scope="module")
async def engine(model: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    """An engine of our own, both of whose slots hold a random adapter that changes every answer."""
    folder = tmp_path_factory.mktemp("engine")

    async def load() -> None:
        for seed, name in enumerate(NAMES):
            write_adapter(folder / name, matrix_shapes(model), seed, rank=8)
            await one.engine.load_adapter(name, folder / name)

    settings = EngineSettings(context_tokens=1024, kv_cache_gib=0.5, max_num_seqs=64)
    plugins = os.environ.get("SECONDNATURE_TEST_PLUGINS")
    environment = {"VLLM_PLUGINS": plugins} if plugins else {}
    one = Supervisor(settings, model, folder, on_ready=load, environment=environment)
    await one.start()
    await one.wait_ready()
    yield one.engine
    await one.stop()


async def ask(engine: Engine, names: list[str], sampling: Sampling = GREEDY) -> list[Completion]:
    """Every question once, of the models in turn, all in one batch."""
    asked = [
        engine.chat(names[i % len(names)], ({"role": "user", "content": text},), sampling)
        for i, text in enumerate(QUESTIONS)
    ]
    return [samples[0] for samples in await asyncio.gather(*asked)]


async def test_base_answers_beside_adapters_are_those_alone(engine: Engine) -> None:
    alone = await ask(engine, [BASE])
    mixed = await ask(engine, [BASE, NAMES[0], BASE, NAMES[1]])
    same = [a.text == b.text for a, b in zip(alone[::2], mixed[::2], strict=True)]
    assert sum(same) >= len(same) - 1  # a near tie between two tokens may fall the other way in another batch


async def test_each_adapter_answers_its_own_way_beside_others(engine: Engine) -> None:
    alone = {name: await ask(engine, [name], FIRST) for name in (BASE, *NAMES)}
    mixed = await ask(engine, [NAMES[0], NAMES[1], BASE, NAMES[0]], FIRST)
    own = [alone[one.model][i].text == one.text for i, one in enumerate(mixed)]
    strange = [alone[name][i].text == one.text for i, one in enumerate(mixed) for name in alone if name != one.model]
    assert sum(own) > len(own) / 2  # 12 of 16 were measured; by chance, or from another slot, there is none
    assert sum(strange) <= 2
    for first, second in ((BASE, NAMES[0]), (BASE, NAMES[1]), NAMES):
        other = [a.text != b.text for a, b in zip(alone[first], alone[second], strict=True)]
        assert sum(other) >= len(other) - 1


async def test_the_start_up_check_agrees(engine: Engine, model: Path) -> None:
    found = await check_base(engine, BASE, model)
    assert found.passed, found.sentence
    assert await engine.models() == [BASE, *NAMES]


async def test_logprobs_and_given_answers_agree(engine: Engine) -> None:
    question = ({"role": "user", "content": QUESTIONS[0]},)
    (said,) = await engine.chat(BASE, question, Sampling(max_tokens=8, logprobs=2))
    given = await engine.answer_logprobs(BASE, question, said.text)
    assert said.first_margin is not None
    assert len(said.logprobs) == said.completion_tokens
    assert given == pytest.approx(said.logprobs[: len(given)], abs=0.1)  # read at once or one by one, in bfloat16


async def test_samples_priorities_and_a_seed_do_no_harm(engine: Engine) -> None:
    sampling = Sampling(temperature=0.8, max_tokens=6, n=4, extra={"seed": 5})
    question = ({"role": "user", "content": QUESTIONS[0]},)
    said = await asyncio.gather(*(engine.chat(BASE, question, sampling, priority=p) for p in Priority))
    assert [len(samples) for samples in said] == [4] * 4
    assert all(0 < one.completion_tokens <= 6 for samples in said for one in samples)


async def test_a_closed_stream_stops_the_engine(engine: Engine) -> None:
    question = ({"role": "user", "content": "Count to a thousand."},)
    stream = engine.stream(BASE, question, Sampling(max_tokens=900, extra={"ignore_eos": True}))
    async for piece in stream:
        if piece.text:
            break
    await stream.aclose()
    async with asyncio.timeout(20):  # 900 tokens would take longer
        while await running(engine):  # vLLM tells it on a page, not by an event
            await asyncio.sleep(0.2)
    assert await running(engine) == 0


async def running(engine: Engine) -> int:
    """Requests that vLLM is generating for, from its own count."""
    return await counted(engine, "vllm:num_requests_running")


async def test_faults_are_named(engine: Engine, tmp_path: Path) -> None:
    long = ({"role": "user", "content": "one two three " * 1000},)
    with pytest.raises(BadInput) as caught:
        await engine.chat(BASE, long, GREEDY)
    with pytest.raises(NotFound):
        await engine.chat("nobody", ({"role": "user", "content": "hi"},), GREEDY)
    with pytest.raises(NotFound):
        await engine.load_adapter("sn-0003-absent", tmp_path / "absent")
    assert caught.value.param == "messages"


async def test_an_old_adapters_cache_never_answers_for_a_new_one(engine: Engine, model: Path, tmp_path: Path) -> None:
    """vLLM keys its prefix cache by the adapter's name: a new name begins with none, whatever others have cached of the
    very same prompt. A reload under an old name would not (the daemon never does it)."""
    write_adapter(tmp_path / "new", matrix_shapes(model), 7, rank=8)
    prompt = ({"role": "user", "content": "Remember: " + " ".join(QUESTIONS) + " What was the first question?"},)
    first = Sampling(max_tokens=1, logprobs=0)
    (old,) = await engine.chat(NAMES[0], prompt, first)
    hits = await counted(engine, "vllm:prefix_cache_hits_total")
    await engine.chat(NAMES[0], prompt, first)
    warm = await counted(engine, "vllm:prefix_cache_hits_total")
    said = []
    for name in ("sn-0003-new", "sn-0004-again"):
        await engine.load_adapter(name, tmp_path / "new")
        said += await engine.chat(name, prompt, first)
        await engine.unload_adapter(name)
    assert warm > hits + 100, "the old adapter's own prompt is answered from its cache"
    assert await counted(engine, "vllm:prefix_cache_hits_total") == warm, "a new name found a cache"
    assert said[0].text == said[1].text != old.text
    assert said[0].logprobs == pytest.approx(said[1].logprobs, abs=0.1)


async def test_a_beginning_that_was_read_to_an_adapter_is_cached_when_it_is_asked(
    engine: Engine, model: Path, tmp_path: Path
) -> None:
    name, block = "sn-0008-warmed", EngineSettings().kv_block_tokens
    write_adapter(tmp_path / name, matrix_shapes(model), 8, rank=8)
    prompt = ({"role": "user", "content": "Remember: " + " ".join(QUESTIONS) + " What was the last question?"},)
    tokens = await engine.tokenize(BASE, prompt)
    await engine.load_adapter(name, tmp_path / name)
    before = await counted(engine, "vllm:prefix_cache_hits_total")
    ends = range(block, 4 * block + 1, block)
    for end in ends:
        await engine.read(name, tokens[:end])
    read = await counted(engine, "vllm:prefix_cache_hits_total")
    await engine.chat(name, prompt, FIRST)
    asked = await counted(engine, "vllm:prefix_cache_hits_total")
    await engine.unload_adapter(name)
    assert read - before == sum(end - block for end in ends), "a block was computed twice"
    assert asked - read == 4 * block


async def counted(engine: Engine, name: str) -> int:
    """One of vLLM's counters; nobody reads them without the engine's key."""
    assert isinstance(engine, VllmEngine)
    page = await engine._server.call("GET", "/metrics", limit_s=30.0)
    lines = page.body.decode().splitlines()
    return int(sum(float(line.split()[-1]) for line in lines if line.startswith(name)))


async def test_what_an_adapter_has_nothing_for_is_left_alone(engine: Engine, model: Path, tmp_path: Path) -> None:
    """A slot that held another adapter before: of its matrices, packed ones included, nothing must be left. The least
    recently asked of the two that are held makes way."""
    some = {stem: shape for stem, shape in matrix_shapes(model).items() if stem.endswith("down_proj")}
    write_adapter(tmp_path / "some", some, 3, rank=8)
    write_adapter(tmp_path / "whole", matrix_shapes(model), 9, rank=16)
    question = ({"role": "user", "content": QUESTIONS[0]},)

    async def said(name: str, folder: str | None = None) -> Completion:
        if folder:
            await engine.load_adapter(name, tmp_path / folder)
        (one,) = await engine.chat(name, question, Sampling(max_tokens=1, logprobs=0))
        return one

    for name in NAMES:
        await said(name)
    after_random = await said("sn-0005-some", "some")  # into the first name's slot
    whole = await said("sn-0007-whole", "whole")  # into the second one's
    await said(NAMES[0])  # in the place of 0005
    after_whole = await said("sn-0006-some", "some")  # in the place of 0007
    for name in ("sn-0005-some", "sn-0006-some", "sn-0007-whole"):
        await engine.unload_adapter(name)
    assert after_random.text == after_whole.text
    assert after_random.logprobs == pytest.approx(after_whole.logprobs, abs=0.05)
    assert whole.logprobs != pytest.approx(after_whole.logprobs, abs=0.05)


async def test_a_drawn_tokens_own_log_probability_is_that_of_the_table(engine: Engine) -> None:
    """Nobody asks for alternatives: the plugin's short way. Somebody does: vLLM's own."""
    question = ({"role": "user", "content": QUESTIONS[1]},)
    for name in (BASE, NAMES[0]):
        # From here on the prompt is in the cache and the adapter's matrices are packed, for both alike.
        await engine.chat(name, question, Sampling(max_tokens=20, extra={"ignore_eos": True}))
        (short,) = await engine.chat(name, question, Sampling(max_tokens=8, logprobs=0))
        (long,) = await engine.chat(name, question, Sampling(max_tokens=8, logprobs=2))
        assert short.text == long.text
        assert len(short.logprobs) == short.completion_tokens
        assert short.logprobs == pytest.approx(long.logprobs, abs=1e-3)
        assert short.first_margin is None
