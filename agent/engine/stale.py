"""An engine that an earlier daemon left behind is found by its pid file and ended, and nothing else is."""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from pathlib import Path

import psutil

log = logging.getLogger(__name__)
SAME_START_S = 0.05  # seconds two readings of one process's start time may differ


def end(pid_file: Path, grace_s: float = 10.0) -> bool:
    """End the engine that `pid_file` names, with its group. Returns whether there was one.

    A process of the same number that started at another time is another's and is left alone.
    """
    process = find(pid_file)
    if process is None:
        pid_file.unlink(missing_ok=True)
        return False
    log.warning("ending an engine left by an earlier run (process %d)", process.pid)
    _signal_group(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while _runs(process) and time.monotonic() < deadline:
        time.sleep(0.05)
    _signal_group(process.pid, signal.SIGKILL)  # it, or workers that outlived it
    pid_file.unlink(missing_ok=True)
    return True


def find(pid_file: Path) -> psutil.Process | None:
    """The process that the file names, if it still runs and is the same one and leads its own group."""
    try:
        row = json.loads(pid_file.read_text())
        process = psutil.Process(int(row["pid"]))
        same = abs(process.create_time() - float(row["started"])) < SAME_START_S
        return process if same and _runs(process) and os.getpgid(process.pid) == process.pid else None
    except (FileNotFoundError, ValueError, KeyError, TypeError, psutil.NoSuchProcess, ProcessLookupError):
        return None


def _runs(process: psutil.Process) -> bool:
    """A zombie does not: its parent has not looked yet, which may never happen in a container."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _signal_group(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return  # gone, or its number belongs to another user by now
