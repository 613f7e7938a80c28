"""What the dearer signals of the grey zone add to the confidence, on logged answers: two more samples of System 1, and
the frozen base's own log-probability of the answer (settings `system1.grey_*`).

    python -m bench.extras STATE [--adapter NAME] [--config FILE] [--most 400] [--engine URL [--key KEY]]

Each logged answer that System 2 answered too is asked again as `agent/grey.py` would have: its signals are kept in
STATE/extras-ADAPTER.jsonl, so that what was asked once is not asked again. Then the confidence is fitted and
cross-fitted with and without them. `python -m bench.routing STATE` puts the table into docs/routing.md. Without
`--engine` it starts a vLLM of its own, for minutes; end the service before on a small machine. With the file there
already, and `--most 0`, nothing is asked.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from adapters.model import get_model
from agent.confidence import BASE as THE_BASE
from agent.config import Config, load
from agent.engine.client import Engine, VllmEngine
from agent.engine.launch import BASE
from agent.engine.supervisor import Supervisor
from agent.grey import consulted
from agent.in_force import InForce
from bench.logged import rows_of
from memory.records import Adapter, Episode, Outcome
from memory.store import Memory
from policies.calibration import CalibrationSettings, cross_fitted
from policies.reliability import Floats, auroc, expected_calibration_error
from policies.skills import DEFAULT_SKILL

AT_ONCE = 8  # questions asked at the same time
RESAMPLES = 1000
NEAR = 0.1  # 0..1, confidence to each side of the threshold that is looked at by itself
VARIANTS: Mapping[str, frozenset[str]] = {
    "free signals": frozenset(),
    "and the samples' agreement": frozenset({"agreement"}),
    "and the base's log-prob": frozenset({"base_logprob"}),
    "and both": frozenset({"agreement", "base_logprob"}),
}
Kept = Mapping[str, Mapping[str, Any]]
"""By episode: agreement (0..1), base_logprob (nats per token; None where the base itself answered), extra_tokens."""


@dataclass(frozen=True, slots=True)
class Worth:
    """How well answers are ranked with some signals, and what these add to the free ones."""

    name: str
    n: int  # answers
    auroc: float | None
    ece: float  # 0..1
    gain: float | None  # AUROC above that of the free signals
    low: float | None  # ends of the gain's 95 % interval: answers drawn again, 1000 times
    high: float | None


def file_of(state: Path, adapter: str | None) -> Path:
    """Where the dearer signals of one System 1's answers are kept."""
    return state / f"extras-{adapter or THE_BASE}.jsonl"


def kept_in(path: Path) -> dict[str, dict[str, Any]]:
    """What was asked before; nothing where there is no file."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    rows = [orjson.loads(line) for line in lines if line]
    return {row.pop("episode"): row for row in rows}


def compare(rows: Sequence[Outcome], kept: Kept, seed: int = 0) -> list[Worth]:
    """Every variant on the rows whose dearer signals are known, by cross-fitted confidences."""
    rows = [row for row in rows if row.episode_id in kept]
    agrees = np.array([float(bool(row.agrees)) for row in rows])
    weight = np.array([1 / row.propensity for row in rows])
    found, free = [], np.zeros(0)
    for name, signals in VARIANTS.items():
        if "base_logprob" in signals and not any(kept[row.episode_id]["base_logprob"] is not None for row in rows):
            continue  # the base has no second opinion on itself
        sure = cross_fitted([_with(row, kept[row.episode_id], signals) for row in rows], CalibrationSettings())
        free = free if len(free) else sure
        found.append(_worth(name, sure, free, agrees, weight, seed))
    return found


def near(rows: Sequence[Outcome], kept: Kept, threshold: float) -> list[Outcome]:
    """The rows with dearer signals whose confidence by the free ones is about the threshold (0..1): the grey zone."""
    rows = [row for row in rows if row.episode_id in kept]
    sure = cross_fitted([_with(row, {}, frozenset()) for row in rows], CalibrationSettings())
    return [row for row, one in zip(rows, sure, strict=True) if abs(one - threshold) <= NEAR]


def _with(row: Outcome, known: Mapping[str, Any], signals: frozenset[str]) -> Outcome:
    paid = {name: known[name] if name in signals else None for name in ("agreement", "base_logprob")}
    more = replace(row.signals, agreement=paid["agreement"], base_logprob=paid["base_logprob"])
    return replace(row, signals=more)


def _worth(name: str, sure: Floats, free: Floats, agrees: Floats, weight: Floats, seed: int) -> Worth:
    ranked, before = auroc(sure, agrees, weight), auroc(free, agrees, weight)
    chance, gains = np.random.default_rng(seed), []
    for _ in range(0 if sure is free else RESAMPLES):
        at = chance.integers(0, len(sure), len(sure))
        pair = auroc(sure[at], agrees[at], weight[at]), auroc(free[at], agrees[at], weight[at])
        gains += [pair[0] - pair[1]] if pair[0] is not None and pair[1] is not None else []
    low, high = np.quantile(gains, [0.025, 0.975]).tolist() if gains else (None, None)
    gain = ranked - before if gains and ranked is not None and before is not None else None
    return Worth(name, len(sure), ranked, expected_calibration_error(sure, agrees, weight), gain, low, high)


def section(rows: Sequence[Outcome], kept: Kept, threshold: float | None) -> list[str]:
    """Lines for docs/routing.md."""
    spent = [kept[row.episode_id]["extra_tokens"] for row in rows if row.episode_id in kept]
    tokens = sum(row.s1_tokens for row in rows if row.episode_id in kept) / max(1, len(spent))
    lines = [
        "## What do the dearer signals add?",
        "",
        f"Asked again for {len(spent)} of these answers by `python -m bench.extras`: two more samples at temperature "
        f"0.7 (mean {sum(spent) / max(1, len(spent)):.1f} tokens beside the draft's {tokens:.1f}) and the base's own "
        "log-probability of the answer (a prompt to read, no token). Cross-fitted; the gain's interval is a paired "
        "bootstrap over answers. Off as delivered (`system1.grey_width: 0`).",
        "",
        *_table(compare(rows, kept)),
    ]
    about = [] if threshold is None else near(rows, kept, threshold)
    if len(about) >= 50:
        head = f"The {len(about)} of them within {NEAR} of the threshold of {threshold:.3f}, fitted by themselves:"
        lines += ["", head, "", *_table(compare(about, kept))]
    return lines


def _table(found: Sequence[Worth]) -> list[str]:
    head = ["| signals | answers | AUROC | ECE | gain in AUROC (95 % interval) |", "|---|---|---|---|---|"]
    return head + [
        f"| {w.name} | {w.n} | {'-' if w.auroc is None else f'{w.auroc:.3f}'} | {w.ece:.3f} | "
        f"{'' if w.gain is None else f'{w.gain:+.3f} ({w.low:+.3f} to {w.high:+.3f})'} |"
        for w in found
    ]


async def ask_again(
    episodes: Sequence[Episode], adapter: Adapter | None, config: Config, engine: Engine, path: Path
) -> None:
    """Ask for the dearer signals of each episode's draft, and append them to the file as they come."""
    room = asyncio.Semaphore(AT_ONCE)
    skills = {skill.name: skill for skill in config.skills}

    async def one(episode: Episode) -> None:
        assert episode.draft is not None
        skill = skills.get(episode.ask.skill, DEFAULT_SKILL)
        async with room:
            more = await consulted(
                replace(episode.draft, extra_tokens=0), episode.ask, skill, InForce(adapter), engine, BASE,
                config.system1,
            )  # fmt: skip
        paid = {"agreement": more.signals.agreement, "base_logprob": more.signals.base_logprob}
        with path.open("ab") as file:
            file.write(orjson.dumps({"episode": episode.ask.id, **paid, "extra_tokens": more.extra_tokens}) + b"\n")

    await asyncio.gather(*(one(episode) for episode in episodes))


