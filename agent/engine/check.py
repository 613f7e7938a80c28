"""Is the frozen base really frozen? Asked of every engine when it starts, because on some it is not.

Two random adapters fill two slots; base questions are then answered beside adapter questions. The answers must be
those the base gives beside base questions: the same batch, so that the only difference is the adapters. Without
the plugin (grouped_lora.py) vLLM's CPU operators fail this, and so did its GPU ones for some models.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import struct
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agent.engine.client import Engine, Priority, Sampling
from memory.errors import BadConfig
from memory.records import Completion, Message

RANK = 2
SIZE = 0.2  # standard deviation of A and of B: their product is as large as the base's own weights
ATTEMPTS = 2  # a near tie between two tokens may fall either way once
SAMPLING = Sampling(temperature=0.0, max_tokens=4)
WORDS = ("France", "Japan", "Italy", "Spain", "Greece", "Egypt", "Peru", "Norway")


@dataclass(frozen=True, slots=True)
class EngineCheck:
    """What the check found."""

    passed: bool
    sentence: str  # for the operator
    asked: int  # base answers compared
    changed: int  # of them, not what the base alone answers
    seconds: float  # wall time


async def check_base(engine: Engine, base: str, model: Path, place: Path | None = None) -> EngineCheck:
    """Run it on a running engine: about as long as 48 answers of a word. It loads and unloads two adapters.

    `model`: the base's folder, for the shapes of its matrices. `place`: a folder that the engine sees too, for the
    adapters; None: the temporary one. Raises Unavailable, TimedOut and BadConfig.
    """
    started = time.perf_counter()
    names = [f"check-{secrets.token_hex(4)}" for _ in range(2)]
    shapes = matrix_shapes(model)
    with tempfile.TemporaryDirectory(prefix="secondnature-check-", dir=place) as folder:
        await asyncio.to_thread(os.chmod, folder, 0o755)  # the engine may be another user's
        for seed, name in enumerate(names):
            await asyncio.to_thread(write_adapter, Path(folder) / name, shapes, seed)
            await engine.load_adapter(name, Path(folder) / name)
        try:
            for _ in range(ATTEMPTS):
                alone, unmoved = await _ask(engine, base, [base, base])
                mixed, moved = await _ask(engine, base, names)
                changed = _differ(alone, mixed)
                if not changed:
                    break
        finally:
            for name in names:
                await engine.unload_adapter(name)
    acted = _differ(unmoved, moved)
    passed = changed == 0 and acted > 0
    return EngineCheck(passed, _sentence(changed, acted), len(WORDS), changed, time.perf_counter() - started)


def _sentence(changed: int, acted: int) -> str:
    asked = len(WORDS)
    if changed:
        return (
            f"{changed} of {asked} answers of the base were changed by adapters in the same batch: its teacher"
            " would be its student. On a CPU install this project into vLLM's environment, so that its plugin loads."
        )
    if not acted:
        return "Two random adapters changed no answer: this engine does not apply adapters."
    return f"{asked} of {asked} answers of the base are the same beside adapters as alone."


async def _ask(engine: Engine, base: str, others: Sequence[str]) -> tuple[list[Completion], list[Completion]]:
    """Each question of the base and of two others, all at once. Returns the base's answers, and the others'."""
    models = [base, *others]
    asked = [
        engine.chat(name, _question(word), SAMPLING, priority=Priority.SYSTEM1) for word in WORDS for name in models
    ]
    answers = [samples[0] for samples in await asyncio.gather(*asked)]
    step = len(models)
    return answers[::step], [one for i, one in enumerate(answers) if i % step]


def _question(word: str) -> tuple[Message, ...]:
    return ({"role": "user", "content": f"What is the capital of {word}? Answer with one word."},)


def _differ(first: Iterable[Completion], second: Iterable[Completion]) -> int:
    return sum(a.text != b.text for a, b in zip(first, second, strict=True))


def matrix_shapes(model: Path) -> dict[str, tuple[int, int]]:
    """Name -> (out, in) of the projections in the model's layers, read from the heads of its safetensors files.

    Raises BadConfig where there are none to be found.
    """
    shapes: dict[str, tuple[int, int]] = {}
    for file in sorted(model.glob("*.safetensors")):
        for name, tensor in _head(file).items():
            stem = name.removesuffix(".weight")
            if ".layers." in name and stem.endswith("_proj") and ".experts." not in name and stem != name:
                out, wide = tensor["shape"]
                shapes[stem] = (out, wide)
    if not shapes:
        raise BadConfig(f"No projection matrices were found in {model}: engine.model must be a model's folder.")
    return shapes


def _head(file: Path) -> dict[str, dict[str, list[int]]]:
    """A safetensors file starts with 8 bytes, the length of the JSON that follows."""
    with file.open("rb") as opened:
        (length,) = struct.unpack("<Q", opened.read(8))
        head: dict[str, dict[str, list[int]]] = json.loads(opened.read(length))
    head.pop("__metadata__", None)
    return head


def write_adapter(folder: Path, shapes: Mapping[str, tuple[int, int]], seed: int, rank: int = RANK) -> None:
    """A random LoRA adapter in peft's layout, without torch."""
    chance = np.random.default_rng(seed)
    tensors: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]] = {}
    for stem, (out, wide) in shapes.items():
        for part, shape in (("lora_A", (rank, wide)), ("lora_B", (out, rank))):
            values = chance.standard_normal(shape, dtype=np.float32) * np.float32(SIZE)
            tensors[f"base_model.model.{stem}.{part}.weight"] = values
    folder.mkdir(parents=True)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted({stem.rpartition(".")[2] for stem in shapes}),
        "base_model_name_or_path": "",
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    head, start = {}, 0
    for name, values in tensors.items():
        end = start + values.nbytes
        head[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(head).encode()
    with (folder / "adapter_model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for values in tensors.values():
            file.write(values.tobytes())
