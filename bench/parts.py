"""The gateway's parts against what else could stand in their place, in one run.

    python -m bench.parts [--rounds 7]

JSON: orjson against the standard library, on an engine's answer. HTTP client: ours (agent/engine/connection.py) against
aiohttp and httpx, one request at a time and 32 at once to the mock engine. HTTP server: uvicorn's event loops and
parsers, granian and hypercorn (requirements/bench.txt), one process each, under a trivial application, one after the
other. Figures are processor time per item, its processes' together, the median of the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from importlib.util import find_spec
from statistics import median
from typing import Any

import aiohttp
import httpx
import orjson
import uvloop

from agent.engine.client import IDLE_S
from agent.engine.connection import Connections
from bench.load import burst, target
from bench.proxies import ASKED, listening, mocked

MOCK, SERVER = 8940, 8941
ANSWER = {
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "base",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "The answer is 42."}, "finish_reason": "stop",
                 "logprobs": {"content": [{"token": "42", "logprob": -0.1, "bytes": [52, 50],
                              "top_logprobs": [{"token": "42", "logprob": -0.1, "bytes": [52, 50]}] * 2}] * 8}}],
    "usage": {"prompt_tokens": 20, "completion_tokens": 8, "total_tokens": 28},
}  # fmt: skip
SERVERS = {  # modules and their arguments; the application and the port come after
    "uvicorn, uvloop and httptools (as installed)": ("uvicorn", "--loop", "uvloop", "--http", "httptools"),
    "uvicorn, asyncio and httptools": ("uvicorn", "--loop", "asyncio", "--http", "httptools"),
    "uvicorn, uvloop and h11": ("uvicorn", "--loop", "uvloop", "--http", "h11"),
    "granian, uvloop": ("granian", "--interface", "asgi", "--loop", "uvloop"),
    "hypercorn, uvloop": ("hypercorn", "--worker-class", "uvloop"),
}
QUIET = {"uvicorn": ("--log-level", "error", "--no-access-log"), "granian": ("--no-log",), "hypercorn": ()}


async def trivial(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application that answers at once."""
    if scope["type"] == "http":
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


def json_libraries(rounds: int) -> dict[str, float]:
    """Microseconds to read and to write an engine's answer."""
    text = orjson.dumps(ANSWER)
    ways: dict[str, Callable[[], Any]] = {
        "json: orjson": lambda: orjson.dumps(orjson.loads(text)),
        "json: standard library": lambda: json.dumps(json.loads(text)).encode(),
    }
    return _medians(rounds, {name: lambda way=way: _each(way, 500) for name, way in ways.items()})  # type: ignore[misc]


async def clients(rounds: int, at_once: int) -> dict[str, float]:
    """Microseconds of the asking process per request."""
    url, body = f"http://127.0.0.1:{MOCK}/v1/chat/completions", orjson.dumps(ASKED | {"model": "base"})
    head = {"Content-Type": "application/json"}
    connector = aiohttp.TCPConnector(limit=0)
    ours = Connections(f"http://127.0.0.1:{MOCK}", {}, IDLE_S)
    async with aiohttp.ClientSession(connector=connector) as one, httpx.AsyncClient(limits=httpx.Limits()) as two:

        async def with_ours() -> None:
            said = await ours.call("POST", "/v1/chat/completions", body, limit_s=60.0)
            orjson.loads(said.body)

        async def with_aiohttp() -> None:
            async with one.post(url, data=body, headers=head) as said:
                orjson.loads(await said.read())

        async def with_httpx() -> None:
            said = await two.post(url, content=body, headers=head)
            orjson.loads(said.content)

        ways = {"ours": with_ours, "aiohttp": with_aiohttp, "httpx": with_httpx}
        found: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds + 1):
            for name, ask in ways.items():
                found[name].append(await _asked(ask, at_once))
        await ours.close()
    return {f"client: {name}, {at_once} at once": median(took[1:]) for name, took in found.items()}


async def servers(rounds: int) -> dict[str, float]:
    """Microseconds of the answering processes per request, 64 connections. What is not installed is left out."""
    found = {}
    for name, line in SERVERS.items():
        if find_spec(line[0]) is None:
            print(f"{line[0]} is not installed: pip install --no-deps -r requirements/bench.txt", file=sys.stderr)
            continue
        with _served(line) as process:
            aim = target(name, f"http://127.0.0.1:{SERVER}/", {}, pids=[process.pid])
            took = [await burst(aim, 64, 0.7) for _ in range(rounds + 1)]
        found[f"server: {name}"] = median(1000 * b.cpu_ms for b in took[1:])
    return found


async def _asked(ask: Callable[[], Awaitable[None]], at_once: int) -> float:
    began = time.process_time()
    for _ in range(192 // at_once):
        await asyncio.gather(*(ask() for _ in range(at_once)))
    return 1e6 * (time.process_time() - began) / (192 // at_once * at_once)


@contextlib.contextmanager
def _served(line: tuple[str, ...]) -> Iterator[subprocess.Popen[bytes]]:
    module, *options = line
    at = ("--bind", f"127.0.0.1:{SERVER}") if module == "hypercorn" else ("--host", "127.0.0.1", "--port", str(SERVER))
    command = [sys.executable, "-m", module, *options, *QUIET[module], *at, "bench.parts:trivial"]
    with listening(command, f"http://127.0.0.1:{SERVER}/") as process:
        yield process


def _each(way: Callable[[], Any], times: int) -> float:
    began = time.process_time()
    for _ in range(times):
        way()
    return 1e6 * (time.process_time() - began) / times


def _medians(rounds: int, ways: dict[str, Callable[[], float]]) -> dict[str, float]:
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            found[name].append(way())
    return {name: median(took) for name, took in found.items()}


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m bench.parts", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    found = json_libraries(rounds)
    with mocked(MOCK):
        for at_once in (1, 32):
            found |= uvloop.run(clients(rounds, at_once))
    found |= uvloop.run(servers(rounds))
    for name, value in found.items():
        print(f"{name:58s}{value:8.1f} µs")


if __name__ == "__main__":
    main()
