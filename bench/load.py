"""A load on an HTTP server that costs the machine little itself: prepared requests over kept connections."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np
import orjson
import psutil

END = b"\r\n\r\n"


@dataclass(frozen=True)
class Target:
    """One server to be asked, and the processes whose processor time its answers cost."""

    name: str
    url: str  # of the chat endpoint
    request: bytes  # head and body
    pids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Burst:
    """A load of some seconds."""

    latencies: tuple[float, ...]  # milliseconds of each answer
    failed: int  # answers other than 200
    seconds: float
    cpu_s: float  # processor seconds of the target's processes and their children

    @property
    def per_s(self) -> float:
        """Answers per second."""
        return len(self.latencies) / self.seconds

    @property
    def cpu_ms(self) -> float:
        """Milliseconds of processor time per answer."""
        return 1000 * self.cpu_s / max(1, len(self.latencies))

    def percentile(self, q: float) -> float:
        """Milliseconds."""
        return float(np.percentile(self.latencies, q)) if self.latencies else float("nan")


def target(name: str, url: str, body: dict[str, object], key: str = "any", pids: Sequence[int] = ()) -> Target:
    """A target with its request made ready."""
    data, at = orjson.dumps(body), urlsplit(url)
    head = f"POST {at.path} HTTP/1.1\r\nHost: {at.netloc}\r\nAuthorization: Bearer {key}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    return Target(name, url, head.encode() + data, tuple(pids))


async def burst(one: Target, connections: int, seconds: float) -> Burst:
    """Keep every connection busy for so long. Raises OSError where nobody listens."""
    latencies: list[float] = []
    failed = 0
    opened = [await _open(one) for _ in range(connections)]
    until = time.perf_counter() + seconds

    async def keep_asking(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal failed
        while (began := time.perf_counter()) < until:
            writer.write(one.request)
            status = await _answer(reader)
            latencies.append(1000 * (time.perf_counter() - began))
            failed += status != 200

    spent, began = cpu_seconds(one.pids), time.perf_counter()
    await asyncio.gather(*(keep_asking(*pair) for pair in opened))
    took, used = time.perf_counter() - began, cpu_seconds(one.pids) - spent
    for _, writer in opened:
        writer.close()
    return Burst(tuple(latencies), failed, took, used)


def cpu_seconds(pids: Sequence[int]) -> float:
    """Processor seconds so far of processes and all below them."""
    found = [psutil.Process(pid) for pid in pids]
    found += [child for one in found for child in one.children(recursive=True)]
    return sum(sum(one.cpu_times()[:2]) for one in found)


async def _open(one: Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    at = urlsplit(one.url)
    return await asyncio.open_connection(at.hostname, at.port)


async def _answer(reader: asyncio.StreamReader) -> int:
    """Read one answer to its end; its status."""
    head = await reader.readuntil(END)
    lower = head.lower()
    if b"content-length:" in lower:
        length = int(lower.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        await reader.readexactly(length)
    else:  # chunked
        while size := int(await reader.readline(), 16):
            await reader.readexactly(size + 2)
        await reader.readline()
    return int(head[9:12])
