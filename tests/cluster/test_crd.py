"""The CRD on a real API server: it takes what Python takes, refuses what Python refuses, and says the same."""

from __future__ import annotations

import copy
import json
import re
import uuid
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from kubernetes.client import ApiException
from rule_cases import BASE, CASES, Case
from rule_changes import CHANGES, Change
from statuses import STATUSES, as_written

from selfalign_api.crd import crd
from selfalign_api.load import load_run, parse, parse_spec
from selfalign_api.merge import merge
from selfalign_api.rules import broken_rules
from selfalign_api.run import GROUP, VERSION, SelfAlignmentRun
from selfalign_api.status import Status, read_status
from selfalign_api.transition_rules import TRANSITION_RULES
from testbed.cluster import Cluster
from testbed.waiting import until

REPOSITORY = Path(__file__).parents[2]
EXAMPLES = (file for file in (REPOSITORY / "examples").glob("*.yaml") if not file.name.startswith("values"))
RUNS = [*sorted(EXAMPLES), *sorted((Path(__file__).parent / "runs").glob("*.yaml"))]
PLURAL = "selfalignmentruns"
Json = dict[str, Any]


class Runs:
    """The SelfAlignmentRuns of one namespace, as JSON."""

    def __init__(self, cluster: Cluster, namespace: str, group: str = GROUP) -> None:
        self.api = cluster.custom
        self.place = (group, VERSION, namespace, PLURAL)

    def create(self, run: Json, **options: Any) -> Json:
        return self.api.create_namespaced_custom_object(*self.place, body=run, **options)

    def replace(self, run: Json) -> Json:
        name = run["metadata"]["name"]
        return self.api.replace_namespaced_custom_object(*self.place, name, body=run)

    def patch_status(self, name: str, status: Json) -> Json:
        body = {"status": status}
        return self.api.patch_namespaced_custom_object_status(*self.place, name, body=body)

    def get(self, name: str) -> Json:
        return self.api.get_namespaced_custom_object(*self.place, name)


@pytest.fixture
def runs(cluster: Cluster, namespace: str) -> Runs:
    return Runs(cluster, namespace)


def run_with(part: str) -> Json:
    return merge(BASE, yaml.safe_load(part))


def told(refusal: ApiException) -> list[tuple[str, str]]:
    """Path and message of each cause, sorted; an entry's place in its list is left out."""
    causes = json.loads(refusal.body)["details"]["causes"]
    return sorted((_bare(cause["field"]), cause["message"]) for cause in causes)


def _bare(path: str) -> str:
    """Kubernetes gives no path for a rule about the name."""
    return re.sub(r"\[[^]]*\]", "", path).removeprefix("metadata.name").removeprefix("<nil>")


def agree(refusal: ApiException, said_in_python: list[tuple[str, str]]) -> bool:
    """Whether the API server says what Python says, rule by rule."""
    here = sorted((_bare(path), message) for path, message in said_in_python)
    there = told(refusal)
    return len(here) == len(there) and all(
        path == their_path and their_message.endswith(f": {message}")
        for (path, message), (their_path, their_message) in zip(here, there, strict=True)
    )


# --- what is taken, what is refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize("file", RUNS, ids=lambda file: file.name)
def test_a_documented_run_is_taken_to_the_last_field(cluster: Cluster, namespace: str, file: Path) -> None:
    load_run(file)
    created = cluster.kubectl(
        "create", f"--namespace={namespace}", "--dry-run=server", "--validate=strict", f"--filename={file}"
    )
    assert created.endswith(" created (server dry run)\n")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.refused)
def test_a_run_that_keeps_the_rule_is_taken(runs: Runs, case: Case) -> None:
    run = run_with(case.accepted)
    assert broken_rules(parse(SelfAlignmentRun, run, ""), "") == []
    runs.create(run, dry_run="All", field_validation="Strict")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.refused)
def test_a_run_that_breaks_the_rule_is_refused_in_the_same_words(runs: Runs, case: Case) -> None:
    run = run_with(case.refused)
    with pytest.raises(ApiException) as refusal:
        runs.create(run, dry_run="All", field_validation="Strict")
    problems = broken_rules(parse(SelfAlignmentRun, run, ""), "")
    assert agree(refusal.value, [(problem.path, problem.message) for problem in problems]), told(refusal.value)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.about)
def test_a_change_is_taken_or_refused_as_in_python(runs: Runs, change: Change) -> None:
    run = runs.create({**BASE, "spec": change.old})
    broken = [rule for rule in TRANSITION_RULES if not rule.holds(parse_spec(change.old), parse_spec(change.new))]
    if not broken:
        runs.replace({**run, "spec": change.new})
        return
    with pytest.raises(ApiException) as refusal:
        runs.replace({**run, "spec": change.new})
    assert agree(refusal.value, [(f"spec.{rule.field}", rule.message) for rule in broken]), told(refusal.value)


