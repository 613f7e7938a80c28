"""Every figure of docs/benchmarks.md: `python -m bench` (two hours, 2 cores), `python -m bench --quick` (5 minutes).

    python -m bench [--quick] [--from bench.placement]

`--from` goes on with a run that was ended: it begins at the first line of that bench.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from agent.engine.child import die_with_parent

STATE = "state/demo"  # what `make demo` leaves: two of the benches read its log
FULL = f"""
bench.gateway --pairs 0 --levels 1 8 --rounds 10 --swaps 0
bench.gateway --pairs 0 --swaps 0
bench.gateway --pairs 300 --tokens 1 --levels --swaps 0
bench.gateway --pairs 0 --levels --swaps 24 --calm 3
bench.gateway --pairs 0 --levels --swaps 24 --calm 3 --now
bench.added
bench.beside --rounds 3 --seconds 36
bench.proxies --rounds 2 --seconds 3
bench.engines --seconds 3 --rounds 1 --kills 1
bench.thinking --questions 16 --seed 6
bench.stopping
bench.early {STATE}
bench.signals {STATE}
bench.practice --questions 48 --rounds 1
bench.parts --rounds 3
bench.start --repeats 9
bench.start --repeats 3 --engine
bench.lora
bench.lora --projections gate up down
bench.placement --seeds 1
bench.train --size full
bench.memory
bench.replay
bench.whatif
bench.whatif --rows 10000000
bench.insight
bench.insight --rows 10000000
bench.fleet --episodes 2000
bench.scale
"""
QUICK = """
bench.gateway --pairs 3 --rounds 1 --seconds 2 --levels 8 --swaps 0
bench.added --pairs 200
bench.proxies --rounds 1 --seconds 1 --connections 64
bench.engines --engines 1 2 --service-ms 100 --seconds 1 --rounds 1 --kills 1 --parts scaling kill --without-litellm
bench.stopping --questions 4000
bench.parts --rounds 1
bench.start --repeats 1
bench.train --size tiny
bench.memory
bench.replay --rows 200000
bench.whatif --rows 200000
bench.insight --rows 50000
bench.fleet --episodes 1000
bench.scale
"""


def main() -> int:
    """Run one after another, each in a process of its own. Returns 1 if any failed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller sizes, fewer of them")
    parser.add_argument("--from", dest="first", metavar="BENCH", help="begin there, as in bench.placement")
    given = parser.parse_args()
    try:
        lines = following(QUICK if given.quick else FULL, given.first)
    except ValueError as error:
        parser.error(str(error))
    failed, began = 0, time.perf_counter()
    for line in lines:
        print(f"\n== python -m {line}", flush=True)
        if STATE in line and not Path(STATE).exists():
            print("== left out: it reads the log that `make demo` leaves", flush=True)
            continue
        started = time.perf_counter()
        failed += subprocess.run([sys.executable, "-m", *line.split()], preexec_fn=die_with_parent).returncode != 0
        print(f"== {time.perf_counter() - started:.0f} s", flush=True)
    print(f"\n== {(time.perf_counter() - began) / 60:.1f} minutes, {failed} failed")
    return 1 if failed else 0


def following(listed: str, first: str | None) -> list[str]:
    """The lines of a list from the first one of the bench `first`; None: all. Raises ValueError where it is in none."""
    lines = listed.strip().splitlines()
    names = [line.split()[0] for line in lines]
    if first is None:
        return lines
    if first not in names:
        raise ValueError(f"{first} is not run here; choose one of {', '.join(dict.fromkeys(names))}")
    return lines[names.index(first) :]


if __name__ == "__main__":
    sys.exit(main())
