"""One thought: inner calls on the frozen base model, each recorded, within a budget of tokens and seconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Protocol, TypeVar

from agent.engine.wire import Priority, Sampling
from agent.stage import at_stage
from memory.errors import TimedOut
from memory.records import Call, Completion, Message
from policies.skills import message_text

T = TypeVar("T")
_GO_ON = {"add_generation_prompt": False, "continue_final_message": True}  # vLLM's chat fields


class Chat(Protocol):
    """The one verb of an engine that thinking needs."""

    async def chat(
        self, model: str, messages: Sequence[Message], sampling: Sampling, *, priority: int = 0
    ) -> tuple[Completion, ...]: ...


async def together(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """All of them at once, results in order. The first failure stops the rest and is raised itself."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except BaseExceptionGroup as faults:
        raise faults.exceptions[0] from None
    return [task.result() for task in tasks]


class Think:
    """Asks the model and writes down each call: its prompt, its samples, and the calls it was made from."""

    def __init__(
        self,
        engine: Chat,
        model: str,
        *,
        budget_tokens: int | None = None,
        budget_s: float | None = None,
        priority: int = Priority.SYSTEM2,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`model`: the base's name, never an adapter. Budgets: generated tokens, wall seconds; None: no
        bound."""
        self._engine, self._model, self._priority = engine, model, priority
        self._budget_tokens, self._budget_s = budget_tokens, budget_s
        self._clock, self._started = clock, clock()
        self._calls: list[Call] = []
        self._questions: dict[str, int] = {}  # a question that a call wrote, to that call
        self._reserved = 0  # tokens promised to calls in flight

    @property
    def calls(self) -> tuple[Call, ...]:
        """Every call that has ended, in that order; a call's id is its index."""
        return tuple(self._calls)

    @property
    def tokens(self) -> int:
        """Generated tokens so far, over all samples."""
        return sum(done.completion_tokens for call in self._calls for done in call.completions)

    @property
    def seconds(self) -> float:
        """Wall time since the thought began."""
        return self._clock() - self._started

    def hand_on(self, text: str, call: Call) -> None:
        """Calls that have no parent and are asked about `text` are made from `call`, which wrote it."""
        self._questions[text] = call.id

    async def ask(
        self,
        stage: str,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        n: int = 1,
        temperature: float = 0.0,
        stop: tuple[str, ...] = (),
        parents: tuple[int, ...] = (),
        go_on: bool = False,
    ) -> Call:
        """`n` samples of one prompt; with `go_on` they continue its last, assistant's, message. Raises
        TimedOut when a budget is spent, and what the engine raises."""
        limit = self._affordable(max_tokens, n)
        self._reserved += limit * n
        try:
            extra = _GO_ON if go_on else {}
            sampling = Sampling(temperature=temperature, max_tokens=limit, n=n, stop=stop, extra=extra)
            async with asyncio.timeout(self._seconds_left()):
                with at_stage(stage):  # for the traces
                    done = await self._engine.chat(self._model, messages, sampling, priority=self._priority)
        except TimeoutError as error:
            raise TimedOut(f"System 2 ran out of its {self._budget_s:g} s; raise system2.budget_s.") from error
        finally:
            self._reserved -= limit * n
        call = Call(len(self._calls), stage, parents or self._written_by(messages), tuple(messages), done)
        self._calls.append(call)
        return call

    def _written_by(self, messages: Sequence[Message]) -> tuple[int, ...]:
        texts = [message_text(message) for message in messages]
        return tuple(i for asked, i in self._questions.items() if any(asked in text for text in texts))

    def _affordable(self, max_tokens: int, n: int) -> int:
        """Tokens per sample that the budget leaves, up to `max_tokens`."""
        if self._budget_tokens is None:
            return max_tokens
        left = (self._budget_tokens - self.tokens - self._reserved) // n
        if left < min(16, max_tokens):  # fewer would only cut answers off
            raise TimedOut(f"System 2 spent its {self._budget_tokens} tokens; raise system2.budget_tokens.")
        return min(max_tokens, left)

    def _seconds_left(self) -> float | None:
        return None if self._budget_s is None else max(0.0, self._budget_s - self.seconds)
