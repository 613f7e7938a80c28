"""A service of its own for a bench: a temporary state folder, random or taught adapters, the real vLLM below it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

from adapters.dataset import write_data
from adapters.job import Job, TrainSettings, write_job
from adapters.manifest import MANIFEST, Manifest, adapter_digest, adapter_name, read_manifest, write_manifest
from adapters.model import ModelFolder, get_model
from agent.engine.check import matrix_shapes, write_adapter
from agent.engine.child import die_with_parent
from memory.records import Lesson

MODEL = "qwen2.5-coder-0.5b-instruct"
BY_HEART = 12  # passes over a few short lessons after which an adapter says them word by word
READY_S = 900.0  # seconds an engine may take on a busy machine
SETTINGS: dict[str, Any] = {
    "model": MODEL,
    "http": {"port": 0},
    "limits": {"requests_per_minute": 1e6, "burst": 100_000, "concurrent": 10_000, "tokens_per_day": 10**12},
    "engine": {"context_tokens": 1024, "kv_cache_gib": 1.0},
    "audit": {"floor": 0.0, "band": 0.0, "new_adapter": 0.0},
    "schedule": {"enabled": False},
}


def rotated(names: Iterable[str], turn: int) -> list[str]:
    """In another order each turn: no way of asking is always the first, or always after the same one."""
    each = list(names)
    begin = turn % len(each)
    return each[begin:] + each[:begin]


@dataclass(frozen=True)
class Running:
    """A running service."""

    url: str
    process: subprocess.Popen[bytes]


@dataclass(frozen=True)
class Served:
    """A running service and the engine below it."""

    url: str
    engine_url: str
    engine_key: str
    adapters: tuple[str, ...]  # registered as candidates
    process: subprocess.Popen[bytes]


@contextlib.contextmanager
def served(
    adapters: int = 1, taught: Sequence[Sequence[Lesson]] = (), copies: int = 0, **more: Any
) -> Iterator[Served]:
    """A service with an engine of its own and, in this order, `adapters` random adapters of rank 8, one trained on each
    of `taught`, and `copies` of those in turn under names of their own, which no prefix cache knows. Raises
    RuntimeError with the log's end where it does not come up, CalledProcessError where the training fails."""
    folder = Path(tempfile.mkdtemp(prefix="secondnature-bench-"))
    place, model = folder / "state" / "adapters", get_model(MODEL)
    try:
        names = [plant_adapter(place, model, n + 1) for n in range(adapters)]
        made = [teach_adapter(place, model, adapters + n + 1, lessons) for n, lessons in enumerate(taught)]
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    names += made
    names += [copy_adapter(place, made[n % len(made)], len(names) + n + 1) for n in range(copies if made else 0)]
    with running(SETTINGS | more, folder) as one:
        yield Served(one.url, *engine_of(one.process), tuple(names), one.process)


def engine_of(service: subprocess.Popen[bytes]) -> tuple[str, str]:
    """(address, key) of the engine that a service started."""
    engine = next(c for c in psutil.Process(service.pid).children(recursive=True) if is_server(c))
    line = engine.cmdline()
    return f"http://127.0.0.1:{line[line.index('--port') + 1]}", engine.environ()["VLLM_API_KEY"]


@contextlib.contextmanager
def running(settings: dict[str, Any], folder: Path | None = None) -> Iterator[Running]:
    """Start a service, wait until it answers, end it and delete its folder. Raises RuntimeError like `served`."""
    folder = folder or Path(tempfile.mkdtemp(prefix="secondnature-bench-"))
    state = folder / "state"
    (folder / "service.yaml").write_text(yaml.safe_dump(settings | {"state_dir": str(state)}))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "agent", "serve", "-c", str(folder / "service.yaml")],
            stdout=log,
            stderr=log,
            preexec_fn=die_with_parent,  # a bench that is killed leaves no engine behind
        )
    try:
        yield Running(wait_ready(state, process, folder / "log"), process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=120)
        shutil.rmtree(folder, ignore_errors=True)


def plant_adapter(adapters: Path, model: ModelFolder, number: int = 1) -> str:
    """A random adapter with a manifest, which the service adopts at its start."""
    making = adapters / "making"
    write_adapter(making, matrix_shapes(Path(model.path)), seed=number, rank=8)
    digest = adapter_digest(making)
    name = adapter_name(number, digest)
    manifest = Manifest(
        name=name, number=number, base=model.identity, digest=digest, lessons_digest="-" * 64, n_lessons=0, n_anchors=0,
        settings={}, loss=0.0, train_s=0.0, created_at=time.time(), seed=1, lessons_s=0.0, peak_mib=0.0,
    )  # fmt: skip
    write_manifest(making, manifest)
    making.rename(adapters / name)
    return name


def teach_adapter(adapters: Path, model: ModelFolder, number: int, lessons: Sequence[Lesson]) -> str:
    """An adapter that knows a few lessons by heart, made by the trainer. Raises CalledProcessError where it fails."""
    with tempfile.TemporaryDirectory(prefix="secondnature-bench-") as folder:
        data, job = Path(folder) / "lessons.jsonl", Path(folder) / "job.json"
        write_data(data, lessons)
        settings = TrainSettings(rank=8, alpha=16, epochs=BY_HEART, batch=4, learning_rate=1e-3, nice=0)
        write_job(job, Job(number=number, base=model.path, base_identity=model.identity, data=str(data),
                           out=str(adapters), seed=number, train=settings))  # fmt: skip
        command = [sys.executable, "-m", "adapters.train", str(job)]
        told = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout.splitlines()
    return str(json.loads(told[-1])["name"])


def copy_adapter(adapters: Path, name: str, number: int) -> str:
    """The same weights under another name."""
    manifest = read_manifest(adapters / name)
    manifest = replace(manifest, name=adapter_name(number, manifest.digest), number=number)
    shutil.copytree(adapters / name, adapters / "making", copy_function=os.link)
    (adapters / "making" / MANIFEST).unlink()  # shared with the other's until now
    write_manifest(adapters / "making", manifest)
    (adapters / "making").rename(adapters / manifest.name)
    return manifest.name


def is_server(process: psutil.Process) -> bool:
    """Whether it is the vLLM server itself (and not the small process that watches it)."""
    line = process.cmdline()
    return "vllm.entrypoints.openai.api_server" in line and "agent.engine.child" not in line


def wait_ready(state: Path, process: subprocess.Popen[bytes], log: Path) -> str:
    """The service's URL, once /readyz says so."""
    return wait_listening(state, process.poll, log, "/readyz", every_s=0.2)


def wait_listening(state: Path, ended: Callable[[], int | None], log: Path, path: str, every_s: float) -> str:
    """The service's URL, once `path` answers 200. Raises RuntimeError where it ends or READY_S pass before."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and ended() is None:
        with contextlib.suppress(OSError, ValueError, httpx.HTTPError):
            url = str(json.loads((state / "service.json").read_text())["url"])
            if httpx.get(f"{url}{path}", timeout=10).status_code == 200:
                return url
        time.sleep(every_s)
    raise RuntimeError(f"the service did not come up:\n{log.read_text()[-2000:]}")
