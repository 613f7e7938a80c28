"""The door: who is it, may a browser have been tricked, is the body small enough, is the key within its limits.

A plain ASGI middleware, so that streams pass untouched. Answers 401, 403, 413, 429 and 504 in OpenAI's error
shape. Only the health paths are open. While the service listens on loopback and no key was ever made, whoever
is on this machine is `local` and may do everything; then the browser is the danger, since any web page can
send requests to loopback, so requests of other sites, other host names and proxies are turned away.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import ipaddress
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent.http.keys import LOCAL, Identity, KeyStore, authenticate
from memory.errors import BadConfig, Denied, Forbidden, SecondNatureError, TimedOut, TooLarge, TooMany
from policies.limits import DAY_S, LimitSettings, Usage, admit, admit_practice, finished, fresh

__all__ = ["LOCAL", "Guard", "Identity", "check_bind", "is_loopback", "spent", "spent_so_far"]

OPEN_PATHS = frozenset({"/healthz", "/readyz"})
ANSWERS, OPERATION = "/v1/", "/api/"  # paths whose requests count against a key's limits, each kind for itself
PRACTICE = "/api/practice"  # an operator's: it costs tokens as answers do, at any rate and in any number
CONSOLE = "/console"
CONSOLE_HEADER = "x-secondnature"  # no other site's page can send it without asking first (CORS)
IDENTITY, METER = "secondnature.identity", "secondnature.meter"
KEY_CACHE_S = 2.0  # seconds that a key found good is believed; a revoked key is refused after that
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
NO_SNIFF = (b"x-content-type-options", b"nosniff")
CONSOLE_POLICY = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
)


@dataclass(slots=True)
class Meter:
    """What a request has cost so far; the route writes it, the guard reads it at the end."""

    tokens: int = 0  # generated tokens


def spent(scope: Scope, tokens: int) -> None:
    """Note generated tokens against the key of the request (call it with `request.scope`)."""
    meter = scope.get(METER)
    if meter is not None:
        meter.tokens += tokens


def spent_so_far(scope: Scope, tokens: int) -> None:
    """Note how many tokens a stream's request has generated until now, so that one closed early has its price."""
    meter = scope.get(METER)
    if meter is not None:
        meter.tokens = tokens


