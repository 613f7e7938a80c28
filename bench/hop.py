"""The least that a proxy can be: it passes a chat request on to the engine, and the answer back, and reads neither.

`python -m bench.hop --port 8124 --engine http://127.0.0.1:8123` is made of what the gateway is (uvicorn on uvloop,
agent/engine/connection.py). What it adds to an answer is what any process between a caller and the engine adds on this
machine; what the gateway adds beyond that is its own.
"""

from __future__ import annotations

import argparse

import uvicorn
from starlette.types import Receive, Scope, Send

from agent.engine.client import IDLE_S
from agent.engine.connection import Connections


class Hop:
    """An ASGI application."""

    def __init__(self, engine: str) -> None:
        """`engine`: its address, without a path."""
        self._engine = engine
        self._kept: dict[str, Connections] = {}  # by key: a caller's is the engine's

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on; a GET (is it up?) is answered here."""
        if scope["type"] != "http":
            return
        if scope["method"] == "GET":
            await _begin(send, 200, b"text/plain")
            return await send({"type": "http.response.body"})
        key = next((value.decode() for name, value in scope["headers"] if name == b"authorization"), "")
        if key not in self._kept:
            self._kept[key] = Connections(self._engine, {"Authorization": key}, IDLE_S)
        said = await self._kept[key].open("POST", scope["path"], await _body(receive), silence_s=600.0)
        try:
            await _begin(send, said.status, said.headers.get("content-type", "").encode())
            async for part in said:
                await send({"type": "http.response.body", "body": part, "more_body": True})
        finally:
            said.close()
        await send({"type": "http.response.body"})


async def _begin(send: Send, status: int, content_type: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", content_type)]})


async def _body(receive: Receive) -> bytes:
    parts, more = list[bytes](), True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


def main() -> None:
    """Listen on loopback until killed."""
    parser = argparse.ArgumentParser(prog="python -m bench.hop", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--engine", required=True, help="its address: http://host:port")
    given = parser.parse_args()
    uvicorn.run(
        Hop(given.engine), port=given.port, loop="uvloop", http="httptools", ws="none", lifespan="off", access_log=False
    )


if __name__ == "__main__":
    main()
