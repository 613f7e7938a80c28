"""The demonstration against a service that is a function: its story, its figures, its page, its failures."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import threading
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from agent.config import load
from bench.demo import story
from bench.demo.__main__ import SETTINGS, clear, main, prepare
from bench.demo.asking import Answered, accuracy, mean_tokens, percentile_seconds, system1_share
from bench.demo.curve import _spread
from bench.demo.more import fresh
from bench.demo.page import page
from bench.demo.report import Measured, build, complaints, precision, too_few_to_tell
from bench.demo.service import DemoFailed, Service
from bench.demo.show import Show
from bench.demo.sizes import SIZES, Size
from bench.demo.skills import DRAWS, Question, distinct, right, split
from bench.demo.table import table
from memory.records import AnswerType, Lesson
from policies.skills import is_heldout, prompt_key, recognise

CONFIG = load(SETTINGS)
SKILLS = {skill.name: skill for skill in CONFIG.skills}
SMALL = Size(day={"three_sums": 12, "reviews": 6}, measured={"three_sums": 8, "reviews": 8}, auto=4)


def key(text: str) -> str:
    return prompt_key([{"role": "user", "content": text}])


class Server(ThreadingHTTPServer):
    """Room for all of a demo's connections at once."""

    request_queue_size = 128


class FakeService:
    """Answers 100 to every System 1 question until the night, the truth afterwards; System 2 always the truth."""

    def __init__(self, outcome: str = "promoted") -> None:
        self.outcome, self.night_at, self.asked = outcome, None, []
        self.numbers = itertools.count()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                return

            def do_GET(self) -> None:
                told = {
                    "/readyz": {"ready": True, "missing": []},
                    "/api/status": {"base": "fake-base", "digest": "d" * 64},
                }
                self.send(told.get(self.path) or fake.night())

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                if self.path == "/api/night":
                    fake.night_at = time.perf_counter()
                    return self.send({"started": True})
                return self.send(fake.answer(body))

            def send(self, told: dict[str, Any]) -> None:
                raw = json.dumps(told).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

        self.server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def over(self) -> bool:
        return self.night_at is not None and time.perf_counter() - self.night_at > 1.0

    def night(self) -> dict[str, Any]:
        idle = self.night_at is None or self.over
        stage = "idle" if idle else "swap" if time.perf_counter() - (self.night_at or 0) > 0.4 else "distil"
        report = {
            "outcome": self.outcome, "reason": "better", "adapter": "sn-0001-abc", "lessons": {"three_sums": 10},
            "train_s": 0.5, "swap": {"load_s": 0.1, "flip_s": 0.2},
            "gate": {"promote": True, "checks": [["gain", True, "three_sums gains"]]},
        }  # fmt: skip
        row = {"id": 1, "outcome": self.outcome, "report": report}
        return {
            "running": not idle,
            "progress": {"stage": stage, "done": 1, "total": 2, "said": "..."},
            "last": [row] if self.over else [],
        }

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        text, mode = body["messages"][0]["content"], body["mode"]
        self.asked.append((text, mode))
        direct = mode == "system1" or (mode == "auto" and self.over)
        knows = self.over or not direct
        told = {"system": "system1" if direct else "system2", "adapter": "sn-0001-abc" if self.over else None}
        told |= {"tokens": 4 if direct else 104, "episode_id": f"ep-{next(self.numbers)}"}
        message = {"role": "assistant", "content": TRUTH[text] if knows else "100"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return {
            "id": "x",
            "object": "chat.completion",
            "created": 0,
            "model": "m",
            "choices": [choice],
            "secondnature": told,
        }


TRUTH = {q.text: q.gold for skill in SMALL.day for q in itertools.islice(distinct(skill, 1), 900)}


@pytest.fixture
def fake() -> Iterator[FakeService]:
    made = FakeService()
    yield made
    made.server.shutdown()


def tell(fake: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Measured:
    monkeypatch.setattr(story, "lessons_of", lambda service, adapter: [])
    service = Service(tmp_path / "service.yaml", tmp_path)
    service.url = f"http://127.0.0.1:{fake.server.server_port}"
    measured = Measured("m", "e", "small")
    show = Show(Console(file=(tmp_path / "out.txt").open("w"), width=200))
    asyncio.run(story.tell(service, CONFIG, SMALL, 1, measured, show, time.perf_counter()))
    return measured


def test_the_story_is_told_and_every_figure_is_in_the_report(
    fake: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = tell(fake, tmp_path, monkeypatch)
    report = build(measured)
    row = report["skills"]["three_sums"]
    assert (row["n_heldout"], row["s1_before"], row["s1_after"], row["s2"]) == (8, 0.0, 1.0, 1.0)
    assert (row["system1_share_before"], row["system1_share_after"]) == (0.0, 1.0)
    assert (row["tokens_before"], row["tokens_after"]) == (104, 4)
    assert report["swap"]["requests_during"] > 0
    assert report["swap"]["failed"] == 0
    assert report["swap"]["load_s"] == 0.1
    assert (report["adapter"], report["model"], report["train_s"]) == ("sn-0001-abc", "fake-base", 0.5)
    assert [point["s1"]["three_sums"] for point in report["curve"]] == [0.0, 1.0]
    assert complaints(report) == []
    json.dumps(report)


def test_the_service_is_never_sent_a_gold_answer_nor_a_measured_question_for_learning(
    fake: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(fake, tmp_path, monkeypatch)
    before = [mode for text, mode in fake.asked]
    held = {q.text for q in story.plan(SMALL, CONFIG, 1).measured}
    first_auto_of_held = next(i for i, (text, mode) in enumerate(fake.asked) if text in held and mode == "auto")
    assert before[:1] == ["auto"]
    assert first_auto_of_held > len(fake.asked) // 2, "held-out questions may be thought through after the night alone"
    assert all(text in TRUTH for text, _ in fake.asked)


def test_a_rejected_candidate_and_a_loss_are_complained_about(
    fake: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.outcome = "rejected"
    report = build(tell(fake, tmp_path, monkeypatch))
    report["skills"]["reviews"] |= {"s1_before": 1.0, "s1_after": 0.9}
    said = " ".join(complaints(report))
    assert "not promoted: better" in said
    assert "reviews lost 10%" in said


def test_a_smoke_run_whose_gate_saw_no_sure_gain_is_no_failure_and_any_other_refusal_is() -> None:
    passed, no_gain, lost = ("keep sums", True, "kept"), ("gain", False, "no gain"), ("keep sums", False, "lost")
    report = {"outcome": "rejected", "reason": "no gain", "skills": {}, "swap": {"failed": 0}, "size": "small"}
    smoke = report | {"gate": {"checks": [no_gain, passed]}}
    assert (too_few_to_tell(smoke), complaints(smoke)) == (True, [])
    for other in ({"size": "full"}, {"gate": {"checks": [no_gain, lost]}}, {"gate": None}, {"outcome": "failed"}):
        assert len(complaints(smoke | other)) == 1, other


def test_a_failed_night_ends_the_demo_with_its_reason(
    fake: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.outcome = "failed"
    with pytest.raises(DemoFailed, match=r"night failed: better"):
        tell(fake, tmp_path, monkeypatch)


def test_a_service_that_ends_is_told_with_its_last_words(tmp_path: Path) -> None:
    service = Service(tmp_path / "missing.yaml", tmp_path / "state")
    with service:
        assert service._child is not None
        assert service._child.wait(60) != 0
        with pytest.raises(DemoFailed, match=r"missing\.yaml does not exist"):
            service.missing()


def test_requests_that_all_fail_end_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(tmp_path / "service.yaml", tmp_path)
    monkeypatch.setattr(service, "missing", lambda: None)
    service.url = "http://127.0.0.1:9"
    measured = Measured("m", "e", "small")
    size = Size(day={"three_sums": 12}, measured={"three_sums": 12}, auto=4)
    show = Show(Console(file=(tmp_path / "out.txt").open("w")))
    with pytest.raises(DemoFailed, match=r"no question is answered"):
        asyncio.run(story.tell(service, CONFIG, size, 1, measured, show, time.perf_counter()))


@pytest.mark.parametrize("skill", list(DRAWS))
def test_questions_are_recognised_distinct_seeded_and_split(skill: str) -> None:
    day, measured = split(SKILLS[skill], 100, 40, CONFIG.heldout_share, seed=3)
    texts = [q.text for q in (*day, *measured)]
    assert len(texts) == len(set(texts)) == 140
    assert all(is_heldout(key(q.text), CONFIG.heldout_share) for q in measured)
    assert any(is_heldout(key(q.text), CONFIG.heldout_share) for q in day), "the gate needs some held-out questions"
    assert (day, measured) == split(SKILLS[skill], 100, 40, CONFIG.heldout_share, seed=3)
    assert {recognise([{"role": "user", "content": t}], None, CONFIG.skills).name for t in texts} == {skill}


@pytest.mark.parametrize("skill", list(DRAWS))
def test_gold_answers_are_right_when_read_as_the_service_reads(skill: str) -> None:
    settings = SKILLS[skill]
    question = next(distinct(skill, 5))
    assert right(question, f"The answer is {question.gold}.", settings)
    assert not right(question, "I do not know", settings)


def test_worked_examples_are_no_question_of_the_demo() -> None:
    examples = {e.question for s in CONFIG.skills for e in s.examples}
    plan = story.plan(SIZES["full"], CONFIG, 1)
    asked = {q.text for q in (*itertools.chain(*plan.days), *plan.measured, *plan.traffic)}
    assert len(examples) > 10
    assert not examples & asked


def test_every_size_has_settings_and_enough_questions(tmp_path: Path) -> None:
    for name, size in SIZES.items():
        config = prepare(tmp_path, size, None)
        plan = story.plan(size, config, 1)
        assert sum(map(len, plan.days)) == sum(size.day.values()), name
        assert len(plan.measured) == sum(size.measured.values()), name
        assert config.train.epochs == size.epochs


def answered(right: bool = True, system: str = "system1", seconds: float = 1.0, reply: str | None = "1") -> Answered:
    question = Question("three_sums", "What is 1 + 1 + 1?", "3")
    return Answered(question, reply, right, system, None, 10, seconds, 0.0, "ep")


def test_figures_of_answers() -> None:
    answers = [answered(), answered(right=False, system="system2"), answered(right=False, reply=None, system="")]
    assert accuracy(answers) == pytest.approx(1 / 3)
    assert system1_share(answers) == 0.5
    assert mean_tokens(answers) == 10
    assert accuracy([]) is None
    assert percentile_seconds([answered(seconds=s / 100) for s in range(100)], 0.99) == 0.99


def test_precision_counts_lessons_whose_truth_is_known() -> None:
    def lesson(episode: str, answer: str) -> Lesson:
        return Lesson(episode, "s", "demo", "k", (), answer, AnswerType.NUMBER, "cot", 4, 4, 1.0, 0.0)

    gold = {"a": "3", "b": "1,000"}
    assert precision([lesson("a", "3"), lesson("b", "1000"), lesson("a", "4"), lesson("x", "9")], gold) == 2 / 3
    assert precision([lesson("x", "9")], gold) is None


class Wellformed(HTMLParser):
    """Open tags, and what the page would load from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.outside += [v or "" for k, v in attrs if k in ("src", "href")]
        if tag not in ("meta", "line", "circle", "path"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_well_formed_self_contained_and_says_its_pictures_in_words(
    fake: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = build(tell(fake, tmp_path, monkeypatch)) | {"reason": "<script>alert(1)</script>"}
    made = page(report)
    parser = Wellformed()
    parser.feed(made.replace("/>", ">"))
    assert parser.open == []
    assert parser.outside == []
    assert "<script" not in made
    assert "three sums: System 1 0 % before and 100 % after" in made
    assert "prefers-color-scheme: dark" in made


def test_the_table_has_a_row_for_each_skill(fake: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = Console(width=200, record=True, file=(tmp_path / "table.txt").open("w"))
    out.print(table(build(tell(fake, tmp_path, monkeypatch))))
    text = out.export_text()
    assert "three_sums" in text
    assert "0 → 100 %" in text


def test_labels_do_not_touch() -> None:
    placed = sorted(_spread([100.0, 101.0, 99.0, 280.0, 289.0]))
    assert min(b - a for a, b in itertools.pairwise(placed)) >= 18.0


def test_a_folder_that_is_not_a_demos_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    with pytest.raises(DemoFailed, match="something else"):
        clear(tmp_path)
    assert (tmp_path / "precious").exists()


def test_ended_by_sigterm_it_ends_as_interrupted_and_so_its_service_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["bench.demo", "--state", str(tmp_path / "demo")])
    monkeypatch.setattr("bench.demo.__main__.run", lambda *_: signal.raise_signal(signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert main() == 130
    finally:
        signal.signal(signal.SIGTERM, before)
    assert "the daemon is ended" in capsys.readouterr().out


def test_an_earlier_run_is_cleared_away(tmp_path: Path) -> None:
    clear(tmp_path / "demo")
    (tmp_path / "demo" / "report.json").write_text("{}")
    clear(tmp_path / "demo")
    assert [p.name for p in (tmp_path / "demo").iterdir()] == ["demo"]


def test_more_questions_are_of_every_skill_and_never_lessons() -> None:
    asked = fresh(CONFIG.skills, 5, 0.15, seed=4242)
    assert [sum(q.skill == skill for q in asked) for skill in SKILLS] == [5] * len(SKILLS)
    assert len({q.text for q in asked}) == len(asked)
    assert all(is_heldout(key(q.text), 0.15) for q in asked)
