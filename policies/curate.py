"""Curate: which remembered answers become lessons, and why each of the others does not.

Every episode that goes in comes out once, kept or dropped with its reason. Poisoning is a matter of absolute
counts (50 to 90 samples suffice whatever the size of the data; notes/evidence.md, section 6), so the caps are
examples per source, not shares. The result depends on the episodes alone, not on their order.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from memory.records import AnswerType, Ask, Deliberation, Episode, Grade, Lesson, Message
from policies.answers import same
from policies.curation import CurateSettings, Curation, Dropped, Known, Reason
from policies.duplicates import twin_key
from policies.lessons import lesson_of
from policies.lots import beyond, even_share, newcomers, rare_words
from policies.screen import gives_away, screen
from policies.skills import SkillSettings, fits, last_user_text, message_text, without_question


def curate(episodes: Iterable[Episode], settings: CurateSettings, known: Known | None = None) -> Curation:
    """Turn taught episodes (with their own or an audit's deliberation) into lessons.

    A near-duplicate of a held-out question is held out with it. Near neighbours with different answers are
    all dropped (`Reason.CONFLICT`: quarantine them). Of near-duplicates the earliest stays.
    """
    known = known or Known()
    ordered = sorted(episodes, key=lambda e: (e.ask.asked_at, e.ask.id))
    held = [*(e.ask.messages for e in ordered if e.ask.heldout), *known.heldout]
    closed = {twin_key(m): Reason.CONFLICT for m in known.contested} | {twin_key(m): Reason.HELD_OUT_TWIN for m in held}
    new = newcomers(((e.ask.source, e.ask.asked_at) for e in ordered), settings.newcomer_days)
    dropped: list[Dropped] = []
    candidates: list[_Candidate] = []
    seen: set[str] = set()
    for episode in ordered:
        found = (
            _drop(episode.ask.id, Reason.DUPLICATE, "the same episode again")
            if episode.ask.id in seen
            else _candidate(episode, closed, new, settings, known)
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
    newcomer: bool  # its source is new
    context: str  # all that was said beside the question: "" where it stands alone


_CLOSED = {
    Reason.HELD_OUT_TWIN: "a near-duplicate of the question is held out",
    Reason.CONFLICT: "near-duplicates of the question are in quarantine for contradicting each other",
}
_Sifted = tuple[list[_Candidate], list[Dropped]]
_Rule = Callable[[list[_Candidate], CurateSettings, Known], _Sifted]


def _candidate(
    episode: Episode, closed: Mapping[str, Reason], new: Collection[str], settings: CurateSettings, known: Known
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
    if _given_away(ask, thought, skill):
        return _drop(ask.id, Reason.GIVEN_AWAY, "the question names the answer that was agreed on")
    practised = settings.practice_trusted and episode.kind == "practice"
    if settings.match_pattern and not practised and not fits(skill, ask.messages):
        return _drop(ask.id, Reason.OFF_PATTERN, f"the question does not match the pattern of '{ask.skill}'")
    trusted = settings.single_user or practised
    return _Candidate(lesson, twin, thought.verdict.answer, trusted, ask.source in new, _context(ask.messages))


def _given_away(ask: Ask, thought: Deliberation, skill: SkillSettings) -> bool:
    """Whether System 2 was told the answer that it agreed on: such agreement shows nothing.

    Not asked of a verdict, whose letter every such prompt has to name ("Assistant A's Answer"), nor of a choice that
    was put in another order too (`agreement.perturb: [option_order]`), which is the better test. `s2a` answers a
    rewriting without the user's opinion, so its rewritings count in the question's place, and half of the winner's
    must not tell: else only opinions that proved wrong would be learnt from, and System 1 would learn to contradict.
    """
    answer = thought.verdict.answer or ""
    kind = ask.answer_type
    if kind is AnswerType.VERDICT or (kind is AnswerType.CHOICE and "option_order" in skill.agreement.perturb):
        return False
    if any(gives_away(message_text(m), answer) for m in without_question(ask.messages)):
        return True
    attended = any(call.stage == "rewrite" for call in thought.calls)  # by s2a
    prompts = {call.id: call.messages for call in thought.calls} if attended else {}
    shown = [prompts.get(a.call, ask.messages) for a in thought.attempts if a.answer == answer] or [ask.messages]
    told = sum(gives_away(last_user_text(messages), answer) for messages in shown)
    return 2 * told > len(shown)


def _context(messages: Sequence[Message]) -> str:
    return "\0".join(f"{m.get('role')} {message_text(m)}" for m in without_question(messages))


def _unanimous(candidates: list[_Candidate], settings: CurateSettings, known: Known) -> _Sifted:
    """Near neighbours must not contradict each other; if they do, none of them is trusted."""
    said: dict[tuple[str, str], list[str]] = defaultdict(list)  # whatever skill a caller named: a twin is a twin
    for c in candidates:
        others = said[c.lesson.answer_type, c.twin]
        if not any(same(c.normal, other, c.lesson.answer_type) for other in others):
            others.append(c.normal)

    def against(c: _Candidate) -> str | None:
        answers = said[c.lesson.answer_type, c.twin]
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


def _widely_framed(candidates: list[_Candidate], settings: CurateSettings, known: Known) -> _Sifted:
    """What stands before the question (a system message, earlier turns) can carry an order that no pattern of the
    question sees: like a new skill, it must come from enough sources."""
    sources: dict[str, set[str]] = defaultdict(set)
    for c in candidates:
        sources[c.context].add(c.lesson.source)

    def against(c: _Candidate) -> str | None:
        n = len(sources[c.context])
        if not c.context or c.trusted or n >= settings.min_sources:
            return None
        return f"what was said before the question came from {n} of the {settings.min_sources} sources that it needs"

    return _sift(candidates, Reason.RARE_CONTEXT, against)


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
    lots = ((c.lesson.episode_id, c.lesson.source) for c in candidates if not c.trusted)
    over = beyond(settings.max_per_source, lots)
    why = f"over the cap of {settings.max_per_source} lessons from one source"
    return _sift(candidates, Reason.SOURCE_CAP, lambda c: why if c.lesson.episode_id in over else None)


def _within_new_cap(candidates: list[_Candidate], settings: CurateSettings, known: Known) -> _Sifted:
    """All new sources share one cap: keys that were made together to plant something are new together."""
    lots = ((c.lesson.episode_id, "") for c in candidates if c.newcomer and not c.trusted)
    over = beyond(settings.max_from_newcomers, lots)
    why = f"over the cap of {settings.max_from_newcomers} lessons from all new sources together"
    return _sift(candidates, Reason.NEWCOMER_CAP, lambda c: why if c.lesson.episode_id in over else None)


def _within_word_cap(candidates: list[_Candidate], settings: CurateSettings, known: Known) -> _Sifted:
    """A word that few sources use, in many lessons, may be a planted trigger: its lessons count as one source's."""
    told = (c.lesson for c in candidates if not c.trusted)
    rare = rare_words(((x.episode_id, x.skill, x.source, _asked(x)) for x in told), settings.rare_share)
    over = beyond(settings.max_per_source, rare)
    why = f"over the cap of {settings.max_per_source} lessons with a word that few of the skill's sources use"
    return _sift(candidates, Reason.RARE_WORD, lambda c: why if c.lesson.episode_id in over else None)


def _asked(lesson: Lesson) -> str:
    return "\n".join(message_text(message) for message in lesson.messages)


def _balanced(candidates: list[_Candidate], settings: CurateSettings, known: Known) -> _Sifted:
    """No skill crowds out another: at most `max_per_skill`, and `max_lessons` shared evenly."""
    sizes = Counter(c.lesson.skill for c in candidates)
    cap = min(settings.max_per_skill, even_share(sizes.values(), settings.max_lessons))
    over = beyond(cap, ((c.lesson.episode_id, c.lesson.skill) for c in candidates))
    why = f"over the cap of {cap} lessons of one skill"
    return _sift(candidates, Reason.SKILL_CAP, lambda c: why if c.lesson.episode_id in over else None)


_STAGES: tuple[_Rule, ...] = (
    _unanimous,
    _widely_asked,
    _widely_framed,
    _distinct,
    _within_source_caps,
    _within_new_cap,
    _within_word_cap,
    _balanced,
)


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
