"""A made run (report_run.py) that has published its model and its pairs, with what a tracking server is to show of it."""

from __future__ import annotations

import threading
from pathlib import Path

from report_run import MEANS, Chances, MadeRun, make_run

from selfalign_api.plan import ArtifactRef, ModelRef, Plan, Publish
from selfalign_api.run_file import StepConfig
from selfalign_jobs.places.store import step_folder, write_plan
from selfalign_jobs.publish.program import publish
from selfalign_jobs.report import write_report
from selfalign_jobs.step.context import StepContext
from selfalign_jobs.step.progress import Progress

SMALL = Chances(personas=60, held_out=30, iterations=2)


def published_run(path: Path, chances: Chances = SMALL) -> MadeRun:
    """Two iterations, evaluated each, and the last one published to folders beside the run, by the programs of a run."""
    made = make_run(path, chances)
    last = chances.iterations
    for iteration in range(1, last + 1):
        made.folder.write(f"iter-{iteration}/i{iteration}-train/model/README.md", b"# the card\n")
        made.folder.write(f"iter-{iteration}/i{iteration}-train/model/config.json", b"{}")
    step = Publish(
        iteration=last,
        model=ModelRef(iteration=last),
        pairs=(ArtifactRef(step=f"i{last}-generate", name="pairs"),),
        url=(path / "published/model").as_uri(),
        dataset_url=(path / "published/pairs").as_uri(),
    )
    plan = Plan(**dict(made.plan) | {"steps": (*made.plan.steps, step)})
    write_plan(made.folder, plan)
    write_report(made.folder, plan)
    publish(context_of(made, plan, step.name), step)
    return MadeRun(made.folder, plan)


def context_of(made: MadeRun, plan: Plan, name: str) -> StepContext:
    """A context to do a step of it, or to find it done."""
    config = StepConfig(plan=plan, step=name, attempt=1, storage=f"file://{made.folder.path}", means=MEANS)
    place = step_folder(made.folder, plan.step(name).iteration, name)
    return StepContext(config, made.folder, place, Progress(name), threading.Event())
