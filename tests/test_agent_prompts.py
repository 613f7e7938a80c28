"""Files of prompts, in every form that people have them in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from agent.prompts import Prompt, read_prompts
from memory.errors import BadInput

SUMS = ["What is 1 + 1?", "What is 2 + 2?"]
CHAT = [
    {"role": "system", "content": "You add."},
    {"role": "user", "content": SUMS[0]},
    {"role": "assistant", "content": "2"},
]


def texts(prompts: list[Prompt]) -> list[Any]:
    assert all(len(prompt) == 1 and prompt[0]["role"] == "user" for prompt in prompts)
    return [prompt[0]["content"] for prompt in prompts]


def table(path: Path, **columns: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.table(columns), path)


def test_lines_are_prompts_each_once(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("\n".join([*SUMS, "", "what is  1 + 1?"]))
    assert [text.casefold() for text in texts(read_prompts(file))] == ["what is  1 + 1?", "what is 2 + 2?"]


def test_json_lines_are_strings_objects_or_conversations(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    rows = [SUMS[0], {"question": SUMS[1], "answer": "4"}, {"messages": CHAT}]
    file.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    first, second, chat = read_prompts(file)
    assert texts([first, second]) == SUMS
    assert list(chat) == CHAT[:2], "the answer at the end is nobody's question"


def test_csv_gives_the_column_that_is_named_or_usual(tmp_path: Path) -> None:
    file = tmp_path / "prompts.csv"
    file.write_text(f'\ufeffid,question,body\n1,"{SUMS[0]}",x\n2,"{SUMS[1]}",y\n', encoding="utf-8")
    assert texts(read_prompts(file)) == SUMS
    assert texts(read_prompts(file, "body")) == ["x", "y"]


def test_parquet_gives_the_column_that_is_named_or_usual(tmp_path: Path) -> None:
    file = tmp_path / "prompts.parquet"
    table(file, id=[1, 2, 3], question=[*SUMS, None])
    assert texts(read_prompts(file)) == SUMS
    assert texts(read_prompts(file, "id")) == ["1", "2", "3"]
    table(tmp_path / "chats.parquet", messages=[CHAT])
    assert list(read_prompts(tmp_path / "chats.parquet")[0]) == CHAT[:2]


def test_a_folder_of_parquet_may_hold_other_files(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# A data set")
    for number, text in enumerate(SUMS):
        table(tmp_path / "data" / f"part-{number}.parquet", prompt=[text])
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "broken.parquet").write_text("no Parquet")
    assert texts(read_prompts(tmp_path)) == SUMS


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", '{"messages": [{"role": "assistant", "content": "2"}]}', "line 1: the messages hold no question"),
        ("a.jsonl", '{"messages": ["What?"]}', "line 1: expected messages such as"),
        ("a.jsonl", '"What?"\n{"text": 7}', "line 2: no text under 'text'"),
        ("a.csv", "id\n1\n", "name the column with --column"),
        ("a.parquet", "no Parquet", "cannot be read as parquet"),
        ("folder/README.md", "# Nothing", "holds no .parquet files"),
        ("a.txt", "  \n", "holds no prompts"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, content: str, said: str) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(content)
    with pytest.raises(BadInput) as caught:
        read_prompts(file.parent if "/" in name else file)
    assert said in caught.value.message
