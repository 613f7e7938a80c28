"""How long a start takes: imports in a fresh interpreter, and the daemon until it answers, its engine elsewhere.

    python -m bench.start [--repeats 7] [--engine] [--json]

The daemon is told that its engine is at an address where nobody listens, so that what is timed is its own start: the
interpreter, imports, the model's folder (in the cache already), the memory, the routes, the port. Medians; a bare
interpreter and one that imports FastAPI, uvicorn and numpy stand beside them as what cannot be saved.
`--engine`: also, once each, the service until /readyz, its engine started by itself and checked, beside vLLM alone with
the same arguments until it is up.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import httpx
import psutil
import yaml

from adapters.model import get_model
from agent.engine import launch
from agent.engine.child import die_with_parent
from agent.engine.settings import EngineSettings
from agent.engine.supervisor import free_port
from bench import served
from bench.served import MODEL, wait_listening

NOBODY = "http://127.0.0.1:9"
SETTINGS = {"model": MODEL, "http": {"port": 0}, "engine": {"urls": [NOBODY]}, "schedule": {"enabled": False}}
IMPORTS = {
    "a bare interpreter": "pass",
    "the frameworks alone (fastapi, uvicorn, numpy)": "import fastapi, uvicorn, numpy",
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


def engines() -> list[Row]:
    """The service until its engine answers, and vLLM alone with the same arguments until it does; once each."""
    began = time.perf_counter()
    with served.running(served.SETTINGS) as one:
        ours = time.perf_counter() - began
        service = psutil.Process(one.process.pid)
        cpu = sum(spent(process) for process in (service, *service.children(recursive=True)))
    return [
        Row("the service until /readyz, engine checked", ours, cpu),
        Row("vLLM alone until it is up, same arguments", *vllm_alone()),
    ]


def vllm_alone() -> tuple[float, float]:
    """(wall, processor) seconds. Raises RuntimeError where it does not come up."""
    settings, device = EngineSettings.model_validate(served.SETTINGS["engine"]), launch.find_device(EngineSettings())
    port, began = free_port(), time.perf_counter()
    line = launch.command(settings, Path(get_model(MODEL).path), port, device)
    env = launch.environment(settings, secrets.token_urlsafe(), device)
    with tempfile.TemporaryFile() as log:
        process = psutil.Popen(line, env=env, stdout=log, stderr=log, preexec_fn=die_with_parent)
        try:
            while process.poll() is None and time.perf_counter() - began < served.READY_S:
                with contextlib.suppress(httpx.HTTPError):
                    if httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200:
                        took = time.perf_counter() - began
                        return took, sum(spent(one) for one in (process, *process.children(recursive=True)))
                time.sleep(0.1)
            raise RuntimeError("vLLM did not come up")
        finally:
            process.terminate()
            process.wait(timeout=60)


def spent(process: psutil.Process) -> float:
    """Its processor seconds, those of ended children included; 0 where it has ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return float(sum(process.cpu_times()[:4]))
    return 0.0


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m bench.start", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--engine", action="store_true", help="also until the engine is ready (two minutes)")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows = measure(given.repeats) + (engines() if given.engine else [])
    if given.json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
    else:
        for row in rows:
            print(f"{row.what:58s}{row.wall_s:6.2f} s wall {row.cpu_s:6.2f} s of a processor")


if __name__ == "__main__":
    main()
