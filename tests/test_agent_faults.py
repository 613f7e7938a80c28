"""Faults around the service that no other file tries: cut-off sockets, a disk that turns read-only, a clock that
jumps."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import httpx
import orjson
import pytest
import uvicorn

from agent.day import Day
from agent.engine.client import Priority, Sampling
from agent.http.app import build, no_lifespan
from agent.in_force import InForce
from agent.steps import thinking
from agent.swap import _retiring, swap
from agent.trust import TrustSettings, daily
from day_fakes import ScriptedEngine, asked, day
from memory.errors import StorageFull
from memory.records import Completion, Message, Mode
from memory.store import Memory, restore
from memory_fakes import adapter, episode

BODY = orjson.dumps({"model": "secondnature", "messages": [{"role": "user", "content": "What is 3 + 5?"}]})
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
WHOLE = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
SOCKETS = 60


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Day, int]]:
    """The routes over a scripted engine behind a real socket: the day, and the port."""
    one = day(tmp_path, ScriptedEngine(lambda model, text: "8"), limits={"requests_per_minute": 1e9, "burst": 10_000})
    app = build(one.config, no_lifespan())
    app.state.daemon = SimpleNamespace(day=one, memory=one.memory)
    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
    yield one, server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join()
    one.memory.close()


def test_sockets_cut_off_anywhere_leave_nothing_behind(served: tuple[Day, int]) -> None:
    one, port = served
    chance = random.Random(5)
    for n in range(SOCKETS):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(WHOLE[: chance.randrange(1, len(WHOLE) + 1)])
            if n % 2:
                client.shutdown(socket.SHUT_WR)
                client.recv(1)  # an answer's first byte, or the end
    answer = httpx.post(f"http://127.0.0.1:{port}/v1/chat/completions", content=BODY)
    assert answer.status_code == 200
    assert (one.system1_room.occupied, one.system2_room.occupied) == (0, 0)


def test_a_disk_that_turns_read_only_refuses_the_new_and_keeps_the_old(tmp_path: Path) -> None:
    read_only = threading.Event()

    def write(descriptor: int, line: bytes) -> int:
        if read_only.is_set():
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return os.write(descriptor, line)

    with Memory.open(tmp_path, write=write) as memory:
        for n in range(50):
            memory.remember(episode(n))
        read_only.set()
        with pytest.raises(StorageFull):
            memory.remember(episode(50))
        read_only.clear()
        memory.remember(episode(51))
        memory.flush()
        assert memory.counts()["episodes"] == 51
        assert memory.episode("ep-00000051").ask.id == "ep-00000051"


def test_decisions_follow_their_order_and_not_the_clock(tmp_path: Path) -> None:
    now = [1_000_000.0]
    with Memory.open(tmp_path, clock=lambda: now[0]) as memory:
        memory.set_threshold("sums", 0.9, "me", "first")
        now[0] -= 86_400.0 * 400
        memory.set_threshold("sums", 0.8, "me", "the clock was put back")
        assert memory.threshold("sums") == 0.8
        number = memory.start_night("test")
        now[0] += 86_400.0 * 4000
        memory.finish_night(number, "skipped")
        memory.set_threshold("sums", 0.7, "me", "and far forward")
        assert memory.threshold("sums") == 0.7
        assert memory.undo_threshold("me").value == 0.7
        assert memory.threshold("sums") == 0.8
        assert [night.outcome for night in memory.nights()] == ["skipped"]


async def test_an_adapter_put_in_force_again_while_it_drains_stays_loaded(tmp_path: Path) -> None:
    engine = ScriptedEngine(lambda model, text: "8")
    one = day(tmp_path, engine)
    first, second = adapter(1), adapter(2)
    await swap(one, InForce(first), Path("first"))
    with one.pointer.hold():
        await swap(one, InForce(second), Path("second"))
        await swap(one, InForce(first), Path("first"))
    await asyncio.gather(*_retiring)
    assert set(engine.loaded) == {first.name}
    one.memory.close()


class Promising(ScriptedEngine):
    """Writes down how many tokens each request may have."""

    def __init__(self) -> None:
        super().__init__(lambda model, text: "8")
        self.promised: list[int] = []

    async def chat(
        self, model: str, messages: Sequence[Message], sampling: Sampling, *, priority: int = 0
    ) -> tuple[Completion, ...]:
        self.promised.append((sampling.max_tokens or 10**9) * sampling.n)
        return await super().chat(model, messages, sampling, priority=priority)


async def test_no_request_may_have_more_of_system_2_than_the_service_allows(tmp_path: Path) -> None:
    for allowed in (100, 20_000):
        engine = Promising()
        one = day(tmp_path / str(allowed), engine, limits={"system2_tokens": allowed})
        ask, skill = asked(one, "What is 3 + 5?", Mode.SYSTEM2)
        thought = await thinking(one, ask, skill, Priority.SYSTEM2)
        assert thought.verdict.answer == "8"
        assert max(engine.promised) <= allowed
        assert (max(engine.promised) > 100) == (allowed > 100), "the bound is what held it"
        one.memory.close()


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EROFS])
def test_a_caller_is_told_that_the_disk_takes_nothing_and_is_answered_again_once_it_does(
    served: tuple[Day, int], fault: int
) -> None:
    one, port = served
    url = f"http://127.0.0.1:{port}/v1/chat/completions"

    def write(descriptor: int, line: bytes) -> int:
        raise OSError(fault, os.strerror(fault))

    journal = one.memory._writing()._journal
    journal._write = write
    refused = httpx.post(url, content=BODY)
    assert (refused.status_code, refused.json()["error"]["code"]) == (507, "storage_full")
    assert int(refused.headers["retry-after"]) >= 1
    assert set(refused.json()) == {"error"}, "an answer that is not remembered is not given"
    journal._write = os.write
    assert httpx.post(url, content=BODY).status_code == 200
    one.memory.flush()
    assert one.memory.counts()["episodes"] == 1


def test_a_clock_put_far_forward_blanks_text_early_and_yesterdays_backup_still_has_it(tmp_path: Path) -> None:
    now = [1_000_000.0]
    with Memory.open(tmp_path, clock=lambda: now[0]) as memory:
        for n in range(3):
            memory.remember(replace(episode(n), ask=replace(episode(n).ask, asked_at=now[0])))
        memory.flush()
        before = daily(memory, TrustSettings(keep_text_days=30))
        assert (before["blanked"], before["backup"] is not None) == (0, True)
        now[0] += 400 * 86_400.0
        assert daily(memory, TrustSettings(keep_text_days=30))["blanked"] == 3
        assert memory.counts()["episodes"] == len(memory.outcomes()) == 3, "the numbers stay"
        now[0] -= 400 * 86_400.0
        assert daily(memory, TrustSettings(keep_text_days=30))["blanked"] == 0
    restore(tmp_path, Path(before["backup"]))
    with Memory.open(tmp_path) as again:
        assert again.episode("ep-00000000").ask.messages == episode(0).ask.messages
