"""Prompts in a file: JSON lines, CSV, Parquet or plain lines, each a conversation that ends where an answer is due."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from memory.errors import BadInput
from memory.records import Message
from policies.skills import last_user_text, prompt_key

NAMES = ("prompt", "question", "text", "input", "instruction", "messages")
ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
Prompt = tuple[Message, ...]


def read_prompts(path: Path, column: str | None = None) -> list[Prompt]:
    """The prompts of a file, each once, in order.

    .jsonl: objects or strings; .csv: a named column; .parquet, or a folder that holds such files: a named column; else
    one a line. In .jsonl and .parquet a prompt may also be a list of chat messages, of which the answer at the end is
    left out. Raises BadInput naming the line or the column.
    """
    if not path.exists():
        raise BadInput(f"{path} does not exist")
    readers = {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}
    kind = ".parquet" if path.is_dir() else path.suffix.lower()
    found = readers.get(kind, _lines)(path, column)
    try:
        once = {prompt_key(prompt): prompt for prompt in found if last_user_text(prompt).strip()}
    except (ValueError, csv.Error, OSError) as error:  # not UTF-8, no CSV, no Parquet (pyarrow's are ValueErrors)
        raise BadInput(f"{path} cannot be read as {kind.lstrip('.') or 'text'}: {error}") from None
    if not once:
        raise BadInput(f"{path} holds no prompts")
    return list(once.values())


def _lines(path: Path, _column: str | None) -> Iterator[Prompt]:
    yield from (_asked(line) for line in path.read_text(encoding="utf-8").splitlines())


def _jsonl(path: Path, column: str | None) -> Iterator[Prompt]:
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise BadInput(f"{where}: not valid JSON: {error}") from None
        yield _asked(row) if isinstance(row, str) else _of_row(row, column, where)


def _csv(path: Path, column: str | None) -> Iterator[Prompt]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        for number, row in enumerate(csv.DictReader(file), 2):
            yield _of_row(row, column, f"{path}, line {number}")


def _parquet(path: Path, column: str | None) -> Iterator[Prompt]:
    import pyarrow.dataset as ds

    files = _parquet_files(path) if path.is_dir() else [path]
    data = ds.dataset([str(file) for file in files], format="parquet")
    name = column or next((n for n in NAMES if n in data.schema.names), None)
    if name is None or name not in data.schema.names:
        raise BadInput(f"{path} has the columns {', '.join(data.schema.names)}; name one with --column")
    for batch in data.to_batches(columns=[name]):
        for value in batch.column(0).to_pylist():
            if value is not None:
                yield _conversation(value, str(path)) if isinstance(value, list) else _asked(str(value))


def _parquet_files(folder: Path) -> list[Path]:
    """The folder's Parquet files in order; whatever lies beside them (a README, a cache) is left alone."""
    found = sorted(folder.rglob("*.parquet"))
    files = [file for file in found if not any(part[0] in "._" for part in file.relative_to(folder).parts)]
    if not files:
        raise BadInput(f"{folder} holds no .parquet files")
    return files


def _of_row(row: Any, column: str | None, where: str) -> Prompt:
    if not isinstance(row, dict):
        raise BadInput(f"{where}: expected a string or an object, not {type(row).__name__}")
    name = column or next((n for n in NAMES if n in row), None)
    value = None if name is None else row.get(name)
    if isinstance(value, list):
        return _conversation(value, where)
    if not isinstance(value, str):
        raise BadInput(f"{where}: no text under {name or ' or '.join(NAMES)!r}; name the column with --column")
    return _asked(value)


def _asked(text: str) -> Prompt:
    return ({"role": "user", "content": text},)


def _conversation(messages: Sequence[Any], where: str) -> Prompt:
    """Chat messages without the answer that they may end with: practice finds its own."""
    kept = [_message(one, where) for one in messages]
    while kept and kept[-1]["role"] == "assistant":
        kept.pop()
    if not any(message["role"] == "user" for message in kept):
        raise BadInput(f"{where}: the messages hold no question by a user")
    return tuple(kept)


def _message(one: Any, where: str) -> Message:
    if not (isinstance(one, Mapping) and one.get("role") in ROLES and isinstance(one.get("content"), str)):
        raise BadInput(f"{where}: expected messages such as {{'role': 'user', 'content': '...'}}")
    return {"role": one["role"], "content": one["content"]}
