"""System 2's price: tokens and seconds per agreed answer, against a fixed draw of 8 samples.

    python -m bench.thinking [--questions 6] [--at-once 4] [--turns 2] [--seed 5] [--json]

Questions of the demonstration's skills are thought through on the real engine, by worked examples and the rule of
agreement that a skill has where it names none. First, a few at once, with 8 samples drawn at once and as the service
does it, in turn. Then other ways of drawing are replayed on the very samples of the fixed draw, so that their tokens
and their votes are compared on the same words; "cancelled" ends the samples under way, which grow together token by
token, as soon as the vote is decided. At last all questions are asked at once, so that the engine is full whichever
way they are thought through: its whole time is then divided by the agreed answers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from adapters.model import get_model
from agent.engine.client import Engine
from agent.engine.launch import BASE
from agent.engine.settings import EngineSettings
from agent.engine.supervisor import Supervisor
from agent.system2.deliberate import deliberate
from agent.system2.problem import Problem
from agent.system2.settings import System2Settings
from agent.system2.think import Think
from bench.demo.skills import distinct
from bench.served import MODEL, rotated
from bench.stopping import CAP, first
from memory.records import Attempt, Deliberation, Grade
from policies import agree
from policies.agree import AgreementSettings
from policies.answers import normalise
from policies.skills import SkillSettings

DEMO = Path(__file__).parent / "demo" / "service.yaml"
FIXED = AgreementSettings(block=CAP, max_samples=CAP, stop="never")
ADAPTIVE = AgreementSettings()  # as delivered
GIVEN_UP = ADAPTIVE.model_copy(update={"cancel": True})  # as practice draws
SKILLS = ("three_sums", "plus_minus", "minutes", "reviews")


@dataclass(frozen=True)
class Case:
    """One question."""

    skill: SkillSettings
    text: str
    gold: str


@dataclass(frozen=True)
class Way:
    """A way of drawing up to 8 samples."""

    name: str
    rule: AgreementSettings
    blocks: tuple[int, ...] = ()  # sizes, the last one again and again; none: as many as may decide (agree.needed)
    cancelled: bool = False  # end what is under way once the vote is decided


@dataclass(frozen=True)
class Flood:
    """All questions at once, in one way."""

    what: str
    questions: int
    agreed: float  # train-grade answers, mean of the turns
    agreed_right: float  # 0..1, of the agreed answers
    tokens_per_agreed: float  # of all turns together
    seconds_per_agreed: float  # wall time from the first question to the last answer; median of the turns


@dataclass(frozen=True)
class Row:
    """What a way cost and found."""

    what: str
    questions: int
    samples: float  # drawn per question
    tokens: float  # generated per question
    seconds: float | None  # per question, wall time of one thought; None: replayed
    agreed: int  # train-grade answers
    tokens_per_agreed: float
    agreed_right: float  # 0..1, of the agreed answers
    same: float  # 0..1, share with the winner of the fixed draw
    right: float  # 0..1


WAYS = (
    Way("as delivered", ADAPTIVE),
    Way("as delivered, given up (cancel)", GIVEN_UP),
    Way("4, then 4", first(4, 0.95), (4,)),
    Way("4, then 4, cancelled", first(4, 0.95), (4,), cancelled=True),
    Way("4 first, posterior 0.95", first(4, 0.95)),
    Way("3 first, posterior 0.93", first(3, 0.93)),
    Way("3 first, posterior 0.81", first(3, 0.81)),
    Way("2 first, posterior 0.85", first(2, 0.85)),
    Way("4 and no more", AgreementSettings(block=4, max_samples=4)),
    Way("8, cancelled", AgreementSettings(block=CAP, max_samples=CAP, stop="certain"), (CAP,), cancelled=True),
)


def cases(each: int, seed: int) -> list[Case]:
    """Questions of each skill in turn; System 2's worked examples are left out."""
    settings: dict[str, Any] = yaml.safe_load(DEMO.read_text())
    skills = {s["name"]: SkillSettings.model_validate(s) for s in settings["skills"] if s["name"] in SKILLS}
    found = []
    for skill in skills.values():
        shown = {example.question for example in skill.examples}
        fresh = islice((q for q in distinct(skill.name, seed) if q.text not in shown), each)
        found.append([Case(skill, q.text, normalise(q.gold, skill.answer_type) or "") for q in fresh])
    return [case for row in zip(*found, strict=True) for case in row]


