"""When a night is due. Time is an argument: the clock and the waiting are agent/scheduler.py's."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from enum import StrEnum
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from apscheduler.triggers.cron import CronTrigger
from pydantic import Field, field_validator

from memory.settings import Settings


class ScheduleSettings(Settings):
    """When the service learns by itself."""

    enabled: bool = Field(default=True, description="learn by itself; false: only when told to (`secondnature learn`)")
    cron: str = Field(default="0 3 * * *", description="when a night starts: minute hour day month weekday")
    timezone: str | None = Field(default=None, description="IANA time zone of `cron`; null: the machine's own")
    min_new_lessons: int = Field(
        default=30, ge=1, le=1_000_000, description="lessons that must wait before a night is worth its time"
    )
    enough_lessons: int = Field(
        default=400, ge=1, le=1_000_000, description="lessons that start a night at once, without waiting for `cron`"
    )
    min_gap_s: float = Field(
        default=6 * 3600.0,
        ge=0,
        le=30 * 86400.0,
        description="seconds between two starts that `enough_lessons` causes",
    )
    catch_up: bool = Field(
        default=True, description="run at the start a night that was missed while the service was down"
    )

    @field_validator("timezone")
    @classmethod
    def _zone_exists(cls, zone: str | None) -> str | None:
        if zone is not None:
            try:
                ZoneInfo(zone)
            except (ZoneInfoNotFoundError, ValueError) as fault:
                raise ValueError(f"no time zone is called '{zone}'; use a name such as Europe/Paris") from fault
        return zone

    @field_validator("cron")
    @classmethod
    def _cron_parses(cls, cron: str) -> str:
        try:
            CronTrigger.from_crontab(cron, timezone=UTC)
        except ValueError as fault:
            raise ValueError(f"'{cron}' is not five cron fields such as '0 3 * * *': {fault}") from fault
        return cron


class Cause(StrEnum):
    """What made a night due."""

    CRON = "cron"
    MISSED = "missed"
    ENOUGH = "enough"


@dataclass(frozen=True, slots=True)
class Due:
    """A night should start now."""

    cause: Cause
    reason: str  # one sentence for a person


def due(
    now: float,
    settings: ScheduleSettings,
    *,
    last_started: float | None,
    waiting: int,
    running: bool,
    fired: bool = False,
    missed: bool = False,
) -> Due | None:
    """Say whether a night should start at `now` (unix seconds).

    last_started: unix seconds of the latest night's start, None before the first; waiting: lessons not yet
    in any adapter; running: a night is under way; fired: `cron` fires now; missed: see `was_missed`.
    """
    if running or not settings.enabled:
        return None
    worth = waiting >= settings.min_new_lessons
    if fired and worth:
        return Due(Cause.CRON, f"it is time ({settings.cron}) and {waiting} new lessons wait")
    if missed and settings.catch_up and worth:
        return Due(Cause.MISSED, f"a night was missed while the service was down and {waiting} new lessons wait")
    if waiting >= settings.enough_lessons and not _too_soon(now, last_started, settings):
        return Due(Cause.ENOUGH, f"{waiting} new lessons wait, at least {settings.enough_lessons} start a night")
    return None


def next_start(after: float, settings: ScheduleSettings) -> float | None:
    """The first time after `after` (unix seconds) at which `cron` fires; None: never, or learning is off."""
    if not settings.enabled:
        return None
    trigger = CronTrigger.from_crontab(settings.cron, timezone=_zone(settings))
    # get_next_fire_time gives the first time not before its argument: a microsecond on means strictly after.
    moment = datetime.fromtimestamp(after + 1e-6, tz=UTC)
    found: datetime | None = trigger.get_next_fire_time(None, moment)
    return None if found is None else found.timestamp()


def was_missed(now: float, settings: ScheduleSettings, *, last_seen: float | None) -> bool:
    """True if `cron` fired between `last_seen` and `now` while nobody listened.

    last_seen: unix seconds at which the service was last known to be up, or its latest night's start; None:
    a new state folder, which has missed nothing.
    """
    if last_seen is None or last_seen >= now:
        return False
    first = next_start(last_seen, settings)
    return first is not None and first <= now


def _too_soon(now: float, last_started: float | None, settings: ScheduleSettings) -> bool:
    # A start in the future means that the clock was put back: it must not stop nights for that long.
    return last_started is not None and 0 <= now - last_started < settings.min_gap_s


def _zone(settings: ScheduleSettings) -> tzinfo | None:
    return None if settings.timezone is None else ZoneInfo(settings.timezone)
