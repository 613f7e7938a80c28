"""The trainer on a tiny model: exact in the tree, whole or absent on the disk, clear when it fails."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from adapters.dataset import Anchor, encode, read_data, write_data
from adapters.job import Job, TrainSettings, write_job
from adapters.manifest import verify
from adapters.process import BAD_JOB, DISK_FULL, OUT_OF_MEMORY, STOPPED, fault
from adapters_fakes import BASE, sums
from bench.kills.model import tiny_model
from memory.errors import BadInput

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = TrainSettings(
    rank=4, alpha=8, epochs=2, batch=4, nice=0, threads=1, device="cpu", dtype="float32", learning_rate=1e-2
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"))


def job_in(folder: Path, base: Path, n: int = 12, **changed: Any) -> Job:
    write_data(folder / "data.jsonl", sums(n), [Anchor(({"role": "user", "content": "Hi"},), "Hello")])
    return Job(
        number=7, base=str(base), base_identity=BASE, data=str(folder / "data.jsonl"), out=str(folder / "out"),
        **{"train": SETTINGS, **changed},
    )  # fmt: skip


def start(folder: Path, job: Job) -> subprocess.Popen[str]:
    write_job(folder / "job.json", job)
    command = [sys.executable, "-m", "adapters.train", str(folder / "job.json")]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def events(process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    assert process.stdout is not None
    for line in process.stdout:
        yield json.loads(line)


def test_a_night_leaves_one_whole_adapter_that_learnt(tmp_path: Path, base: Path) -> None:
    process = start(tmp_path, job_in(tmp_path, base))
    told = list(events(process))
    assert process.wait() == 0, process.stderr and process.stderr.read()
    assert [e["event"] for e in told] == ["start", *["progress"] * 7, "done"]
    assert told[0]["shared_prefixes"]
    assert told[7]["step"] == told[7]["total"] == 7
    assert told[7]["eta_s"] == 0
    assert told[7]["loss"] < told[1]["loss"]
    manifest = verify(Path(told[-1]["path"]), BASE)
    assert (manifest.number, manifest.n_lessons, manifest.n_anchors, manifest.skills) == (7, 12, 1, {"sum": 12})
    assert [p.name for p in (tmp_path / "out").iterdir()] == [manifest.name]
    assert str(base) not in (tmp_path / "out" / manifest.name / "adapter_config.json").read_text()


def test_an_adapter_may_be_on_some_projections_alone(tmp_path: Path, base: Path) -> None:
    some = SETTINGS.model_copy(update={"projections": ("gate", "down"), "epochs": 1})
    process = start(tmp_path, job_in(tmp_path, base, train=some))
    told = list(events(process))
    assert process.wait() == 0, process.stderr and process.stderr.read()
    tensors = load_file(Path(told[-1]["path"]) / "adapter_model.safetensors")
    assert {name.split(".lora_")[0].rpartition(".")[2] for name in tensors} == {"gate_proj", "down_proj"}


def test_told_to_stop_it_leaves_nothing(tmp_path: Path, base: Path) -> None:
    process = start(tmp_path, job_in(tmp_path, base, train=SETTINGS.model_copy(update={"epochs": 100})))
    stream = events(process)
    assert next(stream)["event"] == "start"
    assert next(stream)["event"] == "progress"
    process.send_signal(signal.SIGTERM)
    assert all(event["event"] == "progress" for event in stream)
    assert process.wait() == STOPPED
    assert list((tmp_path / "out").iterdir()) == []


def test_its_parent_gone_it_leaves_nothing(tmp_path: Path, base: Path) -> None:
    process = start(tmp_path, job_in(tmp_path, base, parent_pid=1))
    assert list(events(process)) == []
    assert process.wait() == STOPPED
    assert not (tmp_path / "out").exists()


def test_a_base_that_is_none_is_one_clear_line(tmp_path: Path) -> None:
    process = start(tmp_path, job_in(tmp_path, tmp_path / "nowhere"))
    (error,) = events(process)
    assert (error["event"], error["code"]) == ("error", "bad_input")
    assert "cannot be loaded" in error["message"]
    assert process.wait() == BAD_JOB


def prepared(folder: Path, base: Path) -> tuple[Any, list[Any]]:
    """The model with a LoRA that is not zero, and the examples."""
    import torch

    from adapters.train import load

    model, tokenizer = load(job_in(folder, base))
    for name, value in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value, std=0.1)
    return model, list(encode(read_data(folder / "data.jsonl")[0], tokenizer, 512).examples)


def test_the_tree_gives_the_losses_and_gradients_of_lessons_alone(tmp_path: Path, base: Path) -> None:
    import torch

    from adapters.train import learn_batch, tree_is_exact

    model, examples = prepared(tmp_path, base)
    assert tree_is_exact(model, examples)
    found = []
    for pack_tokens in (4096, 100, 1):
        loss = learn_batch(model, examples, pack_tokens)
        grads = [p.grad.clone() for p in model.parameters() if p.requires_grad]
        model.zero_grad(set_to_none=True)
        found.append((loss, grads))
    for loss, grads in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-5)
        for one, other in zip(found[0][1], grads, strict=True):
            assert torch.allclose(one, other, atol=1e-6)


def test_the_fused_lora_is_pefts(tmp_path: Path, base: Path) -> None:
    import torch
    from peft.tuners.lora import Linear

    model, examples = prepared(tmp_path, base)
    ids = torch.tensor([examples[0].ids])
    fused = model(ids).logits
    fused.square().mean().backward()
    ours = {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}
    model.zero_grad(set_to_none=True)
    for layer in model.modules():
        if isinstance(layer, Linear):
            del layer.forward
    plain = model(ids).logits
    plain.square().mean().backward()
    assert torch.allclose(fused, plain, atol=1e-5)
    for name, value in model.named_parameters():
        if value.requires_grad:
            assert torch.allclose(ours[name], value.grad, atol=1e-6), name


def test_an_example_of_weight_zero_teaches_nothing_and_half_weighs_half(tmp_path: Path, base: Path) -> None:
    from dataclasses import replace

    from adapters.train import learn_batch

    model, examples = prepared(tmp_path, base)
    nats, weight = learn_batch(model, examples[:1], 512)
    half_nats, half_weight = learn_batch(model, [replace(examples[0], weight=0.5)], 512)
    assert half_nats == pytest.approx(nats / 2, rel=1e-5)
    assert half_weight == weight / 2


@pytest.mark.parametrize(
    ("error", "code", "name"),
    [
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), OUT_OF_MEMORY, "out_of_memory"),
        (RuntimeError("CUDA out of memory. Tried to"), OUT_OF_MEMORY, "out_of_memory"),
        (MemoryError(), OUT_OF_MEMORY, "out_of_memory"),
        (OSError(28, "No space left on device"), DISK_FULL, "storage_full"),
        (BadInput("no"), BAD_JOB, "bad_input"),
        (RuntimeError("odd"), 1, "internal_error"),
    ],
)
def test_each_fault_has_its_code_and_sentence(error: Exception, code: int, name: str) -> None:
    found = fault(error)
    assert found[:2] == (code, name)
    assert found[2]


def test_out_of_memory_is_told_and_leaves_nothing(tmp_path: Path, base: Path) -> None:
    settings = SETTINGS.model_copy(update={"memory_gib": 0.01})
    process = start(tmp_path, job_in(tmp_path, base, train=settings))
    told = list(events(process))
    assert process.wait() == OUT_OF_MEMORY
    assert told[-1]["code"] == "out_of_memory"
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []


def test_importing_the_dataset_does_not_import_torch() -> None:
    code = (
        "import sys, adapters.dataset, adapters.job, adapters.manifest, adapters.registry, adapters.evaluate, "
        "adapters.model, adapters.process; print('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
