"""The HTTP application: routes, one error shape for every fault, one log line per request."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from agent.config import Config
from agent.http import chat, console, fleet, health, insight, operate, practice, shape, trust
from agent.http.guard import Guard
from memory.errors import BadInput, SecondNatureError

log = logging.getLogger("secondnature.http")


class _Denied(SecondNatureError):
    """A fault that the framework itself found (no such path, wrong method)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.kind = (
            status,
            "not_found" if status == 404 else "invalid_request",
            "invalid_request_error",
        )


class Straight:
    """ASGI middleware: a chat goes from the door to its function at once, past the framework's rooms and routes, which
    are a tenth of a millisecond of every answer where an engine's step has emptied the processor's caches."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a chat, or pass the request on."""
        if scope["type"] != "http" or scope["path"] != chat.PATH or scope["method"] != "POST":
            return await self._app(scope, receive, send)
        request = Request(scope, receive, send)
        try:
            response = await chat.chat_completions(request)
        except SecondNatureError as fault:
            response = await _named(request, fault)
        await response(scope, receive, send)


def build(config: Config, lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]]) -> FastAPI:
    """The application; the lifespan puts the daemon into `app.state.daemon`."""
    app = FastAPI(title="Second Nature", version="0.1.0", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(Straight)
    app.add_middleware(Guard, store=lambda: app.state.daemon.memory, limits=config.limits, host=config.http.host)
    if config.fleet.role == "gateway":
        app.include_router(fleet.refusals)  # first: they take the place of the routes that decide
    app.include_router(chat.router)
    app.include_router(fleet.router)
    app.include_router(health.router)
    app.include_router(operate.router)
    app.include_router(practice.router)
    app.include_router(trust.router)
    app.include_router(console.router)
    app.include_router(insight.router)
    app.add_exception_handler(SecondNatureError, _named)
    app.add_exception_handler(HTTPException, _framework)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _unexpected)
    return app


def answered(error: SecondNatureError) -> Response:
    """OpenAI's error body, with Retry-After where waiting helps."""
    headers = {} if error.retry_after_s is None else {"Retry-After": str(max(1, round(error.retry_after_s)))}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    body = orjson.dumps(shape.error(error))
    return Response(body, status_code=error.status, media_type="application/json", headers=headers)


async def _named(request: Request, error: Exception) -> Response:
    assert isinstance(error, SecondNatureError)
    daemon = getattr(request.app.state, "daemon", None)
    if daemon is not None:
        daemon.day.metrics.errors.labels(error.code).inc()
    return answered(error)


async def _framework(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = answered(_Denied(error.status_code, f"{request.method} {request.url.path}: {error.detail}"))
    response.headers.update(error.headers or {})
    return response


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first: Any = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:]) or None
    return answered(BadInput(f"{where or 'the request'}: {first['msg']}", param=where))


async def _unexpected(request: Request, error: Exception) -> Response:
    log.exception("unexpected fault at %s", request.url.path, exc_info=error)
    return answered(SecondNatureError("an unexpected fault; the service's log has the details"))


def no_lifespan() -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """For tests and documentation: the routes alone."""

    @asynccontextmanager
    async def nothing(_: FastAPI) -> AsyncIterator[None]:
        yield

    return nothing
