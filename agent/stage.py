"""Which step of System 2 a call of the engine belongs to, for whoever watches the calls (agent/traces.py).

A context variable, so that the engine's interface need not know of it: it follows the task that asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_now: ContextVar[str | None] = ContextVar("stage", default=None)


@contextmanager
def at_stage(name: str) -> Iterator[None]:
    """Calls of the engine begun inside the block belong to this step ("propose", "value", "answer", ...)."""
    token = _now.set(name)
    try:
        yield
    finally:
        _now.reset(token)


def stage() -> str | None:
    """The step under way in this task; None outside of a thought."""
    return _now.get()
