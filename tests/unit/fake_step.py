"""A step program that does what a script file says, one word an attempt: the runner under test sees a real process.

Words: `done`, `win=SHARE` (done, with that figure), an exit code, `kill` (dies by SIGKILL), `wait` (until SIGTERM, then
exit 75).
"""

from __future__ import annotations

import json
import os
import signal
import sys

from selfalign_api.run_file import RunFile, StepConfig
from selfalign_jobs.entry import parser
from selfalign_jobs.places.store import Folder, Manifest, read_plan, step_folder, write_manifest


def main() -> None:
    options = parser().parse_args()
    file = RunFile.model_validate_json(options.run.read_text())
    run = Folder.open(file.storage)
    config = StepConfig.of(file, read_plan(run), options.step, options.attempt)
    script = json.loads(run.read("script.json"))[config.step]
    word = script[min(config.attempt, len(script)) - 1]
    step = config.plan.step(config.step)
    if options.tracking is not None:
        run.write(f"tracking-{config.step}", options.tracking.url.encode())
    if word == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "wait":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
        run.write(f"waiting-{config.step}", b"")
        signal.pause()
    done, _, share = word.partition("=")
    result = {"checks": {done: {"value": float(share)}}} if share else {"pairs": 3}
    if word != "done" and not share:
        options.termination_message.write_text(json.dumps({"error": f"told to end with {word}"}))
        sys.exit(int(word))
    manifest = Manifest(
        step=step.name, kind=step.kind, digest="sha256:0", recipe="sao", version="0", attempt=config.attempt,
        started="", finished="", active_seconds=1.0, seed=0, result=result,
    )  # fmt: skip
    write_manifest(step_folder(run, step.iteration, step.name), manifest)


main()
