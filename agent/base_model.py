"""The base model, got by a process of its own: converting needs torch, which never enters the daemon."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from memory.errors import BadConfig

if TYPE_CHECKING:
    from adapters.model import ModelFolder


@contextlib.contextmanager
def getting(spec: str) -> Iterator[Callable[[], ModelFolder]]:
    """Begin to get a model; what is yielded waits for it. Leaving the block early gives it up.

    Mostly the model is there and the process is done in a tenth of a second: time to import the daemon's code in.
    """
    line = [sys.executable, "-m", "adapters.model", spec, "--json"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:

        def got() -> ModelFolder:
            from adapters.model import ModelFolder

            said, _ = process.communicate()
            if process.returncode:
                raise BadConfig(f"the model {spec!r} could not be had; the reason stands above")
            return ModelFolder(**json.loads(said))

        try:
            yield got
        finally:
            if process.poll() is None:
                process.terminate()


def get_model(spec: str) -> ModelFolder:
    """The base model. Raises BadConfig with its sentence."""
    with getting(spec) as got:
        return got()
