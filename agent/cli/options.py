"""Options that many commands share, each defined once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[
    Path | None, typer.Option("--config", "-c", help="service.yaml; default: $SECONDNATURE_CONFIG, else ./service.yaml")
]
StateDir = Annotated[Path | None, typer.Option("--state-dir", "-s", help="state folder; default: as in service.yaml")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]
Url = Annotated[str | None, typer.Option("--url", help="a running service; default: the one on the state folder")]
ApiKey = Annotated[str | None, typer.Option("--key", envvar="SECONDNATURE_API_KEY", help="API key of that service")]


def program() -> typer.Typer:
    """The program, without a command yet."""
    return typer.Typer(
        name="secondnature",
        help="A local model that thinks when it must and learns, by night, to know.",
        no_args_is_help=True,
        pretty_exceptions_show_locals=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
