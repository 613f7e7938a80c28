"""A day over a real memory and a scripted engine: the engine is a function of (model, last message)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from agent.admission import Room
from agent.audits import Audits
from agent.config import Config
from agent.day import Day
from agent.engine.client import Delta, Raw, Sampling
from agent.in_force import InForce, Pointer
from agent.metrics import Metrics
from memory.records import Ask, Completion, Message, Mode
from memory.store import Memory
from policies.calibration import Calibrator
from policies.skills import SkillSettings, is_heldout, last_user_text, prompt_key, recognise

Script = Callable[[str, str], str]


class ScriptedEngine:
    """Answers at once; `gate` holds every answer back while it is cleared."""

    def __init__(self, script: Script, logprob: float = -0.01) -> None:
        self.script, self.logprob = script, logprob
        self.asked: list[tuple[str, str]] = []  # (model, last message)
        self.loaded: dict[str, Path] = {}
        self.reads: list[tuple[str, tuple[int, ...]]] = []  # (adapter, tokens)
        self.gate = asyncio.Event()
        self.gate.set()

    async def chat(
        self, model: str, messages: Sequence[Message], sampling: Sampling, *, priority: int = 0
    ) -> tuple[Completion, ...]:
        text = last_user_text(messages)
        self.asked.append((model, text))
        await self.gate.wait()
        said = self.script(model, text)
        probs = (self.logprob, self.logprob) if sampling.logprobs is not None else ()
        return tuple(Completion(said, model, 10, 2, "stop", 0.01, probs, 0.9) for _ in range(sampling.n))

    async def stream(
        self, model: str, messages: Sequence[Message], sampling: Sampling, *, priority: int = 0
    ) -> AsyncIterator[Delta]:
        (done,) = await self.chat(model, messages, sampling, priority=priority)
        for word in re.findall(r"\S+\s*", done.text):
            yield Delta(word, (self.logprob,))
        yield Delta("", finish_reason="stop", prompt_tokens=10, completion_tokens=2)

    async def forward(self, path: str, body: Mapping[str, Any]) -> Raw:
        raise AssertionError("not scripted")

    async def tokenize(self, model: str, prompt: str | Sequence[Message]) -> tuple[int, ...]:
        """A character, a token."""
        text = prompt if isinstance(prompt, str) else "".join(f"{m['role']}:{m['content']}" for m in prompt)
        return tuple(map(ord, text))

    async def read(self, model: str, tokens: Sequence[int]) -> None:
        assert model in self.loaded
        self.reads.append((model, tuple(tokens)))

    async def load_adapter(self, name: str, path: Path) -> None:
        self.loaded[name] = path

    async def unload_adapter(self, name: str) -> None:
        self.loaded.pop(name, None)

    async def healthy(self) -> bool:
        return True

    async def close(self) -> None:
        return None


SUMS = {
    "name": "sums",
    "pattern": r"^What is \d+ \+ \d+\?$",
    "answer_type": "number",
    "direct": "Number only.",
    "agreement": {"block": 4, "max_samples": 4},
}
SURE = Calibrator(method="platt", n=500, weights=(0.0,) * 6, means=(0.0,) * 6, bias=0.0, platt=(1.0, 0.0))


def settings(**more: Any) -> Config:
    """Settings with one skill; `more` replaces sections."""
    return Config.model_validate({"skills": [SUMS], **more})


def day(tmp_path: Path, engine: Any, *, force: InForce | None = None, chance: float = 0.999, **more: Any) -> Day:
    """A day whose chance is a constant, over a new memory in `tmp_path`."""
    config = settings(state_dir=str(tmp_path), **more)
    memory = Memory.open(tmp_path)
    room = config.admission
    return Day(
        config=config,
        engine=engine,
        memory=memory,
        pointer=Pointer(force),
        metrics=Metrics(),
        audits=Audits(memory, config.audit, room.audit_active, room.audit_waiting),
        system1_room=Room("System 1", room.system1_active, room.system1_waiting),
        system2_room=Room("System 2", room.system2_active, room.system2_waiting),
        practice_room=Room("practice", room.system2_active, room.system2_waiting),
        base="base",
        chance=lambda: chance,
    )


def asked(one: Day, text: str, mode: Mode = Mode.AUTO, number: int = 1, **params: Any) -> tuple[Ask, SkillSettings]:
    """A question as the HTTP layer would hand it on."""
    messages = ({"role": "user", "content": text},)
    skill = recognise(messages, None, one.config.skills)
    key = prompt_key(messages)
    ask = Ask(
        f"ep-{number:013d}-test", messages, skill.name, skill.answer_type, "tester", mode, 1000.0 + number, key,
        is_heldout(key), params,
    )  # fmt: skip
    return ask, skill
