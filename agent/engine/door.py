"""The engine's own door: a middleware inside the vLLM process, so that it takes orders from the daemon alone.

vLLM checks its key on /v1 and three other prefixes; /invocations answers chats, /scale_elastic_ep makes the server
turn everybody away, and both are open to every user of the machine (vLLM 0.32). Standard library alone.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

OPEN = "/health"
REFUSAL = b'{"error": {"message": "This engine takes orders from its own service alone.", "code": 401}}'
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class Door:
    """ASGI middleware: every path but /health needs $VLLM_API_KEY. Raises KeyError where there is none."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._app = app
        self._wanted = f"Bearer {os.environ['VLLM_API_KEY']}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer 401."""
        if scope["type"] == "lifespan" or scope.get("path") == OPEN or self._knows(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            headers = [(b"content-type", b"application/json"), (b"www-authenticate", b"Bearer")]
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            await send({"type": "http.response.body", "body": REFUSAL})

    def _knows(self, scope: Scope) -> bool:
        given = next((value for name, value in scope.get("headers", ()) if name == b"authorization"), b"")
        return hmac.compare_digest(given, self._wanted)
