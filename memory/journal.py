"""The append-only file that makes `remember` safe without waiting for a disk.

One line is one write to a file opened for appending: once the call returns, the line is in the kernel's cache and
survives the death of this process (not the loss of power: nothing is synced). Segments are numbered; a segment is
removed once every line in it is committed to the database.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from memory.errors import StorageFull

SUFFIX = ".jsonl"
REJECTED = "rejected.txt"  # lines that could not be stored; kept for a person, never replayed
BLOCK = 1 << 20  # bytes overwritten at once


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a segment."""

    segment: str
    kind: str  # "episode" | "audit" | "feedback"; "" where the line is torn
    body: bytes  # JSON; the raw bytes where the line is torn
    torn: bool


class Journal:
    """Writes lines to the newest segment. Not thread-safe: the writer's lock guards it."""

    def __init__(self, folder: Path, segment_bytes: int, write: Callable[[int, bytes], int] = os.write) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._segment_bytes = segment_bytes
        self._write = write
        self._fd = -1
        self._number = max((number(p) for p in segments(folder)), default=0)
        self._size = 0  # bytes in the open segment
        self._dirty = False  # a torn line could not be cut off
        self._closed: list[tuple[Path, int]] = []  # (segment, count of its last line)
        self.lines = 0  # lines appended since the start

    def append(self, kind: str, body: bytes) -> None:
        """One line, with one write.

        Raises:
            StorageFull: the disk is full or read-only; nothing of the line remains.
        """
        line = b'%s{"kind":"%s","body":%s}\n' % (b"\n" if self._dirty else b"", kind.encode(), body)
        try:
            self._ensure_open()
            written = self._write(self._fd, line)
        except OSError as error:
            raise _full(self.folder, error.strerror or str(error)) from error
        if written != len(line):
            self._cut()
            raise _full(self.folder, f"{written} of {len(line)} bytes were taken")
        self._dirty = False
        self._size += written
        self.lines += 1
        if self._size >= self._segment_bytes:
            self.rotate()

    def rotate(self) -> None:
        """Close the open segment; the next line begins a new one."""
        if self._fd >= 0:
            os.close(self._fd)
            self._closed.append((self._path(), self.lines))
            self._fd = -1

    def settled(self, committed: int) -> list[Path]:
        """Closed segments whose lines are all among the first `committed` ones, no longer tracked after this."""
        done = [path for path, last in self._closed if last <= committed]
        self._closed = [(path, last) for path, last in self._closed if last > committed]
        return done

    def _ensure_open(self) -> None:
        if self._fd >= 0:
            return
        self._number += 1
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._fd = os.open(self._path(), flags, 0o600)
        self._size, self._dirty = 0, False

    def _cut(self) -> None:
        """Take back a half-written line; where even that fails, the next line starts on a new one."""
        try:
            os.ftruncate(self._fd, self._size)
        except OSError:
            self._dirty = True

    def _path(self) -> Path:
        return self.folder / f"{self._number:010d}{SUFFIX}"


def segments(folder: Path) -> list[Path]:
    """The segments in a folder, oldest first."""
    return sorted(folder.glob(f"*{SUFFIX}"), key=number)


def number(segment: Path) -> int:
    """A segment's number."""
    return int(segment.stem)


def read(segment: Path) -> Iterator[Line]:
    """The lines of a segment. A last line without its newline was never acknowledged; it comes marked as torn."""
    with segment.open("rb") as file:
        for raw in file:
            text = raw.rstrip(b"\n")
            if text:
                yield _line(segment.name, text, whole=raw.endswith(b"\n"))


def erase(segment: Path) -> None:
    """Overwrite and remove a segment, or any file, so that a forgotten text does not linger in free blocks."""
    left = segment.stat().st_size
    with segment.open("r+b") as file:
        while left > 0:
            left -= file.write(bytes(min(left, BLOCK)))
        file.flush()
        os.fsync(file.fileno())
    segment.unlink()


def reject(folder: Path, line: bytes) -> None:
    """Keep a line that cannot be stored where a person can find it."""
    with (folder / REJECTED).open("ab") as file:
        file.write(line + b"\n")


def _line(segment: str, text: bytes, whole: bool) -> Line:
    head, found, rest = text.partition(b'","body":')
    if not (whole and found and head.startswith(b'{"kind":"') and rest.endswith(b"}")):
        return Line(segment, "", text, torn=True)
    return Line(segment, head[9:].decode("utf-8", "replace"), rest[:-1], torn=False)


def _full(folder: Path, what: str) -> StorageFull:
    return StorageFull(
        f"{folder} cannot be written ({what}); free disk space or make it writable. Nothing recorded so far is lost,"
        " and requests are taken again as soon as it can be written",
        retry_after_s=30.0,
    )
