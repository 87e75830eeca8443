"""A step program that says its name and attempt, waits for a word in the storage, then ends as the word says.

The word is a file `go-STEP-ATTEMPT` beside the run's folder: an exit code, or `crash`. Its log is kept as that of every step;
the pod that reads the folder is the real program.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

from selfalign_api.outcome import pack_steps
from selfalign_api.run_file import RunFile
from selfalign_jobs.entry import parser
from selfalign_jobs.step.kept_log import keep_log

STEPS = [("i1-generate", "generate", 1), ("i1-train", "train", 1), ("i1-evaluate", "evaluate", 1)]


def main() -> None:
    if "--read" in sys.argv:
        runpy.run_module("selfalign_jobs", run_name="__main__", alter_sys=True)
    log = keep_log()
    options = parser().parse_args()
    options.address_file.write_text("")
    file = RunFile.model_validate_json(options.run.read_text())
    storage = Path(urlsplit(file.storage).path)
    log.keep_in(file.storage, storage, options.step, options.attempt)
    for number in range(3):
        print(f"{options.step}/{options.attempt} line {number}", flush=True)
    go = storage.parents[1] / f"go-{options.step}-{options.attempt}"
    while not go.exists():
        time.sleep(0.05)
    print(f"{options.step}/{options.attempt} ends", flush=True)
    log.finish()
    if (word := go.read_text()) == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    said = {"step": options.step, "digest": "sha256:" + "5" * 64, "attempt": options.attempt}
    if options.step == "accept":
        model = {"url": "file:///model", "revision": "sha256:" + "6" * 64}
        said |= {"version": "0.1.0", "model": model, "storage": file.storage, "steps": pack_steps(STEPS)}
    else:
        said |= {"result": {}}
    options.termination_message.write_text(json.dumps(said))
    raise SystemExit(int(word))


main()
