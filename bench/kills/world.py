"""One state folder, the real service on it, and how each of its three processes is found and killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

from adapters.manifest import Manifest, adapter_digest, adapter_name, write_manifest
from adapters.model import folder_identity
from agent.engine.check import matrix_shapes, write_adapter
from agent.engine.supervisor import free_port
from bench.kills.engine import DIRECT, shadow

ROOT = Path(__file__).resolve().parents[2]
READY_S = 120.0  # seconds a start may take on a busy machine
LOOK_S = 0.02  # seconds between two looks for what another process brings about
PLANTED = 2  # adapters made beforehand, so that there is something to swap between
SETTINGS: dict[str, Any] = {
    "heldout_share": 0.3,
    "schedule": {"enabled": False},
    "limits": {"requests_per_minute": 1e9, "burst": 1_000_000, "concurrent": 10_000, "tokens_per_day": 10**12},
    # Crashes are forgotten after half a second: a killed engine is restarted at once, however often.
    "engine": {"probe_s": 0.2, "restart_backoff_s": 0.05, "restart_window_s": 0.5, "timeout_s": 30.0},
    "memory": {"journal_mib": 0.5},  # small, so that segments are rotated and removed all the time
    "curate": {"single_user": True, "max_lessons": 40},
    "promote": {"max_questions": 24, "max_anchor_drift": 10.0},
    "calibration": {"min_audits": 10},
    "trust": {"keep_adapters": 2},
    "train": {"rank": 4, "alpha": 8, "epochs": 6, "batch": 8, "nice": 0, "threads": 1, "device": "cpu"},
    "skills": [
        {
            "name": "sums",
            "pattern": r"^What is \d+ \+ \d+\?$",
            "answer_type": "number",
            "direct": DIRECT,
            "agreement": {"max_samples": 4},
        }
    ],
}


class World:
    """What is killed, and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.state_dir = folder, folder / "state"
        self.port = free_port()  # the same after every restart, so that clients find it again
        self.process: psutil.Popen | None = None
        self.base = ""

    @property
    def url(self) -> str:
        """Where the service listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def adapters_dir(self) -> Path:
        """Where the adapters lie."""
        return self.state_dir / "adapters"

    @property
    def log(self) -> Path:
        """What the service said, all lives together."""
        return self.folder / "serve.log"

    def make(self) -> None:
        """The model, the scripted engine, the settings and two adapters. About 5 seconds of processor time."""
        model = self.folder / "model"
        subprocess.run([sys.executable, "-m", "bench.kills.model", str(model)], check=True, cwd=ROOT)
        shadow(self.folder / "shadow")
        told = SETTINGS | {"model": str(model), "state_dir": str(self.state_dir), "http": {"port": self.port}}
        (self.folder / "service.yaml").write_text(yaml.safe_dump(told))
        self.base = folder_identity(model, self.folder / "cache")
        for number in range(1, PLANTED + 1):
            plant(self.adapters_dir, model, self.base, number)

    def start(self) -> None:
        """Start the service; `ready` waits for it."""
        paths = [str(self.folder / "shadow"), str(ROOT), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
        }
        line = [sys.executable, "-m", "agent", "serve", "-c", str(self.folder / "service.yaml")]
        with self.log.open("ab") as log:
            self.process = psutil.Popen(line, cwd=ROOT, env=environment, stdout=log, stderr=log)

    async def ready(self) -> None:
        """Wait until questions can be answered. Raises RuntimeError with the log's end where the service ended."""
        deadline = time.monotonic() + READY_S
        async with httpx.AsyncClient(base_url=self.url, timeout=10) as http:
            while time.monotonic() < deadline and self.alive():
                with contextlib.suppress(httpx.TransportError):
                    if (await http.get("/readyz")).status_code == 200:
                        return
                await asyncio.sleep(5 * LOOK_S)
        raise RuntimeError(f"the service is not ready:\n{self.log.read_text()[-3000:]}")

    def alive(self) -> bool:
        """Whether the service's process runs."""
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """SIGKILL to the service, as a crash would."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM, as an operator would. Returns the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return int(self.process.wait(timeout=60))

    def engine(self) -> psutil.Process | None:
        """The engine's process, as its pid file names it; None while there is none."""
        try:
            found = psutil.Process(json.loads((self.state_dir / "engine.pid").read_text())["pid"])
            return found if found.status() != psutil.STATUS_ZOMBIE else None
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
            return None

    def trainer(self) -> psutil.Process | None:
        """The trainer's process; None while there is none."""
        assert self.process is not None
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in self.process.children():
                with contextlib.suppress(psutil.NoSuchProcess):
                    if "adapters.train" in child.cmdline():
                        return child
        return None


def plant(adapters: Path, model: Path, base: str, number: int) -> None:
    """A random adapter with a manifest, which the service adopts at its start."""
    making = adapters / f"making-{number}"
    write_adapter(making, matrix_shapes(model), seed=number, rank=4)
    digest = adapter_digest(making)
    name = adapter_name(number, digest)
    manifest = Manifest(
        name=name, number=number, base=base, digest=digest, lessons_digest="-" * 64, n_lessons=0, n_anchors=0,
        settings={}, loss=0.0, train_s=0.0, created_at=time.time(), seed=number, lessons_s=0.0, peak_mib=0.0,
    )  # fmt: skip
    write_manifest(making, manifest)
    making.rename(adapters / name)
