"""A real service for the tests: `python -m agent serve` in a process of its own, with the real vLLM below it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import orjson
import psutil
import yaml

from record_outputs import CASES

MODEL = "qwen2.5-coder-0.5b-instruct"
PATIENCE_S = 600.0  # an engine's start on a busy machine
EXAMPLES = [
    {"question": "What is 12 + 45 + 30?", "reasoning": "12 + 45 = 57. 57 + 30 = 87.", "answer": "87"},
    {"question": "What is 81 + 17 + 66?", "reasoning": "81 + 17 = 98. 98 + 66 = 164.", "answer": "164"},
]
METHODS = {
    "direct": "direct voted",
    "cot": "cot few-shot",
    "rar": "rar two steps",
    "s2a": "s2a",
    "bsm": "bsm sum",
    "tot": "tot",
    "got": "got",
}
"""System 2 method -> the recorded case whose question and settings a skill of that name has."""
SETTINGS: dict[str, Any] = {
    "model": MODEL,
    "heldout_share": 0.3,
    "http": {"port": 0},
    "engine": {"context_tokens": 1024, "kv_cache_gib": 1.0},
    "curate": {"single_user": True},
    "schedule": {"enabled": False},
    "calibration": {"min_audits": 10},
    "train": {"epochs": 1, "nice": 0},
    "skills": [
        {
            "name": "sums",
            "pattern": r"^What is \d+ \+ \d+ \+ \d+\?$",
            "answer_type": "number",
            "direct": "Answer with the number only.",
            "max_answer_tokens": 8,
            "options": {"max_tokens": 60},
            "agreement": {"block": 4, "max_samples": 4, "train_share": 0.5},
            "examples": EXAMPLES,
        },
        *({**CASES[case]["skill"], "name": f"by-{method}", "train": False} for method, case in METHODS.items()),
    ],
}


@dataclass
class Service:
    """One state folder, and the process that serves it."""

    folder: Path
    settings: dict[str, Any] = field(default_factory=lambda: SETTINGS)
    process: subprocess.Popen[bytes] | None = None

    @property
    def state_dir(self) -> Path:
        return self.folder / "state"

    @property
    def config(self) -> Path:
        return self.folder / "service.yaml"

    @property
    def url(self) -> str:
        return str(orjson.loads((self.state_dir / "service.json").read_bytes())["url"])

    @property
    def log(self) -> str:
        return (self.folder / "serve.log").read_text()

    def start(self) -> None:
        """Start the process; returns when it listens (its engine may still be starting)."""
        self.config.write_text(yaml.safe_dump(self.settings | {"state_dir": str(self.state_dir)}))
        (self.state_dir / "service.json").unlink(missing_ok=True)
        with (self.folder / "serve.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "agent", "serve", "-c", str(self.config)], stdout=log, stderr=log
            )
        self.until(lambda: (self.state_dir / "service.json").exists(), "the service to listen")

    def until_ready(self) -> None:
        """Wait until questions can be answered."""
        self.until(lambda: httpx.get(f"{self.url}/readyz", timeout=30).status_code == 200, "the engine")

    def until(self, done: Any, what: str) -> None:
        """Wait for something that another process brings about; fails with the log when that process ends."""
        deadline = time.monotonic() + PATIENCE_S
        while not done():
            assert self.process is not None
            assert self.process.poll() is None, f"the service ended while waiting for {what}:\n{self.log[-3000:]}"
            assert time.monotonic() < deadline, f"no {what} within {PATIENCE_S} s:\n{self.log[-3000:]}"
            time.sleep(0.2)

    def kill(self) -> None:
        """kill -9, as a crash would."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM, as an operator would; returns the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=120)

    def engine(self) -> psutil.Process:
        """The running vLLM server."""
        assert self.process is not None
        found = [
            child
            for child in psutil.Process(self.process.pid).children(recursive=True)
            if "vllm.entrypoints.openai.api_server" in " ".join(child.cmdline())
            and "agent.engine.child" not in child.cmdline()
        ]
        return found[0]

    def engine_address(self) -> tuple[str, str]:
        """The engine's URL and key, which only its own processes' environment holds."""
        process = self.engine()
        line = process.cmdline()
        return f"http://127.0.0.1:{line[line.index('--port') + 1]}", process.environ()["VLLM_API_KEY"]

    def command(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`secondnature ...` on this service's configuration."""
        line = [sys.executable, "-m", "agent", *words, "-c", str(self.config)]
        return subprocess.run(line, capture_output=True, text=True, check=check, env=os.environ | {"COLUMNS": "200"})
