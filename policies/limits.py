"""How much one caller may ask for: a rate, a number at once, tokens per day. State in, decision and state out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import Field

from memory.errors import BadInput, TooLarge
from memory.records import Message
from memory.settings import Settings

DAY_S = 86_400.0


class KeyLimits(Settings):
    """What one key may use. A key may carry its own; else the service's hold."""

    requests_per_minute: float = Field(
        default=600.0, gt=0, le=1e9, description="requests per minute of one key, on average"
    )
    burst: int = Field(default=100, ge=1, le=1_000_000, description="requests of one key that may come at once")
    concurrent: int = Field(default=64, ge=1, le=100_000, description="requests of one key under way at once")
    tokens_per_day: int = Field(
        default=5_000_000, ge=1, le=10**15, description="tokens generated for one key in a day (UTC)"
    )


class LimitSettings(KeyLimits):
    """What a caller may ask for; more is answered 400, 413 or 429 at once."""

    body_bytes: int = Field(default=1_000_000, ge=1_000, le=10**9, description="bytes of a request's body")
    messages: int = Field(default=200, ge=1, le=100_000, description="messages in a request")
    prompt_chars: int = Field(default=200_000, ge=1, le=10**9, description="characters of all messages of a request")
    answer_tokens: int = Field(default=4_096, ge=1, le=10**7, description="tokens that an answer may be asked to have")
    request_s: float = Field(default=300.0, gt=0, le=86_400, description="seconds that a request may take")
    system2_tokens: int = Field(
        default=20_000, ge=1, le=10**8, description="tokens that System 2 may generate for a request"
    )


@dataclass(frozen=True, slots=True)
class Usage:
    """What a key has used so far."""

    bucket: float  # requests that may come at once now
    filled_at: float  # seconds of the caller's clock
    under_way: int = 0  # requests
    day: int = 0  # days since 1970 (UTC)
    spent: int = 0  # generated tokens in that day


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether a request may go on."""

    allowed: bool
    reason: str  # "" if allowed
    usage: Usage  # to be kept in place of the old one
    retry_after_s: float | None = None  # seconds; None: allowed


def fresh(limits: KeyLimits, now: float) -> Usage:
    """A key that has not been used. `now`: unix seconds."""
    return Usage(bucket=float(limits.burst), filled_at=now, day=int(now // DAY_S))


def admit(usage: Usage, limits: KeyLimits, now: float) -> Admission:
    """Take one request from the bucket, if rate, number at once and the day's tokens allow it.

    A refused request costs nothing. A clock that is put back fills and empties nothing, and time begins anew from it:
    one that was ahead for a while does not keep a key waiting until it is that late again.
    """
    usage = _refilled(usage, limits, now)
    if usage.under_way >= limits.concurrent:
        reason = f"{usage.under_way} requests of this key are under way, the most allowed is {limits.concurrent}"
        return Admission(False, reason, usage, 1.0)
    if usage.spent >= limits.tokens_per_day:
        return _spent(usage, limits, now)
    if usage.bucket < 1.0:
        wait = (1.0 - usage.bucket) * 60.0 / limits.requests_per_minute
        reason = f"this key may send {limits.requests_per_minute:g} requests per minute"
        return Admission(False, reason, usage, wait)
    taken = replace(usage, bucket=usage.bucket - 1.0, under_way=usage.under_way + 1)
    return Admission(True, "", taken)


def admit_practice(usage: Usage, limits: KeyLimits, now: float) -> Admission:
    """Let an operator's practice in: the day's tokens hold, rate and number at once do not. A file has thousands of
    prompts, a room of its own bounds how many are thought through at once, and people's requests count as before."""
    usage = _refilled(usage, limits, now)
    return _spent(usage, limits, now) if usage.spent >= limits.tokens_per_day else Admission(True, "", usage)


def finished(usage: Usage, tokens: int, now: float, requests: int = 1) -> Usage:
    """The usage after an admitted request has ended and generated `tokens`. `requests`: 0 for practice."""
    day = int(now // DAY_S)
    spent = tokens + (usage.spent if day <= usage.day else 0)
    return replace(usage, under_way=max(usage.under_way - requests, 0), day=day, spent=spent)


def check_ask(
    messages: Sequence[Message], answer_tokens: int | None, limits: LimitSettings, choices: int | None = None
) -> None:
    """Raise TooLarge or BadInput for a request with too many messages, too long a prompt or too long an answer.

    answer_tokens: what the caller asks for at most, in each of its `choices` (1 or more); None: not said.
    """
    if len(messages) > limits.messages:
        raise TooLarge(f"{len(messages)} messages; at most {limits.messages} are read", param="messages")
    chars = sum(_chars(message.get("content")) for message in messages)
    if chars > limits.prompt_chars:
        raise TooLarge(f"the messages have {chars} characters; the most is {limits.prompt_chars}", param="messages")
    asked = (answer_tokens or 1) * (choices or 1)
    if asked > limits.answer_tokens:
        several = f" in {choices} choices" if (choices or 1) > 1 else ""
        reason = f"an answer may have {limits.answer_tokens} tokens at most, {asked} were asked for{several}"
        raise BadInput(reason, param="max_tokens")


def of_key(own: Mapping[str, Any], service: KeyLimits) -> KeyLimits:
    """A key's own limits over the service's. `own`: fields of KeyLimits; others raise pydantic's error."""
    names = KeyLimits.model_fields
    return KeyLimits.model_validate({name: getattr(service, name) for name in names} | dict(own))


def _spent(usage: Usage, limits: KeyLimits, now: float) -> Admission:
    reason = f"this key has used its {limits.tokens_per_day} tokens of today (UTC; limits.tokens_per_day)"
    return Admission(False, reason, usage, (usage.day + 1) * DAY_S - now)


def _refilled(usage: Usage, limits: KeyLimits, now: float) -> Usage:
    elapsed = max(now - usage.filled_at, 0.0)
    left = min(usage.bucket + elapsed * limits.requests_per_minute / 60.0, float(limits.burst))
    day = int(now // DAY_S)
    spent = usage.spent if day <= usage.day else 0
    return replace(usage, bucket=left, filled_at=now, day=day, spent=spent)


def _chars(content: object) -> int:
    """Characters in a message's content, nested parts included."""
    if isinstance(content, str):
        return len(content)
    if isinstance(content, Mapping):
        return sum(_chars(value) for value in content.values())
    return sum(_chars(part) for part in content) if isinstance(content, list | tuple) else 0
