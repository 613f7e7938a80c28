"""The start-up check: adapters it makes, and what it concludes from an engine's answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from agent.engine import check
from agent.engine.client import Sampling
from memory.errors import BadConfig
from memory.records import Completion, Message

SHAPES = {"model.layers.0.self_attn.q_proj": (6, 4), "model.layers.0.mlp.down_proj": (4, 8)}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model's folder with one layer."""
    folder = tmp_path / "model"
    folder.mkdir()
    tensors = {f"{name}.weight": np.zeros(shape, np.float32) for name, shape in SHAPES.items()}
    tensors["model.layers.0.self_attn.q_proj.bias"] = np.zeros(6, np.float32)
    tensors["lm_head.weight"] = np.zeros((9, 4), np.float32)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


class Base:
    """An engine that answers by model name, and where `leaks`, lets adapters into the base's answers."""

    def __init__(self, *, leaks: int = 0, applies: bool = True) -> None:
        self.leaks, self.applies = leaks, applies
        self.loaded: list[str] = []
        self.ever: list[str] = []
        self.asked: list[str] = []  # model names; 24 a round, and each second round is mixed

    async def load_adapter(self, name: str, path: Path) -> None:
        assert (path / "adapter_model.safetensors").exists()
        self.loaded.append(name)
        self.ever.append(name)

    async def unload_adapter(self, name: str) -> None:
        self.loaded.remove(name)

    async def chat(
        self, model: str, messages: Sequence[Message], sampling: Sampling, *, priority: int = 0
    ) -> tuple[Completion, ...]:
        round_, place = divmod(len(self.asked), 24)
        self.asked.append(model)
        text = "right"
        if model in self.loaded and self.applies:
            text = f"{model} speaks"
        elif round_ % 2 and place < 3 * self.leaks:
            text = "the adapter speaks"
        return (Completion(text, model, 1, 1, "stop", 0.1),)


async def test_a_sound_engine_passes(model: Path) -> None:
    found = await check.check_base(Base(), "base", model)  # type: ignore[arg-type]  # what the check needs of it
    assert found.passed
    assert (found.asked, found.changed) == (8, 0)
    assert "same beside adapters" in found.sentence


async def test_a_leaking_engine_fails_and_the_adapters_are_gone(model: Path) -> None:
    engine = Base(leaks=5)
    found = await check.check_base(engine, "base", model)  # type: ignore[arg-type]
    assert not found.passed
    assert found.changed == 5
    assert "plugin" in found.sentence
    assert engine.loaded == []
    assert len(set(engine.ever)) == 2


async def test_an_engine_that_applies_no_adapter_fails(model: Path) -> None:
    found = await check.check_base(Base(applies=False), "base", model)  # type: ignore[arg-type]
    assert not found.passed
    assert "does not apply" in found.sentence


def test_the_shapes_of_the_projections_alone(model: Path) -> None:
    assert check.matrix_shapes(model) == SHAPES


def test_a_folder_without_a_model_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=r"engine\.model|model's folder"):
        check.matrix_shapes(tmp_path)


def test_an_adapter_is_one_that_others_read(tmp_path: Path) -> None:
    check.write_adapter(tmp_path / "a", SHAPES, seed=3)
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    tensors = load_file(tmp_path / "a" / "adapter_model.safetensors")
    assert config["target_modules"] == ["down_proj", "q_proj"]
    assert config["r"] == config["lora_alpha"] == check.RANK
    assert tensors["base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"].shape == (2, 4)
    assert tensors["base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"].shape == (6, 2)
    assert len(tensors) == 4
    assert 0.1 < float(np.std(np.concatenate([t.ravel() for t in tensors.values()]))) < 0.3
