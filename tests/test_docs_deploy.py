"""The deployment files: whole, consistent with each other, with the settings and with the engine's own command line."""

from __future__ import annotations

import shutil
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from pydantic import BaseModel, ConfigDict

from agent.config import Config, load
from agent.engine.launch import command, environment
from agent.engine.settings import EngineSettings

DEPLOY = Path(__file__).parent.parent / "docs" / "deploy"
SHARED = "/state/adapters"


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return found


def objects() -> dict[tuple[str, str], dict[str, Any]]:
    """Kubernetes' objects by (kind, name)."""
    found = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text()))
    return {(one["kind"], one["metadata"]["name"]): one for one in found}


def composer() -> bool:
    """Whether `docker compose` can be asked."""
    docker = shutil.which("docker")
    return docker is not None and subprocess.run([docker, "compose", "version"], capture_output=True).returncode == 0


def settings(folder: Path) -> dict[str, Config]:
    """The service.yaml of every role in both deployments; each must be one that the service starts with."""
    texts = {name: (DEPLOY / f"{name}.yaml").read_text() for name in ("learner", "gateway")}
    texts["learner-k8s"] = objects()["Secret", "learner"]["stringData"]["service.yaml"]
    texts["gateway-k8s"] = objects()["ConfigMap", "gateway"]["data"]["service.yaml"]
    found = {}
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)
        found[name] = load(folder / f"{name}.yaml")
    return found


def flags(words: list[str]) -> dict[str, str]:
    """--name -> value, from either "--name value" or "--name=value"."""
    joined = " ".join(words).replace("=", " ").split(" --")
    return dict(one.removeprefix("--").partition(" ")[::2] for one in joined)


def engines() -> dict[str, tuple[dict[str, str], dict[str, str]]]:
    """Flags and environment of the engines in both files."""
    service = compose()["services"]["engine-0"]
    (pod,) = objects()["StatefulSet", "engine"]["spec"]["template"]["spec"]["containers"]
    env = {row["name"]: row["value"] for row in pod["env"]}
    return {"compose": (flags(service["command"]), service["environment"]), "kubernetes": (flags(pod["args"]), env)}


@pytest.mark.parametrize("where", ["compose", "kubernetes"])
def test_the_engines_are_started_as_the_daemon_starts_its_own(where: str) -> None:
    given, env = engines()[where]
    ours = flags(command(EngineSettings(), Path("/models/base"), 8000, "gpu")[3:])
    # It listens to others, is compiled, and its image holds nothing of ours: its door is the network it is in.
    same = set(ours) - {"host", "max-num-seqs", "enforce-eager", "middleware"}
    assert {name: given.get(name) for name in same} == {name: ours[name] for name in same}
    wanted = environment(EngineSettings(), "key", "gpu", {})
    assert {name: env[name] for name in env} == {name: wanted[name] for name in env}
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" in env


@pytest.mark.parametrize("learner", ["learner", "learner-k8s"])
def test_gateways_follow_what_the_learner_publishes(learner: str, tmp_path: Path) -> None:
    found = settings(tmp_path)
    leads, follows = found[learner], found[learner.replace("learner", "gateway")]
    assert leads.fleet.leads
    assert follows.fleet.role == "gateway"
    assert follows.fleet.published == leads.fleet.published
    assert follows.engine.urls == leads.engine.urls
    assert leads.model == follows.model == "/models/base"
    assert f"{leads.state_dir}/adapters" == SHARED
    assert Path(str(leads.fleet.published)).parent == Path(SHARED)
    assert leads.fleet.linger_s > leads.limits.request_s + leads.fleet.look_s


class Service(BaseModel):
    """What is used of a compose service; a misspelt key is refused."""

    model_config = ConfigDict(extra="forbid")
    image: str
    build: dict[str, str] = {}
    entrypoint: list[str] = []
    command: list[str] = []
    environment: dict[str, str] = {}
    volumes: list[str] = []
    ports: list[str] = []
    depends_on: list[str] = []
    ipc: str = ""
    restart: str = ""
    healthcheck: dict[str, Any] = {}
    deploy: dict[str, Any] = {}


