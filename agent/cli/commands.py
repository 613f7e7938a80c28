"""Every command by name. Each is a thin view: the work is in the daemon or in the memory."""

from __future__ import annotations

from agent.cli import (
    adapters,
    ask,
    backup,
    calibration,
    episodes,
    forget,
    keys,
    learn,
    merge,
    practice,
    quarantine,
    reproduce,
    serve,
    skills,
    status,
    tune,
)
from agent.cli.options import program

app = program()
app.command("serve")(serve.serve)
app.command("config")(serve.config)
app.command("ask")(ask.ask)
app.command("practice")(practice.practice)
app.command("learn")(learn.learn)
app.command("merge")(merge.merge)
app.command("reproduce")(reproduce.reproduce)
app.command("status")(status.status)
app.command("doctor")(status.doctor)
app.command("tune")(tune.tune)
app.command("calibration")(calibration.calibration)
app.add_typer(skills.app, name="skills")
app.add_typer(adapters.app, name="adapters")
app.add_typer(episodes.app, name="episodes")
app.command("held")(forget.held)
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)
app.add_typer(keys.app, name="keys")
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(forget.app, name="forget")
