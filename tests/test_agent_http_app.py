"""The HTTP surface over a scripted engine: OpenAI's shapes for answers and for every kind of bad input."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import orjson
import pytest

from agent.http.app import build, no_lifespan
from day_fakes import ScriptedEngine, day
from memory.store import Memory
from memory_fakes import episode

GOOD = {"model": "secondnature", "messages": [{"role": "user", "content": "What is 3 + 5?"}]}


def script(model: str, text: str) -> str:
    return "8" if "Number only" in text else "3 + 5 = 8. The answer is 8."


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    one = day(tmp_path, ScriptedEngine(script), limits={"prompt_chars": 500, "answer_tokens": 100})
    app = build(one.config, no_lifespan())
    app.state.daemon = SimpleNamespace(day=one, memory=one.memory)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client
    one.memory.close()


async def test_an_answer_carries_its_provenance_twice(http: httpx.AsyncClient) -> None:
    said = await http.post("/v1/chat/completions", json=GOOD | {"source": "ann"})
    body = said.json()
    told = body["secondnature"]
    assert body["choices"][0]["message"]["content"] == "8"
    assert (body["object"], body["model"]) == ("chat.completion", "secondnature")
    assert body["usage"]["completion_tokens"] == told["tokens"]
    assert said.headers["x-secondnature-reason"] == told["reason"]
    assert said.headers["x-secondnature-episode-id"] == told["episode_id"]


async def test_a_stream_ends_with_the_provenance_the_usage_and_done(http: httpx.AsyncClient) -> None:
    said = await http.post(
        "/v1/chat/completions", json=GOOD | {"stream": True, "stream_options": {"include_usage": True}}
    )
    events = [line.removeprefix("data: ") for line in said.text.split("\n\n") if line]
    assert events[-1] == "[DONE]"
    chunks: list[Any] = [orjson.loads(event) for event in events[:-1]]
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"]) == "8"
    assert chunks[-1]["usage"]["completion_tokens"] > 0
    assert chunks[-2]["secondnature"]["system"] == "system2"
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"messages": []}, 400, "messages"),
        ({"messages": "hello"}, 400, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, 400, "messages.0.role"),
        ({"messages": [{"content": "x"}]}, 400, "messages.0.role"),
        ({"messages": [{"role": "user", "content": 7}]}, 400, "messages.0.content.str"),
        ({"temperature": 9}, 400, "temperature"),
        ({"temperature": "hot"}, 400, "temperature"),
        ({"max_tokens": 0}, 400, "max_tokens"),
        ({"max_tokens": 101}, 400, "max_tokens"),
        ({"mode": "system3"}, 400, "mode"),
        ({"model": "gpt-4"}, 404, "model"),
        ({"messages": [{"role": "user", "content": "x" * 501}]}, 413, "messages"),
    ],
)
async def test_bad_input_is_named_in_openais_shape(
    http: httpx.AsyncClient, change: dict[str, Any], status: int, param: str
) -> None:
    said = await http.post("/v1/chat/completions", json=GOOD | change)
    error = said.json()["error"]
    assert (said.status_code, error["param"]) == (status, param)
    assert set(error) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff\xfe", b"null"])
async def test_a_body_that_is_no_request_is_refused(http: httpx.AsyncClient, body: bytes) -> None:
    said = await http.post("/v1/chat/completions", content=body)
    assert said.status_code == 400
    assert said.json()["error"]["type"] == "invalid_request_error"


async def test_unknown_paths_and_methods_have_the_same_shape(http: httpx.AsyncClient) -> None:
    for said in (await http.get("/v1/nothing"), await http.delete("/v1/chat/completions")):
        assert said.status_code in (404, 405)
        assert said.json()["error"]["message"]


class Watched:
    """A memory that remembers which of its calls were made on the event loop's thread."""

    def __init__(self, memory: Memory) -> None:
        self._memory, self.loop, self.on_the_loop = memory, threading.get_ident(), set[str]()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._memory, name)

        def called(*args: Any, **named: Any) -> Any:
            if threading.get_ident() == self.loop:
                self.on_the_loop.add(name)
            return found(*args, **named)

        return called if callable(found) else found


async def test_nobody_waits_while_an_operator_reads(tmp_path: Path) -> None:
    one = day(tmp_path, ScriptedEngine(script))
    one.memory.remember(episode(1))
    watched = Watched(one.memory)
    day_of_it = replace(one, memory=watched)  # type: ignore[arg-type]  # a memory all the same
    app = build(one.config, no_lifespan())
    app.state.daemon = SimpleNamespace(day=day_of_it, memory=watched, night_status=lambda: watched.nights(20))
    paths = ("episodes?text=total", "episodes/ep-00000001", "adapters", "night", "receipts", "thresholds")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http:
        assert [(await http.get(f"/api/{path}")).status_code for path in paths] == [200] * len(paths)
    assert watched.on_the_loop == {"keys"}, "the guard's own look"
    one.memory.close()


async def test_models_and_feedback(http: httpx.AsyncClient) -> None:
    assert (await http.get("/v1/models")).json()["data"][0]["id"] == "secondnature"
    episode = (await http.post("/v1/chat/completions", json=GOOD)).json()["secondnature"]["episode_id"]
    assert (await http.post("/v1/feedback", json={"episode_id": episode, "score": 0.5})).status_code == 200
    assert (await http.post("/v1/feedback", json={"episode_id": episode})).status_code == 400
    assert (await http.post("/v1/feedback", json={"episode_id": episode, "score": 2})).status_code == 400
    assert (await http.post("/v1/feedback", json={"episode_id": "no", "score": 1})).status_code == 404


async def test_a_practised_prompt_is_thought_through_once(http: httpx.AsyncClient) -> None:
    first = (await http.post("/v1/chat/completions", json=GOOD | {"practice": True})).json()
    await http.get(f"/api/episodes/{first['secondnature']['episode_id']}")  # waits for its commit
    second = (await http.post("/v1/chat/completions", json=GOOD | {"practice": True})).json()
    assert first["secondnature"]["episode_id"] == second["secondnature"]["episode_id"]
    told = first["secondnature"]
    assert (told["grade"], told["votes"], told["share"]) == ("train", {"8": 4}, 1.0)
    assert told["agreement"] == "4 of 4 attempts agree"


async def test_episodes_are_listed_and_shown(http: httpx.AsyncClient) -> None:
    told = (await http.post("/v1/chat/completions", json=GOOD)).json()["secondnature"]
    shown = (await http.get(f"/api/episodes/{told['episode_id']}")).json()
    assert shown["episode"]["deliberation"]["calls"][0]["stage"] == "reason"
    listed = (await http.get("/api/episodes", params={"skill": "sums"})).json()
    assert [row["id"] for row in listed] == [told["episode_id"]]
    assert (await http.get("/api/episodes", params={"limit": 0})).status_code == 400
