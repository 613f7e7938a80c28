"""HTTP/1.1 to one server, over connections that are kept: as much of it as an engine's client needs.

It is made of asyncio's transports and llhttp (httptools, which uvicorn answers with). A general client, with all that
it does besides (redirects, cookies, proxies, compression), costs two to three times as much of the processor for each
request (docs/benchmarks.md, the gateway's parts), and was a fifth of all that the gateway added to an answer.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic
from typing import cast
from urllib.parse import SplitResult, quote, urlsplit

import httptools

from agent.engine.reply import Reply
from memory.errors import BadConfig

CONNECT_S = 5.0  # seconds in which a server must take a connection


class NotUp(ConnectionError):
    """Nobody takes connections there."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response."""

    status: int  # HTTP status
    headers: Mapping[str, str]  # names in lower case
    body: bytes


class Connections:
    """Requests to one server, each on a connection of its own while it lasts. Use it in one event loop."""

    def __init__(self, url: str, headers: Mapping[str, str], idle_s: float) -> None:
        """`url`: "http://host:port" or https, a path may follow; `headers`: of every request; `idle_s`: seconds after
        which an unused connection is closed. Raises BadConfig: no such address, or a header of more than one line."""
        parts, port = address(url)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._host, self._port = parts.hostname or "", port or (443 if self._tls else 80)
        self._prefix, self._idle_s = parts.path.rstrip("/"), idle_s
        lines = {"Host": parts.netloc.rpartition("@")[2], "Accept": "*/*", **headers}
        for value in lines.values():
            check_value(value)
        self._lines = "".join(f"{name}: {value}\r\n" for name, value in lines.items()).encode()
        self._heads: dict[str, bytes] = {}  # by method and path: they are few
        self._idle: list[tuple[_Connection, float]] = []  # those at the end were used last
        self._open: set[_Connection] = set()

    async def call(self, method: str, path: str, body: bytes = b"", *, limit_s: float) -> Answer:
        """One request and its whole response.

        Raises:
            NotUp: nobody listens there, or not within 5 seconds.
            TimeoutError: no whole response within `limit_s` seconds.
            ConnectionError: the server went away before it, or speaks something else.
        """
        reply = await self._sent(method, path, body)
        timer = reply.loop.call_later(limit_s, reply.fail, TimeoutError())
        try:
            whole = await reply.read()
            return Answer(reply.status, reply.headers, whole)
        finally:
            timer.cancel()
            reply.close()

    async def open(self, method: str, path: str, body: bytes = b"", *, silence_s: float) -> Reply:
        """One request, and its response from the moment its head is there. Close it in any case.

        Raises what `call` does, TimeoutError after `silence_s` seconds in which nothing was heard.
        """
        reply = await self._sent(method, path, body)
        reply.silence_s = silence_s
        try:
            await reply.begun()
        except BaseException:
            reply.close()
            raise
        return reply

    async def close(self) -> None:
        """End every connection, and every request on one."""
        for connection in tuple(self._open):
            connection.fail(ConnectionError("closed"))
        await asyncio.sleep(0)  # they are told in the loop's next turn

    async def _sent(self, method: str, path: str, body: bytes) -> Reply:
        """A request on its way."""
        connection = self._kept() or await self._connected()
        return connection.send(b"%sContent-Length: %d\r\n\r\n%s" % (self._head(method, path), len(body), body))

    def _head(self, method: str, path: str) -> bytes:
        """Everything before the body's length."""
        key = f"{method} {path}"
        if key not in self._heads:
            line = f"{method} {quote(self._prefix + path, safe='/?&=%:')} HTTP/1.1\r\n".encode()
            self._heads[key] = line + self._lines + (b"Content-Type: application/json\r\n" if method == "POST" else b"")
        return self._heads[key]

    def _kept(self) -> _Connection | None:
        """A connection that is open and was used a moment ago."""
        while self._idle:
            connection, since = self._idle.pop()
            if not connection.transport.is_closing():
                if monotonic() - since < self._idle_s:
                    return connection
                connection.transport.close()  # and all before it are older still
        return None

    async def _connected(self) -> _Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_S):
                there = (self._host, self._port)
                _, made = await loop.create_connection(lambda: _Connection(self), *there, ssl=self._tls)
        except (OSError, TimeoutError) as fault:
            raise NotUp(f"{self._host}:{self._port}: {fault}") from fault
        self._open.add(made)
        return made

    def keep(self, connection: _Connection) -> None:
        """Have one used again whose response has ended; those that nobody used for long are closed."""
        now = monotonic()
        while self._idle and now - self._idle[0][1] >= self._idle_s:
            self._idle.pop(0)[0].transport.close()
        self._idle.append((connection, now))

    def forget(self, connection: _Connection) -> None:
        """One is closed."""
        self._open.discard(connection)
        self._idle = [(kept, since) for kept, since in self._idle if kept is not connection]


def address(url: str) -> tuple[SplitResult, int | None]:
    """A server's address and its port. Raises BadConfig."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as fault:
        raise BadConfig(f"the engine's address {url!r} is none: {fault}", param="engine.urls") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        said = f"the engine's address {url!r} is none: write http://host:port (a key belongs into engine.api_key)"
        raise BadConfig(said, param="engine.urls")
    return parts, port


def check_value(value: str) -> None:
    """Raise BadConfig for what cannot be sent as a header's value: it would end its line."""
    if not value.isprintable():
        raise BadConfig("the engine's key has a line's end or another control character in it", param="engine.api_key")


class _Connection(asyncio.Protocol):
    """One connection; a request at a time."""

    transport: asyncio.Transport

    def __init__(self, pool: Connections) -> None:
        self._pool = pool
        self._reply: Reply | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}

    def send(self, request: bytes) -> Reply:
        """Send one request; its response as it comes in."""
        reply = self._reply = Reply(self.transport)
        self.transport.write(request)
        return reply

    def fail(self, fault: Exception) -> None:
        """Close it, and tell whoever waits why."""
        if self._reply is not None:
            self._reply.fail(fault)
        self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, fault: Exception | None) -> None:
        self._pool.forget(self)
        reply = self._reply
        if reply is not None and reply.status and self._ends_with_connection() and fault is None:
            self._reply = None
            reply.end()
        elif reply is not None:
            reply.fail(ConnectionError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as fault:
            self.fail(ConnectionError(f"the server does not speak HTTP: {fault}"))

    def on_message_begin(self) -> None:
        """llhttp: a response begins."""
        self._headers = {}
        if self._reply is None:  # to no request: what would come after it could not be told apart from an answer
            self.transport.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        """llhttp: one header line."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """llhttp: the head is read. One below 200 only announces another."""
        status = self._parser.get_status_code()
        if self._reply is not None and status >= 200:
            self._reply.headers = self._headers
            self._reply.head(status)

    def on_body(self, part: bytes) -> None:
        """llhttp: a piece of the body, its chunks' frames taken off."""
        if self._reply is not None:
            self._reply.body(part)

    def on_message_complete(self) -> None:
        """llhttp: the response has ended."""
        reply = self._reply
        if reply is None or not reply.status:
            return
        self._reply = None
        if self._parser.should_keep_alive():
            self._pool.keep(self)
        else:
            self.transport.close()
        reply.end()

    def _ends_with_connection(self) -> bool:
        """Whether the response said no other end."""
        return "content-length" not in self._headers and "transfer-encoding" not in self._headers
