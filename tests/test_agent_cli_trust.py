"""Keys, quarantine, forgetting, backups: through the command line without a service, and through the service's own
routes with one; what follows for the adapters in both."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import orjson
import pytest
from typer.testing import CliRunner

from adapters.model import ModelFolder
from agent import trust
from agent.cli.commands import app as commands
from agent.daemon import Daemon
from agent.forget import SPOILED, forget_running, retire_learners
from agent.http import guard
from agent.http.app import build, no_lifespan
from agent.http.keys import LOCAL
from agent.in_force import InForce
from agent.known import known, quarantine_conflicts
from agent.learn import Night
from agent.trust import TrustSettings, daily
from day_fakes import ScriptedEngine, day
from memory.errors import BadInput, Conflict, NotFound, SecondNatureError
from memory.records import AdapterStatus
from memory.store import Memory
from memory_fakes import adapter, audit, episode, lesson
from policies.curate import curate
from policies.curation import Reason

SECRET = "the blue heron flies at noon"
BASE = "sn-0001-000001", "sn-0002-000002"


def furnish(memory: Memory) -> None:
    """Four episodes of mallory and six of alice; adapter 2, the live one, learnt one of mallory's, adapter 1 none."""
    for n in range(10):
        memory.remember(episode(n, source="mallory" if n < 4 else "alice"))
    memory.remember(episode(10, reply=SECRET, source="alice"))
    memory.remember_audit(audit(episode(1)))
    for number in (1, 2):
        memory.add_adapter(adapter(number))
        folder = memory.state_dir / "adapters" / adapter(number).name
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text("{}")
        memory.make_live(adapter(number).name, "better")
    memory.record_lessons(BASE[0], [lesson(episode(7))])
    memory.record_lessons(BASE[1], [lesson(episode(1)), lesson(episode(7))])
    night = memory.state_dir / "nights" / "0002"
    night.mkdir(parents=True)
    (night / "lessons.jsonl").write_text(SECRET)
    memory.flush()


def run(state_dir: Path, *words: str, code: int = 0) -> Any:
    """One command with --json, on a folder that no service serves; gives what it printed."""
    said = CliRunner().invoke(commands, [*words, "--json", "--state-dir", str(state_dir)])
    assert said.exit_code == code, (said.output, said.exception)
    return orjson.loads(said.stdout)


def refused(state_dir: Path, *words: str) -> str:
    said = CliRunner().invoke(commands, [*words, "--state-dir", str(state_dir)])
    assert isinstance(said.exception, SecondNatureError)
    return said.exception.message


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with Memory.open(tmp_path) as memory:
        furnish(memory)
    return tmp_path


