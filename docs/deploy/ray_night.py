"""The night's training as a Ray Train job: `train.command: [python, docs/deploy/ray_night.py, --gpu]` in service.yaml.

The learner starts this instead of the trainer itself, with the job's file as the last argument. A worker of the cluster
then runs the trainer, and its progress comes back as it comes from a local one. The state folder and the base model's
folder must lie on a disk that the worker sees under the same path.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, TextIO

import ray
import ray.train
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.util.queue import Queue

from adapters.job import read_job, write_job

END = "end"


def night(config: dict[str, Any]) -> None:
    """What the worker does: the trainer in a process of its own, which ends with this one."""
    job = read_job(Path(config["job"]))
    own = Path(config["job"]).with_suffix(".worker.json")
    write_job(own, job.model_copy(update={"parent_pid": os.getpid()}))
    line = [sys.executable, "-m", "adapters.train", str(own)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as trainer:
        assert trainer.stdout is not None
        for said in trainer.stdout:
            config["lines"].put(said)
    ray.train.report({"code": trainer.returncode})
    if trainer.returncode:
        raise RuntimeError(f"the trainer ended with code {trainer.returncode}")


def tell(lines: Queue, learner: TextIO) -> None:
    """Pass the trainer's lines on to the learner."""
    while (said := lines.get()) != END:
        learner.write(said)
        learner.flush()


def main() -> int:
    """Run one night. Returns 1 where the trainer failed; it has said why on standard output."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gpu", action="store_true", help="the worker needs one")
    parser.add_argument("--cpus", type=float, default=4, help="processors that the worker needs")
    parser.add_argument("job", help="JOB.json, as the learner writes it")
    given = parser.parse_args()
    learner = os.fdopen(os.dup(1), "w")  # it reads JSON lines alone: whatever else is printed goes to standard error
    os.dup2(2, 1)
    ray.init(log_to_driver=False, runtime_env={"env_vars": {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}})
    lines = Queue()
    telling = threading.Thread(target=tell, args=(lines, learner))
    telling.start()
    needs = ScalingConfig(num_workers=1, use_gpu=given.gpu, resources_per_worker={"CPU": given.cpus})
    storage = str(Path(given.job).resolve().parent / "ray")
    config = {"job": str(Path(given.job).resolve()), "lines": lines}
    trainer = TorchTrainer(
        night, train_loop_config=config, scaling_config=needs, run_config=RunConfig(storage_path=storage)
    )
    try:
        trainer.fit()
    except Exception as error:  # Ray has many; whichever it is, the learner reads the reason here
        print(error, file=sys.stderr)
        return 1
    finally:
        lines.put(END)
        telling.join()
    return 0


if __name__ == "__main__":
    sys.exit(main())
