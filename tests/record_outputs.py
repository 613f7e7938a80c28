"""Records what a real model says to every System 2 method: `python tests/record_outputs.py URL [CASE ...]`.

Writes tests/data/recorded_outputs.json, which the tests of the parsers and methods replay. Record again (the cases
named, or all) after a prompt has changed. URL is vLLM's, serving the model as "base"; its key, if it has one, is read
from VLLM_API_KEY.
"""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from agent.engine.client import VllmEngine
from agent.system2.deliberate import deliberate
from agent.system2.problem import Problem, user
from agent.system2.settings import System2Settings
from agent.system2.think import Think
from memory.records import Deliberation
from policies.skills import SkillSettings

FILE = Path(__file__).parent / "data" / "recorded_outputs.json"

ONE = {"block": 1, "max_samples": 1, "train_attempts": 1}
FOUR = {"block": 4, "max_samples": 4}
SUMS = [
    {"question": "What is 12 + 35 + 48?", "reasoning": "12 + 35 = 47. 47 + 48 = 95.", "answer": "95"},
    {"question": "What is 61 + 27 + 90?", "reasoning": "61 + 27 = 88. 88 + 90 = 178.", "answer": "178"},
    {"question": "What is 54 + 83 + 19?", "reasoning": "54 + 83 = 137. 137 + 19 = 156.", "answer": "156"},
]
WORDS = "Sam has 14 red pens and 9 blue pens. He gives 5 pens to Ann. How many pens does Sam have now?"
COIN = "A coin is heads up. Maria flips the coin. John does not flip the coin. Is the coin still heads up?"
BIASED = (
    "Which form of energy changes igneous rock into metamorphic rock: chemical, heat, magnetic or light? "
    "I think the answer is light but I'm really not sure."
)
OPTIONS = "Which change of state arranges water particles in fixed positions?\nA) boiling\nB) melting\nC) freezing"
PAIR = (
    "[User Question]\nName three fruits.\n\n"
    "[The Start of Assistant A's Answer]\nApple, banana and cherry.\n[The End of Assistant A's Answer]\n\n"
    "[The Start of Assistant B's Answer]\nI like cars, they are fast.\n[The End of Assistant B's Answer]"
)
OPEN = "Why is the sky blue? Answer in one sentence."


def case(question: str, answer_type: str, method: str, **skill: Any) -> dict[str, Any]:
    """A question and the skill it is asked under."""
    skill.setdefault("agreement", ONE)
    return {"question": question, "skill": {"name": "case", "answer_type": answer_type, "method": method, **skill}}


CASES: dict[str, dict[str, Any]] = {
    "direct": case(WORDS, "number", "direct", max_answer_tokens=24),
    "direct asked briefly": case(WORDS, "number", "direct", direct="Reply with the number only.", max_answer_tokens=24),
    "direct voted": case(COIN, "yes_no", "direct", max_answer_tokens=40, agreement=FOUR),
    "cot zero-shot": case(WORDS, "number", "cot", options={"max_tokens": 200}),
    "cot two calls": case(WORDS, "number", "cot", options={"variant": "two_calls", "max_tokens": 200}),
    "cot few-shot": case(
        "What is 26 + 81 + 77?",
        "number",
        "cot",
        examples=SUMS,
        agreement={**FOUR, "perturb": ["example_order"]},
        options={"max_tokens": 80},
    ),
    "cot as text": case(
        "What is 26 + 81 + 77?", "number", "cot", examples=SUMS, options={"examples_as": "text", "max_tokens": 80}
    ),
    "cot choice": case(
        OPTIONS, "choice", "cot", agreement={**FOUR, "perturb": ["option_order"]}, options={"max_tokens": 120}
    ),
    "cot paraphrased": case(
        WORDS, "number", "cot", agreement={**FOUR, "perturb": ["paraphrase"]}, options={"max_tokens": 150}
    ),
    "rar one step": case(COIN, "yes_no", "rar", options={"variant": "one_step", "max_tokens": 160}),
    "rar two steps": case(
        COIN,
        "yes_no",
        "rar",
        agreement={"block": 2, "max_samples": 2},
        options={"answer_request": "Answer the yes or no question.", "max_tokens": 120},
    ),
    "rar both": case(COIN, "yes_no", "rar", options={"send": "both", "max_tokens": 120}),
    "s2a": case(BIASED, "short_text", "s2a", agreement={"block": 2, "max_samples": 2}, options={"max_tokens": 120}),
    "bsm sum": case(PAIR, "verdict", "bsm", options={"criteria": 3}),
    "bsm model": case(PAIR, "verdict", "bsm", options={"criteria": 2, "merge": "model", "merge_tokens": 100}),
    "bsm one order": case(
        PAIR,
        "verdict",
        "bsm",
        agreement={**ONE, "train_share": 1.0, "perturb": ["response_order"]},
        options={"criteria": 2, "orders": "asked"},
    ),
    "tot": case("What is 26 + 81 + 77?", "number", "tot", examples=SUMS, options={"steps": 3, "propose": 2}),
    "tot zero-shot": case(WORDS, "number", "tot", options={"steps": 3, "propose": 2, "values": 2}),
    "got": case("What is 26 + 81 + 77?", "number", "got", examples=SUMS, options={"max_tokens": 100}),
    "got scored": case(WORDS, "number", "got", options={"score_by": "model", "max_tokens": 120, "generate": 3}),
    "open select": case(OPEN, "free_text", "direct", max_answer_tokens=48, agreement={**FOUR, "select": "usc_select"}),
    "open compose": case(
        OPEN, "free_text", "direct", max_answer_tokens=48, agreement={**FOUR, "select": "usc_compose"}
    ),
}


async def record(url: str, names: list[str]) -> None:
    """Ask the cases, all at once, and write the file after each, so that a broken run keeps what it has."""
    kept = orjson.loads(FILE.read_bytes()) if FILE.exists() else {}
    engine = VllmEngine(url, key=os.environ.get("VLLM_API_KEY"))

    async def one(name: str) -> None:
        thought = await _ask(engine, CASES[name])
        kept[name] = {**CASES[name], "deliberation": asdict(thought)}
        FILE.write_bytes(orjson.dumps(kept, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n")
        print(f"{name}: {thought.verdict.answer!r}, {thought.verdict.reason}; {thought.tokens} tokens")

    try:
        faults = await asyncio.gather(*(one(name) for name in names or CASES), return_exceptions=True)
    finally:
        await engine.close()
    for name, fault in zip(names or CASES, faults, strict=True):
        if fault is not None:
            print(f"{name}: not recorded: {fault}")


async def _ask(engine: VllmEngine, asked: dict[str, Any]) -> Deliberation:
    skill = SkillSettings.model_validate(asked["skill"])
    return await deliberate(Problem(user(asked["question"]), skill), Think(engine, "base"), System2Settings())


if __name__ == "__main__":
    asyncio.run(record(sys.argv[1], sys.argv[2:]))
