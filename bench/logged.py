"""The logged answers that the routing benches read."""

from __future__ import annotations

from agent.recalibrate import outcomes_of
from memory.records import Mode, Outcome
from memory.store import Memory
from policies.calibration import usable


def rows_of(memory: Memory, adapter: str | None, limit: int = 20_000) -> list[Outcome]:
    """Audited answers of one System 1 on questions that it was not trained on, where the router had the choice: a few
    audits of answers that callers wanted from System 1 would weigh as much as all others."""
    rows = usable(outcomes_of(memory, adapter), limit)
    return [row for row in rows if memory.episode(row.episode_id).ask.mode is not Mode.SYSTEM1]
