"""A service of its own that is asked sums of three numbers: what the soak and the attacks run against."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from adapters.model import get_model
from bench.served import MODEL, SETTINGS, Running, plant_adapter, running

SKILL = "sums"
SUMS: dict[str, Any] = {
    "heldout_share": 0.3,
    "limits": SETTINGS["limits"] | {"request_s": 900.0},  # a night on the same processors makes questions wait
    "audit": {},
    "curate": {"single_user": True},
    "calibration": {"min_audits": 20},
    "train": {"epochs": 1},
    "skills": [
        {
            "name": SKILL,
            "pattern": r"^What is \d+ \+ \d+ \+ \d+\?$",
            "answer_type": "number",
            "direct": "Answer with the number only.",
            "max_answer_tokens": 8,
            "options": {"max_tokens": 60},
            "agreement": {"block": 4, "max_samples": 4},
            "examples": [
                {"question": "What is 39 + 62 + 17?", "answer": "39+62=101, 101+17=118"},
                {"question": "What is 54 + 23 + 91?", "answer": "54+23=77, 77+91=168"},
                {"question": "What is 87 + 96 + 45?", "answer": "87+96=183, 183+45=228"},
            ],
        }
    ],
}


@contextlib.contextmanager
def sums_service(model: str = MODEL, adapters: int = 0, **more: Any) -> Iterator[Running]:
    """Start it, wait until it answers, end it and delete its folder. `adapters`: random ones it finds there.

    Raises RuntimeError with the log's end where it does not come up.
    """
    folder = Path(tempfile.mkdtemp(prefix="secondnature-sums-"))
    for number in range(1, adapters + 1):
        plant_adapter(folder / "state" / "adapters", get_model(model), number)
    with running(SETTINGS | SUMS | {"model": model} | more, folder) as one:
        yield one
