"""What has been answered: one JSON line for each prompt, written at once, so that a stopped run can go on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class Answer:
    """One question's way through one row."""

    key: str  # see `key_of`
    answer: str | None  # normalised; None: none could be understood
    tokens: int  # generated, over all calls and samples
    seconds: float  # wall time
    text: str = ""  # what was said, or what a lesson would teach
    agreed: bool = False  # train-grade: the filter lets it through
    first: str | None = None  # the first attempt's answer as a lesson would teach it: the unfiltered target
    votes: Mapping[str, int] = field(default_factory=dict)


class Answered:
    """Answers by key, in memory and in a file that only grows. A last line that a crash cut off is passed over."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._by_key: dict[str, Answer] = {}
        self.used: set[str] = set()  # keys that were asked for and there
        self.made = 0  # answers that came in since this was opened
        for line in path.read_bytes().splitlines() if path.exists() else ():
            try:
                answer = Answer(**orjson.loads(line))
            except (orjson.JSONDecodeError, TypeError):
                continue
            self._by_key[answer.key] = answer
        self._file = path.open("ab", buffering=0)

    def get(self, key: str) -> Answer | None:
        """The answer kept under a key."""
        answer = self._by_key.get(key)
        if answer is not None:
            self.used.add(key)
        return answer

    def add(self, answer: Answer) -> Answer:
        """Keep an answer; the file has it when this returns."""
        self._file.write(b"\n" + orjson.dumps(asdict(answer)))  # the line end first: a cut line before it stays alone
        self._by_key[answer.key] = answer
        self.made += 1
        return answer

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def key_of(*parts: Any) -> str:
    """One key for one prompt asked in one way of one model: changed settings make another key. 24 hex characters."""
    return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()[:24]
