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

import numpy as np

from memory.records import AnswerType
from policies.novelty import vectors

NEAR = 0.75  # 0..1, cosine to the founder from which a question joins its group
LEAST = 8  # questions from which a group is worth showing
SAME = 0.9  # 0..1, share of a group's questions that a proposed pattern must match
_BLANK = re.compile(r"\"[^\"\n]{1,80}\"|\d+(?:[.,:]\d+)*")
_SPACED = re.compile(r"(\s*)(\"[^\"\n]{1,80}\"|\d+(?:[.,:]\d+)*|\w+|[^\w\s])")


@dataclass(frozen=True, slots=True)
class Group:
    """Questions that resemble one another."""

    id: str  # "like-" and the head of the founder's prompt key: the same as long as the founder is remembered
    members: tuple[int, ...]  # positions among the questions given, in order of arrival; the founder first

    @property
    def n(self) -> int:
        """Questions."""
        return len(self.members)


def grow(questions: Sequence[tuple[str, str]], near: float = NEAR, least: int = LEAST) -> list[Group]:
    """Groups of (prompt key, text) in order of arrival, the largest first; smaller ones than `least` are left out."""
    if not questions:
        return []
    found = vectors([_BLANK.sub("#", text) for _, text in questions])
    founders: list[int] = []
    centres = np.zeros_like(found)
    members: list[list[int]] = []
    for i, vector in enumerate(found):
        near_to = np.einsum("ij,j->i", centres[: len(founders)], vector)
        best = int(near_to.argmax()) if len(founders) else -1
        if best >= 0 and near_to[best] >= near:
            members[best].append(i)
        else:
            centres[len(founders)] = vector
            founders.append(i)
            members.append([i])
    groups = [Group(f"like-{questions[own[0]][0][:8]}", tuple(own)) for own in members if len(own) >= least]
    return sorted(groups, key=lambda group: (-group.n, group.id))


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


def answer_type(answers: Iterable[str]) -> AnswerType:
    """What the answers look like: numbers, yes or no, one of few words, or free text."""
    said = [answer.strip().casefold() for answer in answers if answer.strip()]
    if said and all(re.fullmatch(r"-?\d+(?:[.,]\d+)*", answer) for answer in said):
        return AnswerType.NUMBER
    if said and all(answer in ("yes", "no") for answer in said):
        return AnswerType.YES_NO
    short = bool(said) and max(len(answer.split()) for answer in said) <= 6
    return AnswerType.SHORT_TEXT if short else AnswerType.FREE_TEXT


def _kind(piece: str) -> str:
    """A piece of a question as a regular expression."""
    if piece.startswith('"') and len(piece) > 1:
        return r'"[^"]+"'
    return r"\d+(?:[.,:]\d+)*" if piece[0].isdigit() else re.escape(piece)
