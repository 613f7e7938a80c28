"""`service.yaml` as one frozen tree. A typo stops the start, with the key's name and the nearest valid one."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError
from pydantic_core import ErrorDetails

from adapters.job import TrainSettings
from agent.admission import AdmissionSettings
from agent.engine.settings import EngineSettings
from agent.http.settings import HttpSettings
from agent.logs import LogSettings
from agent.published import FleetSettings
from agent.system1 import System1Settings
from agent.system2 import deliberate
from agent.system2.settings import System2Settings
from agent.traces import TraceSettings
from agent.trust import TrustSettings
from memory.base import MemorySettings
from memory.errors import BadConfig
from memory.records import AnswerType
from memory.settings import Settings
from policies.audit import AuditSettings
from policies.automaticity import AutomaticitySettings
from policies.calibration import CalibrationSettings
from policies.certify import CertifySettings, Goal
from policies.curation import CurateSettings
from policies.drift import DriftSettings
from policies.grouping import GroupSettings
from policies.limits import LimitSettings
from policies.promote import PromoteSettings
from policies.route import RouteSettings
from policies.schedule import ScheduleSettings
from policies.skills import Example, SkillSettings

ENV_CONFIG = "SECONDNATURE_CONFIG"
ADDRESS = "service.json"  # in the state folder, while the service runs: {"url", "pid"}


class Config(Settings):
    """Everything the service can be told. Every key has a default; `secondnature config` prints them all."""

    state_dir: Path = Field(Path("state"), description="folder for all that is written: database, adapters, logs")
    model: str = Field(
        "qwen2.5-coder-0.5b-instruct",
        description="base model: a built-in name, a hub name, a folder or a GGUF file",
    )
    heldout_share: float = Field(
        0.1, gt=0, lt=0.9, description="0..1, share of questions, by hash, never trained on: they calibrate and judge"
    )
    logs: LogSettings = Field(LogSettings(), description="what the service says about itself")
    traces: TraceSettings = Field(TraceSettings(), description="OpenTelemetry traces")
    memory: MemorySettings = Field(MemorySettings(), description="how episodes are written")
    http: HttpSettings = Field(HttpSettings(), description="where the service listens")
    limits: LimitSettings = Field(LimitSettings(), description="what one caller may ask for")
    admission: AdmissionSettings = Field(AdmissionSettings(), description="how much is answered at once")
    engine: EngineSettings = Field(EngineSettings(), description="the vLLM server or servers behind the service")
    fleet: FleetSettings = Field(FleetSettings(), description="several gateways and one learner")
    system1: System1Settings = Field(System1Settings(), description="direct answers")
    system2: System2Settings = Field(System2Settings(), description="thought-through answers")
    route: RouteSettings = Field(RouteSettings(), description="when a direct answer is trusted")
    groups: GroupSettings = Field(GroupSettings(), description="questions that no skill claims, grouped by themselves")
    audit: AuditSettings = Field(AuditSettings(), description="which direct answers are checked in the background")
    calibration: CalibrationSettings = Field(CalibrationSettings(), description="how confidence is calibrated")
    goal: Goal = Field(Goal(), description="what thresholds are certified for")
    certify: CertifySettings = Field(CertifySettings(), description="how thresholds are certified")
    drift: DriftSettings = Field(DriftSettings(), description="the watch over audits: online step and alarm")
    automaticity: AutomaticitySettings = Field(AutomaticitySettings(), description="when a skill counts as automatic")
    curate: CurateSettings = Field(CurateSettings(), description="which agreed answers become lessons")
    train: TrainSettings = Field(TrainSettings(), description="how lessons become an adapter")
    promote: PromoteSettings = Field(PromoteSettings(), description="what an adapter must show to go live")
    trust: TrustSettings = Field(TrustSettings(), description="what is kept, and what follows from forgetting")
    schedule: ScheduleSettings = Field(ScheduleSettings(), description="when a night runs")
    skills: tuple[SkillSettings, ...] = Field((), description="what is known about the questions that are asked")


def load(path: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read `service.yaml` (or the file named in $SECONDNATURE_CONFIG), then apply dotted overrides.

    Raises BadConfig, naming the key, what is wrong with it and the nearest valid key.
    """
    chosen = path or (Path(os.environ[ENV_CONFIG]) if ENV_CONFIG in os.environ else None)
    tree = _read(chosen) if chosen else _read(Path("service.yaml")) if Path("service.yaml").exists() else {}
    for key, value in (overrides or {}).items():
        _place(tree, key.split("."), value)
    where = chosen or Path("service.yaml")
    try:
        config = Config.model_validate(tree)
        for skill in config.skills:
            deliberate.check(skill, config.system2)
    except ValidationError as error:
        raise BadConfig("\n".join(f"{where}: {line}" for line in map(_sentence, error.errors()))) from None
    except BadConfig as error:
        raise BadConfig(f"{where}: {error.message}") from None
    return config


