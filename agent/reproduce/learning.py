"""Answers become lessons, lessons an adapter, each trained once and kept."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from adapters.manifest import Manifest, verify
from agent.reproduce.answered import Answer, key_of
from agent.reproduce.asking import said
from agent.reproduce.data import Question
from agent.reproduce.lab import Lab, Paused
from agent.reproduce.rows import Share
from agent.reproduce.tasks import Task
from agent.system2.problem import user
from memory.errors import Damaged
from memory.records import Lesson
from policies.answers import normalise
from policies.skills import SkillSettings, direct_messages, prompt_key

TRAINED = "adapters.json"  # key -> adapter's name
START_S = 30.0  # seconds a trainer takes to load the base
TIE = "C"  # a verdict without a winner teaches nothing
PACE = 2.5  # lessons a second that are counted on


@dataclass(frozen=True, slots=True)
class Taught:
    """A row's training set."""

    lessons: tuple[Lesson, ...]
    precision: Share  # of their targets, by gold


def filtered(task: Task, questions: Sequence[Question], answers: Sequence[Answer]) -> Taught:
    """What the filter lets through, with the answer as the agreeing attempts wrote it; no ties."""
    kept = [(q, a, a.text) for q, a in zip(questions, answers, strict=True) if a.agreed and a.text]
    return _taught(task, [row for row in kept if row[2] != TIE])


def unfiltered(task: Task, questions: Sequence[Question], answers: Sequence[Answer]) -> Taught:
    """The first attempt at every question, whatever the others said; those without an answer teach nothing."""
    kept = [(q, a, a.first) for q, a in zip(questions, answers, strict=True) if a.first]
    return _taught(task, [(q, a, text) for q, a, text in kept if text])


def _taught(task: Task, kept: Sequence[tuple[Question, Answer, str]]) -> Taught:
    skill = task.skill
    hits = sum(task.right(normalise(text, skill.answer_type, skill.choices), q.gold) for q, _, text in kept)
    lessons = tuple(_lesson(q, a, task.target.format(text), skill) for q, a, text in kept)
    return Taught(lessons, Share(hits, len(kept)))


def _lesson(question: Question, answer: Answer, text: str, skill: SkillSettings) -> Lesson:
    messages = user(question.text)
    cast = sum(answer.votes.values())
    votes = answer.votes.get(answer.answer or "", 0)
    return Lesson(
        episode_id=answer.key,
        skill=skill.name,
        source="reproduce",
        prompt_key=prompt_key(messages),
        messages=direct_messages(messages, skill),
        answer=text,
        answer_type=skill.answer_type,
        method=skill.method,
        votes=votes,
        attempts=cast,
        share=votes / cast if cast else 0.0,
        learned_at=0.0,
    )


async def learn(lab: Lab, row: str, lessons: Sequence[Lesson]) -> Manifest:
    """The adapter of these lessons: the kept one, else trained now. Raises Paused where the time left is too short.

    A training that a stop cuts off is begun again by the next run. Raises what `agent.distil` raises.
    """
    lines = sorted(orjson.dumps([list(map(dict, o.messages)), o.answer]).decode() for o in lessons)
    key = key_of(lab.base.identity, said(lab.train), lines)
    note = lab.folder / TRAINED
    names: dict[str, str] = orjson.loads(note.read_bytes()) if note.exists() else {}
    if key in names:
        try:
            return verify(lab.folder / "adapters" / names[key], lab.base.identity)
        except Damaged:
            lab.say(f"{row}: its adapter is damaged or gone; trained again", 0, 1)
    needed = START_S + len(lessons) * lab.train.epochs / PACE
    if lab.left_s < needed and (lab.worked or lab.worked_before):  # a session that only trains takes the time it needs
        raise Paused
    lab.worked = True

    def progress(_stage: str, done: int, total: int, said: str) -> None:
        lab.say(f"{row}: {said}", done, total)

    made = await lab.distil(lessons, (), _next_number(lab), lab.base, lab.folder, lab.train, progress)
    note.write_bytes(orjson.dumps(names | {key: made.name}, option=orjson.OPT_INDENT_2))
    return made


def _next_number(lab: Lab) -> int:
    folder = lab.folder / "adapters"
    found = [re.match(r"\.?sn-(\d+)", path.name) for path in folder.iterdir()] if folder.exists() else []
    return 1 + max((int(hit[1]) for hit in found if hit), default=0)
