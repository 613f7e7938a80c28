"""The routing benchmark: figures that are known beforehand, and a page from a real memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.logged import rows_of
from bench.routing import Pairs, at_random, believed_of, demo_gold, fixed, pairs_of, recovered, routed, write
from memory.store import Memory
from tuning_fakes import answered, remember_past


def pairs(first: list[float], second: list[float], confidence: list[float]) -> Pairs:
    n = len(first)
    columns = [np.array(values, dtype=float) for values in (first, second, confidence)]
    return Pairs(columns[2], columns[2], np.ones(n), columns[0], columns[1], np.full(n, 10.0), np.full(n, 100.0))


def test_a_router_that_knows_recovers_the_gap_with_the_least_of_system2() -> None:
    knows = pairs([0, 0, 1, 1, 1, 1, 1, 1, 1, 1], [1] * 10, [0.1, 0.2, *([0.9] * 8)])
    curve = routed(knows, knows.calibrated)
    assert (curve.quality[0], curve.quality[20], curve.quality[100]) == pytest.approx((0.8, 1.0, 1.0))
    assert (curve.cost[0], curve.cost[100]) == pytest.approx((0.1, 1.1))
    mean, half, most = recovered(curve)
    assert mean == pytest.approx(0.9, abs=0.01)
    assert (half, most) == pytest.approx((0.1, 0.16), abs=0.011)
    assert recovered(at_random(knows))[0] == pytest.approx(0.5)
    assert fixed(knows, 0.5) == pytest.approx((0.2, 0.3, 1.0))


def test_where_system2_is_no_better_there_is_nothing_to_recover() -> None:
    same = pairs([1, 0], [1, 0], [0.9, 0.1])
    assert np.isnan(recovered(routed(same, same.raw))[0])
    assert recovered(routed(same, same.raw))[1:] == (None, None)


def test_the_page_and_its_pictures_are_written_from_a_memory(tmp_path: Path) -> None:
    with Memory.open(tmp_path / "state") as memory:
        remember_past(memory, asks=150)
        rows = rows_of(memory, None)
        found = pairs_of(memory, rows, None)
    write(found, believed_of(rows), None, "agreement with System 2", tmp_path / "docs" / "routing.md")
    told = (tmp_path / "docs" / "routing.md").read_text()
    assert "| always System 2 | 100 % | 1.00 | 100.0% |" in told
    assert "| sums | 150 |" in told
    for picture in ("reliability", "quality"):
        assert (tmp_path / "docs" / f"routing-{picture}.svg").read_text().endswith("</svg>\n")
    recovered_share = recovered(routed(found, found.calibrated))[0]
    assert recovered_share > 0.6


def test_right_answers_are_known_where_the_questions_are_the_demos(tmp_path: Path) -> None:
    gold = demo_gold(seed=1, most=3)
    (text, right), *_ = [item for item in gold.items() if item[0].startswith("What is")]
    with Memory.open(tmp_path) as memory:
        for n in range(20):
            one = answered(n, 0.5 + 0.02 * n, n % 2 == 0)
            asked = text if n < 10 else "What is the time?"
            one = replace(one, ask=replace(one.ask, messages=({"role": "user", "content": asked},)))
            drafted = replace(one.draft, answer=right if n % 2 == 0 else "0") if one.draft else None
            memory.remember(replace(one, draft=drafted))
        memory.flush()
        found = pairs_of(memory, rows_of(memory, None), gold)
    assert found.first.tolist() == [1.0, 0.0] * 5
    assert found.second.tolist() == [0.0] * 10  # System 2 said 184
