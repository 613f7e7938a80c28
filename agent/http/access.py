"""Who asks, as the guard found, and whether they may."""

from __future__ import annotations

from fastapi import Request

from agent.http.guard import LOCAL, Identity
from memory.errors import Forbidden

__all__ = ["Identity", "identity", "require"]


def identity(request: Request) -> Identity:
    """Who the guard let in; on loopback without keys everybody is `local`."""
    found: Identity = request.scope.get("secondnature.identity", LOCAL)
    return found


def require(request: Request, role: str) -> None:
    """Raises Forbidden where the key's role does not reach."""
    who = identity(request)
    if not who.may(role):
        raise Forbidden(f"this needs a key with the role {role!r}; yours is {who.role!r}")
