"""`backup` and `restore`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agent.cli.options import ApiKey, AsJson, ConfigFile, StateDir, Url


def backup(
    json: AsJson = False, config: ConfigFile = None, state_dir: StateDir = None, url: Url = None, key: ApiKey = None
) -> None:
    """Copy the database into the state folder's `backups`, while it is in use; the copy is checked.

    Example: secondnature backup
    """
    from agent.cli import out
    from agent.cli.reach import reach

    with reach(config, state_dir, url, key) as at:
        made = at.service.call("POST", "/api/backup")["backup"] if at.service else str(at.held.backup())
    if json:
        return out.as_json({"backup": made})
    out.console.print(made, markup=False, soft_wrap=True)


def restore(
    file: Annotated[Path | None, typer.Argument(help="a backup, by path or by name; else the newest good one")] = None,
    json: AsJson = False,
    config: ConfigFile = None,
    state_dir: StateDir = None,
) -> None:
    """Put a backup in the place of the database; refused while the service runs.

    The database that was there is put aside. Decisions made since the backup are gone: adapters since then come
    back as candidates, keys revoked since then are valid again and keys made since then are gone, so look at
    `keys list` afterwards.

    Examples:

      secondnature restore

      secondnature restore 20261122T031500Z.db
    """
    from agent.cli import out
    from agent.cli.service import configured
    from memory.backup import restore as put_back
    from memory.store import Memory

    folder = Path(configured(config, state_dir).state_dir)
    chosen = put_back(folder, file)
    with Memory.open(folder) as memory:
        memory.record_event("command line", "restore", "", {"backup": chosen.name})
        counts = memory.counts()
        held = memory.keys()
    valid = [key.id for key in held if key.revoked_at is None]
    if json:
        return out.as_json({"restored": str(chosen), "memory": counts, "valid_keys": valid})
    out.facts({"restored": chosen, "episodes": counts["episodes"], "valid keys": ", ".join(valid) or "none"})
