"""docs/scale.md says what the command prints, and the arithmetic is right."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agent.config import Config
from agent.engine.pool import LOOK_S
from bench.scale import Load, report, size

DOCS = Path(__file__).parents[1] / "docs"
PAGE, BENCHMARKS = (DOCS / "scale.md").read_text(), (DOCS / "benchmarks.md").read_text()


def test_the_page_holds_what_the_command_prints() -> None:
    assert report(Load()) in PAGE
    assert f"within {LOOK_S:g} s" in PAGE


def test_what_is_put_in_was_printed_by_a_bench() -> None:
    load = Load()
    measured = (load.engine_tokens_per_s, load.remember_per_s, load.bytes_per_episode, load.merge_per_s,
                load.page_bytes_per_episode)  # fmt: skip
    for figure in (*(f"{value:,g}" if value < 1000 else f"{value:,.0f}" for value in measured),
                   f"{load.gateway_cpu_ms:g} ms"):  # fmt: skip
        assert figure in BENCHMARKS, figure


def test_every_setting_on_the_page_is_one() -> None:
    tree = Config().model_dump()
    for section, key in re.findall(r"`(\w+)\.(\w+)[:`]", PAGE):
        assert key in tree[section], f"{section}.{key}"
    for key in ("look_s", "linger_s", "merge_every_s"):
        assert f"`{key}`" in PAGE
        assert key in tree["fleet"]


def test_a_load_that_can_be_counted_by_hand() -> None:
    load = Load(
        requests_per_s=1000, system2_share=0.1, audit_share=0.1, system1_tokens=10, system2_tokens=100,
        engine_tokens_per_s=2900, gateway_cpu_ms=2, remember_per_s=2000, bytes_per_episode=1000, merge_per_s=500,
        page_bytes_per_episode=4000, busy=1.0,
    )  # fmt: skip
    found = size(load)
    assert found.tokens_per_s == pytest.approx(1000 * (10 + (0.1 + 0.9 * 0.1) * 100))  # 29,000
    assert (found.engines, found.gateways) == (10, 2)
    assert found.disk_gb_per_day == pytest.approx(86.4)
    assert found.merge_share == 0.5
    assert found.thought_share == 1.0
    assert found.network_mb_per_s == pytest.approx(190 * 4000 / 1e6)
