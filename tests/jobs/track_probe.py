"""Tracks a run and says each request before it is sent: `track_probe.py FOLDER_URL SERVER`. Whoever reads may kill it at any."""

from __future__ import annotations

import sys
import urllib.request
from typing import Any

from selfalign_api.life import Tracking
from selfalign_jobs.places.store import Folder, read_plan
from selfalign_jobs.tracking.follow import follow
from selfalign_jobs.tracking.mlflow import MLflow


class Telling(MLflow):
    """The real client, which tells what it asks."""

    def _ask(self, request: urllib.request.Request, *options: Any) -> bytes:
        print("asks", request.method, request.full_url, flush=True)
        return super()._ask(request, *options)


def main() -> None:
    import selfalign_jobs.tracking.follow as module

    told: Any = Telling
    module.MLflow = told  # type: ignore[misc]
    run = Folder.open(sys.argv[1])
    follow(run, read_plan(run), Tracking(type="MLflow", url=sys.argv[2], experiment=sys.argv[3]), {})


main()