@lru_cache(maxsize=64)  # asked of every request's Host header; an address takes 30 µs to parse
def is_loopback(host: str) -> bool:
    """Whether an address or host name reaches this machine alone. "" and "0.0.0.0" do not."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


def check_bind(host: str, has_keys: bool) -> None:
    """Raise BadConfig rather than listen where strangers can come, without a key."""
    if not is_loopback(host) and not has_keys:
        raise BadConfig(
            f"refusing to listen on '{host}' without an API key: others could use and teach this service; "
            "make a key with `secondnature keys create --role operate`, or set http.host to 127.0.0.1",
            param="http.host",
        )


class Guard:
    """ASGI middleware; `app.add_middleware(Guard, store=..., limits=..., host=...)`."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        store: Callable[[], KeyStore],  # called per request: the memory opens after the application is built
        limits: LimitSettings,
        host: str,  # the address listened on
        known_hosts: Collection[str] = (),  # names besides loopback's that `local` requests may be addressed to
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.app, self._store, self._limits, self._clock = app, store, limits, clock
        self._loopback = is_loopback(host)
        self._known_hosts = frozenset({host, *known_hosts})
        self._cache: dict[str, tuple[float, Identity]] = {}
        self._keyed: tuple[float, bool] = (-KEY_CACHE_S, False)
        self._usage: dict[tuple[str, str], Usage] = {}  # by key and kind of path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self.app(scope, receive, send)
        else:
            await self._http(scope, receive, _Reply(send, scope["path"]))

    async def _http(self, scope: Scope, receive: Receive, reply: _Reply) -> None:
        headers = _first_of_each(scope)
        try:
            who = self.identify(headers)
            self._check_browser(scope, headers)
            body = _Body(receive, headers, self._limits.body_bytes)
            scope[IDENTITY] = who
            kinds = (PRACTICE, ANSWERS, OPERATION) if who.may("operate") else (ANSWERS, OPERATION)
            kind = next((kind for kind in kinds if scope["path"].startswith(kind)), None)
            if kind is None:
                await self._pass(scope, body, reply)
            else:
                await self._within_limits(kind, who, scope, body, reply)
        except SecondNatureError as fault:
            await reply.refuse(fault, browser="mozilla/" in headers.get("user-agent", "").lower())

    def identify(self, headers: Mapping[str, str]) -> Identity:
        """Who sends these headers. Raises Denied."""
        secret = _secret(headers)
        # Clients of OpenAI always send some key: while none was made here, any is as good as none.
        if secret is None or not self._has_keys():
            return self._local(headers)
        now = self._clock()
        seen = self._cache.get(secret)
        if seen is not None and 0 <= now - seen[0] < KEY_CACHE_S:
            return seen[1]
        self._cache = {key: entry for key, entry in self._cache.items() if now - entry[0] < KEY_CACHE_S}
        who = authenticate(self._store(), secret, self._limits)
        self._cache[secret] = (now, who)
        return who

    def _local(self, headers: Mapping[str, str]) -> Identity:
        if not self._loopback or self._has_keys():
            raise Denied("an API key is needed: send `Authorization: Bearer sn-...`")
        if any(name in headers for name in ("forwarded", "x-forwarded-for", "x-real-ip")):
            raise Denied("this request came through a proxy, so it needs an API key (`secondnature keys create`)")
        address = headers.get("host", "")
        name = address if address.endswith("]") else address.rsplit(":", 1)[0]
        # A name that some other site points at 127.0.0.1 (DNS rebinding) would pass every same-origin check.
        if not is_loopback(name) and name not in self._known_hosts:
            raise Denied(f"without API keys this service answers to localhost alone, not to '{name}'")
        return Identity(LOCAL.name, LOCAL.role, self._limits, LOCAL.vouches)

    def _has_keys(self) -> bool:
        """Whether any key was ever made: revoking the last one must not open the door."""
        now = self._clock()
        if not 0 <= now - self._keyed[0] < KEY_CACHE_S:
            self._keyed = (now, len(self._store().keys()) > 0)
        return self._keyed[1]

    @staticmethod
    def _check_browser(scope: Scope, headers: Mapping[str, str]) -> None:
        """Turn away what another site's page makes a browser send. A bearer key cannot be sent by such a page."""
        if headers.get("authorization", "").lower().startswith("bearer "):
            return
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if site not in (None, "same-origin", "none") and scope["method"] not in SAFE_METHODS:
            raise Forbidden("a page of another site may not send this request")
        if origin is not None and origin.partition("://")[2] != headers.get("host"):
            raise Forbidden(f"requests of pages of {origin} are not accepted")
        from_page = origin is not None or site is not None
        if from_page and scope["method"] not in SAFE_METHODS and CONSOLE_HEADER not in headers:
            raise Forbidden(f"a page's request needs the header {CONSOLE_HEADER}: 1")

    async def _within_limits(self, kind: str, who: Identity, scope: Scope, body: _Body, reply: _Reply) -> None:
        place = (who.name, ANSWERS if kind == PRACTICE else kind)
        await self._recall(place, who)
        rule = admit_practice if kind == PRACTICE else admit
        admission = rule(self._usage[place], who.limits, self._clock())
        self._usage[place] = admission.usage
        if not admission.allowed:
            raise TooMany(admission.reason, retry_after_s=admission.retry_after_s)
        meter = scope[METER] = Meter()
        # What an operator orders, a backup of a large memory say, may last longer than an answer; and practice waits
        # for its turn, however long that is.
        limit_s = self._limits.request_s if kind == ANSWERS else None
        try:
            async with asyncio.timeout(limit_s):
                await self._pass(scope, body, reply)
        except TimeoutError:
            raise TimedOut(f"no answer within {self._limits.request_s:g} seconds; ask for less") from None
        finally:
            counted = 0 if kind == PRACTICE else 1
            self._usage[place] = finished(self._usage[place], meter.tokens, self._clock(), counted)

    async def _recall(self, place: tuple[str, str], who: Identity) -> None:
        """What a key has used when it is first seen: a restart must not give it the day's tokens anew."""
        if place in self._usage:
            return
        now = self._clock()
        unused = fresh(who.limits, now)
        spent_today = 0
        if place[1] == ANSWERS:
            spent_today = await asyncio.to_thread(self._store().tokens_since, who.name, unused.day * DAY_S)
        self._usage.setdefault(place, replace(unused, spent=spent_today))

    async def _pass(self, scope: Scope, body: _Body, reply: _Reply) -> None:
        reply.watches = body
        await self.app(scope, body, reply)
        if body.fault is not None:
            raise body.fault


