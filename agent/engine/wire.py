"""The engine's JSON: request bodies, answers and errors as records. Pure; the sockets are in client.py."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import orjson

from memory.errors import BadInput, NotFound, SecondNatureError, TooMany, Unavailable
from memory.records import Completion, Message

RETRY_AFTER_S = 5.0  # what a caller is told to wait when the engine is gone; a restart takes 20 to 40 s


class Priority(IntEnum):
    """Who goes first when the engine is full (vLLM's `priority`: lower first)."""

    SYSTEM1 = 0
    SYSTEM2 = 1
    AUDIT = 2
    NIGHT = 3


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn."""

    temperature: float = 0.0  # 0: greedy
    max_tokens: int | None = None  # tokens; None: what the context leaves
    n: int = 1  # samples of one prompt, which is read once
    logprobs: int | None = None  # None: none; 0: the drawn tokens'; 2 or more: first_margin too
    stop: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)  # any other field of the engine's request


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a streamed answer. The last one carries the reason and the counts, and may have no text."""

    text: str
    logprobs: tuple[float, ...] = ()  # nats, one per token of this piece
    first_margin: float | None = None  # 0..1, on the first piece alone
    finish_reason: str | None = None
    prompt_tokens: int | None = None  # tokens, on the last piece alone
    completion_tokens: int | None = None  # tokens, on the last piece alone


def chat_body(
    model: str, messages: Sequence[Message], sampling: Sampling, priority: int, *, stream: bool = False
) -> dict[str, Any]:
    """The body of `/v1/chat/completions`."""
    body: dict[str, Any] = {"model": model, "messages": list(messages), "temperature": sampling.temperature}
    if sampling.max_tokens is not None:
        body["max_tokens"] = sampling.max_tokens
    if sampling.n != 1:
        body["n"] = sampling.n
    if sampling.logprobs is not None:
        body["logprobs"] = True
        body["top_logprobs"] = sampling.logprobs
    elif sampling.n != 1:
        body["return_token_ids"] = True  # usage gives one sum over all samples; the ids give each its count
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if priority:
        body["priority"] = priority
    if stream:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    body.update(sampling.extra)
    return body


def without_seed(body: Mapping[str, Any]) -> dict[str, Any]:
    """The body less its `seed`: on the CPU vLLM 0.32 dies of one ("CPU Generator does not use offset")."""
    return {key: value for key, value in body.items() if key != "seed"}


def completions(answer: Mapping[str, Any], seconds: float) -> tuple[Completion, ...]:
    """The samples of one answered request, in the engine's order.

    Each sample's `prompt_tokens` is the whole prompt's, though it was read once for all of them.
    """
    usage = answer.get("usage") or {}
    choices = answer["choices"]
    return tuple(_completion(choice, answer["model"], usage, len(choices), seconds) for choice in choices)


def _completion(
    choice: Mapping[str, Any], model: str, usage: Mapping[str, Any], samples: int, seconds: float
) -> Completion:
    tokens = _tokens(choice)
    if samples == 1:
        count = int(usage.get("completion_tokens") or len(tokens))
    else:
        count = len(tokens) or len(choice.get("token_ids") or ())
    return Completion(
        text=choice["message"].get("content") or "",
        model=model,
        prompt_tokens=int(usage.get("prompt_tokens") or 0),
        completion_tokens=count,
        finish_reason=choice.get("finish_reason"),
        seconds=seconds,
        logprobs=_logprobs(tokens),
        first_margin=_margin(tokens),
    )


def delta(chunk: Mapping[str, Any], *, first: bool) -> Delta:
    """One server-sent chunk. `first`: no token came before it, so that its margin is the first token's."""
    usage = chunk.get("usage") or {}
    counts = (usage.get("prompt_tokens"), usage.get("completion_tokens"))
    if not chunk.get("choices"):
        return Delta("", prompt_tokens=counts[0], completion_tokens=counts[1])
    choice = chunk["choices"][0]
    tokens = _tokens(choice)
    return Delta(
        text=choice["delta"].get("content") or "",
        logprobs=_logprobs(tokens),
        first_margin=_margin(tokens) if first else None,
        finish_reason=choice.get("finish_reason"),
        prompt_tokens=counts[0],
        completion_tokens=counts[1],
    )


def _tokens(choice: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return (choice.get("logprobs") or {}).get("content") or ()


def _logprobs(tokens: Sequence[Mapping[str, Any]]) -> tuple[float, ...]:
    return tuple(float(token["logprob"]) for token in tokens)


def _margin(tokens: Sequence[Mapping[str, Any]]) -> float | None:
    """p(best) - p(second) at the first token; None where fewer than two alternatives came."""
    if not tokens:
        return None
    top = sorted((float(t["logprob"]) for t in tokens[0].get("top_logprobs") or ()), reverse=True)
    return math.exp(top[0]) - math.exp(top[1]) if len(top) > 1 else None


def prompt_logprobs(answer: Mapping[str, Any], tail: int) -> tuple[float, ...]:
    """Log-probs, nats, of the last `tail` tokens of a prompt that was sent with `prompt_logprobs: 0`.

    Each position is `{token id: {"logprob": ...}}`, with the prompt's own token first.
    """
    positions = answer["prompt_logprobs"] or answer["choices"][0].get("prompt_logprobs") or ()
    return tuple(float(next(iter(p.values()))["logprob"]) for p in positions[len(positions) - tail :] if p)


def error(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> SecondNatureError:
    """The engine's error as one of ours, with a sentence that says what to do; `headers`: names in lower case."""
    message, param = _said(body)
    if status == 404:
        return NotFound(f"The engine does not have it: {message}", param=param)
    if status in (401, 403):
        return Unavailable("The engine refuses our key: set engine.api_key to the engine's own key.")
    if status == 429:
        return TooMany(f"The engine is full: {message}", retry_after_s=_retry_after(headers))
    if status == 400 and _too_long(message):
        said = f"The prompt is too long for the model; shorten the messages. {message}"
        return BadInput(said, param="messages")
    if status < 500:
        return BadInput(f"The engine refuses the request: {message}", param=param)
    return Unavailable(
        f"The engine failed (HTTP {status}): {message}. It is restarted by itself; ask again.",
        retry_after_s=_retry_after(headers),
    )


def _too_long(message: str) -> bool:
    low = message.lower()
    return "maximum context length" in low or ("max_model_len" in low and "prompt" in low)


def _retry_after(headers: Mapping[str, str] | None) -> float:
    try:
        return float((headers or {}).get("retry-after", RETRY_AFTER_S))
    except ValueError:
        return RETRY_AFTER_S  # the header may also be a date


def _said(body: bytes) -> tuple[str, str | None]:
    """The message and the offending field in an error's body, whatever its shape."""
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body.decode("utf-8", "replace")[:300] or "no message", None
    fault = said.get("error", said) if isinstance(said, dict) else said
    if isinstance(fault, dict):
        return str(fault.get("message") or fault.get("detail") or fault), fault.get("param")
    return str(fault), None
