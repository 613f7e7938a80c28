"""`keys`: create, list, revoke."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from agent.cli.options import ApiKey, AsJson, ConfigFile, StateDir, Url

app = typer.Typer(help="API keys: who may ask, read and change.", no_args_is_help=True)


@app.command("create")
def create(
    role: Annotated[str, typer.Option(help="ask, audit (read everything) or operate (do everything)")] = "ask",
    note: Annotated[str, typer.Option(help="whose it is, for the list")] = "",
    vouches: Annotated[bool, typer.Option("--vouches", help="believe the sources that its requests name")] = False,
    requests_per_minute: Annotated[float | None, typer.Option(help="its own limit; else the service's")] = None,
    burst: Annotated[int | None, typer.Option(help="requests of it at once; else the service's")] = None,
    concurrent: Annotated[int | None, typer.Option(help="requests of it under way; else the service's")] = None,
    tokens_per_day: Annotated[int | None, typer.Option(help="generated tokens per day; else the service's")] = None,
    json: AsJson = False,
    config: ConfigFile = None,
    state_dir: StateDir = None,
    url: Url = None,
    key: ApiKey = None,
) -> None:
    """Make a key and show it, once. The first must be of the role operate: from then on nobody enters without one.

    Examples:

      secondnature keys create --role operate --note "me"

      secondnature keys create --role ask --vouches --note "the web shop" --requests-per-minute 60
    """
    from agent import trust
    from agent.cli import out
    from agent.cli.reach import WHO, reach

    limits = {
        "requests_per_minute": requests_per_minute, "burst": burst, "concurrent": concurrent,
        "tokens_per_day": tokens_per_day,
    }  # fmt: skip
    given: dict[str, Any] = {"note": note, "vouches": vouches, "limits": {k: v for k, v in limits.items() if v}}
    with reach(config, state_dir, url, key) as at:
        if at.service:
            made = at.service.call("POST", "/api/keys", {"role": role} | given)
        else:
            made = trust.new_key(at.held, role, WHO, **given)
    if json:
        return out.as_json(made)
    out.facts({"id": made["id"], "role": made["role"], "key": made["secret"]})
    out.errors.print("Keep the key: it is shown this once.")


@app.command("list")
def show_all(
    json: AsJson = False, config: ConfigFile = None, state_dir: StateDir = None, url: Url = None, key: ApiKey = None
) -> None:
    """Every key, the revoked ones too; secrets are kept nowhere.

    Example: secondnature keys list
    """
    from agent import trust
    from agent.cli import out
    from agent.cli.reach import reach

    with reach(config, state_dir, url, key) as at:
        rows = at.service.call("GET", "/api/keys") if at.service else trust.key_rows(at.held)
    if json:
        return out.as_json(rows)
    out.table("Keys", ("id", "role", "note", "made", "revoked", "vouches", "limits of its own"), [
        (r["id"], r["role"], r["note"], out.when(r["created_at"]), out.when(r["revoked_at"]),
         "yes" if r["vouches"] else "no", ", ".join(f"{k} {v}" for k, v in r["limits"].items()) or None)
        for r in rows
    ])  # fmt: skip


@app.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(help="a key's id, as `keys list` shows it")],
    why: Annotated[str, typer.Option(help="why, for the record")] = "",
    json: AsJson = False,
    config: ConfigFile = None,
    state_dir: StateDir = None,
    url: Url = None,
    key: ApiKey = None,
) -> None:
    """Refuse a key from now on; a running service does so within two seconds.

    Example: secondnature keys revoke key-3f9a1c22 --why "it leaked"
    """
    from agent import trust
    from agent.cli import out
    from agent.cli.reach import WHO, reach

    with reach(config, state_dir, url, key) as at:
        if at.service:
            row = at.service.call("POST", f"/api/keys/{key_id}/revoke", {"why": why})
        else:
            row = trust.revoke(at.held, key_id, WHO, why)
    if json:
        return out.as_json(row)
    out.console.print(f"{row['id']} is refused from now on", markup=False)
