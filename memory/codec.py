"""Records to JSON bytes and back: orjson out (it knows dataclasses), pydantic in (it rebuilds the same records)."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import orjson
from pydantic import TypeAdapter, ValidationError

from memory.errors import BadInput, Damaged

R = TypeVar("R")

HUGE = 10**300  # an integer beyond it is no float either
COMPRESS_FROM_BYTES = 512  # below this, zlib's header and time cost more than the bytes it saves
_ADAPTERS: dict[type[Any], TypeAdapter[Any]] = {}
ZLIB_LEVEL = 1  # level 6 takes 2.7 times as long for 10 % fewer bytes on ten-kilobyte episodes


def encode(record: Any) -> bytes:
    """One record, or any JSON-like value, as compact JSON in UTF-8.

    NaN and infinities become null. Text that is not valid Unicode (a lone surrogate from a client's "\\ud800")
    has the offending characters replaced by "?"; an integer beyond 64 bits becomes a float.

    Raises:
        BadInput: the record holds something that JSON cannot hold.
    """
    try:
        return orjson.dumps(record)
    except TypeError:
        return _encode_awkward(record)


def decode(cls: type[R], body: bytes) -> R:
    """The record of class `cls` that `body` (JSON, plain or packed) holds; equal to the one encoded.

    A null among log-probs, which JSON has in place of minus infinity, is read as minus infinity.

    Raises:
        Damaged: the bytes are not such a record.
    """
    text = unpack(body)
    try:
        return _adapter(cls).validate_json(text)
    except ValidationError:
        return _decode_repaired(cls, text)


def pack(body: bytes) -> bytes:
    """The JSON bytes, compressed where that pays."""
    return zlib.compress(body, ZLIB_LEVEL) if len(body) >= COMPRESS_FROM_BYTES else body


def unpack(blob: bytes) -> bytes:
    """The JSON bytes of a packed blob. JSON never starts with zlib's first byte, so no flag is stored.

    Raises:
        Damaged: the compressed bytes are broken.
    """
    if blob[:1] != b"\x78":
        return blob
    try:
        return zlib.decompress(blob)
    except zlib.error as error:
        raise Damaged(f"a stored record cannot be decompressed ({error}); restore the newest backup") from error


def _encode_awkward(record: Any) -> bytes:
    try:
        return orjson.dumps(_plain(record))
    except TypeError as error:
        raise BadInput(f"this cannot be stored as JSON: {error}; send plain JSON values") from error


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {_plain(str(k)): _plain(v) for k, v in value.items()}
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return float(value) if abs(value) < HUGE else str(value)
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(v) for v in value]
    return value


def _decode_repaired(cls: type[R], text: bytes) -> R:
    try:
        return _adapter(cls).validate_python(_with_infinities(orjson.loads(text)))
    except (ValidationError, orjson.JSONDecodeError) as error:
        raise Damaged(f"a stored {cls.__name__} cannot be read: {error}; restore the newest backup") from error


def _with_infinities(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _lowest(v) if k == "logprobs" else _with_infinities(v) for k, v in value.items()}
    return [_with_infinities(v) for v in value] if isinstance(value, list) else value


def _lowest(logprobs: Any) -> Any:
    return [float("-inf") if v is None else v for v in logprobs] if isinstance(logprobs, list) else logprobs


def _adapter(cls: type[R]) -> TypeAdapter[R]:
    """Built on first use: building takes milliseconds, and importing must do nothing."""
    if cls not in _ADAPTERS:
        _ADAPTERS[cls] = TypeAdapter(cls)
    return _ADAPTERS[cls]
