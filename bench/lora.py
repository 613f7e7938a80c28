"""What an adapter costs on this engine: seconds on the adapter over seconds on the base, with the plugin and without.

`python -m bench.lora [--rank 16] [--projections q v ...] [--tokens 32] [--repeats 9] [--without] [--json FILE]`. Each
figure is a ratio within one engine: the ways take turns, and the ratio is the median over the turns of a way's seconds
over the base's in the same turn, for the machine's speed drifts. The tokens are forced, so that all make as many. The
adapter is random, on every projection unless told otherwise: its cost does not depend on what it has learnt. Beside it
stands what the base costs with the log-probabilities that confidence reads: of each token, and of the two likeliest.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from adapters.model import get_model
from agent.engine.check import check_base, matrix_shapes, write_adapter
from agent.engine.client import Engine, Sampling
from agent.engine.launch import BASE
from agent.engine.settings import EngineSettings
from agent.engine.supervisor import Supervisor
from bench.spread import error_of_median, quartiles

AT_ONCE = (1, 8, 32)
LOGPROBS = {"base": None, "own": 0, "two": 2}  # of each token: none, its own, and those of the two likeliest
NAMES = ("sn-0001-bench0", "sn-0002-bench1")


@dataclass(frozen=True, slots=True)
class Cost:
    """One line of the table."""

    plugin: bool
    at_once: int  # requests in flight
    base_tokens_s: float  # tokens per second, all requests together
    adapter_tokens_s: float
    ratio: float  # seconds on the adapter over seconds on the base, median of the turns
    ratio_low: float  # ends of the middle half of the turns
    ratio_high: float
    ratio_error: float  # standard error of that median
    own_ratio: float  # seconds on the base with each token's log-probability over without
    two_ratio: float  # the same with those of the two likeliest
    base_kept: bool  # base answers beside adapters equal those alone


async def seconds(engine: Engine, model: str, at_once: int, tokens: int, logprobs: int | None = None) -> float:
    """Wall time of `at_once` requests of `tokens` tokens each."""
    sampling = Sampling(max_tokens=tokens, logprobs=logprobs, extra={"ignore_eos": True})
    asks = [({"role": "user", "content": f"Write a story about number {n}."},) for n in range(at_once)]
    started = time.perf_counter()
    await asyncio.gather(*(engine.chat(model, ask, sampling) for ask in asks))
    return time.perf_counter() - started


async def cost(engine: Engine, at_once: int, tokens: int, repeats: int) -> dict[str, list[float]]:
    """Seconds of each way ("adapter", and the base's of LOGPROBS), a turn each; the prompts' cache is warm."""
    ways = {"adapter": (NAMES[0], None)} | {way: (BASE, wanted) for way, wanted in LOGPROBS.items()}
    took: dict[str, list[float]] = {way: [] for way in ways}
    for name, _ in ways.values():
        await seconds(engine, name, at_once, 2)
    for _ in range(repeats):
        for way, (name, wanted) in ways.items():
            took[way].append(await seconds(engine, name, at_once, tokens, wanted))
    return took


def ratio(took: dict[str, list[float]], way: str) -> tuple[float, float, float, float]:
    """A way's seconds over the base's in the same turn: median, the ends of the middle half, the median's error."""
    each = [mine / base for mine, base in zip(took[way], took["base"], strict=True)]
    low, middle, high = quartiles(each)
    return middle, low, high, error_of_median(each)


async def measure(model: Path, plugin: bool, given: argparse.Namespace) -> list[Cost]:
    """Start an engine, fill both its slots, and measure at each concurrency."""
    tokens = given.tokens
    on = {f"{name}_proj" for name in given.projections or ()}
    shapes = {stem: shape for stem, shape in matrix_shapes(model).items() if not on or stem.rpartition(".")[2] in on}

    async def nothing() -> None:
        return

    off = {} if plugin else {"VLLM_PLUGINS": "none"}
    with tempfile.TemporaryDirectory(prefix="secondnature-bench-") as folder:
        one = Supervisor(EngineSettings(), model, Path(folder), on_ready=nothing, environment=off)
        await one.start()
        await one.wait_ready()
        try:
            kept = (await check_base(one.engine, BASE, model)).passed
            for seed, name in enumerate(NAMES):
                write_adapter(Path(folder) / name, shapes, seed, rank=given.rank)
                await one.engine.load_adapter(name, Path(folder) / name)
            rows = []
            for at_once in AT_ONCE:
                took = await cost(one.engine, at_once, tokens, given.repeats)
                base, adapter = (at_once * tokens / median(took[way]) for way in ("base", "adapter"))
                own, two = (ratio(took, way)[0] for way in ("own", "two"))
                rows.append(Cost(plugin, at_once, base, adapter, *ratio(took, "adapter"), own, two, kept))
                print(line(rows[-1]), flush=True)
            return rows
        finally:
            await one.stop()


def line(row: Cost) -> str:
    """One row for a person."""
    kept = "base answers kept" if row.base_kept else "BASE ANSWERS CHANGED"
    return (
        f"{'plugin' if row.plugin else 'plain ':8s}{row.at_once:4d} at once   base {row.base_tokens_s:7.1f} tokens/s"
        f"   adapter {row.adapter_tokens_s:7.1f} tokens/s   ratio {row.ratio:5.2f} ± {row.ratio_error:.2f}"
        f" ({row.ratio_low:.2f} to {row.ratio_high:.2f})"
        f"   log-probs: own {row.own_ratio:.2f}, two likeliest {row.two_ratio:.2f}   {kept}"
    )


def main() -> None:
    """Measure with the plugin, and without it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="qwen2.5-coder-0.5b-instruct", help="a built-in name or a folder")
    parser.add_argument("--rank", type=int, default=16, help="of the adapter, at most the engine's 16")
    parser.add_argument("--projections", nargs="+", metavar="NAME", help="q k v o gate up down; default: every one")
    parser.add_argument("--tokens", type=int, default=32, help="per request")
    parser.add_argument("--repeats", type=int, default=9, help="turns")
    parser.add_argument("--without", action="store_true", help="measure vLLM's own operators too (slow)")
    parser.add_argument("--json", type=Path, help="write the rows there")
    args = parser.parse_args()
    model = Path(get_model(args.model).path)
    rows: list[Cost] = []
    for plugin in (True, False) if args.without else (True,):
        rows += asyncio.run(measure(model, plugin, args))
    if args.json:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))


if __name__ == "__main__":
    main()
