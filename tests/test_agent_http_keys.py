"""Tests of agent/http/keys.py, on a store that is a dict and on the real Memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent.http.keys import LOCAL, ROLES, KeyStore, authenticate, create, digest
from memory.errors import BadInput, Conflict, Denied, NotFound
from memory.rows import Key
from memory.store import Memory
from policies.limits import LimitSettings

LIMITS = LimitSettings()


class DictStore:
    """Keys in a dict."""

    def __init__(self) -> None:
        self.rows: dict[str, Key] = {}

    def add_key(self, key: Key) -> None:
        if key.id in self.rows:
            raise Conflict(f"{key.id} exists")
        self.rows[key.id] = key

    def revoke_key(self, key_id: str) -> None:
        if key_id not in self.rows:
            raise NotFound(key_id)
        self.rows[key_id] = replace(self.rows[key_id], revoked_at=2.0)

    def keys(self) -> list[Key]:
        return list(self.rows.values())

    def key_by_hash(self, digest: str) -> Key | None:
        return next((key for key in self.rows.values() if key.hash == digest), None)

    def tokens_since(self, key_id: str, since: float) -> int:
        return 0


@pytest.fixture(params=["dict", "memory"])
def store(request, tmp_path: Path):
    if request.param == "dict":
        yield DictStore()
        return
    with Memory.open(tmp_path / "state") as memory:
        yield memory


def test_a_key_is_shown_once_and_kept_as_a_hash(store: KeyStore):
    new = create(store, "ask", note="the shop", clock=lambda: 1.0)
    assert new.secret.startswith("sn-")
    assert len(new.secret) > 40
    assert new.secret not in repr(new)
    (kept,) = store.keys()
    assert kept == new.key
    assert new.secret not in repr(kept)
    assert kept.hash == digest(new.secret)
    assert (kept.role, kept.note, kept.created_at, kept.revoked_at) == ("ask", "the shop", 1.0, None)


def test_the_holder_is_known_by_the_secret(store: KeyStore):
    new = create(store, "audit", limits={"burst": 7})
    who = authenticate(store, new.secret, LIMITS)
    assert (who.name, who.role, who.limits.burst) == (new.key.id, "audit", 7)
    assert who.limits.concurrent == LIMITS.concurrent
    assert who.may("audit")
    assert not who.may("operate")


def test_unknown_and_revoked_keys_are_denied(store: KeyStore):
    new = create(store, "operate")
    with pytest.raises(Denied, match="not known"):
        authenticate(store, new.secret + "x", LIMITS)
    with pytest.raises(Denied, match="not known"):
        authenticate(store, new.key.hash, LIMITS)
    store.revoke_key(new.key.id)
    with pytest.raises(Denied, match="was revoked"):
        authenticate(store, new.secret, LIMITS)


def test_roles_are_nested_where_they_should_be():
    assert ROLES["operate"] > ROLES["audit"]
    assert "audit" not in ROLES["ask"]
    assert "ask" not in ROLES["audit"]


@pytest.mark.parametrize("wrong", [{"role": "admin"}, {"role": "ask", "limits": {"brust": 1}}])
def test_wrong_roles_and_limits_are_named(wrong):
    store = DictStore()
    with pytest.raises(BadInput, match=r"admin|brust"):
        create(store, **wrong)
    assert store.keys() == []


def test_a_key_cannot_invent_sources_unless_it_vouches():
    store = DictStore()
    plain = authenticate(store, create(store, "ask").secret, LIMITS)
    trusted = authenticate(store, create(store, "ask", vouches=True).secret, LIMITS)
    assert plain.source("eve") == plain.source(None) == plain.name
    assert trusted.source("eve") == f"{trusted.name}/eve"
    assert trusted.source(None) == trusted.name
    assert LOCAL.source("eve") == "eve"
    assert LOCAL.source(None) == "local"
