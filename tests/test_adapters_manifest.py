"""The manifest says what was made; every kind of damage has its sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from adapters.manifest import MANIFEST, WEIGHTS, adapter_digest, read_manifest, verify
from adapters_fakes import BASE, made_adapter
from memory.errors import Damaged


def test_a_whole_adapter_is_read_back_as_written(tmp_path: Path) -> None:
    manifest = made_adapter(tmp_path, 7)
    assert verify(tmp_path / manifest.name, BASE) == manifest
    assert manifest.name == f"sn-0007-{manifest.digest[:6]}"


def test_one_changed_byte_is_damage(tmp_path: Path) -> None:
    folder = tmp_path / made_adapter(tmp_path, 1).name
    with (folder / WEIGHTS).open("r+b") as file:
        file.write(b"W")
    with pytest.raises(Damaged, match="its files were changed"):
        verify(folder)


def test_missing_weights_are_damage(tmp_path: Path) -> None:
    folder = tmp_path / made_adapter(tmp_path, 1).name
    (folder / WEIGHTS).unlink()
    with pytest.raises(Damaged, match=r"adapter_model\.safetensors is missing"):
        verify(folder)


def test_another_base_is_named(tmp_path: Path) -> None:
    folder = tmp_path / made_adapter(tmp_path, 1).name
    with pytest.raises(Damaged, match="was made for the base sha256:bbbb"):
        verify(folder, "sha256:" + "c" * 64)


def test_a_renamed_folder_is_not_that_adapter(tmp_path: Path) -> None:
    folder = tmp_path / made_adapter(tmp_path, 1).name
    shutil.move(folder, tmp_path / "sn-0002-abcdef")
    with pytest.raises(Damaged, match="give the folder its own name back"):
        verify(tmp_path / "sn-0002-abcdef")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", '{"name": 3}'])
def test_a_broken_manifest_is_damage(tmp_path: Path, text: str) -> None:
    folder = tmp_path / made_adapter(tmp_path, 1).name
    (folder / MANIFEST).write_text(text)
    with pytest.raises(Damaged, match="delete the folder"):
        read_manifest(folder)


def test_wrong_types_are_damage(tmp_path: Path) -> None:
    folder = tmp_path / made_adapter(tmp_path, 1).name
    row = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**row, "number": "one"}))
    with pytest.raises(Damaged, match="wrong values"):
        read_manifest(folder)


def test_a_later_versions_field_is_ignored(tmp_path: Path) -> None:
    manifest = made_adapter(tmp_path, 1)
    path = tmp_path / manifest.name / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), "colour": "blue"}))
    assert read_manifest(path.parent) == manifest


def test_the_digest_covers_weights_and_configuration(tmp_path: Path) -> None:
    one, two = made_adapter(tmp_path, 1), made_adapter(tmp_path, 2)
    assert one.digest != two.digest
    assert adapter_digest(tmp_path / one.name) == one.digest