def test_keys_are_made_listed_and_revoked_without_a_service(tmp_path: Path) -> None:
    assert "operate first" in refused(tmp_path, "keys", "create", "--role", "ask")
    first = run(tmp_path, "keys", "create", "--role", "operate", "--note", "me")
    shop = run(tmp_path, "keys", "create", "--role", "ask", "--vouches", "--requests-per-minute", "60", "--burst", "5")
    assert first["secret"].startswith("sn-")
    assert shop["vouches"]
    assert shop["limits"] == {"requests_per_minute": 60.0, "burst": 5}
    run(tmp_path, "keys", "revoke", shop["id"], "--why", "it leaked")
    rows = run(tmp_path, "keys", "list")
    assert [(r["id"], r["revoked_at"] is not None) for r in rows] == [(first["id"], False), (shop["id"], True)]
    assert all("secret" not in row and "hash" not in row for row in rows)
    assert not any(first["secret"].encode() in p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    assert "no role" in refused(tmp_path, "keys", "create", "--role", "king")
    with Memory.open(tmp_path) as memory:
        assert [event.what for event in memory.events()] == ["revoke key", "create key", "create key"]


def test_quarantine_lists_explains_releases_and_deletes(folder: Path) -> None:
    for name in ("ep-00000001", "ep-00000002"):
        run(folder, "quarantine", "add", name, "--why", "odd")
    assert {row["episode_id"] for row in run(folder, "quarantine", "list")} == {"ep-00000001", "ep-00000002"}
    shown = run(folder, "quarantine", "show", "ep-00000001")
    assert (shown["reason"], shown["answer"], shown["adapters"]) == ("by command line: odd", "184", [BASE[1]])
    run(folder, "quarantine", "release", "ep-00000002")
    done = run(folder, "quarantine", "delete", "ep-00000001")
    assert done["retired"] == [BASE[1]]
    assert run(folder, "quarantine", "list") == []
    assert "not in quarantine" in refused(folder, "quarantine", "delete", "ep-00000005")


def test_forgetting_a_source_puts_the_adapter_before_in_force(folder: Path) -> None:
    done = run(folder, "forget", "--source", "mallory", "--why", "asked for")
    assert (done["receipt"]["adapters"], done["retired"], done["answers"]) == ([BASE[1]], [BASE[1]], BASE[0])
    assert not (folder / "adapters" / BASE[1]).exists()
    assert (folder / "adapters" / BASE[0]).exists()
    assert not list((folder / "nights").rglob("lessons.jsonl"))
    assert run(folder, "forget", "verify", done["receipt"]["id"], "--what", "mallory")["ok"]
    assert not run(folder, "forget", "verify", done["receipt"]["id"], "--what", "bob", code=1)["ok"]
    assert [row["id"] for row in run(folder, "forget", "list")] == [done["receipt"]["id"]]
    with Memory.open(folder) as memory:
        assert memory.adapter(BASE[1]).status is AdapterStatus.QUARANTINED
        assert "mallory" not in str(memory.events())


def test_what_both_adapters_learnt_leaves_the_base(folder: Path) -> None:
    done = run(folder, "forget", "--episode", "ep-00000007")
    assert set(done["retired"]) == set(BASE)
    assert done["answers"] is None


def test_a_text_is_forgotten_and_no_adapter_suffers(folder: Path) -> None:
    done = run(folder, "forget", "--text", SECRET.upper())
    assert (done["receipt"]["counts"]["episodes"], done["retired"], done["answers"]) == (1, [], BASE[1])
    left = [path for path in folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert left == []


def test_what_cannot_be_forgotten_is_said(folder: Path) -> None:
    assert "exactly one" in refused(folder, "forget")
    assert "exactly one" in refused(folder, "forget", "--source", "a", "--episode", "b")
    assert "nothing is held" in refused(folder, "forget", "--source", "nobody")


def test_at_night_the_adapters_wait(folder: Path) -> None:
    (folder / "service.yaml").write_text("trust: {retire: at_night}")
    done = run(folder, "forget", "--source", "mallory", "--config", str(folder / "service.yaml"))
    assert (done["retired"], done["waiting"], done["answers"]) == ([], [BASE[1]], BASE[1])


def test_all_that_is_held_about_a_source(folder: Path) -> None:
    path = folder / "held.json"
    said = CliRunner().invoke(commands, ["held", "--source", "mallory", "--out", str(path), "-s", str(folder)])
    assert said.exit_code == 0
    held = orjson.loads(path.read_bytes())
    assert (len(held["episodes"]), held["adapters"]) == (4, [BASE[1]])


def test_backup_and_restore(folder: Path) -> None:
    made = Path(run(folder, "backup")["backup"])
    run(folder, "forget", "--episode", "ep-00000005")  # scrubs the backup too
    (folder / "secondnature.db").write_bytes(b"damaged")
    restored = run(folder, "restore", made.name)
    assert (restored["memory"]["episodes"], restored["valid_keys"]) == (10, [])
    with Memory.open(folder) as memory, pytest.raises(NotFound):
        memory.episode("ep-00000005")


def test_a_restore_is_refused_while_somebody_holds_the_folder(folder: Path) -> None:
    with Memory.open(folder) as memory:
        memory.backup()
        assert "in use by process" in refused(folder, "restore")


def test_the_daily_job_blanks_old_text_and_makes_one_backup_a_day(tmp_path: Path) -> None:
    with Memory.open(tmp_path) as memory:
        memory.remember(episode(1, asked_at=1_000.0))
        done = daily(memory, TrustSettings(keep_text_days=30))
        assert done["blanked"] == 1
        assert Path(done["backup"]).exists()
        assert daily(memory, TrustSettings(keep_text_days=30)) == {"blanked": 0, "backup": None}
        assert daily(memory, TrustSettings(backup_daily=False)) == {"blanked": 0, "backup": None}
        assert memory.episode("ep-00000001").reply == ""


class Served:
    """What forgetting needs of a daemon, over a scripted engine and a real memory."""

    def __init__(self, state_dir: Path, **more: Any) -> None:
        self.engine = ScriptedEngine(lambda model, text: "8")
        self.day = day(state_dir, self.engine, **more)
        self.memory, self.config = self.day.memory, self.day.config
        self.night = Night(self.day, ModelFolder(state_dir, "base@1", "test", "base"))
        self.adapters_dir = state_dir / "adapters"
        self.tasks: list[asyncio.Task[Any]] = []
        self.fails = False

    def spawn(self, work: Any) -> asyncio.Task[Any]:
        self.tasks.append(asyncio.create_task(work))
        return self.tasks[-1]

    def not_at_night(self) -> None:
        return None

    def verified(self, one: Any) -> Path:
        if self.fails:
            raise NotFound("its folder is gone")
        return self.adapters_dir / one.name

    rollback = Daemon.rollback


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    one = Served(tmp_path)
    furnish(one.memory)
    one.day.pointer.flip(InForce(one.memory.live()))
    yield one
    one.memory.close()


async def test_the_running_service_answers_without_the_adapter_at_once(served: Served) -> None:
    with served.day.pointer.hold():
        done = await forget_running(served, {"source": "mallory"}, "me", "asked for")  # type: ignore[arg-type]
        now = served.day.pointer.now.adapter
        assert (done.retired, done.answers, now and now.name) == ((BASE[1],), BASE[0], BASE[0])
        assert (served.adapters_dir / BASE[1]).exists(), "a request still answers under it"
    await asyncio.gather(*served.tasks)
    assert not (served.adapters_dir / BASE[1]).exists()
    assert served.memory.adapter(BASE[1]).status is AdapterStatus.QUARANTINED


async def test_the_base_answers_where_the_adapter_before_cannot_be_used(served: Served) -> None:
    served.fails = True
    done = await forget_running(served, {"source": "mallory"}, "me", "")  # type: ignore[arg-type]
    assert (done.answers, served.day.pointer.now.adapter) == (None, None)


async def test_at_night_the_adapter_answers_until_the_next_night_is_over(tmp_path: Path) -> None:
    served = Served(tmp_path, trust={"retire": "at_night"})
    furnish(served.memory)
    served.day.pointer.flip(InForce(served.memory.live()))
    done = await forget_running(served, {"source": "mallory"}, "me", "")  # type: ignore[arg-type]
    assert (done.waiting, done.answers) == ((BASE[1],), BASE[1])
    assert await retire_learners(served, "at night") == [BASE[1]]  # type: ignore[arg-type]
    assert served.day.pointer.now.adapter.name == BASE[0]
    served.memory.close()


async def test_a_night_that_runs_while_something_is_forgotten_is_discarded(served: Served) -> None:
    await forget_running(served, {"source": "mallory"}, "me", "")  # type: ignore[arg-type]
    assert served.night.spoiled == SPOILED
    with pytest.raises(Conflict, match="forgotten"):
        await served.night._distil([lesson(episode(1))], [])
    assert not list((served.memory.state_dir / "nights").rglob("lessons.jsonl"))
    with pytest.raises(Conflict, match="forgotten"):
        served.night._register(SimpleNamespace(name="sn-0003-000003"), [lesson(episode(1))])  # type: ignore[arg-type]
    served.night.spoiled = None
    with pytest.raises(NotFound):
        await forget_running(served, {"source": "nobody"}, "me", "")  # type: ignore[arg-type]
    assert served.night.spoiled is None, "a wish that changed nothing discards no night"


async def test_contradicting_twins_go_into_quarantine_and_a_later_twin_waits(served: Served) -> None:
    memory = served.memory
    curate_settings = served.config.curate.model_copy(update={"single_user": True, "match_pattern": False})
    ask = episode(3).ask.messages
    memory.remember(episode(20, messages=ask, deliberation=audit(episode(20), "185").deliberation))
    memory.flush()

    def night() -> list[tuple[str, Reason]]:
        taught = memory.taught(heldout=None)
        before = known(served.day, taught)
        curation = curate(taught, curate_settings, before)
        assert quarantine_conflicts(memory, taught, curation, before) in (0, 2)
        return [(drop.episode_id, drop.code) for drop in curation.dropped if drop.code is Reason.CONFLICT]

    assert night() == [("ep-00000003", Reason.CONFLICT), ("ep-00000020", Reason.CONFLICT)]
    told = [row.reason for row in memory.quarantined()]
    assert len(told) == 2
    assert not any(answer in reason for reason in told for answer in ("184", "185")), "it would outlive the answer"
    memory.remember(episode(21, messages=ask))
    memory.flush()
    assert night() == [("ep-00000021", Reason.CONFLICT)]
    assert {row.episode_id for row in memory.quarantined()} == {"ep-00000003", "ep-00000020"}
    memory.forget(episode_id="ep-00000020")
    memory.release("ep-00000003")
    assert night() == []


async def test_a_correction_takes_a_lesson_out_and_praise_brings_none_in(served: Served) -> None:
    memory = served.memory
    memory.remember_feedback("ep-00000001", None, "it is 185", "alice")
    memory.remember_feedback("ep-00000002", 0.6, None, "alice")
    memory.remember_feedback("ep-00000003", 1.0, "184", "alice")
    memory.flush()
    found = known(served.day, memory.taught(heldout=None)).weights
    assert found == {"ep-00000001": 0.0, "ep-00000002": 0.6, "ep-00000003": 1.0}


async def test_held_out_questions_close_their_twins_whatever_system_answered(served: Served) -> None:
    held = episode(30, heldout=True, deliberation=None)
    served.memory.remember(held)
    served.memory.flush()
    assert held.ask.messages in known(served.day, []).heldout


@pytest.fixture
async def http(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    app = build(served.config, no_lifespan())
    app.state.daemon = served
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        yield client


async def test_the_routes_do_what_the_commands_do(http: httpx.AsyncClient) -> None:
    assert (await http.post("/api/keys", json={"role": "ask"})).status_code == 409
    made = await http.post("/api/keys", json={"role": "operate", "limits": {"burst": 7}})
    assert made.headers["cache-control"] == "no-store"
    http.headers["Authorization"] = f"Bearer {made.json()['secret']}"
    listed = (await http.get("/api/keys")).json()
    assert [(row["limits"], "secret" in row) for row in listed] == [({"burst": 7}, False)]
    assert (await http.post("/api/quarantine/ep-00000001", json={"why": "odd"})).json()["votes"] == {"184": 4}
    assert len((await http.get("/api/quarantine")).json()) == 1
    assert (await http.get("/api/quarantine/ep-00000001")).json()["adapters"] == [BASE[1]]
    assert (await http.post("/api/quarantine/ep-00000001/release", json={})).json()["released"]
    assert len((await http.get("/api/held", params={"source": "mallory"})).json()["episodes"]) == 4
    assert (await http.post("/api/backup")).json()["backup"].endswith(".db")
    done = (await http.post("/api/forget", json={"source": "mallory"})).json()
    assert (done["retired"], done["answers"]) == ([BASE[1]], BASE[0])
    receipt = done["receipt"]["id"]
    assert [row["id"] for row in (await http.get("/api/receipts")).json()] == [receipt]
    assert (await http.post(f"/api/receipts/{receipt}/verify", json={"what": "mallory"})).json()["ok"]
    assert (await http.post("/api/forget", json={"source": "a", "text": "long enough"})).status_code == 400


async def test_each_role_reaches_as_far_as_it_should(http: httpx.AsyncClient, served: Served) -> None:
    keys = {role: trust.new_key(served.memory, role, "me")["secret"] for role in ("operate", "audit", "ask")}
    changes = ("/api/forget", "/api/keys", "/api/backup", "/api/quarantine/ep-00000001")
    for role, may in (("audit", False), ("ask", False), ("operate", True)):
        http.headers["Authorization"] = f"Bearer {keys[role]}"
        codes = [(await http.post(path, json={})).status_code for path in changes]
        assert (403 not in codes) is may, (role, codes)
        assert ((await http.get("/api/quarantine")).status_code == 200) is (role != "ask")
        practised = {
            "model": "secondnature",
            "messages": [{"role": "user", "content": "What is 3 + 5?"}],
            "practice": True,
        }
        said = await http.post("/v1/chat/completions", json=practised)
        assert (said.status_code == 200) is may, "practised questions are exempt from the caps on sources"
    assert LOCAL.role == "operate"


@pytest.fixture
def listening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder whose note names a service; what the command line sends to it is answered by the routes."""
    one = Served(tmp_path)
    furnish(one.memory)
    one.day.pointer.flip(InForce(one.memory.live()))
    app = build(one.config, no_lifespan())
    app.state.daemon = one
    (tmp_path / "service.json").write_bytes(orjson.dumps({"url": "http://localhost", "pid": os.getpid()}))

    def request(method: str, url: str, **given: Any) -> httpx.Response:
        async def send() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
                said = await client.request(method, url, **given)
            await asyncio.gather(*one.tasks)
            one.tasks.clear()
            return said

        return asyncio.run(send())

    monkeypatch.setattr(httpx, "request", request)
    monkeypatch.setattr(guard, "KEY_CACHE_S", 0.0)  # the first key counts at once, and not within two seconds
    yield tmp_path  # type: ignore[misc]
    one.memory.close()


def test_the_same_commands_go_through_a_running_service(listening: Path) -> None:
    run(listening, "quarantine", "add", "ep-00000008")
    assert run(listening, "quarantine", "show", "ep-00000008")["source"] == "alice"
    assert Path(run(listening, "backup")["backup"]).exists()
    done = run(listening, "forget", "--source", "mallory")
    assert (done["retired"], done["answers"]) == ([BASE[1]], BASE[0])
    assert run(listening, "forget", "verify", done["receipt"]["id"])["ok"]
    assert "in use by process" in refused(listening, "restore")
    made = run(listening, "keys", "create", "--role", "operate")
    assert "API key is needed" in refused(listening, "keys", "list")
    assert len(run(listening, "keys", "list", "--key", made["secret"])) == 1


def test_an_unclear_wish_changes_nothing(folder: Path) -> None:
    with Memory.open(folder) as memory, pytest.raises(BadInput):
        memory.forget(source="a", text="long enough")
    shutil.rmtree(folder / "adapters")
    told = run(folder, "forget", "--source", "mallory")
    assert told["answers"] is None, "folders that are gone are no obstacle, and are put in force by nobody"
