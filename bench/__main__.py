"""Every figure of docs/benchmarks.md: `python -m bench` (an hour on 2 cores), `python -m bench --quick` (5 minutes)."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

FULL = (
    ("bench.gateway",),
    ("bench.added",),
    ("bench.beside",),
    ("bench.proxies",),
    ("bench.engines",),
    ("bench.thinking",),
    ("bench.practice",),
    ("bench.parts",),
    ("bench.start",),
    ("bench.lora",),
    ("bench.train", "--size", "full"),
    ("bench.memory", "--size", "full"),
    ("bench.replay",),
    ("bench.whatif",),
    ("bench.insight",),
    ("bench.fleet",),
    ("bench.scale",),
)
QUICK = (
    ("bench.gateway", "--pairs", "5", "--rounds", "1", "--seconds", "3", "--levels", "8", "--swaps", "1",
     "--calm", "3"),
    ("bench.added", "--pairs", "200"),
    ("bench.proxies", "--rounds", "1", "--seconds", "2", "--connections", "1", "64"),
    ("bench.engines", "--engines", "1", "2", "--service-ms", "100", "--seconds", "1", "--rounds", "1", "--kills", "1",
     "--parts", "scaling", "prefixes", "kill", "--without-litellm"),
    ("bench.thinking", "--questions", "1"),
    ("bench.start", "--repeats", "2"),
    ("bench.train", "--size", "tiny"),
    ("bench.memory", "--size", "small"),
    ("bench.replay", "--rows", "200000"),
    ("bench.whatif", "--rows", "200000"),
    ("bench.insight", "--rows", "50000"),
    ("bench.fleet", "--episodes", "2000"),
)  # fmt: skip


def main() -> int:
    """Run one after another, each in a process of its own. Returns 1 if any failed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller sizes")
    failed = 0
    for module, *options in QUICK if parser.parse_args().quick else FULL:
        print(f"\n== python -m {' '.join([module, *options])}", flush=True)
        started = time.perf_counter()
        failed += subprocess.run([sys.executable, "-m", module, *options], check=False).returncode != 0
        print(f"== {time.perf_counter() - started:.0f} s", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
