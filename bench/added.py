"""What the gateway adds to one request, above an engine that answers at once: whole, and a stream's first words.

    python -m bench.added [--pairs 400] [--json]

The requests of bench.gateway, one at a time, in turn of the mock engine itself (bench/mock_engine.py) and of the
service above it. Above the real engine the same difference is smaller than the engine's own scatter.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from dataclasses import asdict, replace

from agent.engine.supervisor import free_port
from bench.gateway import PEER, Turn, in_turn, show_turns
from bench.proxies import local, mocked
from bench.served import SETTINGS, Served, running

PARTS = {"an answer": False, "a stream's first words": True}


def measure(one: Served, pairs: int, stream: bool) -> list[Turn]:
    """The mock engine, asked for log-probabilities as the gateway asks it, and the gateway."""
    turns = asyncio.run(in_turn(one, pairs, stream=stream))
    return [replace(turn, what=turn.what.replace(PEER, "mock engine")) for turn in turns if turn.what != "vLLM"]


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m bench.added", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=400, help="turns of each")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    engine = local(port := free_port())
    with mocked(port), running(SETTINGS | {"engine": {"urls": [engine]}}) as service:
        one = Served(service.url, engine, "any", (), service.process)
        found = {name: measure(one, given.pairs, stream) for name, stream in PARTS.items()}
    if given.json:
        return print(json.dumps({name: [asdict(turn) for turn in turns] for name, turns in found.items()}, indent=1))
    for name, turns in found.items():
        show_turns(name, turns)


if __name__ == "__main__":
    main()
