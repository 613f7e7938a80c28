"""`skills`: how automatic each has become, what System 2 cost, and the table as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from agent.cli.options import ApiKey, AsJson, ConfigFile, StateDir, Url

app = typer.Typer(invoke_without_command=True)
Skill = Annotated[str | None, typer.Option(help="of this skill alone")]
Name = Annotated[str, typer.Argument(help="a skill's name, as `skills` shows it")]
COLUMNS = ("adapter", "System 1", "answers", "agreement", "accuracy", "tokens", "seconds", "headroom", "lessons")


@app.callback()
def skills(context: typer.Context, json: AsJson = False, config: ConfigFile = None, state_dir: StateDir = None) -> None:
    """Skills: what has become automatic, what has not, and why. Alone: every skill under the System 1 that answers.

    Example: secondnature skills
    """
    if context.invoked_subcommand is not None:
        return
    from agent import skills as told
    from agent.cli import out
    from agent.cli.service import configured, memory_of

    names = [skill.name for skill in configured(config, state_dir).skills]
    with memory_of(config, state_dir) as memory:
        rows, matrix = told.table(memory, names), told.matrix(memory)
    if json:
        return out.as_json({"skills": rows, "matrix": matrix})
    columns = ("skill", "state", "System 1", "answers", "agreement", "headroom", "lessons")
    out.table("Skills", columns, [
        (r["skill"], r["state"], out.percent(r["system1_share"]), r["n"], out.percent(r["agreement"]),
         out.percent(r["headroom"]), r["lessons"])
        for r in rows
    ])  # fmt: skip
    for row in rows:  # beside a reason no column would have room
        out.console.print(f"{row['skill']}: {row['reason']}", markup=False, highlight=False)
    _show_matrix(matrix)


@app.command("show")
def show(name: Name, json: AsJson = False, config: ConfigFile = None, state_dir: StateDir = None) -> None:
    """One skill under every adapter version, its states so far, thresholds and System 2 methods.

    Example: secondnature skills show sums
    """
    from agent import skills as told
    from agent.cli import out
    from agent.cli.service import configured, memory_of

    names = [skill.name for skill in configured(config, state_dir).skills]
    with memory_of(config, state_dir) as memory:
        found = told.one(memory, name, names)
    if json:
        return out.as_json(found)
    out.facts({"skill": found["skill"], "state": found["state"], "why": found["reason"]})
    versions = [(r["adapter"] or "base", *_cells(r)) for r in found["versions"]]
    out.table("By adapter version", COLUMNS, versions)
    states = [(out.when(r["since"]), r["state"], r["adapter"] or "base", r["reason"]) for r in found["states"]]
    out.table("States", ("since", "state", "adapter", "why"), states)
    changes = [
        (out.when(r["when"]), r["adapter"] or "base", "none" if r["value"] is None else f"{r['value']:.3f}",
         r["who"], r["why"])
        for r in found["thresholds"]
    ]  # fmt: skip
    out.table("Thresholds", ("when", "adapter", "threshold", "who", "why"), changes)
    _show_methods(found["methods"])


@app.command("methods")
def methods(skill: Skill = None, json: AsJson = False, config: ConfigFile = None, state_dir: StateDir = None) -> None:
    """What each System 2 method gained and cost on the questions that were really asked.

    Example: secondnature skills methods --skill sums
    """
    from agent import skills as told
    from agent.cli import out
    from agent.cli.service import memory_of

    with memory_of(config, state_dir) as memory:
        rows = told.methods(memory, skill)
    out.as_json(rows) if json else _show_methods(rows)


@app.command("groups")
def groups(json: AsJson = False, config: ConfigFile = None, state_dir: StateDir = None) -> None:
    """Questions that no skill claims, grouped by themselves, with the lines that would make each a skill.

    Example: secondnature skills groups
    """
    from agent.cli import out
    from agent.cli.service import configured, memory_of
    from agent.groups import groups as found_in

    with memory_of(config, state_dir) as memory:
        found = found_in(memory, configured(config, state_dir).groups)
    if json:
        return out.as_json(found)
    if not found:
        out.console.print("no questions without a skill resemble one another yet")
    for group in found:
        since = "" if group["since"] is None else f", a skill since {out.when(group['since'])}"
        out.console.print(f"{group['id']}: {group['n']} questions{since}, such as", markup=False, highlight=False)
        for text in group["examples"]:
            out.console.print(f"  {text[:200]}", markup=False, highlight=False)
        out.console.print(group["skill"], markup=False, highlight=False, soft_wrap=True)


@app.command("export")
def export(
    path: Annotated[Path, typer.Argument(help="a .csv or .parquet file to write")],
    json: AsJson = False,
    config: ConfigFile = None,
    state_dir: StateDir = None,
) -> None:
    """Every skill under every adapter version, as a table.

    Example: secondnature skills export skills.parquet
    """
    from agent import skills as told
    from agent.cli import out
    from agent.cli.service import memory_of

    with memory_of(config, state_dir) as memory:
        rows = told.flat(told.versions(memory), memory.skill_states())
    told.export(rows, path)
    if json:
        return out.as_json({"path": str(path), "rows": len(rows)})
    out.errors.print(f"{len(rows)} rows written", markup=False)


@app.command("release")
def release(
    name: Name,
    why: Annotated[str, typer.Option(help="why, for the record")],
    json: AsJson = False,
    config: ConfigFile = None,
    state_dir: StateDir = None,
    url: Url = None,
    key: ApiKey = None,
) -> None:
    """Let a deliberate skill be learnt and answered by System 1 again.

    Example: secondnature skills release sums --why "a larger base model"
    """
    from agent.cli import out
    from agent.cli.service import find

    told = find(config, state_dir, url, key).call("POST", f"/api/skills/{name}/release", {"why": why})
    if json:
        return out.as_json(told)
    out.console.print(f"{name} is {told['state']} now", markup=False)


def _cells(row: dict[str, Any]) -> tuple[Any, ...]:
    """One version's numbers, in the order of `COLUMNS` after the adapter."""
    from agent.cli import out

    agreement = out.percent(row["agreement"])
    if row["agreement"] is not None:
        agreement += f" ({100 * row['agreement_low']:.0f} to {100 * row['agreement_high']:.0f})"
    return (
        out.percent(row["system1_share"]), row["n"], agreement, out.percent(row["accuracy"]),
        None if row["tokens"] is None else f"{row['tokens']:.0f}",
        None if row["seconds"] is None else f"{row['seconds']:.2f}", out.percent(row["headroom"]), row["lessons"],
    )  # fmt: skip


