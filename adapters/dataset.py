"""Lessons and anchors become training examples: JSONL from the daemon, tokenised by the trainer. No torch.

An example's prompt is, token for token, what the engine builds for the same messages at serving; the loss is
on the answer and its end token alone.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from memory.errors import BadInput
from memory.records import Lesson, Message


class Tokenizer(Protocol):
    """What is used of a transformers tokenizer."""

    eos_token_id: int | None

    def apply_chat_template(self, conversation: Any, **options: Any) -> Any: ...

    def encode(self, text: str, **options: Any) -> list[int]: ...


@dataclass(frozen=True, slots=True)
class Anchor:
    """A general prompt with the base's own answer: it holds the adapter to what the base already does."""

    messages: tuple[Message, ...]
    answer: str  # the base's text, verbatim
    ended: bool = True  # False: the answer was cut short, so its end is not taught
    weight: float = 1.0  # 0..1


@dataclass(frozen=True, slots=True)
class Item:
    """One line of the job's data."""

    kind: str  # "lesson" | "anchor"
    messages: tuple[Message, ...]
    answer: str
    ended: bool
    weight: float  # 0..1
    skill: str  # "" for an anchor


@dataclass(frozen=True, slots=True)
class DataSummary:
    """What was written for the trainer."""

    n_lessons: int
    n_anchors: int
    digest: str  # sha256 hex, whatever the order of the lines


@dataclass(frozen=True, slots=True)
class Example:
    """One tokenised item."""

    ids: tuple[int, ...]  # prompt, answer and end token
    n_prompt: int  # tokens of `ids` without loss, at least 1
    weight: float  # 0..1
    anchor: bool = False


@dataclass(frozen=True, slots=True)
class Encoded:
    """What can be trained on, and what was left out and why."""

    examples: tuple[Example, ...]
    dropped: Mapping[str, int]  # reason -> items
    skills: Mapping[str, int]  # skill -> lessons kept


def write_data(path: Path, lessons: Iterable[Lesson], anchors: Iterable[Anchor] = ()) -> DataSummary:
    """Write the job's data, one JSON object a line. Raises OSError when the disk is full."""
    lines = [_line("lesson", o.messages, o.answer, True, o.weight, o.skill) for o in lessons]
    n_lessons = len(lines)
    lines += [_line("anchor", o.messages, o.answer, o.ended, o.weight, "") for o in anchors]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return DataSummary(n_lessons, len(lines) - n_lessons, lines_digest(lines))


def lines_digest(lines: Iterable[str]) -> str:
    """sha256 hex over the sorted lines: the same lessons in another order have the same digest."""
    total = hashlib.sha256()
    for line in sorted(lines):
        total.update(line.encode() + b"\n")
    return total.hexdigest()


def _line(kind: str, messages: Sequence[Message], answer: str, ended: bool, weight: float, skill: str) -> str:
    row = {
        "kind": kind,
        "messages": [dict(message) for message in messages],
        "answer": answer,
        "ended": ended,
        "weight": weight,
        "skill": skill,
    }
    return json.dumps(row, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def read_data(path: Path) -> tuple[tuple[Item, ...], str]:
    """The job's items and their digest. Raises BadInput naming the line that is wrong."""
    try:
        lines = [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the lessons in {path} cannot be read: {error}") from error
    items = tuple(_item(path, number, line) for number, line in enumerate(lines, 1))
    if not items:
        raise BadInput(f"{path} holds no lessons; nothing to learn")
    return items, lines_digest(lines)


def _item(path: Path, number: int, line: str) -> Item:
    try:
        row = json.loads(line)
        kind, weight = row["kind"], float(row["weight"])
        if kind not in ("lesson", "anchor") or not 0 <= weight <= 1 or not isinstance(row["answer"], str):
            raise ValueError("kind, weight or answer is wrong")
        messages = tuple(row["messages"])
        if not messages or not all(isinstance(m, dict) and isinstance(m.get("role"), str) for m in messages):
            raise ValueError("messages are wrong")
        return Item(kind, messages, row["answer"], bool(row["ended"]), weight, str(row["skill"]))
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path}, line {number}: {error}; write it with adapters.dataset.write_data") from error


def flatten(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages whose content is plain text: text parts are joined by line ends, as the engine joins them.

    Raises BadInput for a part that is not text: the trainer could not build the prompt the engine builds.
    """
    return [{**message, "content": _text(message.get("content"))} for message in messages]


def _text(content: Any) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    parts = [part if isinstance(part, str) else part.get("text") for part in content]
    if not all(isinstance(part, str) for part in parts):
        raise BadInput("a lesson may hold text alone; images and sound cannot be learnt from")
    return "\n".join(parts)


def prompt_ids(messages: Sequence[Message], tokenizer: Tokenizer) -> list[int]:
    """The tokens the engine builds for these messages with `add_generation_prompt`."""
    made = tokenizer.apply_chat_template(
        flatten(messages), add_generation_prompt=True, tokenize=True, return_dict=False
    )
    return list(made)


def encode(items: Iterable[Item], tokenizer: Tokenizer, max_tokens: int) -> Encoded:
    """Tokenise. Left out, counted by reason: no weight, no answer, not text, longer than `max_tokens`."""
    examples: list[Example] = []
    dropped: Counter[str] = Counter()
    skills: Counter[str] = Counter()
    for item in items:
        example = _encode_one(item, tokenizer, max_tokens)
        if isinstance(example, str):
            dropped[example] += 1
            continue
        examples.append(example)
        if item.kind == "lesson":
            skills[item.skill] += 1
    return Encoded(tuple(examples), dict(dropped), dict(skills))


def _encode_one(item: Item, tokenizer: Tokenizer, max_tokens: int) -> Example | str:
    if item.weight <= 0:
        return "weight 0"
    try:
        prompt = prompt_ids(item.messages, tokenizer)
    except BadInput:
        return "not text"
    answer = tokenizer.encode(item.answer, add_special_tokens=False)
    if not answer or not prompt:
        return "no answer"
    end = [tokenizer.eos_token_id] if item.ended and tokenizer.eos_token_id is not None else []
    ids = (*prompt, *answer, *end)
    if len(ids) > max_tokens:
        return f"over {max_tokens} tokens"
    return Example(ids, len(prompt), item.weight, item.kind == "anchor")


def batches(examples: Sequence[Example], batch: int, epochs: int, seed: int) -> Iterator[tuple[int, list[Example]]]:
    """(epoch, examples) for every step, shuffled anew each epoch. The same seed gives the same order.

    Every lesson is seen in every epoch, every anchor in one of them: what the base says already needs no repetition,
    and its long answers would cost as much as the lessons. The last batch of an epoch may be smaller; none is dropped.
    """
    lessons = [i for i, example in enumerate(examples) if not example.anchor]
    anchors = [i for i, example in enumerate(examples) if example.anchor]
    for epoch in range(epochs):
        order = lessons + anchors[epoch::epochs]
        random.Random(f"{seed}:{epoch}").shuffle(order)
        for start in range(0, len(order), batch):
            yield epoch, [examples[i] for i in order[start : start + batch]]
