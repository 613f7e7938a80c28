"""API keys: made once and shown once, kept as hashes, each with a role."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import ValidationError

from memory.errors import BadInput, Denied
from memory.rows import Key
from policies.limits import KeyLimits, LimitSettings, of_key

PREFIX = "sn-"
VOUCHES = "vouches"  # stored among a key's limits: its callers may say on whose behalf they ask
ROLES: Mapping[str, frozenset[str]] = {
    "ask": frozenset({"ask"}),
    "audit": frozenset({"audit"}),
    "operate": frozenset({"ask", "audit", "operate"}),
}
"""What a key of each role may do. audit: read everything; operate: change what the service does."""


class KeyStore(Protocol):
    """Where keys are kept: Memory, or a dict in a test."""

    def add_key(self, key: Key) -> None:
        """Keep a new key. Raises Conflict if its id exists."""

    def revoke_key(self, key_id: str) -> None:
        """Refuse it from now on. Raises NotFound."""

    def keys(self) -> Sequence[Key]:
        """All keys, the revoked ones too."""

    def key_by_hash(self, digest: str) -> Key | None:
        """The key with this hash, revoked or not."""

    def tokens_since(self, key_id: str, since: float) -> int:
        """Tokens generated for the key's requests since then (unix seconds)."""


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made."""

    key: Key
    secret: str = field(repr=False)  # shown once, kept nowhere


@dataclass(frozen=True, slots=True)
class Identity:
    """Who sent a request."""

    name: str  # a key's id, or "local"
    role: str  # one of ROLES
    limits: KeyLimits
    vouches: bool = False  # True: the names it gives for its own callers are believed

    def may(self, role: str) -> bool:
        """Whether the key's role reaches."""
        return role in ROLES.get(self.role, ())

    def source(self, given: str | None) -> str:
        """Who asks, for the record and for the caps per source.

        A key's caller could invent as many names as it likes, so a name counts only if the key vouches for it.
        """
        if not given or not self.vouches:
            return self.name
        return given if self.name == "local" else f"{self.name}/{given}"


LOCAL = Identity("local", "operate", LimitSettings(), vouches=True)
"""Whoever is on this machine while no key exists: everything is allowed."""


def create(
    store: KeyStore,
    role: str,
    *,
    note: str = "",
    vouches: bool = False,
    limits: Mapping[str, Any] | None = None,
    clock: Callable[[], float] = time.time,
) -> NewKey:
    """Make a key and keep its hash. Raises BadInput for an unknown role or limit."""
    if role not in ROLES:
        raise BadInput(f"there is no role '{role}'; use {', '.join(ROLES)}", param="role")
    own = dict(limits or {})
    try:
        of_key(own, LimitSettings())
    except ValidationError as fault:
        first = fault.errors()[0]
        raise BadInput(f"limit {'.'.join(map(str, first['loc']))}: {first['msg']}", param="limits") from None
    secret = PREFIX + secrets.token_urlsafe(32)  # 256 bits: a plain hash cannot be guessed back
    key = Key(
        id=f"key-{secrets.token_hex(4)}",
        hash=digest(secret),
        role=role,
        note=note,
        created_at=clock(),
        limits=own | ({VOUCHES: True} if vouches else {}),
    )
    store.add_key(key)
    return NewKey(key, secret)


def authenticate(store: KeyStore, secret: str, limits: LimitSettings) -> Identity:
    """Who holds this secret. Raises Denied for an unknown or revoked key."""
    hashed = digest(secret)
    key = store.key_by_hash(hashed)
    # Compared once more in constant time: a store may look hashes up by any means.
    if key is None or not hmac.compare_digest(key.hash, hashed):
        raise Denied("this API key is not known; make one with `secondnature keys create`")
    if key.revoked_at is not None:
        raise Denied(f"the API key {key.id} was revoked; make another with `secondnature keys create`")
    own = {name: value for name, value in key.limits.items() if name != VOUCHES}
    vouches = bool(key.limits.get(VOUCHES))
    return Identity(key.id, key.role, of_key(own, limits), vouches)


def digest(secret: str) -> str:
    """sha256 of a key's secret, hex; what is kept in place of it."""
    return hashlib.sha256(secret.encode()).hexdigest()
