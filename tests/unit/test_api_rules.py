"""Every rule over several fields: accepted once, refused once, with the line that the user reads."""

from typing import Any

import pytest
import yaml
from rule_cases import BASE, CASES, Case

from selfalign_api.errors import ConfigError
from selfalign_api.load import parse
from selfalign_api.merge import merge
from selfalign_api.rule_table import RULES
from selfalign_api.rules import broken_rules, check_rules
from selfalign_api.run import SelfAlignmentRun

HERE_ONLY = [case for case in CASES if not case.cluster]


def run_of(part: str) -> SelfAlignmentRun:
    return parse(SelfAlignmentRun, merge(BASE, yaml.safe_load(part)), "")


def lines_of(run: SelfAlignmentRun) -> list[str]:
    try:
        check_rules(run)
    except ConfigError as error:
        return str(error).splitlines()
    return []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.refused)
def test_a_run_that_keeps_the_rule_is_accepted(case: Case) -> None:
    assert lines_of(run_of(case.accepted)) == []


@pytest.mark.parametrize("case", HERE_ONLY, ids=lambda case: case.refused)
def test_a_run_that_breaks_the_rule_is_refused_with_what_to_write(case: Case) -> None:
    assert lines_of(run_of(case.refused)) == [case.line]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.refused)
def test_a_cluster_refuses_what_breaks_the_rule(case: Case) -> None:
    assert [str(problem) for problem in broken_rules(run_of(case.refused), "")] == [case.line]


def test_a_path_beside_the_run_file_is_taken_on_one_machine() -> None:
    part = "spec: {model: {url: ./m}, data: {prompts: {url: ../p.jsonl}}, storage: {url: ./out, reuseFrom: [./other]}}"
    assert lines_of(run_of(part)) == []


def test_every_rule_has_a_case() -> None:
    refused = {(problem.path, problem.message) for case in HERE_ONLY for problem in problems_of(case)}
    without = [
        rule for rule in RULES if not any(rule.message == said and path.endswith(rule.field) for path, said in refused)
    ]
    assert without == []


def problems_of(case: Case) -> Any:
    with pytest.raises(ConfigError) as caught:
        check_rules(run_of(case.refused))
    return caught.value.problems


def test_all_broken_rules_are_told_at_once() -> None:
    part = "spec: {model: {url: x}, training: {lora: {}}, failurePolicy: {backoffSeconds: 601}}"
    assert [line.split(":")[0] for line in lines_of(run_of(part))] == [
        "spec.model.url",
        "spec.training.lora",
        "spec.failurePolicy.backoffSeconds",
    ]


@pytest.mark.parametrize(
    ("argument", "line"),
    [
        ("dtype: float16", "dtype: float16: spec.generation.precision owns this; write it there and remove it here"),
        (
            "max-model-len: 9",
            "max-model-len: 9: spec.generation.maxModelTokens owns this; write it there and remove it here",
        ),
        ("hf_overrides: x", "hf_overrides: x: this changes results, which compute must not; remove it"),
        ("spec-method: x", "spec-method: x: this changes results, which compute must not; remove it"),
        (
            "pipeline-parallel-size: 2",
            "pipeline-parallel-size: 2: spec.compute.generation.tensorParallelSize owns this; write it there and remove it here",
        ),
        (
            "data_parallel_rank: 1",
            "data_parallel_rank: 1: spec.compute.generation.replicas owns this; write it there and remove it here",
        ),
        (
            "distributed-executor-backend: ray",
            "distributed-executor-backend: ray: how selfalign runs its engines owns this; remove it",
        ),
    ],
)
def test_an_engine_argument_that_changes_results_is_refused_by_name(argument: str, line: str) -> None:
    run = run_of(f"spec: {{compute: {{generation: {{engineArgs: {{{argument}}}}}}}}}")
    assert lines_of(run) == [f"spec.compute.generation.engineArgs.{line}"]


def test_other_engine_arguments_pass() -> None:
    assert lines_of(run_of("spec: {compute: {generation: {engineArgs: {enforce_eager: true}}}}")) == []
