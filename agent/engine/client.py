"""One vLLM server behind HTTP: chat, streams, raw pass-through, adapters.

aiohttp carries it, with orjson for the bodies.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import orjson

from agent.engine import wire
from agent.engine.wire import RETRY_AFTER_S, Delta, Priority, Sampling
from memory.errors import BadInput, NotFound, TimedOut, Unavailable
from memory.records import Completion, Message

__all__ = ["Delta", "Engine", "Priority", "Raw", "RawStream", "Sampling", "VllmEngine"]

JSON = {"Content-Type": "application/json"}
CHAT = "/v1/chat/completions"
# vLLM closes a connection that was idle for 5 s (VLLM_HTTP_TIMEOUT_KEEP_ALIVE). Ours end before: a question sent on one
# that is being closed is lost, and a POST may not simply be sent again.
IDLE_S = 4.0
PROBE = aiohttp.ClientTimeout(total=5)  # seconds


@dataclass(frozen=True, slots=True)
class Raw:
    """The engine's reply, untouched; an error's status and body too."""

    status: int  # HTTP status
    body: bytes
    content_type: str


class RawStream:
    """The engine's reply as it comes. Call `aclose()` in any case: until then the engine goes on."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self._after: list[Callable[[], None]] = []
        self.status = response.status
        self.content_type = response.headers.get("Content-Type", "text/event-stream")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Chunks as they arrive, cut anywhere. Raises Unavailable, TimedOut."""
        with _faults():
            async for chunk in self._response.content.iter_any():
                yield chunk

    async def aclose(self) -> None:
        """End the request. A body not read to its end closes the connection, and vLLM stops generating."""
        self._response.close()
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
        """`url`: "http://host:port", with or without "/v1". `seeds`: it survives one (not on a CPU)."""
        self.url = url.rstrip("/").removesuffix("/v1")
        self._key = key
        self._seeds = seeds
        self._plain = aiohttp.ClientTimeout(total=timeout_s, connect=5.0)
        # A stream may last: only its silence is bounded.
        self._streaming = aiohttp.ClientTimeout(total=None, connect=5.0, sock_read=timeout_s)
        self._session: aiohttp.ClientSession | None = None

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
        async with self._open(CHAT, body, self._streaming) as response:
            if response.status >= 400:
                raise wire.error(response.status, await response.read(), response.headers)
            first = True
            async for data in _events(response):
                piece = wire.delta(data, first=first)
                first = first and not piece.logprobs
                yield piece

    async def forward(self, path: str, body: Mapping[str, Any]) -> Raw:
        async with self._open(path, body, self._plain) as response:
            return Raw(response.status, await response.read(), response.headers.get("Content-Type", ""))

    async def forward_stream(self, path: str, body: Mapping[str, Any]) -> RawStream:
        with _faults():
            return RawStream(await self._post(path, body, self._streaming))

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
        with _faults():
            async with self._http().get(f"{self.url}/v1/models", timeout=self._plain) as response:
                body = await response.read()
        if response.status >= 400:
            raise wire.error(response.status, body, response.headers)
        return [row["id"] for row in _decoded(body)["data"]]

    async def healthy(self) -> bool:
        try:
            async with self._http().get(f"{self.url}/health", timeout=PROBE) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _json(self, path: str, body: Mapping[str, Any]) -> Any:
        return _decoded(await self._call(path, body))

    async def _call(self, path: str, body: Mapping[str, Any]) -> bytes:
        async with self._open(path, body, self._plain) as response:
            said = await response.read()
            if response.status >= 400:
                raise wire.error(response.status, said, response.headers)
            return said

    @asynccontextmanager
    async def _open(
        self, path: str, body: Mapping[str, Any], limits: aiohttp.ClientTimeout
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        with _faults():
            response = await self._post(path, body, limits)
            try:
                yield response
            finally:
                response.close()  # no effect on one read to its end; else it aborts the request

    async def _post(self, path: str, body: Mapping[str, Any], limits: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        sent = body if self._seeds else wire.without_seed(body)
        return await self._http().post(
            self.url + path, data=orjson.dumps(sent, default=dict), headers=JSON, timeout=limits
        )

    def _http(self) -> aiohttp.ClientSession:
        """The session, made at first use because it belongs to the running loop."""
        if self._session is None:
            headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_S)
            self._session = aiohttp.ClientSession(connector=connector, headers=headers)
        return self._session


def _decoded(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as fault:
        raise Unavailable("What answers there is not a vLLM server: look at engine.urls.") from fault


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[Any]:
    """The JSON of each server-sent event."""
    async for line in response.content:
        data = line.strip().removeprefix(b"data:").strip()
        if data.startswith(b"{"):  # [DONE] is passed over: read to its end, the connection can be used again
            event = orjson.loads(data)
            if "error" in event:
                raise wire.error(int(event["error"].get("code") or 500), data)
            yield event


@contextmanager
def _faults() -> Iterator[None]:
    """Name what goes wrong between us and the engine."""
    try:
        yield
    except (aiohttp.ConnectionTimeoutError, aiohttp.ClientConnectorError, ConnectionRefusedError) as fault:
        said = "The engine is not up (starting or restarting); ask again soon."
        raise Unavailable(said, retry_after_s=RETRY_AFTER_S) from fault
    except TimeoutError as fault:
        said = "The engine did not answer in time; ask for fewer tokens or raise engine.timeout_s."
        raise TimedOut(said) from fault
    except (aiohttp.ClientError, ConnectionError) as fault:
        said = "The engine went away while it was answering; ask again soon."
        raise Unavailable(said, retry_after_s=RETRY_AFTER_S) from fault
