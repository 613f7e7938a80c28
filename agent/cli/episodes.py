"""`episodes`: list, show, export."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from agent.cli.options import AsJson, ConfigFile, StateDir

app = typer.Typer(help="Episodes: what was asked and answered.", no_args_is_help=True)
Skill = Annotated[str | None, typer.Option(help="of this skill alone")]
Source = Annotated[str | None, typer.Option(help="asked by this source alone")]


@app.command("list")
def show_all(
    skill: Skill = None,
    source: Source = None,
    system: Annotated[str | None, typer.Option(help="answered by system1 or system2 alone")] = None,
    text: Annotated[str | None, typer.Option(help="with this text in them")] = None,
    limit: Annotated[int, typer.Option(min=1, help="how many, the newest first")] = 20,
    json: AsJson = False,
    config: ConfigFile = None,
    state_dir: StateDir = None,
) -> None:
    """The newest episodes, a line each.

    Example: secondnature episodes list --skill sums --system system2
    """
    from agent import views
    from agent.cli import out
    from agent.cli.service import memory_of

    with memory_of(config, state_dir) as memory:
        found = memory.episodes(skill=skill, source=source, system=system, text=text, limit=limit)
    rows = [views.episode_line(episode) for episode in found]
    if json:
        return out.as_json(rows)
    columns = ("episode", "asked", "skill", "system", "confidence", "question", "reply")
    out.table("Episodes", columns, [
        (r["id"], out.when(r["asked_at"]), r["skill"], r["system"],
         None if r["confidence"] is None else f"{r['confidence']:.2f}", r["question"][:80], r["reply"][:60])
        for r in rows
    ])  # fmt: skip


@app.command("show")
def show(
    episode_id: Annotated[str, typer.Argument(help="an episode's id, as `episodes list` shows it")],
    full: Annotated[bool, typer.Option("--full", help="every prompt and sample whole, not their ends alone")] = False,
    json: AsJson = False,
    config: ConfigFile = None,
    state_dir: StateDir = None,
) -> None:
    """One episode, with the tree of everything System 2 was asked.

    Examples:

      secondnature episodes show ep-1790000000000-0123456789ab

      secondnature episodes show ep-1790000000000-0123456789ab --full
    """
    from agent import views
    from agent.cli import out
    from agent.cli.service import memory_of
    from agent.cli.tree import tree

    with memory_of(config, state_dir) as memory:
        episode, audits = memory.episode(episode_id), memory.audits(episode_id)
    if json:
        return out.as_json({"episode": asdict(episode), "audits": [asdict(audit) for audit in audits]})
    out.facts(views.episode_line(episode))
    for thought in [episode.deliberation, *(audit.deliberation for audit in audits)]:
        if thought is not None:
            out.console.print(tree(thought, full=full))


@app.command("export")
def export(
    path: Annotated[Path, typer.Argument(help="a .jsonl file to write; - is standard output")],
    skill: Skill = None,
    source: Source = None,
    config: ConfigFile = None,
    state_dir: StateDir = None,
) -> None:
    """Every episode, whole, as JSON lines, the newest first.

    Example: secondnature episodes export episodes.jsonl --skill sums
    """
    import orjson

    from agent.cli import out
    from agent.cli.service import memory_of

    written, after = 0, None
    with memory_of(config, state_dir) as memory, sys.stdout.buffer if str(path) == "-" else path.open("wb") as file:
        while page := memory.episodes(skill=skill, source=source, limit=500, after=after):
            for episode in page:
                file.write(orjson.dumps(asdict(episode), default=str) + b"\n")
            written, after = written + len(page), page[-1].ask.id
    out.errors.print(f"{written} episodes written")
