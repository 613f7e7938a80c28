"""Between services of one fleet: what is decided, what is remembered. A gateway refuses to decide anything itself."""

from __future__ import annotations

import asyncio
from typing import Literal

import orjson
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from agent.http.access import require
from agent.http.operate import told
from agent.published import ROUTE, seal

router = APIRouter()
refusals = APIRouter(prefix="/api")
DECISIONS = (
    "/night",
    "/adapters/{name}/promote",
    "/rollback",
    "/threshold",
    "/threshold/undo",
    "/skills/{name}/release",
    "/keys",
    "/keys/{key_id}/revoke",
    "/merge",
)


@router.get(ROUTE)
async def published(request: Request) -> Response:
    """What is in force, with its version and digest, for gateways to follow."""
    require(request, "operate")
    fleet = request.app.state.daemon.fleet
    fleet.refuse()
    return Response(seal(await asyncio.to_thread(fleet.publication)), media_type="application/json")


@router.get("/api/records")
async def records(
    request: Request,
    kind: Literal["episode", "thought", "audited", "audit", "feedback"],
    place: int = Query(0, ge=0, le=2**62),
    own: str = Query("", max_length=200),
) -> Response:
    """The next rows of this memory after a place, for a learner to take in."""
    require(request, "operate")
    memory = request.app.state.daemon.memory
    rows = await asyncio.to_thread(memory.foreign, kind, (place, own))
    return Response(orjson.dumps(rows), media_type="application/json")


@router.post("/api/merge")
async def merge(request: Request) -> Response:
    """Take in what the gateways of `fleet.gateways` remember, now."""
    require(request, "operate")
    return told(await request.app.state.daemon.fleet.merge())


async def _refuse(request: Request) -> Response:
    require(request, "operate")
    request.app.state.daemon.fleet.refuse()
    raise AssertionError("unreachable")


for path in DECISIONS:
    refusals.add_api_route(path, _refuse, methods=["POST"], include_in_schema=False)
