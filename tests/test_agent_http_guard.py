"""Tests of agent/http/guard.py: who comes in, on a small real application and, for streams, a real socket."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Request
from pydantic import BaseModel
from starlette.responses import StreamingResponse

from agent.http.guard import IDENTITY, KEY_CACHE_S, Guard, check_bind, is_loopback, spent
from agent.http.keys import create
from memory.errors import BadConfig
from memory.rows import Key
from policies.limits import DAY_S, LimitSettings

LIMITS = LimitSettings(body_bytes=1000, request_s=0.2, burst=1000, requests_per_minute=60_000)


class Store:
    """Keys in a dict."""

    def __init__(self) -> None:
        self.rows: dict[str, Key] = {}
        self.spent: dict[str, list[tuple[float, int]]] = {}  # by key: when, and how many tokens

    def add_key(self, key: Key) -> None:
        self.rows[key.id] = key

    def revoke_key(self, key_id: str) -> None:
        self.rows[key_id] = replace(self.rows[key_id], revoked_at=1.0)

    def keys(self) -> list[Key]:
        return list(self.rows.values())

    def key_by_hash(self, digest: str) -> Key | None:
        return next((key for key in self.rows.values() if key.hash == digest), None)

    def tokens_since(self, key_id: str, since: float) -> int:
        return sum(tokens for at, tokens in self.spent.get(key_id, ()) if at >= since)


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Body(BaseModel):
    """A body that the framework reads by itself."""

    text: str


def application(store: Store, clock: Clock, limits: LimitSettings = LIMITS, host: str = "127.0.0.1") -> FastAPI:
    app = FastAPI()
    app.add_middleware(Guard, store=lambda: store, limits=limits, host=host, clock=clock)

    @app.get("/healthz")
    async def healthz() -> str:
        return "ok"

    @app.get("/console")
    async def console() -> str:
        return "page"

    @app.get("/who")
    async def who(request: Request) -> dict[str, str]:
        found = request.scope[IDENTITY]
        return {"name": found.name, "role": found.role}

    @app.post("/v1/echo")
    async def echo(request: Request) -> dict[str, int]:
        spent(request.scope, 10)
        return {"n": len(await request.body())}

    @app.post("/v1/model")
    async def model(body: Body) -> dict[str, int]:
        return {"n": len(body.text)}

    @app.post("/v1/wait")
    async def wait() -> None:
        await asyncio.Event().wait()

    @app.post("/v1/stream")
    async def stream() -> StreamingResponse:
        async def events() -> AsyncIterator[bytes]:
            yield b"data: 1\n\n"
            await asyncio.Event().wait()

        return StreamingResponse(events(), media_type="text/event-stream")

    return app


def client(app: FastAPI, host: str = "127.0.0.1:8600", **headers: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=f"http://{host}", headers=headers)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_a_stranger_gets_401_on_everything_but_health(store, clock):
    create(store, "ask")
    async with client(application(store, clock)) as http:
        assert (await http.get("/healthz")).status_code == 200
        for path in ("/who", "/console", "/v1/echo", "/nowhere", "/openapi.json", "/healthz/"):
            answer = await http.get(path)
            assert answer.status_code == 401, path
            error = answer.json()["error"]
            assert (error["code"], error["type"]) == ("invalid_api_key", "authentication_error")


async def test_a_key_opens_and_a_revoked_one_does_not(store, clock):
    new = create(store, "operate")
    async with client(application(store, clock), Authorization=f"Bearer {new.secret}") as http:
        assert (await http.get("/who")).json() == {"name": new.key.id, "role": "operate"}
        store.revoke_key(new.key.id)
        clock.now += KEY_CACHE_S
        refused = await http.get("/who")
        assert refused.status_code == 401
        assert "was revoked" in refused.json()["error"]["message"]


async def test_revoking_the_last_key_does_not_open_the_door(store, clock):
    store.revoke_key(create(store, "ask").key.id)
    async with client(application(store, clock)) as http:
        assert (await http.get("/who")).status_code == 401


async def test_without_any_key_this_machine_is_local_whatever_key_a_client_sends(store, clock):
    app = application(store, clock)
    for headers in ({}, {"Authorization": "Bearer EMPTY"}):
        async with client(app, **headers) as http:
            assert (await http.get("/who")).json() == {"name": "local", "role": "operate"}


@pytest.mark.parametrize("host", ["localhost:8600", "[::1]:8600", "[::1]", "127.0.0.1"])
async def test_names_of_this_machine(store, clock, host):
    async with client(application(store, clock), host) as http:
        assert (await http.get("/who")).status_code == 200


async def test_another_name_for_this_machine_is_refused(store, clock):
    async with client(application(store, clock), "evil.example:8600") as http:
        answer = await http.get("/who")
        assert answer.status_code == 401
        assert "localhost" in answer.json()["error"]["message"]


async def test_a_proxy_in_front_is_not_this_machine(store, clock):
    async with client(application(store, clock), **{"X-Forwarded-For": "203.0.113.7"}) as http:
        assert (await http.get("/who")).status_code == 401


async def test_without_keys_nobody_is_local_on_an_open_address(store, clock):
    async with client(application(store, clock, host="0.0.0.0")) as http:
        assert (await http.get("/who")).status_code == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site", "X-SecondNature": "1"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null", "X-SecondNature": "1"}, 403),
        ({"Origin": "http://127.0.0.1:9999", "X-SecondNature": "1"}, 403),
        ({"Origin": "http://127.0.0.1:8600", "Sec-Fetch-Site": "same-origin"}, 403),
        ({"Origin": "http://127.0.0.1:8600", "Sec-Fetch-Site": "same-origin", "X-SecondNature": "1"}, 200),
    ],
)
async def test_pages_of_other_sites_cannot_change_anything(store, clock, headers, status):
    async with client(application(store, clock), **headers) as http:
        assert (await http.post("/v1/echo", content=b"{}")).status_code == status


async def test_basic_is_what_a_browser_can_send_and_is_checked_like_ambient_rights(store, clock):
    new = create(store, "operate")
    basic = base64.b64encode(f"key:{new.secret}".encode()).decode()
    app = application(store, clock)
    async with client(app, Authorization=f"Basic {basic}") as http:
        assert (await http.get("/who")).json()["name"] == new.key.id
        assert (await http.post("/v1/echo", headers={"Sec-Fetch-Site": "cross-site"})).status_code == 403
    async with client(app, Authorization="Basic ???") as http:
        assert (await http.get("/who")).status_code == 401
    async with client(app) as http:
        assert (await http.get("/console")).headers["www-authenticate"].startswith("Basic")
        assert (await http.get("/who")).headers["www-authenticate"] == "Bearer"


async def test_a_bearer_key_may_come_from_a_page_of_its_own(store, clock):
    new = create(store, "ask")
    headers = {"Authorization": f"Bearer {new.secret}", "Origin": "http://app.example"}
    async with client(application(store, clock), **headers) as http:
        assert (await http.post("/v1/echo")).status_code == 200


async def test_the_console_has_a_strict_policy_and_nothing_else_has(store, clock):
    async with client(application(store, clock)) as http:
        page, other = await http.get("/console"), await http.get("/who")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    assert page.headers["x-frame-options"] == "DENY"
    assert "content-security-policy" not in other.headers
    assert page.headers["x-content-type-options"] == other.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/v1/echo", "/v1/model"])
async def test_a_large_body_is_refused_announced_or_not(store, clock, path):
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * 400

    async with client(application(store, clock)) as http:
        for content in (b"x" * 1001, pieces()):
            answer = await http.post(path, content=content, headers={"Content-Type": "application/json"})
            assert answer.status_code == 413
            assert answer.json()["error"]["code"] == "too_large"
        assert (await http.post("/v1/echo", content=b"x" * 1000)).json() == {"n": 1000}


async def test_a_key_over_its_rate_is_told_when_to_return(store, clock):
    new = create(store, "ask", limits={"burst": 2, "requests_per_minute": 6})
    async with client(application(store, clock), Authorization=f"Bearer {new.secret}") as http:
        assert [(await http.post("/v1/echo")).status_code for _ in range(3)] == [200, 200, 429]
        refused = await http.post("/v1/echo")
        assert refused.headers["retry-after"] == "10"
        assert refused.json()["error"]["type"] == "rate_limit_error"
        assert (await http.get("/who")).status_code == 200
        clock.now += 10
        assert (await http.post("/v1/echo")).status_code == 200


async def test_generated_tokens_count_against_the_day(store, clock):
    new = create(store, "ask", limits={"tokens_per_day": 15})
    async with client(application(store, clock), Authorization=f"Bearer {new.secret}") as http:
        assert [(await http.post("/v1/echo")).status_code for _ in range(3)] == [200, 200, 429]


async def test_a_restart_does_not_give_the_days_tokens_anew(store, clock):
    new = create(store, "ask", limits={"tokens_per_day": 15})
    today = clock.now // DAY_S * DAY_S
    store.spent[new.key.id] = [(today - 1, 100), (today, 9), (today + 60, 5)]
    async with client(application(store, clock), Authorization=f"Bearer {new.secret}") as http:
        assert [(await http.post("/v1/echo")).status_code for _ in range(2)] == [200, 429]
        clock.now += DAY_S
        assert (await http.post("/v1/echo")).status_code == 200


async def test_operating_has_a_rate_of_its_own(store, clock):
    new = create(store, "audit", limits={"burst": 2, "requests_per_minute": 6})
    async with client(application(store, clock), Authorization=f"Bearer {new.secret}") as http:
        assert [(await http.get("/api/status")).status_code for _ in range(3)] == [404, 404, 429]
        assert (await http.post("/v1/echo")).status_code == 200


async def test_requests_under_way_are_bounded_and_freed(store, clock):
    new = create(store, "ask", limits={"concurrent": 1})
    async with client(application(store, clock), Authorization=f"Bearer {new.secret}") as http:
        slow, second = await asyncio.gather(http.post("/v1/wait"), http.post("/v1/echo"))
        assert sorted((slow.status_code, second.status_code)) == [429, 504]
        assert (await http.post("/v1/echo")).status_code == 200


@contextlib.contextmanager
def listening() -> Iterator[socket.socket]:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound


async def test_a_stream_that_takes_too_long_ends_with_the_reason(store, clock):
    with listening() as bound:
        server = uvicorn.Server(uvicorn.Config(application(store, clock), log_config=None, lifespan="off"))
        serving = asyncio.create_task(server.serve(sockets=[bound]))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/v1/stream"
        async with httpx.AsyncClient() as http, http.stream("POST", url) as answer:
            assert answer.status_code == 200
            events = [line async for line in answer.aiter_lines() if line]
        server.should_exit = True
        await serving
    assert events[0] == "data: 1"
    assert "no answer within 0.2 seconds" in events[1]
    assert events[2] == "data: [DONE]"


async def test_websockets_are_turned_away(store, clock):
    sent: list[dict[str, object]] = []

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    app = application(store, clock)
    await app({"type": "websocket", "path": "/", "headers": []}, None, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "[::1]", "localhost", "LOCALHOST."])
def test_loopback_needs_no_key(host):
    assert is_loopback(host)
    check_bind(host, has_keys=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.5", "example.org", "localhost.example.org"])
def test_other_addresses_need_a_key(host):
    with pytest.raises(BadConfig, match="keys create"):
        check_bind(host, has_keys=False)
    check_bind(host, has_keys=True)
