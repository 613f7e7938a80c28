"""`merge`: take in what gateways remember."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from agent.cli.options import ApiKey, AsJson, ConfigFile, StateDir, Url


def merge(
    origins: Annotated[
        list[str] | None, typer.Argument(help="gateways' addresses or state folders; default: fleet.gateways")
    ] = None,
    json: AsJson = False,
    config: ConfigFile = None,
    state_dir: StateDir = None,
    url: Url = None,
    key: ApiKey = None,
) -> None:
    """Take in the episodes, audits and feedback of gateways, so that the next night learns from them. Can be repeated:
    what is here already, or was forgotten here, is not taken in again.

    Examples:

      secondnature merge

      secondnature merge /mnt/gateway-1 http://gateway-2:8600
    """
    from agent.cli import out
    from agent.cli.reach import reach

    with reach(config, state_dir, url, key) as at:
        if at.service:
            found = _through_the_service(at.service, origins)
        else:
            found = _by_itself(at.held, origins or at.config.fleet.gateways, at.config.fleet)
    if json:
        out.as_json(found)
    else:
        out.table("Taken in", ("from", "episodes", "audits", "feedback", "fault"), [
            (name, row.get("episode"), row.get("audit"), row.get("feedback"), row["fault"])
            for name, row in found.items()
        ])  # fmt: skip
    if any(row["fault"] for row in found.values()):
        raise typer.Exit(1)


def _through_the_service(service: Any, origins: list[str] | None) -> dict[str, Any]:
    from memory.errors import Conflict

    if origins:
        raise Conflict("a running learner takes in those of its own settings: name them in fleet.gateways, or stop it")
    return dict(service.call("POST", "/api/merge"))


def _by_itself(memory: Any, origins: Any, settings: Any) -> dict[str, Any]:
    from agent.fleet import take_in
    from memory.errors import BadInput, SecondNatureError

    if not origins:
        raise BadInput("name gateways' addresses or state folders, here or in fleet.gateways")
    found: dict[str, Any] = {}
    for origin in origins:
        try:
            found[origin] = {**take_in(memory, origin, settings), "fault": None}
        except SecondNatureError as error:
            found[origin] = {"fault": error.message}
    return found
