"""Whether it lives, whether it can answer, what it counts, what it serves."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from agent.http.access import identity, require

router = APIRouter()


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(request: Request, response: Response) -> dict[str, Any]:
    """200 when questions can be answered, else 503 with what is missing."""
    daemon = request.app.state.daemon
    missing = await daemon.missing()
    if missing:
        response.status_code = 503
        response.headers["Retry-After"] = "5"
    return {"ready": not missing, "missing": missing}


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Prometheus text."""
    daemon = request.app.state.daemon
    await daemon.measure()
    return Response(daemon.day.metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/v1/models")
async def models(request: Request) -> dict[str, Any]:
    """The one model that callers ask for."""
    day = request.app.state.daemon.day
    adapter = day.pointer.now.adapter
    about = {"base": day.config.model, "adapter": adapter.name if adapter else None}
    row = {"id": day.config.http.model_name, "object": "model", "created": 0, "owned_by": "secondnature"}
    return {"object": "list", "data": [row | {"secondnature": about}]}


class FeedbackBody(BaseModel):
    """What a person says about an answer."""

    episode_id: str = Field(min_length=1, max_length=80)
    score: float | None = Field(None, ge=0, le=1, description="0 (wrong) to 1 (right)")
    correction: str | None = Field(None, max_length=20_000, description="the text they would have wanted")
    source: str | None = Field(None, max_length=200)


@router.post("/v1/feedback")
async def feedback(request: Request, body: FeedbackBody) -> dict[str, Any]:
    """Remember a score or a correction. It may lower a lesson's weight, never raise it."""
    require(request, "ask")
    memory = request.app.state.daemon.day.memory
    memory.remember_feedback(body.episode_id, body.score, body.correction, identity(request).source(body.source))
    return {"ok": True, "episode_id": body.episode_id}
