"""The publish step of a played run, and what an evaluation asks of it."""

from __future__ import annotations

import threading
from typing import Any

from selfalign_api.plan import Plan, Publish
from selfalign_api.run_file import GenerationMeans, Means, StepConfig, TrainingMeans
from selfalign_jobs.places.store import Folder, step_folder
from selfalign_jobs.publish.program import publish
from selfalign_jobs.recipes.method import Evaluation
from selfalign_jobs.step.context import StepContext
from selfalign_jobs.step.progress import Progress

CPU = GenerationMeans(device="CPU")
MEANS = Means(generation=CPU, training=TrainingMeans(device="CPU"), evaluation=CPU)


def asked(**values: Any) -> Evaluation:
    return Evaluation(when="EachIteration", prompts_given=True, checks=(), **values)


def run_of(folder: Folder, plan: Plan, step: Publish, stop: threading.Event | None = None) -> None:
    config = StepConfig(plan=plan, step=step.name, attempt=1, storage=f"file://{folder.path}", means=MEANS)
    place = step_folder(folder, step.iteration, step.name)
    publish(StepContext(config, folder, place, Progress(step.name), stop or threading.Event()), step)
