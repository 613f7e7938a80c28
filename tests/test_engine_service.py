"""The whole loop on the real vLLM and the real small model: answer, deliberate, learn, swap, crash.

The tests share one service and run in the order they stand: what one remembers the next one learns from.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from pathlib import Path
from typing import Any

import httpx
import openai
import orjson
import pytest

from adapters.manifest import verify
from agent.system2 import deliberate
from memory.store import Memory
from real_service import METHODS, Service
from record_outputs import CASES

pytestmark = pytest.mark.engine


def sums(n: int, seed: int) -> list[str]:
    """Distinct questions of the service's one skill."""
    draw = random.Random(seed)
    return [f"What is {draw.randint(10, 99)} + {draw.randint(10, 99)} + {draw.randint(10, 99)}?" for _ in range(n)]


def client(service: Service) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{service.url}/v1", api_key="any", timeout=600, max_retries=0)


def ask(service: Service, text: str, **extra: Any) -> Any:
    return client(service).chat.completions.create(
        model="secondnature", messages=[{"role": "user", "content": text}], extra_body=extra
    )


def test_the_openai_client_is_answered_by_system2_while_nothing_is_calibrated(service: Service) -> None:
    raw = client(service).chat.completions.with_raw_response.create(
        model="secondnature", messages=[{"role": "user", "content": sums(1, 1)[0]}]
    )
    said = raw.parse()
    told = said.model_extra["secondnature"]
    assert said.choices[0].message.content.strip().isdigit()
    assert (told["system"], told["method"], told["skill"], told["adapter"]) == ("system2", "cot", "sums", None)
    assert sum(told["votes"].values()) == 4
    assert raw.headers["x-secondnature-system"] == "system2"
    assert raw.headers["x-secondnature-episode-id"] == told["episode_id"]
    assert said.usage.completion_tokens == told["tokens"] > 8


def test_the_openai_client_streams_both_systems(service: Service) -> None:
    for mode in ("system1", "system2"):
        stream = client(service).chat.completions.create(
            model="secondnature",
            messages=[{"role": "user", "content": sums(1, 2)[0]}],
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"mode": mode},
        )
        chunks = list(stream)
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        told = next(c.model_extra["secondnature"] for c in chunks if "secondnature" in (c.model_extra or {}))
        assert told["system"] == mode
        assert any(ch.isdigit() for ch in text)
        assert chunks[-1].usage.completion_tokens > 0


def test_the_reasoning_can_be_asked_for(service: Service) -> None:
    said = ask(service, "What is 20 + 30 + 40?", mode="system2", reasoning=True)
    assert "20 + 30" in said.choices[0].message.content


def test_what_system2_cannot_serve_is_answered_by_system1_and_says_so(service: Service) -> None:
    said = client(service).chat.completions.create(
        model="secondnature", messages=[{"role": "user", "content": "Say a colour."}], n=2, max_tokens=5
    )
    assert len(said.choices) == 2
    told = said.model_extra["secondnature"]
    assert told["system"] == "system1"
    assert "several choices" in told["reason"]


def test_structured_output_passes_through_to_the_engine(service: Service) -> None:
    schema = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
    said = client(service).chat.completions.create(
        model="secondnature",
        messages=[{"role": "user", "content": "Ann is 7 years old. Give her age as JSON."}],
        response_format={"type": "json_schema", "json_schema": {"name": "age", "schema": schema}},
        max_tokens=40,
    )
    assert isinstance(orjson.loads(said.choices[0].message.content)["age"], int)
    assert "structured output" in said.model_extra["secondnature"]["reason"]


def test_a_prompt_longer_than_the_context_names_the_messages(service: Service) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(service, "word " * 3000, mode="system1")
    assert caught.value.param == "messages"


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer guessed"}])
def test_the_engine_takes_no_order_of_anybody_but_the_service(service: Service, headers: dict[str, str]) -> None:
    url, key = service.engine_address()
    chat = {"model": "base", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
    lora = {"lora_name": "planted", "lora_path": "/tmp"}
    orders = {
        "/v1/chat/completions": chat, "/v1/load_lora_adapter": lora, "/v1/unload_lora_adapter": lora,
        "/invocations": chat, "/tokenize": {"model": "base", "prompt": "Hi"}, "/scale_elastic_ep": {}, "/pause": {},
    }  # fmt: skip
    found = {path: httpx.post(url + path, json=body, headers=headers).status_code for path, body in orders.items()}
    assert set(found.values()) == {401}, found
    assert httpx.get(f"{url}/metrics", headers=headers).status_code == 401
    assert httpx.get(f"{url}/health").status_code == 200
    known = {"Authorization": f"Bearer {key}"}
    assert httpx.post(f"{url}/v1/chat/completions", json=chat, headers=known, timeout=60).status_code == 200
    assert all(c.laddr.ip == "127.0.0.1" for c in service.engine().net_connections() if c.status == "LISTEN")


def test_a_client_that_goes_away_stops_the_engine(service: Service) -> None:
    def running() -> float:
        url, key = service.engine_address()
        lines = httpx.get(f"{url}/metrics", headers={"Authorization": f"Bearer {key}"}).text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith("vllm:num_requests_running"))

    body = {
        "model": "secondnature",
        "messages": [{"role": "user", "content": "Count from 1 to 400, one number a line."}],
        "stream": True,
        "max_tokens": 900,
    }
    with httpx.stream("POST", f"{service.url}/v1/chat/completions", json=body, timeout=120) as said:
        lines = said.iter_lines()
        for _ in range(6):
            next(lines)
        assert running() >= 1
    service.until(lambda: running() == 0, "the engine to stop generating")
    assert running() == 0


