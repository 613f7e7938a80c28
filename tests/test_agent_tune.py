"""Thresholds from the log: the curve, the certificate, live application and undo, through the command line."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio.from_thread
import httpx
import orjson
import pytest
from typer.testing import CliRunner

from agent.answer import answer
from agent.cli.commands import app as commands
from agent.cli.tune import replayed, request
from agent.http.app import build, no_lifespan
from agent.recalibrate import in_force_for, recalibrate
from agent.tuning import apply_threshold, whatif
from agent.vigil import rule_of
from day_fakes import ScriptedEngine, asked, day
from memory.errors import BadInput
from memory.records import System
from memory.store import Memory
from policies.certify import Goal
from tuning_fakes import remember_past


def script(model: str, text: str) -> str:
    return "8" if "Number only" in text else "3 + 5 = 8. The answer is 8."


def say(state_dir: Path, *words: str, code: int = 0) -> str:
    said = CliRunner().invoke(commands, [*words, "--state-dir", str(state_dir)])
    assert said.exit_code == code, said.output + str(said.exception)
    return " ".join(said.stdout.split())  # tables and sentences are wrapped to the terminal's width


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder with 600 audited answers of the base, calibrated."""
    folder = tmp_path_factory.mktemp("past")
    one = day(folder, ScriptedEngine(script))
    remember_past(one.memory)
    with anyio.from_thread.start_blocking_portal() as portal:
        portal.call(recalibrate, one, None)
    one.memory.close()
    return folder


def test_the_curve_its_plot_and_the_certificate_are_printed(past: Path) -> None:
    told = say(past, "tune", "--skill", "sums", "--max-disagreement", "0.1")
    assert "What each threshold would have done: the base, sums, 600 answers, 600 audited" in told
    assert "S: System 2 answers, d: disagreement, n: now, r: recommended" in told
    assert "uniform audits disagree: at most" in told
    assert "Calibration: isotonic" in told
    general = say(past, "tune", "--max-disagreement", "0.1")
    assert "What each threshold would have done: the base, all skills, 600 answers, 600 audited" in general
    assert "0 of 0 uniform audits disagree: about 22 more uniform audits are needed" in general
    assert "Not in it, with thresholds of their own: sums." in general


def test_the_certificate_and_the_needed_audits_are_given_as_json(past: Path) -> None:
    loose = orjson.loads(say(past, "tune", "--skill", "sums", "--max-disagreement", "0.1", "--json"))
    strict = orjson.loads(say(past, "tune", "--skill", "sums", "--max-disagreement", "0.002", "--json"))
    assert loose["certificate"]["bound"] <= 0.1
    assert strict["certificate"]["threshold"] is None
    assert strict["certificate"]["more_audits"] > 0
    assert "more uniform audits are needed" in say(past, "tune", "--max-disagreement", "0.002")
    cost = orjson.loads(say(past, "tune", "--max-cost", "0.5", "--json"))
    assert cost["recommendation"]["point"]["cost"] <= 0.5


def test_a_skill_without_a_log_is_out_of_support(past: Path) -> None:
    assert "about 45 more uniform audits" in say(past, "tune", "--skill", "dates")


def test_mistakes_are_named(past: Path) -> None:
    assert "say why" in say_error(past, "tune", "--apply")
    assert "max_disagreement" in say_error(past, "tune", "--max-disagreement", "2")
    assert "there is no adapter" in say_error(past, "tune", "--adapter", "sn-0009-abcdef")
    assert "--threshold" in say_error(past, "tune", "--apply", "--why", "x", "--max-disagreement", "0.002")
    for_sums = ("tune", "--skill", "sums", "--apply", "--why", "x")
    assert "no service runs" in say_error(past, *for_sums, "--max-disagreement", "0.1")


def say_error(state_dir: Path, *words: str) -> str:
    said = CliRunner().invoke(commands, [*words, "--state-dir", str(state_dir)])
    assert said.exit_code != 0
    return str(getattr(said.exception, "message", said.output))


@pytest.fixture
async def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """The same past with the service's own routes behind the command line."""
    one = day(tmp_path, ScriptedEngine(script, logprob=-0.0005), limits={"prompt_chars": 500})
    remember_past(one.memory)
    await recalibrate(one, None)
    one.pointer.flip(in_force_for(one, None))
    app = build(one.config, no_lifespan())
    app.state.daemon = SimpleNamespace(day=one, memory=one.memory)
    transport = httpx.ASGITransport(app)
    with anyio.from_thread.start_blocking_portal() as portal:

        def request(method: str, url: str, **given: Any) -> httpx.Response:
            async def ask() -> httpx.Response:
                given.pop("timeout")
                async with httpx.AsyncClient(transport=transport) as client:
                    return await client.request(method, url, **given)

            return portal.call(ask)

        monkeypatch.setattr(httpx, "request", request)
        (tmp_path / "service.json").write_bytes(orjson.dumps({"url": "http://localhost", "pid": os.getpid()}))
        yield one
    one.memory.close()


