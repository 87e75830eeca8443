"""How the operator logs: lines for people, or JSON for a log store."""

from __future__ import annotations

import logging
import sys
from typing import Literal

from pythonjsonlogger.json import JsonFormatter

__all__ = ["LogFormat", "json_formatter", "log_to_stderr"]

LogFormat = Literal["text", "json"]


def json_formatter() -> logging.Formatter:
    """An object a line: what it says, and run, namespace, step, attempt and reason where it speaks of a run."""
    fields = {"asctime": "time", "levelname": "level", "name": "logger"}
    return JsonFormatter("%(asctime)s %(levelname)s %(name)s %(message)s", rename_fields=fields)


def log_to_stderr(form: LogFormat) -> None:
    """Send what the operator logs, and what Kopf warns of, to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    if form == "json":
        handler.setFormatter(json_formatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("selfalign_operator").setLevel(logging.INFO)
