"""One HTTP response as it comes in: told by the connection what it hears, waited for and read by whoever asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

UNREAD = 1 << 18  # bytes nobody has read yet at which the server is made to wait


class Reply:
    """A response as it comes in. `async for` gives its body in pieces cut anywhere."""

    def __init__(self, transport: asyncio.Transport) -> None:
        """`transport`: what it comes over, until it ends."""
        self.loop = asyncio.get_running_loop()
        self.status = 0  # HTTP status; 0 until its head is there
        self.headers: dict[str, str] = {}  # names in lower case
        self.parts: list[bytes] = []  # of the body, not read yet
        self.silence_s: float | None = None  # seconds in which something must be heard while somebody waits
        self._transport = transport
        self._unread = 0  # bytes in `parts`
        self._whole = False  # nothing but the end is waited for
        self._done = self._paused = False
        self._fault: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def begun(self) -> None:
        """Wait for the head. Raises ConnectionError, TimeoutError."""
        while not self.status:
            await self._something()

    async def read(self) -> bytes:
        """All of the body that was not read yet, once it has ended. Raises ConnectionError, TimeoutError."""
        self._whole = True
        self._resume()
        while not self._done:
            await self._something()
        return b"".join(self._taken())

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Pieces of the body. Raises ConnectionError, TimeoutError."""
        while self.parts or not self._done:
            if not self.parts:
                await self._something()
            for part in self._taken():
                yield part

    def close(self) -> None:
        """Ask for no more: a response that has not ended takes its connection with it, which stops an engine."""
        if not self._done:
            self.fail(ConnectionError("closed"))

    def fail(self, fault: Exception) -> None:
        """End it with a fault, which whoever waits is told; nothing once it has ended."""
        if not self._done and self._fault is None:
            self._fault = fault
            self._transport.abort()
            self._wake()

    def head(self, status: int) -> None:
        """Its head is there."""
        self.status = status
        if not self._whole:
            self._wake()

    def body(self, part: bytes) -> None:
        """A piece of its body is there."""
        self.parts.append(part)
        self._unread += len(part)
        if not self._whole:
            if self._unread > UNREAD and not self._paused:
                self._paused = True
                self._transport.pause_reading()
            self._wake()

    def end(self) -> None:
        """It is all there; its transport may be another's from now on."""
        if self._fault is None:
            self._done = True
            self._resume()
            self._wake()

    def _taken(self) -> list[bytes]:
        taken, self.parts, self._unread = self.parts, [], 0
        self._resume()
        return taken

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            self._transport.resume_reading()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _something(self) -> None:
        """Wait until there is more than there was. Raises what it failed with."""
        if self._fault is None:
            timer = self.silence_s and self.loop.call_later(self.silence_s, self.fail, TimeoutError())
            self._waiter = self.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
                if timer:
                    timer.cancel()
        if self._fault is not None:
            raise self._fault
