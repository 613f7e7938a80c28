"""One vLLM server behind HTTP: chat, streams, raw pass-through, adapters.

connection.py carries it, with orjson for the bodies.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import orjson

from agent.engine import wire
from agent.engine.connection import Answer, Connections, NotUp
from agent.engine.reply import Reply
from agent.engine.wire import RETRY_AFTER_S, Delta, Priority, Sampling
from memory.errors import BadInput, NotFound, TimedOut, Unavailable
from memory.records import Completion, Message

__all__ = ["CHAT", "Delta", "Engine", "Priority", "Raw", "RawStream", "Sampling", "VllmEngine"]

CHAT = "/v1/chat/completions"
# vLLM closes a connection that was idle for 5 s (VLLM_HTTP_TIMEOUT_KEEP_ALIVE). Ours end before: a question sent on one
# that is being closed is lost, and a POST may not simply be sent again.
IDLE_S = 4.0
PROBE_S = 5.0  # seconds in which one that is well says so


@dataclass(frozen=True, slots=True)
class Raw:
    """The engine's reply, untouched; an error's status and body too."""

    status: int  # HTTP status
    body: bytes
    content_type: str


class RawStream:
    """The engine's reply as it comes. Call `aclose()` in any case: until then the engine goes on."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._after: list[Callable[[], None]] = []
        self.status = reply.status
        self.content_type = reply.headers.get("content-type", "text/event-stream")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Chunks as they arrive, cut anywhere. Raises Unavailable, TimedOut."""
        with _faults():
            async for chunk in self._reply:
                yield chunk

    async def aclose(self) -> None:
        """End the request. A body not read to its end closes the connection, and vLLM stops generating."""
        self._reply.close()
        while self._after:
            self._after.pop()()

    def on_close(self, act: Callable[[], None]) -> None:
        """Have `act` called once, when this is closed."""
        self._after.append(act)


class Engine(Protocol):
    """What generates text: one server (VllmEngine), several (EnginePool), or a script in a test."""

    async def chat(
        self, model: str, messages: Sequence[Message], sampling: Sampling, *, priority: int = 0
    ) -> tuple[Completion, ...]:
        """All samples of one prompt. Raises BadInput, NotFound, TooMany, Unavailable, TimedOut."""
        ...

    def stream(
        self, model: str, messages: Sequence[Message], sampling: Sampling, *, priority: int = 0
    ) -> AsyncGenerator[Delta, None]:
        """One sample as it is made. Closing the generator, or cancelling its reader, stops the engine."""
        ...

    async def forward(self, path: str, body: Mapping[str, Any]) -> Raw:
        """Any request, answered as the engine answers it. Raises Unavailable, TimedOut only."""
        ...

    async def forward_stream(self, path: str, body: Mapping[str, Any]) -> RawStream:
        """The same for `stream: true`. The status is known before the first chunk."""
        ...

    async def tokenize(self, model: str, prompt: str | Sequence[Message]) -> tuple[int, ...]:
        """Token ids of a text, or of messages with the template and the reply's opening."""
        ...

    async def answer_logprobs(self, model: str, messages: Sequence[Message], answer: str) -> tuple[float, ...]:
        """Log-probs, nats, one per token of `answer`, given as the reply to `messages`."""
        ...

    async def read(self, model: str, tokens: Sequence[int]) -> None:
        """Have the whole blocks of a prompt's beginning in the prefix cache."""
        ...

    async def load_adapter(self, name: str, path: Path) -> None:
        """Idempotent. Raises BadInput or NotFound where the folder is not an adapter of this base."""
        ...

    async def unload_adapter(self, name: str) -> None:
        """Idempotent."""
        ...

    async def models(self) -> list[str]:
        """Names that can be asked: the base first, then the loaded adapters."""
        ...

    async def healthy(self) -> bool:
        """Whether it answers now. Never raises."""
        ...

    async def close(self) -> None:
        """Let go of the sockets."""
        ...


