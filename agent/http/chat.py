"""POST /v1/chat/completions: an OpenAI request in, an Ask to the day, an OpenAI answer out."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Mapping
from functools import partial
from typing import Any, Literal, TypeVar

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.types import Receive, Scope, Send

from agent.answer import answer
from agent.day import Day, require_ready
from agent.http import shape
from agent.http.access import Identity, identity, require
from agent.http.guard import spent, spent_so_far
from agent.http.passthrough import forwarded, forwarded_stream
from agent.practised import practised
from agent.routing import unusual
from agent.stream import Piece, streamed, streams_live
from memory.errors import BadInput, CallerGone, NotFound, SecondNatureError
from memory.records import Ask, Message, Mode
from policies.limits import check_ask
from policies.skills import SkillSettings, is_heldout, prompt_key, recognise

T = TypeVar("T")
_chance = random.Random()  # seeded by the kernel once; uuid4 asks it each time, 40 µs of 400


PATH = "/v1/chat/completions"
router = APIRouter()


class ChatMessage(BaseModel):
    """One message; whatever else it carries is passed through."""

    model_config = ConfigDict(extra="allow")
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[dict[str, Any]] | None = None


class ChatRequest(BaseModel):
    """An OpenAI chat request with four fields of our own; unknown fields pass through to the engine."""

    model_config = ConfigDict(extra="allow")
    model: str
    messages: list[ChatMessage] = Field(min_length=1)
    stream: bool = False
    stream_options: dict[str, Any] | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    n: int | None = Field(None, ge=1, le=128)
    mode: Mode = Field(Mode.AUTO, description="auto: the router decides; system1, system2: that system answers")
    skill: str | None = Field(None, max_length=80, description="name of a skill; else it is recognised")
    source: str | None = Field(None, max_length=200, description="who is asking")
    reasoning: bool = Field(False, description="put System 2's reasoning before the answer")
    practice: bool = Field(False, description="think and remember at low priority; answered once per prompt")


class Events(StreamingResponse):
    """Server-sent events that stop the engine when the caller goes away.

    A generator left to the garbage collector would keep its place, and the engine busy, until a collection.
    """

    def __init__(
        self, events: AsyncGenerator[bytes, None], source: AsyncGenerator[Any, None], headers: Mapping[str, str]
    ) -> None:
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._open = (events, source)  # the source too: events that never began close nothing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            for generator in self._open:
                await generator.aclose()


OURS = {"model", "messages", "stream", "stream_options", "mode", "skill", "source", "reasoning", "practice"}
# Fields of vLLM's request that are the service's to set: its queue's order (a caller could go before all others), its
# names of requests, where its caches go, its extensions, and how often a stream tells (tokens are counted by that).
ENGINES = {
    "priority",
    "request_id",
    "session_id",
    "kv_transfer_params",
    "ec_transfer_params",
    "vllm_xargs",
    "mm_payload",
    "stream_interval",
}
NOT_PASSED_ON = OURS | ENGINES


@router.post(PATH, openapi_extra=shape.body_schema(ChatRequest), response_model=None)
async def chat_completions(request: Request) -> Response:
    """Answer like OpenAI's endpoint does, and say which system answered and why."""
    day: Day = request.app.state.daemon.day
    wanted = parse(await request.body())
    check_model(wanted.model, day)
    if wanted.practice:  # curation exempts practised questions from the rules about sources
        require(request, "operate")
    require_ready(day)
    ask, skill = make_ask(wanted, day, identity(request))
    check_ask(ask.messages, wanted.max_completion_tokens or wanted.max_tokens, day.config.limits, wanted.n)
    request.scope["secondnature.episode"] = ask.id  # the access log names the episode
    if unusual(ask) is not None:
        return await _passed_through(request, day, ask, skill, wanted.stream)
    if wanted.stream and streams_live(day, ask, skill):
        pieces = streamed(day, ask, skill, partial(spent_so_far, request.scope))
        return await _live(shape.Head(day.config.http.model_name, ask), pieces, wanted)
    work = practised(day, ask, skill) if wanted.practice else answer(day, ask, skill)
    episode = await until_gone(request, work)
    spent(request.scope, episode.tokens if episode.ask.id == ask.id else 0)  # what was practised before costs nothing
    told = shape.provenance(episode)
    headers = shape.header_lines(told)
    if wanted.stream:
        chunks = shape.finished_chunks(episode, day.config.http.model_name, wanted.reasoning, _usage(wanted))
        return StreamingResponse(chunks, media_type="text/event-stream", headers=headers)
    body = shape.completion(episode, day.config.http.model_name, wanted.reasoning, told)
    return Response(orjson.dumps(body), media_type="application/json", headers=headers)


