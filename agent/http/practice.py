"""What `secondnature practice` asks of the service: which prompts it knows, and one prompt thought through.

Both are an operator's. Rate and number at once do not hold for them, nor does a request's time (agent/http/guard.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field

from agent.day import Day, require_ready
from agent.http.access import identity, require
from agent.http.chat import ChatMessage, ChatRequest, make_ask, until_gone
from agent.http.guard import PRACTICE, spent
from agent.http.operate import told
from agent.practised import answered_before, practised
from agent.routing import unusual
from memory.errors import BadInput
from memory.records import Message
from policies.limits import check_ask
from policies.skills import prompt_key, recognise, unknown_skill

router = APIRouter(prefix=PRACTICE)


class Prompt(BaseModel):
    """One prompt to practise."""

    messages: list[ChatMessage] = Field(min_length=1)
    skill: str | None = Field(None, max_length=80, description="name of a skill; else it is recognised")
    source: str | None = Field(None, max_length=200, description="who is asking")


class Prompts(BaseModel):
    """Prompts to be looked up."""

    prompts: list[list[ChatMessage]] = Field(max_length=1000)
    skill: str | None = Field(None, max_length=80, description="name of their skill; else each is recognised")


@router.post("")
async def practise(request: Request, body: Prompt) -> Response:
    """Think a prompt through and remember it, or say what is known of it: its episode and the grade of its verdict."""
    require(request, "operate")
    day: Day = request.app.state.daemon.day
    check_skill(body.skill, day)
    require_ready(day)
    wanted = ChatRequest(model=day.config.http.model_name, practice=True, **body.model_dump(exclude_unset=True))
    ask, skill = make_ask(wanted, day, identity(request))
    check_ask(ask.messages, None, day.config.limits)
    if why := unusual(ask):
        raise BadInput(f"this cannot be practised: {why}", param="messages")
    request.scope["secondnature.episode"] = ask.id
    episode = await until_gone(request, practised(day, ask, skill))
    new, thought = episode.ask.id == ask.id, episode.deliberation
    spent(request.scope, episode.tokens if new else 0)
    grade = thought.verdict.grade.value if thought else "none"
    return told({"episode_id": episode.ask.id, "grade": grade, "known": not new})


@router.post("/known")
async def known(request: Request, body: Prompts) -> Response:
    """The grade of each prompt that System 2 has answered, as its skill is set up today; null for the others."""
    require(request, "operate")
    day: Day = request.app.state.daemon.day
    check_skill(body.skill, day)
    prompts = [tuple(m.model_dump(exclude_unset=True) for m in prompt) for prompt in body.prompts]
    return told({"grades": await asyncio.to_thread(_grades, day, prompts, body.skill)})


def check_skill(name: str | None, day: Day) -> None:
    """Raises NotFound for a name that no skill has: a whole file would be practised as something else."""
    names = [skill.name for skill in day.skills]
    if name is not None and name not in names:
        raise unknown_skill(name, names)


def _grades(day: Day, prompts: Sequence[tuple[Message, ...]], named: str | None) -> list[str | None]:
    day.memory.flush()  # what was practised a moment ago is known too
    found = []
    for messages in prompts:
        skill = recognise(messages, named, day.skills, learned=day.alike)
        before = answered_before(day, prompt_key(messages), skill)
        found.append(before[1] if before else None)
    return found