class VllmEngine:
    """An Engine over one vLLM server. Make and use it in one event loop."""

    def __init__(self, url: str, *, key: str | None = None, timeout_s: float = 600.0, seeds: bool = False) -> None:
        """`url`: "http://host:port", with or without "/v1"; `timeout_s`: seconds of a whole answer, or of a stream's
        silence; `seeds`: it survives one (not on a CPU). Raises BadConfig: no such address, or no such key."""
        self._seeds, self._timeout_s = seeds, timeout_s
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.move(url)

    def move(self, url: str) -> None:
        """The server is at this address from now on, as one is that was started anew. Raises BadConfig."""
        self.url = url.rstrip("/").removesuffix("/v1")
        self._server = Connections(self.url, self._headers, IDLE_S)

    async def chat(
        self, model: str, messages: Sequence[Message], sampling: Sampling, *, priority: int = 0
    ) -> tuple[Completion, ...]:
        started = time.perf_counter()
        answer = await self._json(CHAT, wire.chat_body(model, messages, sampling, priority))
        return wire.completions(answer, time.perf_counter() - started)

    async def stream(
        self, model: str, messages: Sequence[Message], sampling: Sampling, *, priority: int = 0
    ) -> AsyncGenerator[Delta, None]:
        if sampling.n != 1:
            raise BadInput("A stream carries one sample: set n to 1.", param="n")
        body = wire.chat_body(model, messages, sampling, priority, stream=True)
        with _faults():
            reply = await self._opened(CHAT, body)
            try:
                if reply.status >= 400:
                    raise wire.error(reply.status, await reply.read(), reply.headers)
                first = True
                async for data in _events(reply):
                    piece = wire.delta(data, first=first)
                    first = first and not piece.logprobs
                    yield piece
            finally:
                reply.close()

    async def forward(self, path: str, body: Mapping[str, Any]) -> Raw:
        said = await self._said("POST", path, self._written(body))
        return Raw(said.status, said.body, said.headers.get("content-type", ""))

    async def forward_stream(self, path: str, body: Mapping[str, Any]) -> RawStream:
        with _faults():
            return RawStream(await self._opened(path, body))

    async def tokenize(self, model: str, prompt: str | Sequence[Message]) -> tuple[int, ...]:
        what: dict[str, Any] = {"prompt": prompt} if isinstance(prompt, str) else {"messages": list(prompt)}
        return tuple((await self._json("/tokenize", {"model": model, **what}))["tokens"])

    async def answer_logprobs(self, model: str, messages: Sequence[Message], answer: str) -> tuple[float, ...]:
        asked = await self.tokenize(model, messages)
        body = {
            "model": model,
            "messages": [*messages, {"role": "assistant", "content": answer}],
            "add_generation_prompt": False,
            "continue_final_message": True,
            "prompt_logprobs": 0,
            "max_tokens": 1,
            "temperature": 0.0,
        }
        said = await self._json(CHAT, body)
        return wire.prompt_logprobs(said, int(said["usage"]["prompt_tokens"]) - len(asked))

    async def read(self, model: str, tokens: Sequence[int]) -> None:
        body = {"model": model, "prompt": list(tokens), "max_tokens": 1, "temperature": 0.0}
        await self._call("/v1/completions", body)

    async def load_adapter(self, name: str, path: Path) -> None:
        try:
            await self._call("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(path)})
        except BadInput as fault:
            if "already been loaded" not in fault.message:  # names are never reused: it is this very adapter
                raise

    async def unload_adapter(self, name: str) -> None:
        try:
            await self._call("/v1/unload_lora_adapter", {"lora_name": name})
        except NotFound as fault:
            if name not in fault.message:
                raise

    async def models(self) -> list[str]:
        body = _well(await self._said("GET", "/v1/models"))
        return [row["id"] for row in _decoded(body)["data"]]

    async def healthy(self) -> bool:
        try:
            return (await self._server.call("GET", "/health", limit_s=PROBE_S)).status == 200
        except (TimeoutError, ConnectionError):
            return False

    async def close(self) -> None:
        await self._server.close()

    async def _json(self, path: str, body: Mapping[str, Any]) -> Any:
        return _decoded(await self._call(path, body))

    async def _call(self, path: str, body: Mapping[str, Any]) -> bytes:
        return _well(await self._said("POST", path, self._written(body)))

    async def _said(self, method: str, path: str, body: bytes = b"") -> Answer:
        """A whole response, an error's too. Raises Unavailable, TimedOut."""
        with _faults():
            return await self._server.call(method, path, body, limit_s=self._timeout_s)

    async def _opened(self, path: str, body: Mapping[str, Any]) -> Reply:
        """What may last: only its silence is bounded."""
        return await self._server.open("POST", path, self._written(body), silence_s=self._timeout_s)

    def _written(self, body: Mapping[str, Any]) -> bytes:
        return orjson.dumps(body if self._seeds else wire.without_seed(body), default=dict)


def _well(said: Answer) -> bytes:
    """The body of what is no error. Raises what the error is in our words."""
    if said.status >= 400:
        raise wire.error(said.status, said.body, said.headers)
    return said.body


def _decoded(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as fault:
        raise Unavailable("What answers there is not a vLLM server: look at engine.urls.") from fault


async def _events(reply: Reply) -> AsyncIterator[Any]:
    """The JSON of each server-sent event."""
    rest = b""
    async for part in reply:
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            if event := _event(line):
                yield event
    if event := _event(rest):
        yield event


def _event(line: bytes) -> Any:
    """The JSON of one line. [DONE] is passed over: read to its end, the connection can be used again."""
    data = line.strip().removeprefix(b"data:").strip()
    if not data.startswith(b"{"):
        return None
    event = orjson.loads(data)
    if "error" in event:
        raise wire.error(int(event["error"].get("code") or 500), data)
    return event


@contextmanager
def _faults() -> Iterator[None]:
    """Name what goes wrong between us and the engine."""
    try:
        yield
    except NotUp as fault:
        said = "The engine is not up (starting or restarting); ask again soon."
        raise Unavailable(said, retry_after_s=RETRY_AFTER_S) from fault
    except TimeoutError as fault:
        said = "The engine did not answer in time; ask for fewer tokens or raise engine.timeout_s."
        raise TimedOut(said) from fault
    except ConnectionError as fault:
        said = "The engine went away while it was answering; ask again soon."
        raise Unavailable(said, retry_after_s=RETRY_AFTER_S) from fault
