"""Questions that no skill claims, grouped by themselves, each group with the skill that could be made of it."""

from __future__ import annotations

from typing import Any

import yaml

from memory.records import AnswerType, Episode
from memory.store import Memory
from policies.grouping import Group, answer_type, grow, pattern
from policies.skills import UNKNOWN, last_user_text

PAGE = 500  # episodes read at once
MOST = 20_000  # questions grouped, the newest; beyond it a group whose founder is older gets another id
SHOWN = 3  # examples
DIRECT = {
    AnswerType.NUMBER: "Answer with the number only.",
    AnswerType.YES_NO: "Answer yes or no only.",
    AnswerType.SHORT_TEXT: "Answer with the answer only.",
}


def groups(memory: Memory) -> list[dict[str, Any]]:
    """The groups, the largest first: id, n, examples, pattern, answer_type, and `skill`, lines for service.yaml."""
    asked = _asked(memory)
    found = grow([(episode.ask.prompt_key, last_user_text(episode.ask.messages)) for episode in asked])
    return [_told(group, [asked[i] for i in group.members]) for group in found]


def _asked(memory: Memory) -> list[Episode]:
    """The questions of no skill, each once, in order of arrival."""
    once: dict[str, Episode] = {}
    after, left = None, MOST
    while left > 0 and (page := memory.episodes(skill=UNKNOWN, limit=min(PAGE, left), after=after)):
        for episode in page:  # the newest first: the first asking of a question stays
            once[episode.ask.prompt_key] = episode
        after, left = page[-1].ask.id, left - len(page)
    return sorted(once.values(), key=lambda episode: episode.ask.id)


def _told(group: Group, members: list[Episode]) -> dict[str, Any]:
    texts = [last_user_text(episode.ask.messages) for episode in members]
    kind = answer_type(_answer(episode) for episode in members)
    found = pattern(texts)
    skill = {"name": group.id, "pattern": found, "answer_type": kind.value, "direct": DIRECT.get(kind, "")}
    written = {name: value for name, value in skill.items() if value}
    return {
        "id": group.id,
        "n": group.n,
        "examples": texts[:SHOWN],
        "pattern": found,
        "answer_type": kind.value,
        "skill": yaml.safe_dump([written], sort_keys=False, allow_unicode=True, width=10_000),
    }


def _answer(episode: Episode) -> str:
    thought = episode.deliberation
    return (thought.verdict.answer if thought else None) or episode.reply
