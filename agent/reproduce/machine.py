"""The machine that a table was measured on, in words: no host name, no path."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

PROC = Path("/proc")


def machine(proc: Path = PROC) -> str:
    """Processors that may be used, their model, memory in GiB, and NVIDIA's GPUs, as far as Linux's `proc` tells."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    model = _found(r"^model name\s*: (.+)$", proc / "cpuinfo") or platform.machine()
    parts = [f"{count} processor{'' if count == 1 else 's'} ({model})"]
    if kib := _found(r"^MemTotal:\s+(\d+) kB$", proc / "meminfo"):
        parts.append(f"{int(kib) / 2**20:.0f} GiB of memory")
    cards = sorted((proc / "driver/nvidia/gpus").glob("*/information"))
    return ", ".join([*parts, *filter(None, (_found(r"^Model:\s+(.+)$", card) for card in cards))])


def _found(pattern: str, path: Path) -> str | None:
    try:
        hit = re.search(pattern, path.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
    except OSError:
        return None
    return " ".join(hit[1].split()) if hit else None
