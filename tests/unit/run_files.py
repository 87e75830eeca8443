"""What an entry point is given: a run's file and its plan, as accepting the run leaves them."""

from __future__ import annotations

from pathlib import Path

from selfalign_api.run_file import RunFile, StepConfig
from selfalign_jobs.places.store import Folder, write_plan


def entry_arguments(config: StepConfig, folder: Path) -> list[str]:
    """Write the plan into the run's folder and the run's file into `folder`; the arguments for one attempt at the step."""
    write_plan(Folder.open(config.storage), config.plan)
    shared = {name: getattr(config, name) for name in ("storage", "mounts", "means", "reuse_from")}
    file = folder / "run.json"
    file.write_text(RunFile(run={}, **shared).model_dump_json())
    return [str(file), "--step", config.step, "--attempt", str(config.attempt)]
