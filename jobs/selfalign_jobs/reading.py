"""What a person is shown of a run's folder by a pod that only reads it: the report, sample pairs, the logs that were kept."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from selfalign_api.errors import ConfigError
from selfalign_api.frames import frames
from selfalign_api.plan_values import Json
from selfalign_jobs.places.store import PLAN_FILE, REPORT, Folder, read_plan
from selfalign_jobs.step.kept_log import LOGS

What = Literal["report", "pairs", "logs"]
WHAT: tuple[What, ...] = get_args(What)
KEPT = re.compile(rf"{LOGS}/(?P<step>[^/]+)/(?P<attempt>\d+)/(?P<index>\d+)-(?P<started>[^/]+)\.txt")


@dataclass(frozen=True)
class Asked:
    """What is to be read."""

    what: What
    rows: int = 20  # of pairs
    step: str | None = None  # of logs; None: of all


def tell(run: Folder, asked: Asked) -> None:
    """Print it as lines that `selfalign_api.frames` puts together again. Raises ConfigError where there is nothing yet."""
    read: Mapping[What, Callable[[Folder, Asked], Json]] = {"report": _report, "pairs": _pairs, "logs": _logs}
    document = read[asked.what](run, asked)
    try:
        lines = list(frames(document))
    except ValueError as error:
        raise ConfigError.one(asked.what, f"is too large to be shown ({error}); read it in {run.place}") from None
    print("\n".join(lines), flush=True)


def _refuse_unplanned(run: Folder) -> None:
    if not run.exists(PLAN_FILE):
        raise ConfigError.one(run.place, f"has no {PLAN_FILE}: the run was not accepted yet")


def _report(run: Folder, asked: Asked) -> Json:  # noqa: ARG001
    """The page that the last iteration has left; before the first is done, as far as the run has come."""
    if run.exists(REPORT):
        return run.read(REPORT).decode()
    from selfalign_jobs.report import render_report

    _refuse_unplanned(run)
    return render_report(run, read_plan(run))


def _pairs(run: Folder, asked: Asked) -> Json:
    """Pairs of the newest iteration that has any, drawn by the run's seed: always the same ones."""
    from selfalign_jobs.report.evidence import read_evidence
    from selfalign_jobs.report.samples import newest_pairs

    _refuse_unplanned(run)
    pairs = newest_pairs(read_evidence(run, read_plan(run)), asked.rows)
    if not pairs:
        raise ConfigError.one(run.place, "has no pairs yet")
    return pairs


def _logs(run: Folder, asked: Asked) -> Json:
    """The kept logs, oldest attempt first."""
    found = [kept for name in run.files(LOGS) if (kept := KEPT.fullmatch(name)) and asked.step in (None, kept["step"])]
    found.sort(key=lambda kept: (kept["step"], int(kept["attempt"]), int(kept["index"]), kept["started"]))
    return [
        {
            "step": kept["step"],
            "attempt": int(kept["attempt"]),
            "index": int(kept["index"]),
            "started": kept["started"],
            "text": run.read(kept[0]).decode(errors="replace"),
        }
        for kept in found
    ]
