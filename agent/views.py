"""What the CLI, the HTTP API and the console show: the same functions, from the memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from memory.records import Adapter, Episode
from memory.store import Memory
from policies.skills import last_user_text


def adapters(memory: Memory) -> list[dict[str, Any]]:
    """Every adapter, the newest first, without its long report."""
    return [adapter_line(adapter) for adapter in reversed(memory.adapters())]


def adapter_line(adapter: Adapter) -> dict[str, Any]:
    """One adapter for a table."""
    row = asdict(adapter)
    report = row.pop("report")
    scores = (report.get("evaluation") or {}).get("scores") or []
    return row | {"scores": {s["skill"]: {"n": s["n"], "before": s["before"], "after": s["after"]} for s in scores}}


def episodes(memory: Memory, limit: int, which: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Episodes for a table, the newest first. `which`: arguments of `Memory.episodes`."""
    return [episode_line(one) for one in memory.episodes(limit=limit, **which)]


def episode(memory: Memory, episode_id: str) -> dict[str, Any]:
    """One episode with every inner call, and its audits. Raises NotFound."""
    return {"episode": asdict(memory.episode(episode_id)), "audits": [asdict(one) for one in memory.audits(episode_id)]}


def episode_line(episode: Episode) -> dict[str, Any]:
    """One episode for a table."""
    thought = episode.deliberation
    return {
        "id": episode.ask.id,
        "asked_at": episode.ask.asked_at,
        "skill": episode.ask.skill,
        "source": episode.ask.source,
        "kind": episode.kind,
        "question": last_user_text(episode.ask.messages),
        "reply": episode.reply,
        "system": episode.decision.system.value,
        "confidence": episode.decision.confidence,
        "threshold": episode.decision.threshold,
        "reason": episode.decision.reason,
        "method": thought.method if thought else None,
        "share": thought.verdict.share if thought else None,
        "grade": thought.verdict.grade.value if thought else None,
        "adapter": episode.adapter,
        "heldout": episode.ask.heldout,
        "tokens": episode.tokens,
        "seconds": episode.seconds,
    }
