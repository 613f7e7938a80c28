"""Tests of policies/limits.py: buckets without a clock."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from memory.errors import BadInput, TooLarge
from policies.limits import DAY_S, KeyLimits, LimitSettings, admit, admit_practice, check_ask, finished, fresh, of_key

LIMITS = KeyLimits(requests_per_minute=60, burst=3, concurrent=2, tokens_per_day=100)
NOON = 20_000 * DAY_S + DAY_S / 2


def test_a_burst_passes_then_the_rate_holds():
    usage = fresh(LIMITS, NOON)
    for _ in range(3):
        admission = admit(usage, LIMITS, NOON)
        assert admission.allowed
        usage = finished(admission.usage, 0, NOON)
    refused = admit(usage, LIMITS, NOON)
    assert not refused.allowed
    assert refused.retry_after_s == pytest.approx(1.0)
    assert "60 requests per minute" in refused.reason
    assert admit(refused.usage, LIMITS, NOON + 1.0).allowed


def test_requests_under_way_are_counted():
    usage = fresh(LIMITS, NOON)
    for _ in range(2):
        usage = admit(usage, LIMITS, NOON).usage
    assert "2 requests of this key are under way" in admit(usage, LIMITS, NOON).reason
    assert admit(finished(usage, 0, NOON), LIMITS, NOON).allowed


def test_the_days_tokens_end_and_return_at_midnight():
    usage = finished(admit(fresh(LIMITS, NOON), LIMITS, NOON).usage, 100, NOON)
    refused = admit(usage, LIMITS, NOON)
    assert not refused.allowed
    assert refused.retry_after_s == DAY_S / 2
    assert admit(refused.usage, LIMITS, NOON + DAY_S / 2).allowed


def test_practice_is_held_to_the_days_tokens_alone():
    usage = fresh(LIMITS, NOON)
    for _ in range(10):
        admission = admit_practice(usage, LIMITS, NOON)
        assert admission.allowed
        usage = admission.usage
    assert (usage.bucket, usage.under_way) == (3.0, 0), "people's requests are counted as if there were none"
    asked = admit(usage, LIMITS, NOON).usage
    ended = finished(asked, 100, NOON, requests=0)
    assert (ended.under_way, ended.spent) == (1, 100)
    refused = admit_practice(ended, LIMITS, NOON)
    assert (refused.allowed, refused.retry_after_s) == (False, DAY_S / 2)
    assert "limits.tokens_per_day" in refused.reason


def test_a_request_over_midnight_counts_for_the_new_day():
    usage = finished(admit(fresh(LIMITS, NOON), LIMITS, NOON).usage, 60, NOON)
    assert finished(usage, 70, NOON + DAY_S).spent == 70


def test_a_clock_put_back_gives_nothing_away():
    usage = finished(admit(fresh(LIMITS, NOON), LIMITS, NOON).usage, 100, NOON)
    assert not admit(usage, LIMITS, NOON - DAY_S).allowed
    assert admit(usage, LIMITS, NOON - DAY_S).usage.bucket == usage.bucket


def test_a_clock_put_forward_and_back_keeps_nobody_waiting():
    ahead = finished(admit(fresh(LIMITS, NOON), LIMITS, NOON + 365 * DAY_S).usage, 100, NOON + 365 * DAY_S)
    for _ in range(3):  # the burst, after the clock was put right
        ahead = replace(admit(replace(ahead, spent=0), LIMITS, NOON).usage, under_way=0)
    assert not admit(ahead, LIMITS, NOON).allowed
    assert admit(ahead, LIMITS, NOON + 1.0).allowed
    spent = admit(replace(ahead, spent=100), LIMITS, NOON).usage
    assert not admit(spent, LIMITS, NOON + 1.0).allowed
    assert admit(spent, LIMITS, NOON + DAY_S / 2).allowed, "the day's tokens return at the next midnight"


def test_a_key_may_have_limits_of_its_own():
    own = of_key({"concurrent": 7}, LimitSettings())
    assert own.concurrent == 7
    assert own.burst == LimitSettings().burst
    with pytest.raises(ValidationError):
        of_key({"concurrency": 7}, LimitSettings())


def test_what_one_request_may_ask_for():
    small = LimitSettings(messages=2, prompt_chars=10, answer_tokens=5)
    hello = {"role": "user", "content": "hello"}
    check_ask([hello, hello], 5, small)
    with pytest.raises(TooLarge, match="3 messages"):
        check_ask([hello] * 3, None, small)
    with pytest.raises(TooLarge, match="11 characters"):
        check_ask([{"role": "user", "content": [{"type": "text", "text": "1234567"}]}], None, small)
    with pytest.raises(BadInput, match="6 were asked for"):
        check_ask([hello], 6, small)
    check_ask([hello], None, small, choices=5)
    with pytest.raises(BadInput, match="6 were asked for in 2 choices"):
        check_ask([hello], 3, small, choices=2)


@given(st.lists(st.floats(0, 5), max_size=200))
def test_no_more_than_burst_and_rate_ever_pass(gaps):
    now, usage, passed = NOON, fresh(LIMITS, NOON), 0
    for gap in gaps:
        now += gap
        admission = admit(usage, LIMITS, now)
        passed += admission.allowed
        usage = finished(admission.usage, 0, now) if admission.allowed else admission.usage
        if not admission.allowed:
            assert admission.retry_after_s > 0
            later = now + admission.retry_after_s + 1e-6
            assert admit(usage, LIMITS, later).allowed
    assert passed <= LIMITS.burst + (now - NOON) + 1e-6
