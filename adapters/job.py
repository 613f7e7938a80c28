"""A training job: settings, and the one JSON file that the daemon hands to the trainer. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from memory.errors import BadInput
from memory.settings import Settings


class TrainSettings(Settings):
    """How a night's adapter is trained.

    Defaults: all linear layers and alpha = 32 from "LoRA Without Regret" (2025); rank, rate and epochs as
    measured on the 0.5B model (LOG.md).
    """

    rank: int = Field(default=16, ge=1, le=256, description="LoRA rank; at most the engine's max_lora_rank")
    alpha: int = Field(default=32, ge=1, le=1024, description="LoRA alpha; it scales the update by alpha / rank")
    projections: tuple[Literal["q", "k", "v", "o", "gate", "up", "down"], ...] = Field(
        default=(), description="projections that get an adapter: q, k, v, o, gate, up, down; empty: every one"
    )
    learning_rate: float = Field(default=3e-4, gt=0, le=1e-1, description="peak learning rate of AdamW")
    epochs: int = Field(default=3, ge=1, le=100, description="passes over the lessons")
    batch: int = Field(default=16, ge=1, le=1024, description="lessons per optimizer step")
    warmup: float = Field(
        default=0.05, ge=0, le=0.5, description="share of the steps with a rising learning rate, 0..0.5"
    )
    clip: float = Field(default=1.0, gt=0, le=1000, description="largest norm of a step's gradient")
    max_tokens: int = Field(default=2048, ge=16, le=131072, description="tokens; a lesson longer than this is left out")
    pack_tokens: int = Field(
        default=1024, ge=16, le=131072, description="tokens computed at once; it bounds the memory"
    )
    threads: int = Field(default=0, ge=0, le=1024, description="CPU threads of the trainer; 0: every processor")
    nice: int = Field(default=10, ge=0, le=19, description="niceness of the trainer, 0 (none) to 19")
    busy_share: float = Field(
        default=0.25, gt=0, le=1,
        description="share of the time that the trainer works while questions are under way on its machine, "
        "above 0 to 1; 1: it never gives way",
    )  # fmt: skip
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="where to train; auto: a GPU if there is one"
    )
    dtype: Literal["auto", "bfloat16", "float32"] = Field(
        default="auto", description="precision of the frozen base; auto: bfloat16 where the processor has it"
    )
    memory_gib: float = Field(
        default=0.0, ge=0, le=65536, description="GiB of address space the trainer may take; 0: no limit"
    )
    command: tuple[str, ...] = Field(
        default=(),
        description="program that trains elsewhere, with its arguments, to which the job's file is added "
        "(docs/deploy/ray_night.py); empty: the trainer, here",
    )
    gpu_share: float = Field(
        default=1.0, gt=0, le=1, description="share of the GPU's memory the trainer may take, above 0 to 1"
    )


class Job(Settings):
    """JOB.json: everything the trainer is told."""

    number: int = Field(ge=1, description="the adapter's number; never given twice")
    base: str = Field(min_length=1, description="folder of the base model")
    base_identity: str = Field(min_length=1, description="identity of the base model, as ModelFolder.identity")
    data: str = Field(min_length=1, description="JSONL written by adapters.dataset.write_data")
    out: str = Field(min_length=1, description="adapters folder; the trainer adds <name>/ to it")
    seed: int = Field(default=0, ge=0, description="order of the lessons and first values of the adapter")
    parent_pid: int | None = Field(default=None, description="process to end with; None: train on without it")
    train: TrainSettings = Field(default=TrainSettings(), description="how to train")


def write_job(path: Path, job: Job) -> None:
    """Write JOB.json."""
    path.write_text(job.model_dump_json(indent=1), encoding="utf-8")


def read_job(path: Path) -> Job:
    """Read JOB.json. Raises BadInput with the name of the field that is missing, unknown or out of range."""
    try:
        return Job.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BadInput(f"the job file {path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise BadInput(f"{path}: {where}: {first['msg']}", param=where) from error


def rate(step: int, total: int, warmup: float) -> float:
    """Share of the peak learning rate at a step from 0: a short rise, then a straight line towards 0."""
    rise = max(1, round(warmup * total))
    return min((step + 1) / rise, (total - step) / max(1, total - rise + 1))
