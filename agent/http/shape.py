"""OpenAI's shapes: answers, chunks, errors, and the `secondnature` object and headers that ride on them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import BaseModel

from agent.stream import Piece
from agent.system2.reasoning import reasoning
from memory.errors import SecondNatureError
from memory.records import Ask, Episode

CHUNK = 48  # characters of a finished answer sent at once


def body_schema(model: type[BaseModel]) -> dict[str, Any]:
    """OpenAPI for a body that is read by hand (orjson), so that the documentation and the fuzzer know it."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    inner = schema.pop("$defs", {})
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": _inline(schema, inner)}}}}


def _inline(node: Any, defs: Mapping[str, Any]) -> Any:
    if isinstance(node, dict):
        if "$ref" in node:
            return _inline(defs[node["$ref"].rsplit("/", 1)[-1]], defs)
        return {key: _inline(value, defs) for key, value in node.items()}
    return [_inline(item, defs) for item in node] if isinstance(node, list) else node


def provenance(episode: Episode) -> dict[str, Any]:
    """Which system, method, confidence, threshold and adapter produced an answer, and why."""
    thought = episode.deliberation
    return {
        "episode_id": episode.ask.id,
        "system": episode.decision.system.value,
        "method": thought.method if thought else None,
        "skill": episode.ask.skill,
        "confidence": episode.decision.confidence,
        "threshold": episode.decision.threshold,
        "adapter": episode.adapter,
        "digest": episode.adapter_digest,
        "reason": episode.decision.reason,
        "votes": dict(thought.verdict.votes) if thought else None,
        "share": thought.verdict.share if thought else None,
        "grade": thought.verdict.grade.value if thought else None,
        "agreement": thought.verdict.reason if thought else None,
        "tokens": episode.tokens,
        "seconds": round(episode.seconds, 6),
    }


def header_lines(told: Mapping[str, Any]) -> dict[str, str]:
    """The same in `x-secondnature-...` headers, for clients that drop unknown fields: one per known value, latin-1."""
    named = ("episode_id", "system", "method", "skill", "confidence", "threshold", "adapter", "digest", "reason")
    lines = {f"x-secondnature-{n.replace('_', '-')}": str(told[n]) for n in named if told.get(n) is not None}
    return {
        key: value.replace("\n", " ").encode("latin-1", "replace").decode("latin-1") for key, value in lines.items()
    }


def text_of(episode: Episode, with_reasoning: bool) -> str:
    """What the caller reads: the reply, after the reasoning where it was asked for."""
    if with_reasoning and episode.deliberation:
        return f"{reasoning(episode.deliberation)}\n\n{episode.reply}"
    return episode.reply


def usage(episode: Episode) -> dict[str, Any]:
    """Tokens as OpenAI counts them; completion tokens are all that were generated for the answer."""
    prompt = episode.draft.completion.prompt_tokens if episode.draft else 0
    thought = episode.deliberation.tokens if episode.deliberation else 0
    return {
        "prompt_tokens": prompt,
        "completion_tokens": episode.tokens,
        "total_tokens": prompt + episode.tokens,
        "completion_tokens_details": {"reasoning_tokens": thought},
    }


def completion(episode: Episode, model: str, with_reasoning: bool, told: Mapping[str, Any]) -> dict[str, Any]:
    """A whole chat.completion; `told`: its provenance."""
    message = {"role": "assistant", "content": text_of(episode, with_reasoning)}
    return {
        "id": f"chatcmpl-{episode.ask.id}",
        "object": "chat.completion",
        "created": int(episode.ask.asked_at),
        "model": model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason(episode)}],
        "usage": usage(episode),
        "secondnature": told,
    }


def finish_reason(episode: Episode) -> str:
    """ "length" only where System 1's own text was cut."""
    if episode.deliberation is None and episode.draft:
        return episode.draft.completion.finish_reason or "stop"
    return "stop"


def event(data: Any) -> bytes:
    """One server-sent event."""
    return b"data: " + orjson.dumps(data) + b"\n\n"


def error(fault: SecondNatureError) -> dict[str, Any]:
    """OpenAI's error object."""
    return {"error": {"message": fault.message, "type": fault.kind, "param": fault.param, "code": fault.code}}


async def finished_chunks(episode: Episode, model: str, with_reasoning: bool, with_usage: bool) -> AsyncIterator[bytes]:
    """A finished answer as chat.completion.chunk events."""
    head = Head(model, episode.ask)
    text = text_of(episode, with_reasoning)
    yield head.opening()
    for start in range(0, len(text), CHUNK):
        yield event(head.chunk({"content": text[start : start + CHUNK]}))
    yield event(head.chunk({}, finish_reason(episode)) | {"secondnature": provenance(episode)})
    if with_usage:
        yield event(head.chunk({}) | {"choices": [], "usage": usage(episode)})
    yield b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Head:
    """What every chunk of one answer repeats."""

    model: str
    ask: Ask

    def chunk(self, delta: Mapping[str, Any], finish: str | None = None) -> dict[str, Any]:
        """One chat.completion.chunk."""
        return {
            "id": f"chatcmpl-{self.ask.id}",
            "object": "chat.completion.chunk",
            "created": int(self.ask.asked_at),
            "model": self.model,
            "choices": [{"index": 0, "delta": dict(delta), "logprobs": None, "finish_reason": finish}],
        }

    def opening(self) -> bytes:
        """The first event: the role."""
        return event(self.chunk({"role": "assistant", "content": ""}))

    def piece(self, piece: Piece, with_usage: bool = False) -> bytes:
        """Text as it is made, or, last, the whole episode."""
        if isinstance(piece, str):
            return event(self.chunk({"content": piece}))
        last = event(self.chunk({}, finish_reason(piece)) | {"secondnature": provenance(piece)})
        return last + event(self.chunk({}) | {"choices": [], "usage": usage(piece)}) if with_usage else last

    def headers(self) -> dict[str, str]:
        """What is known before the answer is."""
        return {"x-secondnature-episode-id": self.ask.id, "x-secondnature-system": "system1"}
