"""The whole service, killed (SIGKILL) at random moments under load, over a fake vLLM behind a real socket: after each
restart every acknowledged answer is there, the adapter that was put in force last answers, and folders and registry
agree. DAEMON_KILLS sets how often."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from adapters.model import folder_identity
from adapters.registry import adapter_of, reconcile
from adapters_fakes import made_adapter
from engine_fakes import FakeVllm, serving
from memory.records import AdapterStatus
from memory.store import Memory
from real_service import Service

KILLS = int(os.environ.get("DAEMON_KILLS", "3"))
CLIENTS = 8
AT_LEAST = 20  # answers before the earliest kill


@dataclass
class Seen:
    """What the service said it had done."""

    episodes: list[str] = field(default_factory=list)  # ids of answers that arrived whole
    live: str | None = None  # adapter of the last promotion that was acknowledged
    maybe: str | None = None  # adapter of a promotion that was asked for and not acknowledged
    kills: int = 0
    swaps: int = 0


def model_folder(path: Path) -> Path:
    """As little as is looked at before an engine answers: one projection's shape."""
    path.mkdir()
    (path / "config.json").write_text("{}")
    head = json.dumps(
        {"model.layers.0.self_attn.q_proj.weight": {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 0]}}
    )
    (path / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head.encode())
    return path


def furnished(folder: Path, url: str) -> Service:
    """A state folder with two whole adapters, the second live."""
    model = model_folder(folder / "model")
    base = folder_identity(model, folder / "cache")
    service = Service(folder, {
        "model": str(model), "http": {"port": 0}, "schedule": {"enabled": False},
        "engine": {"urls": [url], "probe_s": 0.5},
        "limits": {"requests_per_minute": 1e9, "burst": 1_000_000},
    })  # fmt: skip
    with Memory.open(service.state_dir) as memory:
        for number in (1, 2):
            row = adapter_of(made_adapter(service.state_dir / "adapters", number, base), "made")
            memory.add_adapter(row)
            memory.make_live(row.name, "test")
    return service


async def ask_and_swap(service: Service, seen: Seen, names: list[str], die_at: int) -> None:
    """Questions from many clients, and promotions to and fro, until the kill that follows answer `die_at`."""
    enough = asyncio.Event()
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as http:

        async def asking(client: int) -> None:
            for n in range(1_000_000):
                text = f"What is {client} + {n} + {seen.kills}?"
                body = {"model": "secondnature", "mode": "system1", "messages": [{"role": "user", "content": text}]}
                said = await http.post("/v1/chat/completions", json=body)
                assert said.status_code == 200, said.text
                seen.episodes.append(said.json()["secondnature"]["episode_id"])
                if len(seen.episodes) >= die_at:
                    enough.set()

        async def swapping() -> None:
            for n in range(1_000_000):
                seen.maybe = names[n % 2]
                said = await http.post(f"/api/adapters/{seen.maybe}/promote", json={})
                assert said.status_code == 200, said.text
                seen.live, seen.maybe = seen.maybe, None
                seen.swaps += 1

        tasks = [asyncio.create_task(asking(client)) for client in range(CLIENTS)] + [asyncio.create_task(swapping())]
        await asyncio.wait([*tasks, asyncio.create_task(enough.wait())], return_when=asyncio.FIRST_COMPLETED)
        service.kill()
        for task in tasks:
            with contextlib.suppress(httpx.TransportError):
                await task


def ready(service: Service) -> bool:
    """Whether questions are answered; the address is written a moment before the port listens."""
    try:
        return httpx.get(f"{service.url}/readyz", timeout=30).status_code == 200
    except httpx.ConnectError:
        return False


def check(service: Service, seen: Seen, base: str) -> None:
    """What the dead service left, before it starts again."""
    with Memory.open(service.state_dir) as memory:
        held = {row["id"] for row in memory._rows("SELECT id FROM episodes")}
        assert [name for name in seen.episodes if name not in held] == []
        live = memory.live()
        assert live is not None
        assert live.name in (seen.live, seen.maybe)
        seen.live, seen.maybe = live.name, None
        assert sum(row.status is AdapterStatus.LIVE for row in memory.adapters()) == 1
        assert not reconcile(memory, service.state_dir / "adapters", base).changed


async def test_a_service_killed_at_random_moments_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    chance = random.Random(20261122)
    async with serving(FakeVllm()) as engine:
        service = furnished(tmp_path, engine.url)
        with Memory.open(service.state_dir, read_only=True) as memory:
            names = [row.name for row in memory.adapters()]
            base = memory.adapters()[0].base
        seen = Seen(live=names[1])
        for _ in range(KILLS):
            await asyncio.to_thread(service.start)
            await asyncio.to_thread(service.until, lambda: ready(service), "questions to be answered")
            status: dict[str, Any] = (await asyncio.to_thread(httpx.get, f"{service.url}/api/status")).json()
            assert status["adapter"] == seen.live
            await ask_and_swap(service, seen, names, len(seen.episodes) + AT_LEAST + chance.randrange(200))
            seen.kills += 1
            check(service, seen, base)
    print(f"{seen.kills} kills, {len(seen.episodes)} answers and {seen.swaps} swaps acknowledged, 0 lost")
    assert len(seen.episodes) >= KILLS * AT_LEAST
