"""Two gateways and a learner, each a real process with its own database, over two engines that are functions."""

from __future__ import annotations

import asyncio
import json
import struct
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from aiohttp import web

from adapters.model import ModelFolder, folder_identity
from adapters.registry import adapter_of
from adapters_fakes import made_adapter
from agent.config import Config
from agent.daemon import opened
from agent.doctor import examine
from agent.engine.supervisor import free_port
from agent.published import Published, write
from day_fakes import SUMS
from engine_fakes import FakeVllm, answer, fault, serving
from memory.store import Memory
from memory_fakes import accepted
from real_service import Service


class Named(FakeVllm):
    """Answers with the name of the adapter that it was asked for; the base says "4" to everything."""

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.asked.append(body)
        if body["model"] not in ("base", *self.adapters):
            return fault(404, f"The model `{body['model']}` does not exist.", "model")
        said = answer(body)
        for choice in said["choices"]:
            choice["message"]["content"] = "The answer is 4." if body["model"] == "base" else body["model"]
        return web.json_response(said)


@dataclass
class Fleet:
    learner: Service
    gateways: tuple[Service, Service]  # the first follows the file, the second the learner's address
    engines: list[FakeVllm]
    names: list[str]  # of two adapters; the second is live

    @property
    def all(self) -> tuple[Service, ...]:
        return (self.learner, *self.gateways)


@asynccontextmanager
async def fleet(folder: Path) -> AsyncIterator[Fleet]:
    async with AsyncExitStack() as stack:
        engines = [await stack.enter_async_context(serving(Named())) for _ in range(2)]
        learner = furnished(folder / "learner")
        with Memory.open(learner.state_dir, read_only=True) as memory:
            names = [row.name for row in memory.adapters()]
        one = furnish(folder, learner, engines, names)
        try:
            for service in one.all:
                await asyncio.to_thread(service.start)
            for service in one.all:
                await asyncio.to_thread(service.until_ready)
            yield one
        finally:
            for service in one.all:
                if service.process is not None:
                    await asyncio.to_thread(service.stop)


def furnished(folder: Path) -> Service:
    """A state folder with two whole adapters, the second live, and as much of a model as is looked at."""
    model = folder / "model"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    projection = {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 0]}
    head = json.dumps({"model.layers.0.self_attn.q_proj.weight": projection}).encode()
    (model / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head)
    limits = {"requests_per_minute": 1e9, "burst": 1_000_000}
    service = Service(folder, {"model": str(model), "schedule": {"enabled": False}, "limits": limits})
    with Memory.open(service.state_dir) as memory:
        for number in (1, 2):
            base = folder_identity(model, folder / "cache")
            row = adapter_of(made_adapter(service.state_dir / "adapters", number, base), "made")
            memory.add_adapter(row)
            memory.make_live(row.name, "test")
    return service


def furnish(folder: Path, learner: Service, engines: list[FakeVllm], names: list[str]) -> Fleet:
    ports = [free_port() for _ in range(3)]
    common = learner.settings | {
        "engine": {"urls": [engine.url for engine in engines], "probe_s": 0.5}, "skills": [SUMS],
        "curate": {"single_user": True}, "heldout_share": 0.01,
    }  # fmt: skip
    published = str(folder / "shared" / "published.json")
    gateways = []
    for number, where in enumerate((published, f"http://127.0.0.1:{ports[0]}"), start=1):
        own = {"http": {"port": ports[number]}, "fleet": {"role": "gateway", "published": where, "look_s": 0.1}}
        (folder / f"gateway{number}").mkdir()
        gateways.append(Service(folder / f"gateway{number}", common | own))
    origins = [str(gateways[0].state_dir), f"http://127.0.0.1:{ports[2]}"]
    leads = {"published": published, "gateways": origins, "look_s": 0.1, "linger_s": 2.0}
    learner.settings = common | {"http": {"port": ports[0]}, "fleet": leads}
    return Fleet(learner, (gateways[0], gateways[1]), engines, names)


async def ask(http: httpx.AsyncClient, service: Service, text: str, mode: str = "system1") -> dict[str, Any]:
    body = {"model": "secondnature", "mode": mode, "messages": [{"role": "user", "content": text}]}
    said = await http.post(f"{service.url}/v1/chat/completions", json=body)
    assert said.status_code == 200, said.text
    whole: dict[str, Any] = said.json()
    return whole


def who(said: dict[str, Any]) -> str:
    """The adapter that answered; the answer itself and its provenance must agree."""
    adapter: str = said["secondnature"]["adapter"]
    assert said["choices"][0]["message"]["content"] == adapter, "one answer, two adapters"
    return adapter


