"""`serve` and `config`."""

from __future__ import annotations

import gc
from typing import Annotated, Any

import typer

from agent.cli.options import ConfigFile, StateDir, program


def serve(
    config: ConfigFile = None,
    state_dir: StateDir = None,
    host: Annotated[str | None, typer.Option(help="address to listen on")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port; 0 takes a free one")] = None,
    model: Annotated[str | None, typer.Option(help="base model: built-in name, hub name, folder or GGUF file")] = None,
    engine_url: Annotated[
        list[str] | None, typer.Option(help="an existing vLLM server, instead of starting one")
    ] = None,
) -> None:
    """Run the service.

    Examples:

      secondnature serve

      secondnature serve --port 8700 --state-dir /var/lib/secondnature

      secondnature serve --engine-url http://127.0.0.1:8000 --model ./my-model
    """
    gc.disable()  # a start leaves no garbage, and looking for it costs a twentieth of it; `run` enables it
    from agent.base_model import getting
    from agent.cli.service import configured

    given: dict[str, Any] = {"http__host": host, "http__port": port, "model": model, "engine__urls": engine_url}
    settings = configured(config, state_dir, **given)
    with getting(settings.model) as coming:
        from agent.serve import run  # takes half a second, and meanwhile the model is looked for

        run(settings, coming)


def config(config: ConfigFile = None, state_dir: StateDir = None) -> None:
    """Print every setting with its value, unit and meaning (a complete service.yaml).

    Example: secondnature config > service.yaml
    """
    from agent.cli.service import configured
    from agent.config import render

    print(render(configured(config, state_dir)))


app = program()
"""The program as far as the daemon's start needs it: making three dozen other commands takes a tenth of a second."""
app.command("serve")(serve)
app.command("config")(config)
