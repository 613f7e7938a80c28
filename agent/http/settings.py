"""Where the service listens."""

from __future__ import annotations

from pydantic import Field

from memory.settings import Settings


class HttpSettings(Settings):
    """The service's own address."""

    host: str = Field("127.0.0.1", description="address to listen on; other than loopback needs an API key first")
    port: int = Field(8600, ge=0, le=65535, description="TCP port; 0 takes a free one")
    model_name: str = Field("secondnature", description="model name that callers send and /v1/models lists")
    shutdown_s: float = Field(30.0, ge=0, le=600, description="seconds given to accepted requests when stopping")
