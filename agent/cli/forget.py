"""`forget` (with `list` and `verify`) and `held`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from agent.cli.options import ApiKey, AsJson, ConfigFile, StateDir, Url

app = typer.Typer(help="Forget a source, an episode or a text; check a receipt.", invoke_without_command=True)


@app.callback()
def forget(
    context: typer.Context,
    source: Annotated[str | None, typer.Option(help="everything that this source asked or said")] = None,
    episode: Annotated[str | None, typer.Option(help="one episode, by its id")] = None,
    text: Annotated[str | None, typer.Option(help="every episode in which this text occurs, whatever its case")] = None,
    why: Annotated[str, typer.Option(help="why, for the record; do not repeat the text here")] = "",
    retrain: Annotated[bool, typer.Option("--retrain", help="start a night at once (running service)")] = False,
    json: AsJson = False,
    config: ConfigFile = None,
    state_dir: StateDir = None,
    url: Url = None,
    key: ApiKey = None,
) -> None:
    """Delete everything held about a source, an episode or a text, for good, and print a receipt.

    Adapters that learnt from it are named and taken out of use: at once, or at the end of the next night
    (trust.retire). If one of them answers, the one before it or the base takes over.

    Examples:

      secondnature forget --source key-3f9a1c22/ann

      secondnature forget --episode ep-1790000000000-0123456789ab --retrain

      secondnature forget --text "the blue heron"
    """
    if context.invoked_subcommand is not None:
        return
    from agent import forget as work
    from agent.cli.reach import WHO, reach

    target = {"source": source, "episode_id": episode, "text": text}
    given = {name: value for name, value in target.items() if value is not None}
    with reach(config, state_dir, url, key) as at:
        if at.service:
            done = at.service.call("POST", "/api/forget", given | {"why": why, "retrain": retrain})
        else:
            done = work.forget(at.held, at.config.trust, given, WHO, why).as_json()
    tell(done, json)


@app.command("list")
def show_all(
    json: AsJson = False, config: ConfigFile = None, state_dir: StateDir = None, url: Url = None, key: ApiKey = None
) -> None:
    """Every receipt, oldest first.

    Example: secondnature forget list
    """
    from agent.cli import out
    from agent.cli.reach import reach

    with reach(config, state_dir, url, key) as at:
        if at.service:
            rows = at.service.call("GET", "/api/receipts")
        else:
            rows = [asdict(receipt) for receipt in at.held.receipts()]
    if json:
        return out.as_json(rows)
    out.table("Receipts", ("receipt", "when", "kind", "episodes", "adapters that learnt from it"), [
        (r["id"], out.when(r["when"]), r["kind"], r["counts"].get("episodes"), ", ".join(r["adapters"]) or None)
        for r in rows
    ])  # fmt: skip


@app.command("verify")
def verify(
    receipt: Annotated[str, typer.Argument(help="a receipt's id, as `forget` printed it")],
    what: Annotated[
        str | None, typer.Option(help="the source, episode id or text itself: check that the receipt is about it")
    ] = None,
    json: AsJson = False,
    config: ConfigFile = None,
    state_dir: StateDir = None,
    url: Url = None,
    key: ApiKey = None,
) -> None:
    """Check that a receipt is unchanged and that what it names is still gone; code 1 if not.

    Example: secondnature forget verify rc-0123456789abcdef0123456789abcdef --what "key-3f9a1c22/ann"
    """
    from agent.cli import out
    from agent.cli.reach import reach

    with reach(config, state_dir, url, key) as at:
        if at.service:
            found = at.service.call("POST", f"/api/receipts/{receipt}/verify", {"what": what})
        else:
            found = asdict(at.held.verify_receipt(receipt, what))
    if json:
        out.as_json(found)
    else:
        out.console.print(f"{'good' if found['ok'] else 'NOT GOOD'}: {found['reason']}", markup=False)
    raise typer.Exit(0 if found["ok"] else 1)


def held(
    source: Annotated[str, typer.Option(help="a source: a key's id, or the name that its caller gave")],
    path: Annotated[Path | None, typer.Option("--out", help="a file to write; else standard output")] = None,
    config: ConfigFile = None,
    state_dir: StateDir = None,
    url: Url = None,
    key: ApiKey = None,
) -> None:
    """Everything that is held about a source, as one JSON document.

    Example: secondnature held --source key-3f9a1c22/ann --out ann.json
    """
    import orjson

    from agent.cli import out
    from agent.cli.reach import reach

    with reach(config, state_dir, url, key) as at:
        found = at.service.call("GET", "/api/held", source=source) if at.service else at.held.export_source(source)
    if path is None:
        return out.as_json(found)
    path.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2))
    out.errors.print(f"{len(found['episodes'])} episodes written to {path}", markup=False)


def tell(done: dict[str, Any], json: bool) -> None:
    """Print what was forgotten and what followed."""
    from agent.cli import out

    if json:
        return out.as_json(done)
    receipt = done["receipt"]
    erased = ", ".join(f"{n} {table}" for table, n in receipt["counts"].items() if n)
    out.facts({
        "receipt": receipt["id"], "erased": erased,
        "had learnt from it": ", ".join(receipt["adapters"]) or "no adapter",
        "out of use now": ", ".join(done["retired"]) or None,
        "out of use after the next night": ", ".join(done["waiting"]) or None,
        "answers now": done["answers"] or "the base", "a night was started": "yes" if done["retraining"] else "no",
    })  # fmt: skip