class _Body:
    """The request's body, cut off with a fault where it passes the limit."""

    def __init__(self, receive: Receive, headers: Mapping[str, str], limit: int) -> None:
        self._receive, self._limit, self._read = receive, limit, 0
        self.fault: TooLarge | None = None
        announced = headers.get("content-length", "")
        if announced.isdigit() and int(announced) > limit:
            raise self._too_large()

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._read += len(message.get("body", b""))
            if self._read > self._limit:
                self.fault = self._too_large()
                raise self.fault
        return message

    def _too_large(self) -> TooLarge:
        return TooLarge(f"the body is larger than {self._limit} bytes (limits.body_bytes)")


class _Reply:
    """The way back: adds headers, and says whether an answer has begun."""

    def __init__(self, send: Send, path: str) -> None:
        self._send, self._console = send, path == CONSOLE or path.startswith(CONSOLE + "/")
        self.begun = self.streams_events = False
        self.watches: _Body | None = None

    async def __call__(self, message: Message) -> None:
        if self.watches is not None and self.watches.fault is not None and not self.begun:
            return  # the framework's own answer to a cut-off body; the guard's follows
        if message["type"] == "http.response.start":
            self.begun = True
            headers = [*message["headers"], NO_SNIFF, *(CONSOLE_POLICY if self._console else ())]
            self.streams_events = any(n == b"content-type" and v.startswith(b"text/event-stream") for n, v in headers)
            message = {**message, "headers": headers}
        await self._send(message)

    async def refuse(self, fault: SecondNatureError, *, browser: bool) -> None:
        """Answer with the fault; where an answer has begun, end it, in an event stream with the fault."""
        told = {"message": fault.message, "type": fault.kind, "param": fault.param, "code": fault.code}
        body = orjson.dumps({"error": told})
        if self.begun:
            last = b"data: " + body + b"\n\ndata: [DONE]\n\n" if self.streams_events else b""
            await self._send({"type": "http.response.body", "body": last})
            return
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        if fault.retry_after_s is not None:
            headers.append((b"retry-after", b"%d" % max(1, ceil(fault.retry_after_s))))
        if fault.status == 401:
            # A browser asks its user for the key (as the password) and sends it with the console's requests.
            basic = self._console or browser
            headers.append((b"www-authenticate", b'Basic realm="secondnature"' if basic else b"Bearer"))
        self.watches = None
        await self({"type": "http.response.start", "status": fault.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})


def _first_of_each(scope: Scope) -> dict[str, str]:
    """A request's headers, names in lower case."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(scope["headers"])}


def _secret(headers: Mapping[str, str]) -> str | None:
    """The API key of a request: a bearer token, or the password of Basic (what a browser can send)."""
    scheme, _, rest = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(rest, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return rest if scheme else None