async def thought(engine: Engine, case: Case, rule: AgreementSettings, settings: System2Settings) -> Deliberation:
    """One thought under a rule of agreement."""
    skill = case.skill.model_copy(update={"agreement": rule})
    problem = Problem(({"role": "user", "content": case.text},), skill)
    return await deliberate(problem, Think(engine, BASE), settings)


async def both(
    engine: Engine, found: Sequence[Case], settings: System2Settings, at_once: int
) -> list[tuple[Deliberation, Deliberation]]:
    """(fixed, adaptive) of every question: `at_once` questions fixed, the same adaptively, the next ones reversed."""
    pairs = []
    for start in range(0, len(found), at_once):
        group = found[start : start + at_once]
        rules = [FIXED, ADAPTIVE] if start // at_once % 2 == 0 else [ADAPTIVE, FIXED]
        done = {}
        for rule in rules:
            done[rule.stop] = await asyncio.gather(*(thought(engine, case, rule, settings) for case in group))
        pairs += list(zip(done[FIXED.stop], done[ADAPTIVE.stop], strict=True))
    return pairs


async def flood(engine: Engine, found: Sequence[Case], settings: System2Settings, turns: int) -> list[Flood]:
    """All questions at once: fixed, as delivered, given up; `turns` times, each time another way first."""
    ways = {"8 samples, always": FIXED, "as delivered": ADAPTIVE, "given up (cancel)": GIVEN_UP}
    seen: dict[str, list[tuple[list[Deliberation], float]]] = {name: [] for name in ways}  # thoughts, seconds
    for turn in range(turns):
        for name in rotated(ways, turn):
            began = time.perf_counter()
            done = await asyncio.gather(*(thought(engine, case, ways[name], settings) for case in found))
            seen[name].append((done, time.perf_counter() - began))
    return [_flooded(name, found, taken) for name, taken in seen.items()]


def _flooded(name: str, found: Sequence[Case], taken: Sequence[tuple[Sequence[Deliberation], float]]) -> Flood:
    """A way's row from its turns' thoughts and seconds."""
    rows = [(live(name, found, done, done), seconds) for done, seconds in taken]
    agreed = sum(row.agreed for row, _ in rows)
    return Flood(
        what=name,
        questions=len(found),
        agreed=agreed / len(rows),
        agreed_right=sum(row.agreed_right * row.agreed for row, _ in rows) / max(1, agreed),
        tokens_per_agreed=sum(row.tokens * row.questions for row, _ in rows) / max(1, agreed),
        seconds_per_agreed=median(seconds / max(1, row.agreed) for row, seconds in rows),
    )


def drawn(samples: Sequence[tuple[Attempt, int]], way: Way) -> tuple[list[Attempt], int]:
    """What a way would have made of a fixed draw's samples (attempt, tokens): the votes it takes, and the tokens."""
    votes: list[Attempt] = []
    tokens, sizes = 0, list(way.blocks)
    while len(votes) < way.rule.max_samples and not _decided(votes, way.rule):
        size = sizes.pop(0) if len(sizes) > 1 else (sizes or [agree.needed([v.answer for v in votes], way.rule)])[0]
        block = list(samples[len(votes) : min(len(votes) + size, way.rule.max_samples)])
        ending = sorted(block, key=lambda sample: sample[1]) if way.cancelled else block
        for n, (attempt, length) in enumerate(ending, 1):
            votes.append(attempt)
            tokens += length
            if way.cancelled and n < len(ending) and _decided(votes, way.rule):
                return votes, tokens + length * (len(ending) - n)  # the others have grown as far
    return votes, tokens


def _decided(votes: Sequence[Attempt], rule: AgreementSettings) -> bool:
    return bool(votes) and agree.stop([vote.answer for vote in votes], rule).stop


def live(what: str, found: Sequence[Case], thoughts: Sequence[Deliberation], fixed: Sequence[Deliberation]) -> Row:
    """A row of what was really run."""
    n, firm = len(found), [t.verdict.grade is Grade.TRAIN for t in thoughts]
    right = [t.verdict.answer == case.gold for t, case in zip(thoughts, found, strict=True)]
    agreed = sum(firm)
    tokens = sum(t.tokens for t in thoughts)
    return Row(
        what=what,
        questions=n,
        samples=sum(len(t.attempts) for t in thoughts) / n,
        tokens=tokens / n,
        seconds=sum(t.seconds for t in thoughts) / n,
        agreed=agreed,
        tokens_per_agreed=tokens / max(1, agreed),
        agreed_right=sum(r for r, sure in zip(right, firm, strict=True) if sure) / max(1, agreed),
        same=sum(t.verdict.answer == f.verdict.answer for t, f in zip(thoughts, fixed, strict=True)) / n,
        right=sum(right) / n,
    )


