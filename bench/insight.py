"""What is read from a large memory: the table of skills, and a night's curation. Seconds, and peak memory, of each.

    python -m bench.insight [--rows 1000000] [--taught N]     (all of it, in a temporary folder)
    python -m bench.insight build --dir DIR --rows 1000000    (in pieces: run it again for more rows)
    python -m bench.insight skills --dir DIR
    python -m bench.insight curate --dir DIR [--taught 20000]

One step per process, so that the peak is its own. The rows of every episode are there with all their indexes and
outcomes; whole episodes (about 10 kB of JSON each) only where a step reads them: one in nine, which System 2
answered and which may be taught. What-if has a bench of its own (bench.replay).
"""

from __future__ import annotations

import argparse
import json
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from agent import skills
from bench.memory import SENTENCE, episode, fill
from memory import codec
from memory.store import Memory
from policies.curate import curate
from policies.curation import CurateSettings, Known
from policies.skills import SkillSettings

SKILLS, TAUGHT_EVERY, PIECE = 20, 9, 50_000
NAMES = ("sn-0001-aaaaaa", "sn-0002-bbbbbb")
THOUGHT = ((SENTENCE * 7).encode(), (SENTENCE * 6 + "The answer is 184.").encode())  # as a thought ends
_ROWS = """
WITH RECURSIVE n(i) AS (SELECT :first UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :last)
INSERT INTO episodes (seq, id, asked_at, skill, source, prompt_key, heldout, kind, mode, system, adapter, method, grade,
    confidence, tokens, seconds)
SELECT i, printf('ep-%012d', i), 1e9 + i, 'skill ' || (i % :skills), 'key ' || (i % 50), printf('%064x', i),
    i % 10 = 0, 'ask', 'auto', iif(i % :every, 'system1', 'system2'),
    CASE i % 3 WHEN 0 THEN NULL WHEN 1 THEN :one ELSE :two END,
    iif(i % :every, NULL, 'cot'), iif(i % :every, NULL, 'train'), 0.5, 600, 2.2 FROM n
"""


def build(folder: Path, rows: int) -> dict[str, Any]:
    """Add rows, as far as is missing."""
    with Memory.open(folder) as memory:
        first = memory.counts()["episodes"]
        for start in range(first, rows, PIECE):
            memory._write(partial(add, first=start, last=min(rows, start + PIECE)))
        memory._write(partial(refill, rows=rows))
        found = memory.counts()
    return {"episodes": found["episodes"], "gib": found["bytes"] / 2**30}


def add(con: sqlite3.Connection, first: int, last: int) -> None:
    """Rows of episodes with their indexes, and the bodies of one in nine."""
    given = {"first": first, "last": last, "skills": SKILLS, "every": TAUGHT_EVERY, "one": NAMES[0], "two": NAMES[1]}
    con.execute(_ROWS, given)
    taught = range(first - first % -TAUGHT_EVERY, last, TAUGHT_EVERY)
    bodies = ((n, codec.pack(codec.encode(episode(n)).replace(*THOUGHT))) for n in taught)
    con.executemany("INSERT INTO bodies (seq, body) VALUES (?, ?)", bodies)


def refill(con: sqlite3.Connection, rows: int) -> None:
    """All outcomes anew."""
    con.execute("DELETE FROM outcome_chunks")
    fill(con, rows)


def table(folder: Path) -> dict[str, Any]:
    """The table of skills, as the console asks for it, and its columns alone."""
    with Memory.open(folder, read_only=True) as memory:
        columns_s, columns = timed(memory.answer_columns)
        rows = len(columns["seconds"])
        del columns
        seconds, found = timed(lambda: skills.table(memory))
    return {"rows": rows, "skills": len(found), "columns_s": columns_s, "table_s": seconds}


def curation(folder: Path, most: int | None) -> dict[str, Any]:
    """What a night does first: read what may be taught, choose lessons."""
    own = SkillSettings(name="sums", pattern="^What is")
    named = {f"skill {n}": own.model_copy(update={"name": f"skill {n}"}) for n in range(SKILLS)}
    with Memory.open(folder, read_only=True) as memory:
        read_s, taught = timed(lambda: list(islice(memory.each_taught(heldout=None), most)))
    read_mib = peak_mib()
    curate_s, found = timed(lambda: curate(taught, CurateSettings(), Known(skills=named)))
    return {
        "taught": len(taught), "kept": len(found.kept), "dropped": len(found.dropped),
        "read_s": read_s, "read_mib": read_mib, "curate_s": curate_s,
    }  # fmt: skip


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """(wall seconds, what it gave)"""
    start = time.perf_counter()
    found = run()
    return time.perf_counter() - start, found


def peak_mib() -> float:
    """This process's resident memory at its highest."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def everything(rows: int, most: int | None) -> None:
    """Each step in a process of its own; prints their lines."""
    curated = ("curate",) if most is None else ("curate", "--taught", str(most))
    with tempfile.TemporaryDirectory() as folder:
        for step in (("build", "--rows", str(rows)), ("skills",), curated):
            print(" ".join(step), flush=True)
            subprocess.run([sys.executable, "-m", "bench.insight", *step, "--dir", folder], check=True)


def main() -> None:
    """Run a step and print what it took as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", nargs="?", choices=("build", "skills", "curate"), help="default: all")
    parser.add_argument("--dir", type=Path, help="state folder of the bench, kept between the steps")
    parser.add_argument("--rows", type=int, default=1_000_000, help="episodes in all (build)")
    parser.add_argument("--taught", type=int, default=None, help="at most so many are read (curate)")
    given = parser.parse_args()
    if given.step is None or given.dir is None:
        return everything(given.rows, given.taught)
    start, cpu = time.perf_counter(), time.process_time()
    if given.step == "build":
        found = build(given.dir, given.rows)
    else:
        found = table(given.dir) if given.step == "skills" else curation(given.dir, given.taught)
    took = {"seconds": time.perf_counter() - start, "cpu_s": time.process_time() - cpu, "peak_mib": peak_mib()}
    print(json.dumps({key: round(v, 2) if isinstance(v, float) else v for key, v in (found | took).items()}))


if __name__ == "__main__":
    main()
