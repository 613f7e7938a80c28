"""What remembering costs, beside a plain `sqlite3` insert and commit per episode in the same run.

    python -m bench.memory [--size small|full] [--json]

Prints: the time a request loses to `remember` (arriving one at a time with a pause, as requests do), episodes
committed per second in a burst, and the time to read all outcomes as columns beside fetching the same numbers as
rows. Every ratio is plain SQLite's time over ours: above 1, ours is faster.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from memory import codec, outcomes
from memory.records import (
    AnswerType,
    Ask,
    Attempt,
    Call,
    Completion,
    Deliberation,
    Draft,
    Episode,
    Grade,
    Mode,
    RouteDecision,
    Signals,
    System,
    Verdict,
)
from memory.store import Memory

SIZES = {"small": (1_000, 5_000, 1_000_000), "full": (5_000, 50_000, 10_000_000)}  # paced, burst, outcomes
PAUSE_S = 0.002  # seconds between paced episodes: 500 requests/s
FIVE = ("confidence", "propensity", "agrees", "s1_tokens", "s2_tokens")
OURS, WAL, DEFAULTS = "remember", "sqlite3, WAL, commit each", "sqlite3, defaults, commit each"
ROUNDS = 5
SENTENCE = "The total is found by adding the numbers one after the other, carrying as needed. "


def episode(number: int) -> Episode:
    """A realistic one, about 10 kB of JSON: five chains of thought of 100 tokens, a draft with its log-probs."""
    thought = SENTENCE * 7
    question = {"role": "user", "content": f"What is {number} + 81 + 77?"}
    ask = Ask(
        f"ep-{number:012d}", (question,), f"skill {number % 20}", AnswerType.NUMBER, f"key {number % 50}", Mode.AUTO,
        1e9 + number, f"{number:064x}", number % 10 == 0,
    )  # fmt: skip
    drafted = Completion("184", "base", 40, 100, "stop", 0.2, tuple(-0.01 * n for n in range(100)), 0.7)
    sample = Completion(thought, "base", 200, 100, "stop", 1.2)
    calls = tuple(Call(n, "reason", (), (question,), (sample,)) for n in range(5))
    attempts = tuple(Attempt("184", thought, n, 0) for n in range(5))
    verdict = Verdict("184", {"184": 5}, 1.0, Grade.TRAIN, "all attempts agree")
    signals = Signals(-1.0, -0.1, -0.5, -0.3, 0.7, 100, True)
    return Episode(
        ask,
        Draft(drafted, "184", signals, 0.4),
        RouteDecision(System.SYSTEM2, "0.40 is below 0.80", 0.4, 0.8, 1.0),
        Deliberation("cot", calls, attempts, verdict, thought, 500, 2.0),
        thought, "sn-0001-aaaaaa", "a" * 64, 600, 2.2,
    )  # fmt: skip


class Plain:
    """What one would write first: a table, an insert of the JSON, a commit."""

    def __init__(self, folder: Path, tuned: bool) -> None:
        self.con = sqlite3.connect(folder / f"plain-{tuned}.db")
        if tuned:
            self.con.execute("PRAGMA journal_mode = WAL")
            self.con.execute("PRAGMA synchronous = NORMAL")
        self.con.execute("CREATE TABLE episodes (id TEXT PRIMARY KEY, skill TEXT, asked_at REAL, body BLOB)")
        self.con.execute("CREATE INDEX by_skill ON episodes (skill, asked_at)")

    def remember(self, kept: Episode) -> None:
        row = (kept.ask.id, kept.ask.skill, kept.ask.asked_at, codec.encode(kept))
        self.con.execute("INSERT INTO episodes VALUES (?, ?, ?, ?)", row)
        self.con.commit()


def timed(remember: Callable[[Episode], None], kept: Episode) -> float:
    """Microseconds that one call takes, after a pause."""
    time.sleep(PAUSE_S)
    start = time.perf_counter()
    remember(kept)
    return (time.perf_counter() - start) * 1e6


def hot_path(folder: Path, count: int) -> dict[str, dict[str, float]]:
    """The request's wait: ours and the two plain ones in turn, so that a busy machine is busy for all."""
    waits, defaults = Plain(folder, tuned=True), Plain(folder, tuned=False)
    took: dict[str, list[float]] = {OURS: [], WAL: [], DEFAULTS: []}
    with Memory.open(folder / "paced") as memory, closing(waits.con), closing(defaults.con):
        for number in range(count):
            kept = episode(number)
            took[OURS].append(timed(memory.remember, kept))
            took[WAL].append(timed(waits.remember, kept))
            if number % 5 == 0:  # each waits for the disk twice
                took[DEFAULTS].append(timed(defaults.remember, kept))
    cuts = {name: statistics.quantiles(times, n=100) for name, times in took.items()}
    return {name: {"p50_us": cut[49], "p99_us": cut[98]} for name, cut in cuts.items()}


