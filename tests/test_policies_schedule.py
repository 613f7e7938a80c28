"""Tests of policies/schedule.py: no clock, no waiting."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from policies.schedule import Cause, ScheduleSettings, due, next_start, was_missed

SETTINGS = ScheduleSettings(timezone="UTC")
NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC).timestamp()
HOUR = 3600.0


def test_two_nights_never_run_at_once():
    assert due(NOON, SETTINGS, last_started=None, waiting=9999, running=True, fired=True, missed=True) is None


def test_cron_starts_a_night_when_lessons_wait():
    found = due(NOON, SETTINGS, last_started=NOON - HOUR, waiting=30, running=False, fired=True)
    assert found is not None
    assert found.cause is Cause.CRON
    assert "30 new lessons" in found.reason


def test_cron_without_enough_lessons_starts_nothing():
    assert due(NOON, SETTINGS, last_started=None, waiting=29, running=False, fired=True) is None


def test_a_missed_night_runs_at_the_start_unless_told_not_to():
    found = due(NOON, SETTINGS, last_started=None, waiting=50, running=False, missed=True)
    assert found is not None
    assert found.cause is Cause.MISSED
    never = ScheduleSettings(catch_up=False)
    assert due(NOON, never, last_started=None, waiting=50, running=False, missed=True) is None


def test_enough_lessons_start_a_night_at_once_but_not_again_too_soon():
    found = due(NOON, SETTINGS, last_started=None, waiting=400, running=False)
    assert found is not None
    assert found.cause is Cause.ENOUGH
    assert due(NOON, SETTINGS, last_started=NOON - 5.9 * HOUR, waiting=400, running=False) is None
    assert due(NOON, SETTINGS, last_started=NOON - 6 * HOUR, waiting=400, running=False) is not None
    assert due(NOON, SETTINGS, last_started=None, waiting=399, running=False) is None


def test_a_clock_put_back_does_not_stop_nights():
    assert due(NOON, SETTINGS, last_started=NOON + 90 * 86400, waiting=400, running=False) is not None


def test_learning_can_be_switched_off():
    off = ScheduleSettings(enabled=False)
    assert due(NOON, off, last_started=None, waiting=9999, running=False, fired=True, missed=True) is None
    assert next_start(NOON, off) is None
    assert not was_missed(NOON, off, last_seen=0.0)


def test_next_start_is_strictly_after():
    three = datetime(2026, 3, 11, 3, 0, tzinfo=UTC).timestamp()
    assert next_start(NOON, SETTINGS) == three
    assert next_start(three, SETTINGS) == three + 24 * HOUR


def test_next_start_follows_the_zone():
    paris = ScheduleSettings(timezone="Europe/Paris")
    assert next_start(NOON, paris) == datetime(2026, 3, 11, 2, 0, tzinfo=UTC).timestamp()


def test_missed_means_that_cron_fired_while_nobody_listened():
    assert was_missed(NOON, SETTINGS, last_seen=NOON - 10 * HOUR)
    assert not was_missed(NOON, SETTINGS, last_seen=NOON - 8 * HOUR)
    assert not was_missed(NOON, SETTINGS, last_seen=None)
    assert not was_missed(NOON, SETTINGS, last_seen=NOON + HOUR)


@pytest.mark.parametrize("wrong", [{"cron": "at three"}, {"cron": "99 3 * * *"}, {"timezone": "Mars/Olympus"}])
def test_wrong_settings_name_what_is_wrong(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong.values())).replace("*", r"\*")):
        ScheduleSettings(**wrong)
