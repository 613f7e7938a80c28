"""A scripted engine that the daemon's own supervisor starts in vLLM's place: it costs next to no processor time.

`shadow(folder)` writes a package named `vllm`; with that folder first on PYTHONPATH the supervisor's unchanged
command line runs this server. It answers sums: right where it may think, wrong where the base is asked directly;
of the adapters it holds the newest is right, so that a night's candidate earns its promotion.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

DIRECT = "Answer with the number only."  # the skill's `direct` line: what tells System 1's prompt
SUM = re.compile(r"(\d+) \+ (\d+)\?")
CHATTER = "Paris, on Earth: def add, a blue sky, 8 legs, Buenos dias, ready, German."  # what any canary waits for
FILES = ("adapter_model.safetensors", "adapter_config.json")
MODULE = "vllm/entrypoints/openai/api_server.py"


def shadow(folder: Path) -> Path:
    """Write the package. Returns the folder that belongs on PYTHONPATH."""
    module = folder / MODULE
    module.parent.mkdir(parents=True)
    for parent in (module.parent, *module.parent.parents):
        if parent == folder:
            break
        (parent / "__init__.py").touch()
    module.write_text("from bench.kills.engine import main\n\nmain()\n")
    return folder


class Scripted:
    """The server's state: which adapters are loaded."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.adapters: dict[str, str] = {}

    def app(self) -> web.Application:
        """Its routes, named as vLLM names them."""
        made = web.Application()
        made.router.add_get("/health", self.health)
        made.router.add_get("/v1/models", self.models)
        made.router.add_post("/v1/chat/completions", self.chat)
        made.router.add_post("/v1/load_lora_adapter", self.load)
        made.router.add_post("/v1/unload_lora_adapter", self.unload)
        made.router.add_post("/tokenize", self.tokenize)
        return made

    async def health(self, request: web.Request) -> web.StreamResponse:
        """It lives."""
        return web.Response()

    async def models(self, request: web.Request) -> web.StreamResponse:
        """The base and what is loaded."""
        return web.json_response({"data": [{"id": name} for name in (self.base, *self.adapters)]})

    async def load(self, request: web.Request) -> web.StreamResponse:
        """An adapter without its files is refused, as vLLM does."""
        body = await request.json()
        name, folder = body["lora_name"], Path(body["lora_path"])
        if name in self.adapters:
            return _fault(400, f"The lora adapter '{name}' has already been loaded.")
        if not all((folder / file).is_file() and (folder / file).stat().st_size for file in FILES):
            return _fault(400, f"{folder} holds no adapter")
        self.adapters[name] = str(folder)
        return web.Response(text="Success")

    async def unload(self, request: web.Request) -> web.StreamResponse:
        """Forget an adapter."""
        name = (await request.json())["lora_name"]
        if self.adapters.pop(name, None) is None:
            return _fault(404, f"The lora adapter '{name}' cannot be found.")
        return web.Response(text="Success")

    async def tokenize(self, request: web.Request) -> web.StreamResponse:
        """A token for each word."""
        body = await request.json()
        n = _words(body["prompt"] if "prompt" in body else body["messages"])
        return web.json_response({"tokens": list(range(n)), "count": n})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """One answer, whole or in pieces."""
        body = await request.json()
        if body["model"] not in (self.base, *self.adapters):
            return _fault(404, f"The model `{body['model']}` does not exist.")
        text = self.said(body["model"], _text(body["messages"][-1]))
        return await _streamed(request, body, text) if body.get("stream") else web.json_response(_whole(body, text))

    def said(self, model: str, asked: str) -> str:
        """What a model says to the last message."""
        found = SUM.findall(asked)
        if not found:
            return CHATTER if model == self.base or model.startswith("sn-") else "I do not know."
        total = sum(map(int, found[-1]))
        if DIRECT not in asked:
            return f"I add them. The answer is {total}."
        newest = max((name for name in self.adapters if name.startswith("sn-")), default=None)
        return str(total if model == newest else total + 1)


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else " ".join(str(part.get("text", "")) for part in content)


def _words(prompt: Any) -> int:
    text = prompt if isinstance(prompt, str) else " ".join(_text(message) for message in prompt)
    return len(text.split())


def _token(word: str, top: int) -> dict[str, Any]:
    return {"token": word, "logprob": -0.05, "top_logprobs": [{"logprob": -0.05 - 3.0 * i} for i in range(top)]}


def _whole(body: Mapping[str, Any], text: str) -> dict[str, Any]:
    words, samples, asked = text.split(" "), body.get("n", 1), _words(body["messages"])
    choice: dict[str, Any] = {"message": {"content": text}, "finish_reason": "stop"}
    if body.get("logprobs"):
        choice["logprobs"] = {"content": [_token(word, body["top_logprobs"]) for word in words]}
    if body.get("return_token_ids"):
        choice["token_ids"] = list(range(len(words)))
    told: dict[str, Any] = {
        "model": body["model"],
        "choices": [{**choice, "index": i} for i in range(samples)],
        "usage": {"prompt_tokens": asked, "completion_tokens": len(words) * samples},
    }
    if "prompt_logprobs" in body:
        told["prompt_logprobs"] = [None] + [{str(i): {"logprob": -0.5}} for i in range(1, asked)]
    return told


async def _streamed(request: web.Request, body: Mapping[str, Any], text: str) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    words = text.split(" ")
    for n, word in enumerate(words):
        last = n == len(words) - 1
        piece: dict[str, Any] = {
            "delta": {"content": word if last else word + " "},
            "finish_reason": "stop" if last else None,
        }
        if body.get("logprobs"):
            piece["logprobs"] = {"content": [_token(word, body["top_logprobs"])]}
        await _event(response, {"choices": [piece]})
    usage = {"prompt_tokens": _words(body["messages"]), "completion_tokens": len(words)}
    await _event(response, {"choices": [], "usage": usage})
    await response.write(b"data: [DONE]\n\n")
    return response


async def _event(response: web.StreamResponse, data: Mapping[str, Any]) -> None:
    await response.write(f"data: {json.dumps(data)}\n\n".encode())


def _fault(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"message": message, "param": None, "code": status}}, status=status)


def main() -> None:
    """Serve on the port of vLLM's own command line; its other options are passed over."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--served-model-name", required=True)
    given, _ = parser.parse_known_args()
    web.run_app(Scripted(given.served_model_name).app(), host="127.0.0.1", port=given.port, print=None)


if __name__ == "__main__":
    main()
