"""The last file of an adapter folder: what was made, from what, and a digest to check it by. No torch.

A folder without `manifest.json` does not exist: the trainer writes everything else first, in a temporary
folder, and renames it when the manifest is on the disk.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from memory.errors import Damaged

MANIFEST = "manifest.json"
WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
SCHEMA = 1  # version of the manifest's fields


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an adapter folder holds. Written once, never changed."""

    name: str  # "sn-0007-3f9a1c"
    number: int  # 7; never given twice
    base: str  # identity of the base model, "sha256:..."
    digest: str  # sha256 hex over weights and configuration
    lessons_digest: str  # sha256 hex over the job's data, whatever its order
    n_lessons: int
    n_anchors: int
    settings: Mapping[str, Any]  # the training settings as they were used
    loss: float  # nats per answer token, weighted mean of the last epoch
    train_s: float  # wall seconds, loading included
    created_at: float  # unix seconds
    seed: int
    lessons_s: float  # examples per second while stepping
    peak_mib: float  # resident memory at its highest, MiB
    skills: Mapping[str, int] = field(default_factory=dict)  # lessons per skill
    dropped: Mapping[str, int] = field(default_factory=dict)  # examples left out, by reason
    versions: Mapping[str, str] = field(default_factory=dict)  # torch, transformers, peft
    schema: int = SCHEMA


def adapter_name(number: int, digest: str) -> str:
    """`sn-0007-3f9a1c`: the number orders, the digest's head tells two of the same number apart."""
    return f"sn-{number:04d}-{digest[:6]}"


def adapter_digest(folder: Path) -> str:
    """sha256 hex over the names, sizes and bytes of the weights and the configuration.

    Raises Damaged when one of the two is missing.
    """
    total = hashlib.sha256()
    for name in (CONFIG, WEIGHTS):
        path = folder / name
        if not path.is_file():
            raise Damaged(f"{path} is missing: the adapter is damaged; delete the folder and learn again")
        total.update(f"{name}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                total.update(block)
    return total.hexdigest()


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json` so that it is either whole on the disk or absent."""
    part = folder / f".{MANIFEST}.part"
    with part.open("w", encoding="utf-8") as file:
        json.dump(asdict(manifest), file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    part.replace(folder / MANIFEST)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a folder, not checked against its files.

    Raises Damaged when it is missing, is no JSON, or lacks a field.
    """
    path = folder / MANIFEST
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        known = {f.name for f in fields(Manifest)}
        manifest = Manifest(**{key: value for key, value in row.items() if key in known})
    except FileNotFoundError:
        raise Damaged(f"{path} is missing: the adapter was never finished; delete the folder") from None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise Damaged(f"{path} cannot be read ({error}); delete the folder and learn again") from error
    _require_shape(path, manifest)
    return manifest


def _require_shape(path: Path, manifest: Manifest) -> None:
    strings = (manifest.name, manifest.base, manifest.digest, manifest.lessons_digest)
    counts = (manifest.number, manifest.n_lessons, manifest.n_anchors)
    if not all(isinstance(text, str) and text for text in strings) or not all(
        isinstance(count, int) and count >= 0 for count in counts
    ):
        raise Damaged(f"{path} holds wrong values; delete the folder and learn again")


def verify(folder: Path, base: str | None = None) -> Manifest:
    """The manifest of a whole, unchanged adapter folder.

    `base`: identity of the model it will be used with; None skips that check.
    Raises Damaged: a file is missing, the digest or the folder's name differs, or it is for another base.
    """
    manifest = read_manifest(folder)
    digest = adapter_digest(folder)
    if digest != manifest.digest:
        raise Damaged(
            f"{folder} has digest {digest[:12]}, its manifest says {manifest.digest[:12]}: "
            "its files were changed; roll back to another adapter and delete this one"
        )
    if folder.name != manifest.name:
        raise Damaged(f"{folder} holds the adapter {manifest.name}; give the folder its own name back")
    if base is not None and base != manifest.base:
        raise Damaged(
            f"{manifest.name} was made for the base {manifest.base[:19]}, the engine runs {base[:19]}; "
            "run the base it was made for, or learn a new adapter"
        )
    return manifest
