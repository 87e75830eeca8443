"""What holds of every recipe that is built, whatever a valid run of it says."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from recipe_methods import methods, planned, values_of

from selfalign_api.digest import method_digest, source_urls
from selfalign_api.plan import (
    AnyStep,
    ArtifactRef,
    Evaluate,
    Generate,
    ModelRef,
    Plan,
    SourceRef,
    TableRef,
    Train,
    artifacts_of,
    job_of,
    models_of,
    prepares_of,
    sources_of,
)
from selfalign_api.rule_table import ROLES, SCORED
from selfalign_jobs.accept.resolve import method_of
from selfalign_jobs.recipes.base import RECIPES, Recipe, recipe
from selfalign_jobs.recipes.method import Method

DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
LONGEST_NAME = 20  # of a step: it becomes part of a pod's name

of_every_recipe = pytest.mark.parametrize("found", [recipe(name) for name in RECIPES], ids=RECIPES)
few = settings(max_examples=20, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])


def every_recipe(test: Callable[..., None]) -> Callable[..., None]:
    """Of each that is built, with twenty runs: drawing one resolves it whole."""
    drawn: Callable[..., None] = of_every_recipe(few(test))
    return drawn


def test_the_rules_say_of_each_recipe_what_it_says_of_itself() -> None:
    found = [recipe(name) for name in RECIPES]
    assert {each.name: {*each.variables} for each in found} == {name: {*roles} for name, roles in ROLES.items()}
    assert {each.name for each in found if each.scored} == {*SCORED}


@every_recipe
@given(data=st.data())
def test_step_names_are_unique_and_valid_in_kubernetes(found: Recipe, data: st.DataObject) -> None:
    names = [step.name for step in planned(found, data.draw(methods(found))).steps]
    assert len(set(names)) == len(names)
    assert all(DNS_LABEL.fullmatch(name) and len(name) <= LONGEST_NAME for name in names)


@every_recipe
@given(data=st.data())
def test_what_a_step_reads_and_loads_is_there_before_it(found: Recipe, data: st.DataObject) -> None:
    plan = planned(found, data.draw(methods(found)))
    tables: set[tuple[str, str]] = set()
    models = {ModelRef(lineage=name) for name in plan.models}
    for step in plan.steps:
        for read, makes in loads_of(step):
            assert [ref for ref in read if (ref.step, ref.name) not in tables] == []
            tables |= {(step.name, out) for out in makes}
        assert [ref for ref in artifacts_of(step) if (ref.step, ref.name) not in tables] == []
        assert [model for model in models_of(step) if model not in models] == []
        assert {ref.name for ref in sources_of(step)} <= {*plan.sources}
        if isinstance(step, Train):
            models.add(step.result)


def loads_of(step: AnyStep) -> list[tuple[list[ArtifactRef], list[str]]]:
    """What each engine load of a step reads and makes, in order."""
    if not isinstance(step, Generate | Evaluate):
        return []
    return [
        (
            [ref for job in load.jobs for ref in job.rows.inputs if isinstance(ref, ArtifactRef)],
            [job.out for job in load.jobs],
        )
        for load in step.loads
    ]


@every_recipe
@given(data=st.data())
def test_no_step_reads_of_a_later_iteration_and_none_comes_after_one(found: Recipe, data: st.DataObject) -> None:
    method = data.draw(methods(found))
    plan = planned(found, method)
    iterations = [step.iteration for step in plan.steps]
    assert iterations == sorted(iterations)
    assert {*iterations} == {*range(1, method.iterations + 1)}
    for step in plan.steps:
        assert all(plan.step(ref.step).iteration <= step.iteration for ref in artifacts_of(step))
        made = [trainer for model in models_of(step) if (trainer := plan.trainer_of(model)) is not None]
        assert all(trainer.iteration <= step.iteration for trainer in made)


ONCE = ("reversegen",)  # recipes that train the policy once, after their last iteration


@every_recipe
@given(data=st.data())
def test_every_iteration_trains_the_policy_and_every_model_is_trained_once(found: Recipe, data: st.DataObject) -> None:
    method = data.draw(methods(found))
    results = [step.result for step in planned(found, method).steps if isinstance(step, Train)]
    assert len(set(results)) == len(results)
    first = method.iterations if found.name in ONCE else 1
    policies = {result for result in results if result.lineage == ModelRef().lineage}
    assert policies == {ModelRef(iteration=k) for k in range(first, method.iterations + 1)}


@every_recipe
@given(data=st.data())
def test_every_function_and_flow_is_declared_and_every_role_has_its_values(found: Recipe, data: st.DataObject) -> None:
    method = data.draw(methods(found))
    for step in planned(found, method).steps:
        assert {prepare.fn for prepare in prepares_of(step)} <= found.prepares.keys()
        assert len(set(step.outputs)) == len(step.outputs)
        for job in (job for load in getattr(step, "loads", ()) for job in load.jobs):
            assert job.flow in found.flows
            own = {check.judging.judge for check in method.evaluation.checks if check.judging is not None}
            assert job.judge in (None, method.judge, *own)
    assert found.required.keys() <= found.variables.keys()
    assert {*method.roles} <= found.variables.keys()
    for definition in found.flows.values():
        assert definition.milestones.keys() <= {*definition.schema.names}


@every_recipe
@given(data=st.data())
def test_no_prompt_of_the_evaluation_can_be_trained_on(found: Recipe, data: st.DataObject) -> None:
    """Each training's table is made of twenty prompts of which the evaluation asks five: these are not in it."""
    plan = planned(found, data.draw(methods(found)))
    asked = {ref for step in plan.steps if isinstance(step, Evaluate) for ref in asked_by(plan, step)}
    for step in plan.steps:
        if (
            isinstance(step, Train) and asked and not step.data.options.get("apart")
        ):  # cut by rows: test_pairs_recipe.py
            assert asked & {*step.data.inputs}, f"{step.name} does not see what is held out"
            tables = tuple(sample(found, plan, ref, held=ref in asked) for ref in step.data.inputs)
            made = found.prepares[step.data.fn]
            if (columns := made.reads) is not None:
                tables = tuple(
                    table.select([name for name in table.column_names if name in columns]) for table in tables
                )
            whole = {"count": None, "parts": 1, "window": [0]} if "parts" in step.data.options else {}
            whole |= {"seed_words": 1, "noise_words": 1} if "seed_words" in step.data.options else {}
            whole |= {"identical": "Keep"} if step.data.fn == "comparisons" else {}
            trained = made.run(tables, {**step.data.options, **whole})
            assert not {*HELD} & {*trained["prompt"].to_pylist()}
            assert trained.num_rows or step.data.options.get("earlier")  # each iteration has the same prompts here