@asynccontextmanager
async def engine_for(config: Config, url: str | None, key: str | None) -> AsyncIterator[Engine]:
    """The engine at `url`, or one started for the occasion. Raises Unavailable where it does not come up."""
    if url is not None:
        engine = VllmEngine(url, key=key)
        try:
            yield engine
        finally:
            await engine.close()
        return
    with tempfile.TemporaryDirectory() as folder:
        supervisor = Supervisor(config.engine, Path(get_model(config.model).path), Path(folder), on_ready=_nothing)
        try:
            await supervisor.start()
            await supervisor.wait_ready()
            yield supervisor.engine
        finally:
            await supervisor.stop()


async def _nothing() -> None:
    return None


async def _asked(state: Path, adapter: str | None, given: argparse.Namespace) -> None:
    """Ask for what is not kept yet."""
    config = load(given.config or (state / "service.yaml" if (state / "service.yaml").exists() else None), {})
    path = file_of(state, adapter)
    with Memory.open(state, read_only=True) as memory:
        missing = [row for row in rows_of(memory, adapter) if row.episode_id not in kept_in(path)][-given.most :]
        episodes = [memory.episode(row.episode_id) for row in missing]
        row = memory.adapter(adapter) if adapter else None
    async with engine_for(config, given.engine, given.key) as engine:
        if row is not None:
            await engine.load_adapter(row.name, (state / "adapters" / row.name).resolve())
        await ask_again(
            [one for one in episodes if one.draft and one.draft.answer is not None], row, config, engine, path
        )


def main() -> int:
    """Ask, then print the table. Returns 1 where there is too little."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("state", type=Path, help="a state folder")
    parser.add_argument("--adapter", default=THE_BASE, help="whose answers; default: the bare base")
    parser.add_argument("--config", type=Path, help="service.yaml with the skills; default: the one in STATE")
    parser.add_argument("--most", type=int, default=400, help="answers to ask about, the newest; 0: ask nothing")
    parser.add_argument("--engine", help="address of a running vLLM; default: start one")
    parser.add_argument("--key", help="its key")
    given = parser.parse_args()
    adapter = None if given.adapter == THE_BASE else given.adapter
    if given.most:
        asyncio.run(_asked(given.state, adapter, given))
    kept = kept_in(file_of(given.state, adapter))
    with Memory.open(given.state, read_only=True) as memory:
        rows, threshold = rows_of(memory, adapter), memory.threshold(None, adapter)
    if sum(row.episode_id in kept for row in rows) < 50:
        print(f"only {len(kept)} answers: too few to say anything")
        return 1
    print("\n".join(section(rows, kept, threshold)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
