"""An engine that answers at once: what is measured above it is the gateway alone.

`python -m bench.mock_engine --port 8123` speaks as much of vLLM's HTTP as the service needs: chats (whole and streamed,
with log-probabilities where they are asked for), models, health, adapters. Every answer is the name of the model.

With `--slots 8 --service-ms 400` it is an engine that can be busy: it answers so many requests at once, each after so
long, and keeps the others waiting; and it notes what it was asked, which `POST /received` tells and forgets.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from typing import Any

import orjson
import uvloop
from aiohttp import web

BASE = "base"
TOKENS = 3  # of every answer


class MockEngine:
    """The handlers, and the adapters that were loaded."""

    def __init__(self, slots: int | None = None, service_s: float = 0.0) -> None:
        """`slots`: requests answered at once, each after `service_s` seconds; None: any number, at once."""
        self.adapters: set[str] = set()
        self.received: list[tuple[float, str]] = []  # monotonic seconds, first line; only with slots
        self._slots = None if slots is None else asyncio.Semaphore(slots)
        self._service_s = service_s

    def app(self) -> web.Application:
        """The application."""
        app = web.Application()
        app.router.add_get("/health", self.health)
        app.router.add_get("/v1/models", self.models)
        app.router.add_post("/v1/chat/completions", self.chat)
        app.router.add_post("/received", self.tell_received)
        app.router.add_post("/v1/load_lora_adapter", self.load)
        app.router.add_post("/v1/unload_lora_adapter", self.unload)
        return app

    async def health(self, _: web.Request) -> web.Response:
        """Always well."""
        return web.Response()

    async def models(self, _: web.Request) -> web.Response:
        """The base and what was loaded."""
        return _json({"object": "list", "data": [{"id": name} for name in (BASE, *sorted(self.adapters))]})

    async def load(self, request: web.Request) -> web.Response:
        """Take a name."""
        self.adapters.add(orjson.loads(await request.read())["lora_name"])
        return web.Response(text="Success")

    async def unload(self, request: web.Request) -> web.Response:
        """Drop a name."""
        self.adapters.discard(orjson.loads(await request.read())["lora_name"])
        return web.Response(text="Success")

    async def tell_received(self, _: web.Request) -> web.Response:
        """When each request came and the first line of its first message, since this was last asked."""
        told, self.received = self.received, []
        return _json(told)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """The model's name, at once or in its turn."""
        body = orjson.loads(await request.read())
        if self._slots is not None:
            self.received.append((time.monotonic(), _first_line(body)))
            async with self._slots:
                await asyncio.sleep(self._service_s)
        if body.get("stream"):
            return await _streamed(request, body)
        choice: dict[str, Any] = {
            "index": 0,
            "message": {"role": "assistant", "content": body["model"]},
            "finish_reason": "stop",
        }
        if body.get("logprobs"):
            choice["logprobs"] = {"content": [_token(body)] * TOKENS}
        head = {"id": "chatcmpl-mock", "object": "chat.completion", "created": 0, "model": body["model"]}
        choices = [choice | {"index": i} for i in range(body.get("n") or 1)]
        return _json(head | {"choices": choices, "usage": _usage(len(choices))})


async def _streamed(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    head = {"id": "chatcmpl-mock", "object": "chat.completion.chunk", "created": 0, "model": body["model"]}
    for n in range(TOKENS):
        choice: dict[str, Any] = {"index": 0, "delta": {"content": "8 "}, "finish_reason": None}
        choice["finish_reason"] = "stop" if n == TOKENS - 1 else None
        if body.get("logprobs"):
            choice["logprobs"] = {"content": [_token(body)]}
        await response.write(b"data: " + orjson.dumps(head | {"choices": [choice]}) + b"\n\n")
    await response.write(b"data: " + orjson.dumps(head | {"choices": [], "usage": _usage(1)}) + b"\n\n")
    await response.write(b"data: [DONE]\n\n")
    return response


def _first_line(body: dict[str, Any]) -> str:
    messages = body.get("messages")
    return str(messages[0].get("content")).partition("\n")[0] if messages else ""


def _token(body: dict[str, Any]) -> dict[str, Any]:
    top = [{"token": "8", "logprob": -0.1 - i, "bytes": [56]} for i in range(body.get("top_logprobs") or 0)]
    return {"token": "8", "logprob": -0.1, "bytes": [56], "top_logprobs": top}


def _usage(samples: int) -> dict[str, int]:
    return {"prompt_tokens": 20, "completion_tokens": TOKENS * samples, "total_tokens": 20 + TOKENS * samples}


def _json(data: Any) -> web.Response:
    return web.Response(body=orjson.dumps(data), content_type="application/json")


async def serve(port: int, slots: int | None, service_s: float) -> None:
    """Listen on loopback until killed."""
    runner = web.AppRunner(MockEngine(slots, service_s).app(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
    await asyncio.Event().wait()


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m bench.mock_engine", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--slots", type=int, help="requests answered at once; left out: any number")
    parser.add_argument("--service-ms", type=float, default=0.0, help="that each takes, with --slots")
    given = parser.parse_args()
    uvloop.run(serve(given.port, given.slots, given.service_ms / 1000))


if __name__ == "__main__":
    main()