WORDS = re.findall(
    r"\w+",
    "apple boat cave drum eagle field grape house island jewel kettle lemon mirror needle orange pencil quilt river stone tulip",
)
HELD = [f"question {number} of the {WORDS[number]}?" for number in range(5)]


def asked_by(plan: Plan, step: Evaluate) -> set[TableRef]:
    """Where its prompts come from: what its first load's answers are given to, and where answers that are bettered came from."""
    found = {ref for job in step.loads[0].jobs for ref in job.rows.inputs}
    for ref in [ref for ref in found if isinstance(ref, ArtifactRef)]:
        made = plan.step(ref.step)
        assert isinstance(made, Generate | Evaluate)
        found |= {*job_of(made, ref.name).rows.inputs}
    return found


def sample(found: Recipe, plan: Plan, ref: TableRef, *, held: bool) -> pa.Table:
    """Rows as the table has them: the first five prompts are those of the evaluation, which knows no others."""
    numbers = range(5 if held else 20)
    rows = [_row(number) for number in numbers]
    if isinstance(ref, SourceRef):
        return pa.Table.from_pylist(rows)
    step = plan.step(ref.step)
    assert isinstance(step, Generate | Evaluate)
    (job,) = (job for load in step.loads for job in load.jobs if job.out == ref.name)
    schema = found.flows[job.flow].schema
    return pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)


def _row(number: int) -> dict[str, Any]:
    ids = [number, 1, 2]
    texts = {
        "prompt": f"question {number} of the {WORDS[number]}?",
        "chosen": f"better {number}",
        "rejected": f"worse {number}",
    }
    return (
        texts
        | {f"{name}_ids": ids for name in ("prompt", "chosen", "rejected", "target")}
        | {"answer": f"answer {number}", "response": f"right {number}", "history": None, "answers": 1, "gap": 1e9}
        | {"failed": number % 2 == 0, "reference": f"right {number}", "target": f"right {number}"}
    )


