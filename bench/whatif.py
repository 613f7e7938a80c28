"""The whole what-if over a stored log: columns read from SQLite, confidences by today's calibration, the curve, the
certificate.

    python -m bench.whatif [--rows 1000000] [--dir FOLDER] [--json]

The log is drawn as the audit policy writes it and packed into a database as the writer packs it; the calibration is
fitted on its newest audits, up to the setting's bound. `first_s` is the first call on a freshly opened memory; no call
keeps anything for the next. `parts` are measured one by one afterwards.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from agent.tuning import NEEDED, logged, whatif
from bench.insight import peak_mib
from bench.replay import drawn
from memory import outcomes
from memory.store import Memory
from policies.audited import audited_columns
from policies.calibration import CalibrationSettings, fit_arrays
from policies.certify import CertifySettings, Goal, certify_log
from policies.replay import replay
from policies.thinning import audit_log_columns

SKILLS = 8
REPEATS = 5


def packed(first: int, rows: dict[str, Any], chance: np.random.Generator) -> bytes:
    """A chunk of outcomes of the base from drawn columns, as the writer packs them."""
    count = len(rows["confidence"])
    chunk = np.zeros(outcomes.CHUNK_ROWS, outcomes.ROW)
    chunk["seq"] = np.arange(first, first + outcomes.CHUNK_ROWS)
    chunk["valid"][:count] = 1
    for name in ("novelty", "agreement", "base_logprob", "threshold"):
        chunk[name] = np.nan
    for name, column in rows.items():
        chunk[name][:count] = column
    nats = np.log(np.maximum(rows["confidence"], 1e-9))
    tokens = chance.integers(1, 6, count)
    signals = {"logprob_sum": nats, "logprob_mean": nats / tokens, "logprob_min": 0.8 * nats, "logprob_p10": 0.6 * nats}
    for name, column in (signals | {"first_margin": np.exp(nats / tokens), "n_tokens": tokens}).items():
        chunk[name][:count] = column
    chunk["skill"], chunk["adapter"] = chance.integers(0, SKILLS, outcomes.CHUNK_ROWS), -1
    chunk["format_ok"], chunk["heldout"] = 1, chance.random(outcomes.CHUNK_ROWS) < 0.1
    chunk["asked_at"] = 1e9 + chunk["seq"]
    return chunk.tobytes()


def fill(con: sqlite3.Connection, rows: int) -> None:
    """A million outcomes without their episodes, in a second."""
    log, chance = drawn(rows), np.random.default_rng(1)
    con.executemany("INSERT INTO names (id, name) VALUES (?, ?)", [(i, f"skill {i}") for i in range(SKILLS)])
    for first in range(0, rows, outcomes.CHUNK_ROWS):
        part = {name: column[first : first + outcomes.CHUNK_ROWS] for name, column in log.items()}
        chunk = first // outcomes.CHUNK_ROWS
        con.execute("INSERT INTO outcome_chunks VALUES (?, ?)", (chunk, packed(first, part, chance)))


def calibrate(memory: Memory, settings: CalibrationSettings) -> int:
    """Fit on the newest audits and put it in force; gives their number."""
    columns = memory.outcome_columns(only=NEEDED)
    names = [str(name) for name in columns.pop("names")]
    seen = np.flatnonzero((columns["agrees"] >= 0) & (columns["propensity"] > 0))[-settings.max_audits :]
    fitted = fit_arrays(audited_columns(columns, seen, names, settings.folds), settings)
    memory.set_calibration(None, json.loads(fitted.to_json()))
    return len(seen)


def seconds(run: Callable[[], Any], repeats: int = REPEATS) -> float:
    """Median wall seconds."""
    took = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        took.append(time.perf_counter() - began)
    return sorted(took)[repeats // 2]


def filled(folder: Path, rows: int, settings: CalibrationSettings) -> int:
    """Make the log and calibrate on it; gives the number of audits."""
    with Memory.open(folder) as memory:
        memory._write(lambda con: fill(con, rows))
        return calibrate(memory, settings)


def measured(folder: Path, rows: int) -> dict[str, Any]:
    """All figures of one run."""
    settings, goal = CalibrationSettings(), Goal()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as other:  # the peak below is the what-if's own
        fitted = other.submit(filled, folder, rows, settings).result()
    with Memory.open(folder, read_only=True) as memory:
        first = seconds(partial(whatif, memory), 1)
        whole = seconds(partial(whatif, memory))
        found = whatif(memory)
        assert found["n"] == rows, found["n"]
        columns, _ = logged(memory, None, settings)
        audits = audit_log_columns(columns, None)
        parts = {
            "read": seconds(partial(memory.outcome_columns, only=NEEDED)),
            "read_and_calibrate": seconds(partial(logged, memory, None, settings)),
            "replay": seconds(partial(replay, columns, None, goal)),
            "audit_log": seconds(partial(audit_log_columns, columns, None)),
            "certify": seconds(partial(certify_log, audits, goal, CertifySettings())),
        }
    counts = {
        "peak_mib": peak_mib(),
        "rows": rows,
        "audits": found["audits"],
        "fitted_on": fitted,
        "points": len(found["points"]),
    }
    return counts | {"first_s": first, "whole_s": whole, "parts": parts}


def main() -> None:
    """Run and print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dir", type=Path, default=None, help="folder on the disk to measure (default: temporary)")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.dir) as name:
        found = measured(Path(name), given.rows)
    if given.json:
        print(json.dumps(found))
        return
    parts = found.pop("parts")
    for name, value in (found | {f"  {name}": value for name, value in parts.items()}).items():
        print(f"{name:24} {value:12,.3f}" if isinstance(value, float) else f"{name:24} {value:12,}")


if __name__ == "__main__":
    main()