def burst(folder: Path, count: int) -> dict[str, float]:
    """Episodes per second until they are in the database, the median of five rounds taken in turn: ours with every
    index and the outcomes, theirs with one index."""
    (folder / "plain").mkdir()
    plain = Plain(folder / "plain", tuned=True)
    ours, theirs = [], []
    with Memory.open(folder / "burst") as memory, closing(plain.con):
        for first in range(0, count, count // ROUNDS):
            episodes = [episode(number) for number in range(first, first + count // ROUNDS)]
            ours.append(per_second(partial(remember_all, memory, episodes), len(episodes)))
            theirs.append(per_second(partial(deque, map(plain.remember, episodes), 0), len(episodes)))
        size = memory.counts()["bytes"] / count
    return {
        "remember_per_s": statistics.median(ours),
        "sqlite3_wal_per_s": statistics.median(theirs),
        "bytes_per_episode": size,
        "sqlite3_bytes_per_episode": (folder / "plain" / "plain-True.db").stat().st_size / count,
    }


def remember_all(memory: Memory, episodes: Sequence[Episode]) -> None:
    """As fast as it goes, until all are committed."""
    for kept in episodes:
        memory.remember(kept)
        if memory.pending > 15_000:
            memory.flush()
    memory.flush()


def per_second(run: Callable[[], object], count: int) -> float:
    """How many per second a run of `count` makes."""
    start = time.perf_counter()
    run()
    return count / (time.perf_counter() - start)


def columns(folder: Path, count: int) -> dict[str, float]:
    """Seconds to read `count` outcomes as columns, and to fetch a million (at most) of the same rows plainly."""
    with Memory.open(folder / "columns") as memory:
        memory._write(lambda con: fill(con, count))
        assert len(memory.outcome_columns(only=["seq"])["seq"]) == count
        ours = min(seconds(memory.outcome_columns) for _ in range(3))
        few = min(seconds(partial(memory.outcome_columns, only=FIVE)) for _ in range(3))
    rows = min(count, 1_000_000)
    plain = fetch_plainly(folder, rows)
    return {"rows": count, "all_s": ours, "five_s": few, "sqlite3_rows": rows, "sqlite3_s": plain}


def seconds(run: Callable[[], object]) -> float:
    """Wall time of a run."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def fill(con: sqlite3.Connection, count: int) -> None:
    """Outcomes as the writer packs them, without their episodes."""
    chance = np.random.default_rng(1)
    for chunk in range(0, count // outcomes.CHUNK_ROWS + 1):
        rows = np.zeros(outcomes.CHUNK_ROWS, outcomes.ROW)
        rows["seq"] = np.arange(chunk * outcomes.CHUNK_ROWS, (chunk + 1) * outcomes.CHUNK_ROWS)
        rows["valid"] = rows["seq"] < count
        rows["confidence"], rows["propensity"] = chance.random((2, outcomes.CHUNK_ROWS))
        con.execute("INSERT INTO outcome_chunks VALUES (?, ?)", (chunk, rows.tobytes()))


def fetch_plainly(folder: Path, count: int) -> float:
    """Seconds to fetch as many rows of 25 numbers from an ordinary narrow table into numpy arrays."""
    names = [name for name in outcomes.ROW.names or () if name != "valid"]
    with closing(sqlite3.connect(folder / "narrow.db")) as con:
        con.execute(f"CREATE TABLE outcomes ({', '.join(f'{name} REAL' for name in names)})")
        row = tuple(0.5 for _ in names)
        con.executemany(f"INSERT INTO outcomes VALUES ({', '.join('?' * len(names))})", (row for _ in range(count)))
        con.commit()
        start = time.perf_counter()
        table = np.array(con.execute("SELECT * FROM outcomes").fetchall())
        dict(zip(names, table.T.copy(), strict=True))
        return time.perf_counter() - start


def table(found: dict[str, Any]) -> str:
    """The report as text."""
    ours = found["hot_path"][OURS]
    lines = [f"{'the request waits':34}{'p50 us':>10}{'p99 us':>10}{'ratio p50':>11}"]
    for name, cost in found["hot_path"].items():
        ratio = cost["p50_us"] / ours["p50_us"]
        lines.append(f"{name:34}{cost['p50_us']:10.0f}{cost['p99_us']:10.0f}{ratio:11.2f}")
    rate, read = found["burst"], found["columns"]
    lines += [
        "",
        f"{'episodes committed per second':34}{rate['remember_per_s']:10.0f}"
        f"   plain (WAL, one index) {rate['sqlite3_wal_per_s']:.0f};"
        f" bytes on disk each {rate['bytes_per_episode']:.0f}, plain {rate['sqlite3_bytes_per_episode']:.0f}",
        f"{'all columns of ' + format(read['rows'], ',') + ' outcomes':34}{read['all_s']:9.2f}s"
        f"   five columns {read['five_s']:.2f} s; plain rows, {read['sqlite3_rows']:,}: {read['sqlite3_s']:.2f} s",
    ]
    return "\n".join(lines)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--json", action="store_true", help="print JSON alone")
    parser.add_argument("--dir", type=Path, default=None, help="folder on the disk to measure (default: temporary)")
    given = parser.parse_args()
    pace, many, rows = SIZES[given.size]
    with tempfile.TemporaryDirectory(dir=given.dir) as name:
        folder = Path(name)
        found = {
            "size": given.size,
            "hot_path": hot_path(folder, pace),
            "burst": burst(folder, many),
            "columns": columns(folder, rows),
        }
    print(json.dumps(found) if given.json else table(found))


if __name__ == "__main__":
    main()