@every_recipe
@given(data=st.data())
def test_the_digest_changes_with_any_value_of_the_method(found: Recipe, data: st.DataObject) -> None:
    values = data.draw(values_of(found))
    digests = dict.fromkeys(source_urls(values), "sha256:1")
    path = data.draw(st.sampled_from(sorted(leaves(values))))
    assert method_digest(values, digests) != method_digest(changed(values, path), digests)
    assert method_digest(values, digests) != method_digest(values, digests | {"model.url": "sha256:2"})


def leaves(values: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all values but those of names, by which lists are kept, and of URLs, whose content counts."""
    if isinstance(values, dict):
        return [
            leaf for key, inner in values.items() if key not in ("url", "name") for leaf in leaves(inner, (*path, key))
        ]
    if isinstance(values, list):
        return [leaf for number, inner in enumerate(values) for leaf in leaves(inner, (*path, str(number)))]
    return [path]


def changed(values: Any, path: tuple[Any, ...]) -> Any:
    """The values with another one there."""
    if not path:
        return (
            not values if isinstance(values, bool) else values + 1 if isinstance(values, int | float) else f"{values}!"
        )
    first, *rest = path
    if isinstance(values, list):
        return [changed(inner, (*rest,)) if str(number) == first else inner for number, inner in enumerate(values)]
    return values | {first: changed(values[first], (*rest,))}


@every_recipe
@given(data=st.data())
def test_a_step_that_differs_has_another_digest_and_so_has_whatever_reads_it(
    found: Recipe, data: st.DataObject
) -> None:
    one, other = (planned(found, data.draw(methods(found))) for _ in range(2))
    for name in {step.name for step in one.steps} & {step.name for step in other.steps}:
        first, second = one.step(name), other.step(name)
        same = (
            first == second
            and one.seed == other.seed
            and all(_digest(one, ref) == _digest(other, ref) for ref in artifacts_of(first) if ref.step != name)
            and all(_model(one, model) == _model(other, model) for model in models_of(first))
        )
        assert (one.step_digest(name) == other.step_digest(name)) == same


def _digest(plan: Plan, ref: ArtifactRef) -> str | None:
    return plan.step_digest(ref.step) if ref.step in {step.name for step in plan.steps} else None


def _model(plan: Plan, model: ModelRef) -> Any:
    trainer = plan.trainer_of(model)
    return plan.models[model.lineage].identity if trainer is None else plan.step_digest(trainer.name)


@every_recipe
@given(data=st.data())
def test_another_beta_repeats_the_trainings_that_have_one_and_what_follows_from_them(
    found: Recipe, data: st.DataObject
) -> None:
    """So a run with `storage.reuseFrom` pays for nothing else."""
    method = data.draw(methods(found))
    loss = method.training.loss
    assume(not any(each.beta for each in method.training.overrides))
    warmer = loss.model_copy(update={"beta": 2 * loss.beta})
    other = method.model_copy(update={"training": method.training.model_copy(update={"loss": warmer})})
    one, two = planned(found, method), planned(found, other)
    repeated: set[str] = set()
    for step in one.steps:
        trainers = [trainer.name for model in models_of(step) if (trainer := one.trainer_of(model)) is not None]
        needs = {*trainers, *(ref.step for ref in artifacts_of(step))}
        if step != two.step(step.name) or needs & repeated:
            repeated.add(step.name)
            assert isinstance(step, Train) or needs & repeated, f"{step.name} is not a training, and reads of none"
    changed = {step.name for step in one.steps if one.step_digest(step.name) != two.step_digest(step.name)}
    assert changed == repeated


@every_recipe
@given(data=st.data())
def test_the_same_values_make_the_same_plan(found: Recipe, data: st.DataObject) -> None:
    values = data.draw(values_of(found))
    one, other = (planned(found, Method.model_validate(method_of(values).model_dump())) for _ in range(2))
    assert one == other
    assert [one.step_digest(step.name) for step in one.steps] == [other.step_digest(step.name) for step in other.steps]
