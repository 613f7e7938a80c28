"""What the database gives back besides the vocabulary of records.py: rows of decisions, nights, keys and receipts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from memory.records import SkillState


@dataclass(frozen=True, slots=True)
class Feedback:
    """What a person said about an answer."""

    id: str
    episode_id: str
    score: float | None  # 0..1; None: only a correction
    correction: str | None  # the text they would have wanted
    source: str  # who said it
    given_at: float  # unix seconds


@dataclass(frozen=True, slots=True)
class ThresholdChange:
    """One decision about where System 1 is trusted."""

    id: int
    skill: str | None  # None: every skill without its own
    adapter: str | None  # None: the base
    value: float | None  # 0..1; None: not set, everything is deliberated
    who: str
    why: str
    when: float  # unix seconds
    certificate: Mapping[str, Any] | None  # the evidence, as JSON
    undone_at: float | None = None  # unix seconds; None: not taken back


@dataclass(frozen=True, slots=True)
class SkillStateRow:
    """Where a skill stands with one adapter version, and why."""

    skill: str
    state: SkillState
    reason: str
    adapter: str | None
    since: float  # unix seconds


@dataclass(frozen=True, slots=True)
class Night:
    """One run of the night."""

    id: int
    reason: str  # why it was due
    started_at: float  # unix seconds
    finished_at: float | None  # unix seconds; None: under way
    outcome: str  # "running" | "promoted" | "rejected" | "skipped" | "failed" | "interrupted"
    adapter: str | None
    report: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Quarantined:
    """An episode kept out of training."""

    episode_id: str
    skill: str
    source: str
    reason: str
    since: float  # unix seconds


@dataclass(frozen=True, slots=True)
class Event:
    """Something that was done to the service."""

    id: int
    when: float  # unix seconds
    who: str
    what: str
    why: str
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Key:
    """An API key; only its hash is kept."""

    id: str
    hash: str  # hex digest of the secret
    role: str  # "ask" | "operate" | "audit"
    note: str
    created_at: float  # unix seconds
    revoked_at: float | None = None  # unix seconds; None: valid
    limits: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof of an erasure: what was erased is named only by keyed hashes."""

    id: str
    when: float  # unix seconds
    kind: str  # "source" | "episode_id" | "text"
    what_hash: str  # keyed sha256 of what was asked to be forgotten, hex
    counts: Mapping[str, int]  # rows erased, by table
    adapters: tuple[str, ...]  # that learnt from what was erased
    item_hashes: tuple[str, ...]  # keyed sha256 of each erased episode's id, hex
    digest: str  # sha256 over all of the above, hex


@dataclass(frozen=True, slots=True)
class ReceiptCheck:
    """What verifying a receipt found."""

    ok: bool
    reason: str
    remains: int  # rows that should be gone
