"""The gateway beside LiteLLM's proxy, both above an engine that answers at once: requests per second and latency.

    python -m bench.proxies [--connections 1 64 512] [--rounds 3] [--seconds 4] [--json]

LiteLLM is installed into an environment of its own in the user's cache at the first run (`pip install
litellm[proxy]`). Both proxies are one process, log warnings alone, and ask the same mock engine (bench/mock_engine.py);
the gateway recognises, drafts with log-probabilities, routes and remembers every answer, the proxy passes it on. They
are loaded in turn, and the mock itself once per round, so that a drift of the machine hits all alike. Load, mock and
proxy share the machine's processors: next to requests per second stands the processor time of each answer.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import TypeVar

import httpx
import uvloop
import yaml
from rich.console import Console
from rich.table import Table

from agent.engine.child import die_with_parent
from bench.load import Burst, Target, burst, target
from bench.served import SETTINGS, running

K = TypeVar("K")
Loading = Callable[[float], Awaitable[Burst]]  # loads something for so many seconds
READY_S = 120.0
LITELLM_WANTED = "litellm[proxy]==1.106.2"
LITELLM = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "secondnature" / "bench" / "litellm"
MESSAGES = [{"role": "user", "content": "What is 12 + 30? Say the number only."}]
ASKED = {"messages": MESSAGES, "max_tokens": 8, "temperature": 0}


@dataclass(frozen=True)
class Row:
    """One server at one number of connections, medians over the rounds."""

    what: str
    connections: int
    requests: int
    failed: int
    per_s: float  # answers per second
    p50_ms: float
    p99_ms: float
    cpu_ms: float  # processor time of the server per answer


@contextlib.contextmanager
def mocked(port: int, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """The mock engine on a loopback port."""
    line = [sys.executable, "-m", "bench.mock_engine", "--port", str(port), *options]
    with listening(line, f"{local(port)}/health") as one:
        yield one


@contextlib.contextmanager
def litellm(port: int, models: Mapping[str, Sequence[str]]) -> Iterator[subprocess.Popen[bytes]]:
    """LiteLLM's proxy in one process. `models`: each name it answers to, and the engines that its router has for it."""
    with tempfile.TemporaryDirectory(prefix="secondnature-bench-") as folder:
        settings = {
            "model_list": [
                {
                    "model_name": name,
                    "litellm_params": {"model": "openai/base", "api_base": f"{url}/v1", "api_key": "any"},
                }
                for name, urls in models.items()
                for url in urls
            ],
            "litellm_settings": {"set_verbose": False, "telemetry": False},
        }
        (Path(folder) / "config.yaml").write_text(yaml.safe_dump(settings))
        line = [str(LITELLM / "bin" / "litellm"), "--config", f"{folder}/config.yaml", "--host", "127.0.0.1"]
        quiet = {"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION"}
        quiet["LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY"] = "true"  # as the gateway has no keys here
        with listening([*line, "--port", str(port)], f"{local(port)}/health/liveliness", quiet) as one:
            yield one


def install_litellm() -> str | None:
    """Its version, installed where it was not; None where it cannot be."""
    program = LITELLM / "bin" / "litellm"
    if not program.exists():
        print(f"installing {LITELLM_WANTED} into {LITELLM} (once)", file=sys.stderr)
        made = subprocess.run([sys.executable, "-m", "venv", str(LITELLM)], check=False).returncode == 0
        pip = [str(LITELLM / "bin" / "pip"), "install", "-q", "--disable-pip-version-check", LITELLM_WANTED]
        if not made or subprocess.run(pip, check=False).returncode:
            return None
    said = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=False).stdout
    return said.strip().rpartition(" ")[2] or None


async def compare(targets: list[Target], levels: list[int], rounds: int, seconds: float) -> list[Row]:
    """Every server at every number of connections, in turn."""
    rows = []
    for level in levels:
        found = await in_turn({one.name: partial(burst, one, level) for one in targets}, rounds, seconds)
        rows += [row(name, level, bursts) for name, bursts in found.items()]
    return rows


