"""The deployment on Ray: what needs no Ray always; the rest where it is installed (an environment of its own)."""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from adapters.dataset import Anchor, write_data
from adapters.job import Job, TrainSettings, write_job
from adapters.manifest import verify
from adapters.model import ModelFolder, folder_identity, get_model
from adapters_fakes import BASE, sums
from agent.distil import TrainingFailed, distil
from agent.engine.check import matrix_shapes, write_adapter
from agent.engine.client import Sampling
from agent.engine.launch import BASE as BASE_NAME
from agent.engine.launch import command, environment
from agent.engine.pool import EnginePool
from agent.engine.settings import EngineSettings
from bench.kills.model import tiny_model
from bench.served import MODEL, running

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "docs" / "deploy"
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is installed in an environment of its own"
)
GREEDY = Sampling(max_tokens=1)
ENGINES = 2
READY_S = 420  # both are loaded at once, on a processor each


def constants() -> dict[str, Any]:
    """The constants of ray_serve.py, without Ray."""
    tree = ast.parse((DEPLOY / "ray_serve.py").read_text())
    return {
        target.id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def test_rays_engines_are_started_as_the_daemon_starts_its_own() -> None:
    found = constants()
    line = command(EngineSettings(), Path("/models/base"), 8000, "gpu")
    for key, value in found["ENGINE"].items():
        flag = "--" + key.replace("_", "-")
        assert flag in line, key
        if value is not True and key != "max_num_seqs":
            assert line[line.index(flag) + 1] == str(value), key
    assert found["BASE"] == line[line.index("--served-model-name") + 1]
    assert found["ENVIRONMENT"].items() <= environment(EngineSettings(), "key", "gpu", {}).items()


def test_each_of_rays_engines_is_an_application_of_its_own() -> None:
    config = yaml.safe_load((DEPLOY / "ray_serve.yaml").read_text())
    for number, application in enumerate(config["applications"]):
        name = f"engine-{number}"
        assert application["name"] == application["args"]["name"] == name
        assert application["route_prefix"] == f"/{name}"
        assert application["import_path"] == "docs.deploy.ray_serve:build"
    assert len(config["applications"]) == 2


async def test_a_night_may_be_trained_elsewhere(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.py"
    elsewhere.write_text("import sys\nprint(*sys.argv[1:], file=sys.stderr)\nsys.exit(4)\n")
    settings = TrainSettings(command=(sys.executable, str(elsewhere), "--gpu"))
    base = ModelFolder(str(tmp_path), BASE, "folder", "tiny")
    with pytest.raises(TrainingFailed, match=r"code 4.*--gpu .*job\.json"):
        await distil(sums(3), [], 7, base, tmp_path, settings, lambda *_: None)


@needs_ray
def test_a_night_is_trained_as_a_ray_train_job(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "model")
    identity = folder_identity(model, tmp_path / "cache")
    write_data(tmp_path / "lessons.jsonl", sums(8), [Anchor(({"role": "user", "content": "hi"},), "hello")])
    job = Job(
        number=1, base=str(model), base_identity=identity, data=str(tmp_path / "lessons.jsonl"),
        out=str(tmp_path / "adapters"), parent_pid=None, train=TrainSettings(epochs=1, threads=1, rank=8),
    )  # fmt: skip
    write_job(tmp_path / "job.json", job)
    line = [sys.executable, str(DEPLOY / "ray_night.py"), "--cpus", "1", str(tmp_path / "job.json")]
    done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=ROOT, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    events = [json.loads(said) for said in done.stdout.splitlines()]
    assert [event["event"] for event in events][-1] == "done"
    assert verify(Path(events[-1]["path"]), identity).number == 1


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[tuple[str, ...], Path]]:
    """Two small engines under Ray Serve on this machine: their addresses, and the model."""
    import ray
    from ray import serve

    from docs.deploy.ray_serve import build

    model = Path(get_model(MODEL).path)
    small = {"max_model_len": 512, "max_num_seqs": 8, "enforce_eager": True, "kv_cache_memory_bytes": 2**28}
    # Ray counts two processors for each engine (the replica's, and its worker's), however few the machine has.
    ray.init(num_cpus=2 * ENGINES, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": 8123})
    try:
        targets = []
        for n in range(ENGINES):
            env = {"VLLM_CPU_OMP_THREADS_BIND": str(n), "VLLM_PLUGINS": "secondnature_grouped_lora"}
            args = {"name": f"engine-{n}", "model": str(model), "cpu": True, "engine": small, "env": env}
            targets.append(serve.RunTarget(build(args), name=f"engine-{n}", route_prefix=f"/engine-{n}"))
        serve.run_many(targets, wait_for_applications_running=False)
        yield tuple(f"http://127.0.0.1:8123/engine-{n}" for n in range(ENGINES)), model
    finally:
        serve.shutdown()
        ray.shutdown()


@needs_ray
@pytest.mark.engine
async def test_two_small_engines_under_ray_serve_are_a_pool_below_the_gateway(
    served: tuple[tuple[str, ...], Path], tmp_path: Path
) -> None:
    urls, model = served
    pool = EnginePool(EngineSettings(urls=urls, probe_s=1.0, timeout_s=120))
    async with asyncio.timeout(READY_S):
        while await pool.look() < len(urls):
            await asyncio.sleep(1)
    write_adapter(tmp_path / "one", matrix_shapes(model), 3, rank=8)
    await pool.load_adapter("sn-0001-random", tmp_path / "one")
    assert await pool.models() == [BASE_NAME, "sn-0001-random"]
    question = ({"role": "user", "content": "What is the capital of France?"},)
    for member in pool.members:
        (base,) = await member.engine.chat(BASE_NAME, question, GREEDY)
        (other,) = await member.engine.chat("sn-0001-random", question, GREEDY)
        assert base.text != other.text, member.name
    await pool.unload_adapter("sn-0001-random")
    assert await pool.models() == [BASE_NAME]
    await pool.close()
    settings = {"model": MODEL, "http": {"port": 0}, "schedule": {"enabled": False}, "engine": {"urls": list(urls)}}
    with running(settings) as one:
        body = {"model": "secondnature", "messages": question, "mode": "system1", "max_tokens": 16}
        answered = httpx.post(f"{one.url}/v1/chat/completions", json=body, timeout=120)
        engines = httpx.get(f"{one.url}/api/status", timeout=30).json()["fleet"]["engines"]
    assert answered.status_code == 200, answered.text
    assert "Paris" in answered.json()["choices"][0]["message"]["content"]
    assert [engine["up"] for engine in engines] == [True] * ENGINES, engines
