"""What the command logs: lines of text or of JSON on stderr, the same from all its processes."""

import json
import logging
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from tusasgi.server.settings import Settings

logger = logging.getLogger("tusasgi.cli")

request_id: ContextVar[str] = ContextVar("tusasgi request id")
"""The request that is being worked on. Left set: what the server logs of it comes last."""

_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}
"""What every record has, or gets from a formatter; whatever else it has is a fact of its own."""


def log_config(settings: Settings) -> dict[str, Any]:
    """Return the configuration for `logging.config.dictConfig`, of all processes."""
    formatter = JsonLines if settings.log_format == "json" else TextLines
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"request": {"()": NamesRequest}},
        "formatters": {"lines": {"()": formatter}},
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "formatter": "lines",
                "filters": ["request"],
            }
        },
        "root": {"handlers": ["stderr"], "level": "WARNING"},
        "loggers": {
            "tusasgi.cli": {"level": "INFO"},
            "tusasgi.requests": {"level": "INFO" if settings.log_requests else "WARNING"},
            "_granian": {"handlers": [], "propagate": True},
        },
    }


def announce(line: str, settings: Settings) -> None:
    """Say to whoever has started the command what it does now."""
    if settings.log_format == "json":
        logger.info(line)
    else:
        print(line, flush=True)


class NamesRequest(logging.Filter):
    """Adds to each record which request it is about, if it is about one."""

    def filter(self, record: logging.LogRecord) -> bool:
        if (current := request_id.get(None)) is not None:
            record.request_id = current
        return True


class TextLines(logging.Formatter):
    """Time, level and message, and which request it is about."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        line = super().formatMessage(record)
        current = getattr(record, "request_id", None)
        return line if current is None else f"{line} request={current}"


class JsonLines(logging.Formatter):
    """One object a line: time in UTC, level, logger, message, and the facts of the record."""

    def format(self, record: logging.LogRecord) -> str:
        said = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        facts = {name: fact for name, fact in vars(record).items() if name not in _ATTRIBUTES}
        return json.dumps({**facts, **said}, default=str)
