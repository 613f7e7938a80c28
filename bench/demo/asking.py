"""Asking as a user would: the official OpenAI client, many questions under way at once, every answer judged later."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from openai import APIError, AsyncOpenAI

from bench.demo.skills import Question, right
from policies.skills import SkillSettings

MODEL = "secondnature"
SOURCE = "demo"
CONCURRENCY = 32  # questions under way at once


@dataclass(frozen=True, slots=True)
class Answered:
    """One question's way through the service."""

    question: Question
    reply: str | None  # None: the request failed
    right: bool  # against the gold answer
    system: str  # "system1" | "system2" | "" where it failed
    adapter: str | None  # None: the base
    tokens: int  # generated for this answer, by both systems
    seconds: float  # wall time as the user saw it
    at: float  # perf_counter at the end
    episode: str
    error: str = ""


class Asker:
    """A user with many questions."""

    def __init__(self, url: str, skills: Sequence[SkillSettings], concurrency: int = CONCURRENCY) -> None:
        # No retries: a request that fails during the swap must count as failed.
        self._client = AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=600.0)
        self._skills = {skill.name: skill for skill in skills}
        self._room = asyncio.Semaphore(concurrency)

    async def close(self) -> None:
        """Close the client's connections."""
        await self._client.close()

    async def ask(self, question: Question, mode: str = "auto") -> Answered:
        """Ask one question in a mode (auto, system1, system2). A failure is an answer too."""
        async with self._room:
            started = time.perf_counter()
            try:
                done = await self._client.chat.completions.create(
                    model=MODEL,
                    messages=[{"role": "user", "content": question.text}],
                    extra_body={"mode": mode, "source": SOURCE},
                )
            except APIError as error:
                seconds = time.perf_counter() - started
                return Answered(question, None, False, "", None, 0, seconds, time.perf_counter(), "", str(error))
            seconds = time.perf_counter() - started
        told: dict[str, Any] = (done.model_extra or {}).get("secondnature") or {}
        reply = done.choices[0].message.content or ""
        return Answered(
            question=question,
            reply=reply,
            right=right(question, reply, self._skills[question.skill]),
            system=str(told.get("system", "")),
            adapter=told.get("adapter"),
            tokens=int(told.get("tokens", 0)),
            seconds=seconds,
            at=time.perf_counter(),
            episode=str(told.get("episode_id", "")),
        )

    async def ask_all(self, questions: Iterable[Question], mode: str = "auto") -> AsyncIterator[Answered]:
        """Ask all, at most the concurrency at once; answers in the order in which they come."""
        tasks = [asyncio.create_task(self.ask(question, mode)) for question in questions]
        try:
            for done in asyncio.as_completed(tasks):
                yield await done
        finally:
            for task in tasks:
                task.cancel()


def accuracy(answers: Sequence[Answered]) -> float | None:
    """Share of right answers, 0..1; failed requests count as wrong; None without any."""
    return sum(a.right for a in answers) / len(answers) if answers else None


def system1_share(answers: Sequence[Answered]) -> float | None:
    """Share of the answered that System 1 answered, 0..1."""
    answered = [a for a in answers if a.reply is not None]
    return sum(a.system == "system1" for a in answered) / len(answered) if answered else None


def mean_tokens(answers: Sequence[Answered]) -> float | None:
    """Generated tokens per answer."""
    answered = [a.tokens for a in answers if a.reply is not None]
    return statistics.fmean(answered) if answered else None


def median_seconds(answers: Sequence[Answered]) -> float | None:
    """Median wall time of an answer, seconds."""
    answered = [a.seconds for a in answers if a.reply is not None]
    return statistics.median(answered) if answered else None


def percentile_seconds(answers: Sequence[Answered], share: float) -> float | None:
    """The `share` quantile (0..1) of the wall times, nearest rank, seconds."""
    ordered = sorted(a.seconds for a in answers if a.reply is not None)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def by_skill(answers: Iterable[Answered]) -> dict[str, list[Answered]]:
    """The answers of each skill, in the order in which skills first appear."""
    groups: dict[str, list[Answered]] = {}
    for answer in answers:
        groups.setdefault(answer.question.skill, []).append(answer)
    return groups
