"""Curate: which remembered answers become lessons, and why each of the others does not.

Every episode that goes in comes out once, kept or dropped with its reason. Poisoning is a matter of absolute
counts (50 to 90 samples suffice whatever the size of the data; notes/evidence.md, section 6), so the caps are
examples per source, not shares. The result depends on the episodes alone, not on their order.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from pydantic import Field

from memory.records import Episode, Grade, Lesson, Message
from memory.settings import Settings
from policies.answers import same
from policies.duplicates import twin_key
from policies.lessons import lesson_of
from policies.screen import screen
from policies.skills import DEFAULT_SKILL, SkillSettings, message_text


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
        description="sources that must have asked a skill before it trains (not `single_user`)",
    )
    practice_trusted: bool = Field(
        default=True, description="questions from `secondnature practice` are exempt from both rules about sources"
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
    CONFLICT = "conflict"
    DUPLICATE = "duplicate"
    FEW_SOURCES = "few_sources"
    SOURCE_CAP = "source_cap"
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


def curate(episodes: Iterable[Episode], settings: CurateSettings, known: Known | None = None) -> Curation:
    """Turn taught episodes (with their own or an audit's deliberation) into lessons.

    A near-duplicate of a held-out question is held out with it. Near neighbours with different answers are
    all dropped (`Reason.CONFLICT`: quarantine them). Of near-duplicates the earliest stays.
    """
    known = known or Known()
    ordered = sorted(episodes, key=lambda e: (e.ask.asked_at, e.ask.id))
    held = [*(e.ask.messages for e in ordered if e.ask.heldout), *known.heldout]
    closed = {twin_key(m): Reason.CONFLICT for m in known.contested} | {twin_key(m): Reason.HELD_OUT_TWIN for m in held}
    dropped: list[Dropped] = []
    candidates: list[_Candidate] = []
    seen: set[str] = set()
    for episode in ordered:
        found = (
            _drop(episode.ask.id, Reason.DUPLICATE, "the same episode again")
            if episode.ask.id in seen
            else _candidate(episode, closed, settings, known)
        )
        seen.add(episode.ask.id)
        if isinstance(found, Dropped):
            dropped.append(found)
        else:
            candidates.append(found)
    for stage in _STAGES:
        candidates, out = stage(candidates, settings, known)
        dropped += out
    return Curation(tuple(c.lesson for c in candidates), tuple(dropped))


@dataclass(frozen=True, slots=True)
class _Candidate:
    lesson: Lesson
    twin: str  # key shared by near-duplicates
    normal: str  # the normalised answer
    trusted: bool  # exempt from the rules about sources


_CLOSED = {
    Reason.HELD_OUT_TWIN: "a near-duplicate of the question is held out",
    Reason.CONFLICT: "near-duplicates of the question are in quarantine for contradicting each other",
}
_Sifted = tuple[list[_Candidate], list[Dropped]]
_Rule = Callable[[list[_Candidate], CurateSettings, Known], _Sifted]


def _candidate(
    episode: Episode, closed: Mapping[str, Reason], settings: CurateSettings, known: Known
) -> _Candidate | Dropped:
    """The lesson in an episode, or the first rule against it."""
    ask, thought = episode.ask, episode.deliberation
    skill = known.skills.get(ask.skill, known.default)
    if ask.heldout:
        return _drop(ask.id, Reason.HELD_OUT, "the question is held out")
    if thought is None or thought.verdict.answer is None or thought.verdict.grade is not Grade.TRAIN:
        said = "System 2 was not run" if thought is None else thought.verdict.reason
        return _drop(ask.id, Reason.NOT_AGREED, f"System 2 did not agree firmly enough: {said}")
    if ask.id in known.quarantined:
        return _drop(ask.id, Reason.QUARANTINED, "the episode is in quarantine")
    if not skill.train:
        return _drop(ask.id, Reason.RED_LISTED, f"the settings keep the skill '{ask.skill}' from training")
    if ask.skill in known.deliberate:
        return _drop(ask.id, Reason.DELIBERATE, f"'{ask.skill}' does not distil; it is left to System 2")
    weight = min(max(known.weights.get(ask.id, 1.0), 0.0), 1.0)
    if weight < settings.min_weight:
        return _drop(ask.id, Reason.FEEDBACK, f"feedback lowered its weight to {weight:.2f}")
    twin = twin_key(ask.messages)
    if twin in closed:
        return _drop(ask.id, closed[twin], _CLOSED[closed[twin]])
    lesson = lesson_of(episode, thought, skill, weight)
    found = screen("\n".join([*(message_text(m) for m in ask.messages), lesson.answer]))
    if found is not None:
        return _drop(ask.id, Reason(found.code), found.sentence)
    trusted = settings.single_user or (settings.practice_trusted and episode.kind == "practice")
    return _Candidate(lesson, twin, thought.verdict.answer, trusted)


def _unanimous(candidates: list[_Candidate], settings: CurateSettings, known: Known) -> _Sifted:
    """Near neighbours must not contradict each other; if they do, none of them is trusted."""
    said: dict[tuple[str, str], list[str]] = defaultdict(list)
    for c in candidates:
        others = said[c.lesson.skill, c.twin]
        if not any(same(c.normal, other, c.lesson.answer_type) for other in others):
            others.append(c.normal)

    def against(c: _Candidate) -> str | None:
        answers = said[c.lesson.skill, c.twin]
        return None if len(answers) == 1 else "near-duplicates were answered " + " and ".join(map(repr, answers[:3]))

    return _sift(candidates, Reason.CONFLICT, against)


def _widely_asked(candidates: list[_Candidate], settings: CurateSettings, known: Known) -> _Sifted:
    """A new skill trains once enough sources asked it: a lone one could be planting it."""
    sources: dict[str, set[str]] = defaultdict(set)
    for c in candidates:
        sources[c.lesson.skill].add(c.lesson.source)
    open_skills = {c.lesson.skill for c in candidates if c.trusted} | set(known.established)

    def against(c: _Candidate) -> str | None:
        n = len(sources[c.lesson.skill])
        if c.lesson.skill in open_skills or n >= settings.min_sources:
            return None
        return f"{n} of the {settings.min_sources} sources that a new skill needs have asked '{c.lesson.skill}'"

    return _sift(candidates, Reason.FEW_SOURCES, against)


def _distinct(candidates: list[_Candidate], settings: CurateSettings, known: Known) -> _Sifted:
    """A flood of near-duplicates is one lesson: the earliest, with the lowest weight of them all."""
    groups: dict[tuple[str, str], list[_Candidate]] = defaultdict(list)
    for c in candidates:
        groups[c.lesson.skill, c.twin].append(c)
    kept, dropped = [], []
    for first, *others in groups.values():
        weight = min(c.lesson.weight for c in (first, *others))
        kept.append(replace(first, lesson=replace(first.lesson, weight=weight)))
        why = f"a near-duplicate of {first.lesson.episode_id}"
        dropped += [_drop(c.lesson.episode_id, Reason.DUPLICATE, why) for c in others]
    return kept, dropped


def _within_source_caps(candidates: list[_Candidate], settings: CurateSettings, known: Known) -> _Sifted:
    """At most `max_per_source` lessons of one source: a count, since few samples suffice to poison."""
    over = _over(settings.max_per_source, ((c, c.lesson.source) for c in candidates if not c.trusted))
    why = f"over the cap of {settings.max_per_source} lessons from one source"
    return _sift(candidates, Reason.SOURCE_CAP, lambda c: why if c.lesson.episode_id in over else None)


def _balanced(candidates: list[_Candidate], settings: CurateSettings, known: Known) -> _Sifted:
    """No skill crowds out another: at most `max_per_skill`, and `max_lessons` shared evenly."""
    sizes = Counter(c.lesson.skill for c in candidates)
    cap = min(settings.max_per_skill, even_share(sizes.values(), settings.max_lessons))
    over = _over(cap, ((c, c.lesson.skill) for c in candidates))
    why = f"over the cap of {cap} lessons of one skill"
    return _sift(candidates, Reason.SKILL_CAP, lambda c: why if c.lesson.episode_id in over else None)


def _over(cap: int, grouped: Iterable[tuple[_Candidate, str]]) -> set[str]:
    """Ids of the episodes beyond `cap` in their group, drawn by lot.

    The lot is the hash of an id that the service made, so nobody can steer it; neither the first comers nor
    the most certain win, and the lessons stay spread over what was asked.
    """
    lots: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for c, group in grouped:
        lots[group].append((hashlib.sha256(c.lesson.episode_id.encode()).hexdigest(), c.lesson.episode_id))
    return {episode_id for drawn in lots.values() for _, episode_id in sorted(drawn)[cap:]}


def even_share(sizes: Iterable[int], total: int) -> int:
    """The largest cap, the same for all, under which groups of these sizes hold at most `total` together."""
    left, groups = total, sorted(sizes)
    for i, size in enumerate(groups):
        share = left // (len(groups) - i)
        if size > share:
            return share
        left -= size
    return max(groups, default=0)


_STAGES: tuple[_Rule, ...] = (_unanimous, _widely_asked, _distinct, _within_source_caps, _balanced)


def _sift(candidates: Iterable[_Candidate], code: Reason, against: Callable[[_Candidate], str | None]) -> _Sifted:
    kept: list[_Candidate] = []
    dropped: list[Dropped] = []
    for c in candidates:
        why = against(c)
        if why is None:
            kept.append(c)
        else:
            dropped.append(_drop(c.lesson.episode_id, code, why))
    return kept, dropped


def _drop(episode_id: str, code: Reason, reason: str) -> Dropped:
    return Dropped(episode_id, reason, code)
