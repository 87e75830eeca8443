"""A step program that does what a script file says, one word an attempt: the runner under test sees a real process.

Words: `done`, an exit code, `kill` (dies by SIGKILL), `wait` (until SIGTERM, then exit 75).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path

from selfalign_api.plan import StepConfig
from selfalign_jobs.store import Folder, Manifest, step_folder, write_manifest


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("config", type=Path)
    parser.add_argument("--termination-message", type=Path)
    options, _ = parser.parse_known_args()
    config = StepConfig.model_validate_json(options.config.read_text())
    run = Folder.open(config.storage)
    script = json.loads(run.read("script.json"))[config.step]
    word = script[min(config.attempt, len(script)) - 1]
    step = config.plan.step(config.step)
    if word == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "wait":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
        run.write(f"waiting-{config.step}", b"")
        signal.pause()
    if word != "done":
        options.termination_message.write_text(json.dumps({"error": f"told to end with {word}"}))
        sys.exit(int(word))
    manifest = Manifest(
        step=step.name, kind=step.kind, digest="sha256:0", recipe="sao", version="0", attempt=config.attempt,
        started="", finished="", active_seconds=1.0, seed=0, result={"pairs": 3},
    )  # fmt: skip
    write_manifest(step_folder(run, step.iteration, step.name), manifest)


main()
