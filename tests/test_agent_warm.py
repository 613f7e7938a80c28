"""Warming: what is read to a new adapter before it is put in force, and who waits for it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from adapters.model import ModelFolder
from adapters_fakes import BASE
from agent.answer import answer
from agent.daemon import Daemon
from agent.day import Day
from agent.engine.settings import EngineSettings
from agent.in_force import InForce, Pointer
from agent.recalibrate import in_force_for
from agent.swap import Swap
from agent.warm import common_beginnings, warm
from console_service import Served, served
from day_fakes import ScriptedEngine, asked, day
from memory.errors import Conflict, NotFound, Unavailable
from memory.records import AdapterStatus
from memory_fakes import adapter

SYSTEM = {"role": "system", "content": "You answer shortly, in plain words, and never say more than you are asked for."}
NEW, LIVE = adapter(2), adapter(1).name


class Reader(ScriptedEngine):
    """Says when it has read a piece; one that is told so holds, or refuses."""

    def __init__(self) -> None:
        super().__init__(lambda model, text: "7")
        self.read_one = asyncio.Event()
        self.refusal: Exception | None = None
        self.held: asyncio.Event | None = None  # what a read waits for
        self.when_read: Callable[[], object] = lambda: None

    def go_on(self) -> None:
        assert self.held is not None
        self.held.set()

    async def read(self, model: str, tokens: Sequence[int]) -> None:
        if self.refusal is not None:
            raise self.refusal
        await super().read(model, tokens)
        self.when_read()
        self.read_one.set()
        if self.held is not None:
            await self.held.wait()


@pytest.fixture
async def reader() -> Reader:
    return Reader()


@pytest.fixture
async def one(tmp_path: Path, reader: Reader) -> AsyncIterator[Day]:
    """A day on which five questions with a common beginning were asked."""
    made = day(tmp_path, reader)
    for number in range(5):
        ask, skill = asked(made, f"What is {number} + {number}?", number=number + 1)
        await answer(made, replace(ask, messages=(SYSTEM, *ask.messages)), skill)
    await asyncio.to_thread(made.memory.flush)
    yield made
    made.memory.close()


def test_common_beginnings_are_whole_blocks_that_two_share_and_each_comes_after_its_own_beginning() -> None:
    rng = random.Random(1)
    heads = [tuple(rng.choices(range(9), k=40)) for _ in range(3)]
    prompts = {head[: rng.randint(5, 40)] + tuple(rng.choices(range(9), k=9)): rng.randint(1, 3) for head in heads * 9}
    found = common_beginnings(prompts, 4, 100)
    assert len(found) == len(set(found)) > 9
    for place, beginning in enumerate(found):
        assert len(beginning) % 4 == 0
        assert sum(times for prompt, times in prompts.items() if prompt[: len(beginning)] == beginning) > 1
        assert len(beginning) == 4 or beginning[:-4] in found[:place]
    assert common_beginnings(prompts, 4, 3) == found[:3]
    assert max(map(len, common_beginnings(prompts, 4, 3))) <= 12


def test_what_is_asked_once_has_nothing_in_common() -> None:
    assert common_beginnings({(1, 2, 3, 4): 1, (5, 6, 7, 8): 1}, 2, 9) == []
    assert common_beginnings({(1, 2, 3, 4): 2}, 2, 9) == [(1, 2), (1, 2, 3, 4)]
    assert common_beginnings({(1, 2, 3, 4): 2, (5, 6): 3}, 2, 2) == [(5, 6), (1, 2)], "the most frequent first"


async def test_the_beginnings_are_read_to_the_new_adapter(one: Day, reader: Reader, tmp_path: Path) -> None:
    assert await warm(one, NEW, tmp_path) > 0
    assert reader.loaded == {NEW.name: tmp_path}
    block = one.config.engine.kv_block_tokens
    beginnings = [tokens for _, tokens in reader.reads]
    whole = "".join(f"{m['role']}:{m['content']}" for m in (SYSTEM,))
    assert len(beginnings) >= len(whole) // block
    assert "".join(map(chr, beginnings[len(whole) // block - 1])) == whole[: len(whole) // block * block]
    assert {name for name, _ in reader.reads} == {NEW.name}


async def test_a_day_without_questions_has_nothing_to_read(tmp_path: Path, reader: Reader) -> None:
    empty = day(tmp_path, reader)
    await warm(empty, NEW, tmp_path)
    assert (list(reader.loaded), reader.reads) == ([NEW.name], [])
    empty.memory.close()


async def test_no_answer_meets_two_pieces(one: Day, reader: Reader, tmp_path: Path) -> None:
    older, newer = ExitStack(), ExitStack()
    reader.when_read = lambda: older.enter_context(one.pointer.hold())  # it meets the first piece
    warming = asyncio.create_task(warm(one, NEW, tmp_path))
    await asyncio.wait_for(reader.read_one.wait(), 30)
    reader.when_read = lambda: None
    newer.enter_context(one.pointer.hold())  # began after the piece: the next one does not wait for it
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(reader.reads) == 1
    reader.read_one.clear()
    older.close()
    await asyncio.wait_for(reader.read_one.wait(), 30)
    assert len(reader.reads) == 2
    newer.close()
    await warming
    assert len(reader.reads) == 3


async def test_an_examination_is_not_waited_for(one: Day, reader: Reader, tmp_path: Path) -> None:
    with one.pointer.keep(None):
        await asyncio.wait_for(one.pointer.passed(), 5)
        assert one.pointer.in_flight("") == 1


def within(warm_s: float, tmp_path: Path, reader: Reader) -> Day:
    made = day(tmp_path, reader)
    engine = made.config.engine.model_copy(update={"warm_s": warm_s})
    return replace(made, config=made.config.model_copy(update={"engine": engine}))


async def test_what_does_not_fit_into_the_time_is_left_out(tmp_path: Path, reader: Reader) -> None:
    short = within(1.0, tmp_path, reader)
    for number in (1, 2):
        await answer(short, *asked(short, "What is 1 + 1, and why is it so, of all the numbers?", number=number))
    await asyncio.to_thread(short.memory.flush)
    reader.held = asyncio.Event()
    assert 0.9 < await warm(short, NEW, tmp_path) < 20
    assert (list(reader.loaded), len(reader.reads)) == ([NEW.name], 1)
    short.memory.close()


async def test_no_time_is_no_warming(tmp_path: Path, reader: Reader) -> None:
    none = within(0, tmp_path, reader)
    assert (await warm(none, NEW, tmp_path), reader.loaded) == (0.0, {})
    none.memory.close()


@pytest.mark.parametrize("refusal", [NotFound("no such path"), Unavailable("it went away")])
async def test_an_engine_that_cannot_be_warmed_hinders_nobody(
    one: Day, reader: Reader, tmp_path: Path, refusal: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    reader.refusal = refusal
    await warm(one, NEW, tmp_path)
    assert "could not be warmed" in caplog.text


async def test_a_grace_period_ends_with_those_who_were_there_when_it_began() -> None:
    pointer = Pointer(InForce())
    await pointer.passed()
    older, newer = ExitStack(), ExitStack()
    older.enter_context(pointer.hold())
    two = [asyncio.create_task(pointer.passed()) for _ in range(2)]
    await asyncio.sleep(0)
    newer.enter_context(pointer.hold())
    later = asyncio.create_task(pointer.passed())
    await asyncio.sleep(0)
    assert not any(waiting.done() for waiting in (*two, later))
    older.close()
    await asyncio.wait_for(asyncio.gather(*two), 5)
    assert not later.done()
    newer.close()
    await asyncio.wait_for(later, 5)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path, 40) as running:
        yield running


def test_a_promotion_warms_unless_it_is_wanted_now(site: Served) -> None:
    older, newer = (row.name for row in site.adapters)
    with httpx.Client(base_url=site.url, timeout=60) as http:
        for number in (3, 4):
            message = {"role": "user", "content": f"Of all that may be asked of a small model: what is {number} + 4?"}
            asked = http.post("/v1/chat/completions", json={"model": "secondnature", "messages": [message]})
            assert asked.status_code == 200, asked.text
        site.day.memory.flush()
        first = http.post(f"/api/adapters/{older}/promote", json={"why": "better"}).json()
        engine = site.daemon.engine
        assert isinstance(engine, ScriptedEngine)
        assert (first["adapter"], first["warm_s"] > 0, {name for name, _ in engine.reads}) == (older, True, {older})
        second = http.post(f"/api/adapters/{newer}/promote", json={"why": "worse", "now": True}).json()
        assert (second["adapter"], second["warm_s"], {name for name, _ in engine.reads}) == (newer, 0.0, {older})


@pytest.fixture
def daemon(one: Day, tmp_path: Path) -> Daemon:
    """One whose first adapter is live; the folders are not looked at."""
    config = one.config.model_copy(update={"engine": EngineSettings(urls=("http://127.0.0.1:9",))})
    made = Daemon(config, ModelFolder(str(tmp_path), BASE, "folder", "scripted"), one.memory)
    made.day = made.night.day = one
    made.fleet.waiting = None
    made.verified = lambda adapter: tmp_path  # type: ignore[method-assign]
    for number in (1, 2):
        one.memory.add_adapter(adapter(number))
    one.memory.make_live(LIVE, "test")
    one.pointer.flip(in_force_for(one, one.memory.live()))
    return made


async def in_the_midst(daemon: Daemon, reader: Reader) -> asyncio.Task[Swap]:
    """A promotion that is warming."""
    reader.held = asyncio.Event()
    promoting = asyncio.create_task(daemon.promote(NEW.name, "better"))
    await asyncio.wait_for(reader.read_one.wait(), 30)
    return promoting


async def test_a_rollback_does_not_wait_and_the_promotion_says_so(one: Day, reader: Reader, daemon: Daemon) -> None:
    promoting = await in_the_midst(daemon, reader)
    assert one.pointer.in_flight(NEW.name), "it may neither be unloaded nor its folder be pruned meanwhile"
    assert (await daemon.rollback("worse")).adapter is None
    reader.go_on()
    with pytest.raises(Conflict, match="meanwhile"):
        await promoting
    await asyncio.gather(*daemon._tasks)
    assert (one.pointer.now.adapter, NEW.name in reader.loaded) == (None, False)


async def test_of_two_promotions_of_one_adapter_one_is_told_so(one: Day, reader: Reader, daemon: Daemon) -> None:
    told = await asyncio.gather(*(daemon.promote(NEW.name, "better") for _ in range(2)), return_exceptions=True)
    assert sorted(type(one).__name__ for one in told) == ["Conflict", "Swap"]
    await asyncio.gather(*daemon._tasks)
    assert one.pointer.now.adapter is not None
    assert (one.pointer.now.adapter.name, NEW.name in reader.loaded) == (NEW.name, True)


async def test_an_adapter_taken_out_of_use_while_it_is_warmed_is_not_put_in_force(
    one: Day, reader: Reader, daemon: Daemon
) -> None:
    promoting = await in_the_midst(daemon, reader)
    one.memory.set_adapter_status(NEW.name, AdapterStatus.QUARANTINED, "it learnt what was forgotten")
    reader.go_on()
    with pytest.raises(Conflict, match="taken out of use"):
        await promoting
    await asyncio.gather(*daemon._tasks)
    assert one.pointer.now.adapter is not None
    assert (one.pointer.now.adapter.name, NEW.name in reader.loaded) == (LIVE, False)


async def test_who_goes_away_while_an_adapter_is_warmed_leaves_it_unloaded(
    one: Day, reader: Reader, daemon: Daemon
) -> None:
    promoting = await in_the_midst(daemon, reader)
    promoting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await promoting
    await asyncio.gather(*daemon._tasks)
    assert NEW.name not in reader.loaded


async def test_the_one_in_force_is_not_warmed_again(one: Day, reader: Reader, daemon: Daemon) -> None:
    assert ((await daemon.promote(LIVE, "again")).warm_s, reader.reads) == (0.0, [])
