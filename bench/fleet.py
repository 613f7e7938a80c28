"""What a fleet costs: a learner taking gateways' memories in, and a decision on its way to a gateway.

    python -m bench.fleet [--episodes 20000]

Prints as JSON: episodes per second merged from a state folder, and over HTTP (an answer's bytes and their decoding;
the network is not in it); seconds of a merge that finds nothing new; milliseconds to read what is decided, to seal and
check the publication, and to adopt it; bytes of a page per episode.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import orjson

from agent.published import Published, seal, unseal
from bench.memory import episode, remember_all
from memory.merge import Foreign, Place
from memory.store import Memory

TIMES = 20
THRESHOLDS = 50  # skills with a threshold of their own


class OverHttp:
    """A gateway's answers as the learner reads them, without the network."""

    name = "http://gateway:8600"

    def __init__(self, memory: Memory) -> None:
        self._memory, self.bytes = memory, 0

    def foreign(self, kind: str, after: Place) -> Sequence[Foreign]:
        """See memory.merge.Origin."""
        sent = orjson.dumps(self._memory.foreign(kind, after))
        self.bytes += len(sent)
        return [Foreign(**row) for row in orjson.loads(sent)]


def merging(folder: Path, count: int) -> dict[str, float]:
    """Rates of both ways of taking a gateway's memory in."""
    with Memory.open(folder / "gateway") as gateway:
        remember_all(gateway, [episode(number) for number in range(count)])
        with Memory.open(folder / "by-folder") as learner:
            by_folder = seconds(lambda: learner.merge([gateway.state_dir]))
            nothing = seconds(lambda: learner.merge([gateway.state_dir]))
        http = OverHttp(gateway)
        with Memory.open(folder / "by-http") as learner:
            by_http = seconds(lambda: learner.merge_from(http))
            assert learner.counts()["episodes"] == count
    return {
        "folder_per_s": count / by_folder,
        "http_per_s": count / by_http,
        "nothing_new_s": nothing,
        "http_bytes_per_episode": http.bytes / count,
    }


def deciding(folder: Path) -> dict[str, float]:
    """Milliseconds of a decision's way, each the median of 20."""
    with Memory.open(folder / "learner") as learner, Memory.open(folder / "follower") as follower:
        for n in range(THRESHOLDS):
            learner.set_threshold(f"skill {n}", 0.5, "recalibration", "certified", {"threshold": 0.5, "n": 1000})
        read = each(learner.decided)
        one = Published(1, time.time(), "sha256:" + "b" * 64, "/state/adapters", None, learner.decided())
        sealed = seal(one)
        checked = each(lambda: unseal(seal(one), "here"))
        follower.adopt(one.decided)
        adopted = each(lambda: follower.adopt(one.decided))
    return {"read_ms": read, "seal_and_check_ms": checked, "adopt_ms": adopted, "bytes": len(sealed)}


def seconds(run: Callable[[], Any]) -> float:
    """Wall time of a run."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def each(run: Callable[[], Any]) -> float:
    """Milliseconds of a run, the median of some."""
    return 1000 * median(seconds(run) for _ in range(TIMES))


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=20_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        found = merging(Path(name), given.episodes) | deciding(Path(name))
    print(json.dumps({key: round(value, 2) for key, value in found.items()}))


if __name__ == "__main__":
    main()