def _show_methods(rows: list[dict[str, Any]]) -> None:
    from agent.cli import out

    def whole(share: float | None) -> str:
        return "-" if share is None else f"{100 * share:.0f} %"

    columns = ("skill", "method", "runs", "agree", "serve/train", "changed", "rated", "tokens", "s")
    out.table("System 2's methods", columns, [
        (r["skill"], f"{r['method']} {r['variant']}".strip(), f"{r['runs']} x {r['attempts']:.1f}",
         whole(r["agreement"]), f"{whole(r['serve_share'])[:-2]}/{whole(r['train_share'])}", whole(r["corrected"]),
         f"{whole(r['feedback'])} ({r['rated']})" if r["rated"] else None, f"{r['tokens']:.0f}", f"{r['seconds']:.2f}")
        for r in rows
    ])  # fmt: skip
    said = "runs: of System 2, times the votes in each; agree: the winner's share of the votes; serve/train: runs good "
    said += "enough to be served and to teach; changed: verdicts against System 1's draft; rated: mean score "
    said += "that people gave (to so many answers); tokens and seconds of a run"
    out.console.print(said, markup=False, highlight=False)


def _show_matrix(matrix: dict[str, Any]) -> None:
    """The forgetting matrix and its measures; nothing before the first adapter went live."""
    from agent.cli import out

    if not matrix["adapters"]:
        return
    rows = [
        (name, *(out.percent(score) for score in scores))
        for name, scores in zip(matrix["adapters"], matrix["scores"], strict=True)
    ]
    base = ("before any", *(out.percent(score) for score in matrix["base"]))
    out.table("Agreement on held-out questions, by adapter version", ("adapter", *matrix["skills"]), [base, *rows])
    out.facts({
        "mean of the last row (ACC)": out.percent(matrix["acc"]),
        "backward transfer (BWT)": out.percent(matrix["backward"]),
        "forward transfer (FWT)": out.percent(matrix["forward"]),
        "forgetting": out.percent(matrix["forgetting"]),
    })  # fmt: skip
