"""The night's heavy work as a subprocess: lessons in, an adapter folder out, progress as it comes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from adapters.dataset import Anchor, write_data
from adapters.job import Job, TrainSettings, write_job
from adapters.manifest import Manifest, verify
from adapters.model import ModelFolder
from adapters.process import HIDDEN, is_running
from agent.give_way import give_way
from memory.errors import BadInput, SecondNatureError, StorageFull
from memory.records import Lesson

Progress = Callable[[str, int, int, str], None]
"""progress(stage, done, total, sentence)."""

TRAINER = "adapters.train"  # the module that is run
LAST_WORDS = 2000  # characters of the trainer's standard error kept for the message


class TrainingFailed(SecondNatureError):
    """The trainer ended without an adapter; nothing of it is left."""

    code = "training_failed"


async def distil(
    lessons: Sequence[Lesson],
    anchors: Sequence[Anchor],
    number: int,
    base: ModelFolder,
    state_dir: Path,
    settings: TrainSettings,
    progress: Progress,
    busy: Callable[[], bool] = lambda: False,
) -> Manifest:
    """Train a fresh adapter from the base on all lessons and anchors.

    While `busy()`, somebody waits for an answer of this machine, and the trainer works `settings.busy_share` of the
    time. Raises TrainingFailed, StorageFull or BadInput with the trainer's own sentence. Cancelling ends the trainer.
    """
    work = state_dir / "nights" / f"{number:04d}"
    job = work / "job.json"
    try:
        work.mkdir(parents=True, exist_ok=True)
        write_data(work / "lessons.jsonl", lessons, anchors)
        told = Job(
            number=number,
            base=str(base.path),
            base_identity=base.identity,
            data=str(work / "lessons.jsonl"),
            out=str(state_dir / "adapters"),
            seed=number,
            parent_pid=os.getpid(),
            train=settings,
        )
        write_job(job, told)
    except OSError as error:
        raise StorageFull(f"the lessons could not be written to {work}: {error.strerror}; free some space") from error
    line = [*(settings.command or (sys.executable, "-m", TRAINER)), str(job)]
    # Another machine's work holds up nobody here; elsewhere than on Linux a stopped trainer could outlive the service.
    gives_way = not settings.command and sys.platform == "linux"
    beside = partial(give_way, share=settings.busy_share if gives_way else 1.0, busy=busy)
    path = await _run(line, work / "trainer.log", progress, beside, lambda: left_by(state_dir / "adapters", number))
    return await asyncio.to_thread(verify, path, base.identity)


def left_by(adapters: Path, number: int) -> Path | None:
    """What a dead trainer left: its finished adapter, if it died after the rename that makes one exist. A hidden
    folder that it was working in is deleted."""
    for folder in adapters.glob(f"{HIDDEN}{number:04d}-*"):
        if not is_running(folder.name):
            shutil.rmtree(folder, ignore_errors=True)
    return next(iter(adapters.glob(f"sn-{number:04d}-*")), None)


async def _run(
    line: Sequence[str],
    log: Path,
    progress: Progress,
    beside: Callable[[int], Coroutine[Any, Any, None]],
    left: Callable[[], Path | None],
) -> Path:
    """Run the trainer to its end; returns the adapter's folder.

    `beside`: runs on its process group once it has begun, and is bound by then to end with this process. `left`: clears
    up after one that was killed, and gives the folder if it was finished all the same.
    """
    with log.open("wb") as errors:
        trainer = await asyncio.create_subprocess_exec(
            *line,
            stdout=asyncio.subprocess.PIPE, stderr=errors, start_new_session=True,
        )  # fmt: skip
    company: list[asyncio.Task[None]] = []
    try:
        made, fault = await _listen(trainer, progress, lambda: company.append(asyncio.create_task(beside(trainer.pid))))
        code = await trainer.wait()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(trainer.pid, signal.SIGTERM)
        _end(company)  # which lets a stopped one go on: only then does it hear the signal
        await trainer.wait()
        left()
        raise
    finally:
        _end(company)
    if made is not None and code == 0:
        return made
    finished = left()
    if fault is None and finished is not None:
        return finished
    raise fault or TrainingFailed(_died(code, log))


def _end(company: Sequence[asyncio.Task[None]]) -> None:
    for task in company:
        task.cancel()


async def _listen(
    trainer: asyncio.subprocess.Process, progress: Progress, began: Callable[[], None]
) -> tuple[Path | None, SecondNatureError | None]:
    """Read the trainer's JSON lines: the folder it made, or the fault it named. `began` is called at its start."""
    made: Path | None = None
    fault: SecondNatureError | None = None
    assert trainer.stdout is not None
    async for line in trainer.stdout:
        event = orjson.loads(line)
        if event["event"] == "start":
            began()
        elif event["event"] == "progress":
            said = f"loss {event['loss']:.3f}, {event['lessons_s']:.1f} lessons/s, {event['eta_s']:.0f} s left"
            progress("distil", event["step"], event["total"], said)
        elif event["event"] == "done":
            made = Path(event["path"])
        elif event["event"] == "error":
            fault = _fault(event["code"], event["message"])
    return made, fault


def _fault(code: str, message: str) -> SecondNatureError:
    kinds: dict[str, type[SecondNatureError]] = {"storage_full": StorageFull, "bad_input": BadInput}
    return kinds.get(code, TrainingFailed)(message)


def _died(code: int, log: Path) -> str:
    how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
    hint = " (often the kernel, out of memory: lower train.pack_tokens)" if code == -signal.SIGKILL else ""
    words = log.read_text(errors="replace")[-LAST_WORDS:].strip()
    return f"the trainer {how}{hint}; nothing was kept. Its last words: {words or 'none'}"