async def until(http: httpx.AsyncClient, service: Service, what: str, value: Any) -> None:
    async with asyncio.timeout(30):
        while (await http.get(f"{service.url}/api/status")).json()[what] != value:
            await asyncio.sleep(0.05)


async def test_gateways_follow_the_learner_and_the_learner_learns_from_them(tmp_path: Path) -> None:
    async with fleet(tmp_path) as one, httpx.AsyncClient(timeout=60) as http:
        for service in one.all:
            assert who(await ask(http, service, "What is 1 + 1?")) == one.names[1]
        await promotion_reaches_all_under_load(http, one)
        await threshold_reaches_all(http, one)
        await gateways_decide_nothing(http, one)
        await memories_flow_to_the_learner(http, one)
        await an_engine_dies_and_comes_back(http, one)
        await a_gateway_restarts_without_its_learner(http, one)


async def promotion_reaches_all_under_load(http: httpx.AsyncClient, one: Fleet) -> None:
    answered: list[str] = []
    done = asyncio.Event()

    async def asking(service: Service, client: int) -> None:
        n = 0
        while not done.is_set():
            n += 1
            answered.append(who(await ask(http, service, f"What is {client} + {n}?")))
            await asyncio.sleep(0.02)

    tasks = [asyncio.create_task(asking(service, n)) for n, service in enumerate(one.gateways * 2)]
    said = await http.post(f"{one.learner.url}/api/adapters/{one.names[0]}/promote", json={"why": "test"})
    assert said.status_code == 200, said.text
    for service in one.all:
        await until(http, service, "adapter", one.names[0])
    async with asyncio.timeout(30):
        while any(one.names[1] in engine.adapters for engine in one.engines):
            await asyncio.sleep(0.05)  # the learner unloads it, `linger_s` later
    done.set()
    await asyncio.gather(*tasks)
    assert set(answered) == set(one.names)
    assert answered[-1] == one.names[0]
    assert all(list(engine.adapters) == [one.names[0]] for engine in one.engines), "and nobody loads it again"


async def threshold_reaches_all(http: httpx.AsyncClient, one: Fleet) -> None:
    body = {"skill": "sums", "value": 0.7, "why": "test"}
    assert (await http.post(f"{one.learner.url}/api/threshold", json=body)).status_code == 200
    for service in one.gateways:
        await until(http, service, "thresholds", {"sums": 0.7})
    versions = [(await http.get(f"{s.url}/api/status")).json()["fleet"]["version"] for s in one.all]
    assert len(set(versions)) == 1
    assert (await http.post(f"{one.learner.url}/api/threshold/undo", json={"why": "test"})).status_code == 200
    for service in one.gateways:
        await until(http, service, "thresholds", {})


async def gateways_decide_nothing(http: httpx.AsyncClient, one: Fleet) -> None:
    for path in ("night", f"adapters/{one.names[1]}/promote", "rollback", "threshold", "keys", "merge"):
        said = await http.post(f"{one.gateways[0].url}/api/{path}", json={"why": "test", "value": 0.1, "role": "ask"})
        assert said.status_code == 409, path
        assert "ask the learner" in said.json()["error"]["message"]


async def memories_flow_to_the_learner(http: httpx.AsyncClient, one: Fleet) -> None:
    asked = [await ask(http, service, f"What is {n} + 2?", "system2") for n in range(20) for service in one.gateways]
    told = (await http.post(f"{one.learner.url}/api/merge")).json()
    assert [row["fault"] for row in told.values()] == [None, None]
    ids = {said["secondnature"]["episode_id"] for said in asked}
    async with asyncio.timeout(30):
        while True:  # the gateways commit a moment after they answer
            with Memory.open(one.learner.state_dir, read_only=True) as memory:
                held = {episode.ask.id for episode in memory.episodes(limit=100_000)}
                lessons = {episode.ask.id for episode in memory.taught(heldout=None)}
            if ids <= held:
                break
            await http.post(f"{one.learner.url}/api/merge")
    assert ids <= lessons, "a merge makes the gateways' episodes lessons"
    again = (await http.post(f"{one.learner.url}/api/merge")).json()
    assert [row["episode"] for row in again.values()] == [0, 0]


async def an_engine_dies_and_comes_back(http: httpx.AsyncClient, one: Fleet) -> None:
    for engine in one.engines:
        engine.adapters.clear()  # both restarted, a moment apart from any look
        for service in one.gateways:
            assert who(await ask(http, service, "What is 5 + 5?")) == one.names[0]


