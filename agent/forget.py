"""Forgetting with all that follows from it, while the service runs and while it does not.

What is forgotten leaves the memory at once (memory/erase.py). The adapters that learnt from it are taken out of
use, their weights deleted, and the next night trains from the base without it. Not covered: keys, settings, and
the log of events, which names no text; copies that an operator made elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.manifest import MANIFEST
from adapters.registry import prune
from agent.recalibrate import in_force_for
from agent.swap import swap
from agent.trust import TrustSettings, clear_nights
from memory.errors import BadInput, Conflict, SecondNatureError
from memory.records import Adapter, AdapterStatus
from memory.rows import Receipt
from memory.store import Memory

if TYPE_CHECKING:
    from agent.daemon import Daemon

log = logging.getLogger("secondnature.forget")
USABLE = (AdapterStatus.CANDIDATE, AdapterStatus.LIVE, AdapterStatus.RETIRED)
SPOILED = "something was forgotten while this night ran; the next one trains without it"


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was forgotten and what followed."""

    receipt: Receipt
    retired: tuple[str, ...]  # adapters taken out of use now, their weights deleted
    waiting: tuple[str, ...]  # adapters that are taken out of use at the end of the next night
    answers: str | None  # the adapter that answers now; None: the base
    retraining: bool = False  # a night was started

    def as_json(self) -> dict[str, Any]:
        """For the API and the command line."""
        return asdict(self)


def learners(memory: Memory) -> list[Adapter]:
    """Adapters that learnt from something that was forgotten since, and are not out of use yet."""
    named = {name for receipt in memory.receipts() for name in receipt.adapters}
    return [adapter for adapter in memory.adapters() if adapter.name in named and adapter.status in USABLE]


def previous(memory: Memory, live: Adapter) -> Adapter | None:
    """The newest retired adapter made before the live one whose folder was not pruned; None: the base."""
    folders = memory.state_dir / "adapters"
    older = [
        a
        for a in memory.adapters()
        if a.status is AdapterStatus.RETIRED and a.created_at < live.created_at and (folders / a.name).exists()
    ]
    return older[-1] if older else None


def prune_idle(memory: Memory, keep: int, in_use: Collection[str] = ()) -> tuple[str, ...]:
    """Delete the folders of old retired and rejected adapters; never the live one, the one before it, or one `in_use`
    (requests may still run under it). Returns the names."""
    live = memory.live()
    before = previous(memory, live) if live else None
    spared = {adapter.name for adapter in (live, before) if adapter} | set(in_use)
    return prune(memory, memory.state_dir / "adapters", keep, spared)


def forget(memory: Memory, settings: TrustSettings, target: Mapping[str, str], who: str, why: str) -> Forgotten:
    """Forget while no service runs. `target`: one of source, episode_id, text. Raises BadInput, NotFound."""
    receipt = memory.forget(**_named(target))
    clear_nights(memory.state_dir)
    retired = _retire_idle(memory, receipt.id) if settings.retire == "at_once" else []
    live = memory.live()
    if settings.retire == "at_once" and live in learners(memory):
        assert live is not None
        before = previous(memory, live)
        memory.make_live(before.name if before else None, _why(receipt.id))
        memory.set_adapter_status(live.name, AdapterStatus.QUARANTINED, _why(receipt.id))
        retired.append(live.name)
    for name in retired:
        delete_folder(memory.state_dir / "adapters" / name)
    return _told(memory, receipt, retired, who, why)


async def forget_running(
    daemon: Daemon, target: Mapping[str, str], who: str, why: str, *, retrain: bool = False
) -> Forgotten:
    """Forget while the service answers; a night under way is discarded, for its lessons may hold it.

    Raises BadInput and NotFound, with nothing changed.
    """
    memory, night = daemon.memory, daemon.night
    before = night.spoiled
    night.spoiled = SPOILED
    try:
        receipt = await asyncio.to_thread(memory.forget, **_named(target))
    except SecondNatureError:
        night.spoiled = before
        raise
    clear_nights(memory.state_dir)
    retired = await retire_learners(daemon, receipt.id) if daemon.config.trust.retire == "at_once" else []
    told = _told(memory, receipt, retired, who, why)
    if retrain:
        daemon.spawn(_retrain(daemon, receipt.id))
    return replace(told, retraining=retrain)


async def _retrain(daemon: Daemon, cause: str) -> None:
    await daemon.night.over.wait()
    with contextlib.suppress(Conflict):  # another night has begun; it trains without it too
        await daemon.learn(f"to train without what was forgotten ({cause})")


async def retire_learners(daemon: Daemon, cause: str) -> list[str]:
    """Take every learner of forgotten things out of use; another adapter, or the base, answers in its place.

    Their weights are deleted once their last request has ended.
    """
    if daemon.night.running and daemon.night.progress.stage in ("promote", "swap"):
        await daemon.night.over.wait()
    memory = daemon.memory
    names = _retire_idle(memory, cause)
    live = memory.live()
    if live is not None and live in learners(memory):
        try:
            await daemon.rollback(_why(cause))
        except SecondNatureError as error:  # the engine or the older adapter's folder: the base needs neither
            log.warning("%s: %s; the base answers", live.name, error.message)
            await swap(daemon.day, in_force_for(daemon.day, None), None)
            memory.make_live(None, _why(cause))
        memory.set_adapter_status(live.name, AdapterStatus.QUARANTINED, _why(cause))
        names.append(live.name)
    for name in names:
        daemon.spawn(_shred(daemon, name))
    return names


async def _shred(daemon: Daemon, name: str) -> None:
    await daemon.day.pointer.drained(name)
    with contextlib.suppress(SecondNatureError):  # an engine that is down holds nothing
        await daemon.engine.unload_adapter(name)
    await asyncio.to_thread(delete_folder, daemon.adapters_dir / name)


def delete_folder(folder: Path) -> None:
    """Delete an adapter's folder; its manifest first, so that a deletion cut short leaves a folder that is none."""
    if folder.is_dir():
        (folder / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(folder)


def _named(target: Mapping[str, str]) -> dict[str, str]:
    given = {name: value for name, value in target.items() if value is not None}
    if not given or set(given) - {"source", "episode_id", "text"}:
        raise BadInput("name exactly one of source, episode_id and text to forget")
    return given


def _retire_idle(memory: Memory, cause: str) -> list[str]:
    names = [adapter.name for adapter in learners(memory) if adapter.status is not AdapterStatus.LIVE]
    for name in names:
        memory.set_adapter_status(name, AdapterStatus.QUARANTINED, _why(cause))
    return names


def _why(cause: str) -> str:
    return f"it learnt from what was forgotten ({cause})"


def _told(memory: Memory, receipt: Receipt, retired: list[str], who: str, why: str) -> Forgotten:
    """Write the event (which names no text and no source) and sum up."""
    detail = {"receipt": receipt.id, "kind": receipt.kind, "retired": retired}
    memory.record_event(who, "forget", why, detail)
    live = memory.live()
    waiting = tuple(adapter.name for adapter in learners(memory))
    return Forgotten(receipt, tuple(retired), waiting, live.name if live else None)
