"""What has been learnt and how far it can be believed: skills and calibration, under /api. Thresholds: console.py."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from agent import skills
from agent.confidence import reports
from agent.groups import groups
from agent.http.access import identity, require
from agent.http.operate import Why, told
from agent.tuning import flip

router = APIRouter(prefix="/api")


@router.get("/calibration")
async def calibration(
    request: Request,
    skill: str | None = Query(None, max_length=80),
    adapter: str | None = Query(None, max_length=80, description="an adapter's name, or base; else all"),
) -> Response:
    """AUROC, calibration error before and after, risk-coverage and reliability, on held-out questions."""
    require(request, "audit")
    day = request.app.state.daemon.day
    found = await asyncio.to_thread(reports, day.memory, day.config.calibration, adapter, skill)
    return told([one.as_json() for one in found])


@router.get("/skills")
async def table(request: Request) -> Response:
    """Every skill under the System 1 that answers now, and the forgetting matrix."""
    require(request, "audit")
    day = request.app.state.daemon.day
    names = [skill.name for skill in day.config.skills]
    rows = await asyncio.to_thread(skills.table, day.memory, names)
    return told({"skills": rows, "matrix": await asyncio.to_thread(skills.matrix, day.memory)})


@router.get("/methods")
async def methods(request: Request, skill: str | None = Query(None, max_length=80)) -> Response:
    """What each System 2 method gained and cost."""
    require(request, "audit")
    return told(await asyncio.to_thread(skills.methods, request.app.state.daemon.day.memory, skill))


@router.get("/groups")
async def unclaimed(request: Request) -> Response:
    """Questions that no skill claims, grouped by themselves."""
    require(request, "audit")
    day = request.app.state.daemon.day
    return told(await asyncio.to_thread(groups, day.memory, day.config.groups))


@router.get("/skills/{name}")
async def one(request: Request, name: str) -> Response:
    """One skill under every adapter version."""
    require(request, "audit")
    day = request.app.state.daemon.day
    names = [skill.name for skill in day.config.skills]
    return told(await asyncio.to_thread(skills.one, day.memory, name, names))


@router.post("/skills/{name}/release")
async def release(request: Request, name: str, body: Why) -> Response:
    """Let a deliberate skill be tried again."""
    require(request, "operate")
    day = request.app.state.daemon.day
    done = skills.release(day.memory, name, identity(request).name, body.why)
    flip(day)
    return told(done)
