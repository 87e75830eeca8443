"""Checks that ask questions of their own, beside the held-out prompts, in the evaluation of any recipe.

Of each kind its flow says what happens to one question (benchmarks.py, dialogues.py). Here is what the kinds differ in, and the
jobs that ask the trained model and, once, the initial one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from selfalign_api.plan import ArtifactRef, Check, EngineLoad, Evaluate, FlowJob, ModelRef, Prepare, Role, SourceRef
from selfalign_jobs.recipes import benchmarks, dialogues
from selfalign_jobs.recipes.base import FlowDef, PrepareDef, Recipe, Step
from selfalign_jobs.recipes.evaluation import AFTER
from selfalign_jobs.recipes.method import EvaluationCheck, Method


@dataclass(frozen=True)
class OwnQuestions:
    """A kind of check that has questions."""

    source: str  # with a check's name: the source of its questions
    table: str  # with a check's name: the table of its answers
    field: str  # what a check's spec calls the source
    url: str  # and what that calls its URL
    flow: str
    definition: FlowDef
    prepare: str
    roles: Callable[[Role], dict[str, Role]]  # by the role that answers prompts
    asks_initial: bool  # whether the initial model's answers are beside those of the trained one

    def job(self, check: str, out: str, respond: Role) -> FlowJob:
        """The questions of a check into answers."""
        rows = Prepare(fn=self.prepare, inputs=(SourceRef(name=self.source + check),))
        return FlowJob(flow=self.flow, rows=rows, out=out, roles=self.roles(respond))


BENCHMARK = OwnQuestions(
    source="benchmark-",
    table="benchmark-",
    field="benchmark",
    url="tasksUrl",
    flow=benchmarks.FLOW,
    definition=FlowDef(benchmarks.answer_request, benchmarks.ANSWERED),
    prepare=benchmarks.PREPARE,
    roles=benchmarks.roles,
    asks_initial=True,
)
DIALOGUES = OwnQuestions(
    source="questions-",
    table="dialogues-",
    field="export.questions",
    url="url",
    flow=dialogues.FLOW,
    definition=FlowDef(dialogues.dialogue, dialogues.DIALOGUES),
    prepare=dialogues.PREPARE,
    roles=dialogues.roles,
    asks_initial=False,
)
KINDS = (BENCHMARK, DIALOGUES)


def kind_of(check: EvaluationCheck) -> OwnQuestions | None:
    """What it asks; None for the held-out prompts."""
    if not check.has_questions:
        return None
    return BENCHMARK if check.type == "Benchmark" else DIALOGUES


def of_source(name: str) -> tuple[OwnQuestions, str] | None:
    """Whose questions a source has: of which kind, and the check's name; None for any other source."""
    return next(((kind, name.removeprefix(kind.source)) for kind in KINDS if name.startswith(kind.source)), None)


def with_own_questions(found: Recipe) -> Recipe:
    """A recipe whose evaluations ask the questions of the method's checks too."""
    as_given = PrepareDef(lambda tables, _: tables[0])
    return replace(
        found,
        flows={**found.flows, **{kind.flow: kind.definition for kind in KINDS}},
        prepares={**found.prepares, **{kind.prepare: as_given for kind in KINDS}},
        plan=lambda method: planned(found.plan, method),
    )


def planned(plan: Callable[[Method], tuple[Step, ...]], method: Method) -> tuple[Step, ...]:
    """The plan without the checks that have questions of their own, and these beside the others of each evaluation."""
    asked = [(kind, check) for check in method.evaluation.checks if (kind := kind_of(check)) is not None]
    others = tuple(check for check in method.evaluation.checks if not check.has_questions)
    evaluation = method.evaluation.model_copy(update={"checks": others})
    steps = plan(method.model_copy(update={"evaluation": evaluation}))
    first = next((step.name for step in steps if isinstance(step, Evaluate)), None)
    if not asked or first is None:
        return steps
    return tuple(_asking(step, asked, method, first) if isinstance(step, Evaluate) else step for step in steps)


def _asking(
    step: Evaluate, asked: Sequence[tuple[OwnQuestions, EvaluationCheck]], method: Method, first: str
) -> Evaluate:
    """An evaluation that asks the model whose answers it is about, and, where it is the first one, the initial model."""
    respond = method.roles.get("respond", Role())
    after = {check.name: kind.table + check.name for kind, check in asked}
    before = {check.name: f"{after[check.name]}-initial" for kind, check in asked if kind.asks_initial}
    new = tuple(kind.job(check.name, after[check.name], respond) for kind, check in asked)
    loads = [_beside(load, new) if _answers(load) else load for load in step.loads]
    if step.name == first and before:
        old = tuple(kind.job(check.name, before[check.name], respond) for kind, check in asked if kind.asks_initial)
        initial = next((n for n, load in enumerate(loads) if load.model == ModelRef() and load.task == "text"), None)
        if initial is None:
            loads.append(EngineLoad(model=ModelRef(), jobs=old))
        else:
            loads[initial] = _beside(loads[initial], old)
    checks = tuple(
        Check(
            name=check.name,
            type=check.type,
            before=ArtifactRef(step=first, name=before[check.name])
            if check.name in before
            else ArtifactRef(step=step.name, name=after[check.name]),
            after=ArtifactRef(step=step.name, name=after[check.name]),
            format=check.format,
        )
        for _, check in asked
    )
    return step.model_copy(update={"loads": tuple(loads), "checks": (*step.checks, *checks)})


def _beside(load: EngineLoad, jobs: tuple[FlowJob, ...]) -> EngineLoad:
    return load.model_copy(update={"jobs": (*load.jobs, *jobs)})


def _answers(load: EngineLoad) -> bool:
    return any(job.out == AFTER for job in load.jobs)
