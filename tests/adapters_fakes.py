"""A whole tiny model folder, lessons, and adapter folders for the tests of adapters/."""

from __future__ import annotations

import json
from pathlib import Path

from adapters.manifest import CONFIG, WEIGHTS, Manifest, adapter_digest, adapter_name, write_manifest
from memory.records import Adapter, AdapterStatus, AnswerType, Lesson

BASE = "sha256:" + "b" * 64


def lesson(question: str, answer: str, skill: str = "sum", weight: float = 1.0) -> Lesson:
    ask = ({"role": "user", "content": question},)
    return Lesson(
        f"ep-{question}", skill, "me", "0" * 64, ask, answer, AnswerType.NUMBER, "cot", 5, 5, 1.0, 0.0, weight
    )


def sums(n: int) -> list[Lesson]:
    return [lesson(f"What is {i} + {i + 1}?", str(2 * i + 1)) for i in range(n)]


def made_adapter(out: Path, number: int, base: str = BASE) -> Manifest:
    """An adapter folder as the trainer leaves it, with invented weights."""
    making = out / f"tmp-{number}"
    making.mkdir(parents=True)
    (making / WEIGHTS).write_bytes(b"weights %d" % number)
    (making / CONFIG).write_text(json.dumps({"r": 16}))
    digest = adapter_digest(making)
    manifest = Manifest(
        name=adapter_name(number, digest), number=number, base=base, digest=digest, lessons_digest="d" * 64,
        n_lessons=3, n_anchors=1, settings={"rank": 16}, loss=0.1, train_s=2.0, created_at=1000.0 + number, seed=0,
        lessons_s=4.0, peak_mib=100.0,
    )  # fmt: skip
    write_manifest(making, manifest)
    making.rename(out / manifest.name)
    return manifest


class FakeRows:
    """The registry's rows in a dict, as memory.store.Memory keeps them."""

    def __init__(self, *rows: Adapter) -> None:
        self.rows = {row.name: row for row in rows}

    def adapters(self) -> list[Adapter]:
        return list(self.rows.values())

    def add_adapter(self, adapter: Adapter) -> None:
        assert adapter.name not in self.rows
        self.rows[adapter.name] = adapter

    def set_adapter_status(self, name: str, status: AdapterStatus, reason: str) -> None:
        from dataclasses import replace

        self.rows[name] = replace(self.rows[name], status=status, reason=reason)

    def make_live(self, name: str | None, reason: str) -> None:
        for row in self.adapters():
            if row.status is AdapterStatus.LIVE:
                self.set_adapter_status(row.name, AdapterStatus.RETIRED, reason)
        if name is not None:
            self.set_adapter_status(name, AdapterStatus.LIVE, reason)

    def next_adapter_number(self) -> int:
        return len(self.rows) + 1
