"""A load on an HTTP server that costs the machine little itself: prepared requests over kept connections."""

from __future__ import annotations

import asyncio
import itertools
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
    requests: tuple[bytes, ...]  # head and body of each; they are sent in turn, again and again
    pids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Burst:
    """A load of some seconds."""

    latencies: tuple[float, ...]  # milliseconds of each answer
    failed: int  # answers other than 200
    seconds: float
    cpu_s: float  # processor seconds of the target's processes and their children
    late: int = 0  # of the answers, those that came when nobody asked any more
    late_s: float = 0.0  # of the seconds, those

    @property
    def per_s(self) -> float:
        """Answers per second."""
        return len(self.latencies) / self.seconds

    @property
    def steady_per_s(self) -> float:
        """Answers per second while every connection was busy: a server's last answers may leave part of it idle."""
        return (len(self.latencies) - self.late) / (self.seconds - self.late_s)

    @property
    def cpu_ms(self) -> float:
        """Milliseconds of processor time per answer."""
        return 1000 * self.cpu_s / max(1, len(self.latencies))

    def percentile(self, q: float) -> float:
        """Milliseconds."""
        return float(np.percentile(self.latencies, q)) if self.latencies else float("nan")


def target(name: str, url: str, *bodies: dict[str, object], key: str = "any", pids: Sequence[int] = ()) -> Target:
    """A target with its requests made ready."""
    return Target(name, url, tuple(_request(url, body, key) for body in bodies), tuple(pids))


async def burst(one: Target, connections: int, seconds: float) -> Burst:
    """Keep every connection busy for so long. Raises OSError where nobody listens."""
    latencies: list[float] = []
    failed = late = 0
    opened = [await _open(one) for _ in range(connections)]
    requests = itertools.cycle(one.requests)
    until = time.perf_counter() + seconds

    async def keep_asking(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal failed, late
        while (began := time.perf_counter()) < until:
            writer.write(next(requests))
            status = await _answer(reader)
            ended = time.perf_counter()
            latencies.append(1000 * (ended - began))
            late += ended > until
            failed += status != 200

    spent, began = cpu_seconds(one.pids), time.perf_counter()
    await asyncio.gather(*(keep_asking(*pair) for pair in opened))
    took, used = time.perf_counter() - began, cpu_seconds(one.pids) - spent
    for _, writer in opened:
        writer.close()
    return Burst(tuple(latencies), failed, took, used, late, max(0.0, began + took - until))


async def burst_on_each(targets: Sequence[Target], connections: int, seconds: float) -> Burst:
    """The connections shared out among several servers that are loaded at once, told as one."""
    return together(await asyncio.gather(*(burst(one, connections // len(targets), seconds) for one in targets)))


def together(bursts: Sequence[Burst]) -> Burst:
    """Bursts that ran at the same time as one; it lasts as long as the longest."""
    return Burst(
        latencies=tuple(ms for one in bursts for ms in one.latencies),
        failed=sum(one.failed for one in bursts),
        seconds=max(one.seconds for one in bursts),
        cpu_s=sum(one.cpu_s for one in bursts),
        late=sum(one.late for one in bursts),
        late_s=max(one.late_s for one in bursts),
    )


def cpu_seconds(pids: Sequence[int]) -> float:
    """Processor seconds so far of processes and all below them."""
    found = [psutil.Process(pid) for pid in pids]
    found += [child for one in found for child in one.children(recursive=True)]
    return sum(sum(one.cpu_times()[:2]) for one in found)


def _request(url: str, body: dict[str, object], key: str) -> bytes:
    data, at = orjson.dumps(body), urlsplit(url)
    head = f"POST {at.path} HTTP/1.1\r\nHost: {at.netloc}\r\nAuthorization: Bearer {key}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


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
