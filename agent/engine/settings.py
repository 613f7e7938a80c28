"""`engine:` in service.yaml."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from agent.engine.connection import address, check_value
from memory.settings import Settings


class EngineSettings(Settings):
    """The vLLM server: one that the daemon starts and watches, or those at `urls`."""

    urls: tuple[str, ...] = Field(
        (), description='running vLLM servers ("http://host:port"); empty: the daemon starts one'
    )
    api_key: str | None = Field(
        None, description="the key of the servers at `urls`; one that is started gets a random one"
    )
    timeout_s: float = Field(600.0, description="seconds a request may take, or a stream be silent", gt=0)
    probe_s: float = Field(5.0, description="seconds between two looks at each engine's health", gt=0, le=300)
    device: Literal["auto", "cpu", "gpu"] = Field(
        "auto", description="what to run on; auto: a GPU where the driver and vLLM's GPU build are found"
    )
    context_tokens: int = Field(
        4096, description="tokens of prompt and answer together; not above the model's own", ge=256
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "bfloat16",
        description="number format of the weights; float32 on a processor without bfloat16 is faster",
    )
    max_num_seqs: int = Field(64, description="samples generated at once", ge=1, le=4096)
    kv_cache_gib: float = Field(2.0, description="GiB of memory for attention keys and values (CPU)", ge=0.25)
    kv_block_tokens: int = Field(
        32,
        description="tokens of a block of that memory, a multiple of 32 (CPU); samples of one prompt share whole "
        "blocks",
        ge=32,
        le=1024,
        multiple_of=32,
    )
    warm_s: float = Field(
        30.0,
        description="seconds at most in which the newest questions' common beginnings are read, a piece at a time, to "
        "an adapter that a person puts in force; 0: they are computed when the next question comes",
        ge=0,
        le=600,
    )
    gpu_memory_utilization: float = Field(
        0.9,
        description="share of the GPU's memory vLLM may take, 0..1; lower it to train there too",
        gt=0,
        le=1,
    )
    max_loras: int = Field(2, description="adapters held at once; a swap needs two", ge=2, le=64)
    max_lora_rank: Literal[8, 16, 32, 64, 128, 256] = Field(16, description="largest rank of an adapter")
    enforce_eager: bool = Field(
        True, description="no compilation: starts sooner; on a CPU with adapters vLLM never compiles"
    )
    threads: int = Field(
        0, description="processor threads of the engine (CPU); 0: every processor, but one fewer of more than 4", ge=0
    )
    port: int = Field(0, description="loopback port of the started server; 0: any free one", ge=0, le=65535)
    extra_args: tuple[str, ...] = Field((), description="further arguments for the vLLM server, verbatim")
    startup_timeout_s: float = Field(
        600.0, description="seconds from the start until the engine must answer; 30 to 60 are usual", gt=0
    )
    restart_backoff_s: float = Field(
        1.0,
        description="seconds before the first restart after a crash; doubles with each, to 60",
        gt=0,
        le=60,
    )
    max_restarts: int = Field(
        5, description="crashes within `restart_window_s` after which the engine is left down", ge=1
    )
    restart_window_s: float = Field(600.0, description="seconds over which crashes are counted", gt=0)

    @field_validator("urls")
    @classmethod
    def _addresses(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            address(url)
        return urls

    @field_validator("api_key")
    @classmethod
    def _one_line(cls, key: str | None) -> str | None:
        check_value(key or "")  # pydantic's own fault would repeat the key
        return key
