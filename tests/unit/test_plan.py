"""Plans: pure, and every input is an earlier output."""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plans import RECIPES, plan_of

from selfalign_api.plan import ArtifactRef, Evaluate, Generate, ModelRef, Plan, Train, artifacts_of, models_of
from selfalign_api.sources import DataSource, ModelSource
from selfalign_jobs.accept.resolve import method_of
from selfalign_jobs.recipes.base import recipe
from selfalign_jobs.recipes.method import Method

DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


def unresolved(plan: Plan) -> list[str]:
    """Inputs that no earlier step (or, in an evaluation, no earlier load of it) makes."""
    missing: list[str] = []
    tables: set[tuple[str, str]] = set()
    models = {ModelRef(lineage=name) for name in plan.models}
    for step in plan.steps:
        own = {(step.name, out) for out in step.outputs} if isinstance(step, Evaluate) else set()
        missing += [
            f"{step.name} reads {r.step}:{r.name}" for r in artifacts_of(step) if (r.step, r.name) not in tables | own
        ]
        missing += [f"{step.name} loads {m}" for m in models_of(step) if m not in models]
        tables |= {(step.name, out) for out in step.outputs}
        if isinstance(step, Train):
            models.add(step.result)
    return missing


ITERATIONS = st.integers(1, 5)


@st.composite
def sao_methods(draw: Any, iterations: st.SearchStrategy[int] = ITERATIONS) -> Method:
    given_prompts, evaluation_prompts = draw(st.booleans()), draw(st.booleans())
    values = {
        "recipe": "sao",
        "iterations": draw(iterations),
        "seed": draw(st.integers(0, 2**63 - 1)),
        "generation": {"precision": "float32"},
        "training": {
            "precision": "float32",
            "overlong": "Drop",
            "adapter": "none",
            "loss": {"type": draw(st.sampled_from(["simpo", "dpo", "ipo", "orpo"])), "beta": 0.1},
        },
        "evaluation": {
            "when": draw(st.sampled_from(["EachIteration", "Last", "Never"])),
            "checks": draw(
                st.lists(
                    st.sampled_from(
                        [
                            {"name": "win", "type": "SelfWinRate"},
                            {"name": "accuracy", "type": "ExactMatch", "exactMatch": {"temperatures": [0, 1]}},
                        ]
                    ),
                    min_size=1,
                    max_size=2,
                    unique_by=lambda check: check["name"],
                )
            ),
        }
        | ({"prompts": {"url": "./heldout.jsonl"}} if evaluation_prompts else {}),
    }
    defaults = recipe("sao").defaults_for({"data": {"prompts": {}}} if given_prompts else {})
    for part, own in defaults.items():
        if part not in values:
            values[part] = own
        elif isinstance(own, dict):
            values[part] = own | values[part]  # type: ignore[operator]
    values["data"] = {kind: source | {"count": 1000} for kind, source in defaults["data"].items()}
    if draw(st.booleans()):
        values["iteration"] = draw(
            st.fixed_dictionaries(
                {
                    "start": st.sampled_from(["initial", "previous"]),
                    "reference": st.sampled_from(["initial", "previous"]),
                    "dataWindow": st.sampled_from(["Current", "LastTwo", "All"]),
                }
            )
        )
    return method_of(values)


def sao_plan(method: Method) -> Plan:
    return Plan(
        version="0",
        name="test",
        recipe="sao",
        seed=method.seed,
        digest="sha256:0",
        models={"policy": ModelSource(url="file:///m", digest="m")},
        sources={name: DataSource(digest=name) for name in ("personas", "prompts", "evaluation")},
        steps=recipe("sao").plan(method),
    )


@given(sao_methods())
def test_every_input_of_sao_is_an_earlier_output(method: Method) -> None:
    assert unresolved(sao_plan(method)) == []


@pytest.mark.parametrize("name", RECIPES)
def test_the_types_hold_the_plan_of(name: str) -> None:
    plan = plan_of(name, RECIPES[name]())
    assert unresolved(plan) == []
    assert Plan.model_validate_json(plan.model_dump_json()) == plan


@given(sao_methods())
def test_step_names_are_unique_and_valid_in_kubernetes(method: Method) -> None:
    names = [step.name for step in sao_plan(method).steps]
    assert len(set(names)) == len(names)
    assert all(DNS_LABEL.fullmatch(name) and len(name) <= 20 for name in names)


@given(sao_methods())
def test_the_same_method_makes_the_same_plan_and_digests(method: Method) -> None:
    first, second = sao_plan(method), sao_plan(method.model_copy(deep=True))
    assert first == second
    assert [first.step_digest(s.name) for s in first.steps] == [second.step_digest(s.name) for s in second.steps]


@given(sao_methods(st.integers(2, 5)))
def test_each_iteration_writes_and_judges_with_the_model_before_it(method: Method) -> None:
    for step in sao_plan(method).steps:
        if isinstance(step, Generate):
            assert step.load.model == ModelRef(iteration=step.iteration - 1)
        if isinstance(step, Train):
            assert step.result == ModelRef(iteration=step.iteration)
            start = step.iteration - 1 if method.iteration.start == "previous" else 0
            assert step.start == ModelRef(iteration=start)
            assert ArtifactRef(step=f"i{step.iteration}-generate", name="pairs") in step.data.inputs


@given(sao_methods(st.integers(2, 5)))
def test_no_persona_is_used_twice(method: Method) -> None:
    tables = 7000  # rows of the source: 5 iterations of 1000 and 500 held out
    kind = next(iter(method.data))
    source = pa.table({kind[:-1]: [str(n) for n in range(tables)]})
    prepares = recipe("sao").prepares
    seen: list[str] = []
    for step in sao_plan(method).steps:
        if isinstance(step, Generate):
            for job in step.load.jobs:
                if job.rows.fn == "draw":
                    seen += prepares["draw"].run((source,), job.rows.options)[0].to_pylist()
    assert len(seen) == len(set(seen))


@given(sao_methods(), sao_methods())
def test_a_step_digest_ignores_what_its_result_does_not_depend_on(one: Method, other: Method) -> None:
    """Another loss costs no generation: the first generate step has the same digest."""
    changed = one.model_copy(update={"training": other.training})
    assert sao_plan(one).step_digest("i1-generate") == sao_plan(changed).step_digest("i1-generate")


@given(sao_methods())
def test_a_step_digest_changes_with_the_model_that_it_loads(method: Method) -> None:
    plan = sao_plan(method)
    other = plan.model_copy(update={"models": {"policy": ModelSource(url="file:///m", digest="another")}})
    assert all(plan.step_digest(s.name) != other.step_digest(s.name) for s in plan.steps)


def test_a_model_that_is_trained_on_rewards_scores_and_any_other_writes() -> None:
    plan = plan_of("pit", RECIPES["pit"]())
    kinds = {step.result.lineage: plan.kind_of(step.result) for step in plan.steps if isinstance(step, Train)}
    assert kinds == {"improver": "Causal", "reward": "RewardModel", "policy": "Causal"}
    assert {plan.kind_of(ModelRef(lineage=name)) for name in plan.models} == {"Causal"}
