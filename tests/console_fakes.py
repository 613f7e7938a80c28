"""A whole daemon over a scripted engine and a memory with some thousand episodes, two adapters and thresholds.

The stream has a known truth: an answer's log-probability says how likely System 2 agrees with it.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from random import Random
from typing import Any

from adapters_fakes import BASE, made_adapter
from agent.config import Config
from agent.recalibrate import WHO
from memory.records import (
    Adapter,
    AdapterStatus,
    AnswerType,
    Ask,
    Attempt,
    Audit,
    Call,
    Completion,
    Deliberation,
    Draft,
    Episode,
    Grade,
    Mode,
    RouteDecision,
    Signals,
    SkillScore,
    SkillState,
    System,
    Verdict,
)
from memory.store import Memory
from memory_fakes import lesson
from policies.calibration import Calibrator
from policies.confidence import FEATURES
from policies.skills import is_heldout

HOSTILE = '<script>document.title = "stolen"</script><img src=x onerror="document.title=1">'
HELDOUT = 0.3  # share of questions never trained on
AUDITED = 0.2  # share of accepted answers
SKILLS: dict[str, tuple[str, float]] = {  # name: pattern, how sure System 1 is at first (logits)
    "sums": (r"^What is \d+ \+ \d+\?$", 1.0),
    "differences": (r"^What is \d+ - \d+\?$", 0.2),
    "prices": (r"^A thing costs", -0.6),
    "weekdays": (r"^Which day", -1.4),
}
WEIGHT, BIAS = 3.0, 4.0
WEIGHTS = tuple(WEIGHT if name == "logprob_sum" else 0.0 for name in FEATURES)
FITTED = Calibrator("platt", n=400, weights=WEIGHTS, means=(0.0,) * len(FEATURES), bias=BIAS)
Sample = tuple[Episode, Audit | None]


def settings(state_dir: Path) -> Config:
    common = {"answer_type": "number", "direct": "Number only."}
    skills = [{"name": name, "pattern": pattern, **common} for name, (pattern, _) in SKILLS.items()]
    return Config.model_validate(
        {
            "state_dir": str(state_dir),
            "model": "qwen2.5-coder-0.5b-instruct",
            "engine": {"urls": ["http://127.0.0.1:9"]},
            "heldout_share": HELDOUT,
            "goal": {"max_disagreement": 0.1},
            "skills": skills,
        }
    )


def question(skill: str, n: int) -> str:
    a, b = 10 + n % 89, 10 + n * 7 % 89
    return {
        "sums": f"What is {a} + {b}?",
        "differences": f"What is {a} - {b}?",
        "prices": f"A thing costs {a} euros and is reduced by {b % 50} %. What does it cost?",
        "weekdays": f"Which day of the week is {a} days after day {b % 7}?",
    }[skill]


def completion(text: str, model: str, tokens: int, nats: float) -> Completion:
    return Completion(text, model, 40, tokens, "stop", 0.02 * tokens, (nats,), 0.8)


def agreed(answer: str, wrong: str, rng: Random) -> Deliberation:
    """Four chains and a check; one chain may stray, so `answer` wins: the known truth is what System 2 says."""
    said = [answer, answer, answer, answer if rng.random() < 0.6 else wrong]
    winner = answer
    texts = [f"First I look at the tens, then at the ones. Together that makes {s}. The answer is {s}." for s in said]
    prompt = ({"role": "user", "content": "Think step by step, then say the answer."},)
    calls = (
        Call(0, "reason", (), prompt, tuple(completion(t, "base", 40 + 3 * i, -2.0) for i, t in enumerate(texts))),
        Call(1, "check", (0,), prompt, (completion(f"{winner} is right.", "base", 9, -0.2),)),
    )
    attempts = tuple(Attempt(s, texts[i], 0, i, "reworded" if i == 3 else None) for i, s in enumerate(said))
    votes = {s: said.count(s) for s in dict.fromkeys(said)}
    verdict = Verdict(winner, votes, votes[winner] / 4, Grade.TRAIN, f"{votes[winner]} of 4 attempts agree.")
    return Deliberation("cot", calls, attempts, verdict, texts[0], 180 + rng.randrange(80), 2.0 + rng.random())


def one(number: int, at: float, skill: str, adapter: Adapter | None, gain: float, rng: Random) -> Sample:
    """An episode and its audit, if it was drawn; System 2 agrees as often as the confidence says."""
    score = min(BIAS - 0.05, rng.gauss(SKILLS[skill][1] + gain, 1.3))
    nats = -math.expm1((BIAS - score) / WEIGHT)
    signals = Signals(nats, nats, nats, nats, math.exp(nats), 2, True)
    sure = FITTED.predict(signals, skill) or 0.0
    answer, wrong = str(20 + number % 80), str(21 + number % 80)
    said = answer if rng.random() < sure else wrong
    drafted = Draft(completion(said, adapter.name if adapter else "base", 3, nats), said, signals, sure)
    decision = decided(sure, 0.85 if adapter else 0.9, rng)
    own = agreed(answer, wrong, rng) if decision.system is System.SYSTEM2 else None
    asked = ask(number, at, skill, rng)
    episode = Episode(
        ask=asked,
        draft=drafted,
        decision=decision,
        deliberation=own,
        reply=f"The answer is {answer}." if own else said,
        adapter=adapter.name if adapter else None,
        adapter_digest=adapter.digest if adapter else None,
        tokens=3 + (own.tokens if own else 0),
        seconds=own.seconds if own else 0.05 + 0.05 * rng.random(),
    )
    audit = Audit(asked.id, agreed(answer, wrong, rng), said == answer, at + 5) if decision.audit else None
    return episode, audit


def decided(sure: float, limit: float, rng: Random) -> RouteDecision:
    if sure < limit:
        return RouteDecision(
            System.SYSTEM2, f"Confidence {sure:.3f} is below the threshold {limit:.3f}.", sure, limit, 1.0
        )
    reason = f"Confidence {sure:.3f} reaches the threshold {limit:.3f}."
    return RouteDecision(System.SYSTEM1, reason, sure, limit, AUDITED, rng.random() < AUDITED)


def ask(number: int, at: float, skill: str, rng: Random) -> Ask:
    key = f"{rng.getrandbits(256):064x}"
    messages = ({"role": "user", "content": question(skill, number)},)
    name, source = f"ep-{int(at * 1000):013d}-{number:06d}", ("ann", "ben", "batch")[number % 3]
    return Ask(name, messages, skill, AnswerType.NUMBER, source, Mode.AUTO, at, key, is_heldout(key, HELDOUT), {})


def fill(memory: Memory, adapters: list[Adapter], n: int, now: float) -> None:
    """`n` episodes: a third under the base, a third under each adapter, up to a minute ago."""
    rng = Random(11)
    names = list(SKILLS)
    stages: list[tuple[Adapter | None, float]] = [(None, 0.0), (adapters[0], 1.3), (adapters[1], 2.4)]
    for number in range(n):
        adapter, gain = stages[3 * number // n]
        skill = names[min(3, int(rng.expovariate(0.9)))]
        ago = 1 - number / n
        at = now - 60 - 6 * 86400 * (ago + 0.02 * math.sin(12 * math.pi * ago))  # a wave a day
        gained = gain * (0.15 if skill == "weekdays" else 1.0)
        episode, audit = one(number, at, skill, adapter, gained, rng)
        memory.remember(episode)
        if audit is not None:
            memory.remember_audit(audit)
    memory.remember(hostile(now))
    memory.flush()
    taught = [lesson(episode) for episode in memory.taught()]
    for adapter, share in zip(adapters, (1, 2), strict=True):
        memory.record_lessons(adapter.name, taught[: share * len(taught) // 3])


def hostile(now: float) -> Episode:
    """A reply and a question that try to be HTML."""
    episode, _ = one(1, now - 30, "sums", None, 0.0, Random(2))
    return replace(episode, ask=replace(episode.ask, messages=({"role": "user", "content": HOSTILE},)), reply=HOSTILE)


SCORES = {  # skill: agreement of the base, the first and the second adapter
    "sums": (0.29, 0.55, 0.71),
    "differences": (0.12, 0.58, 0.62),
    "prices": (0.08, 0.31, 0.52),
    "weekdays": (0.16, 0.18, 0.17),
}
STATES = {
    "sums": (SkillState.AUTOMATIC, "System 1 answers 90 % of it and agrees in 96 %."),
    "differences": (SkillState.PRACTISING, "System 1 answers less than 80 % so far."),
    "prices": (SkillState.PRACTISING, "System 1 answers less than 80 % so far."),
    "weekdays": (SkillState.DELIBERATE, "It did not become automatic after a fair try."),
}


def report(adapter: str, which: int) -> tuple[tuple[SkillScore, ...], dict[str, Any]]:
    """What the examination found and the gate said, as a night writes it."""
    scores = tuple(score(skill, row[which - 1], row[which]) for skill, row in SCORES.items())
    first = scores[0]
    rose = f"{first.skill} rose from {first.before:.0%} to {first.after:.0%} on {first.n} held-out questions."
    checks = [
        ["gain", True, rose],
        ["no harm", True, "No skill lost more than the allowed margin of 3 points."],
        ["anchors", True, "Answers to general prompts lost 0.012 nats per token; 0.100 are allowed."],
        ["canaries", True, "No canary prompt's answer became unsafe."],
    ]
    gate = {"promote": True, "reason": f"Every check passed: {rose}", "checks": checks, "deliberate_skills": []}
    measured = {"adapter": adapter, "anchor_drift": 0.012, "canaries_changed": [], "seconds": 41.0}
    return scores, {"evaluation": measured | {"scores": [asdict(one) for one in scores]}, "gate": gate}


def score(skill: str, before: float, after: float) -> SkillScore:
    return SkillScore(skill, 120, before, after, 1 - before, won=round(120 * (after - before)) + 9, lost=9)


def learnt(memory: Memory, state_dir: Path, now: float) -> list[Adapter]:
    """Two adapters with folders, reports, scores and nights, the second live; calibrations, thresholds, states."""
    (state_dir / "adapters").mkdir(parents=True, exist_ok=True)
    rows = [made(memory, state_dir, number, now) for number in (1, 2)]
    for name in (None, rows[0].name, rows[1].name):
        memory.set_calibration(name, json.loads(FITTED.to_json()))
        memory.set_threshold(None, 0.9, WHO, "not certified: 12 more audits are needed", adapter=name)
        certificate = {"threshold": 0.85, "n": 64, "disagreements": 0}
        memory.set_threshold("sums", 0.85, WHO, "64 uniform audits, none disagreed", certificate, adapter=name)
    for skill, (state, why) in STATES.items():
        memory.set_skill_state(skill, state, why, rows[1].name)
    return rows


def made(memory: Memory, state_dir: Path, number: int, now: float) -> Adapter:
    """A night that made an adapter and put it in force."""
    night = memory.start_night("312 lessons are waiting, 200 are enough")
    folder = made_adapter(state_dir / "adapters", number)
    at, lessons, seconds = now - (5 - 2 * number) * 86400, 310 + 95 * number, 204.0 + 31 * number
    row = Adapter(folder.name, folder.digest, BASE, AdapterStatus.CANDIDATE, at, lessons, seconds, "made")
    memory.add_adapter(row)
    scores, told = report(row.name, number)
    memory.record_scores(row.name, scores)
    memory.set_adapter_report(row.name, told)
    memory.make_live(row.name, told["gate"]["reason"])
    memory.finish_night(night, "promoted", {"reason": told["gate"]["reason"]}, row.name)
    return row
