"""A tree of lessons: every shared prefix once, every answer token predicted from its own context."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from adapters.dataset import Example
from adapters.pack import pack, packs

examples_ = st.lists(
    st.lists(st.integers(0, 2), min_size=2, max_size=7).flatmap(
        lambda ids: st.builds(Example, st.just(tuple(ids)), st.integers(1, len(ids) - 1), st.sampled_from([0.5, 1.0]))
    ),
    min_size=1,
    max_size=8,
)


def predicted(part) -> list[tuple[tuple[int, ...], int, float]]:
    """(context, target, weight) of each row, the context read off the mask."""
    visible = part.visible()
    return sorted(
        (tuple(int(t) for t in part.tokens[visible[row]]), int(target), float(weight))
        for row, target, weight in zip(part.rows, part.targets, part.weights, strict=True)
    )


def wanted(examples: list[Example]) -> list[tuple[tuple[int, ...], int, float]]:
    return sorted((e.ids[:at], e.ids[at], e.weight) for e in examples for at in range(e.n_prompt, len(e.ids)))


@given(examples_)
def test_each_answer_token_sees_exactly_its_own_context(examples: list[Example]) -> None:
    part = pack(examples)
    assert predicted(part) == wanted(examples)
    assert len(part.tokens) == len({e.ids[:n] for e in examples for n in range(1, len(e.ids))})
    depths = part.visible().sum(axis=1) - 1
    assert (depths == part.positions).all()


@given(examples_, st.integers(1, 12))
def test_cutting_into_packs_loses_nothing(examples: list[Example], size: int) -> None:
    parts = list(packs(examples, size))
    assert sorted(p for part in parts for p in predicted(part)) == wanted(examples)
    longest = max(len(e.ids) - 1 for e in examples)
    assert all(len(part.tokens) <= max(size, longest) for part in parts)


def test_a_shared_prompt_is_laid_out_once() -> None:
    head = tuple(range(40))
    part = pack([Example((*head, 100 + i, 7), 41, 1.0) for i in range(16)])
    assert len(part.tokens) == 40 + 16
    assert part.n_plain == 16 * 41
