"""A whole task over a scripted engine: the rows, the pause, the going on, the service's judgement, the page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from adapters.job import TrainSettings
from adapters.manifest import CONFIG, WEIGHTS, Manifest, adapter_digest, adapter_name, write_manifest
from adapters.model import ModelFolder
from agent.reproduce.answered import Answer, Answered, key_of
from agent.reproduce.asking import _seen
from agent.reproduce.data import Questions
from agent.reproduce.lab import Lab
from agent.reproduce.rows import judged, mean_of, named
from agent.reproduce.run import Result, reproduce
from agent.reproduce.session import Given, _had, _results, chosen, command, fair, sizes_of
from agent.reproduce.table import HEAD, counted, markdown, put
from agent.reproduce.tasks import DISTILLED1, DISTILLED2, SYSTEM1, TASKS, UNFILTERED, Sizes
from agent.system2.settings import System2Settings
from day_fakes import ScriptedEngine
from memory.errors import BadInput
from memory.records import Lesson, SkillState
from policies.promote import PromoteSettings

TASK = TASKS["coin-flip"]
SIZES = Sizes(16, 24, 4, epochs=1)
TEACHER = TASK.teacher
BASE = "sha256:base"


def truth(text: str) -> str:
    return "yes" if text.count(" does not flip ") != 1 else "no"


class World:
    """A scripted engine and trainer: the base says yes, thinks right; an adapter says what `student` says."""

    def __init__(self, folder: Path, student: str = "right") -> None:
        self.folder, self.student = folder, student
        self.asked = 0
        self.trained: list[int] = []
        self.now = 0.0
        self.scripted = ScriptedEngine(self.answer)

    def answer(self, model: str, text: str) -> str:
        self.asked += 1
        self.now += 1.0
        if text.endswith("Answer yes or no only."):
            return truth(text) if model != "base" and self.student == "right" else "yes"
        return f"heads or tails. The answer is {truth(text)}."

    async def engine(self) -> Any:
        return self.scripted

    async def distil(
        self, lessons: Sequence[Lesson], _anchors: object, number: int, base: ModelFolder, folder: Path, *rest: object
    ) -> Manifest:
        self.trained.append(len(lessons))
        made = folder / "adapters" / "new"
        made.mkdir(parents=True)
        (made / CONFIG).write_text(json.dumps({"number": number}))
        (made / WEIGHTS).write_bytes(b"weights")
        digest = adapter_digest(made)
        name = adapter_name(number, digest)
        manifest = Manifest(name, number, base.identity, digest, "d", len(lessons), 0, {}, 0.1, 2.0, 0.0, 1, 4.0, 1.0)
        write_manifest(made, manifest)
        made.rename(made.with_name(name))
        return manifest

    def lab(self, seconds: float | None = None) -> Lab:
        until = None if seconds is None else self.now + seconds
        model = ModelFolder("model", BASE, "folder", "tiny")
        answers = Answered(self.folder / "answers.jsonl")
        return Lab(
            self, model, "base", answers, self.folder, System2Settings(), TrainSettings(epochs=1),
            lambda *_: None, until, lambda: self.now, distil=self.distil,
        )  # fmt: skip


@pytest.fixture
def questions() -> Questions:
    return TASK.make(SIZES.test, SIZES.train, 1, None)


async def run(world: World, questions: Questions, seconds: float | None = None) -> Result:
    lab = world.lab(seconds)
    try:
        return await reproduce(lab, TASK, questions, SIZES, fair(PromoteSettings(), SIZES))
    finally:
        lab.answers.close()


async def test_every_row_is_measured_and_said(tmp_path: Path, questions: Questions) -> None:
    world = World(tmp_path)
    found = await run(world, questions)
    assert found.done
    shares = {name: row.shares["accuracy"].value for name, row in found.rows.items() if row.shares}
    yes = sum(q.gold == "yes" for q in questions.test) / 16
    assert shares[SYSTEM1] == yes
    assert shares[TEACHER] == shares[f"{TEACHER}, vote"] == shares[DISTILLED2] == shares[UNFILTERED] == 1.0
    assert found.rows[DISTILLED1].lessons == found.rows[DISTILLED2].lessons == 24
    assert found.rows[DISTILLED2].precision.value == 1.0
    assert found.rows[f"{TEACHER}, vote"].tokens.value == 8.0  # four samples of two tokens
    assert found.said[0].startswith("Headroom: ")
    assert found.state is SkillState.PRACTISING
    assert list(found.rows)[:2] == [SYSTEM1, DISTILLED1]


async def test_a_student_that_learns_nothing_makes_the_skill_deliberate(tmp_path: Path, questions: Questions) -> None:
    found = await run(World(tmp_path, student="stuck"), questions)
    assert found.state is SkillState.DELIBERATE
    assert any("**deliberate**" in sentence for sentence in found.said)


async def test_a_stopped_run_goes_on_and_asks_nothing_twice(tmp_path: Path, questions: Questions) -> None:
    whole = World(tmp_path / "whole")
    await run(whole, questions)
    world = World(tmp_path / "pieces")
    pieces = 0
    while not (found := await run(world, questions, seconds=40.0)).done:
        pieces += 1
        assert "Unfinished" in found.said[-1]
        assert pieces < 50
    assert pieces > 3
    assert world.asked == whole.asked
    assert sorted(world.trained) == sorted(whole.trained)
    again = await run(world, questions)
    assert (again.done, world.asked) == (True, whole.asked)
    assert again.rows == found.rows


async def test_a_changed_prompt_is_asked_anew(tmp_path: Path, questions: Questions) -> None:
    world = World(tmp_path)
    await run(world, questions)
    before = world.asked
    other = Questions(questions.test[:-1], questions.train, "")
    await run(world, other)
    assert world.asked == before
    await run(world, Questions(TASK.make(16, 0, 99, None).test, questions.train, ""))
    assert world.asked > before


def test_a_line_cut_off_by_a_crash_costs_one_answer(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    kept = Answered(path)
    kept.add(Answer(key_of("a"), "yes", 2, 0.1, votes={"yes": 4}))
    kept.add(Answer(key_of("b"), "no", 2, 0.1))
    kept.close()
    path.write_bytes(path.read_bytes()[:-10])
    again = Answered(path)
    assert again.get(key_of("b")) is None
    again.add(Answer(key_of("b"), "yes", 2, 0.1))
    again.close()
    last = Answered(path)
    assert (last.get(key_of("a")).votes, last.get(key_of("b")).answer) == ({"yes": 4}, "yes")
    last.close()


def test_a_judge_that_always_says_a_is_never_consistent() -> None:
    task = TASKS["judge"]
    made = task.make(10, 4, 1, None)
    always = [Answer("k", "A", 1, 0.1) for _ in made.test]
    fair_judge = [Answer("k", q.gold, 1, 0.1) for q in made.test]
    assert judged(made.test, always, task.right)["inconsistent"].value == 1.0
    assert {k: s.value for k, s in judged(made.test, fair_judge, task.right).items()} == {
        "agreement": 1.0, "inconsistent": 0.0
    }  # fmt: skip


def test_tokens_have_an_interval_of_1_96_standard_errors() -> None:
    found = mean_of([10, 20, 30, 40])
    assert (found.value, found.n) == (25.0, 4)
    assert found.half == pytest.approx(1.96 * (500 / 3) ** 0.5 / 2)
    assert found.interval == pytest.approx((25 - found.half, 25 + found.half))
    assert counted(found) == "25.0 ± 12.7"
    assert counted(mean_of([7, 7])) == "7.0 ± 0.0"
    assert (mean_of([7]).interval, counted(mean_of([7])), counted(None)) == (None, "7.0", "-")


async def test_the_interval_of_the_tokens_is_on_the_page_and_in_the_results(
    tmp_path: Path, questions: Questions
) -> None:
    found = await run(World(tmp_path), questions)
    assert "100.0 % [81, 100] | 8.0 ± 0.0 |" in markdown(TASK, list(found.rows.values()), found.said, {})
    rows = {row["row"]: row for row in _results(found)["rows"]}
    assert (rows[f"{TEACHER}, vote"]["tokens"], rows[f"{TEACHER}, vote"]["tokens_interval"]) == (8.0, (8.0, 8.0))


def test_an_answer_is_right_when_it_names_the_true_one() -> None:
    assert named("the city of lima", "Lima")
    assert not named("limassol", "Lima")
    assert not named(None, "Lima")


async def test_the_page_keeps_other_sections_and_the_papers_numbers(tmp_path: Path, questions: Questions) -> None:
    found = await run(World(tmp_path), questions)
    section = markdown(TASK, list(found.rows.values()), found.said, {"date": "2026-01-02"})
    assert "| System 2: 2-step RaR |" in section
    assert "| 77.2 % | 112.4 |" in section
    assert "date: 2026-01-02" in section
    page = tmp_path / "paper.md"
    put(page, "gsm8k", "## Later\nold")
    put(page, "coin-flip", section)
    put(page, "gsm8k", "## Later\nnew")
    text = page.read_text()
    assert text.startswith(HEAD.splitlines()[0])
    assert text.index("Coin flip") < text.index("Later")
    assert ("Later\nold" in text, "Later\nnew" in text) == (False, True)
    assert text.count("<!-- task: ") == text.count("<!-- end: ") == 2


def test_tasks_are_run_in_the_order_they_are_named() -> None:
    assert [task.name for task in chosen(["judge", "coin-flip", "judge"])] == ["judge", "coin-flip"]
    assert len(chosen(["all"])) == 5
    with pytest.raises(BadInput, match="coin-flip"):
        chosen(["coins"])


def test_the_page_names_the_command_that_makes_the_run_from_nothing() -> None:
    given = Given(size="tiny", test=8, learning_rate=0.0001, seed=2, minutes=3.0, controls=False)
    told = f"secondnature reproduce {TASK.name} --size tiny --test 8 --learning-rate 0.0001 --seed 2 --no-controls"
    assert command(TASK, given) == told
    assert command(TASK, Given()) == f"secondnature reproduce {TASK.name} --size small"


def test_a_fair_try_is_measured_on_the_questions_that_there_are() -> None:
    judge = TASKS["judge"]
    full = judge.sizes["full"]
    had = _had(full, judge.make(full.test, full.train, 1, None))
    assert fair(PromoteSettings(), had).fair_try_lessons == 30  # a quarter of the 121
    enough = judge.sizes["tiny"]
    assert _had(enough, judge.make(enough.test, enough.train, 1, None)) == enough


def test_sizes_can_be_named_and_changed() -> None:
    assert sizes_of(TASK, Given(size="full")) == Sizes(1333, 20_000, 8)
    assert sizes_of(TASK, Given(size="tiny", test=8, epochs=2)) == Sizes(8, 48, 4, 2)
    with pytest.raises(BadInput, match="tiny, small, full"):
        sizes_of(TASK, Given(size="huge"))


def test_what_a_key_says_does_not_change_with_the_defaults() -> None:
    task = TASKS["coin-flip"]
    way = task.ways[task.teacher]
    assert _seen(way)["agreement"] == {"block": 1, "max_samples": 1, "train_attempts": 1}
    assert _seen(task.voting(way, 4))["agreement"] == {"max_samples": 4, "stop": "never"}
    assert _seen(task.voting(way, 8))["agreement"] == {"block": 8, "stop": "never", "train_attempts": 8}