def parse(body: bytes) -> ChatRequest:
    """A validated request. Raises BadInput naming the field, as OpenAI's `param`."""
    try:
        return ChatRequest.model_validate(orjson.loads(body))
    except orjson.JSONDecodeError as error:
        raise BadInput(f"the body is not valid JSON: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or None
        raise BadInput(f"{where or 'the body'}: {first['msg']}", param=where) from None


def check_model(model: str, day: Day) -> None:
    """Raises NotFound for a model that /v1/models does not list."""
    name = day.config.http.model_name
    if model != name:
        raise NotFound(f"the model {model!r} does not exist here; ask for {name!r}", param="model")


def make_ask(wanted: ChatRequest, day: Day, who: Identity) -> tuple[Ask, SkillSettings]:
    """The request as a record, with its skill, its key and its side of the held-out split."""
    messages: tuple[Message, ...] = tuple(_given(message) for message in wanted.messages)
    skill = recognise(messages, wanted.skill, day.skills, learned=day.alike)
    key = prompt_key(messages)
    ask = Ask(
        id=f"ep-{time.time_ns() // 1_000_000:013d}-{_chance.getrandbits(48):012x}",
        messages=messages,
        skill=skill.name,
        answer_type=skill.answer_type,
        source=who.source(wanted.source),
        mode=Mode.SYSTEM2 if wanted.practice else wanted.mode,
        asked_at=time.time(),
        prompt_key=key,
        heldout=is_heldout(key, day.config.heldout_share),
        params={k: v for k, v in _given(wanted).items() if k not in NOT_PASSED_ON and v is not None},
    )
    return ask, skill


def _given(model: BaseModel) -> dict[str, Any]:
    """The fields that were sent, as they were read: they are JSON, and need no walk through (`model_dump`)."""
    fields = {name: value for name, value in model.__dict__.items() if name in model.model_fields_set}
    return {**fields, **(model.model_extra or {})}


def _usage(wanted: ChatRequest) -> bool:
    return bool((wanted.stream_options or {}).get("include_usage"))


async def _passed_through(request: Request, day: Day, ask: Ask, skill: SkillSettings, stream: bool) -> Response:
    """A request that only System 1 can serve, handed to the engine whole."""
    if stream:
        flow = forwarded_stream(day, ask, skill, partial(spent_so_far, request.scope))
        chunks = _whole(await anext(flow, b""), flow)
        return Events(chunks, flow, shape.Head(day.config.http.model_name, ask).headers())
    body, episode = await until_gone(request, forwarded(day, ask, skill))
    spent(request.scope, episode.tokens)
    head = shape.header_lines(shape.provenance(episode))
    return Response(body, media_type="application/json", headers=head)


async def _whole(first: bytes, flow: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """A forwarded stream, its first chunk awaited already, so that an early fault kept its status."""
    try:
        yield first
        async for chunk in flow:
            yield chunk
    except SecondNatureError as error:  # too late for a status: the stream itself must say it
        yield shape.event(shape.error(error))
        yield b"data: [DONE]\n\n"


async def _live(head: shape.Head, pieces: AsyncGenerator[Piece, None], wanted: ChatRequest) -> Response:
    """Stream System 1 token by token. The first piece is awaited here, so that an early fault keeps its status."""
    first = await anext(pieces)

    async def chunks() -> AsyncGenerator[bytes, None]:
        try:
            yield head.opening()
            yield head.piece(first)
            async for piece in pieces:
                yield head.piece(piece, _usage(wanted))
        except SecondNatureError as error:  # too late for a status: the stream itself must say it
            yield shape.event(shape.error(error))
        yield b"data: [DONE]\n\n"

    return Events(chunks(), pieces, head.headers())


async def until_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Do the work, but stop it (and with it the engine) when the caller goes away first."""
    here = asyncio.current_task()
    assert here is not None
    gone = asyncio.create_task(_gone(request))

    def stop(done: asyncio.Task[None]) -> None:
        if not done.cancelled():
            here.cancel()

    gone.add_done_callback(stop)
    try:
        return await work
    except asyncio.CancelledError:
        if gone.done() and not gone.cancelled() and here.uncancel() == 0:  # else somebody else wants us to stop
            raise CallerGone("the caller went away before the answer was there") from None
        raise
    finally:
        gone.remove_done_callback(stop)
        gone.cancel()


async def _gone(request: Request) -> None:
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            return
