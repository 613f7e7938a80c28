"""The supervisor with a small real server as its child: ready, crash, restart, crash loop, no orphans."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from agent.engine import launch, stale
from agent.engine.door import Door
from agent.engine.settings import EngineSettings
from agent.engine.supervisor import EngineState, Supervisor, last_lines
from memory.errors import BadConfig, Unavailable

SERVER = """
import http.server, os, subprocess, sys
port, worker_file = int(sys.argv[1]), sys.argv[2]
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open(worker_file, "w").write(str(worker.pid))
print("listening with key", bool(os.environ["VLLM_API_KEY"]), flush=True)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/crash":
            os._exit(7)
        self.send_response(200); self.end_headers()
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


async def nothing() -> None:
    """An on_ready with nothing to load."""


def supervisor(
    folder: Path, code: str = SERVER, on_ready: Callable[[], object] = nothing, **settings: float
) -> Supervisor:
    """One whose child is `code`, called with its port and a file for its worker's process number."""

    def command(port: int) -> list[str]:
        return [sys.executable, "-c", code, str(port), str(folder / "worker")]

    chosen = EngineSettings.model_validate({"restart_backoff_s": 0.05, "probe_s": 0.2, **settings})
    return Supervisor(chosen, folder, folder, on_ready=on_ready, command=command)  # type: ignore[arg-type]


async def until(true: Callable[[], bool], limit_s: float = 20) -> None:
    async with asyncio.timeout(limit_s):
        while not true():  # another process's state: there is no event for it
            await asyncio.sleep(0.02)


def runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def engine_pid(folder: Path) -> int:
    return int(json.loads((folder / "engine.pid").read_text())["pid"])


async def test_ready_then_stopped_with_all_its_processes(tmp_path: Path) -> None:
    one = supervisor(tmp_path)
    await one.start()
    await one.wait_ready()
    assert one.ready
    pid, worker = engine_pid(tmp_path), int((tmp_path / "worker").read_text())
    assert runs(pid)
    assert runs(worker)
    await one.stop()
    await until(lambda: not runs(pid) and not runs(worker))
    assert one.state is EngineState.STOPPED
    assert "listening with key True" in last_lines(one.log_file)
    assert not (tmp_path / "engine.pid").exists()


async def test_a_crash_restarts_it_and_the_adapter_is_loaded_again(tmp_path: Path) -> None:
    loaded = []

    async def load() -> None:
        loaded.append(one.engine.url)

    one = supervisor(tmp_path, on_ready=load)
    await one.start()
    await one.wait_ready()
    os.kill(engine_pid(tmp_path), signal.SIGKILL)
    await until(lambda: one.restarts == 1 and one.ready)
    await one.stop()
    assert len(loaded) == 2


async def test_a_crash_takes_its_workers_along(tmp_path: Path) -> None:
    one = supervisor(tmp_path)
    await one.start()
    await one.wait_ready()
    worker = int((tmp_path / "worker").read_text())
    os.kill(engine_pid(tmp_path), signal.SIGKILL)
    await until(lambda: not runs(worker))
    await until(lambda: one.restarts == 1 and one.ready)
    await one.stop()
    assert not runs(worker)


async def test_one_that_ends_while_starting_is_tried_twice_and_says_why(tmp_path: Path) -> None:
    one = supervisor(tmp_path, "import sys; sys.exit('no such model: shop')")
    await one.start()
    with pytest.raises(Unavailable) as caught:
        await one.wait_ready()
    await one.stop()
    assert "exit status 1" in caught.value.message
    assert "no such model: shop" in caught.value.message
    assert one.restarts == 1


async def test_a_crash_loop_ends_with_a_reason(tmp_path: Path) -> None:
    code = SERVER + "\n"
    one = supervisor(tmp_path, code, max_restarts=2)
    await one.start()
    for _ in range(3):
        await until(lambda: one.ready)
        os.kill(engine_pid(tmp_path), signal.SIGKILL)
        await until(lambda: not one.ready)
    await until(lambda: one.state is EngineState.FAILED)
    await one.stop()
    assert one.restarts == 2


async def test_one_that_never_answers_is_given_up(tmp_path: Path) -> None:
    one = supervisor(tmp_path, "import time; time.sleep(600)", startup_timeout_s=0.3)
    await one.start()
    with pytest.raises(Unavailable, match=r"startup_timeout_s"):
        await one.wait_ready()
    await one.stop()
    assert one.restarts == 1