def test_compose_names_nothing_that_is_not_there(tmp_path: Path) -> None:
    found, config = compose(), settings(tmp_path)
    services = {name: Service.model_validate(row) for name, row in found["services"].items()}
    for name, one in services.items():
        mounts = dict(volume.split(":")[:2] for volume in one.volumes if "$" not in volume)
        for source in mounts:
            assert source in found["volumes"] or (DEPLOY / source).exists(), (name, source)
        assert mounts.get("adapters") == SHARED
        assert set(one.depends_on) <= set(services)
        if one.build:
            assert (DEPLOY / one.build["context"] / one.build["dockerfile"]).is_file()
    assert {urlsplit(url).hostname for url in config["learner"].engine.urls} <= set(services)
    inside = {volume.split(":")[1] for volume in services["learner"].volumes}
    assert set(config["learner"].fleet.gateways) <= inside
    gateways = [name for name in services if name.startswith("gateway")]
    assert len(gateways) == len(config["learner"].fleet.gateways)
    assert all(f"{name}:{config['gateway'].state_dir}" in services[name].volumes for name in gateways)


@pytest.mark.skipif(not composer(), reason="docker compose is not here")
def test_docker_compose_accepts_the_file() -> None:
    line = ["docker", "compose", "-f", str(DEPLOY / "compose.yaml"), "config", "-q"]
    assert subprocess.run(line, check=False).returncode == 0


def test_kubernetes_objects_refer_to_each_other(tmp_path: Path) -> None:
    found, hosts = objects(), set()
    pods = {name: one for (kind, name), one in found.items() if kind == "StatefulSet"}
    for name, one in pods.items():
        spec, template = one["spec"], one["spec"]["template"]
        assert one["apiVersion"] == "apps/v1"
        assert spec["selector"]["matchLabels"] == template["metadata"]["labels"] == {"app": name}
        assert ("Service", spec["serviceName"]) in found
        hosts |= {f"{name}-{n}.{name}" for n in range(spec["replicas"])}
        claims = {claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", ())}
        volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
        check_volumes(volumes, found)
        for container in template["spec"]["containers"] + template["spec"].get("initContainers", []):
            mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
            assert set(mounts) <= claims | set(volumes)
            assert mounts.get("adapters", SHARED) == SHARED
            ports = {port["name"] for port in container.get("ports", ())}
            probes = [row["httpGet"]["port"] for key, row in container.items() if key.endswith("Probe")]
            assert set(probes) <= ports
    services = {name: one for (kind, name), one in found.items() if kind == "Service"}
    assert {one["spec"]["selector"]["app"] for one in services.values()} == set(pods)
    (guard,) = found["NetworkPolicy", "engine"]["spec"]["ingress"]
    assert set(guard["from"][0]["podSelector"]["matchExpressions"][0]["values"]) == set(pods) - {"engine"}
    leads = settings(tmp_path)["learner-k8s"]
    assert {urlsplit(url).hostname for url in (*leads.engine.urls, *leads.fleet.gateways)} <= hosts
    assert leads.fleet.api_key, "the learner reads its gateways' memories over HTTP"


def check_volumes(volumes: dict[str, Any], found: dict[tuple[str, str], Any]) -> None:
    kinds: defaultdict[str, str] = defaultdict(str, {"secret": "Secret", "configMap": "ConfigMap"})
    for volume in volumes.values():
        if claim := volume.get("persistentVolumeClaim"):
            assert ("PersistentVolumeClaim", claim["claimName"]) in found
        for key in set(volume) & set(kinds):
            named = volume[key].get("secretName") or volume[key].get("name")
            assert (kinds[key], named) in found


def test_the_apis_are_those_of_their_kinds() -> None:
    kinds = {"StatefulSet": "apps/v1", "NetworkPolicy": "networking.k8s.io/v1"}
    assert all(one["apiVersion"] == kinds.get(kind, "v1") for (kind, _), one in objects().items())
    assert compose()["name"] == "secondnature"
