"""The publication: whole or not at all, and the settings of a fleet."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent.config import load
from agent.published import Published, read, seal, unseal, write
from memory.errors import BadConfig, Damaged, Unavailable

ONE = Published(7, 1000.5, "sha256:b", "/shared/adapters", None, {"adapter": None, "thresholds": [], "keys": []})


def test_it_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "shared" / "published.json"
    write(path, ONE)
    assert read(str(path)) == ONE
    write(path, replace(ONE, version=8))
    assert read(str(path)).version == 8
    assert [file.name for file in path.parent.iterdir()] == ["published.json"]
    assert path.stat().st_mode & 0o007 == 0, "it holds the hashes of keys"


@pytest.mark.parametrize(
    "text",
    [
        seal(ONE).replace(b"/shared", b"/hacked"),
        seal(ONE)[:-20],
        b"",
        b"[]",
        b"{}",
        b'{"digest": 3}',
        seal(replace(ONE, schema=2)),
    ],
)
def test_a_changed_or_cut_one_is_refused(text: bytes) -> None:
    with pytest.raises(Damaged):
        unseal(text, "published.json")


def test_one_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="nothing is published"):
        read(str(tmp_path / "published.json"))
    with pytest.raises(Unavailable, match="does not answer"):
        read("http://127.0.0.1:9")


def test_version_and_time_alone_are_nothing_new() -> None:
    assert replace(ONE, version=9, at=2000.0).says_the_same(ONE)
    assert not replace(ONE, base="sha256:c").says_the_same(ONE)
    assert not ONE.says_the_same(None)


@pytest.mark.parametrize(
    ("fleet", "why"),
    [
        ({"role": "gateway"}, "needs `published`"),
        ({"role": "gateway", "published": "p.json", "gateways": ["a"]}, "takes in nobody's"),
        ({"published": "http://learner:8600"}, "publishes to a file"),
    ],
)
def test_a_fleet_that_cannot_work_stops_the_start(fleet: dict[str, object], why: str, tmp_path: Path) -> None:
    file = tmp_path / "service.yaml"
    file.write_text("{}")
    with pytest.raises(BadConfig, match=why):
        load(file, {"fleet": fleet})
