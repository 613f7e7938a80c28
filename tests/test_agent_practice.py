"""Practice from the command's side: a real daemon over a scripted engine that is full, restarts or goes away."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console
from typer.testing import CliRunner

from adapters.model import ModelFolder
from adapters_fakes import BASE
from agent.cli.commands import app as commands
from agent.daemon import Daemon
from agent.engine.client import Sampling
from agent.engine.supervisor import free_port
from agent.http.keys import create
from agent.patience import Patience, duration
from agent.practice import BATCH, Wanted, batches, progress, run, seconds_left
from agent.prompts import Prompt
from console_service import running
from day_fakes import ScriptedEngine, settings
from memory.errors import BadInput, SecondNatureError, Unavailable
from memory.records import Completion, Message
from memory.store import Memory

SMALL = {"requests_per_minute": 60, "burst": 5, "concurrent": 2}


def script(model: str, text: str) -> str:
    return "8" if "Number only" in text else "Step by step it makes 8. The answer is 8."


class Slow(ScriptedEngine):
    """Takes a moment for each answer."""

    def __init__(self, seconds: float = 0.02) -> None:
        super().__init__(script)
        self.seconds = seconds

    async def chat(
        self, model: str, messages: Sequence[Message], sampling: Sampling, *, priority: int = 0
    ) -> tuple[Completion, ...]:
        await asyncio.sleep(self.seconds)
        return await super().chat(model, messages, sampling, priority=priority)


@dataclass(frozen=True)
class Running:
    url: str
    daemon: Daemon


@contextmanager
def service(state_dir: Path, engine: ScriptedEngine, port: int = 0, **more: Any) -> Iterator[Running]:
    config = settings(state_dir=str(state_dir), model="none", engine={"urls": ["http://127.0.0.1:9"]}, **more)
    with Memory.open(state_dir) as memory:
        daemon = Daemon(config, ModelFolder(str(state_dir), BASE, "folder", "scripted"), memory)
        daemon.engine = engine
        daemon.fleet.waiting = None
        daemon.day = daemon.night.day = replace(daemon.day, engine=engine)
        with running(daemon, config, port) as url:
            yield Running(url, daemon)


def sums(n: int) -> list[Prompt]:
    return [({"role": "user", "content": f"What is {i} + 5?"},) for i in range(n)]


async def practise(url: str, prompts: list[Prompt], **more: Any) -> tuple[dict[str, Any], str]:
    """The counts, and what was told on standard error."""
    told = io.StringIO()
    wanted = Wanted(**{name: more.pop(name) for name in ("skill", "source", "at_once") if name in more})
    done = await run(url, more.pop("key", None), prompts, wanted, Console(file=told, width=200), **more)
    return done, told.getvalue()


async def test_more_at_once_than_the_service_admits(tmp_path: Path) -> None:
    room = {"system2_active": 2, "system2_waiting": 3}
    with service(tmp_path, Slow(0.05), admission=room, limits=SMALL) as one:
        going = asyncio.create_task(practise(one.url, sums(30), at_once=15))
        await asyncio.sleep(0.3)
        async with httpx.AsyncClient(base_url=one.url, timeout=60) as http:
            body = {
                "model": "secondnature",
                "mode": "system2",
                "messages": [{"role": "user", "content": "What is 3 + 5?"}],
            }
            assert (await http.post("/v1/chat/completions", json=body)).status_code == 200, "a person finds room"
        done, _ = await going
    assert done == {"prompts": 30, "known": 0, "train": 30, "serve": 0, "none": 0, "failed": 0}


async def test_a_request_may_wait_longer_for_its_turn_than_an_answer_may_take(tmp_path: Path) -> None:
    with service(tmp_path, Slow(0.1), admission={"system2_active": 1}, limits={"request_s": 0.3}) as one:
        done, _ = await practise(one.url, sums(8), at_once=8)
    assert (done["train"], done["failed"]) == (8, 0)


async def test_known_prompts_are_passed_over_at_any_rate(tmp_path: Path) -> None:
    engine = ScriptedEngine(script)
    with service(tmp_path, engine, limits=SMALL) as one:
        await practise(one.url, sums(500))
        asked, started = len(engine.asked), time.monotonic()
        done, _ = await practise(one.url, sums(510))
    assert done == {"prompts": 510, "known": 500, "train": 510, "serve": 0, "none": 0, "failed": 0}
    assert len(engine.asked) - asked == 20, "a draft and a thought for each new one"
    assert time.monotonic() - started < 20, "60 a minute would be minutes"


async def test_peoples_requests_are_counted_without_practice(tmp_path: Path) -> None:
    body = {"model": "secondnature", "messages": sums(1)[0]}
    with service(tmp_path, Slow(0.2), limits=SMALL | {"requests_per_minute": 1}) as one:
        going = asyncio.create_task(practise(one.url, sums(40), at_once=20))
        async with httpx.AsyncClient(base_url=one.url, timeout=60) as http:
            await asyncio.sleep(0.3)
            said = [await http.post("/v1/chat/completions", json=body) for _ in range(5)]
            refused = await http.post("/v1/chat/completions", json=body)
        done, _ = await going
    assert [one.status_code for one in said] == [200] * 5
    assert (refused.status_code, done["failed"]) == (429, 0)


async def test_the_service_goes_away_and_comes_back(tmp_path: Path) -> None:
    port = free_port()
    with service(tmp_path, Slow(), port) as one:
        going = asyncio.create_task(practise(one.url, sums(100), at_once=4))
        while one.daemon.memory.counts()["episodes"] < 10:
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.5)
    assert not going.done()
    with service(tmp_path, Slow(0.0), port) as one:
        done, _ = await going
        assert (done["train"], done["failed"]) == (100, 0)
        assert one.daemon.memory.counts()["episodes"] == 100


async def test_a_service_that_stays_away_ends_the_run_and_the_same_command_goes_on(tmp_path: Path) -> None:
    with service(tmp_path, Slow()) as one:
        going = asyncio.create_task(practise(one.url, sums(200), at_once=4, gone_s=0.5))
        while one.daemon.memory.counts()["episodes"] < 10:
            await asyncio.sleep(0.02)
    with pytest.raises(Unavailable) as caught:
        await going
    assert "has not answered for" in caught.value.message
    assert "of 200 prompts are answered and remembered: the same command goes on with the rest" in caught.value.message
    with service(tmp_path, Slow(0.0)) as one:
        done, _ = await practise(one.url, sums(200))
    assert done["known"] >= 10
    assert done["train"] == 200


async def test_where_nothing_ever_answered_it_ends_at_once() -> None:
    with pytest.raises(Unavailable, match="secondnature serve"):
        await practise(f"http://127.0.0.1:{free_port()}", sums(2))


async def test_a_prompt_that_fails_for_a_reason_of_its_own_is_told(tmp_path: Path) -> None:
    long: Prompt = ({"role": "user", "content": "What is " + "1 + " * 200 + "1?"},)
    huge: Prompt = ({"role": "user", "content": "x" * 2000},)
    with service(tmp_path, ScriptedEngine(script), limits={"prompt_chars": 500, "body_bytes": 1500}) as one:
        done, told = await practise(one.url, [*sums(3), long, huge])
    assert (done["train"], done["failed"]) == (3, 2)
    assert "the messages have" in told
    assert "the body is larger than 1500 bytes" in told


async def test_an_unknown_skill_is_an_error_that_names_the_skills(tmp_path: Path) -> None:
    with service(tmp_path, ScriptedEngine(script)) as one:
        with pytest.raises(BadInput, match=r"there is no skill 'sum'; did you mean 'sums'\? The skills are: sums"):
            await practise(one.url, sums(2), skill="sum")
        assert (await practise(one.url, sums(2), skill="sums"))[0]["train"] == 2


async def test_a_key_that_may_only_ask_may_not_practise(tmp_path: Path) -> None:
    with service(tmp_path, ScriptedEngine(script)) as one:
        create(one.daemon.memory, "operate")
        asker = create(one.daemon.memory, "ask")
        with pytest.raises(SecondNatureError, match="role 'operate'"):
            await practise(one.url, sums(2), key=asker.secret)


async def test_the_command_practises_a_file(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("\n".join(prompt[0]["content"] for prompt in sums(5)))
    words = ["practice", str(file), "--skill", "sums", "--json", "--url"]
    with service(tmp_path / "state", ScriptedEngine(script)) as one:
        said = await asyncio.to_thread(CliRunner().invoke, commands, [*words, one.url])
    assert said.exit_code == 0, (said.output, said.exception)
    assert '"train": 5' in said.stdout


class Answers:
    """A service that says what it is told to, and a clock that sleeping moves on."""

    def __init__(self, *said: httpx.Response | httpx.TransportError) -> None:
        self.said, self.now, self.told = list(said), 0.0, list[str]()
        client = httpx.AsyncClient(transport=httpx.MockTransport(self.answer), base_url="http://service")
        self.patience = Patience(client, self.told.append, clock=lambda: self.now, sleep=self.sleep)

    def answer(self, request: httpx.Request) -> httpx.Response:
        said = self.said.pop(0)
        if isinstance(said, httpx.TransportError):
            raise said
        return said

    async def sleep(self, seconds: float) -> None:
        self.now += seconds

    async def status(self) -> int:
        return (await self.patience.post("/", {})).status_code


def refusal(status: int, why: str, after_s: int | None = None) -> httpx.Response:
    headers = {} if after_s is None else {"Retry-After": str(after_s)}
    return httpx.Response(status, json={"error": {"message": why}}, headers=headers)


async def test_a_wait_until_midnight_is_told_once_and_looked_at_every_minute() -> None:
    spent = [refusal(429, "this key has used its tokens of today", 7500 - 60 * n) for n in range(10)]
    one = Answers(*spent, httpx.Response(200), httpx.Response(200))
    assert [await one.status(), await one.status()] == [200, 200]
    assert one.told == ["waiting, 2 h 5 min if nothing changes: this key has used its tokens of today", "going on"]
    assert one.now == 600


async def test_short_waits_are_not_told_but_their_sum_is() -> None:
    one = Answers(*[refusal(503, "the engine restarts", 3) for _ in range(8)], httpx.Response(200))
    assert await one.status() == 200
    assert one.told == ["waiting, 3 s if nothing changes: the engine restarts", "going on"]
    brief = Answers(refusal(429, "full", 2), httpx.Response(200))
    assert (await brief.status(), brief.told) == (200, [])


async def test_what_takes_too_long_is_tried_three_times_and_a_full_disk_ends_it() -> None:
    late = Answers(*[refusal(504, "too slow") for _ in range(4)])
    assert (await late.status(), len(late.said)) == (504, 1)
    with pytest.raises(SecondNatureError, match="disk full"):
        await Answers(refusal(507, "disk full")).status()


async def test_silence_is_borne_for_a_minute_from_the_last_answer_on() -> None:
    away = [httpx.ConnectError("refused") for _ in range(40)]
    one = Answers(httpx.Response(200), *away[:25], httpx.Response(200), *away)
    assert [await one.status(), await one.status()] == [200, 200]
    with pytest.raises(Unavailable, match=r"has not answered for 60 s \(refused\)"):
        await one.status()


def test_the_line_tells_what_was_known_from_what_was_done_and_the_time_left() -> None:
    assert seconds_left(0, 10, 5.0) is None
    assert seconds_left(4, 10, 8.0) == 12.0
    assert seconds_left(10, 10, 8.0) == 0.0
    assert progress(0, {}, 10, 0.0) == ""
    assert progress(60, {}, 100, 0.0) == "60 known before"
    assert progress(60, {"train": 8, "failed": 2}, 100, 20.0) == "60 known before, 8 train, 2 failed, 60 s left"
    assert progress(0, {"serve": 10}, 10, 20.0) == "10 serve"
    assert [duration(s) for s in (0.4, 59, 99, 100, 3599, 7500)] == [
        "0 s",
        "59 s",
        "99 s",
        "2 min",
        "1 h 0 min",
        "2 h 5 min",
    ]


def test_prompts_are_looked_up_in_batches_that_a_body_holds() -> None:
    few, many = sums(3), sums(BATCH + 1)
    large: Prompt = ({"role": "user", "content": "x" * 300_000},)
    assert list(batches([])) == []
    assert [len(batch) for batch in batches(many)] == [BATCH, 1]
    assert list(batches([*few, large, *few])) == [few, [large], few]
