"""The console: the page at /console with its files, and the figures that it draws.

The files are read once; the browser asks again with their tag and is told when nothing changed. Vendored files
carry their version in their path, so they are kept for good.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import BaseModel, Field

from agent.console import figures
from agent.groups import undecided
from agent.http.access import identity, require
from agent.http.operate import Why, told
from agent.tuning import BASE, apply_threshold, meant_for, undo_threshold, whatif
from memory.errors import NotFound
from policies.certify import Goal

router = APIRouter()
TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
}
VENDOR = "vendor/"


@dataclass(frozen=True, slots=True)
class Static:
    """One file of the page."""

    body: bytes
    media_type: str
    tag: str  # its content's hash, quoted as HTTP wants it


@cache
def static() -> dict[str, Static]:
    """Every file of the page by its path below /console/; nothing else on the disk can be named."""
    found: dict[str, Static] = {}
    folders = [(files("agent.console") / "static", "")]
    while folders:
        folder, prefix = folders.pop()
        for entry in folder.iterdir():
            if entry.is_dir():
                folders.append((entry, f"{prefix}{entry.name}/"))
            elif (kind := entry.name.rpartition(".")[2]) in TYPES:
                body = entry.read_bytes()
                tag = f'"{hashlib.sha256(body).hexdigest()[:24]}"'
                found[prefix + entry.name] = Static(body, TYPES[kind], tag)
    return found


@router.get("/console", include_in_schema=False)
async def to_console() -> Response:
    """The page's own files are beside it, so it lives under a slash."""
    return RedirectResponse("/console/", status_code=308)


@router.get("/console/{path:path}", include_in_schema=False)
async def console(request: Request, path: str) -> Response:
    """The page or one of its files. Raises NotFound."""
    file = static().get(path or "index.html")
    if file is None:
        raise NotFound(f"the console has no file {path!r}")
    lasting = "public, max-age=31536000, immutable" if path.startswith(VENDOR) else "no-cache"
    headers = {"etag": file.tag, "cache-control": lasting}
    if request.headers.get("if-none-match") == file.tag:
        return Response(status_code=304, headers=headers)
    return Response(file.body, media_type=file.media_type, headers=headers)


@router.get("/api/traffic")
async def traffic(
    request: Request, hours: float = Query(24.0, gt=0, le=24 * 366), bins: int = Query(96, ge=1, le=1000)
) -> Response:
    """Answers to people over the last hours, by who gave them."""
    require(request, "audit")
    return told(await asyncio.to_thread(figures.traffic, request.app.state.daemon.day.memory, hours, bins))


@router.get("/api/automaticity")
async def automaticity(request: Request) -> Response:
    """Each skill over adapter versions, with its state and the reason."""
    require(request, "audit")
    return told(await asyncio.to_thread(figures.automaticity, request.app.state.daemon.day))


@router.get("/api/thresholds")
async def thresholds(request: Request) -> Response:
    """What is in force, and every change with who, when and why."""
    require(request, "audit")
    return told(await asyncio.to_thread(figures.thresholds, request.app.state.daemon.day))


@router.get("/api/whatif")
async def what_if(
    request: Request,
    skill: str | None = Query(None, max_length=80),
    adapter: str | None = Query(None, max_length=80, description="an adapter's name, or base; else the live one"),
    max_disagreement: float | None = Query(None, ge=0.0001, lt=1),
    confidence: float | None = Query(None, gt=0.5, lt=1),
    max_cost: float | None = Query(None, gt=0),
) -> Response:
    """What every threshold would have done with the log."""
    require(request, "audit")
    day = request.app.state.daemon.day
    live = day.pointer.now.adapter.name if day.pointer.now.adapter else BASE
    name = adapter or live
    given = {"max_disagreement": max_disagreement, "confidence": confidence, "max_cost": max_cost}
    goal = Goal(**(day.config.goal.model_dump() | {key: value for key, value in given.items() if value is not None}))
    if name != BASE:
        day.memory.adapter(name)
    aside = undecided(day.memory, day.config)
    rules = (
        goal,
        day.config.certify,
        day.config.calibration,
        day.config.route.threshold,
        aside,
        day.config.audit.floor,
    )
    found = await asyncio.to_thread(whatif, day.memory, skill or None, None if name == BASE else name, None, *rules)
    return told(found | {"live": name == live})


class ThresholdBody(BaseModel):
    """A threshold to put in force under the live adapter."""

    skill: str | None = Field(None, max_length=80, description="a skill's name; null: every skill without its own")
    value: float = Field(ge=0, le=1, description="confidence from which System 1 answers, 0..1")
    why: str = Field(min_length=1, max_length=500, description="why, for the record")
    max_disagreement: float | None = Field(
        None, ge=0.0001, lt=1, description="what it is trusted to hold; null: the goal"
    )
    certificate: dict[str, Any] | None = Field(None, description="the evidence, of the same skill, where there is one")
    adapter: str | None = Field(None, max_length=80, description="whose log spoke for it, or base; null: the live")


@router.post("/api/threshold")
async def set_threshold(request: Request, body: ThresholdBody) -> Response:
    """Put a threshold in force, at once; refused where the adapter that it was chosen for does not answer now."""
    require(request, "operate")
    day = request.app.state.daemon.day
    meant_for(day, body.adapter)
    evidence = (body.max_disagreement, body.certificate)
    return told(apply_threshold(day, body.skill, body.value, identity(request).name, body.why, *evidence))


class UndoBody(Why):
    """A threshold to take back under the live adapter."""

    skill: str | None = Field(None, max_length=80, description="this skill's; null: the newest of any")


@router.post("/api/threshold/undo")
async def take_back(request: Request, body: UndoBody) -> Response:
    """Take the newest threshold that a person set under the live adapter back, at once."""
    require(request, "operate")
    return told(undo_threshold(request.app.state.daemon.day, identity(request).name, body.why, body.skill))
