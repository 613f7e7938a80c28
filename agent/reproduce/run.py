"""A task from its first question to its last row. Stopped at any moment, the same command goes on."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from agent.reproduce.answered import Answer
from agent.reproduce.asking import direct, thought
from agent.reproduce.data import Questions
from agent.reproduce.lab import Lab, Paused
from agent.reproduce.learning import Taught, filtered, learn, unfiltered
from agent.reproduce.rows import Row, gain, headroom, hits, mean_of, score
from agent.reproduce.tasks import DISTILLED1, DISTILLED2, SYSTEM1, UNFILTERED, Sizes, Task
from memory.records import EvalReport, SkillState
from policies.answers import same
from policies.promote import PromoteSettings, judge

FEWEST = 8  # lessons below which nothing is trained


@dataclass
class Result:
    """A task's rows as far as they are known, and what is to be said of them."""

    rows: dict[str, Row] = field(default_factory=dict)
    answers: dict[str, list[Answer]] = field(default_factory=dict)  # by row, in the test questions' order
    said: list[str] = field(default_factory=list)  # the first is about headroom
    state: SkillState | None = None  # the service's judgement of the skill; None: not judged yet
    done: bool = False


async def reproduce(
    lab: Lab, task: Task, questions: Questions, sizes: Sizes, gate: PromoteSettings, *, controls: bool = True
) -> Result:
    """Every row that the time allows; with or without `controls`. Raises what the engine and the trainer raise."""
    found = Result(rows={name: Row(name, {}, None) for name in _order(task)})
    try:
        await _system1_and_ways(lab, task, questions, found)
        await _distil_system2(lab, task, questions, sizes, found)
        await _vote(lab, task, questions, sizes, found)
        _judge(task, found, gate)
        if controls:
            await _distil_the_rest(lab, task, questions, sizes, found)
        found.done = True
    except Paused:
        found.said.append("Unfinished: the same command goes on where this run stopped.")
    return found


def _order(task: Task) -> list[str]:
    """The rows as the paper has them."""
    return [SYSTEM1, DISTILLED1, *task.ways, f"{task.teacher}, vote", DISTILLED2, UNFILTERED]


async def _system1_and_ways(lab: Lab, task: Task, questions: Questions, found: Result) -> None:
    """What the base does, directly and in each way of thinking; then the headroom."""
    _add(task, questions, found, SYSTEM1, await direct(lab, SYSTEM1, lab.model, questions.test, task.skill))
    for name, way in task.ways.items():
        _add(task, questions, found, name, await thought(lab, name, questions.test, way))
    found.said.append(headroom(found.rows[SYSTEM1], [found.rows[name] for name in task.ways]))


async def _vote(lab: Lab, task: Task, questions: Questions, sizes: Sizes, found: Result) -> None:
    """The teacher with its vote on the test questions: what the service holds a student against."""
    name = f"{task.teacher}, vote"
    voting = task.voting(task.ways[task.teacher], sizes.votes)
    _add(task, questions, found, name, await thought(lab, name, questions.test, voting))


async def _distil_system2(lab: Lab, task: Task, questions: Questions, sizes: Sizes, found: Result) -> None:
    """The paper's student: the unlabelled questions thought through, filtered, learnt."""
    thoughts = await _practised(lab, task, questions, sizes)
    await _student(lab, task, questions, found, DISTILLED2, filtered(task, questions.train, thoughts))


async def _distil_the_rest(lab: Lab, task: Task, questions: Questions, sizes: Sizes, found: Result) -> None:
    """Its two controls: the base's own direct answers behind the same filter, and System 2 without one."""
    own = task.voting(task.skill.model_copy(update={"method": "direct"}), sizes.votes)
    directs = await thought(lab, "voting for Distill System 1", questions.train, own)
    await _student(lab, task, questions, found, DISTILLED1, filtered(task, questions.train, directs))
    thoughts = await _practised(lab, task, questions, sizes)
    await _student(lab, task, questions, found, UNFILTERED, unfiltered(task, questions.train, thoughts))


async def _practised(lab: Lab, task: Task, questions: Questions, sizes: Sizes) -> list[Answer]:
    """The teacher's votes on the unlabelled questions."""
    voting = task.voting(task.ways[task.teacher], sizes.votes)
    return await thought(lab, "thinking for Distill System 2", questions.train, voting)


async def _student(lab: Lab, task: Task, questions: Questions, found: Result, name: str, taught: Taught) -> None:
    """One adapter, trained and asked the test questions directly."""
    if len(taught.lessons) < FEWEST:
        found.said.append(f"{name}: {len(taught.lessons)} lessons passed the filter; nothing was trained.")
        return
    made = await learn(lab, name, taught.lessons)
    folder = lab.folder / "adapters" / made.name
    answers = await direct(lab, name, made.name, questions.test, task.skill, adapter=folder)
    _add(task, questions, found, name, answers)
    found.rows[name] = replace(
        found.rows[name], lessons=len(taught.lessons), precision=taught.precision, train_s=made.train_s
    )
    found.said.append(f"{name} against System 1: {gain(found.rows[SYSTEM1], found.rows[name])}.")


def _add(task: Task, questions: Questions, found: Result, name: str, answers: list[Answer]) -> None:
    right = hits(questions.test, answers, task.right)
    counted = [h for h, q in zip(right, questions.test, strict=True) if not task.primary or q.group in task.primary]
    tokens = mean_of([a.tokens for a in answers])
    found.answers[name] = answers
    found.rows[name] = Row(name, task.measure(questions.test, answers, task.right), tokens, tuple(counted))


def _judge(task: Task, found: Result, settings: PromoteSettings) -> None:
    """The service's own gate on what it would know: agreement with System 2 where System 2 agrees with itself."""
    student = found.rows[DISTILLED2]
    firm = [i for i, answer in enumerate(found.answers[f"{task.teacher}, vote"]) if answer.agreed]
    if student.lessons is None or not firm:
        return
    wanted = found.answers[f"{task.teacher}, vote"]

    def agrees(row: str) -> list[bool]:
        return [same(found.answers[row][i].answer, wanted[i].answer, task.skill.answer_type) for i in firm]

    scored = score(task.skill.name, agrees(SYSTEM1), agrees(DISTILLED2))
    report = EvalReport(DISTILLED2, (scored,), None, (), 0.0)
    gate = judge(report, {}, settings, lessons={task.skill.name: student.lessons})
    stuck = task.skill.name in gate.deliberate_skills
    found.state = SkillState.DELIBERATE if stuck else SkillState.PRACTISING
    marked = "it did not become automatic after a fair try: the skill is marked **deliberate**"
    change = f"{100 * scored.before:.0f} -> {100 * scored.after:.0f} %"
    found.said.append(
        f"The service's own judgement, by agreement with System 2 on the {len(firm)} test prompts on which System 2 "
        f"agrees with itself: {change}; {marked if stuck else gate.reason}."
    )
