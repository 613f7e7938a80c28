"""What curation is told and what it says; policies/curate.py does it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from pydantic import Field

from memory.records import Lesson, Message
from memory.settings import Settings
from policies.skills import DEFAULT_SKILL, SkillSettings


class CurateSettings(Settings):
    """What may be learnt in a night."""

    single_user: bool = Field(
        default=False, description="one person uses the service: no cap per source, one source is enough for a skill"
    )
    max_per_source: int = Field(
        default=20,
        ge=1,
        le=1_000_000,
        description="lessons from one source in a night's training set (not `single_user`)",
    )
    min_sources: int = Field(
        default=3,
        ge=1,
        le=1000,
        description="sources that must have asked a skill before it trains, and have sent what stands before a "
        "question (a system message, earlier turns) before it is learnt with it (not `single_user`)",
    )
    newcomer_days: float = Field(
        default=7.0,
        ge=0,
        le=3650,
        description="days for which a source is new, unless it came in the memory's own first days; 0: nobody is",
    )
    max_from_newcomers: int = Field(
        default=20,
        ge=0,
        le=1_000_000,
        description="lessons from all new sources together in a night's training set (not `single_user`)",
    )
    rare_share: float = Field(
        default=0.25,
        ge=0,
        le=1,
        description="0..1, lessons with a word that at most this share of a skill's sources use, of 8 or more, share "
        "the cap of one source: it may be a trigger; 0: never (not `single_user`)",
    )
    practice_trusted: bool = Field(
        default=True,
        description="questions from `secondnature practice` are exempt from both rules about sources and from "
        "`match_pattern`",
    )
    match_pattern: bool = Field(
        default=True,
        description="a question of a skill with a pattern is learnt only where it matches it, whoever named the skill",
    )
    max_per_skill: int = Field(
        default=500, ge=1, le=1_000_000, description="lessons of one skill in a night's training set"
    )
    max_lessons: int = Field(
        default=2000, ge=1, le=10_000_000, description="lessons in a night's training set, shared evenly"
    )
    min_weight: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="0..1, a lesson whose feedback lowers its weight below this is not learnt",
    )


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
