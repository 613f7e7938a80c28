"""service.yaml: complete, true to the code, and strict about what it does not know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.config import SKILL, Config, load, render
from memory.errors import BadConfig

FILE = Path(__file__).parents[1] / "service.yaml"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "service.yaml"
    path.write_text(text)
    return path


def test_the_file_in_the_repository_holds_every_key_at_its_default() -> None:
    assert FILE.read_text() == render() + "\n"
    assert load(FILE) == Config()


def test_the_commented_skill_is_a_valid_one() -> None:
    text = FILE.read_text()
    body = text[text.index("#   - #") :]
    skills = yaml.safe_load("\n".join(line.removeprefix("#") for line in body.splitlines()))
    assert Config(skills=skills).skills == (SKILL,)


def test_every_key_is_explained() -> None:
    lines = FILE.read_text().splitlines()
    keys = [i for i, line in enumerate(lines) if line and not line.lstrip().startswith("#")]
    assert len(keys) > 100
    assert all(lines[i - 1].lstrip().startswith("#") for i in keys)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("engin: {}", "unknown key 'engin'; did you mean 'engine'?"),
        ("engine: {max_num_seq: 4}", "unknown key 'engine.max_num_seq'; did you mean 'max_num_seqs'?"),
        ("skills: [{name: a, patern: x}]", "unknown key 'skills.0.patern'; did you mean 'pattern'?"),
        ("http: {port: 99999}", "http.port: Input should be less than or equal to 65535"),
        ("skills: [{name: a, pattern: '('}]", "is not a regular expression"),
        ("skills: [{name: a, method: thnk}]", "skill a: no method 'thnk'; use one of direct, cot, rar"),
        ("skills: [{name: a, method: vote, options: {of: thnk}}]", "skill a: no method 'thnk'; use one of direct"),
        (
            "skills: [{name: a, method: rar, options: {sned: both}}]",
            "options: rar.sned: Extra inputs are not",
        ),
        ("skills: [{name: a, method: rar, options: {sned: both}}]", "options of rar: variant, send, request"),
        ("skills: [{name: a, method: vote, options: {vriant: one_call, of: cot}}]", "options: cot.vriant: Extra"),
        ("schedule: {cron: soon}", "is not five cron fields"),
        ("engine: {urls: ['localhost:8000']}", "address 'localhost:8000' is none: write http://host:port"),
        ('engine: {api_key: "a\\nb"}', "the engine's key has a line's end or another control character in it"),
        ("train: [1]", "train: "),
        ("[1, 2]", "must hold a mapping"),
        ("a: [", "is not valid YAML"),
    ],
)
def test_a_wrong_file_stops_the_start_with_the_key_and_what_to_do(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadConfig) as caught:
        load(written(tmp_path, text))
    assert said in caught.value.message


def test_overrides_reach_into_sections(tmp_path: Path) -> None:
    given: dict[str, Any] = {"http.port": 1234, "state_dir": "elsewhere"}
    config = load(written(tmp_path, "http: {host: '::1'}"), given)
    assert (config.http.host, config.http.port, config.state_dir) == ("::1", 1234, Path("elsewhere"))


def test_a_missing_file_says_how_to_write_one(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="secondnature config"):
        load(tmp_path / "none.yaml")
