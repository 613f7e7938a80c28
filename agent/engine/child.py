"""Stands between the daemon and its engine: `python -m agent.engine.child PIDFILE LOGFILE COMMAND...`.

It holds the engine in a process group of its own, writes its output to a log that is rotated, and ends the
whole group when the daemon is gone, however it went: the daemon holds the other end of this process's input,
and the kernel closes that even after `kill -9`. It leaves with the engine's exit status. Standard library and
psutil alone, so that it starts at once.
"""

from __future__ import annotations

import ctypes
import json
import logging
import logging.handlers
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil

GRACE_S = 10.0  # seconds between asking the engine to end and ending it
LOG_BYTES = 10 * 1024 * 1024
LOG_FILES = 3
PR_SET_PDEATHSIG = 1


def main(pid_file: Path, log_file: Path, command: list[str]) -> int:
    """Run the command until it ends or the daemon does. Returns the exit status, 128 + signal if killed."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # meant for the daemon; it closes our input when it wants an end
    engine = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        process_group=0,
        preexec_fn=die_with_parent,  # safe: no thread runs yet
    )
    _write_pid(pid_file, engine.pid)
    threading.Thread(target=_end_with_daemon, args=(engine,), daemon=True).start()
    threading.Thread(target=_end_group_with_leader, args=(engine,), daemon=True).start()
    _write_log(engine, log_file)
    status = engine.wait()
    pid_file.unlink(missing_ok=True)
    return status if status >= 0 else 128 - status


def die_with_parent() -> None:
    """In a child, before it starts: should its parent be killed, the kernel (Linux) asks the child to end."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _write_pid(pid_file: Path, pid: int) -> None:
    """The engine's process, and its start time to tell it from a later one of the same number."""
    try:
        started = psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return
    draft = pid_file.with_suffix(".tmp")
    draft.write_text(json.dumps({"pid": pid, "started": started}))
    draft.replace(pid_file)


def _end_with_daemon(engine: subprocess.Popen[bytes]) -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass  # nothing is ever sent: only the end matters
    _signal_group(engine.pid, signal.SIGTERM)
    try:
        engine.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        _signal_group(engine.pid, signal.SIGKILL)


def _end_group_with_leader(engine: subprocess.Popen[bytes]) -> None:
    """vLLM's workers may outlive a server that was killed: they would hold the memory, and our log open."""
    engine.wait()
    _signal_group(engine.pid, signal.SIGKILL)


def _signal_group(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return  # all of it is gone


def _write_log(engine: subprocess.Popen[bytes], log_file: Path) -> None:
    """Copy the engine's output to the log until its last process has closed it."""
    handler = logging.handlers.RotatingFileHandler(
        log_file, maxBytes=LOG_BYTES, backupCount=LOG_FILES - 1, encoding="utf-8", errors="replace"
    )
    assert engine.stdout is not None
    for line in engine.stdout:
        text = line.decode("utf-8", "replace").rstrip()
        handler.handle(logging.LogRecord("engine", logging.INFO, "", 0, text, None, None))
    handler.close()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]))
