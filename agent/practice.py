"""Practice: prompts from a file are asked of the running service at low priority, at the engine's full batch rate."""

from __future__ import annotations

import asyncio
import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from memory.errors import BadInput
from policies.skills import prompt_key

NAMES = ("prompt", "question", "text", "input", "instruction")
PATIENCE_S = 3600.0
TRIES = 5  # per prompt, where the service says that it is busy or its engine restarts


def read_prompts(path: Path, column: str | None = None) -> list[str]:
    """The prompts of a file, each once, in order.

    .jsonl: objects or strings; .csv: a named column; .parquet, or a folder of them: a named column; else one a line.
    Raises BadInput naming the line or the column.
    """
    if not path.exists():
        raise BadInput(f"{path} does not exist")
    readers = {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}
    kind = ".parquet" if path.is_dir() else path.suffix.lower()
    found = readers.get(kind, _lines)(path, column)
    try:
        once = {prompt_key(({"role": "user", "content": text},)): text for text in found if text.strip()}
    except (ValueError, csv.Error, OSError) as error:  # not UTF-8, no CSV, no Parquet (pyarrow's are ValueErrors)
        raise BadInput(f"{path} cannot be read as {kind.lstrip('.') or 'text'}: {error}") from None
    if not once:
        raise BadInput(f"{path} holds no prompts")
    return list(once.values())


def _lines(path: Path, _column: str | None) -> Iterator[str]:
    yield from path.read_text(encoding="utf-8").splitlines()


def _jsonl(path: Path, column: str | None) -> Iterator[str]:
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise BadInput(f"{path}, line {number}: not valid JSON: {error}") from None
        yield row if isinstance(row, str) else _cell(row, column, f"{path}, line {number}")


def _csv(path: Path, column: str | None) -> Iterator[str]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        for number, row in enumerate(csv.DictReader(file), 2):
            yield _cell(row, column, f"{path}, line {number}")


def _parquet(path: Path, column: str | None) -> Iterator[str]:
    import pyarrow.dataset as ds

    data = ds.dataset(path, format="parquet")
    name = column or next((n for n in NAMES if n in data.schema.names), None)
    if name is None or name not in data.schema.names:
        raise BadInput(f"{path} has the columns {', '.join(data.schema.names)}; name one with --column")
    for batch in data.to_batches(columns=[name]):
        yield from (str(value) for value in batch.column(0).to_pylist() if value is not None)


def _cell(row: Any, column: str | None, where: str) -> str:
    if not isinstance(row, dict):
        raise BadInput(f"{where}: expected a string or an object, not {type(row).__name__}")
    name = column or next((n for n in NAMES if n in row), None)
    if name is None or not isinstance(row.get(name), str):
        raise BadInput(f"{where}: no text under {name or ' or '.join(NAMES)!r}; name the column with --column")
    return str(row[name])


async def run(
    url: str,
    key: str | None,
    prompts: Sequence[str],
    skill: str | None,
    source: str,
    at_once: int,
    console: Console | None,
) -> dict[str, Any]:
    """Ask every prompt; returns counts by grade. A prompt that fails is counted, told, and does not stop the rest."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    counts: Counter[str] = Counter()
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=PATIENCE_S, limits=httpx.Limits()) as client:
        model = (await client.get("/v1/models")).raise_for_status().json()["data"][0]["id"]
        fixed = {"model": model, "practice": True, "source": source} | ({"skill": skill} if skill else {})
        queue = iter(prompts)
        with _bar(console, len(prompts)) as (bars, bar):

            async def work() -> None:
                for prompt in queue:
                    counts[await _ask(client, fixed, prompt, console)] += 1
                    bars.update(bar, advance=1, said=", ".join(f"{n} {what}" for what, n in sorted(counts.items())))

            await asyncio.gather(*(work() for _ in range(at_once)))
    return {"prompts": len(prompts), **{k: counts[k] for k in ("train", "serve", "none", "failed")}}


async def _ask(client: httpx.AsyncClient, fixed: dict[str, Any], prompt: str, console: Console | None) -> str:
    body = fixed | {"messages": [{"role": "user", "content": prompt}]}
    for _ in range(TRIES):
        said = await client.post("/v1/chat/completions", json=body)
        if said.status_code not in (429, 503):
            break
        await asyncio.sleep(float(said.headers.get("Retry-After", "2")))
    if said.status_code != 200:
        if console:
            console.print(f"{prompt[:60]!r}: {said.json()['error']['message']}", style="red", markup=False)
        return "failed"
    return str(said.json()["secondnature"]["grade"] or "none")


@contextmanager
def _bar(console: Console | None, total: int) -> Iterator[tuple[Progress, TaskID]]:
    columns = (
        TextColumn("practice"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[said]}"),
    )
    with Progress(*columns, console=console, disable=console is None) as bars:
        yield bars, bars.add_task("practice", total=total, said="")
