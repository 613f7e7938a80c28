"""The publication: what the learner decided, as one small file or HTTP answer that gateways follow.

`{"version": ..., "digest": sha256 of the rest, ...}`. A reader sees a whole one or the one before (the file is renamed
into its place), refuses one whose digest is wrong, and never goes back to a lower version.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

import orjson
from pydantic import Field, model_validator

from memory.errors import Damaged, Unavailable
from memory.settings import Settings

SCHEMA = 1  # version of the fields
ROUTE = "/api/published"
COPY = "published.json"  # in a gateway's state folder: what it adopted last


class FleetSettings(Settings):
    """Several gateways that answer, one learner that decides. As delivered a service is alone and does both."""

    role: Literal["all", "gateway"] = Field(
        "all",
        description="all: answers, learns and decides (in a fleet: the learner); gateway: answers under what the "
        "learner publishes, and never learns",
    )
    published: str | None = Field(
        None,
        description="where the decisions in force are published: a file (the learner writes it, gateways read it), or "
        'for a gateway the learner\'s address ("http://host:port")',
    )
    gateways: tuple[str, ...] = Field(
        (),
        description="whose memories the learner takes in: addresses of gateways, or state folders on its own machine",
    )
    merge: Literal["all", "thought"] = Field(
        "all",
        description="which episodes of the gateways the learner takes in; thought: those alone that System 2 thought "
        "through, at once or in an audit (lessons and calibration need no others)",
    )
    api_key: str | None = Field(None, description="key of the role operate for those addresses")
    look_s: float = Field(1.0, gt=0, le=3600, description="seconds between two looks at what is decided")
    merge_every_s: float = Field(
        300.0,
        gt=0,
        le=86_400,
        description="seconds between two merges of the gateways' memories; a night begins with one",
    )
    linger_s: float = Field(
        600.0,
        ge=0,
        le=86_400,
        description="seconds that the learner leaves a replaced adapter loaded, because gateways may still answer "
        "under it; more than limits.request_s and look_s together",
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.role == "gateway" and not self.published:
            raise ValueError("a gateway needs `published`: the learner's file or address")
        if self.role == "gateway" and self.gateways:
            raise ValueError("`gateways` is for the learner; a gateway takes in nobody's memory")
        if self.role == "all" and self.published and is_address(self.published):
            raise ValueError("the learner publishes to a file; its address is for its gateways' `published`")
        return self

    @property
    def leads(self) -> bool:
        """Whether others follow."""
        return self.role == "all" and bool(self.published or self.gateways)


def is_address(where: str) -> bool:
    """Whether it is reached over HTTP."""
    return where.startswith(("http://", "https://"))


@dataclass(frozen=True, slots=True)
class Published:
    """What every gateway goes by."""

    version: int  # higher than any before
    at: float  # unix seconds at which it was decided
    base: str  # identity of the base model
    adapters: str  # folder of the adapters, which learner, gateways and engines see under the same path
    mixing: (
        Mapping[str, Any] | None
    )  # {"passed", "sentence"}: the learner's check of its engines; None: not checked yet
    decided: Mapping[str, Any]  # see memory.replica
    schema: int = SCHEMA

    def says_the_same(self, other: Published | None) -> bool:
        """Whether another says nothing else, whatever its version and time."""
        return other is not None and _content(self) == _content(other)


def seal(published: Published) -> bytes:
    """The publication with its digest."""
    body = asdict(published)
    return orjson.dumps(body | {"digest": _digest(body)}, option=orjson.OPT_INDENT_2)


def unseal(text: bytes, where: str) -> Published:
    """What `seal` made. Raises Damaged where it is not that, or of another schema."""
    try:
        body = orjson.loads(text)
        digest = body.pop("digest")
        if digest != _digest(body):
            raise Damaged(f"{where} does not have the digest that it names: it was changed or cut short")
        if body["schema"] != SCHEMA:
            raise Damaged(f"{where} has schema {body['schema']}, this program knows {SCHEMA}; run the same version")
        return Published(**body)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"{where} is no publication ({error}); name the learner's file or URL") from None


def write(path: Path, published: Published) -> None:
    """Put it in the place of the one before, whole. Raises OSError."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with part.open("wb") as file:
        os.fchmod(file.fileno(), 0o640)  # it holds the hashes of keys
        file.write(seal(published))
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def read(where: str, key: str | None = None) -> Published:
    """The publication at a path or a learner's address. Waits for a disk or the network: call it in a thread.

    Raises Unavailable where there is none to be had now, Damaged where it is not whole.
    """
    if is_address(where):
        return unseal(get(where.rstrip("/") + ROUTE, key), where)
    try:
        return unseal(Path(where).read_bytes(), where)
    except OSError as error:
        raise Unavailable(f"nothing is published at {where} ({error.strerror})") from None


def get(url: str, key: str | None, **query: Any) -> bytes:
    """The body of an answer. Raises Unavailable with what was said instead."""
    import httpx

    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        said = httpx.get(url, params=query, headers=headers, timeout=httpx.Timeout(30, connect=5))
    except httpx.TransportError as error:
        raise Unavailable(f"{url} does not answer ({error or type(error).__name__})") from None
    if said.status_code != 200:
        raise Unavailable(f"{url} answered {said.status_code}: {said.text[:200]}")
    return said.content


def _content(published: Published) -> bytes:
    body = asdict(published)
    return orjson.dumps({key: body[key] for key in body if key not in ("version", "at")}, option=orjson.OPT_SORT_KEYS)


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()
