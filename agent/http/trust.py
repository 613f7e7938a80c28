"""Keys, quarantine, forgetting, what is held, backups: the operator's API of trust, under /api."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from agent import trust
from agent.forget import forget_running
from agent.http.access import identity, require
from agent.http.operate import Why, told
from memory.store import Memory

router = APIRouter(prefix="/api")


class KeyBody(BaseModel):
    """A key to make."""

    model_config = ConfigDict(extra="forbid")
    role: str = Field(description="ask, operate or audit", max_length=20)
    note: str = Field("", max_length=200, description="whose it is, for the list")
    vouches: bool = Field(False, description="believe the sources that its requests name")
    limits: dict[str, float] = Field(
        default_factory=dict, description="requests_per_minute, burst, concurrent, tokens_per_day of its own"
    )


class ForgetBody(Why):
    """What to forget: exactly one of the three."""

    model_config = ConfigDict(extra="forbid")
    source: str | None = Field(None, min_length=1, max_length=300)
    episode_id: str | None = Field(None, min_length=1, max_length=80)
    text: str | None = Field(None, min_length=4, max_length=20_000)
    retrain: bool = Field(False, description="start a night at once")


class VerifyBody(BaseModel):
    """What a receipt is thought to be about."""

    what: str | None = Field(None, max_length=20_000, description="the source, episode or text itself")


def memory_of(request: Request) -> Memory:
    """The service's memory."""
    memory: Memory = request.app.state.daemon.memory
    return memory


@router.get("/keys")
async def list_keys(request: Request) -> Response:
    """Every key, without its secret or its hash."""
    require(request, "audit")
    return told(trust.key_rows(memory_of(request)))


@router.post("/keys")
async def create_key(request: Request, body: KeyBody) -> Response:
    """Make a key. The answer holds the secret, once."""
    require(request, "operate")
    made = trust.new_key(
        memory_of(request), body.role, identity(request).name, note=body.note, vouches=body.vouches, limits=body.limits
    )
    response = told(made)
    response.headers["cache-control"] = "no-store"
    return response


@router.post("/keys/{key_id}/revoke")
async def revoke_key(request: Request, key_id: str, body: Why) -> Response:
    """Refuse a key from now on."""
    require(request, "operate")
    return told(trust.revoke(memory_of(request), key_id, identity(request).name, body.why))


@router.get("/quarantine")
async def list_quarantine(request: Request) -> Response:
    """Episodes kept out of training, each with its reason."""
    require(request, "audit")
    return told(trust.quarantined(memory_of(request)))


@router.get("/quarantine/{episode_id}")
async def show_quarantined(request: Request, episode_id: str) -> Response:
    """Why one is there, what was asked and agreed, who learnt it."""
    require(request, "audit")
    return told(trust.quarantined_one(memory_of(request), episode_id))


@router.post("/quarantine/{episode_id}")
async def quarantine(request: Request, episode_id: str, body: Why) -> Response:
    """Keep an episode out of training."""
    require(request, "operate")
    return told(trust.put_in_quarantine(memory_of(request), episode_id, identity(request).name, body.why))


@router.post("/quarantine/{episode_id}/release")
async def release(request: Request, episode_id: str, body: Why) -> Response:
    """Let it be trained on again."""
    require(request, "operate")
    return told(trust.release(memory_of(request), episode_id, identity(request).name, body.why))


@router.post("/quarantine/{episode_id}/delete")
async def delete_quarantined(request: Request, episode_id: str, body: Why) -> Response:
    """Forget a quarantined episode, with all that follows."""
    require(request, "operate")
    daemon = request.app.state.daemon
    trust.quarantined_one(daemon.memory, episode_id)
    done = await forget_running(daemon, {"episode_id": episode_id}, identity(request).name, body.why)
    return told(done.as_json())


@router.post("/forget")
async def forget(request: Request, body: ForgetBody) -> Response:
    """Delete everything held about a source, an episode or a text; adapters that learnt from it are retired."""
    require(request, "operate")
    target = body.model_dump(include={"source", "episode_id", "text"}, exclude_none=True)
    who = identity(request).name
    done = await forget_running(request.app.state.daemon, target, who, body.why, retrain=body.retrain)
    return told(done.as_json())


@router.get("/receipts")
async def receipts(request: Request) -> Response:
    """Every erasure, oldest first."""
    require(request, "audit")
    return told([asdict(receipt) for receipt in await asyncio.to_thread(memory_of(request).receipts)])


@router.post("/receipts/{receipt_id}/verify")
async def verify(request: Request, receipt_id: str, body: VerifyBody) -> Response:
    """Check a receipt, and that what it names is still gone."""
    require(request, "audit")
    return told(asdict(await asyncio.to_thread(memory_of(request).verify_receipt, receipt_id, body.what)))


@router.get("/held")
async def held(request: Request, source: str = Query(min_length=1, max_length=300)) -> Response:
    """Everything that is held about a source."""
    require(request, "operate")
    found: dict[str, Any] = await asyncio.to_thread(memory_of(request).export_source, source)
    return told(found)


@router.post("/backup")
async def backup(request: Request) -> Response:
    """Copy the database while it is in use."""
    require(request, "operate")
    return told({"backup": str(await asyncio.to_thread(memory_of(request).backup))})
