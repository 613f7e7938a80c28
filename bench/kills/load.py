"""The load: OpenAI's own client asks, several at once, without pause; what was acknowledged is written down."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx
import openai

EXPLAINED = (429, 503, 504)  # statuses that tell the caller to come again
PAUSE_S = 0.05  # seconds between two questions of one client: the trainer and the restarts need the processor too
REFUSED_S = 0.1  # seconds a client waits after a failure


@dataclass
class Load:
    """Clients, and what they were told."""

    url: str
    seed: str
    clients: int = 4
    episodes: list[str] = field(default_factory=list)  # ids of answers that arrived whole
    feedback: list[str] = field(default_factory=list)  # ids of episodes whose feedback was acknowledged
    failures: Counter[str] = field(default_factory=Counter)
    odd: list[str] = field(default_factory=list)  # failures that nothing explains, in words
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self) -> None:
        """Let every client ask until `stop`."""
        self.client = openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=60)
        self.tasks = [asyncio.create_task(self._asking(client)) for client in range(self.clients)]

    async def stop(self) -> None:
        """End every client."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.client.close()

    async def _asking(self, client: int) -> None:
        chance = random.Random(f"{self.seed}/{client}")
        while True:
            try:
                await self._one(chance, client)
                await asyncio.sleep(PAUSE_S)
            except openai.APIStatusError as error:
                self._refused(error)
                await asyncio.sleep(REFUSED_S)
            except (openai.APIConnectionError, httpx.TransportError):
                self.failures["cut off"] += 1
                await asyncio.sleep(REFUSED_S)
            except openai.APIError:  # an error inside a stream
                self.failures["told in the stream"] += 1

    def _refused(self, error: openai.APIStatusError) -> None:
        if error.status_code in EXPLAINED:
            self.failures[f"told {error.status_code}"] += 1
        else:
            self.failures[f"unexplained {error.status_code}"] += 1
            self.odd.append(f"{error.status_code}: {error.message}"[:300])

    async def _one(self, chance: random.Random, client: int) -> None:
        mode = chance.choices(("auto", "system1", "system2"), (50, 42, 8))[0]
        episode = await self.ask(chance, mode, f"client-{client}", stream=chance.random() < 0.3)
        if episode and chance.random() < 0.1:
            body = {"episode_id": episode, "score": 1.0}
            await self.client.post("/feedback", body=body, cast_to=httpx.Response)
            self.feedback.append(episode)

    async def ask(self, chance: random.Random, mode: str, source: str, *, stream: bool = False) -> str | None:
        """One question. Returns the episode's id once the answer was there whole; None: the stream had no end."""
        text = f"What is {chance.randrange(10**6)} + {chance.randrange(10**6)}?"
        asked: dict[str, Any] = {
            "model": "secondnature",
            "messages": [{"role": "user", "content": text}],
            "extra_body": {"mode": mode, "source": source},
        }
        if not stream:
            return self._acknowledged(await self.client.chat.completions.create(**asked))
        found = None
        async for chunk in await self.client.chat.completions.create(stream=True, **asked):
            found = self._acknowledged(chunk) or found
        if found is None:
            self.failures["cut off"] += 1
        return found

    def _acknowledged(self, said: Any) -> str | None:
        told = (said.model_extra or {}).get("secondnature")
        if told is None:
            return None
        self.episodes.append(told["episode_id"])
        return str(told["episode_id"])
