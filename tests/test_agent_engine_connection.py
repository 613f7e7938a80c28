"""HTTP over kept connections, against servers that say exactly what a test wants said."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent.engine.client import VllmEngine
from agent.engine.connection import Connections, NotUp
from agent.engine.reply import UNREAD
from agent.engine.supervisor import free_port
from engine_fakes import FakeVllm, serving
from memory.errors import BadConfig

Say = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
HELLO = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
LONG_S = 30.0


class Scripted:
    """A server whose connections each answer request after request with what is next in `says`."""

    def __init__(self, says: Sequence[bytes | Say]) -> None:
        self.says, self.heard = list(says), list[bytes]()
        self.connections = 0
        self.left = asyncio.Event()  # a caller closed its connection
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                self.heard.append(head + await reader.readexactly(length))
                say = self.says.pop(0)
                if isinstance(say, bytes):
                    writer.write(say)
                    await writer.drain()
                else:
                    await say(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.left.set()
        finally:
            writer.close()


@asynccontextmanager
async def scripted(*says: bytes | Say, idle_s: float = 60.0) -> AsyncIterator[tuple[Scripted, Connections]]:
    one = Scripted(says)
    server = await asyncio.start_server(one.serve, "127.0.0.1", 0)
    one.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    asked = Connections(f"{one.url}/below/", {"Authorization": "Bearer sesame"}, idle_s)
    try:
        yield one, asked
    finally:
        await asked.close()
        server.close()


async def streamed(asked: Connections, silence_s: float, heard: list[bytes]) -> None:
    """Hear a reply out, as far as it goes."""
    async for part in await asked.open("GET", "/", silence_s=silence_s):
        heard.append(part)


async def test_a_whole_answer_and_what_was_sent() -> None:
    async with scripted(HELLO) as (server, asked):
        said = await asked.call("POST", "/v1/x", b'{"a": 1}', limit_s=LONG_S)
    assert (said.status, said.body, said.headers["content-type"]) == (200, b"hello", "text/plain")
    head, _, body = server.heard[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /below/v1/x HTTP/1.1\r\nHost: 127.0.0.1:")
    assert {b"Authorization: Bearer sesame", b"Content-Type: application/json"} <= set(head.split(b"\r\n"))
    assert body == b'{"a": 1}'


async def test_a_connection_is_used_again_and_two_at_once_have_their_own() -> None:
    async with scripted(HELLO, HELLO, HELLO, HELLO) as (server, asked):
        for _ in range(2):
            await asked.call("GET", "/", limit_s=LONG_S)
        assert server.connections == 1
        await asyncio.gather(*(asked.call("GET", "/", limit_s=LONG_S) for _ in range(2)))
        assert server.connections == 2


async def test_one_that_was_idle_for_too_long_is_not_used_again() -> None:
    async with scripted(HELLO, HELLO, idle_s=0.0) as (server, asked):
        for _ in range(2):
            assert (await asked.call("GET", "/", limit_s=LONG_S)).body == b"hello"
        assert server.connections == 2


async def test_one_that_the_server_will_close_is_not_used_again() -> None:
    last = HELLO.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    async with scripted(last, HELLO) as (server, asked):
        for _ in range(2):
            assert (await asked.call("GET", "/", limit_s=LONG_S)).body == b"hello"
        assert server.connections == 2


async def test_an_answer_to_no_question_is_not_taken_for_the_next_one() -> None:
    async with scripted(HELLO + HELLO.replace(b"hello", b"ghost"), HELLO) as (server, asked):
        for _ in range(2):
            assert (await asked.call("GET", "/", limit_s=LONG_S)).body == b"hello"
        assert server.connections == 2


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + HELLO,
    ],
)
async def test_bodies_of_other_kinds(said: bytes) -> None:
    async with scripted(said, said) as (server, asked):
        assert (await asked.call("POST", "/", b"x", limit_s=LONG_S)).body == b"hello"
        reply = await asked.open("POST", "/", b"x", silence_s=LONG_S)
        assert (reply.status, b"".join([part async for part in reply])) == (200, b"hello")
        assert server.connections == 1


async def test_a_body_that_ends_with_its_connection() -> None:
    async def say(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nhello")
        writer.close()

    async with scripted(say) as (_, asked):
        assert (await asked.call("GET", "/", limit_s=LONG_S)).body == b"hello"


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-Le", HELLO[:-2], b"220 mail.example ESMTP\r\n"])
async def test_a_server_that_goes_away_or_speaks_something_else(said: bytes) -> None:
    async def say(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        writer.close()

    async with scripted(say, say) as (_, asked):
        with pytest.raises(ConnectionError):
            await asked.call("GET", "/", limit_s=LONG_S)
        with pytest.raises(ConnectionError):
            await streamed(asked, LONG_S, [])


async def test_nobody_listens() -> None:
    asked = Connections(f"http://127.0.0.1:{free_port()}", {}, 4.0)
    with pytest.raises(NotUp):
        await asked.call("GET", "/", limit_s=LONG_S)
    nowhere = Connections("http://no-such-host.invalid", {}, 4.0)
    with pytest.raises(NotUp):
        await nowhere.call("GET", "/", limit_s=LONG_S)


async def test_a_whole_answer_has_a_limit_and_a_stream_its_silence() -> None:
    async def begin(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HELLO[:-2])

    async with scripted(begin, begin) as (server, asked):
        with pytest.raises(TimeoutError):
            await asked.call("GET", "/", limit_s=0.05)
        heard: list[bytes] = []
        with pytest.raises(TimeoutError):
            await streamed(asked, 0.05, heard)
        assert b"".join(heard) == b"hel"
        async with asyncio.timeout(LONG_S):
            await server.left.wait()


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_reply_that_nobody_wants_any_more_closes_its_connection(cancelled: bool) -> None:
    begun = asyncio.Event()

    async def begin(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HELLO[:-2])
        begun.set()

    async with scripted(begin) as (server, asked):
        if cancelled:
            asking = asyncio.create_task(asked.call("GET", "/", limit_s=LONG_S))
            await begun.wait()
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
        else:
            reply = await asked.open("GET", "/", silence_s=LONG_S)
            reply.close()
        async with asyncio.timeout(LONG_S):
            await server.left.wait()
        assert server.left.is_set()


async def test_a_server_faster_than_its_reader_is_made_to_wait() -> None:
    size = 64 * UNREAD
    written = asyncio.Event()

    async def say(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))
        await writer.drain()
        written.set()

    async with scripted(say, HELLO) as (server, asked):
        reply = await asked.open("GET", "/", silence_s=LONG_S)
        heard = unread = 0
        async for part in reply:
            unread = max(unread, sum(map(len, reply.parts)))
            heard += len(part)
            await asyncio.sleep(0)  # the server could send more meanwhile
        assert heard == size
        assert unread < 4 * UNREAD
        assert (await asked.call("GET", "/", limit_s=LONG_S)).body == b"hello"
        assert server.connections == 1
        assert written.is_set()


async def test_all_that_is_under_way_ends_when_it_is_closed() -> None:
    begun = asyncio.Event()

    async def begin(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun.set()

    async with scripted(begin) as (_, asked):
        asking = asyncio.create_task(asked.call("GET", "/", limit_s=LONG_S))
        await begun.wait()
        await asked.close()
        with pytest.raises(ConnectionError):
            await asking


async def test_what_was_not_read_does_not_hold_up_the_next_request() -> None:
    """Its end came with it, so that its connection is another's."""
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (UNREAD + 1) + bytes(UNREAD + 1)
    async with scripted(HELLO, HELLO) as (server, asked):
        reply = await asked.open("GET", "/", silence_s=LONG_S)
        await reply.read()
        reply = await asked.open("GET", "/", silence_s=LONG_S)
        assert await reply.read() == b"hello"
        connection = asked._idle[-1][0]
        server.says += [lambda *_: asyncio.sleep(0), HELLO]
        asking = asyncio.create_task(asked.open("GET", "/", silence_s=LONG_S))
        while len(server.heard) < 3:
            await asyncio.sleep(0)
        connection.data_received(whole)  # in one piece, as a loop may read it
        (await asking).close()
        assert (await asked.call("GET", "/", limit_s=LONG_S)).body == b"hello"
        assert server.connections == 1


