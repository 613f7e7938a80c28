"""Faults around the service that no other file tries: cut-off sockets, a disk that turns read-only, a clock that
jumps."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import orjson
import pytest
import uvicorn

from agent.answer import Day
from agent.http.app import build, no_lifespan
from agent.in_force import InForce
from agent.swap import _retiring, swap
from day_fakes import ScriptedEngine, day
from memory.errors import StorageFull
from memory.store import Memory
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
