"""What a person puts in force: an adapter, warmed or at once. What a night puts in force is agent/learn.py's."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agent.recalibrate import in_force_for
from agent.swap import Swap, retire, swap
from agent.warm import warm
from memory.errors import Conflict
from memory.records import Adapter, AdapterStatus

if TYPE_CHECKING:
    from agent.daemon import Daemon


async def promote(daemon: Daemon, name: str, why: str, *, now: bool = False) -> Swap:
    """Put an adapter in force: warmed, or `now`. A rollback meanwhile does not wait for the warming.

    Raises NotFound, Damaged, Conflict (night, quarantine, another System 1 put in force meanwhile) and what the engine
    raises, with nothing changed.
    """
    day, adapter = daemon.day, promotable(daemon, name)
    folder, before = daemon.verified(adapter), _live(daemon)

    def check() -> None:
        promotable(daemon, name)
        if (found := _live(daemon)) != before:
            raise Conflict(f"{found or 'the base'} was put in force meanwhile; if it shall be {name}, promote it again")

    with day.pointer.keep(adapter):
        try:
            warm_s = 0.0 if now or name == before else await warm(day, adapter, folder)
            swapped = await swap(day, in_force_for(day, daemon.memory.adapter(name)), folder, check=check)
        except BaseException:
            daemon.spawn(retire(day, name))
            raise
        daemon.memory.make_live(name, why)
    return replace(swapped, warm_s=warm_s)


def promotable(daemon: Daemon, name: str) -> Adapter:
    """An adapter that a person may put in force now. Raises NotFound, Conflict."""
    daemon.not_at_night()
    if name == daemon.night.candidate:  # its verdict may unload it
        raise Conflict(f"a night is examining {name}; wait for its verdict", retry_after_s=30)
    if (adapter := daemon.memory.adapter(name)).status is AdapterStatus.QUARANTINED:
        raise Conflict(f"{name} was taken out of use: {adapter.reason}; choose another, or learn again")
    return adapter


def _live(daemon: Daemon) -> str | None:
    adapter = daemon.day.pointer.now.adapter
    return adapter.name if adapter else None
