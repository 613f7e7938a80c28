"""A base model as a folder for vLLM and transformers, from a hub name, a folder, a GGUF file or a built-in.

`python -m adapters.model NAME [--json]` gets one and prints where it lies. A GGUF file is converted once, in
a process of its own (torch never enters the daemon), into the user's cache, where every clone finds it.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from adapters.fetch import BUILTIN, Progress, fetch, sha256_of
from memory.errors import BadConfig, Damaged, SecondNatureError, Unavailable

MADE = "secondnature.json"  # written last into a converted folder: a folder without it does not exist


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model that is ready to be served and trained on."""

    path: str  # folder with config.json, the weights and the tokenizer
    identity: str  # "sha256:" + hex over the weights' source; the same however it was got
    source: str  # "builtin", "gguf", "folder" or "hub"
    name: str  # what was asked for


def quiet(_what: str, _share: float | None) -> None:
    """Progress that nobody watches."""


def default_cache() -> Path:
    """Where models are kept for every clone of the user's: $XDG_CACHE_HOME or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "secondnature" / "models"


def get_model(
    spec: str, cache_dir: Path | None = None, progress: Progress = quiet, *, hub: str | None = None
) -> ModelFolder:
    """The folder of a model, got and converted if need be. Blocks for minutes the first time.

    `spec`: a built-in name (adapters.fetch.BUILTIN), a folder, a GGUF file, or a hub name "owner/name".
    `hub`: address of the hub; None takes $HF_ENDPOINT or the public one, "" (or HF_HUB_OFFLINE=1) none.
    Raises BadConfig (no such thing), Damaged (wrong checksum, unreadable), Unavailable (no hub, no index).
    """
    cache = cache_dir or default_cache()
    address = _hub_address() if hub is None else hub
    path = Path(spec).expanduser()
    if spec.lower() in BUILTIN:
        return _builtin(spec.lower(), cache, progress, address)
    if path.is_dir():
        return ModelFolder(str(path.resolve()), folder_identity(path, cache), "folder", spec)
    if path.is_file():
        return _gguf(path, cache, progress)
    if spec.endswith(".gguf") or spec.startswith((".", "/", "~")) or not re.fullmatch(r"[\w.-]+/[\w.-]+", spec):
        raise BadConfig(
            f"there is no model {spec!r}: it is neither a folder, a GGUF file nor a hub name (owner/name); "
            f"built in are {', '.join(BUILTIN)}",
            param="model",
        )
    return _from_hub(spec, cache, progress, address)


def _hub_address() -> str:
    offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
    if offline:
        return ""
    from huggingface_hub.constants import ENDPOINT  # the library's own, $HF_ENDPOINT included

    return str(ENDPOINT)


def _builtin(name: str, cache: Path, progress: Progress, hub: str) -> ModelFolder:
    model = BUILTIN[name]
    folder = cache / f"{name}-{model.sha256[:12]}"
    with _locked(cache, folder.name, progress):
        if not _made(folder):
            downloads = cache / f".{folder.name}.download"
            gguf = fetch(model, downloads, progress, hub)
            _convert(gguf, folder, f"sha256:{model.sha256}", progress)
            shutil.rmtree(downloads)
    return ModelFolder(str(folder), f"sha256:{model.sha256}", "builtin", name)


def _gguf(path: Path, cache: Path, progress: Progress) -> ModelFolder:
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise BadConfig(f"{path} is no GGUF file; give a model folder or a .gguf file", param="model")
    progress(f"reading {path.name}", None)
    digest = sha256_of(path)
    folder = cache / f"{path.stem}-{digest[:12]}"
    with _locked(cache, folder.name, progress):
        if not _made(folder):
            _convert(path, folder, f"sha256:{digest}", progress)
    return ModelFolder(str(folder), f"sha256:{digest}", "gguf", str(path))


def _from_hub(spec: str, cache: Path, progress: Progress, hub: str) -> ModelFolder:
    progress(f"getting {spec} from the hub", None)
    from huggingface_hub import snapshot_download

    wanted = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model"]  # no code, no pickles
    try:
        found = snapshot_download(
            spec, allow_patterns=wanted, endpoint=hub or None, local_files_only=not hub, etag_timeout=4
        )
    except Exception as error:  # the library's errors share no base; the cause goes into the message
        raise Unavailable(
            f"{spec} could not be had from the hub ({type(error).__name__}). Check the name and the "
            f"network, or set model to a folder, a GGUF file or one of {', '.join(BUILTIN)}"
        ) from error
    return ModelFolder(str(found), folder_identity(Path(found), cache), "hub", spec)


@contextmanager
def _locked(cache: Path, name: str, progress: Progress) -> Iterator[None]:
    """One process at a time makes a model; the others wait for it. The lock dies with its process."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f".{name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(f"waiting for another process that makes {name}", None)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _made(folder: Path) -> bool:
    """Whether a converted folder is whole: every file has the size it was written with."""
    try:
        sizes = json.loads((folder / MADE).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError):
        return False
    return all((folder / n).is_file() and (folder / n).stat().st_size == size for n, size in sizes.items())


def _convert(gguf: Path, folder: Path, identity: str, progress: Progress) -> None:
    progress("converting the model (once, about a minute)", None)
    making = folder.with_name(f".{folder.name}.making")
    shutil.rmtree(making, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "adapters.model", "--convert", str(gguf), str(making)]
    here = str(Path(__file__).resolve().parent.parent)
    environment = {**os.environ, "PYTHONPATH": here, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        shutil.rmtree(making, ignore_errors=True)
        last = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
        raise Damaged(
            f"{gguf.name} could not be converted: {last}. It needs the packages of the train extra, about "
            "3 times the model's size in memory, and an architecture that transformers reads from GGUF"
        )
    sizes = {path.name: path.stat().st_size for path in making.iterdir() if path.is_file()}
    (making / MADE).write_text(json.dumps({"identity": identity, "files": sizes}), encoding="utf-8")
    making.rename(folder)
    progress("the model is ready", 1.0)


def convert(gguf: Path, folder: Path) -> None:
    """Write a GGUF file as a bfloat16 folder. Imports torch; run it in a process of its own."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    where, file = str(gguf.parent), gguf.name
    model = AutoModelForCausalLM.from_pretrained(
        where,
        gguf_file=file,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),  # without it the result cannot be saved
    )
    tokenizer = AutoTokenizer.from_pretrained(where, gguf_file=file)
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))


def folder_identity(folder: Path, cache: Path) -> str:
    """ "sha256:" + hex over a model folder's configuration, tokenizer and weights.

    A folder made by `get_model` says its own. Others are read once; the result is kept in the cache under the
    files' names, sizes and times. Raises BadConfig when it is no model folder.
    """
    if _made(folder):
        return str(json.loads((folder / MADE).read_text(encoding="utf-8"))["identity"])
    weights = sorted(folder.glob("*.safetensors"))
    if not (folder / "config.json").is_file() or not weights:
        raise BadConfig(
            f"{folder} is no model folder: it needs config.json and *.safetensors",
            param="model",
        )
    parts = [p for n in ("config.json", "tokenizer.json", "chat_template.jinja") if (p := folder / n).is_file()]
    parts += weights
    stats = [(str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns) for p in parts]
    note = cache / ".identities" / hashlib.sha256(json.dumps(stats).encode()).hexdigest()
    if note.is_file():
        return note.read_text(encoding="utf-8")
    total = hashlib.sha256()
    for path in parts:
        total.update(f"{path.name}\0{sha256_of(path)}\0".encode())
    identity = f"sha256:{total.hexdigest()}"
    _keep(note, identity)
    return identity


def _keep(note: Path, identity: str) -> None:
    note.parent.mkdir(parents=True, exist_ok=True)
    part = note.with_suffix(f".{os.getpid()}")
    part.write_text(identity, encoding="utf-8")
    part.replace(note)


def _print_progress(what: str, share: float | None) -> None:
    if not sys.stderr.isatty():
        if share is None or share == 0:
            print(what, file=sys.stderr, flush=True)
        return
    line = what if share is None else f"{what} {100 * share:3.0f} %"
    print(f"\r{line:<78}", end="\n" if share in (None, 1) else "", file=sys.stderr, flush=True)


def main(arguments: list[str]) -> int:
    """`NAME [--cache FOLDER] [--json]`. Returns the exit code: 0 got, 1 not, with a sentence."""
    parser = argparse.ArgumentParser(prog="python -m adapters.model", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name", nargs="?", help=f"folder, GGUF file, hub name, or {', '.join(BUILTIN)}")
    parser.add_argument("--cache", type=Path, help=f"where models are kept (default {default_cache()})")
    parser.add_argument("--json", action="store_true", help="print path, identity and source as JSON")
    parser.add_argument("--convert", nargs=2, type=Path, metavar=("GGUF", "FOLDER"), help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.convert:
        convert(*chosen.convert)
        return 0
    if not chosen.name:
        parser.error("name a model")
    try:
        model = get_model(chosen.name, chosen.cache, _print_progress)
    except SecondNatureError as error:
        print(error.message, file=sys.stderr)
        return 1
    print(json.dumps(asdict(model)) if chosen.json else model.path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
