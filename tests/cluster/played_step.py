"""A step program that serves its progress until SIGTERM, writes what it was given, and ends with code 75."""

from __future__ import annotations

import json
import os
import signal
import threading

from selfalign_api.run_file import RunFile
from selfalign_jobs.entry import parser
from selfalign_jobs.step.progress import Progress, ProgressServer


def main() -> None:
    options = parser().parse_args()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    file = RunFile.model_validate_json(options.run.read_text())
    progress = Progress(options.step)
    progress.begin("wait", total=6, unit="records", done=2)
    host, _, port = options.listen.rpartition(":")
    server = ProgressServer(progress, host, int(port))
    options.address_file.write_text(server.address)
    stop.wait()
    server.close()
    seen = {"storage": file.storage, "mounts": file.mounts, "GREETING": os.environ.get("GREETING")}
    options.termination_message.write_text(json.dumps({"stopped": seen, "home": os.environ["HOME"]}))
    raise SystemExit(75)


main()
