"""The process: take the port, get the model, open the daemon, listen until told to stop."""

from __future__ import annotations

import contextlib
import errno
import gc
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import orjson
import uvicorn
from fastapi import FastAPI

from adapters.model import ModelFolder
from agent.base_model import get_model
from agent.config import ADDRESS, Config
from agent.daemon import opened
from agent.http.app import build
from agent.http.guard import check_bind
from agent.logs import configure
from agent.published import FleetSettings, read
from memory.errors import BadConfig, Conflict, SecondNatureError
from memory.store import Memory

log = logging.getLogger("secondnature")
BACKLOG = 2048  # connections that may wait to be accepted
Lifespan = Callable[[FastAPI], contextlib.AbstractAsyncContextManager[None]]


def run(config: Config, coming: Callable[[], ModelFolder] | None = None) -> None:
    """Serve until SIGTERM or SIGINT; what was accepted is finished first. `coming`: waits for the model, if it is
    being got already.

    Raises BadConfig (address, model), Conflict (port or state folder in use), Damaged, StorageFull.
    """
    configure(config.logs)
    state_dir = Path(config.state_dir)
    check_bind(config.http.host, has_keys(state_dir) or follows_keys(config.fleet))
    listening = take_port(config.http.host, config.http.port)
    with Memory.open(state_dir, settings=config.memory) as memory:  # before the slow work: the folder may be taken
        model = coming() if coming else get_model(config.model)
        app = build(config, _lifespan(config, model, memory, listening))
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=int(config.http.shutdown_s),
                lifespan="on",
                ws="none",  # no path speaks it; its library would be imported all the same
                server_header=False,
            )
        )
        server.run(sockets=[listening])
    if not server.started:
        raise SystemExit(1)  # the lifespan has said why


def take_port(host: str, port: int) -> socket.socket:
    """A bound socket. Raises Conflict, before any slow work, when another program has the port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise Conflict(
                f"port {port} on {host} is in use; choose another with --port (0 takes a free one)"
            ) from None
        raise BadConfig(f"cannot listen on {host}:{port}: {error.strerror}") from None
    return listening


def has_keys(state_dir: Path) -> bool:
    """Whether somebody holds a key to this state folder."""
    try:
        with Memory.open(state_dir, read_only=True) as memory:
            held = memory.keys()
        return any(key.revoked_at is None for key in held)
    except SecondNatureError:
        return False


def follows_keys(settings: FleetSettings) -> bool:
    """Whether a gateway will take over a key from what is published; it does so in its first second."""
    if settings.role != "gateway" or settings.published is None:
        return False
    try:
        held = read(settings.published, settings.api_key).decided["keys"]
    except SecondNatureError as error:
        log.warning("%s", error.message)
        return False
    return any(key["revoked_at"] is None for key in held)


def _lifespan(config: Config, model: ModelFolder, memory: Memory, listening: socket.socket) -> Lifespan:
    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            async with opened(config, model, memory) as daemon:
                app.state.daemon = daemon
                listening.listen(BACKLOG)  # before the address is told: who reads it must not be refused
                with _addressed(Path(config.state_dir), url_of(listening)):
                    gc.freeze()  # what a start has made stays: no later collection looks at it
                    gc.enable()
                    log.info("listening on %s; the engine is %s", url_of(listening), daemon.engine_state())
                    yield
        except SecondNatureError as error:
            print(f"secondnature: {error.message}", file=sys.stderr)
            raise

    return lifespan


def url_of(listening: socket.socket) -> str:
    """Where the service can be reached from this machine."""
    host, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextlib.contextmanager
def _addressed(state_dir: Path, url: str) -> Iterator[None]:
    """Leave a note where the command line finds the service."""
    note = state_dir / ADDRESS
    part = state_dir / f".{ADDRESS}.{os.getpid()}"
    part.write_bytes(orjson.dumps({"url": url, "pid": os.getpid()}))
    part.replace(note)
    try:
        yield
    finally:
        note.unlink(missing_ok=True)
