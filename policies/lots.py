"""Who is left out where there are too many, and who is too new to count for much."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable

DAY_S = 86_400.0
WORD = re.compile(r"\w*[^\W\d_]\w*")  # with at least one letter: numbers are what is asked about
KNOWN_SOURCES = 8  # sources of a skill from which on it can be said that few of them use a word


def beyond(cap: int, grouped: Iterable[tuple[str, str]]) -> set[str]:
    """Ids beyond `cap` in their group, drawn by lot. `grouped`: (id, group).

    The lot is the hash of an id that the service made, so nobody can steer it; neither the first comers nor
    the most certain win, and what is left stays spread over what was asked.
    """
    lots: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for name, group in grouped:
        lots[group].append((hashlib.sha256(name.encode()).hexdigest(), name))
    return {name for drawn in lots.values() for _, name in sorted(drawn)[cap:]}


def even_share(sizes: Iterable[int], total: int) -> int:
    """The largest cap, the same for all, under which groups of these sizes hold at most `total` together."""
    left, groups = total, sorted(sizes)
    for i, size in enumerate(groups):
        share = left // (len(groups) - i)
        if size > share:
            return share
        left -= size
    return max(groups, default=0)


def newcomers(seen: Iterable[tuple[str, float]], days: float) -> frozenset[str]:
    """Sources that were first seen less than `days` before the newest of all. `seen`: (source, unix seconds).

    Whoever came within the first `days` of all that is remembered is none: a service that is itself new knows
    nobody. The clock is the episodes' own, so that the same memory gives the same lessons whenever it is asked.
    """
    first: dict[str, float] = {}
    newest = 0.0
    for source, at in seen:
        first[source] = min(at, first.get(source, at))
        newest = max(newest, at)
    start, span = min(first.values(), default=0.0), days * DAY_S
    return frozenset(source for source, at in first.items() if at - start >= span and newest - at < span)


def rare_words(asked: Iterable[tuple[str, str, str, str]], share: float) -> list[tuple[str, str]]:
    """(id, word) for every word that at most `share` of a skill's sources use, where the skill has KNOWN_SOURCES.

    `asked`: (id, skill, source, text). A lone source's words are left out: its own cap holds it.
    """
    sources: dict[str, set[str]] = defaultdict(set)
    using: dict[tuple[str, str], set[str]] = defaultdict(set)
    words: list[tuple[str, str, set[str]]] = []
    for name, skill, source, text in asked:
        found = set(WORD.findall(text.casefold()))
        words.append((name, skill, found))
        sources[skill].add(source)
        for word in found:
            using[skill, word].add(source)

    def rare(skill: str, word: str) -> bool:
        known = len(sources[skill])
        return known >= KNOWN_SOURCES and 1 < len(using[skill, word]) <= share * known

    return [(name, f"{skill} {word}") for name, skill, found in words for word in found if rare(skill, word)]
