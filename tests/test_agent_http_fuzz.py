"""Anything may be sent: no route answers 5xx, every refusal is in OpenAI's shape; files of any content are refused
with a sentence. And a stranger gets nothing."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import orjson
import pytest
import schemathesis
import uvicorn
import yaml
from fastapi import FastAPI
from fastapi.routing import APIRoute
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from agent import trust
from agent.config import Config, load
from agent.engine.client import Raw
from agent.fleet import Fleet
from agent.http.app import build, no_lifespan
from agent.prompts import read_prompts
from day_fakes import ScriptedEngine, day
from memory.errors import BadConfig, BadInput
from memory.store import Memory
from memory_fakes import adapter, episode
from policies.skills import last_user_text

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "12"))  # requests made up for each route, twice: in form and out of form
OPEN = {"/healthz", "/readyz"}
"""What a stranger may ask."""


class Flow:
    """What the engine streams."""

    status = 200

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b'data: {"choices": [{"delta": {"content": "8"}}]}\n\ndata: [DONE]\n\n'

    async def aclose(self) -> None:
        return None


class AnyEngine(ScriptedEngine):
    """Passes through whatever it is sent, if it can be sent."""

    async def forward(self, path: str, body: Mapping[str, Any]) -> Raw:
        assert orjson.dumps(body, default=dict)
        return Raw(200, b'{"choices": [{"message": {"content": "8"}}]}', "application/json")

    async def forward_stream(self, path: str, body: Mapping[str, Any]) -> Flow:
        assert orjson.dumps(body, default=dict)
        return Flow()


class Idle:
    """A daemon whose every answer is ready: the routes are what is tested."""

    def __init__(self, folder: Path) -> None:
        self.day = day(folder, AnyEngine(lambda model, text: "8"))
        self.memory, self.config = self.day.memory, self.day.config
        self.scheduler = SimpleNamespace(next_night=None)
        self.model, self.adapters_dir, self.mixing = SimpleNamespace(identity="sha256:b"), folder, None
        self.fleet = Fleet(self)  # type: ignore[arg-type]  # what it needs of a daemon
        over = asyncio.Event()
        over.set()
        self.night = SimpleNamespace(
            running=False, spoiled=None, over=over, progress=SimpleNamespace(stage="idle"), last=None
        )

    async def missing(self) -> list[str]:
        return []

    async def measure(self) -> None:
        return None

    async def status(self) -> dict[str, Any]:
        return {"memory": self.memory.counts()}

    def night_status(self) -> dict[str, Any]:
        return {"running": False, "last": []}

    async def learn(self, reason: str, *, wait: bool = True) -> None:
        return None

    async def promote(self, name: str, why: str, *, now: bool = False) -> Any:
        return self.memory.adapter(name)

    async def rollback(self, why: str) -> Any:
        return self.memory.adapter("sn-0001-000001")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    """The application over a memory with some rows. Limits are high: what is refused shall be refused for its form."""
    idle = Idle(tmp_path_factory.mktemp("fuzz"))
    for n in range(5):
        idle.memory.remember(episode(n))
    idle.memory.add_adapter(adapter(1))
    idle.memory.flush()
    limits = idle.config.limits.model_copy(update={"requests_per_minute": 1e9, "burst": 1_000_000})
    app = build(idle.config.model_copy(update={"limits": limits}), no_lifespan())
    app.state.daemon = idle
    yield app
    idle.memory.close()


@pytest.fixture(scope="module")
def url(app: FastAPI) -> Iterator[str]:
    """The same application behind a real socket: an in-process client corrects what no server would see."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


SCHEMA = build(Config(), no_lifespan()).openapi()
ROUTES = [(method, path) for path, methods in SCHEMA["paths"].items() for method in methods]


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_no_request_breaks_the_service(method: str, path: str, url: str) -> None:
    schema: Any = schemathesis.openapi.from_dict(SCHEMA)

    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(
        schema[path][method].as_strategy() | schema[path][method].as_strategy(generation_mode=GenerationMode.NEGATIVE)
    )
    def holds(case: Any) -> None:
        if path == "/v1/chat/completions" and isinstance(case.body, dict) and "model" in case.body:
            case.body["model"] = "secondnature"  # else every request ends at the model's name
        said = case.call(base_url=url, timeout=20)
        assert said.status_code < 500, (method, path, case.body, said.content)
        if said.status_code >= 400:
            error = orjson.loads(said.content)["error"]
            assert set(error) == {"message", "type", "param", "code"}
            assert error["message"]

    holds()


def test_a_stranger_gets_401_on_every_route_but_health(tmp_path: Path) -> None:
    idle = Idle(tmp_path)
    trust.new_key(idle.memory, "operate", "me")
    app = build(idle.config, no_lifespan())
    app.state.daemon = idle
    every = [(m, r.path) for r in app.routes for m in getattr(r, "methods", None) or ("GET",)]
    assert len([route for route in app.routes if isinstance(route, APIRoute)]) >= 25

    async def codes(headers: dict[str, str]) -> dict[tuple[str, str], int]:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
            return {
                (m, p): (await client.request(m, p.replace("{", "").replace("}", ""))).status_code for m, p in every
            }

    for headers in ({}, {"Authorization": "Bearer sn-guessed"}, {"Authorization": "Basic OnNuLWd1ZXNzZWQ="}):
        found = asyncio.run(codes(headers))
        assert {path for (_, path), code in found.items() if code != 401} == OPEN, (headers, found)
    idle.memory.close()


leaves = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=20)
)
names = st.sampled_from([*Config.model_fields, "host", "port", "name", "pattern", "skils"]) | st.text(max_size=8)
trees = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.dictionaries(names, trees, max_size=4))
def test_any_settings_load_or_are_refused_with_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[str, Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "service.yaml"
    path.write_text(yaml.safe_dump(tree))
    found = loaded(path)
    if isinstance(found, Config):
        assert set(tree) <= set(Config.model_fields), "an unknown key was let through"
        assert load(path) == found
    else:
        assert found.startswith(str(path))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_as_settings_load_or_are_refused_with_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.yaml"
    path.write_bytes(content)
    found = loaded(path)
    assert isinstance(found, Config) or found.startswith(str(path))


def loaded(path: Path) -> Config | str:
    """The settings in a file, or the sentence that refuses it."""
    try:
        return load(path)
    except BadConfig as error:
        return error.message


rows = st.lists(st.one_of(st.text(max_size=30), st.dictionaries(st.text(max_size=8), leaves, max_size=3), leaves))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.sampled_from([".jsonl", ".csv", ".parquet", ".txt"]),
    st.binary(max_size=300)
    | st.text(max_size=300).map(str.encode)
    | rows.map(lambda r: b"\n".join(map(orjson.dumps, r))),
    st.none() | st.sampled_from(["prompt", "x", ""]),
)
def test_any_file_of_prompts_is_read_or_refused_with_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, ending: str, content: bytes, column: str | None
) -> None:
    path = tmp_path_factory.getbasetemp() / f"prompts{ending}"
    path.write_bytes(content)
    try:
        found = read_prompts(path, column)
    except BadInput as error:
        assert str(path) in error.message  # noqa: PT017 - either outcome is right, and each has its form
        return
    assert found
    assert all(last_user_text(prompt).strip() for prompt in found)


def test_the_memory_under_the_fuzzed_service_is_whole(app: FastAPI) -> None:
    memory: Memory = app.state.daemon.memory
    assert memory.problem is None
    memory.flush()
    held = memory.counts()["episodes"]
    assert held >= 5
    assert len(memory.episodes(limit=held)) == held, "an episode cannot be read back"