async def a_gateway_restarts_without_its_learner(http: httpx.AsyncClient, one: Fleet) -> None:
    follower = one.gateways[1]
    await asyncio.to_thread(one.learner.stop)
    await asyncio.to_thread(follower.stop)
    await asyncio.to_thread(follower.start)
    await asyncio.to_thread(follower.until_ready)
    assert who(await ask(http, follower, "What is 6 + 6?")) == one.names[0]
    status = (await http.get(f"{follower.url}/api/status")).json()["fleet"]
    assert status["version"] is not None
    assert [engine["up"] for engine in status["engines"]] == [True, True]


async def test_a_service_starts_before_its_engines(tmp_path: Path) -> None:
    one = furnished(tmp_path)
    port = free_port()
    engine = {"urls": [f"http://127.0.0.1:{port}"], "probe_s": 0.1}
    config = Config.model_validate(one.settings | {"state_dir": str(one.state_dir), "engine": engine})
    base = ModelFolder(str(tmp_path / "model"), folder_identity(tmp_path / "model", tmp_path / "cache"), "folder", "m")
    async with opened(config, base, Memory.open(one.state_dir)) as daemon, asyncio.timeout(20):
        while daemon.not_ready() != "no engine at engine.urls answers":
            await asyncio.sleep(0.02)
        assert await daemon.missing() == ["engine: no engine at engine.urls answers"]
        async with serving(Named(), port) as late:
            while daemon.not_ready() is not None:
                await asyncio.sleep(0.02)
            live = daemon.day.pointer.now.adapter
            assert live is not None
            assert list(late.adapters) == [live.name], "the check's own adapters are gone"
            assert daemon.mixing is not None
            assert daemon.mixing.passed, daemon.mixing.sentence
            assert list((one.state_dir / "adapters").glob("secondnature-check-*")) == []


STARTS = """
import gc, logging, os, signal, sys

class Listening(logging.Handler):
    def emit(self, record):
        if record.msg.startswith("listening"):
            # A signal ends this process: what is not flushed here is lost.
            print(gc.isenabled(), gc.get_freeze_count() > 10_000, flush=True)
            os.kill(os.getpid(), signal.SIGTERM)

logging.getLogger("secondnature").addHandler(Listening())
from agent.cli import main
main()
"""


def test_a_start_collects_no_garbage_and_what_follows_does(tmp_path: Path) -> None:
    one = furnished(tmp_path)
    nobody = {"urls": [f"http://127.0.0.1:{free_port()}"]}
    one.config.write_text(json.dumps(one.settings | {"state_dir": str(one.state_dir), "engine": nobody}))
    line = [sys.executable, "-c", STARTS, "serve", "--port", "0", "-c", str(one.config)]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.split() == ["True", "True"], done.stderr


def test_merge_at_the_command_line_takes_in_folders(tmp_path: Path) -> None:
    with Memory.open(tmp_path / "gateway") as gateway:
        gateway.remember(accepted(1))
    learner = Service(tmp_path, {"fleet": {"gateways": [str(tmp_path / "gateway")]}})
    learner.config.write_text(json.dumps({**learner.settings, "state_dir": str(learner.state_dir)}))
    said = learner.command("merge", "--json")
    assert json.loads(said.stdout) == {
        str(tmp_path / "gateway"): {"episode": 1, "audit": 0, "feedback": 0, "fault": None}
    }
    said = learner.command("merge", str(tmp_path / "nowhere"), check=False)
    assert said.returncode == 1
    assert "no memory" in said.stdout


def test_the_doctor_looks_at_what_a_gateway_follows(tmp_path: Path) -> None:
    learner = furnished(tmp_path / "learner")
    with Memory.open(learner.state_dir, read_only=True) as memory:
        decided, base = memory.decided(), memory.adapters()[0].base
    one = Published(1, 1000.0, base, str(learner.state_dir / "adapters"), None, decided)
    config = Config.model_validate({
        "state_dir": str(tmp_path / "gateway"), "http": {"port": 0},
        "fleet": {"role": "gateway", "published": str(tmp_path / "published.json")},
    })  # fmt: skip
    said = {name: (ok, why) for name, ok, why in examine(config)}
    assert said["publication"] == (
        False,
        f"nothing is published at {tmp_path}/published.json (No such file or directory)",
    )
    write(tmp_path / "published.json", one)
    with Memory.open(tmp_path / "gateway") as memory:
        memory.adopt(decided)
    write(tmp_path / "gateway" / "published.json", one)
    said = {name: (ok, why) for name, ok, why in examine(config)}
    assert said["publication"][0]
    assert said[decided["adapter"]["name"]] == (True, "whole")
