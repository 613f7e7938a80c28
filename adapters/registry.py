"""Keeps the adapters' folders and the registry's rows in agreement.

The folder with its manifest says what was made, the row what was decided. After a crash they may differ: a folder
that was never finished, a finished one whose row was not written, a row whose folder is gone or damaged.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from adapters.manifest import MANIFEST, Manifest, read_manifest, verify
from adapters.process import HIDDEN, is_running
from memory.errors import Conflict, Damaged
from memory.records import Adapter, AdapterStatus

UNUSABLE = (AdapterStatus.REJECTED, AdapterStatus.QUARANTINED)  # decided already; a lost folder changes nothing


class Rows(Protocol):
    """What is used of memory.store.Memory."""

    def adapters(self) -> list[Adapter]: ...

    def add_adapter(self, adapter: Adapter) -> None: ...

    def set_adapter_status(self, name: str, status: AdapterStatus, reason: str) -> None: ...

    def make_live(self, name: str | None, reason: str) -> None: ...

    def next_adapter_number(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What was found and done, each name with its sentence."""

    removed: tuple[str, ...] = ()  # unfinished folders that were deleted
    adopted: tuple[str, ...] = ()  # whole folders without a row, now candidates
    quarantined: tuple[tuple[str, str], ...] = ()  # (name, why): rows whose folder cannot be used
    unknown: tuple[tuple[str, str], ...] = ()  # (folder, why): left alone for a person to look at

    @property
    def changed(self) -> bool:
        """Whether anything was out of step."""
        return bool(self.removed or self.adopted or self.quarantined or self.unknown)


def reconcile(rows: Rows, adapters_dir: Path, base: str) -> Reconciled:
    """Bring folders and rows into agreement; called before anything is loaded. Can be repeated.

    `base`: identity of the base model that is served; adapters of another base are left as they are.
    A live adapter whose folder cannot be used is quarantined, and the bare base answers until a person or the
    next night decides.
    """
    adapters_dir.mkdir(parents=True, exist_ok=True)
    removed = _remove_unfinished(adapters_dir)
    known = {row.name: row for row in rows.adapters()}
    adopted, unknown = _adopt(rows, adapters_dir, known, base)
    return Reconciled(removed, adopted, _check_rows(rows, adapters_dir, known, base), unknown)


def _remove_unfinished(adapters_dir: Path) -> tuple[str, ...]:
    """Delete folders without a manifest, except those a trainer is still working in."""
    gone = []
    for folder in sorted(path for path in adapters_dir.iterdir() if path.is_dir()):
        unfinished = folder.name.startswith(HIDDEN) or not (folder / MANIFEST).exists()
        if unfinished and not is_running(folder.name):
            shutil.rmtree(folder)
            gone.append(folder.name)
    return tuple(gone)


def _adopt(
    rows: Rows, adapters_dir: Path, known: dict[str, Adapter], base: str
) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    adopted, unknown = [], []
    for folder in sorted(adapters_dir.glob(f"*/{MANIFEST}")):
        name = folder.parent.name
        if name in known or name.startswith(HIDDEN):
            continue
        try:
            rows.add_adapter(adapter_of(verify(folder.parent, base), "found without a row after a restart"))
            adopted.append(name)
        except (Damaged, Conflict) as error:
            unknown.append((name, error.message))
    return tuple(adopted), tuple(unknown)


def _check_rows(rows: Rows, adapters_dir: Path, known: dict[str, Adapter], base: str) -> tuple[tuple[str, str], ...]:
    """Quarantine every usable row whose folder is gone or damaged."""
    found = []
    for row in known.values():
        if row.status in UNUSABLE or row.base != base:
            continue
        why = fault_of(row, adapters_dir)
        if why is None or (row.status is AdapterStatus.RETIRED and not (adapters_dir / row.name).exists()):
            continue  # a retired adapter's folder may have been pruned
        if row.status is AdapterStatus.LIVE:
            rows.make_live(None, why)
        rows.set_adapter_status(row.name, AdapterStatus.QUARANTINED, why)
        found.append((row.name, why))
    return tuple(found)


def fault_of(row: Adapter, adapters_dir: Path) -> str | None:
    """Why an adapter's folder cannot be used; None: it can. Reads the weights to check the digest."""
    try:
        manifest = verify(adapters_dir / row.name, row.base)
    except Damaged as error:
        return error.message
    if manifest.digest != row.digest:
        return f"the folder {row.name} holds another adapter than the one that was registered"
    return None


def adapter_of(manifest: Manifest, reason: str, status: AdapterStatus = AdapterStatus.CANDIDATE) -> Adapter:
    """The row of a newly made adapter."""
    return Adapter(
        name=manifest.name,
        digest=manifest.digest,
        base=manifest.base,
        status=status,
        created_at=manifest.created_at,
        n_lessons=manifest.n_lessons,
        train_s=manifest.train_s,
        reason=reason,
    )


def next_number(rows: Rows, adapters_dir: Path) -> int:
    """The next adapter's number: above every row's and every folder's, finished or not."""
    numbers = [rows.next_adapter_number() - 1]
    if adapters_dir.is_dir():
        numbers += [_number(path.name) for path in adapters_dir.iterdir() if path.is_dir()]
    return max(numbers) + 1


def _number(folder: str) -> int:
    head = folder.removeprefix(HIDDEN).removeprefix("sn-").split("-")[0]
    return int(head) if head.isdecimal() else 0


def prune(rows: Rows, adapters_dir: Path, keep: int, spare: Collection[str] = ()) -> tuple[str, ...]:
    """Delete the folders of retired and rejected adapters but the newest `keep`; their rows stay.

    Live, candidate and quarantined adapters are never touched, nor those named in `spare`. Returns the names,
    oldest first.
    """
    gone = (AdapterStatus.RETIRED, AdapterStatus.REJECTED)
    idle = {r.name for r in rows.adapters() if r.status in gone and r.name not in spare}
    folders = [adapters_dir / name for name in _by_age(rows.adapters()) if name in idle]
    there = [folder for folder in folders if folder.is_dir()]
    old = there[: max(0, len(there) - keep)]
    for folder in old:
        (folder / MANIFEST).unlink(missing_ok=True)  # first: a deletion cut short leaves a folder that is none
        shutil.rmtree(folder)
    return tuple(folder.name for folder in old)


def _by_age(adapters: Sequence[Adapter]) -> list[str]:
    return [row.name for row in sorted(adapters, key=lambda r: (_number(r.name), r.created_at))]


def manifests(adapters_dir: Path) -> tuple[Manifest, ...]:
    """Every finished adapter in the folder, by number. Damaged manifests are left out; `reconcile` names them."""
    found = []
    for path in adapters_dir.glob(f"*/{MANIFEST}"):
        try:
            found.append(read_manifest(path.parent))
        except Damaged:
            continue
    return tuple(sorted(found, key=lambda m: m.number))
