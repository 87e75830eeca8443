"""Every rule over several fields: accepted once, refused once, with the line that the user reads."""

from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from selfalign_api.errors import ConfigError
from selfalign_api.load import parse
from selfalign_api.merge import merge
from selfalign_api.rule_table import RULES
from selfalign_api.rules import check_rules
from selfalign_api.run import SelfAlignmentRun

BASE = {
    "apiVersion": "selfalign.dev/v1alpha1",
    "kind": "SelfAlignmentRun",
    "metadata": {"name": "a-run"},
    "spec": {"recipe": "sao", "model": {"url": "hf://org/model"}},
}


@dataclass(frozen=True)
class Case:
    """Parts of a run (YAML, merged into BASE) and the line for the refused one. `cluster`: refused there only."""

    accepted: str
    refused: str
    line: str
    cluster: bool = False


PLACES = "s3://BUCKET/PATH, gs://BUCKET/PATH, pvc://CLAIM/PATH, or file:///PATH for a folder inside the image; "
HERE = "a relative path works only with selfalign run"

CASES = (
    Case(
        "metadata: {name: a-1}",
        "metadata: {name: 1-a}",
        "metadata.name: 1-a: the name becomes part of a DNS name; use at most 40 of a-z, 0-9 and -, starting with a letter",
    ),
    Case(
        "spec: {sao: {promptMode: Free}}",
        "spec: {recipe: spin, sao: {promptMode: Free}}",
        "spec.sao: spec.sao belongs to recipe sao; write recipe: sao, or remove spec.sao",
    ),
    Case(
        "spec: {data: {personas: {count: 3}}}",
        "spec: {recipe: spin, data: {personas: {count: 3}}}",
        "spec.data.personas: data.personas is read by sao only; remove it or change recipe",
    ),
    Case(
        "spec: {recipe: fspo, data: {prompts: {url: 's3://b/p'}}}",
        "spec: {recipe: spin, data: {prompts: {url: 's3://b/p'}}}",
        "spec.data.prompts: data.prompts is read by sao, reversegen, fspo and almost only; remove it or change recipe",
    ),
    Case(
        "spec: {data: {personas: {count: 3}}}",
        "spec: {data: {personas: {count: 3}, prompts: {url: 's3://b/p'}}}",
        "spec.data: sao writes its prompts from personas or takes yours; keep data.personas or data.prompts, not both",
    ),
    Case(
        "spec: {data: {prompts: {url: 's3://b/p'}}}",
        "spec: {data: {prompts: {count: 3}}}",
        "spec.data.prompts.url: prompts of your own need a place; write url: hf://datasets/ORG/NAME, "
        "or remove data.prompts",
    ),
    Case(
        "spec: {model: {url: 'pvc://claim/model'}}",
        "spec: {model: {url: 'https://x/model'}}",
        f"spec.model.url: https://x/model: write hf://ORG/NAME, {PLACES}{HERE}",
    ),
    Case(
        "spec: {model: {url: 'file:///model'}}",
        "spec: {model: {url: ./model}}",
        f"spec.model.url: ./model: write hf://ORG/NAME, {PLACES}{HERE}",
        cluster=True,
    ),
    Case(
        "spec: {model: {chatTemplateUrl: 'gs://b/t.jinja'}}",
        "spec: {model: {chatTemplateUrl: t.jinja}}",
        f"spec.model.chatTemplateUrl: t.jinja: write hf://ORG/NAME, {PLACES}{HERE}",
    ),
    Case(
        "spec: {generation: {roles: [{name: judge, templateUrl: 's3://b/t'}]}}",
        "spec: {generation: {roles: [{name: judge, templateUrl: b/t}]}}",
        f"spec.generation.roles[judge].templateUrl: b/t: write hf://ORG/NAME, {PLACES}{HERE}",
    ),
    Case(
        "spec: {data: {prompts: {url: 'hf://datasets/o/n'}}}",
        "spec: {data: {prompts: {url: 'ftp://o/n'}}}",
        f"spec.data.prompts.url: ftp://o/n: write hf://datasets/ORG/NAME, {PLACES}{HERE}",
    ),
    Case(
        "spec: {model: {url: 'hf://o/n@main'}}",
        "spec: {model: {url: 'hf://datasets/o/n'}}",
        "spec.model.url: hf://datasets/o/n: this is a dataset; for a model write hf://ORG/NAME or hf://ORG/NAME@REVISION",
    ),
    Case(
        "spec: {evaluation: {prompts: {url: 'hf://datasets/o/n/f.json'}}}",
        "spec: {evaluation: {prompts: {url: 'hf://o/n'}}}",
        "spec.evaluation.prompts.url: hf://o/n: this is a model; for data write hf://datasets/ORG/NAME or "
        "hf://datasets/ORG/NAME/FILE",
    ),
    Case(
        "spec: {storage: {url: 's3://b/runs'}}",
        "spec: {storage: {url: 'hf://o/n'}}",
        "spec.storage.url: hf://o/n: a run appends to its storage, which the hub cannot do; write s3://BUCKET/PATH, "
        f"gs://BUCKET/PATH or pvc://CLAIM/PATH; {HERE}",
    ),
    Case(
        "spec: {storage: {reuseFrom: ['s3://b/runs/a']}}",
        "spec: {storage: {reuseFrom: ['s3://b/runs/a', 'hf://o/n']}}",
        "spec.storage.reuseFrom: write the folders of other runs: s3://BUCKET/PATH, gs://BUCKET/PATH or "
        f"pvc://CLAIM/PATH; {HERE}",
    ),
    Case(
        "spec: {generation: {roles: [{name: judge, template: t}]}}",
        "spec: {generation: {roles: [{name: judge, template: t, templateUrl: 's3://b/t'}]}}",
        "spec.generation.roles[judge]: write template or templateUrl, not both",
    ),
    Case(
        "spec: {generation: {maxModelTokens: 9, roles: [{name: judge}, {name: respond, maxTokens: 8}]}}",
        "spec: {generation: {maxModelTokens: 9, roles: [{name: judge}, {name: respond, maxTokens: 9}]}}",
        "spec.generation.roles: a role's maxTokens must leave room for its prompt; write less than maxModelTokens",
    ),
    Case(
        "spec: {generation: {roles: [{name: judge, temperature: 0}, {name: respond, temperature: 0.1}]}}",
        "spec: {generation: {roles: [{name: judge, temperature: 1}, {name: respond, temperature: 0}]}}",
        "spec.generation.roles: sao compares two answers of role respond, which are equal at temperature 0; "
        "write a temperature above 0",
    ),
    Case(
        "spec: {judge: {tieMargin: 0.1}}",
        "spec: {judge: {tieMargin: 0.1, method: paper}}",
        "spec.judge.tieMargin: 0.1: tieMargin is a probability of method logprobs; write judge.method: logprobs, "
        "or remove tieMargin",
    ),
    Case(
        "spec: {judge: {verdicts: [A, B], method: logprobs}}",
        "spec: {judge: {verdicts: [A, B], method: generate}}",
        "spec.judge.verdicts: verdicts are compared by method logprobs; write judge.method: logprobs, or remove verdicts",
    ),
    Case(
        "spec: {judge: {verdicts: [A, B]}}",
        "spec: {judge: {verdicts: [A, A]}}",
        "spec.judge.verdicts: the two candidate verdicts are equal, so none can win; write two that differ",
    ),
    Case(
        "spec: {training: {loss: {gamma: 3}}}",
        "spec: {training: {loss: {gamma: 3, type: dpo}}}",
        "spec.training.loss.gamma: 3: gamma is SimPO's margin; write loss.type: simpo, or remove gamma",
    ),
    Case(
        "spec: {training: {loss: {labelSmoothing: 0.1, type: ipo}}}",
        "spec: {training: {loss: {labelSmoothing: 0.1, type: simpo}}}",
        "spec.training.loss.labelSmoothing: 0.1: labelSmoothing is defined for dpo and ipo; remove it or write "
        "loss.type: dpo",
    ),
    Case(
        "spec: {recipe: selm, training: {loss: {type: selm}}}",
        "spec: {training: {loss: {type: selm}}}",
        "spec.training.loss: loss selm needs the kept responses that only recipe selm makes; write recipe: selm, "
        "or loss.type: dpo",
    ),
    Case(
        "spec: {recipe: almost, training: {loss: {type: sft}}}",
        "spec: {training: {loss: {type: sft}}}",
        "spec.training.loss: a recipe that makes pairs trains on pairs; write loss.type: simpo, dpo, ipo or orpo",
    ),
    Case(
        "spec: {training: {maxPromptTokens: 7, maxLengthTokens: 8}}",
        "spec: {training: {maxPromptTokens: 8, maxLengthTokens: 8}}",
        "spec.training.maxPromptTokens: 8: maxPromptTokens leaves no room for an answer; write a value below "
        "maxLengthTokens",
    ),
    Case(
        "spec: {training: {adapter: lora, lora: {rank: 8}}}",
        "spec: {training: {lora: {rank: 8}}}",
        "spec.training.lora: lora has an effect only with adapter: lora; write that, or remove lora",
    ),
    Case(
        "spec: {iterations: 2, training: {iterationOverrides: [{fromIteration: 2, beta: 5}]}}",
        "spec: {iterations: 1, training: {iterationOverrides: [{fromIteration: 2, beta: 5}]}}",
        "spec.training.iterationOverrides: an override starts after the last iteration; raise iterations or lower "
        "fromIteration",
    ),
    Case(
        "spec: {training: {iterationOverrides: [{fromIteration: 2, epochs: 2}]}}",
        "spec: {training: {iterationOverrides: [{fromIteration: 2}]}}",
        "spec.training.iterationOverrides[2]: an override sets something; write learningRate, beta or epochs beside "
        "fromIteration",
    ),
    Case(
        "spec: {evaluation: {checks: [{name: win, type: SelfWinRate, selfWinRate: {}}]}}",
        "spec: {evaluation: {prompts: {columns: {reference: r}}, "
        "checks: [{name: win, type: ExactMatch, selfWinRate: {}}]}}",
        "spec.evaluation.checks[win].selfWinRate: selfWinRate belongs to another type; write type: SelfWinRate, "
        "or remove selfWinRate",
    ),
    Case(
        "spec: {evaluation: {prompts: {columns: {reference: r}}, "
        "checks: [{name: acc, type: ExactMatch, exactMatch: {temperatures: [0]}}]}}",
        "spec: {evaluation: {checks: [{name: acc, type: SelfWinRate, exactMatch: {temperatures: [0]}}]}}",
        "spec.evaluation.checks[acc].exactMatch: exactMatch belongs to another type; write type: ExactMatch, "
        "or remove exactMatch",
    ),
    Case(
        "spec: {evaluation: {prompts: {columns: {reference: r}}, checks: [{name: acc, type: ExactMatch}]}}",
        "spec: {evaluation: {prompts: {columns: {prompt: p}}, checks: [{name: acc, type: ExactMatch}]}}",
        "spec.evaluation.checks: ExactMatch compares with reference answers; write evaluation.prompts: {url: ..., "
        "columns: {reference: COLUMN}}",
    ),
    Case(
        "spec: {compute: {training: {zeroStage: 3, offload: OptimizerAndParameters}}}",
        "spec: {compute: {training: {zeroStage: 2, offload: OptimizerAndParameters}}}",
        "spec.compute.training.offload: OptimizerAndParameters: parameters can be offloaded only with zeroStage: 3; "
        "write that, or offload: Optimizer",
    ),
    Case(
        "spec: {compute: {training: {zeroStage: 0, offload: None}}}",
        "spec: {compute: {training: {zeroStage: 0, offload: Optimizer}}}",
        "spec.compute.training.offload: Optimizer: zeroStage: 0 offloads nothing; write zeroStage: 1, 2 or 3, "
        "or offload: None",
    ),
    Case(
        "spec: {compute: {device: CPU, training: {gpusPerNode: 0}}}",
        "spec: {compute: {device: CPU, training: {gpusPerNode: 1}}}",
        "spec.compute.training.gpusPerNode: 1: device: CPU has no GPUs; write training.gpusPerNode: 0 or remove it",
    ),
    Case(
        "spec: {failurePolicy: {maxBackoffSeconds: 10}}",
        "spec: {failurePolicy: {maxBackoffSeconds: 9}}",
        "spec.failurePolicy.backoffSeconds: 10: the first wait is longer than the longest; write backoffSeconds at or "
        "below maxBackoffSeconds",
    ),
)
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
    ],
)
def test_an_engine_argument_that_changes_results_is_refused_by_name(argument: str, line: str) -> None:
    run = run_of(f"spec: {{compute: {{generation: {{engineArgs: {{{argument}}}}}}}}}")
    assert lines_of(run) == [f"spec.compute.generation.engineArgs.{line}"]


def test_other_engine_arguments_pass() -> None:
    assert lines_of(run_of("spec: {compute: {generation: {engineArgs: {enforce_eager: true}}}}")) == []