async def test_a_reason_is_kept_where_loading_the_adapter_fails(tmp_path: Path) -> None:
    async def load() -> None:
        raise Unavailable("the adapter sn-0001-aaaaaa cannot be loaded")

    one = supervisor(tmp_path, on_ready=load)
    await one.start()
    with pytest.raises(Unavailable, match="sn-0001-aaaaaa"):
        await one.wait_ready()
    await one.stop()


def test_backoff_doubles_to_a_minute(tmp_path: Path) -> None:
    one = supervisor(tmp_path, restart_backoff_s=1.0)
    waits = []
    for crashes in range(1, 9):
        one._crashes = [0.0] * crashes
        waits.append(one._backoff_s())
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]


DAEMON = """
import asyncio, sys
from pathlib import Path
from agent.engine.settings import EngineSettings
from agent.engine.supervisor import Supervisor
folder, code = Path(sys.argv[1]), sys.argv[2]
async def ready(): print("ready", flush=True)
async def main():
    command = lambda port: [sys.executable, "-c", code, str(port), str(folder / "worker")]
    one = Supervisor(EngineSettings(), folder, folder, on_ready=ready, command=command)
    await one.start()
    await asyncio.sleep(600)
asyncio.run(main())
"""


async def test_kill_9_of_the_daemon_leaves_no_engine(tmp_path: Path) -> None:
    daemon = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DAEMON, str(tmp_path), SERVER, stdout=subprocess.PIPE
    )
    assert daemon.stdout is not None
    assert await daemon.stdout.readline() == b"ready\n"
    pid, worker = engine_pid(tmp_path), int((tmp_path / "worker").read_text())
    daemon.kill()
    await daemon.wait()
    await until(lambda: not runs(pid) and not runs(worker))
    assert not runs(pid)


def spawn_group() -> tuple[subprocess.Popen[bytes], float]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], process_group=0)
    return process, psutil.Process(process.pid).create_time()


def test_a_stale_engine_is_ended(tmp_path: Path) -> None:
    process, started = spawn_group()
    (tmp_path / "engine.pid").write_text(json.dumps({"pid": process.pid, "started": started}))
    assert stale.end(tmp_path / "engine.pid")
    assert process.wait(5) == -signal.SIGTERM
    assert not (tmp_path / "engine.pid").exists()


def test_another_process_of_that_number_is_left_alone(tmp_path: Path) -> None:
    process, started = spawn_group()
    (tmp_path / "engine.pid").write_text(json.dumps({"pid": process.pid, "started": started - 60}))
    assert not stale.end(tmp_path / "engine.pid")
    assert process.poll() is None
    process.kill()
    process.wait()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x"}', '{"pid": 2147483646, "started": 1}'])
def test_a_damaged_pid_file_ends_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "engine.pid").write_text(text)
    assert not stale.end(tmp_path / "engine.pid")


def test_the_key_is_in_the_environment_and_not_on_the_command_line() -> None:
    settings = EngineSettings()
    words = launch.command(settings, Path("/m"), 8123, "cpu")
    env = launch.environment(settings, "secret-key", "cpu", {})
    assert not any("secret-key" in word for word in words)
    assert env["VLLM_API_KEY"] == "secret-key"
    assert words[words.index("--middleware") + 1] == f"{Door.__module__}.{Door.__name__}"
    assert launch.environment(settings, "k", "cpu", {"VLLM_SERVER_DEV_MODE": "1"})["VLLM_SERVER_DEV_MODE"] == "0"
    assert env["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "True"
    assert words[words.index("--host") + 1] == "127.0.0.1"
    assert words[words.index("--kv-cache-memory-bytes") + 1] == str(2 * 1024**3)


def test_a_restricted_plugin_list_gets_ours_too() -> None:
    env = launch.environment(EngineSettings(), "k", "cpu", {"VLLM_PLUGINS": "other, " + launch.PLUGINS[0]})
    assert env["VLLM_PLUGINS"].split(",") == ["other", *launch.PLUGINS]
    env = launch.environment(EngineSettings(), "k", "cpu", {"VLLM_PLUGINS": ""})
    assert env["VLLM_PLUGINS"].split(",") == list(launch.PLUGINS)
    assert "VLLM_PLUGINS" not in launch.environment(EngineSettings(), "k", "cpu", {})


def test_more_threads_than_processors_is_said() -> None:
    assert launch.cpu_list(2, [0, 3, 5]) == "0,3"
    with pytest.raises(BadConfig, match="only 3"):
        launch.cpu_list(4, [0, 3, 5])
