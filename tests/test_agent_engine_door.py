"""The middleware that stands in the vLLM process; test_engine_service.py knocks at the real one."""

from __future__ import annotations

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from agent.engine.door import Door

PATHS = ("/v1/load_lora_adapter", "/invocations", "/tokenize", "/metrics", "/", "/health/x", "/healthz")


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> TestClient:
    monkeypatch.setenv("VLLM_API_KEY", "the-key")
    app = Starlette(routes=[Route("/{rest:path}", lambda request: PlainTextResponse("done"), methods=["GET", "POST"])])
    app.add_middleware(Door)
    return TestClient(app)


@pytest.mark.parametrize(
    "given", [None, "", "the-key", "Bearer", "Bearer ", "Bearer the-ke", "Bearer the-key2", "Basic x"]
)
def test_nothing_but_health_is_open_without_the_key(client: TestClient, given: str | None) -> None:
    headers = {} if given is None else {"Authorization": given}
    for path in PATHS:
        for method in ("GET", "POST", "OPTIONS", "HEAD"):
            said: httpx.Response = client.request(method, path, headers=headers)
            assert said.status_code == 401, (method, path)
    assert client.get("/health", headers=headers).text == "done"


def test_the_key_opens_everything(client: TestClient) -> None:
    for path in PATHS:
        assert client.post(path, headers={"Authorization": "Bearer the-key"}).text == "done"


def test_a_websocket_needs_it_too(client: TestClient) -> None:
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/v1/realtime"):
        pass


def test_without_a_key_there_is_no_door(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    with pytest.raises(KeyError):
        Door(Starlette())