async def test_apply_changes_the_route_at_once_and_undo_restores_it(running: Any) -> None:
    one, folder = running, Path(running.config.state_dir)
    before = one.pointer.now.threshold("sums")
    assert (await answer(one, *asked(one, "What is 3 + 5?"))).decision.system is System.SYSTEM1
    told = say(folder, "tune", "--skill", "sums", "--threshold", "1.0", "--apply", "--why", "a holiday")
    assert "1.000 is in force now" in told
    assert (await answer(one, *asked(one, "What is 4 + 4?", number=2))).decision.system is System.SYSTEM2
    newest = one.memory.threshold_history()[0]
    assert (newest.skill, newest.value, newest.who, newest.why) == ("sums", 1.0, "local", "a holiday")
    assert "for 'dates' by hand" in say_error(folder, "tune", "--undo", "--skill", "dates")
    assert "was taken back" in say(folder, "tune", "--undo", "--skill", "sums")
    assert one.pointer.now.threshold("sums") == before
    assert (await answer(one, *asked(one, "What is 6 + 2?", number=3))).decision.system is System.SYSTEM1


async def test_tune_counts_the_audits_that_the_settings_ask_for(running: Any) -> None:
    often = running.config.audit.model_copy(update={"floor": 0.5})
    costs = [
        replayed(running.memory, settings, None, None, {})["points"][0]["cost"]
        for settings in (running.config, running.config.model_copy(update={"audit": often}))
    ]
    assert costs[1] > costs[0] + 0.1


async def test_the_certified_threshold_is_applied_with_its_evidence(running: Any) -> None:
    folder = Path(running.config.state_dir)
    found = orjson.loads(
        say(folder, "tune", "--skill", "sums", "--max-disagreement", "0.1", "--apply", "--why", "weekly", "--json")
    )
    applied = found["applied"]
    assert applied["value"] == found["certificate"]["threshold"]
    assert request(found, None, None, None, "why")["adapter"] == "base"
    assert running.pointer.now.thresholds["sums"] == applied["value"]
    with Memory.open(folder, read_only=True) as memory:
        kept = memory.threshold_history()[0].certificate
    assert kept is not None
    assert (kept["max_disagreement"], kept["threshold"]) == (0.1, applied["value"])


async def test_skills_and_calibration_are_told_by_the_service_too(running: Any, tmp_path: Path) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app_of(running)), base_url="http://localhost") as http:
        skills = (await http.get("/api/skills")).json()
        assert [row["skill"] for row in skills["skills"]] == ["sums"]
        assert (await http.get("/api/skills/sums")).json()["versions"][0]["n"] == 600
        assert (await http.get("/api/skills/dates")).status_code == 404
        assert (await http.get("/api/methods")).json()[0]["method"] == "cot"
        whole, sums = (await http.get("/api/calibration", params={"adapter": "base"})).json()
        assert (whole["skill"], sums["skill"], whole["method"]) == (None, "sums", "isotonic")
        assert (await http.post("/api/skills/sums/release", json={"why": "x"})).status_code == 404


def app_of(one: Any) -> Any:
    app = build(one.config, no_lifespan())
    app.state.daemon = SimpleNamespace(day=one, memory=one.memory)
    return app


def test_calibration_reports_raw_and_cross_fitted_figures_and_draws_them(past: Path, tmp_path: Path) -> None:
    told = say(past, "calibration", "--plot", str(tmp_path / "plot.svg"))
    assert "o promised, # found" in told
    drawn = (tmp_path / "plot.svg").read_text()
    assert drawn.startswith("<svg")
    assert "base, sums: calibrated" in drawn
    whole, sums = orjson.loads(say(past, "calibration", "--json", "--adapter", "base"))
    assert (whole["audits"], whole["after"]["n"], sums["skill"]) == (600, 600, "sums")
    assert whole["after"]["ece"] < whole["before"]["ece"]
    assert whole["after"]["auroc"] > 0.6
    assert ".svg" in say_error(past, "calibration", "--plot", "x.png")


def test_too_few_audits_are_said(tmp_path: Path) -> None:
    with Memory.open(tmp_path) as memory:
        remember_past(memory, asks=40)
    (whole, _) = orjson.loads(say(tmp_path, "calibration", "--json"))
    assert (whole["after"], whole["needed"]) == (None, 100)
    assert "needs 60 more audits" in say(tmp_path, "calibration")


def test_skills_are_shown_exported_and_their_methods_listed(past: Path, tmp_path: Path) -> None:
    assert "practising" in say(past, "skills")
    assert "By adapter version" in say(past, "skills", "show", "sums")
    (cot,) = orjson.loads(say(past, "skills", "methods", "--json"))
    assert (cot["method"], cot["runs"], cot["train_share"]) == ("cot", 600, 1.0)
    say(past, "skills", "export", str(tmp_path / "skills.csv"))
    assert (tmp_path / "skills.csv").read_text().startswith("skill,adapter,n,")


async def test_evidence_for_another_threshold_is_refused(running: Any) -> None:
    found = whatif(running.memory, "sums", goal=Goal(max_disagreement=0.1))
    certificate = found["certificate"]
    with pytest.raises(BadInput, match="does not reach down"):
        apply_threshold(running, None, certificate["threshold"] - 0.1, "ann", "greed", 0.1, certificate)
    with pytest.raises(BadInput, match="no certificate"):
        apply_threshold(running, None, 0.9, "ann", "greed", 0.1, {"threshold": "high"})
    apply_threshold(running, None, certificate["threshold"] + 0.01, "ann", "caution", 0.1, certificate)
    rule = rule_of(running.memory.threshold_history(), "sums", None, 0.05)
    assert (rule.by_hand, rule.alpha) == (False, 0.05)  # the skill has a certified threshold of its own
    assert rule_of(running.memory.threshold_history(), "dates", None, 0.05).alpha == 0.1
