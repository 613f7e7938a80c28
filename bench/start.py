"""How long a start takes: imports in a fresh interpreter, and the daemon until it answers, its engine elsewhere.

    python -m bench.start [--repeats 7] [--json]

The daemon is told that its engine is at an address where nobody listens, so that what is timed is its own start: the
interpreter, imports, the model's folder (in the cache already), the memory, the routes, the port. Medians; a bare
interpreter and one that imports FastAPI, uvicorn, aiohttp and numpy stand beside them as what cannot be saved.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import psutil
import yaml

from bench.served import MODEL, wait_listening

NOBODY = "http://127.0.0.1:9"
SETTINGS = {"model": MODEL, "http": {"port": 0}, "engine": {"urls": [NOBODY]}, "schedule": {"enabled": False}}
IMPORTS = {
    "a bare interpreter": "pass",
    "the frameworks alone (fastapi, uvicorn, aiohttp, numpy)": "import fastapi, uvicorn, aiohttp, numpy",
    "the command line (agent.cli.commands)": "import agent.cli.commands",
    "the daemon's code (agent.serve)": "import agent.serve",
}


@dataclass(frozen=True)
class Row:
    """One thing that starts."""

    what: str
    wall_s: float
    cpu_s: float  # processor seconds, children included


def imported(code: str) -> tuple[float, float]:
    """(wall, processor) seconds of an interpreter that runs `code`."""
    started = time.perf_counter()
    process = psutil.Popen([sys.executable, "-c", f"{code}\nimport os; print(sum(os.times()[:4]))"],
                           stdout=subprocess.PIPE, text=True)  # fmt: skip
    said, _ = process.communicate()
    return time.perf_counter() - started, float(said)


def started(state: Path) -> tuple[float, float]:
    """(wall, processor) seconds from the command until the service answers /healthz."""
    settings = state.parent / "service.yaml"
    settings.write_text(yaml.safe_dump(SETTINGS | {"state_dir": str(state)}))
    with (state.parent / "log").open("wb") as log:
        began = time.perf_counter()
        line = [sys.executable, "-m", "agent", "serve", "-c", str(settings)]
        process = psutil.Popen(line, stdout=log, stderr=log)
    try:
        wait_listening(state, process.poll, state.parent / "log", "/healthz", every_s=0.005)
        return time.perf_counter() - began, sum(process.cpu_times()[:4])
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def measure(repeats: int) -> list[Row]:
    """Everything in turn, medians; the first of each is thrown away (cold files)."""
    seen: dict[str, list[tuple[float, float]]] = {}
    for _ in range(repeats + 1):
        for name, code in IMPORTS.items():
            seen.setdefault(name, []).append(imported(code))
        with tempfile.TemporaryDirectory(prefix="secondnature-bench-") as folder:
            for name in ("the daemon until it answers, in a new folder", "the daemon until it answers, again"):
                seen.setdefault(name, []).append(started(Path(folder) / "state"))
    return [Row(name, median(w for w, _ in took[1:]), median(c for _, c in took[1:])) for name, took in seen.items()]


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m bench.start", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows = measure(given.repeats)
    if given.json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
    else:
        for row in rows:
            print(f"{row.what:58s}{row.wall_s:6.2f} s wall {row.cpu_s:6.2f} s of a processor")


if __name__ == "__main__":
    main()
