"""What a night must know besides the episodes, and the quarantine of those that contradict each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from agent.day import Day
from memory.records import Episode, Message
from memory.rows import Feedback
from memory.store import Memory
from policies.curation import Curation, Known, Reason
from policies.duplicates import twin_key
from policies.lessons import feedback_weight

CONFLICT = "conflict: "  # how the reason of an episode begins that curation, and no person, put into quarantine
# Without the answers: one side's would stay in the other's row when the first is forgotten.
CONTRADICT = "near-duplicates of the question were answered differently; `quarantine show` has each one's answer"
HELDOUT_MOST = 20_000  # newest held-out questions whose near-duplicates are kept out of training
PAGE = 1000  # episodes read at once


def known(day: Day, taught: Iterable[Episode]) -> Known:
    """What curation must know besides the `taught` episodes. Reads much: call it in a thread."""
    memory, live = day.memory, day.pointer.now.adapter
    quarantined = memory.quarantined()
    return Known(
        skills={skill.name: skill for skill in day.skills},
        weights=weights(taught, memory.feedback_given()),
        quarantined=frozenset(row.episode_id for row in quarantined),
        deliberate=day.pointer.now.deliberate,
        established=frozenset(lesson.skill for lesson in memory.lessons(live.name)) if live else (),
        heldout=tuple(heldout_questions(memory)),
        contested=tuple(
            memory.episode(row.episode_id).ask.messages for row in quarantined if row.reason.startswith(CONFLICT)
        ),
    )


def weights(taught: Iterable[Episode], feedback: Mapping[str, list[Feedback]]) -> dict[str, float]:
    """Episode id -> weight, 0..1, of those that somebody said something about."""
    found = {}
    for episode in taught:
        said, thought = feedback.get(episode.ask.id), episode.deliberation
        if said and thought:
            scores = [one.score for one in said if one.score is not None]
            corrections = [one.correction for one in said if one.correction is not None]
            kind = episode.ask.answer_type
            found[episode.ask.id] = feedback_weight(scores, corrections, thought.verdict.answer, kind)
    return found


def heldout_questions(memory: Memory) -> Iterator[tuple[Message, ...]]:
    """The newest held-out questions, whether or not System 2 agreed on them."""
    after: str | None = None
    for _ in range(0, HELDOUT_MOST, PAGE):
        page = memory.episodes(heldout=True, limit=PAGE, after=after)
        yield from (episode.ask.messages for episode in page)
        if len(page) < PAGE:
            return
        after = page[-1].ask.id


def quarantine_conflicts(memory: Memory, taught: Iterable[Episode], curation: Curation, before: Known) -> int:
    """Put near neighbours that contradict each other into quarantine; gives their number.

    A later twin of such a question is left out of training while they are there, and is not put there itself:
    it is learnt again once a person has released one side and deleted the other.
    """
    closed = {twin_key(messages) for messages in before.contested}
    asked = {episode.ask.id: episode.ask.messages for episode in taught}
    found = [
        drop
        for drop in curation.dropped
        if drop.code is Reason.CONFLICT and twin_key(asked[drop.episode_id]) not in closed
    ]
    for drop in found:
        memory.quarantine(drop.episode_id, CONFLICT + CONTRADICT)
    return len(found)
