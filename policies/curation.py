"""What curation is told and what it says; policies/curate.py does it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from memory.records import Lesson, Message
from policies.skills import DEFAULT_SKILL, SkillSettings


class Reason(StrEnum):
    """Codes of what was not learnt."""

    NOT_AGREED = "not_agreed"
    HELD_OUT = "held_out"
    HELD_OUT_TWIN = "held_out_twin"
    QUARANTINED = "quarantined"
    RED_LISTED = "red_listed"
    DELIBERATE = "deliberate"
    FEEDBACK = "feedback"
    INJECTION = "injection"
    SECRET = "secret"
    PERSONAL = "personal_data"
    TOO_LONG = "too_long"
    GIVEN_AWAY = "given_away"
    OFF_PATTERN = "off_pattern"
    RARE_CONTEXT = "rare_context"
    CONFLICT = "conflict"
    DUPLICATE = "duplicate"
    FEW_SOURCES = "few_sources"
    SOURCE_CAP = "source_cap"
    NEWCOMER_CAP = "newcomer_cap"
    RARE_WORD = "rare_word"
    SKILL_CAP = "skill_cap"


@dataclass(frozen=True, slots=True)
class Dropped:
    """An episode that is not learnt from."""

    episode_id: str
    reason: str  # one sentence for a person
    code: Reason


@dataclass(frozen=True, slots=True)
class Curation:
    """A night's lessons, and what was left out. kept + dropped is the input, each episode once."""

    kept: tuple[Lesson, ...]
    dropped: tuple[Dropped, ...]


@dataclass(frozen=True, slots=True)
class Known:
    """What the night knows besides the episodes."""

    skills: Mapping[str, SkillSettings] = field(default_factory=dict)  # by name; others follow `default`
    default: SkillSettings = DEFAULT_SKILL
    weights: Mapping[str, float] = field(default_factory=dict)  # episode id -> 0..1, from feedback
    quarantined: Collection[str] = ()  # episode ids
    deliberate: Collection[str] = ()  # skills found not to distil
    established: Collection[str] = ()  # skills that a live adapter has learnt before
    heldout: Sequence[Sequence[Message]] = ()  # held-out questions that are not among the episodes
    contested: Sequence[Sequence[Message]] = ()  # questions quarantined because their answers contradicted
