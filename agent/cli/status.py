"""`status` and `doctor`."""

from __future__ import annotations

from typing import Any

import typer

from agent.cli.options import ApiKey, AsJson, ConfigFile, StateDir, Url


def status(
    json: AsJson = False, config: ConfigFile = None, state_dir: StateDir = None, url: Url = None, key: ApiKey = None
) -> None:
    """What the running service is doing now.

    Example: secondnature status --json
    """
    from agent.cli import out
    from agent.cli.service import find

    told: dict[str, Any] = find(config, state_dir, url, key).call("GET", "/api/status")
    if json:
        return out.as_json(told)
    night = told["night"]
    doing = night["progress"]["stage"] + f" {night['progress']['done']}/{night['progress']['total']}"
    out.facts({
        "model": told["model"], "engine": told["engine"]["state"],
        "adapter": told["adapter"] or "none (the base answers)",
        "calibration": told["calibration"], "only deliberate": told["deliberate"],
        "queues": told["queues"], "memory": told["memory"], "night": doing if night["running"] else "not running",
        "next night": out.when(told["next_night"]), "engine check": told["mixing"],
        "up for": f"{told['uptime_s']:.0f} s",
    })  # fmt: skip
    for skill, threshold in told["in_force"].items():
        name = "every other skill" if skill == "*" else skill
        out.console.print(f"{name}: {out.in_words(threshold)}", markup=False, highlight=False)


def doctor(json: AsJson = False, config: ConfigFile = None, state_dir: StateDir = None) -> None:
    """Check everything the service needs, with a sentence for each thing that is wrong; code 1 if any is.

    Example: secondnature doctor
    """
    from agent.cli import out
    from agent.cli.service import configured
    from agent.doctor import examine

    found = examine(configured(config, state_dir))
    if json:
        out.as_json([{"check": name, "ok": ok, "said": said} for name, ok, said in found])
    else:
        out.table("Checks", ("check", "ok", "what was found"), [(n, "yes" if ok else "NO", s) for n, ok, s in found])
    raise typer.Exit(0 if all(ok for _, ok, _ in found) else 1)
