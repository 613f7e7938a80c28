"""A session of tasks: what each command cost, which machine, one task's failure, the time that is over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from agent.cli.commands import app
from agent.config import Config
from agent.reproduce.lab import Lab
from agent.reproduce.machine import machine
from agent.reproduce.session import Given, _distilled, every, session
from agent.reproduce.spent import FILE, Spent, read, wall_time, write
from agent.reproduce.tasks import DISTILLED2, SYSTEM1, TASKS, Task
from memory.errors import BadInput, Unavailable
from policies.promote import PromoteSettings
from test_reproduce_run import World

COIN = TASKS["coin-flip"]
LINE = "secondnature reproduce coin-flip --size tiny"


def test_a_commands_runs_add_up_and_others_do_not(tmp_path: Path) -> None:
    write(tmp_path, "key", Spent(LINE, 60.0, 1, 10, "2026-01-02", "a machine"))
    write(tmp_path, "other", Spent(f"{LINE} --seed 2", 600.0, 1, 90))
    assert read(tmp_path, "key", LINE) == Spent(LINE, 60.0, 1, 10, "2026-01-02", "a machine")
    assert read(tmp_path, "third", LINE) == Spent(LINE)


def test_the_wall_time_says_what_other_commands_had_answered() -> None:
    assert wall_time(Spent(LINE, 90.0, 1, 10), 10) == "1.5 minutes in 1 run of this command"
    assert wall_time(Spent(LINE, 90.0, 2, 10), 1010) == (
        "1.5 minutes in 2 runs of this command; 1,000 of 1,010 answers were kept from runs of other commands"
    )


def test_a_command_that_found_everything_answered_claims_no_time() -> None:
    assert wall_time(Spent(LINE, 0.0, 0, 0), 272).startswith("not known: the 272 answers were kept")


def test_an_earlier_wall_time_of_all_runs_is_only_a_bound(tmp_path: Path) -> None:
    old = {"wall_s": 120.0, "date": "2026-01-02", "facts": {"command": f"`{LINE}`"}}
    (tmp_path / "results.json").write_bytes(orjson.dumps(old))
    found = read(tmp_path, "key", LINE)
    assert wall_time(found, 5) == "2.0 minutes at most: runs of other commands on this task may be among them"
    assert found.date == "2026-01-02"
    assert read(tmp_path, "key", f"{LINE} --seed 2") == Spent(f"{LINE} --seed 2")
    (tmp_path / FILE).write_text("{")
    assert read(tmp_path, "key", LINE) == found


def test_the_machine_is_told_without_its_name(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(
        "processor\t: 0\nmodel name\t: AMD  EPYC\n\nprocessor\t: 1\nmodel name\t: AMD EPYC\n"
    )
    (tmp_path / "meminfo").write_text("MemTotal:       24658432 kB\nMemFree: 1 kB\n")
    card = tmp_path / "driver/nvidia/gpus/0000:01:00.0"
    card.mkdir(parents=True)
    (card / "information").write_text("Model: \t\t NVIDIA H100 80GB HBM3\nIRQ: 1\n")
    said = machine(tmp_path)
    assert said.endswith("(AMD EPYC), 24 GiB of memory, NVIDIA H100 80GB HBM3")
    assert said[0].isdigit()
    assert "processor" in machine(tmp_path / "nowhere")


class Worlds:
    """A scripted world for each task, on one clock."""

    def __init__(self, folder: Path, seconds: float | None = None) -> None:
        self.folder, self.seconds, self.now = folder, seconds, 0.0
        self.made: dict[str, World] = {}

    def lab(self, task: Task) -> Lab:
        made = World(self.folder / task.name)
        self.made[task.name] = made
        lab = made.lab(self.seconds)
        lab.clock = lambda: sum(world.now for world in self.made.values())
        return lab


def given(folder: Path, **change: Any) -> Given:
    return Given(**{"size": "tiny", "page": folder / "paper.md", "controls": False, **change})


async def test_a_task_that_fails_keeps_no_other_back(tmp_path: Path) -> None:
    worlds = Worlds(tmp_path)

    def lab(task: Task) -> Lab:
        made = worlds.lab(task)
        if task.name == "judge":
            worlds.made["judge"].scripted.script = unreachable
        return made

    def unreachable(model: str, text: str) -> str:
        raise Unavailable("The engine is gone.")

    told = await every(lab, [TASKS["judge"], COIN], given(tmp_path), PromoteSettings())
    assert (told["judge"]["error"], told["judge"]["done"]) == ("The engine is gone.", False)
    assert told["coin-flip"]["done"]
    assert "## Coin flip" in (tmp_path / "paper.md").read_text()
    assert "## Which of" not in (tmp_path / "paper.md").read_text()


async def test_a_data_set_that_is_missing_is_that_tasks_fault_alone(tmp_path: Path) -> None:
    told = await every(
        Worlds(tmp_path).lab, [TASKS["biased-opinion"], COIN], given(tmp_path, data=tmp_path), PromoteSettings()
    )
    assert "--data" in told["biased-opinion"]["error"]
    assert told["coin-flip"]["done"]


async def test_an_unknown_size_stops_the_session_at_once(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="tiny, small, full"):
        await session(Config(state_dir=tmp_path), None, list(TASKS.values()), Given(size="huge"), lambda *_: None)


async def test_no_task_is_begun_when_the_time_is_over_and_its_earlier_table_stays(tmp_path: Path) -> None:
    page = tmp_path / "paper.md"
    await every(Worlds(tmp_path).lab, [COIN], given(tmp_path), PromoteSettings())
    before, results = page.read_text(), (tmp_path / "coin-flip/results.json").read_bytes()
    late = Worlds(tmp_path, seconds=0.0)
    told = await every(late.lab, [COIN], given(tmp_path, seed=2), PromoteSettings())
    assert (told["coin-flip"]["done"], late.made["coin-flip"].asked) == (False, 0)
    assert (page.read_text(), (tmp_path / "coin-flip/results.json").read_bytes()) == (before, results)


@pytest.mark.parametrize(("first", "trained"), [("gsm8k", 0), (None, 1)])
async def test_a_session_that_only_trains_takes_the_time_it_needs(
    tmp_path: Path, first: str | None, trained: int
) -> None:
    """With 10 s left, too few for a training: it is begun where nothing else was done, lest no run ever come to it."""

    async def dies(*_: object) -> None:
        raise Unavailable("killed")

    answering = Worlds(tmp_path).lab(COIN)
    answering.distil = dies
    told = await every(lambda _: answering, [COIN], given(tmp_path), PromoteSettings())
    assert told["coin-flip"]["error"] == "killed"
    worlds = Worlds(tmp_path, seconds=10.0)
    coin = worlds.lab(COIN)
    coin.clock = lambda: 0.0  # whatever the first one took
    tasks = [*([TASKS[first]] if first else []), COIN]
    await every(lambda task: coin if task is COIN else worlds.lab(task), tasks, given(tmp_path), PromoteSettings())
    assert len(worlds.made["coin-flip"].trained) == trained


async def test_the_page_and_the_results_hold_what_the_command_cost(tmp_path: Path) -> None:
    await every(Worlds(tmp_path).lab, [COIN], given(tmp_path), PromoteSettings())
    again = await every(Worlds(tmp_path).lab, [COIN], given(tmp_path), PromoteSettings())
    assert again["coin-flip"]["facts"]["wall time"].endswith(" minutes in 1 run of this command")
    other = await every(Worlds(tmp_path).lab, [COIN], given(tmp_path, epochs=9), PromoteSettings())
    assert "answers were kept from runs of other commands" in other["coin-flip"]["facts"]["wall time"]
    assert f"- machine: {machine()}" in (tmp_path / "paper.md").read_text()
    kept = orjson.loads((tmp_path / "coin-flip/results.json").read_bytes())
    assert kept["facts"] == other["coin-flip"]["facts"]
    rows = {row["row"]: row for row in kept["rows"]}
    assert rows[DISTILLED2]["tokens_interval"] == rows[SYSTEM1]["tokens_interval"] == [2.0, 2.0]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("last-letter", "CoT, worked examples (the paper's: 2-step RaR)"),
        ("gsm8k", "CoT, worked examples (the paper's: CoT, zero-shot)"),
        ("biased-opinion", "S2A (the paper's too)"),
        ("judge", "BSM (the paper's too)"),
    ],
)
def test_the_section_names_what_was_distilled(name: str, said: str) -> None:
    assert _distilled(TASKS[name]) == said


def test_the_command_ends_with_code_1_where_a_task_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def two(*_: object) -> dict[str, Any]:
        return {
            "judge": {"done": False, "error": "The engine is gone.", "rows": [], "said": []},
            "coin-flip": {"done": True, "rows": [], "said": ["Headroom."]},
        }

    monkeypatch.setattr("agent.reproduce.session.session", two)
    monkeypatch.setattr("agent.base_model.get_model", lambda name: None)
    done = CliRunner().invoke(app, ["reproduce", "all", "--state-dir", str(tmp_path)])
    assert done.exit_code == 1
    assert "judge: The engine is gone." in done.stderr
    assert "Headroom." in done.stdout
