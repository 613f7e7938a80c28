"""Lessons become examples: what is kept, what is dropped and why, in which order."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.dataset import Anchor, Item, batches, encode, flatten, read_data, write_data
from adapters.job import Job, TrainSettings, rate, read_job, write_job
from adapters_fakes import BASE, lesson, sums
from bench.kills.model import tiny_tokenizer
from memory.errors import BadInput

ANCHOR = Anchor(({"role": "user", "content": "Name a colour."},), "Blue", ended=False)


def written(path: Path, lessons: list, anchors: tuple[Anchor, ...] = ()) -> tuple[Item, ...]:
    write_data(path, lessons, anchors)
    return read_data(path)[0]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    summary = write_data(tmp_path / "d", sums(3), [ANCHOR])
    items, digest = read_data(tmp_path / "d")
    assert (summary.n_lessons, summary.n_anchors, summary.digest) == (3, 1, digest)
    assert [item.answer for item in items] == ["1", "3", "5", "Blue"]
    assert items[3].kind == "anchor"
    assert not items[3].ended


def test_the_digest_does_not_depend_on_the_order(tmp_path: Path) -> None:
    forth, back = write_data(tmp_path / "a", sums(4)), write_data(tmp_path / "b", sums(4)[::-1])
    other = write_data(tmp_path / "c", sums(5))
    assert forth.digest == back.digest != other.digest


def test_an_unusual_line_separator_in_a_text_is_no_line_end(tmp_path: Path) -> None:
    items = written(tmp_path / "d", [lesson("one\u2028two\r\nthree", "4")])
    assert items[0].messages[0]["content"] == "one\u2028two\r\nthree"


def test_the_prompt_is_the_chat_template_and_the_answer_ends(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    items = written(tmp_path / "d", [lesson("2 + 2?", "4")], (ANCHOR,))
    lesson_, anchor = encode(items, tokenizer, 512).examples
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "2 + 2?"}], add_generation_prompt=True, tokenize=True, return_dict=False
    )
    assert list(lesson_.ids) == [*prompt, *tokenizer.encode("4"), tokenizer.eos_token_id]
    assert lesson_.n_prompt == len(prompt)
    assert tokenizer.decode(anchor.ids[anchor.n_prompt :]) == "Blue"


def test_each_item_left_out_has_a_reason(tmp_path: Path) -> None:
    image = replace(lesson("x", "1"), messages=({"role": "user", "content": [{"type": "image_url"}]},))
    lessons = [lesson("a", "1"), lesson("b", ""), lesson("c", "1", weight=0.0), lesson("d" * 600, "1"), image]
    told = encode(written(tmp_path / "d", lessons), tiny_tokenizer(), 512)
    assert dict(told.dropped) == {"no answer": 1, "weight 0": 1, "over 512 tokens": 1, "not text": 1}
    assert dict(told.skills) == {"sum": 1}


def test_text_parts_are_joined_as_the_engine_joins_them() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    assert flatten([{"role": "user", "content": parts}]) == [{"role": "user", "content": "one\ntwo"}]


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "{}",
        '{"kind": "spell"}',
        '{"kind":"lesson","messages":[],"answer":"","ended":true,"weight":1,"skill":""}',
    ],
)
def test_a_bad_line_is_named_by_its_number(tmp_path: Path, line: str) -> None:
    write_data(tmp_path / "d", sums(1))
    with (tmp_path / "d").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(BadInput, match="line 2"):
        read_data(tmp_path / "d")


def test_no_lessons_is_an_error(tmp_path: Path) -> None:
    write_data(tmp_path / "d", [])
    with pytest.raises(BadInput, match="nothing to learn"):
        read_data(tmp_path / "d")


def test_a_seed_gives_one_order_and_every_epoch_another(tmp_path: Path) -> None:
    examples = encode(written(tmp_path / "d", sums(10)), tiny_tokenizer(), 512).examples
    first, again = list(batches(examples, 4, 2, seed=1)), list(batches(examples, 4, 2, seed=1))
    assert first == again != list(batches(examples, 4, 2, seed=2))
    assert len(first) == 6
    epochs = [[e for epoch, batch in first if epoch == n for e in batch] for n in (0, 1)]
    assert epochs[0] != epochs[1]
    assert set(epochs[0]) == set(epochs[1]) == set(examples)


def test_every_lesson_is_seen_in_every_epoch_and_every_anchor_in_one(tmp_path: Path) -> None:
    anchors = [Anchor(({"role": "user", "content": f"Say {n}."},), f"{n}!") for n in range(5)]
    write_data(tmp_path / "d", sums(6), anchors)
    examples = encode(read_data(tmp_path / "d")[0], tiny_tokenizer(), 512).examples
    seen = Counter(e for _, batch in batches(examples, 4, 3, seed=1) for e in batch)
    assert {e.anchor for e in examples} == {True, False}
    assert all(n == (1 if e.anchor else 3) for e, n in seen.items())
    assert set(seen) == set(examples)


def test_a_job_survives_its_file(tmp_path: Path) -> None:
    job = Job(number=3, base="m", base_identity=BASE, data="d", out="o", train=TrainSettings(epochs=2))
    write_job(tmp_path / "job.json", job)
    assert read_job(tmp_path / "job.json") == job


@pytest.mark.parametrize(("key", "value"), [("train", {"rnak": 8}), ("number", 0), ("train", {"epochs": 0})])
def test_a_bad_job_names_the_field(tmp_path: Path, key: str, value: object) -> None:
    row = {"number": 3, "base": "m", "base_identity": BASE, "data": "d", "out": "o", key: value}
    (tmp_path / "job.json").write_text(json.dumps(row))
    with pytest.raises(BadInput, match=key):
        read_job(tmp_path / "job.json")


def test_the_rate_rises_shortly_and_falls_to_almost_nothing() -> None:
    rates = [rate(step, 100, 0.05) for step in range(100)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert 0 < rates[-1] < 0.02
    assert rate(0, 1, 0.0) == 1.0
