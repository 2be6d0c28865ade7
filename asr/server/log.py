"""One JSON line a request, and one for everything else that is said; nothing of any content."""

import json
import logging
import time
from typing import Any

REQUESTS = logging.getLogger("asr.server.requests")
"""A line a request, on standard output."""


class JsonFormatter(logging.Formatter):
    """A record as a JSON object: its message, or the fields of `extra={"fields": {...}}`."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        plain: dict[str, Any] = {"time": f"{moment}.{int(record.msecs):03}Z"}
        fields = getattr(record, "fields", None)
        plain |= fields or {"level": record.levelname.lower(), "message": record.getMessage()}
        if record.exc_info:
            plain["traceback"] = self.formatException(record.exc_info)
        return json.dumps(plain, ensure_ascii=False)


def request_line(fields: dict[str, Any]) -> None:
    """Write the line of one request."""
    REQUESTS.info("", extra={"fields": fields})


def logging_config() -> dict[str, Any]:
    """For `logging.config.dictConfig` and uvicorn: requests to standard output, else stderr."""
    handlers = {
        name: {
            "class": "logging.StreamHandler",
            "formatter": "json",
            "stream": f"ext://sys.{name}",
        }
        for name in ("stdout", "stderr")
    }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": "asr.server.log.JsonFormatter"}},
        "handlers": handlers,
        "loggers": {
            "asr.server": {"handlers": ["stderr"], "level": "INFO", "propagate": False},
            REQUESTS.name: {"handlers": ["stdout"], "level": "INFO", "propagate": False},
            "uvicorn.error": {"handlers": ["stderr"], "level": "WARNING", "propagate": False},
            "uvicorn.access": {"handlers": [], "propagate": False},
        },
    }