def _read(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise BadConfig(
            f"{path} does not exist; `secondnature config > {path}` writes one with every default"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadConfig(f"{path} is not valid YAML: {error}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise BadConfig(f"{path} must hold a mapping of keys to values, not a {type(tree).__name__}")
    return tree


def _place(tree: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        tree = tree.setdefault(key, {})
        if not isinstance(tree, dict):
            raise BadConfig(f"{'.'.join(keys)}: {key} is a value, not a section")
    tree[keys[-1]] = value


def _sentence(error: ErrorDetails) -> str:
    keys = [str(part) for part in error["loc"]]
    dotted = ".".join(keys)
    if error["type"] != "extra_forbidden":
        return f"{dotted or 'the file'}: {error['msg']} (got {error['input']!r})"
    valid = sorted(_section(keys[:-1]))
    near = difflib.get_close_matches(keys[-1], valid, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"valid keys here: {', '.join(valid)}"
    return f"unknown key {dotted!r}; {hint}"


def _section(keys: list[str]) -> Mapping[str, Any]:
    """The fields of the settings class that sits at a dotted place."""
    model: type[BaseModel] = Config
    for key in keys:
        if key.isdigit():
            continue
        field = model.model_fields.get(key)
        inner = next(_models(field.annotation), None) if field else None
        if inner is None:
            return {}
        model = inner
    return model.model_fields


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)


SKILL = SkillSettings(
    name="sums",
    pattern=r"^What is \d+ \+ \d+\?$",
    answer_type=AnswerType.NUMBER,
    direct="Answer with the number only.",
    examples=(Example(question="What is 12 + 45?", reasoning="10 + 40 = 50. 2 + 5 = 7. 50 + 7 = 57.", answer="57"),),
)
"""A skill with every key, shown as a comment in `service.yaml`."""


def render(config: Config | None = None) -> str:
    """`service.yaml` with every key at its value and its explanation; what the file in the repository holds."""
    config = config or Config()
    lines = ["# Settings of Second Nature: every key with its default, its unit and what it does."]
    lines += [
        "# `secondnature config` prints this file; a key that is not here is refused, with the nearest valid one."
    ]
    lines += _rendered(config, 0)
    if not config.skills:
        lines += ["# One skill with every key (remove the marks, and [] above):"]
        first, *rest = _rendered(SKILL, 2)
        lines += ["#   - # " + first.strip("# "), *("#" + line for line in rest)]
    return "\n".join(lines)


def _rendered(model: BaseModel, indent: int) -> list[str]:
    pad = "  " * indent
    lines: list[str] = []
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        lines += [""] if indent == 0 else []
        lines += [f"{pad}# {field.description}"]
        if isinstance(value, BaseModel) and type(value).model_fields:
            lines += [f"{pad}{name}:", *_rendered(value, indent + 1)]
        else:
            lines += [f"{pad}{name}: {_plain(value)}"]
    return lines


def _plain(value: Any) -> str:
    """A value as YAML on one line."""
    if isinstance(value, tuple):
        value = [item.model_dump(mode="json") if isinstance(item, BaseModel) else item for item in value]
    if isinstance(value, BaseModel):
        value = {}
    if isinstance(value, Path | StrEnum):
        value = str(value)
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")
