from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from policies.lots import DAY_S, beyond, newcomers

SEEN = st.lists(st.tuples(st.sampled_from("abcdef"), st.floats(0, 100 * DAY_S)), max_size=40)


def test_a_source_is_new_for_some_days_unless_the_service_is() -> None:
    seen = [("old", 0.0), ("early", 3 * DAY_S), ("late", 29 * DAY_S), ("old", 30 * DAY_S)]
    assert newcomers(seen, 7) == {"late"}
    assert newcomers([*seen, ("old", 37 * DAY_S)], 7) == set(), "a week has passed"
    assert newcomers(seen[:2], 7) == set(), "the service itself is new"
    assert newcomers(seen, 0) == set()
    assert newcomers([], 7) == set()


@given(SEEN, st.floats(0, 50))
def test_the_order_does_not_matter_and_the_first_source_is_never_new(
    seen: list[tuple[str, float]], days: float
) -> None:
    found = newcomers(seen, days)
    assert found == newcomers(seen[::-1], days)
    assert not seen or min(seen, key=lambda pair: pair[1])[0] not in found


@given(st.integers(0, 5), st.lists(st.tuples(st.text(max_size=3), st.sampled_from("xy")), unique_by=lambda p: p[0]))
def test_each_group_keeps_its_cap_and_nothing_more(cap: int, grouped: list[tuple[str, str]]) -> None:
    over = beyond(cap, grouped)
    for group in "xy":
        names = {name for name, other in grouped if other == group}
        assert len(names - over) == min(cap, len(names))
