"""Logs: plain lines for people or JSON for programs, with the episode's id where there is one."""

from __future__ import annotations

import logging
import sys
from typing import Literal

import orjson
from pydantic import Field

from memory.settings import Settings

_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class LogSettings(Settings):
    """What the service says about itself."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="least serious line to print")
    form: Literal["text", "json"] = Field("text", description="text for people, json (one object a line) for programs")


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the extra fields (such as `episode`)."""

    def format(self, record: logging.LogRecord) -> str:
        extra = {key: value for key, value in vars(record).items() if key not in _PLAIN}
        row = {"time": record.created, "level": record.levelname, "logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            row["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(row | extra, default=str).decode()


def configure(settings: LogSettings) -> None:
    """Send everything to standard error in the chosen form."""
    handler = logging.StreamHandler(sys.stderr)
    plain = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S")
    handler.setFormatter(JsonLines() if settings.form == "json" else plain)
    logging.basicConfig(level=settings.level.upper(), handlers=[handler], force=True)
    # No form of ours names the source line, the thread or the process: finding them takes a third of a line's time.
    logging._srcfile = None  # Python's documented switch
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    for noisy in ("apscheduler", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
