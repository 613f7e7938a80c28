"""`ask`: one question to the running service."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from agent.cli.options import ApiKey, AsJson, ConfigFile, StateDir, Url


def ask(
    question: Annotated[str, typer.Argument(help="the question; - reads it from standard input")],
    mode: Annotated[str, typer.Option(help="auto, system1 or system2")] = "auto",
    skill: Annotated[str | None, typer.Option(help="name of a skill; else it is recognised")] = None,
    source: Annotated[str | None, typer.Option(help="who is asking")] = None,
    reasoning: Annotated[bool, typer.Option("--reasoning", help="show System 2's reasoning too")] = False,
    json: AsJson = False,
    config: ConfigFile = None,
    state_dir: StateDir = None,
    url: Url = None,
    key: ApiKey = None,
) -> None:
    """Ask one question and see which system answered, and why.

    Examples:

      secondnature ask "What is 26 + 81 + 77?"

      secondnature ask "What is 26 + 81 + 77?" --mode system2 --reasoning
    """
    from agent.cli import out
    from agent.cli.service import find

    text = typer.get_text_stream("stdin").read() if question == "-" else question
    service = find(config, state_dir, url, key)
    body: dict[str, Any] = {
        "model": service.call("GET", "/v1/models")["data"][0]["id"],
        "messages": [{"role": "user", "content": text}],
        "mode": mode,
        "reasoning": reasoning,
    }
    body |= {name: value for name, value in (("skill", skill), ("source", source)) if value}
    said = service.call("POST", "/v1/chat/completions", body)
    if json:
        return out.as_json(said)
    out.console.print(said["choices"][0]["message"]["content"], markup=False, highlight=False)
    _tell(said["secondnature"])


def _tell(told: dict[str, Any]) -> None:
    """Who answered and why, on standard error."""
    from agent.cli import out

    by = f" by {told['method']}" if told["method"] else ""
    cost = f"{told['tokens']} tokens, {told['seconds']:.2f} s, {told['episode_id']}"
    line = f"{told['system']}{by}, skill {told['skill']}: {told['reason']} ({cost})"
    out.errors.print(line, style="dim", markup=False, highlight=False)
