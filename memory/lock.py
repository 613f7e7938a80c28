"""One process writes a state folder: an advisory lock on a file that names its holder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from memory.errors import Conflict, StorageFull

LOCK_FILE = "lock"


def take(state_dir: Path) -> int:
    """Lock the folder for this process; the descriptor is the lock, and closing it (or dying) gives it back.

    Raises:
        Conflict: another process holds it; the message names its process id.
        StorageFull: the folder cannot be written.
    """
    path = state_dir / LOCK_FILE
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageFull(f"{path} cannot be written ({error.strerror}); free space or fix its rights") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise Conflict(_held(path, state_dir)) from error
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    return lock


def _held(path: Path, state_dir: Path) -> str:
    pid = path.read_text().strip() or "unknown"
    return (
        f"{state_dir} is in use by process {pid}; stop that process, or choose another state_dir"
        " (reading alone is possible while it runs)"
    )
