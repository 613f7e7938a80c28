"""The operator's API under /api: what the CLI and the console call."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any

import orjson
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field

from agent import views
from agent.http.access import identity, require
from agent.thresholds import of_day

router = APIRouter(prefix="/api")


def told(value: Any) -> Response:
    """JSON, fast, with dataclasses and enums as they are."""
    return Response(orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS), media_type="application/json")


class Why(BaseModel):
    """An operator's decision carries its reason."""

    why: str = Field("", max_length=500, description="why, for the record")


class NightBody(Why):
    """Start a night."""

    wait: bool = Field(False, description="answer when it is over")


class PromoteBody(Why):
    """Put an adapter in force."""

    now: bool = Field(False, description="at once; else the newest questions' common beginnings are read to it first")


@router.get("/status")
async def status(request: Request) -> Response:
    """What happens now."""
    require(request, "audit")
    daemon = request.app.state.daemon
    return told(await daemon.status() | {"in_force": await asyncio.to_thread(of_day, daemon.day)})


@router.post("/night")
async def start_night(request: Request, body: NightBody) -> Response:
    """Run the night now."""
    require(request, "operate")
    daemon = request.app.state.daemon
    report = await daemon.learn(body.why or f"asked for by {identity(request).name}", wait=body.wait)
    return told({"started": True} if report is None else report.as_json())


@router.get("/night")
async def night(request: Request) -> Response:
    """A running night's progress and the last nights."""
    require(request, "audit")
    return told(await asyncio.to_thread(request.app.state.daemon.night_status))


@router.get("/adapters")
async def adapters(request: Request) -> Response:
    """Every adapter with its decision."""
    require(request, "audit")
    return told(await asyncio.to_thread(views.adapters, request.app.state.daemon.day.memory))


@router.get("/adapters/{name}")
async def adapter(request: Request, name: str) -> Response:
    """One adapter with its gate report."""
    require(request, "audit")
    return told(asdict(request.app.state.daemon.day.memory.adapter(name)))


@router.post("/adapters/{name}/promote")
async def promote(request: Request, name: str, body: PromoteBody) -> Response:
    """Put an adapter in force by hand."""
    require(request, "operate")
    why = body.why or f"promoted by {identity(request).name}"
    return told(asdict(await request.app.state.daemon.promote(name, why, now=body.now)))


@router.post("/rollback")
async def rollback(request: Request, body: Why) -> Response:
    """Put the adapter before the live one in force again, or the base where there is none."""
    require(request, "operate")
    return told(asdict(await request.app.state.daemon.rollback(body.why or f"rolled back by {identity(request).name}")))


@router.get("/episodes")
async def episodes(
    request: Request,
    skill: str | None = None,
    source: str | None = None,
    system: str | None = None,
    text: str | None = None,
    limit: int = Query(50, ge=1, le=1000),
    after: str | None = None,
) -> Response:
    """Episodes, the newest first, a line each."""
    require(request, "audit")
    which = {"skill": skill, "source": source, "system": system, "text": text, "after": after}
    # A text is looked for in every body there is: on the loop, nobody would be answered meanwhile.
    rows = await asyncio.to_thread(views.episodes, request.app.state.daemon.day.memory, limit, which)
    return told(rows)


@router.get("/episodes/{episode_id}")
async def episode(request: Request, episode_id: str) -> Response:
    """One episode with every inner call of System 2."""
    require(request, "audit")
    return told(await asyncio.to_thread(views.episode, request.app.state.daemon.day.memory, episode_id))
