"""`adapters`: list, show, promote, rollback."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from agent.cli.options import ApiKey, AsJson, ConfigFile, StateDir, Url

app = typer.Typer(help="Adapters: what was learned, and which one answers.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="an adapter's name, as `adapters list` shows it")]
Why = Annotated[str, typer.Option(help="why, for the record")]
Now = Annotated[bool, typer.Option("--now", help="at once; the first question after it then computes its beginning")]


@app.command("list")
def show_all(json: AsJson = False, config: ConfigFile = None, state_dir: StateDir = None) -> None:
    """Every adapter, the newest first.

    Example: secondnature adapters list
    """
    from agent import views
    from agent.cli import out
    from agent.cli.service import memory_of

    with memory_of(config, state_dir) as memory:
        rows = views.adapters(memory)
    if json:
        return out.as_json(rows)
    columns = ("name", "status", "made", "lessons", "train s", "why")
    out.table("Adapters", columns, [
        (r["name"], r["status"], out.when(r["created_at"]), r["n_lessons"], f"{r['train_s']:.0f}", r["reason"])
        for r in rows
    ])  # fmt: skip


@app.command("show")
def show(name: Name, json: AsJson = False, config: ConfigFile = None, state_dir: StateDir = None) -> None:
    """One adapter with its examination and the gate's checks.

    Example: secondnature adapters show sn-0001-3f9a1c
    """
    from agent.cli import out
    from agent.cli.service import memory_of

    with memory_of(config, state_dir) as memory:
        adapter = memory.adapter(name)
    if json:
        return out.as_json(asdict(adapter))
    out.facts({
        "name": adapter.name, "status": adapter.status.value, "why": adapter.reason, "digest": adapter.digest,
        "base": adapter.base, "made": out.when(adapter.created_at), "lessons": adapter.n_lessons,
        "trained for": f"{adapter.train_s:.0f} s",
    })  # fmt: skip
    scores = (adapter.report.get("evaluation") or {}).get("scores") or []
    out.table("Agreement with System 2 on held-out questions", ("skill", "n", "before", "after"), [
        (s["skill"], s["n"], out.percent(s["before"]), out.percent(s["after"])) for s in scores
    ])  # fmt: skip
    out.table("The gate", ("check", "passed", "why"), (adapter.report.get("gate") or {}).get("checks") or [])


@app.command("promote")
def promote(
    name: Name, why: Why = "promoted at the command line", now: Now = False, json: AsJson = False,
    config: ConfigFile = None, state_dir: StateDir = None, url: Url = None, key: ApiKey = None,
) -> None:  # fmt: skip
    """Put an adapter in force, without failing a request or holding up those under way.

    First it is read what the newest questions begin with, a piece at a time: some seconds (engine.warm_s at most).

    Example: secondnature adapters promote sn-0001-3f9a1c --why "better on sums"
    """
    _swapped(f"/api/adapters/{name}/promote", {"why": why, "now": now}, json, config, state_dir, url, key)


@app.command("rollback")
def rollback(
    why: Why = "rolled back at the command line", json: AsJson = False, config: ConfigFile = None,
    state_dir: StateDir = None, url: Url = None, key: ApiKey = None,
) -> None:  # fmt: skip
    """Put the adapter before the live one in force again, or the base where there is none.

    Example: secondnature adapters rollback --why "worse on dates"
    """
    _swapped("/api/rollback", {"why": why}, json, config, state_dir, url, key)


def _swapped(
    path: str, body: dict[str, Any], json: bool, config: ConfigFile, state_dir: StateDir, url: Url, key: ApiKey
) -> None:
    from agent.cli import out
    from agent.cli.service import find

    told = find(config, state_dir, url, key).call("POST", path, body)
    if json:
        return out.as_json(told)
    now, before = told["adapter"] or "the base", told["before"] or "the base"
    took = f"the swap took {told['flip_s']:.2f} s" + (f", warming it {told['warm_s']:.1f} s" if told["warm_s"] else "")
    out.console.print(f"{now} answers now, {before} did before; {took}", markup=False)
