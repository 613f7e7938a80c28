"""Fixtures of the real-engine suite: the service, and its vLLM, start once per run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from agent.engine.client import VllmEngine
from agent.engine.launch import BASE
from real_service import Service


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A running service on the real small model."""
    one = Service(tmp_path_factory.mktemp("service"))
    one.start()
    try:
        one.until_ready()
        yield one
    finally:
        one.stop()


@pytest.fixture
def base_model() -> str:
    """The engine's name for the frozen base."""
    return BASE


@pytest.fixture
async def engine(service: Service) -> AsyncIterator[VllmEngine]:
    """The service's own engine, asked directly."""
    url, key = service.engine_address()
    one = VllmEngine(url, key=key)
    yield one
    await one.close()
