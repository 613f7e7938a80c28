"""Requests that go through to the engine, and streams that are closed early: nobody goes before the others, nothing is
without an end, and what was generated is counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import orjson
import pytest
from fastapi import FastAPI

from agent.day import Day
from agent.engine.client import Raw
from agent.http.app import build, no_lifespan
from agent.http.keys import create
from agent.http.passthrough import forwarded_stream
from day_fakes import ScriptedEngine, asked, day
from memory.errors import TooMany

PATH = "/v1/chat/completions"
GOOD = {"model": "secondnature", "messages": [{"role": "user", "content": "Tell me something."}]}
SEVERAL = GOOD | {"n": 2}  # System 2 cannot serve it


class Flow:
    """What the engine streams: ten words, then its count and the end."""

    status = 200

    def __init__(self) -> None:
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for n in range(10):
            said = orjson.dumps({"choices": [{"index": 0, "delta": {"content": f"{n} "}}]})
            yield b"data: " + said[:9]
            yield said[9:] + b"\n\n"
            await asyncio.sleep(0)
        yield b'data: {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 20}}\n\n'
        yield b"data: [DONE]\n\n"

    async def aclose(self) -> None:
        self.closed = True


class Passing(ScriptedEngine):
    """Remembers what went through; says ten words to everything."""

    def __init__(self) -> None:
        super().__init__(lambda model, text: "0 1 2 3 4 5 6 7 8 9")
        self.bodies: list[dict[str, Any]] = []
        self.extras: list[dict[str, Any]] = []
        self.flows: list[Flow] = []

    async def chat(self, model: str, messages: Any, sampling: Any, *, priority: int = 0) -> Any:
        self.extras.append(dict(sampling.extra))
        return await super().chat(model, messages, sampling, priority=priority)

    async def forward(self, path: str, body: Mapping[str, Any]) -> Raw:
        self.bodies.append(dict(body))
        said = {"choices": [{"message": {"content": "8"}}], "usage": {"completion_tokens": 2}}
        return Raw(200, orjson.dumps(said), "application/json")

    async def forward_stream(self, path: str, body: Mapping[str, Any]) -> Flow:
        self.bodies.append(dict(body))
        self.flows.append(Flow())
        return self.flows[-1]


@pytest.fixture
def engine() -> Passing:
    return Passing()


def application(one: Day) -> FastAPI:
    app = build(one.config, no_lifespan())
    app.state.daemon = SimpleNamespace(day=one, memory=one.memory)
    return app


@pytest.fixture
async def http(tmp_path: Path, engine: Passing) -> AsyncIterator[httpx.AsyncClient]:
    one = day(tmp_path, engine, limits={"answer_tokens": 100}, system1={"max_tokens": 60})
    transport = httpx.ASGITransport(application(one), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client
    one.memory.close()


async def test_what_only_the_service_may_set_does_not_reach_the_engine(
    http: httpx.AsyncClient, engine: Passing
) -> None:
    own = {"priority": -1000, "request_id": "mine", "kv_transfer_params": {"a": 1}, "stream_interval": 1000}
    assert (await http.post(PATH, json=SEVERAL | own | {"top_p": 0.5})).status_code == 200
    assert not own.keys() & engine.bodies[0].keys()
    assert engine.bodies[0]["top_p"] == 0.5
    assert (await http.post(PATH, json=GOOD | own | {"top_p": 0.5})).status_code == 200
    assert engine.extras == [{"top_p": 0.5}], "nor does it by System 1's ordinary way"


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"n": 2}, 50),  # the limit's share of each choice
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, 60),  # as long as any direct answer
        ({"n": 2, "max_tokens": 7}, 7),
    ],
)
async def test_an_answer_always_has_an_end(
    http: httpx.AsyncClient, engine: Passing, given: dict[str, Any], sent: int
) -> None:
    assert (await http.post(PATH, json=GOOD | given)).status_code == 200
    assert engine.bodies[0]["max_tokens"] == sent


async def test_all_choices_together_are_bounded(http: httpx.AsyncClient, engine: Passing) -> None:
    for given in ({"n": 2, "max_tokens": 51}, {"n": 3, "max_completion_tokens": 40}, {"n": 101}):
        refused = await http.post(PATH, json=GOOD | given)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "max_tokens")
    assert engine.bodies == []


async def test_a_forwarded_stream_takes_a_place_and_gives_it_back(tmp_path: Path, engine: Passing) -> None:
    one = day(tmp_path, engine, admission={"system1_active": 1, "system1_waiting": 0})
    ask, skill = asked(one, "What is 3 + 5?", n=2)
    first, second = forwarded_stream(one, ask, skill), forwarded_stream(one, ask, skill)
    await anext(first)
    assert one.system1_room.occupied == 1
    with pytest.raises(TooMany):
        await anext(second)
    await first.aclose()
    assert (one.system1_room.occupied, engine.flows[0].closed) == (0, True)
    heard: list[int] = []
    assert b"[DONE]" in b"".join([chunk async for chunk in forwarded_stream(one, ask, skill, heard.append)])
    assert (heard[3], heard[-1]) == (2, 20), "the events as they come, in the end what the engine counted"
    one.memory.close()


async def hang_up(app: FastAPI, body: Mapping[str, Any], secret: str, after: int) -> int:
    """Send a request and close the connection after so many pieces of its answer; gives the status."""
    told, gone = [{"type": "http.request", "body": orjson.dumps(body)}], asyncio.Event()
    pieces, status = 0, 0

    async def receive() -> dict[str, Any]:
        if told:
            return told.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal pieces, status
        status = message.get("status", status)
        pieces += message["type"] == "http.response.body"
        if pieces >= after:
            gone.set()
            await asyncio.sleep(60)  # nobody reads any more

    scope = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "method": "POST", "path": PATH,
        "raw_path": PATH.encode(), "query_string": b"", "scheme": "http", "server": ("localhost", 80),
        "headers": [(b"host", b"localhost"), (b"authorization", f"Bearer {secret}".encode())],
    }  # fmt: skip
    async with asyncio.timeout(5):
        await app(scope, receive, send)
    return status


@pytest.mark.parametrize("body", [GOOD, SEVERAL])
async def test_a_stream_that_is_closed_early_has_its_price(
    tmp_path: Path, engine: Passing, body: dict[str, Any]
) -> None:
    one = day(tmp_path, engine)
    app = application(one)
    secret = create(one.memory, "ask", limits={"tokens_per_day": 6}).secret
    stream = body | {"stream": True}
    statuses = [await hang_up(app, stream, secret, after) for after in (6, 6, 6, 100)]
    assert statuses[0] == 200
    assert statuses[-1] == 429, "three times a handful of tokens are more than six"
    assert one.system1_room.occupied == 0
    one.memory.close()
