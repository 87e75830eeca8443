"""The demo's run on the tiny model, made small: what tests of step programs start from."""

from __future__ import annotations

from pathlib import Path

from selfalign_api.load import load_run
from selfalign_api.plan import Generate, Plan
from selfalign_api.run_file import GenerationMeans, Means, StepConfig, TrainingMeans
from selfalign_jobs.accept.resolve import resolve

EXAMPLES = Path(__file__).parents[2] / "examples"
MOUNTS = {"selfalign": str(EXAMPLES)}
MODEL = EXAMPLES / "tiny-model/model"
STEP = "i1-generate"


def tiny_plan(personas: int = 64, held_out: int = 40) -> Plan:
    """The plan of examples/sao-tiny.yaml with fewer personas and only the first held-out prompts' answers asked."""
    plan = resolve(load_run(EXAMPLES / "sao-tiny.yaml"), "CPU", MOUNTS, EXAMPLES).plan
    step = plan.steps[0]
    assert isinstance(step, Generate)
    pairs, answers = step.load.jobs
    pairs = pairs.model_copy(
        update={"rows": pairs.rows.model_copy(update={"options": pairs.rows.options | {"count": personas}})}
    )
    draw = pairs.rows.model_copy(update={"options": pairs.rows.options | {"count": held_out, "part": 0, "apart": 0}})
    answers = answers.model_copy(update={"flow": "held-out", "rows": draw, "roles": answers.roles | pairs.roles})
    load = step.load.model_copy(update={"jobs": (pairs, answers) if held_out else (pairs,)})
    return plan.model_copy(update={"steps": (step.model_copy(update={"load": load}), *plan.steps[1:])})


def step_config(plan: Plan, storage: Path, attempt: int = 1, replicas: int = 1) -> StepConfig:
    """What the generate step is told."""
    engines = GenerationMeans(device="CPU", replicas=replicas)
    return StepConfig(
        plan=plan,
        step=STEP,
        attempt=attempt,
        storage=storage.as_uri(),
        mounts=MOUNTS,
        means=Means(generation=engines, training=TrainingMeans(device="CPU"), evaluation=engines),
    )
