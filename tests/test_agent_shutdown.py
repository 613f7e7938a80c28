"""The service told to stop (SIGTERM) while it answers, over a fake vLLM behind a real socket: what was accepted is
finished, nothing new is taken, and the memory is closed in order. How it fares when it is killed: test_bench_kills.py.
"""

from __future__ import annotations

import asyncio
import json
import signal
import struct
from pathlib import Path

import httpx

from engine_fakes import FakeVllm, serving
from memory.store import CLOSED, Memory
from real_service import Service

ASKED = 4  # streams under way when the signal comes


def model_folder(path: Path) -> Path:
    """As little as is looked at before an engine answers: one projection's shape."""
    path.mkdir()
    (path / "config.json").write_text("{}")
    head = json.dumps(
        {"model.layers.0.self_attn.q_proj.weight": {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 0]}}
    )
    (path / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head.encode())
    return path


def made(folder: Path, url: str) -> Service:
    """A service over an engine that runs elsewhere."""
    return Service(folder, {
        "model": str(model_folder(folder / "model")), "http": {"port": 0}, "schedule": {"enabled": False},
        "engine": {"urls": [url], "probe_s": 0.5},
    })  # fmt: skip


def ready(service: Service) -> bool:
    """Whether questions are answered; the address is written a moment before the port listens."""
    try:
        return httpx.get(f"{service.url}/readyz", timeout=30).status_code == 200
    except httpx.ConnectError:
        return False


async def refused(url: str) -> bool:
    """Whether nobody listens there any more."""
    try:
        async with httpx.AsyncClient() as http:
            await http.get(f"{url}/healthz", timeout=5)
    except httpx.TransportError:
        return True
    return False


async def test_told_to_stop_it_finishes_what_it_accepted_and_takes_nothing_new(tmp_path: Path) -> None:
    fake = FakeVllm()
    async with serving(fake) as engine:
        service = made(tmp_path, engine.url)
        await asyncio.to_thread(service.start)
        await asyncio.to_thread(service.until, lambda: ready(service), "questions to be answered")
        url = service.url
        fake.hold = asyncio.Event()

        async def streamed(n: int, http: httpx.AsyncClient, begun: asyncio.Event) -> str:
            text = {"role": "user", "content": f"What is {n} + 1?"}
            body = {"model": "secondnature", "mode": "system1", "stream": True, "messages": [text]}
            said = ""
            async with http.stream("POST", "/v1/chat/completions", json=body) as answer:
                async for piece in answer.aiter_text():
                    said += piece
                    if "The" in said:
                        begun.set()
            return said

        begun = [asyncio.Event() for _ in range(ASKED)]
        async with httpx.AsyncClient(base_url=url, timeout=60) as http:
            answers = [asyncio.create_task(streamed(n, http, begun[n])) for n in range(ASKED)]
            await asyncio.gather(*(event.wait() for event in begun))
            assert service.process is not None
            service.process.send_signal(signal.SIGTERM)
            while not await refused(url):
                assert service.process.poll() is None, "it went before its answers had ended"
            fake.hold.set()
            for said in await asyncio.gather(*answers):
                assert '"finish_reason":"stop"' in said
                assert said.rstrip().endswith("data: [DONE]")
        await asyncio.to_thread(service.process.wait, 60)
        assert (service.state_dir / CLOSED).exists(), "the memory was not closed in order"
        with Memory.open(service.state_dir, read_only=True) as memory:
            assert memory.counts()["episodes"] == ASKED
