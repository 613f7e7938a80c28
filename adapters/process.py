"""What makes training a well-behaved process: JSON lines out, exit codes, a hidden folder until it is whole.

No torch.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import shutil
import signal
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

from adapters.dataset import Encoded
from adapters.job import Job
from adapters.manifest import Manifest, adapter_digest, adapter_name
from memory.errors import BadInput

BAD_JOB, OUT_OF_MEMORY, DISK_FULL, STOPPED = 2, 12, 28, 143  # exit codes
PR_SET_PDEATHSIG = 1  # of prctl(2)
HIDDEN = ".making-"  # a folder of this name is unfinished work


class Reporter:
    """JSON lines for the daemon. Each has an `event`: start, progress, done or error."""

    def __init__(self, file: TextIO) -> None:
        self.file = file

    def __call__(self, event: str, **fields: Any) -> None:
        print(json.dumps({"event": event, **fields}), file=self.file, flush=True)


class Making:
    """A hidden folder beside the adapters; removed on the way out unless it was renamed away."""

    def __init__(self, out: Path, number: int) -> None:
        self.path = out / f"{HIDDEN}{number:04d}-{os.getpid()}"

    def __enter__(self) -> Path:
        self.path.mkdir()
        return self.path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Learnt:
    """How the training went."""

    loss: float  # nats per answer token, weighted mean over the last epoch
    lessons_s: float  # examples per second while stepping


def describe(job: Job, folder: Path, data: Encoded, lessons_digest: str, learnt: Learnt, started: float) -> Manifest:
    """The manifest of a folder whose weights are written. `started`: unix seconds."""
    digest, now = adapter_digest(folder), time.time()
    n_lessons = sum(data.skills.values())
    return Manifest(
        name=adapter_name(job.number, digest), number=job.number, base=job.base_identity, digest=digest,
        lessons_digest=lessons_digest, n_lessons=n_lessons, n_anchors=len(data.examples) - n_lessons,
        settings=job.train.model_dump(), loss=learnt.loss,
        train_s=now - started, created_at=now, seed=job.seed,
        lessons_s=learnt.lessons_s, peak_mib=peak_mib(), skills=data.skills, dropped=data.dropped,
        versions={name: version(name) for name in ("torch", "transformers", "peft")},
    )  # fmt: skip


def is_running(folder: str) -> bool:
    """Whether the process that works in this hidden folder still lives."""
    pid = folder.rpartition("-")[2]
    if not folder.startswith(HIDDEN) or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # it lives and is another user's
    return True


def sync(path: Path) -> None:
    """Put a file or a folder's names on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def peak_mib() -> float:
    """Resident memory of this process at its highest, MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)  # bytes there, KiB elsewhere


def end_with_parent(pid: int | None) -> None:
    """Have the kernel end this process with its parent: one that was stopped (agent/give_way.py) cannot look for it.

    With the thread of the parent that started it, to be exact: that must be one that lasts. On Linux alone.
    """
    if pid is not None and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    require_parent(pid)  # it may have gone before


def require_parent(pid: int | None) -> None:
    """End when the process that wanted this work is gone: its successor starts its own night."""
    if pid is not None and os.getppid() != pid:
        raise SystemExit(STOPPED)


def fault(error: Exception) -> tuple[int, str, str]:
    """(exit code, short code, sentence) for what stopped the work."""
    text = str(error)
    # torch names a CPU allocation that failed in the text of a RuntimeError alone.
    if isinstance(error, MemoryError) or "allocate memory" in text or "out of memory" in text:
        sentence = "training ran out of memory; lower train.pack_tokens or train.max_tokens, or free some memory"
        return OUT_OF_MEMORY, "out_of_memory", sentence
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        return DISK_FULL, "storage_full", f"the adapter could not be written: {error.strerror}"
    if isinstance(error, BadInput):
        return BAD_JOB, "bad_input", error.message
    return 1, "internal_error", f"{type(error).__name__}: {text}"
