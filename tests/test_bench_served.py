"""A bench ends what it started, however it is ended itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

BENCH = """
import signal
from agent.engine.supervisor import free_port
from bench.proxies import local, mocked
from bench.served import SETTINGS, running

port = free_port()
with mocked(port) as engine, running(SETTINGS | {"engine": {"urls": [local(port)]}}) as service:
    print(engine.pid, service.process.pid, flush=True)
    signal.pause()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent was killed")
def test_a_bench_that_is_killed_leaves_no_service_and_no_engine_behind(tmp_path: Path) -> None:
    line, env = [sys.executable, "-c", BENCH], os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(line, env=env, stdout=subprocess.PIPE, text=True) as bench:
        assert bench.stdout is not None
        started = [psutil.Process(int(pid)) for pid in bench.stdout.readline().split()]
        assert len(started) == 2
        bench.kill()
    _, left = psutil.wait_procs(started, timeout=60)
    assert left == []
