"""The daemon as a child process: started, waited for, and always ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
ADDRESS = "service.json"  # the daemon writes it into its state folder
STARTING = "starting"


class DemoFailed(Exception):
    """The demonstration cannot go on; the message says why and where to look."""


class Service:
    """`python -m agent serve` on a state folder of its own."""

    def __init__(self, config: Path, state_dir: Path, engine_url: str | None = None) -> None:
        self.config, self.state_dir, self.engine_url = config, state_dir, engine_url
        self.log = state_dir / "daemon.log"
        self.url = ""  # "http://127.0.0.1:port", once it listens
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Service:
        self.state_dir.mkdir(parents=True, exist_ok=True)
        (self.state_dir / ADDRESS).unlink(missing_ok=True)
        command = [sys.executable, "-m", "agent", "serve", "--config", str(self.config)]
        command += ["--state-dir", str(self.state_dir)]
        if self.engine_url:
            command += ["--engine-url", self.engine_url]
        with self.log.open("wb") as out:
            # A group of its own: Ctrl-C reaches the demo alone, which then ends the daemon in order.
            self._child = subprocess.Popen(
                command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self, patience_s: float = 60.0) -> None:
        """End the daemon and its engine: asked first, forced when `patience_s` seconds have passed."""
        child = self._child
        if child is None or child.poll() is not None:
            return
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(patience_s)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()

    def missing(self) -> str | None:
        """What keeps the service from answering, in its own words; None: nothing. Raises DemoFailed: it ended."""
        self.must_live()
        if not self.url and not self._find_address():
            return STARTING
        try:
            self.call("/readyz", timeout_s=5.0)
        except urllib.error.HTTPError as error:
            return "; ".join(json.load(error).get("missing", ())) if error.code == 503 else str(error)
        except (OSError, ValueError):
            return STARTING
        return None

    def must_live(self) -> None:
        """Raises DemoFailed with the log's end when the daemon is gone."""
        code = None if self._child is None else self._child.poll()
        if code is not None:
            raise DemoFailed(f"the daemon ended with code {code}\n{self.last_lines()}")

    def last_lines(self, n: int = 25) -> str:
        """The end of the daemon's log, with its place."""
        text = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join([f"last lines of {self.log}:", *text[-n:]])

    def call(self, path: str, body: dict[str, Any] | None = None, timeout_s: float = 30.0) -> Any:
        """JSON from the operator's API: GET, or POST where there is a body. Raises OSError."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            return json.load(answer)

    def _find_address(self) -> bool:
        try:
            told = json.loads((self.state_dir / ADDRESS).read_text())
        except (OSError, ValueError):
            return False  # not there, or half written
        self.url = str(told["url"])
        return True
