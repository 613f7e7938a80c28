"""Questions of no known skill, grouped by themselves: what an operator might make a skill of.

Leader clustering (Hartigan 1975) in order of arrival: a question joins the nearest group whose founder it resembles,
or founds one. A founder is never replaced, so a group keeps its id as it grows, whatever comes later and whenever it
is computed. Numbers and quoted words count as blanks: "What is 3 + 5?" and "What is 60 + 1?" are one kind.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from memory.records import AnswerType
from memory.settings import Settings
from policies.answers import extract
from policies.novelty import vectors

SHORT = 6  # words of an answer that is a few words
SAME = 0.9  # 0..1, share of a group's questions that a proposed pattern must match
_BLANK = re.compile(r"\"[^\"\n]{1,80}\"|\d+(?:[.,:]\d+)*")
_SPACED = re.compile(r"(\s*)(\"[^\"\n]{1,80}\"|\d+(?:[.,:]\d+)*|\w+|[^\w\s])")


class GroupSettings(Settings):
    """Questions that no skill claims, grouped by themselves."""

    mode: Literal["off", "observe", "learn"] = Field(
        default="observe",
        description="off; observe: a group's questions carry its id and are checked now and then, and answered as "
        "before; learn: they are a skill like any other, where their answers can be voted on",
    )
    near: float = Field(
        default=0.75, ge=0.3, le=1.0, description="likeness to the founding question from which another joins, 0..1"
    )
    least: int = Field(default=20, ge=2, le=10_000, description="questions from which a group is a skill")
    least_shown: int = Field(default=8, ge=2, le=10_000, description="questions from which `skills groups` shows one")
    newest: int = Field(default=2_000, ge=10, le=100_000, description="questions of no skill that are looked at")
    most: int = Field(default=50, ge=0, le=1_000, description="groups that may become skills")


@dataclass(frozen=True, slots=True)
class Founders:
    """The founding question of each group, to tell what another question belongs to."""

    ids: tuple[str, ...]
    centres: npt.NDArray[np.float32]  # unit vectors, shape (n, policies.novelty.DIMENSIONS)

    @classmethod
    def of(cls, founding: Sequence[tuple[str, str]]) -> Founders:
        """From (id, text); about 0.1 s per thousand."""
        return cls(tuple(name for name, _ in founding), _vectors([text for _, text in founding]))

    def match(self, text: str, near: float) -> str | None:
        """The group whose founder is the nearest to `text`; None where none is as near as `near` (0..1)."""
        if not self.ids:
            return None
        found = np.einsum("ij,j->i", self.centres, _vectors([text])[0])
        best = int(found.argmax())
        return self.ids[best] if found[best] >= near else None


@dataclass(frozen=True, slots=True)
class Group:
    """Questions that resemble one another."""

    id: str  # that of a founded group, else "like-" and the name of its first question
    members: tuple[int, ...]  # positions among the questions given, in order of arrival

    @property
    def n(self) -> int:
        """Questions."""
        return len(self.members)


def grow(
    questions: Sequence[tuple[str, str]],
    near: float = GroupSettings().near,
    least: int = GroupSettings().least_shown,
    founded: Sequence[tuple[str, str]] = (),
) -> list[Group]:
    """Groups of (name, text) in order of arrival, the largest first; smaller ones than `least` are left out.

    `founded`: (id, text) of groups that there are already: they come first, whatever arrives, and keep their ids.
    """
    if not questions:
        return []
    known = _vectors([text for _, text in founded])
    found = _vectors([text for _, text in questions])
    centres = np.concatenate([known, np.zeros_like(found)])
    ids = [name for name, _ in founded]
    members: list[list[int]] = [[] for _ in founded]
    for i, vector in enumerate(found):
        near_to = np.einsum("ij,j->i", centres[: len(ids)], vector)
        best = int(near_to.argmax()) if ids else -1
        if best >= 0 and near_to[best] >= near:
            members[best].append(i)
        else:
            centres[len(ids)] = vector
            ids.append(f"like-{questions[i][0]}")
            members.append([i])
    groups = [Group(name, tuple(own)) for name, own in zip(ids, members, strict=True) if len(own) >= least]
    return sorted(groups, key=lambda group: (-group.n, group.id))


def _vectors(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """Unit vectors of texts without their numbers and quoted words."""
    return vectors([_BLANK.sub("#", text) for text in texts])


def pattern(texts: Sequence[str]) -> str | None:
    """A regular expression that matches at least `SAME` of a group's questions; None where they differ in form.

    Words that all of the commonest form share stay, numbers, quoted words and differing words become blanks. Two
    blanks are never adjacent without a space between them, so that matching takes time linear in the text.
    """
    forms = [[(bool(m[1]), m[2]) for m in _SPACED.finditer(text.strip())] for text in texts]
    length, count = Counter(len(form) for form in forms).most_common(1)[0] if forms else (0, 0)
    if not length or count < SAME * len(texts):
        return None
    columns = list(zip(*(form for form in forms if len(form) == length), strict=True))
    pieces = [_common([piece for _, piece in column]) for column in columns]
    if None in pieces or not any(piece in _literals(column) for piece, column in zip(pieces, columns, strict=True)):
        return None
    gaps = [_gap({spaced for spaced, _ in column}) for column in columns]
    made = "^" + "".join(f"{gap}{piece}" for gap, piece in zip(["", *gaps[1:]], pieces, strict=True)) + r"\s*$"
    matched = sum(re.search(made, text.strip(), re.IGNORECASE) is not None for text in texts)
    return made if matched >= SAME * len(texts) else None


def _literals(column: Sequence[tuple[bool, str]]) -> set[str]:
    """Word pieces as they would stand in a pattern that keeps them."""
    return {re.escape(piece) for _, piece in column if piece[0].isalpha()}


def _gap(spaced: set[bool]) -> str:
    return r"\s*" if len(spaced) > 1 else r"\s+" if True in spaced else ""


def _common(pieces: Sequence[str]) -> str | None:
    """What one place of all questions has in common; None where marks and words share it."""
    kinds = {_kind(piece) for piece in pieces}
    if len(kinds) == 1:
        return kinds.pop()
    return r"\w+" if all(re.fullmatch(r"\w+", piece) for piece in pieces) else None


def answer_type(answers: Sequence[str], questions: Sequence[str] = ()) -> AnswerType:
    """What nine answers in ten look like: a number, yes or no, a few words, or free text.

    With the `questions` a short sentence counts as the number that it brings in ("3 + 5 = 8."), and one that begins
    with yes or no as that.
    """
    said = [answer.strip().casefold() for answer in answers if answer.strip()]
    if not said:
        return AnswerType.FREE_TEXT
    if _most(re.fullmatch(r"-?\d+(?:[.,]\d+)*", answer) is not None for answer in said):
        return AnswerType.NUMBER
    if _most(re.match(r"(?:yes|no)\b", answer) is not None and (questions or len(answer) < 4) for answer in said):
        return AnswerType.YES_NO
    if questions and _most(_brings_a_number(*pair) for pair in zip(questions, said, strict=False)):
        return AnswerType.NUMBER
    short = max(len(answer.split()) for answer in said) <= SHORT
    return AnswerType.SHORT_TEXT if short else AnswerType.FREE_TEXT


def _most(true: Iterable[object]) -> bool:
    found = [bool(one) for one in true]
    return sum(found) >= SAME * len(found)


def _brings_a_number(question: str, answer: str) -> bool:
    """Whether a short answer gives a number that the question did not."""
    if len(answer.split()) > 2 * SHORT:
        return False
    found = extract(answer, AnswerType.NUMBER)
    return found is not None and found not in re.findall(r"\d+(?:[.,]\d+)*", question)


def _kind(piece: str) -> str:
    """A piece of a question as a regular expression."""
    if piece.startswith('"') and len(piece) > 1:
        return r'"[^"]+"'
    return r"\d+(?:[.,:]\d+)*" if piece[0].isdigit() else re.escape(piece)
