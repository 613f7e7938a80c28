"""Deciding early, replayed on remembered drafts: how soon a hopeless one is stopped, and whether any was not.

    python -m bench.early STATE [--adapter NAME] [--threshold 0.85 0.5] [--json]

Reads a state folder; nothing is generated. Every whole draft with log-probabilities is heard token by token under the
stored calibration and a threshold, as the service would have heard it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from memory.records import Draft, Episode
from memory.store import Memory
from policies.calibration import Calibrator
from policies.early import GREEDY_LEAST, Heard, hopeless


@dataclass(frozen=True)
class Found:
    """What hearing them all amounted to."""

    threshold: float  # 0..1
    drafts: int
    below: int  # whole drafts whose confidence is below the threshold
    stopped: int  # of them, stopped before their last token
    wrongly: int  # stopped although the whole draft reaches the threshold: must be 0
    tokens_below: int  # of the whole drafts below the threshold
    tokens_heard: int  # of the same until they were stopped
    microseconds: float  # per token heard


def replay(memory: Memory, calibrator: Calibrator, adapter: str | None, threshold: float) -> Found:
    """Hear every draft of one System 1."""
    drafts = below = stopped = wrongly = whole = heard = looks = 0
    began = time.perf_counter()
    for episode, draft in _drafts(memory, adapter):
        nats = draft.completion.logprobs
        at = next((n for n in range(1, len(nats)) if _stops(draft, episode.ask.skill, n, calibrator, threshold)), None)
        confidence = calibrator.predict(draft.signals, episode.ask.skill) or 0.0
        drafts, looks = drafts + 1, looks + (at or len(nats))
        wrongly += at is not None and confidence >= threshold
        if confidence < threshold:
            below, stopped = below + 1, stopped + (at is not None)
            whole, heard = whole + len(nats), heard + (at or len(nats))
    spent = time.perf_counter() - began
    return Found(threshold, drafts, below, stopped, wrongly, whole, heard, 1e6 * spent / max(1, looks))


def _drafts(memory: Memory, adapter: str | None) -> Iterator[tuple[Episode, Draft]]:
    after: str | None = None
    while page := memory.episodes(limit=1000, after=after):
        for episode in page:
            draft = episode.draft
            if episode.adapter == adapter and draft and draft.completion.logprobs and not draft.stopped:
                yield episode, draft
        after = page[-1].ask.id


def _stops(draft: Draft, skill: str, n: int, calibrator: Calibrator, threshold: float) -> bool:
    said, signals = draft.completion, draft.signals
    most = max(16, len(said.logprobs))  # the direct answers' limit in the demonstration
    heard = Heard(said.logprobs[:n], most, said.first_margin, signals.novelty, GREEDY_LEAST)
    return hopeless(heard, calibrator, skill, threshold) is not None


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m bench.early", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("state", type=Path)
    parser.add_argument("--adapter", help="whose drafts; the base's without it")
    parser.add_argument("--threshold", type=float, nargs="+", default=[0.85, 0.5])
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with Memory.open(given.state, read_only=True) as memory:
        stored = memory.calibration(given.adapter)
        if stored is None:
            raise SystemExit("nothing is calibrated there yet")
        calibrator = Calibrator.from_json(json.dumps(stored))
        found = [replay(memory, calibrator, given.adapter, threshold) for threshold in given.threshold]
    if given.json:
        return print(json.dumps([asdict(one) for one in found]))
    for one in found:
        saved = 1 - one.tokens_heard / max(1, one.tokens_below)
        print(
            f"{one.drafts} drafts, {one.below} below {one.threshold:g}: {one.stopped} stopped before their "
            f"last token, {one.wrongly} wrongly; {one.tokens_heard} of {one.tokens_below} tokens heard "
            f"({saved:.0%} saved); {one.microseconds:.0f} µs per token for hearing (reading the memory included)"
        )


if __name__ == "__main__":
    main()