async def in_turn(loads: Mapping[K, Loading], rounds: int, seconds: float) -> dict[K, list[Burst]]:
    """Each load once a round, so that a drift of the machine hits all alike."""
    found: dict[K, list[Burst]] = {name: [] for name in loads}
    for load in loads.values():
        await load(min(1.0, seconds))  # warm
    for _, name in itertools.product(range(rounds), loads):
        found[name].append(await loads[name](seconds))
    return found


def row(what: str, level: int, bursts: Sequence[Burst]) -> Row:
    """Medians over the rounds."""
    return Row(
        what=what,
        connections=level,
        requests=sum(len(b.latencies) for b in bursts),
        failed=sum(b.failed for b in bursts),
        per_s=median(b.per_s for b in bursts),
        p50_ms=median(b.percentile(50) for b in bursts),
        p99_ms=median(b.percentile(99) for b in bursts),
        cpu_ms=median(b.cpu_ms for b in bursts),
    )


@contextlib.contextmanager
def listening(
    line: list[str], probe: str, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A server process, waited for; ends with this one at the latest. Raises RuntimeError where it does not come up."""
    with tempfile.TemporaryFile() as log:
        env = os.environ | (environment or {})
        one = subprocess.Popen(line, stdout=log, stderr=log, env=env, preexec_fn=die_with_parent)
        try:
            deadline = time.monotonic() + READY_S
            while not _answers(probe):
                if one.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise RuntimeError(f"{line[0]} did not come up: {log.read()[-2000:].decode(errors='replace')}")
                time.sleep(0.1)
            yield one
        finally:
            one.terminate()
            one.wait(timeout=30)


def _answers(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(url, timeout=5).status_code == 200
    return False


def local(port: int) -> str:
    """A loopback port's address."""
    return f"http://127.0.0.1:{port}"


def show(rows: list[Row], version: str | None) -> None:
    """One table."""
    heads = ("server", "connections", "answers", "failed", "answers/s", "p50 ms", "p99 ms", "CPU ms per answer")
    table = Table(*heads, "to LiteLLM's rate")
    peers = {r.connections: r.per_s for r in rows if r.what == "LiteLLM"}
    for r in rows:
        ratio = f"{r.per_s / peers[r.connections]:.1f}" if peers.get(r.connections) else ""
        numbers = (f"{r.per_s:.0f}", f"{r.p50_ms:.2f}", f"{r.p99_ms:.2f}", f"{r.cpu_ms:.3f}", ratio)
        table.add_row(r.what, *map(str, (r.connections, r.requests, r.failed)), *numbers)
    console = Console(width=120)
    console.print(table)
    console.print(f"LiteLLM {version}" if version else "LiteLLM could not be installed here: not measured")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m bench.proxies", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 64, 512])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each burst")
    parser.add_argument("--port", type=int, default=8930, help="of the mock; the proxy takes the next one")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    version, engine = install_litellm(), local(given.port)
    with contextlib.ExitStack() as stack:
        mock = stack.enter_context(mocked(given.port))
        ours = stack.enter_context(running(SETTINGS | {"engine": {"urls": [engine]}}))
        path = "/v1/chat/completions"
        body = ASKED | {"model": "secondnature", "mode": "system1"}
        targets = [
            target("mock engine alone", engine + path, ASKED | {"model": "base"}, pids=[mock.pid]),
            target("gateway", ours.url + path, body, pids=[ours.process.pid]),
        ]
        if version:
            proxy = stack.enter_context(litellm(given.port + 1, {"base": [engine]}))
            url = local(given.port + 1) + path
            targets.append(target("LiteLLM", url, ASKED | {"model": "base"}, pids=[proxy.pid]))
        rows = uvloop.run(compare(targets, given.connections, given.rounds, given.seconds))
    if given.json:
        print(json.dumps({"litellm": version, "rows": [asdict(row) for row in rows]}, indent=1))
    else:
        show(rows, version)


if __name__ == "__main__":
    main()
