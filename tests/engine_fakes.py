"""A vLLM as small as it can be: a function behind a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
from aiohttp import web

WORDS = ("The", " answer", " is", " 4", ".")


class FakeVllm:
    """What a fake server was asked, and what it shall do next."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []  # bodies of chats, in order
        self.completed: list[dict[str, Any]] = []  # bodies of completions, in order
        self.headers: list[dict[str, str]] = []
        self.adapters: dict[str, str] = {}
        self.refuse: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None  # answers instead
        self.hold: asyncio.Event | None = None  # a stream waits for it after its first word
        self.gone = asyncio.Event()  # a client went away in the middle of a stream
        self.looked = asyncio.Event()  # its models were asked for
        self.url = ""

    def app(self) -> web.Application:
        made = web.Application()
        made.router.add_get("/health", self.health)
        made.router.add_get("/v1/models", self.models)
        made.router.add_post("/v1/chat/completions", self.chat)
        made.router.add_post("/v1/completions", self.complete)
        made.router.add_post("/v1/load_lora_adapter", self.load)
        made.router.add_post("/v1/unload_lora_adapter", self.unload)
        made.router.add_post("/tokenize", self.tokenize)
        return made

    async def health(self, request: web.Request) -> web.StreamResponse:
        return web.Response()

    async def models(self, request: web.Request) -> web.StreamResponse:
        self.looked.set()
        return web.json_response({"data": [{"id": name} for name in ("base", *self.adapters)]})

    async def load(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if self.refuse is not None:
            return await self.refuse(request)
        if body["lora_name"] in self.adapters:
            return fault(400, f"The lora adapter '{body['lora_name']}' has already been loaded.")
        self.adapters[body["lora_name"]] = body["lora_path"]
        return web.Response(text="Success")

    async def unload(self, request: web.Request) -> web.StreamResponse:
        name = (await request.json())["lora_name"]
        if self.adapters.pop(name, None) is None:
            return fault(404, f"The lora adapter '{name}' cannot be found.")
        return web.Response(text="Success")

    async def tokenize(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        text = body.get("prompt") or " ".join(m["content"] for m in body["messages"])
        return web.json_response({"tokens": list(range(len(text.split()))), "count": len(text.split())})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.asked.append(body)
        self.headers.append(dict(request.headers))
        if self.refuse is not None:
            return await self.refuse(request)
        if body["model"] not in ("base", *self.adapters):
            return fault(404, f"The model `{body['model']}` does not exist.", "model")
        if body.get("stream"):
            return await self.stream(request, body)
        return web.json_response(answer(body))

    async def complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.completed.append(body)
        if body["model"] not in ("base", *self.adapters):
            return fault(404, f"The model `{body['model']}` does not exist.", "model")
        return web.json_response({"choices": [{"text": WORDS[0]}]})

    async def stream(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            await self.write_words(response, body)
        except (ConnectionResetError, asyncio.CancelledError):
            self.gone.set()
            raise
        return response

    async def write_words(self, response: web.StreamResponse, body: dict[str, Any]) -> None:
        for n, word in enumerate(WORDS):
            last = n == len(WORDS) - 1
            choice = {"delta": {"content": word}, "finish_reason": "stop" if last else None}
            if body.get("logprobs"):
                choice["logprobs"] = {"content": [token(word, body["top_logprobs"])]}
            await event(response, {"choices": [choice]})
            if self.hold is not None:
                await self.hold.wait()
        await event(response, {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": len(WORDS)}})
        await response.write(b"data: [DONE]\n\n")


async def event(response: web.StreamResponse, data: dict[str, Any]) -> None:
    await response.write(b"data: " + orjson.dumps(data) + b"\n\n")


def token(word: str, top: int) -> dict[str, Any]:
    """A drawn token with log-prob -0.5, the best of -0.5, -1.5, -2.5 ..."""
    return {"token": word, "logprob": -0.5, "top_logprobs": [{"logprob": -0.5 - i} for i in range(top)]}


def answer(body: dict[str, Any]) -> dict[str, Any]:
    samples = body.get("n", 1)
    choice: dict[str, Any] = {"message": {"content": "".join(WORDS)}, "finish_reason": "stop"}
    if body.get("logprobs"):
        choice["logprobs"] = {"content": [token(word, body["top_logprobs"]) for word in WORDS]}
    if body.get("return_token_ids"):
        choice["token_ids"] = list(range(len(WORDS)))
    said = {
        "model": body["model"],
        "choices": [{**choice, "index": i} for i in range(samples)],
        "usage": {"prompt_tokens": 9, "completion_tokens": len(WORDS) * samples},
    }
    if "prompt_logprobs" in body:  # nine tokens; the last three are the answer's
        said["prompt_logprobs"] = [None] + [{str(i): {"logprob": -float(i)}} for i in range(1, 9)]
    return said


def fault(status: int, message: str, param: str | None = None) -> web.Response:
    return web.json_response({"error": {"message": message, "param": param, "code": status}}, status=status)


@asynccontextmanager
async def serving(fake: FakeVllm, port: int = 0) -> AsyncIterator[FakeVllm]:
    """The fake on a loopback port, until the block is left; open connections are cut then."""
    runner = web.AppRunner(fake.app(), shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield fake
    finally:
        await runner.cleanup()
