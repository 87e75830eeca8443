"""The operator goes by the steps that accept tells it of: plans of every recipe, whatever their shape."""

from __future__ import annotations

import json
from unittest import mock

import pytest
import reconcile_world
from plans import RECIPES
from played_shapes import offline
from reconcile_world import World, summary

from selfalign_api.plan import Evaluate, Generate
from selfalign_operator.reconcile.results import figures_of, told
from selfalign_operator.views import ProgressView

PLANS = {name: plan() for name, plan in RECIPES.items()} | {"offline": offline()}
CHECKS = {"accuracy.greedy.before": {"value": 0.5, "low": 0.4, "high": 0.6}, "accuracy.greedy.after": {"value": 0.75}}


@pytest.mark.parametrize("name", PLANS)
def test_stage_iteration_progress_and_events_follow_the_plan(name: str) -> None:
    steps = PLANS[name]
    with mock.patch.object(reconcile_world, "STEPS", [(step.name, step.kind, step.iteration) for step in steps]):
        world, last = World(), max(step.iteration for step in steps)
        for step in steps:
            job = world.until(step.name)
            world.run(job)
            world.progress = ProgressView(30, 120, "records", "generate", 2.0, world.now, world.now)
            world.wait(40)
            world.settle()
            shown = world.status
            assert (shown.stage, shown.iteration, shown.progress) == (step.kind, f"{step.iteration}/{last}", "25%")
            world.progress = None
            world.complete(job, summary(step.name, checks=CHECKS) if isinstance(step, Evaluate) else None)
        world.settle()
    assert world.made == ["run-accept-1", *(f"run-{step.name}-1" for step in steps)]
    assert world.status.state == "Complete"
    # One event a transition: the end of the last iteration is that of the run.
    assert world.events.count("IterationFinished") == last - 1
    assert world.events.count("StepSucceeded") == len(steps) - last
    assert world.events[-1] == "Completed"
    evaluated = any(isinstance(step, Evaluate) for step in steps)
    assert [result.value for result in world.status.results] == (["0.5", "0.75"] if evaluated else [])


@pytest.mark.parametrize("name", PLANS)
def test_the_figures_of_a_generation_are_told_by_table(name: str) -> None:
    for step in PLANS[name]:
        if isinstance(step, Generate):
            result = {"records": dict.fromkeys(step.outputs, 100), "rows": dict.fromkeys(step.outputs, 80)}
            names = {figure.name for figure in figures_of(json.loads(json.dumps(result)))}
            assert names == {f"{part}.{out}" for part in ("records", "rows") for out in step.outputs}
            assert f"records.{step.outputs[0]} 100" in told(result)