async def test_connections_of_a_burst_are_closed_when_they_were_idle_for_long() -> None:
    async with scripted(*[HELLO] * 6, idle_s=0.05) as (server, asked):
        await asyncio.gather(*(asked.call("GET", "/", limit_s=LONG_S) for _ in range(4)))
        assert len(asked._idle) == 4
        await asyncio.sleep(0.05)  # what is waited for is the time itself
        await asked.call("GET", "/", limit_s=LONG_S)
        assert len(asked._idle) == 1
        async with asyncio.timeout(LONG_S):
            await server.left.wait()


def test_a_key_of_two_lines_is_refused() -> None:
    with pytest.raises(BadConfig, match="control character"):
        Connections("http://127.0.0.1:1", {"Authorization": "Bearer a\r\nX: y"}, 4.0)


@pytest.mark.parametrize("url", ["localhost:8000", "http://", "http://h:99999", "ftp://h", "http://me:it@h:1", ""])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(BadConfig, match="address"):
        Connections(url, {}, 4.0)


async def test_an_engine_that_was_started_anew_is_asked_at_its_new_address() -> None:
    async with serving(FakeVllm()) as before:
        one = VllmEngine(before.url)
        assert await one.healthy()
    assert not await one.healthy()
    async with serving(FakeVllm()) as after:
        one.move(after.url)
        assert await one.healthy()
        assert one.url == after.url
        await one.close()


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """One for 127.0.0.1 that nobody else vouches for, and its key."""
    there, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    line = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=engine -addext subjectAltName=IP:127.0.0.1"
    subprocess.run([*line.split(), "-keyout", key, "-out", there], check=True, capture_output=True)
    return there, key


async def test_an_engine_behind_tls(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    there = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    there.load_cert_chain(*certificate)
    one = Scripted([HELLO, HELLO])
    server = await asyncio.start_server(one.serve, "127.0.0.1", 0, ssl=there)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    with pytest.raises(NotUp):
        await Connections(url, {}, 60.0).call("GET", "/", limit_s=LONG_S)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    asked = Connections(url, {}, 60.0)
    for _ in range(2):
        assert (await asked.call("GET", "/", limit_s=LONG_S)).body == b"hello"
    assert one.connections == 1
    await asked.close()
    server.close()
