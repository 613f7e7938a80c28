"""`learn`: run the night now."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from agent.cli.options import ApiKey, AsJson, ConfigFile, StateDir, Url

LOOK_EVERY_S = 0.5


def learn(
    why: Annotated[str, typer.Option(help="why, for the record")] = "asked for at the command line",
    json: AsJson = False,
    config: ConfigFile = None,
    state_dir: StateDir = None,
    url: Url = None,
    key: ApiKey = None,
) -> None:
    """Run a night now: curate, distil, evaluate, judge, and promote or reject. Questions are answered meanwhile.

    Ends with code 0 when the adapter was promoted or there was nothing to learn, 3 when it was rejected, 1 when the
    night failed.

    Example: secondnature learn --why "after the practice on sums"
    """
    from agent.cli import out
    from agent.cli.service import find

    service = find(config, state_dir, url, key)
    before = {night["id"] for night in service.call("GET", "/api/night")["last"]}
    service.call("POST", "/api/night", {"why": why})
    night = _follow(service, before, quiet=json)
    if json:
        out.as_json(night)
    else:
        _tell(night)
    raise typer.Exit({"promoted": 0, "skipped": 0, "rejected": 3}.get(night["outcome"], 1))


def _follow(service: Any, before: set[int], *, quiet: bool) -> dict[str, Any]:
    """Show the progress until the night is over; returns its row."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    from agent.cli import out

    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[said]}"),
    )
    with Progress(*columns, console=out.errors, disable=quiet) as bars:
        stages: dict[str, TaskID] = {}
        while True:
            told = service.call("GET", "/api/night")
            now = told["progress"]
            stage = now["stage"]
            if stage != "idle":
                if stage not in stages:
                    stages[stage] = bars.add_task(stage, said="")
                bars.update(stages[stage], total=now["total"] or None, completed=now["done"], said=now["said"])
            fresh = [night for night in told["last"] if night["id"] not in before]
            if fresh and not told["running"]:
                return dict(fresh[0])
            time.sleep(LOOK_EVERY_S)


def _tell(night: dict[str, Any]) -> None:
    from agent.cli import out

    report = night["report"]
    gate = report.get("gate")
    out.facts(
        {
            "outcome": night["outcome"],
            "reason": report.get("reason"),
            "adapter": night["adapter"],
            "lessons": report.get("lessons"),
        }
    )
    if gate:
        out.table("The gate", ("check", "passed", "why"), gate["checks"])