def test_practice_remembers_agreed_answers_and_passes_over_what_it_knows(service: Service, tmp_path: Path) -> None:
    file = tmp_path / "questions.txt"
    file.write_text("\n".join(sums(40, 3)))
    first = orjson.loads(service.command("practice", str(file), "--json").stdout)
    assert first["prompts"] == 40
    assert first["failed"] == 0
    assert first["train"] >= 10
    with Memory.open(service.state_dir, read_only=True) as memory:
        before = memory.counts()["episodes"]
    again = orjson.loads(service.command("practice", str(file), "--json").stdout)
    assert again == first | {"known": 40}
    with Memory.open(service.state_dir, read_only=True) as memory:
        assert memory.counts()["episodes"] == before


def test_an_episode_shows_the_tree_of_its_thought(service: Service) -> None:
    newest = orjson.loads(service.command("episodes", "list", "--limit", "1", "--json").stdout)[0]
    shown = service.command("episodes", "show", newest["id"]).stdout
    assert "reason" in shown
    assert newest["question"].removeprefix("What is ")[:8] in shown
    assert all(word in shown for word in ("asked:", "-> ", "votes", "tokens", "-grade:"))
    whole = service.command("episodes", "show", newest["id"], "--full").stdout
    assert "[user]" in whole


def test_feedback_is_remembered_and_unknown_episodes_are_refused(service: Service) -> None:
    episode = ask(service, "What is 11 + 12 + 13?", mode="system1").model_extra["secondnature"]["episode_id"]
    said = httpx.post(f"{service.url}/v1/feedback", json={"episode_id": episode, "score": 0.0})
    assert said.status_code == 200
    lost = httpx.post(f"{service.url}/v1/feedback", json={"episode_id": "ep-none", "score": 1.0})
    assert lost.status_code == 404
    assert "ep-none" in lost.json()["error"]["message"]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_answers_through_the_api_and_in_practice(service: Service, tmp_path: Path, method: str) -> None:
    skill, question = f"by-{method}", CASES[METHODS[method]]["question"]
    told = ask(service, question, skill=skill, mode="system2").model_extra["secondnature"]
    assert (told["system"], told["method"], told["skill"]) == ("system2", method, skill)
    assert sum(told["votes"].values()) >= 1
    show = ("episodes", "show", told["episode_id"], "--json")
    service.until(lambda: service.command(*show, check=False).returncode == 0, "the episode to be committed")
    shown = orjson.loads(service.command(*show).stdout)["episode"]["deliberation"]
    assert (shown["method"], bool(shown["calls"])) == (method, True)
    (tmp_path / "prompts.jsonl").write_bytes(orjson.dumps({"prompt": f"Think well. {question}"}) + b"\n")
    file = str(tmp_path / "prompts.jsonl")
    found = orjson.loads(service.command("practice", file, "--skill", skill, "--json").stdout)
    assert (found["prompts"], found["failed"]) == (1, 0)
    newest = ("episodes", "list", "--skill", skill, "--limit", "1", "--json")

    def practised() -> bool:
        row = orjson.loads(service.command(*newest).stdout)[0]
        return (row["kind"], row["method"]) == ("practice", method)

    service.until(practised, "the practised episode to be committed")


def test_every_method_is_among_them() -> None:
    assert set(METHODS) == set(deliberate.METHODS)


def test_a_night_makes_examines_and_judges_an_adapter_while_questions_are_answered(service: Service) -> None:
    httpx.post(f"{service.url}/api/night", json={"why": "test"}).raise_for_status()
    answered = 0
    while httpx.get(f"{service.url}/api/night").json()["running"]:
        assert ask(service, sums(1, 100 + answered)[0], mode="system1").choices[0].message.content
        answered += 1
        time.sleep(0.5)
    night = httpx.get(f"{service.url}/api/night").json()["last"][0]
    assert night["outcome"] in ("promoted", "rejected"), night
    assert answered >= 3
    assert night["report"]["gate"]["checks"]
    made = verify(service.state_dir / "adapters" / night["adapter"])
    assert made.n_lessons == sum(night["report"]["lessons"].values()) >= 10