def test_life_has_its_defaults_in_the_object_and_compute_none(runs: Runs) -> None:
    spec = runs.create({**BASE, "spec": {**BASE["spec"], "compute": {"generation": {}}}})["spec"]
    assert spec == {
        **BASE["spec"],
        "compute": {"generation": {}},
        "suspend": False,
        "workloadRetention": "WithRun",
        "failurePolicy": {
            "maxRetriesPerStep": 3,
            "backoffSeconds": 10,
            "maxBackoffSeconds": 600,
            "afterRetries": "Fail",
            "startupDeadlineSeconds": 1800,
            "progressDeadlineSeconds": 1800,
        },
    }


@pytest.mark.parametrize(
    "spec",
    [
        "spec: {evaluation: {checks: [{name: w, type: SelfWinRate, selfWinRate: {against: nobody}}]}}",
        "spec: {judge: {modelName: nobody}}",
        "spec: {recipe: nobody}",
        "spec: {compute: {training: {zeroStage: 4}}}",
        "spec: {compute: {generation: {runtime: nobody}}}",
    ],
)
def test_a_word_that_python_does_not_know_is_refused_at_once(runs: Runs, spec: str) -> None:
    with pytest.raises(ApiException) as refusal:
        runs.create(run_with(spec), dry_run="All")
    assert refusal.value.status == 422


def test_runs_are_chosen_by_recipe_and_state(cluster: Cluster, runs: Runs, namespace: str) -> None:
    for name, state in (("a", "Running"), ("b", "Complete")):
        runs.create({**BASE, "metadata": {"name": name}})
        runs.patch_status(name, {"state": state})

    def chosen(selector: str) -> list[str]:
        return cluster.kubectl("get", "sar", f"-n={namespace}", f"--field-selector={selector}", "-o=name").split()

    assert chosen("status.state=Complete") == ["selfalignmentrun.selfalign.dev/b"]
    assert len(chosen(f"spec.recipe={BASE['spec']['recipe']}")) == 2
    assert chosen("spec.recipe=none") == []


def test_a_field_that_is_not_there_is_refused_by_strict_validation(runs: Runs) -> None:
    with pytest.raises(ApiException, match=r'unknown field \\"spec.compute.generation.gpus\\"'):
        runs.create(run_with("spec: {compute: {generation: {gpus: 4}}}"), dry_run="All", field_validation="Strict")


# --- what people see --------------------------------------------------------------------------------------------------

TIME = "2026-11-24T10:00:00Z"
CONDITION = {"status": "True", "reason": "StepRunning", "lastTransitionTime": TIME, "observedGeneration": 1}
SEEN: Json = {
    "state": "Running",
    "stage": "generate",
    "iteration": "2/3",
    "progress": "68%",
    "results": [{"name": "accuracy", "value": "0.4"}, {"name": "win", "value": "0.61"}],
    "conditions": [
        {**CONDITION, "type": "Accepted", "reason": "Accepted", "message": "the plan has 3 steps"},
        {**CONDITION, "type": "Progressing", "message": "i2-generate runs"},
    ],
}


def rows(printed: str) -> list[list[str]]:
    return [re.split(r" {2,}", line.strip()) for line in printed.splitlines()]


def test_the_columns_say_how_far_a_run_is(cluster: Cluster, namespace: str, runs: Runs) -> None:
    runs.create(run_with("spec: {compute: {queueName: team-a}}"))
    runs.patch_status("a-run", SEEN)
    narrow = rows(cluster.kubectl("get", "sar", f"--namespace={namespace}"))
    assert narrow[0] == ["NAME", "RECIPE", "STAGE", "ITERATION", "PROGRESS", "STATE", "REASON", "AGE"]
    assert narrow[1][:-1] == ["a-run", "sao", "generate", "2/3", "68%", "Running", "StepRunning"]
    wide = rows(cluster.kubectl("get", "selfalign", f"--namespace={namespace}", "--output=wide"))
    assert wide[0] == [*narrow[0], "MODEL", "QUEUE", "WIN", "MESSAGE"]
    assert wide[1][:-5] + wide[1][-4:] == [*narrow[1][:-1], "hf://org/model", "team-a", "0.61", "i2-generate runs"]


def test_kubectl_wait_knows_the_conditions(cluster: Cluster, namespace: str, runs: Runs) -> None:
    runs.create(BASE)
    runs.patch_status("a-run", SEEN)
    said = cluster.kubectl("wait", "sar/a-run", f"--namespace={namespace}", "--for=condition=Accepted", "--timeout=10s")
    assert said == "selfalignmentrun.selfalign.dev/a-run condition met\n"


