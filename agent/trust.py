"""Retention, backups, keys and quarantine: what the CLI and the HTTP API share. Forgetting: agent/forget.py."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from agent.http import keys
from memory import journal
from memory.copies import backups, taken_at
from memory.errors import Conflict, NotFound, SecondNatureError
from memory.rows import Key
from memory.settings import Settings
from memory.store import Memory

log = logging.getLogger("secondnature.trust")
DAY_S = 86_400.0
FRESH_S = DAY_S - 3600  # seconds; a backup younger than this is today's


class TrustSettings(Settings):
    """What is kept, and what follows when something is forgotten."""

    retire: Literal["at_once", "at_night"] = Field(
        "at_once",
        description="when adapters that learnt from what was forgotten are taken out of use: "
        "at_once, or at_night (at the end of the next night)",
    )
    keep_text_days: float = Field(
        0.0,
        ge=0,
        le=36_500,
        description="days after which prompts and answers are blanked, numbers stay; 0: never. "
        "Backups hold the text until they are replaced",
    )
    keep_adapters: int = Field(
        5,
        ge=0,
        le=10_000,
        description="folders of retired and of rejected adapters kept after a night, the newest; "
        "the live adapter and the one before it are always kept",
    )
    backup_daily: bool = Field(True, description="make an online backup every day (see memory.keep_backups)")


async def keep_house(memory: Memory, settings: TrustSettings) -> None:
    """While the service runs: retention and the backup, at the start and every day."""
    while True:
        try:
            await asyncio.to_thread(daily, memory, settings)
        except SecondNatureError as error:
            log.error("the daily housekeeping failed: %s", error.message)
        await asyncio.sleep(DAY_S)


def daily(memory: Memory, settings: TrustSettings) -> dict[str, Any]:
    """Blank old text, make today's backup; gives what was done. Raises StorageFull, Damaged."""
    done: dict[str, Any] = {"blanked": 0, "backup": None}
    if settings.keep_text_days:
        done["blanked"] = memory.blank_older(settings.keep_text_days)
        clear_nights(memory.state_dir, older_than=memory.clock() - settings.keep_text_days * DAY_S)
    if settings.backup_daily and not _backed_up(memory):
        done["backup"] = str(memory.backup())
    if done["blanked"]:
        memory.record_event("retention", "blank", f"older than {settings.keep_text_days:g} days", done)
    return done


def _backed_up(memory: Memory) -> bool:
    """Whether there is a backup of today. One from the future (a clock was wrong) is none."""
    now = memory.clock()
    return any(0 <= now - taken_at(path)[0] <= FRESH_S for path in backups(memory.state_dir))


def new_key(memory: Memory, role: str, who: str, **given: Any) -> dict[str, Any]:
    """Make a key; the answer holds its secret, which is kept nowhere. `given`: note, vouches, limits.

    Raises BadInput for an unknown role or limit, Conflict where the first key could not manage the service.
    """
    held = memory.keys()
    ruling = any(key.role == "operate" and key.revoked_at is None for key in held)
    if role in keys.ROLES and not ruling and role != "operate":
        raise Conflict("make a key of the role operate first: from the first key on nobody is let in without one")
    made = keys.create(memory, role, clock=memory.clock, **given)
    memory.record_event(who, "create key", role, {"key": made.key.id})
    return key_row(made.key) | {"secret": made.secret}


def revoke(memory: Memory, key_id: str, who: str, why: str) -> dict[str, Any]:
    """Refuse a key from now on (a running service within two seconds). Raises NotFound."""
    memory.revoke_key(key_id)
    memory.record_event(who, "revoke key", why, {"key": key_id})
    return next(row for row in key_rows(memory) if row["id"] == key_id)


def key_rows(memory: Memory) -> list[dict[str, Any]]:
    """Every key without its hash, the revoked ones too."""
    held = memory.keys()
    return [key_row(key) for key in held]


def key_row(key: Key) -> dict[str, Any]:
    """One key for a table."""
    row = asdict(key)
    del row["hash"]
    limits = {name: value for name, value in key.limits.items() if name != keys.VOUCHES}
    return row | {"limits": limits, "vouches": bool(key.limits.get(keys.VOUCHES))}


def quarantined(memory: Memory) -> list[dict[str, Any]]:
    """Every quarantined episode with its reason, the newest first."""
    return [asdict(row) for row in memory.quarantined()]


def quarantined_one(memory: Memory, episode_id: str) -> dict[str, Any]:
    """One quarantined episode: why, what was asked and agreed, who learnt it. Raises NotFound."""
    row = next((row for row in quarantined(memory) if row["episode_id"] == episode_id), None)
    if row is None:
        raise NotFound(f"{episode_id} is not in quarantine; `secondnature quarantine list` shows what is")
    episode = memory.episode(episode_id)
    thought = episode.deliberation
    return row | {
        "messages": episode.ask.messages,
        "reply": episode.reply,
        "answer": thought.verdict.answer if thought else None,
        "votes": dict(thought.verdict.votes) if thought else None,
        "method": thought.method if thought else None,
        "adapters": memory.learners(episode_id),
    }


def put_in_quarantine(memory: Memory, episode_id: str, who: str, why: str) -> dict[str, Any]:
    """Keep an episode out of training by hand. Raises NotFound."""
    memory.quarantine(episode_id, f"by {who}: {why or 'no reason was given'}")
    memory.record_event(who, "quarantine", why, {"episode": episode_id})
    return quarantined_one(memory, episode_id)


def release(memory: Memory, episode_id: str, who: str, why: str) -> dict[str, Any]:
    """Let an episode be trained on again. Raises NotFound."""
    memory.release(episode_id)
    memory.record_event(who, "release", why, {"episode": episode_id})
    return {"episode_id": episode_id, "released": True}


def clear_nights(state_dir: Path, older_than: float | None = None) -> None:
    """Overwrite and delete the lessons that nights wrote for their trainers; the memory has what may be kept."""
    for path in (state_dir / "nights").glob("*/lessons.jsonl"):
        if older_than is None or path.stat().st_mtime < older_than:
            journal.erase(path)
