"""A session of tasks: what each command cost, which machine, one task's failure, the time that is over."""

from __future__ import annotations

from pathlib import Path

import orjson

from agent.reproduce.machine import machine
from agent.reproduce.spent import FILE, Spent, read, wall_time, write

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


def test_an_earlier_wall_time_of_all_runs_is_only_a_bound(tmp_path: Path) -> None:
    old = {"wall_s": 120.0, "date": "2026-01-02", "facts": {"command": f"`{LINE}`"}}
    (tmp_path / "results.json").write_bytes(orjson.dumps(old))
    found = read(tmp_path, "key", LINE)
    assert wall_time(found, 5) == "2.0 minutes at most: runs of other commands on this task are among them"
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
