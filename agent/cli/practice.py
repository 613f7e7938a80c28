"""`practice`: unlabelled prompts in a file go through deliberate, agree, remember."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agent.cli.options import ApiKey, AsJson, ConfigFile, StateDir, Url


def practice(
    path: Annotated[Path, typer.Argument(help="prompts: .jsonl, .csv, .parquet (file or folder), or plain lines")],
    column: Annotated[
        str | None, typer.Option(help="column or key that holds the prompt; else prompt, question, text, messages")
    ] = None,
    skill: Annotated[str | None, typer.Option(help="skill of all prompts; else each is recognised")] = None,
    source: Annotated[str, typer.Option(help="who is asking, for the record")] = "practice",
    at_once: Annotated[int, typer.Option(min=1, max=1024, help="prompts under way at once")] = 32,
    limit: Annotated[int | None, typer.Option(min=1, help="take only the first prompts")] = None,
    json: AsJson = False,
    config: ConfigFile = None,
    state_dir: StateDir = None,
    url: Url = None,
    key: ApiKey = None,
) -> None:
    """Think through every prompt in a file and remember what agrees: the paper's first two steps.

    Prompts that System 2 answered before, for the same skill by the same method, are passed over: an interrupted run
    goes on where it stopped. While the service is busy or restarts, it waits.

    Examples:

      secondnature practice questions.txt

      secondnature practice train.parquet --column question --skill sums
    """
    import asyncio

    from agent.cli import out
    from agent.cli.service import find
    from agent.practice import Wanted, run
    from agent.prompts import read_prompts

    prompts = read_prompts(path, column)[:limit]
    service = find(config, state_dir, url, key)
    wanted = Wanted(skill, source, at_once)
    told = asyncio.run(run(service.url, service.key, prompts, wanted, out.errors, bar=not json))
    out.as_json(told) if json else out.facts(told)
    raise typer.Exit(1 if told["failed"] else 0)
