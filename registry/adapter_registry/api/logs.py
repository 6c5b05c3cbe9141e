"""The server's own log as lines of JSON on standard error: requests, warnings, and errors that nobody foresaw."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

OURS = "adapters"
THEIRS = "uvicorn"


class JsonLine(logging.Formatter):
    """A record as one line: when, how bad, what, and the facts that came with it."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        at = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        line: dict[str, Any] = {"at": at, "level": record.levelname.lower(), "log": record.name}
        facts = getattr(record, "facts", None)
        line |= facts if isinstance(facts, dict) else {"text": record.getMessage()}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)


def log_config(*, requests: bool) -> dict[str, Any]:
    """A `logging.config` document: our lines and uvicorn's; each request's only if `requests`."""
    handled = {"handlers": ["stderr"], "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": JsonLine} if requests else {"format": "%(levelname)s: %(message)s"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "loggers": {
            OURS: {**handled, "level": "INFO" if requests else "WARNING"},
            THEIRS: {**handled, "level": "WARNING"},
        },
    }
