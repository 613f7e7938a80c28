"""A trainer that dies (SIGKILL) where $DIES says: `work` half done, `whole` after its last rename, or `never`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from adapters.job import read_job
from adapters.process import HIDDEN
from adapters_fakes import made_adapter

if __name__ == "__main__":
    job = read_job(Path(sys.argv[1]))
    out = Path(job.out)
    hidden = out / f"{HIDDEN}{job.number:04d}-{os.getpid()}"
    hidden.mkdir(parents=True)
    (hidden / "adapter_model.safetensors").write_bytes(b"half")
    if os.environ["DIES"] == "whole":
        made_adapter(out, job.number, job.base_identity)
        (hidden / "adapter_model.safetensors").unlink()
        hidden.rmdir()
    while os.environ["DIES"] == "never":
        print('{"event": "start"}', flush=True)
        sum(range(100_000))
    os.kill(os.getpid(), signal.SIGKILL)
