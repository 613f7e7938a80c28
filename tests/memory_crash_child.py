"""Remembers episodes without end, in several threads, and prints each id once `remember` has returned; to be killed."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from memory.store import Memory, MemorySettings
from memory_fakes import accepted, audit, episode


def main(state_dir: Path, first: int) -> None:
    # a small journal, so that segments are rotated and removed all the time
    memory = Memory.open(state_dir, settings=MemorySettings(journal_mib=0.05, commit_every_s=0.002))
    os.write(1, b"ready\n")

    def work(thread: int) -> None:
        for n in range(first + thread, first + 100_000_000, 3):
            kept = accepted(n) if n % 7 == 0 else episode(n)
            memory.remember(kept)
            if n % 7 == 0:
                memory.remember_audit(audit(kept))
            os.write(1, f"{kept.ask.id}\n".encode())

    for thread in range(3):
        threading.Thread(target=work, args=(thread,)).start()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
