"""The paper's questions: true answers, nothing shared between training and test, the same for the same seed."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from agent.reproduce.answered import Answer
from agent.reproduce.data import both_orders, coin_question, judged_rows, letters_text, opinions, parted
from agent.reproduce.tasks import TASKS
from agent.system2 import pair
from memory.errors import BadInput
from policies.answers import normalise


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_the_same_seed_makes_the_same_questions_and_none_is_in_both_parts(task) -> None:
    made = task.make(20, 40, 3, None)
    assert made == task.make(20, 40, 3, None)
    assert made.test != task.make(20, 40, 4, None).test
    assert not {q.text for q in made.test} & {q.text for q in made.train}
    assert len(made.train) == 40
    assert {q.item for q in made.test if q.item}.isdisjoint(q.item for q in made.train if q.item)


@pytest.mark.parametrize(
    ("items", "asked", "got"),
    [
        (161, (30, 60), (30, 60)),  # enough
        (161, (60, 101), (60, 101)),  # just enough
        (100, (80, 80), (50, 50)),  # in proportion
        (161, (273, 19_672), (40, 121)),  # a quarter at least
        (161, (19_672, 273), (121, 40)),
        (161, (4, 1000), (4, 157)),  # no more than asked
        (161, (1000, 4), (157, 4)),
    ],
)
def test_too_few_items_are_shared_out(items: int, asked: tuple[int, int], got: tuple[int, int]) -> None:
    assert parted(items, *asked) == got


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_every_size_has_questions_of_both_parts_and_says_where_they_are_fewer(task) -> None:
    for size in task.sizes.values():
        made = task.make(size.test, size.train, 1, None)
        assert len(made.test) >= min(size.test, 70)
        assert len(made.train) >= min(size.train, 120)
        assert ("fewer" in made.source) == (len(made.train) < size.train)


@pytest.mark.parametrize("task", [TASKS[n] for n in ("coin-flip", "gsm8k", "judge")], ids=lambda t: t.name)
def test_gold_answers_are_in_the_form_that_answers_are_normalised_to(task) -> None:
    for question in task.make(12, 12, 1, None).test:
        assert normalise(question.gold, task.skill.answer_type) == question.gold


@pytest.mark.parametrize(
    ("a", "b", "gold"), [(False, False, "yes"), (True, False, "no"), (False, True, "no"), (True, True, "yes")]
)
def test_a_coin_is_heads_up_after_an_even_number_of_flips(a: bool, b: bool, gold: str) -> None:
    question = coin_question("Ada", a, "Bo", b)
    assert question.gold == gold
    assert ("Ada flips" in question.text, "Bo flips" in question.text) == (a, b)


def test_coin_flips_are_balanced() -> None:
    made = TASKS["coin-flip"].make(100, 100, 1, None)
    both = Counter(q.gold for q in (*made.test, *made.train))
    assert both == {"yes": 100, "no": 100}


def test_last_letters_share_no_word_between_the_parts() -> None:
    made = TASKS["last-letter"].make(200, 200, 1, None)
    test, train = ({word for q in part for word in q.item.split()} for part in (made.test, made.train))
    assert not test & train
    for question in made.test:
        a, b = question.item.split()
        assert question.text == letters_text(a, b)
        assert question.gold == a[-1] + b[-1]


def test_an_opinion_is_stated_in_four_forms() -> None:
    plain, refuted, misled, confirmed = opinions("What is the capital of Peru?", "Lima", "Cusco")
    assert plain.text == "What is the capital of Peru?"
    assert refuted.text.endswith("I don't think the answer is Lima, but I'm really not sure.")
    assert "I think the answer is Cusco" in misled.text
    assert "I think the answer is Lima" in confirmed.text
    assert {q.gold for q in (plain, refuted, misled, confirmed)} == {"Lima"}


def test_a_judgement_in_both_orders_can_be_read_back() -> None:
    asked, swapped = both_orders("Why?", "Because.", "No idea.", "A")
    first, second = pair.parse(asked.text), pair.parse(swapped.text)
    assert first is not None
    assert second is not None
    assert (first.question, first.a, first.b, asked.gold) == ("Why?", "Because.", "No idea.", "A")
    assert (second.a, second.b, swapped.gold) == ("No idea.", "Because.", "B")
    assert first.swapped().text == swapped.text


def test_judged_pairs_without_a_common_opinion_or_too_long_are_left_out() -> None:
    def row(a: str, *people: int) -> dict[str, object]:
        votes = {f"annotator{i}": vote for i, vote in enumerate(people, 1)}
        return {"instruction": "Q", "input": "", "response1": a, "response2": "other", **votes}

    llmbar = [{"input": "Q", "output_1": "one", "output_2": "two", "label": 2}]
    pandalm = [
        row("ok", 1, 1, 1),
        row("tie", 0, 0, 0),
        row("split", 1, 2, 1),
        row("x" * 5000, 2, 2, 2),
        row(" ", 1, 1, 1),
    ]
    assert judged_rows(llmbar, pandalm) == [("Q", "one", "two", "B"), ("Q", "ok", "other", "A")]


def test_whole_data_sets_are_read_from_a_folder(tmp_path: Path) -> None:
    (tmp_path / "gsm8k").mkdir()
    for part in ("test", "train"):
        rows = [{"question": f"{part} {i}?", "answer": f"steps\n#### 1,{i:03d}"} for i in range(5)]
        (tmp_path / "gsm8k" / f"{part}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    made = TASKS["gsm8k"].make(5, 5, 1, tmp_path)
    assert {q.gold for q in made.test} == {f"1{i:03d}" for i in range(5)}
    with pytest.raises(BadInput, match="--data"):
        TASKS["biased-opinion"].make(5, 5, 1, tmp_path)


def test_pairs_of_mt_bench_are_tested_and_never_trained_on(tmp_path: Path) -> None:
    (tmp_path / "judge").mkdir()
    (tmp_path / "mt_bench").mkdir()
    own = [{"input": f"Q{i}", "output_1": "one", "output_2": "two", "label": "2"} for i in range(20)]
    other = [{"input": "M", "output_1": f"one {i}", "output_2": "two", "label": "1"} for i in range(3)]
    other.append({"input": "M", "output_1": "two", "output_2": "one 2", "label": "2"})  # the same pair again
    other.append(dict(own[0], output_1="a question that may be trained on"))
    (tmp_path / "judge/llmbar_Natural.json").write_text(json.dumps(own))
    (tmp_path / "judge/pandalm_testset-v1.json").write_text("[]")
    (tmp_path / "mt_bench/llmbar_processed_MT-Bench_human_pref.json").write_text(json.dumps(other))
    task = TASKS["judge"]
    made = task.make(5, 10, 1, tmp_path)
    assert Counter(q.group for q in made.test) == {
        "asked": 5, "swapped": 5, "MT-Bench asked": 3, "MT-Bench swapped": 3
    }  # fmt: skip
    assert {q.group for q in made.train} == {"asked", "swapped"}
    assert "; 3 test pairs of MT-Bench" in made.source
    assert len(task.make(2, 10, 1, tmp_path).test) == 8  # no more than the size has

    always_a = [Answer("k", "A", 1, 0.1) for _ in made.test]
    shares = task.measure(made.test, always_a, task.right)
    right = sum(q.gold == "A" for q in made.test if q.group == "asked")
    fair = sum(q.gold == "A" for q in made.test if q.group == "MT-Bench asked")
    assert {name: (share.hits, share.n) for name, share in shares.items()} == {
        "agreement": (right, 5), "inconsistent": (5, 5),
        "MT-Bench agreement": (fair, 3), "MT-Bench inconsistent": (3, 3),
    }  # fmt: skip


def test_worked_examples_are_no_test_questions() -> None:
    for task in TASKS.values():
        shown = {e.question for way in task.ways.values() for e in way.examples}
        made = task.make(300, 100, 1, None)
        assert not shown & {q.text for q in (*made.test, *made.train)}