def replayed(way: Way, found: Sequence[Case], fixed: Sequence[Deliberation]) -> Row:
    """A row of a way on the fixed draw's own samples."""
    thoughts = []
    for case, whole in zip(found, fixed, strict=True):
        lengths = [done.completion_tokens for call in whole.calls for done in call.completions]
        votes, tokens = drawn(list(zip(whole.attempts, lengths, strict=True)), way)
        verdict = agree.verdict(votes, way.rule, case.skill.answer_type)
        thoughts.append(replace(whole, attempts=tuple(votes), verdict=verdict, tokens=tokens))
    return replace(live(way.name, found, thoughts, fixed), seconds=None)


async def measure(each: int, at_once: int, seed: int, turns: int) -> tuple[list[Row], list[Flood]]:
    """Start an engine, think, replay; then all questions at once."""

    async def nothing() -> None:
        return

    found = cases(each, seed)
    settings = System2Settings(max_tokens=64)
    with tempfile.TemporaryDirectory(prefix="secondnature-bench-") as folder:
        engine = EngineSettings(context_tokens=1024, kv_cache_gib=1.0)
        one = Supervisor(engine, Path(get_model(MODEL).path), Path(folder), on_ready=nothing)
        await one.start()
        try:
            await one.wait_ready()
            for case in {case.skill.name: case for case in found}.values():
                await thought(one.engine, case, FIXED, settings)  # the worked examples are in the cache from here on
            pairs = await both(one.engine, found, settings, at_once)
            floods = await flood(one.engine, found, settings, turns) if turns else []
        finally:
            await one.stop()
    fixed = [one for one, _ in pairs]
    rows = [live("fixed 8, run", found, fixed, fixed), live("as delivered, run", found, [b for _, b in pairs], fixed)]
    return rows + [replayed(way, found, fixed) for way in WAYS], floods


def show(rows: Sequence[Row]) -> None:
    """One table; ratios are over the first row."""
    heads = ("way", "samples", "agreed", "of them right", "tokens per agreed", "ratio", "s per agreed", "ratio")
    table = Table(*heads, "same", "right")
    fixed = rows[0]
    for r in rows:
        priced = (f"{r.tokens_per_agreed:.0f}", f"{r.tokens_per_agreed / fixed.tokens_per_agreed:.2f}")
        timed = ("", "") if r.seconds is None else (f"{per_agreed(r):.2f}", f"{per_agreed(r) / per_agreed(fixed):.2f}")
        counts = (f"{r.samples:.2f}", f"{r.agreed} of {r.questions}", f"{r.agreed_right:.2f}")
        table.add_row(r.what, *counts, *priced, *timed, f"{r.same:.2f}", f"{r.right:.2f}")
    Console(width=140).print(table)


def show_floods(floods: Sequence[Flood]) -> None:
    """The same for all questions at once."""
    table = Table("all at once", "agreed", "of them right", "tokens per agreed", "ratio", "s per agreed", "ratio")
    fixed = floods[0]
    for f in floods:
        tokens = (f"{f.tokens_per_agreed:.0f}", f"{f.tokens_per_agreed / fixed.tokens_per_agreed:.2f}")
        seconds = (f"{f.seconds_per_agreed:.2f}", f"{f.seconds_per_agreed / fixed.seconds_per_agreed:.2f}")
        table.add_row(f.what, f"{f.agreed:.1f} of {f.questions}", f"{f.agreed_right:.2f}", *tokens, *seconds)
    Console(width=140).print(table)


def per_agreed(row: Row) -> float:
    """Seconds of thought per agreed answer."""
    return (row.seconds or 0.0) * row.questions / max(1, row.agreed)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m bench.thinking", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--questions", type=int, default=6, help="of each of the four skills")
    parser.add_argument("--at-once", type=int, default=4, help="questions thought through at once")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--turns", type=int, default=2, help="of all questions at once; 0: none")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows, floods = asyncio.run(measure(given.questions, given.at_once, given.seed, given.turns))
    if given.json:
        print(json.dumps({"ways": [asdict(row) for row in rows], "floods": [asdict(f) for f in floods]}, indent=1))
        return
    show(rows)
    if floods:
        show_floods(floods)


if __name__ == "__main__":
    main()
