"""`reproduce`: the tables of "Distilling System 2 into System 1" on this service's model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from agent.cli.options import AsJson, ConfigFile


def reproduce(
    task: Annotated[list[str], typer.Argument(help="last-letter, coin-flip, biased-opinion, judge, gsm8k; or all")],
    size: Annotated[str, typer.Option(help="tiny, small, or full: the paper's, as far as the data reaches")] = "small",
    test: Annotated[int | None, typer.Option(min=4, help="test items, instead of the size's")] = None,
    train: Annotated[int | None, typer.Option(min=4, help="unlabelled prompts, instead of the size's")] = None,
    votes: Annotated[int | None, typer.Option(min=1, max=64, help="samples for each unlabelled prompt")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, max=100, help="passes over the lessons")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(min=1e-6, max=1e-1, help="peak rate of the training, instead of the settings'")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="of the questions")] = 1,
    controls: Annotated[bool, typer.Option(help="the rows Distill System 1 and unfiltered as well")] = True,
    data: Annotated[Path | None, typer.Option(help="folder of whole data sets; else small ones in the package")] = None,
    minutes: Annotated[float | None, typer.Option(min=0, help="stop after so long; the same command goes on")] = None,
    page: Annotated[Path, typer.Option(help="markdown page that gets the task's section")] = Path("docs/paper.md"),
    model: Annotated[str | None, typer.Option(help="base model: built-in name, hub name, folder or GGUF file")] = None,
    engine_url: Annotated[str | None, typer.Option(help="a running vLLM server of that model, with adapters")] = None,
    json: AsJson = False,
    config: ConfigFile = None,
    state_dir: Annotated[Path, typer.Option("--state-dir", "-s", help="folder for answers and adapters")] = Path(
        "state/reproduce"
    ),
) -> None:
    """Run the paper's rows: System 1, each System 2, and what is distilled from them. Resumable.

    Every answer and every trained adapter is kept in the state folder; a run that was stopped goes on.
    A task that fails keeps no other back; the command then ends with code 1.

    Examples:

      secondnature reproduce coin-flip --size tiny

      secondnature reproduce gsm8k --test 60 --train 100 --minutes 10

      secondnature reproduce all --size full --data ~/data
    """
    import asyncio

    from agent.base_model import get_model
    from agent.cli import out
    from agent.cli.service import configured
    from agent.reproduce.session import Given, chosen, session

    tasks = chosen(task)
    settings = configured(config, state_dir, model=model)
    given = Given(
        size, test, train, votes, epochs, learning_rate, seed, data, page, minutes, engine_url, controls, model
    )
    with out.errors.status("") as shown:

        def say(what: str, done: int, total: int) -> None:
            shown.update(f"{what}: {done} of {total}")
            if not out.errors.is_terminal and done == total:
                out.errors.print(f"{what}: {total} done", markup=False)

        told = asyncio.run(session(settings, get_model(settings.model), tasks, given, say))
    if json:
        out.as_json(told)
    else:
        _show(told)
    failed = {name: result["error"] for name, result in told.items() if "error" in result}
    for name, why in failed.items():
        out.errors.print(f"secondnature: {name}: {why}", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(1 if failed else 0)


def _show(told: dict[str, Any]) -> None:
    from agent.cli import out

    for name, result in told.items():
        rows = [[row["row"], *_cells(row)] for row in result["rows"]]
        out.table(name, ("row", "measured", "tokens", "lessons"), rows)
        out.console.print("\n".join(result["said"]), markup=False)


def _cells(row: dict[str, Any]) -> list[str | None]:
    shares = ", ".join(f"{name} {100 * share['share']:.1f} %" for name, share in row["measures"].items())
    lessons = row["lessons"]
    return [shares or None, _tokens(row), None if lessons is None else str(lessons)]


def _tokens(row: dict[str, Any]) -> str | None:
    """ "33.6 [32.4, 34.8]", a mean with its 95 % interval; None where nothing was asked."""
    if row["tokens"] is None:
        return None
    ends = row["tokens_interval"]
    return f"{row['tokens']:.1f}" + (f" [{ends[0]:.1f}, {ends[1]:.1f}]" if ends else "")
