"""Finding and asking the running service."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from agent.config import ADDRESS, Config, load
from memory.errors import BadInput, NotFound, SecondNatureError, Unavailable
from memory.store import Memory

if TYPE_CHECKING:
    import httpx

PATIENCE_S = 24 * 3600.0  # a night may take hours


@dataclass(frozen=True)
class Service:
    """A running service."""

    url: str
    key: str | None = None

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None, **query: Any) -> Any:
        """The JSON answer. Raises SecondNatureError with the service's own sentence."""
        import httpx  # a tenth of a second, which `serve` has no use for

        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        params = {name: value for name, value in query.items() if value is not None}
        try:
            said = httpx.request(
                method,
                self.url + path,
                json=body,
                params=params,
                headers=headers,
                timeout=httpx.Timeout(PATIENCE_S, connect=5),
            )
        except httpx.TransportError as error:
            raise Unavailable(
                f"no service answers at {self.url} ({error}); start one with `secondnature serve`"
            ) from None
        if said.status_code >= 400:
            raise _fault(said)
        return orjson.loads(said.content)


def _fault(said: httpx.Response) -> SecondNatureError:
    try:
        return BadInput(str(said.json()["error"]["message"]))
    except (ValueError, KeyError, TypeError):
        return BadInput(f"{said.request.method} {said.request.url.path} was answered {said.status_code}")


def configured(config: Path | None, state_dir: Path | None, **overrides: Any) -> Config:
    """service.yaml with the command line's overrides. Raises BadConfig."""
    given = {key.replace("__", "."): value for key, value in overrides.items() if value is not None}
    return load(config, given | ({"state_dir": str(state_dir)} if state_dir else {}))


def find(config: Path | None, state_dir: Path | None, url: str | None, key: str | None) -> Service:
    """The service named by --url, else the one running on the state folder. Raises NotFound with what to do."""
    if url:
        return Service(url.rstrip("/"), key)
    folder = Path(configured(config, state_dir).state_dir)
    running = address(folder)
    if running is None:
        raise NotFound(f"no service runs on {folder}; start one with `secondnature serve`, or give --url")
    return Service(running, key)


def address(state_dir: Path) -> str | None:
    """The URL of the service that runs on a state folder, or None."""
    try:
        note = orjson.loads((state_dir / ADDRESS).read_bytes())
        os.kill(int(note["pid"]), 0)
        return str(note["url"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def memory_of(config: Path | None, state_dir: Path | None) -> Memory:
    """The memory for reading, whether or not a service runs. Raises NotFound where there is none."""
    return Memory.open(Path(configured(config, state_dir).state_dir), read_only=True)