def fields_of(schema: Json) -> set[str]:
    """The fields of a schema, all the way down."""
    inner = [*schema.get("properties", {}).values(), *([schema["items"]] if "items" in schema else [])]
    return set(schema.get("properties", {})).union(*(fields_of(part) for part in inner))


@pytest.mark.parametrize("part", ["spec", "status"])
def test_kubectl_explain_knows_every_field(cluster: Cluster, part: str) -> None:
    schema = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"][part]
    explained = cluster.kubectl("explain", f"selfalignmentruns.{part}", "--recursive")
    assert set(re.findall(r"^ +(\w+)\t<", explained, flags=re.MULTILINE)) == fields_of(schema)


def test_kubectl_explain_says_what_a_field_means(cluster: Cluster) -> None:
    explained = cluster.kubectl("explain", "sar.spec.compute.training.gracePeriodSeconds")
    assert "Seconds between SIGTERM and SIGKILL." in explained


# --- the status -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run_with_status(cluster: Cluster) -> Runs:
    """A run whose status many examples replace."""
    name = f"t-{uuid.uuid4().hex[:10]}"
    cluster.kubectl("create", "namespace", name)
    runs = Runs(cluster, name)
    runs.create(BASE)
    return runs


@given(STATUSES)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_an_operator_writes_is_kept_and_read(run_with_status: Runs, status: Status) -> None:
    emptied = dict.fromkeys(field.alias or "" for field in Status.model_fields.values())
    run_with_status.patch_status("a-run", {**emptied, **as_written(status)})
    assert read_status(run_with_status.get("a-run")["status"]) == (status, ())


@pytest.mark.parametrize(
    "part",
    [
        {"state": "Dozing"},
        {"steps": [{"name": "i1-train"}]},
        {"steps": [{"name": "i1-train", "kind": "publish", "workload": {"name": "job"}}]},
        {"conditions": [{"type": "Ready", "status": "True"}]},
        {"plan": {}},
    ],
)
def test_a_part_of_a_status_or_another_versions_is_taken(runs: Runs, part: Json) -> None:
    runs.create(BASE)
    assert runs.patch_status("a-run", part)["status"] == part


def test_entries_of_a_status_are_applied_by_their_key(cluster: Cluster, namespace: str, runs: Runs) -> None:
    runs.create(BASE)
    for manager, step in (("one", "a"), ("two", "b"), ("one", "c")):
        applied = {
            **BASE,
            "metadata": {"name": "a-run", "namespace": namespace},
            "spec": None,
            "status": {"steps": [{"name": step, "kind": "train"}]},
        }
        arguments = ("apply", "--server-side", "--subresource=status", f"--field-manager={manager}", "--filename=-")
        cluster.kubectl(*arguments, stdin=json.dumps({key: value for key, value in applied.items() if value}))
    assert [step["name"] for step in runs.get("a-run")["status"]["steps"]] == ["b", "c"]


def test_a_run_that_an_older_crd_took_gets_its_status_and_may_be_suspended(cluster: Cluster, namespace: str) -> None:
    group = f"g{uuid.uuid4().hex[:8]}.{GROUP}"
    ours = json.loads(
        json.dumps(crd()).replace(f'"{GROUP}"', f'"{group}"').replace(f"{PLURAL}.{GROUP}", f"{PLURAL}.{group}")
    )
    older = copy.deepcopy(ours)
    del older["spec"]["versions"][0]["selectableFields"]
    schema = older["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"]["spec"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    del schema["x-kubernetes-validations"]
    try:
        cluster.kubectl("apply", "--server-side", "--filename=-", stdin=json.dumps(older))
        cluster.kubectl("wait", "--for=condition=Established", f"crd/{PLURAL}.{group}")
        runs = Runs(cluster, namespace, group)
        wrong = {
            **BASE,
            "apiVersion": f"{group}/{VERSION}",
            "spec": {"recipe": "sao", "model": {"url": "https://x"}, "old": 1},
        }
        until(lambda: _created(runs, wrong), "run of the older CRD")
        cluster.kubectl("apply", "--server-side", "--force-conflicts", "--filename=-", stdin=json.dumps(ours))
        until(lambda: not _created(runs, {**wrong, "metadata": {"name": "b-run"}}, dry_run="All"), "newer CRD in force")
        run = runs.patch_status("a-run", {"state": "Pending"})
        assert run["status"] == {"state": "Pending"}
        run["spec"]["suspend"] = True
        assert runs.replace(run)["spec"]["suspend"] is True
    finally:
        cluster.kubectl("delete", "crd", f"{PLURAL}.{group}", "--wait=false")


def _created(runs: Runs, run: Json, **options: Any) -> bool:
    try:
        runs.create(run, **options)
    except ApiException as refusal:
        if refusal.status not in (404, 422):
            raise
        return False
    return True