def test_a_swap_under_load_fails_no_request_and_mixes_no_answer(service: Service) -> None:
    name = httpx.get(f"{service.url}/api/adapters").json()[0]["name"]
    seen = asyncio.run(_swap_under_load(service, name))
    assert {adapter for adapter, _ in seen} == {None, name}
    assert len({digest for adapter, digest in seen if adapter == name}) == 1
    assert seen[-1][0] == name


async def _swap_under_load(service: Service, name: str) -> list[tuple[str | None, str | None]]:
    """(adapter, digest) of every answer, in order, around a promotion. Raises where any request failed."""
    api = openai.AsyncOpenAI(base_url=f"{service.url}/v1", api_key="any", timeout=600, max_retries=0)
    seen: list[tuple[str | None, str | None]] = []
    done = asyncio.Event()

    async def keep_asking(seed: int) -> None:
        for text in sums(500, seed):
            if done.is_set():
                return
            said = await api.chat.completions.create(
                model="secondnature", messages=[{"role": "user", "content": text}], extra_body={"mode": "system1"}
            )
            told = said.model_extra["secondnature"]
            seen.append((told["adapter"], told["digest"]))

    async with httpx.AsyncClient(base_url=service.url, timeout=600) as http:
        if httpx.get(f"{service.url}/api/status").json()["adapter"]:
            (await http.post("/api/rollback", json={})).raise_for_status()
        tasks = [asyncio.create_task(keep_asking(seed)) for seed in range(200, 208)]
        while len(seen) < 16:
            await asyncio.sleep(0.05)
        swapped = await http.post(f"/api/adapters/{name}/promote", json={"why": "test"})
        assert swapped.status_code == 200, swapped.text
        after = len(seen)
        while len(seen) < after + 32:
            await asyncio.sleep(0.05)
        done.set()
        await asyncio.gather(*tasks)
    return seen


def test_the_engine_killed_mid_request_gives_503_and_comes_back_with_the_adapter(service: Service) -> None:
    live = httpx.get(f"{service.url}/api/status").json()["adapter"]
    assert live is not None
    engine = service.engine()
    body = {"model": "secondnature", "messages": [{"role": "user", "content": "Count to 500."}], "max_tokens": 800}
    with httpx.stream("POST", f"{service.url}/v1/chat/completions", json=body | {"stream": True}, timeout=300) as said:
        lines = said.iter_lines()
        next(lines)
        engine.kill()
        rest = "".join(lines)
    assert "engine_unavailable" in rest
    refused = httpx.post(f"{service.url}/v1/chat/completions", json=body, timeout=60)
    assert refused.status_code == 503
    assert int(refused.headers["Retry-After"]) >= 1
    assert refused.json()["error"]["code"] == "engine_unavailable"
    service.until(lambda: httpx.get(f"{service.url}/readyz").status_code == 503, "the crash to be noticed")
    service.until_ready()
    told = ask(service, sums(1, 300)[0], mode="system1").model_extra["secondnature"]
    assert told["adapter"] == live


def test_a_daemon_killed_at_any_moment_has_every_answered_episode_and_the_live_adapter(service: Service) -> None:
    live = httpx.get(f"{service.url}/api/status").json()["adapter"]
    answered = asyncio.run(_ask_until_killed(service))
    assert len(answered) >= 10
    service.start()
    with Memory.open(service.state_dir, read_only=True) as memory:
        assert all(memory.episode(episode).ask.id == episode for episode in answered)
    service.until_ready()
    status = httpx.get(f"{service.url}/api/status").json()
    assert status["adapter"] == live
    assert ask(service, sums(1, 400)[0], mode="system1").model_extra["secondnature"]["adapter"] == live


async def _ask_until_killed(service: Service) -> list[str]:
    """Ask in parallel, kill -9 the daemon in the midst; returns the ids of all answers that arrived."""
    answered: list[str] = []

    async def keep_asking(http: httpx.AsyncClient, seed: int) -> None:
        with contextlib.suppress(httpx.TransportError):
            for text in sums(1000, seed):
                message = {"role": "user", "content": text}
                body = {"model": "secondnature", "mode": "system1", "messages": [message]}
                said = await http.post("/v1/chat/completions", json=body)
                answered.append(said.json()["secondnature"]["episode_id"])

    async with httpx.AsyncClient(base_url=service.url, timeout=120) as http:
        tasks = [asyncio.create_task(keep_asking(http, seed)) for seed in range(500, 508)]
        while len(answered) < 10:
            await asyncio.sleep(0.01)
        service.kill()
        await asyncio.gather(*tasks)
    return answered


def test_a_second_daemon_on_the_same_folder_or_port_is_refused(service: Service) -> None:
    second = service.command("serve", "--port", "0", check=False)
    assert second.returncode == 1
    assert "in use by process" in second.stderr
    port = service.url.rsplit(":", 1)[1]
    taken = service.command("serve", "--port", port, check=False)
    assert taken.returncode == 1
    assert f"port {port}" in taken.stderr
