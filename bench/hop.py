"""The least that a proxy can be: it passes a chat request on to the engine, and the answer back, and reads neither.

`python -m bench.hop --port 8124 --engine http://127.0.0.1:8123` is made of what the gateway is (uvicorn on uvloop,
aiohttp). What it adds to an answer is what any process between a caller and the engine adds on this machine; what the
gateway adds beyond that is its own.
"""

from __future__ import annotations

import argparse

import aiohttp
import uvicorn
from starlette.types import Receive, Scope, Send


class Hop:
    """An ASGI application."""

    def __init__(self, engine: str) -> None:
        """`engine`: its address, without a path."""
        self._engine = engine
        self._session: aiohttp.ClientSession | None = None  # made at first use: it belongs to the running loop

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on; a GET (is it up?) is answered here."""
        if scope["type"] != "http":
            return
        if scope["method"] == "GET":
            await _begin(send, 200, b"text/plain")
            return await send({"type": "http.response.body"})
        self._session = self._session or aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        named = {key.decode(): value.decode() for key, value in scope["headers"]}
        headers = {name: named[name] for name in ("authorization", "content-type") if name in named}
        asked = self._session.post(self._engine + scope["path"], data=await _body(receive), headers=headers)
        async with asked as said:
            await _begin(send, said.status, said.headers.get("content-type", "").encode())
            async for chunk in said.content.iter_any():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
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
