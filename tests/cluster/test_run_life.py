"""A run on a real control plane, by the real operator: what `kubectl` shows from apply to Complete, and in trouble."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from runs import COLLECT, STEP, Run, attempt_is, played, run, said_by_accept, step_is

from selfalign_api.load import load_run
from selfalign_operator.render import DEFAULT_CONFIG, as_view, first_attempts
from selfalign_operator.resolve import effective_run
from testbed.cluster import Cluster
from testbed.scripts import INDEX_LABEL, Rule, script
from testbed.standing import REPOSITORY
from testbed.waiting import until

pytestmark = pytest.mark.usefixtures("operator")

HANGS = {"trouble": "Hang"}
EXAMPLES = sorted((REPOSITORY / "examples").glob("*-tiny.yaml"))


def test_kubectl_apply_takes_a_run_to_complete(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("apply", f"-n={namespace}", "-f=-", stdin=json.dumps(run("whole")))
    cluster.kubectl("wait", f"-n={namespace}", "sar/whole", "--for=condition=Complete", "--timeout=60s")
    columns = cluster.kubectl("get", "sar", "whole", f"-n={namespace}", "-o=wide").splitlines()
    assert columns[0].split()[:8] == ["NAME", "RECIPE", "STAGE", "ITERATION", "PROGRESS", "STATE", "REASON", "AGE"]
    assert columns[1].split()[1:6] == ["sao", "evaluate", "1/1", "100%", "Complete"]
    assert "0.61" in columns[1]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_each_tiny_example_goes_to_complete_through_every_step_of_its_plan(
    cluster: Cluster, namespace: str, tmp_path: Path, example: Path
) -> None:
    cluster.add_claim(namespace, "selfalign", tmp_path)
    steps = planned(example)
    made = Run(cluster, namespace, played(example, step_is("accept", message=said_by_accept(steps))))
    made.until("Complete", "True", "AllStepsDone")
    states = [(step["name"], step["state"]) for step in made.status["steps"]]
    assert states == [(name, "Succeeded") for name in ("accept", *(name for name, _, _ in steps))]
    iterations = steps[-1][2]
    assert made.status["iteration"] == f"{iterations}/{iterations}"


def planned(example: Path) -> list[tuple[str, str, int]]:
    """The steps that accept would say."""
    found = load_run(example)
    attempts = first_attempts(effective_run(as_view(found), DEFAULT_CONFIG), found)
    return [(attempt.step, attempt.kind, attempt.iteration) for attempt in attempts]


def test_a_finished_run_tells_its_steps_figures_and_events(cluster: Cluster, namespace: str) -> None:
    made = Run(cluster, namespace, run("told"))
    made.until("Complete", "True", "AllStepsDone")
    status = made.status
    assert [(s["name"], s["state"], s["attempts"]) for s in status["steps"]] == [
        ("accept", "Succeeded", 1), ("i1-generate", "Succeeded", 1), ("i1-train", "Succeeded", 1), ("i1-evaluate", "Succeeded", 1),
    ]  # fmt: skip
    assert {"name": "pairs", "value": "3533"} in made.step("i1-generate")["result"]
    assert status["results"] == [{"name": "win", "value": "0.61", "low": "0.58", "high": "0.64"}]
    assert status["plan"]["digest"] == "sha256:" + "5" * 64
    assert status["model"]["revision"] == "sha256:" + "6" * 64
    until(lambda: made.events()[-1:] == ["Completed"], "event Completed")
    assert made.events()[0] == "StepStarted"
    assert {each["status"] for each in status["conditions"] if each["type"] in ("Accepted", "Complete")} == {"True"}


def test_kubectl_wait_still_works_after_a_later_edit(cluster: Cluster, namespace: str) -> None:
    made = Run(cluster, namespace, run("edited"))
    made.until("Complete", "True")
    made.patch({"spec": {"ttlSecondsAfterFinished": 3600}})
    generation = made.read()["metadata"]["generation"]
    until(lambda: made.condition("Complete")["observedGeneration"] == generation, "the new generation")
    cluster.kubectl("wait", f"-n={namespace}", "sar/edited", "--for=condition=Complete", "--timeout=30s")


def test_children_are_the_runs_own_and_go_with_it(cluster: Cluster, namespace: str) -> None:
    gang = {"generation": {"replicas": 2}}
    made = Run(cluster, namespace, run("owned", step_is("i1-generate", **HANGS), compute=gang))
    made.until_step("i1-generate", "Running")
    uid = made.read()["metadata"]["uid"]
    children = json.loads(cluster.kubectl("get", "job,svc,cm,secret,netpol", f"-n={namespace}", "-o=json"))["items"]
    ours = [child for child in children if child["metadata"].get("labels", {}).get("selfalign.dev/run-uid") == uid]
    assert {child["kind"] for child in ours} == {"Job", "Service", "ConfigMap", "Secret", "NetworkPolicy"}
    assert {child["metadata"]["ownerReferences"][0]["uid"] for child in ours} == {uid}
    made.delete()
    until(
        lambda: "selfalign.dev" not in cluster.kubectl("get", "job,cm", f"-n={namespace}", "-o=yaml"),
        "end of the children",
    )


def test_suspending_stops_the_pods_and_resuming_goes_on_with_the_next_attempt(cluster: Cluster, namespace: str) -> None:
    made = Run(cluster, namespace, run("paused", attempt_is("i1-generate", 1, **HANGS)))
    until(lambda: made.pods("i1-generate"), "pod of generate")
    made.patch({"spec": {"suspend": True}})
    made.until("Suspended", "True", "SpecSuspended")
    until(lambda: not made.pods("i1-generate"), "end of the pods")
    assert made.status["state"] == "Suspended"
    made.patch({"spec": {"suspend": False}})
    made.until("Complete", "True")
    step = made.step("i1-generate")
    assert (step["attempts"], step["failures"], step["lostAttempts"][0]["reason"]) == (2, 0, "Suspended")


@pytest.mark.parametrize("now", [(), ("--force", "--grace-period=0")], ids=["told to end", "gone at once"])
@pytest.mark.parametrize("step", ["i1-generate", "i1-train"])
def test_a_person_may_delete_a_pod_and_no_retry_is_spent(
    cluster: Cluster, namespace: str, step: str, now: tuple[str, ...]
) -> None:
    """As docs/runbooks.md says to; `maxRetriesPerStep: 0` has the run fail where it counts."""
    once = {"backoffSeconds": 0, "maxBackoffSeconds": 1, "maxRetriesPerStep": 0}
    made = Run(cluster, namespace, run("robbed", attempt_is(step, 1, **HANGS), failurePolicy=once))
    (pod,) = until(lambda: [pod for pod in made.pods(step) if pod.status.phase == "Running"], "pod of the step")
    cluster.kubectl("delete", "pod", pod.metadata.name, f"-n={namespace}", "--wait=false", *now)
    made.until("Complete", "True")
    found = made.step(step)
    assert (found["failures"], [lost["reason"] for lost in found["lostAttempts"]]) == (0, ["Deleted"])


def test_a_run_recreated_under_its_name_starts_anew(cluster: Cluster, namespace: str) -> None:
    first = Run(cluster, namespace, run("again", step_is("i1-generate", **HANGS)))
    first.until_step("i1-generate", "Running")
    first.delete()
    second = Run(cluster, namespace, run("again"))
    second.until("Complete", "True")
    assert [step["attempts"] for step in second.status["steps"]] == [1, 1, 1, 1]


def test_a_failed_attempt_is_retried_and_its_loss_is_remembered(cluster: Cluster, namespace: str) -> None:
    broken = attempt_is("i1-train", 1, exit_code=1, message={"error": "CUDA error"})
    made = Run(cluster, namespace, run("retried", broken))
    made.until("Complete", "True")
    (lost,) = made.step("i1-train")["lostAttempts"]
    assert (lost["number"], lost["reason"], lost["exitCode"]) == (1, "StepFailed", 1)
    assert "CUDA error" in lost["message"]
    assert lost["node"].startswith("gpu-")
    until(lambda: "StepRetrying" in made.events(), "event StepRetrying")


def test_retries_run_out_and_the_retry_annotation_goes_on(cluster: Cluster, namespace: str) -> None:
    policy = {"maxRetriesPerStep": 1, "backoffSeconds": 0}
    rules = [attempt_is("i1-train", number, exit_code=1) for number in (1, 2)]
    made = Run(cluster, namespace, run("tired", *rules, failurePolicy=policy))
    made.until("Failed", "True", "RetriesExhausted")
    made.patch({"metadata": {"annotations": {"selfalign.dev/retry": "1"}}})
    made.until("Complete", "True")
    assert made.step("i1-train")["attempts"] == 3


def test_a_pod_of_a_gang_is_tried_again_as_often_as_the_step_may_and_no_more(cluster: Cluster, namespace: str) -> None:
    head_hangs = Rule(script(**HANGS), where={STEP: "i1-generate", INDEX_LABEL: "0"})
    helper_fails = Rule(script(exit_code=1), where={STEP: "i1-generate", INDEX_LABEL: "1"})
    gang, policy = {"generation": {"replicas": 2}}, {"maxRetriesPerStep": 1, "backoffSeconds": 0}
    manifest = run("gang", head_hangs, helper_fails, compute=gang, failurePolicy=policy)
    made = Run(cluster, namespace, manifest)
    made.until("Failed", "True", "RetriesExhausted")
    assert made.step("i1-generate")["attempts"] == 1


def test_exit_64_ends_the_run_with_what_the_program_said(cluster: Cluster, namespace: str) -> None:
    said = {"error": "spec.training.maxPromptTokens: 1800 leaves no room", "reason": "InvalidSpec"}
    made = Run(cluster, namespace, run("wrong", step_is("i1-train", exit_code=64, message=said)))
    failed = made.until("Failed", "True", "InvalidConfig")
    assert "leaves no room" in failed["message"]
    assert made.step("i1-train")["attempts"] == 1


def test_what_accept_finds_wrong_is_the_reason_of_accepted(cluster: Cluster, namespace: str) -> None:
    said = {"error": "spec.data.personas.url: there is no file", "reason": "DataNotFound"}
    made = Run(cluster, namespace, run("missing", step_is("accept", exit_code=64, message=said)))
    made.until("Accepted", "False", "DataNotFound")
    assert made.status["state"] == "Failed"


def test_a_lost_termination_message_is_collected_from_the_storage(cluster: Cluster, namespace: str) -> None:
    silent = Rule(script(message=""), where={STEP: "i1-generate"})
    made = Run(cluster, namespace, run("silent", silent, Rule(step_is("i1-train").annotations)))
    until(lambda: any(COLLECT in (job.metadata.labels or {}) for job in made.jobs()), "a Job that collects")


TROUBLES: list[tuple[str, dict[str, Any], dict[str, Any], str, str]] = [
    ("unschedulable", {}, {"resources": {"requests": {"memory": "900Ti"}}}, "Unschedulable", "memory"),
    ("image", {"trouble": "ImagePullBackOff"}, {}, "ImagePullFailed", "image"),
    ("secret", {"trouble": "CreateContainerConfigError", "message": 'secret "hf" not found'}, {}, "PodRejected", "hf"),
    ("mount", {"trouble": "FailedMount"}, {}, "PodRejected", "create that Secret"),
]


@pytest.mark.parametrize(("name", "script_", "compute", "reason", "word"), TROUBLES)
def test_trouble_reaches_the_runs_message(
    cluster: Cluster,
    namespace: str,
    name: str,
    script_: dict[str, Any],
    compute: dict[str, Any],
    reason: str,
    word: str,
) -> None:
    rules = [step_is("i1-generate", **script_)] if script_ else []
    made = Run(cluster, namespace, run(name, *rules, compute={"generation": compute} if compute else None))
    found = made.until("Progressing", "False", reason)
    assert word in found["message"]
    until(
        lambda: {reason, "SecretNotFound"} & set(made.events()), f"event {reason}"
    )  # told after the status is written


def test_memory_that_ran_out_is_named(cluster: Cluster, namespace: str) -> None:
    made = Run(cluster, namespace, run("oom", attempt_is("i1-train", 1, trouble="OOMKilled")))
    made.until("Complete", "True")
    (lost,) = made.step("i1-train")["lostAttempts"]
    assert (lost["reason"], lost["counted"]) == ("OutOfMemory", True)


def test_an_eviction_is_no_failure(cluster: Cluster, namespace: str) -> None:
    made = Run(cluster, namespace, run("evicted", attempt_is("i1-train", 1, trouble="Evicted")))
    made.until("Complete", "True")
    step = made.step("i1-train")
    assert (step["lostAttempts"][0]["reason"], step["failures"]) == ("Disrupted", 0)


def test_a_missing_claim_is_named_before_anything_starts(cluster: Cluster, namespace: str) -> None:
    made = Run(cluster, namespace, run("unclaimed", storage={"url": "pvc://nowhere/runs"}))
    found = made.until("Accepted", "False", "ClaimNotFound")
    assert "nowhere" in found["message"]
    assert made.jobs() == []


def test_a_quota_that_is_used_up_is_named(cluster: Cluster, namespace: str) -> None:
    quota = {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    cluster.core.create_namespaced_resource_quota(namespace, quota)
    until(lambda: cluster.core.read_namespaced_resource_quota("none", namespace).status.hard, "quota in force")
    made = Run(cluster, namespace, run("quota"))
    assert "exceeded quota" in made.until("Progressing", "False", "QuotaExceeded")["message"]


def test_a_namespace_whose_admission_refuses_the_pods_is_told_of(cluster: Cluster, namespace: str) -> None:
    template = {"spec": {"hostPID": True}}
    cluster.kubectl("label", "ns", namespace, "pod-security.kubernetes.io/enforce=restricted")
    made = Run(cluster, namespace, run("admission", compute={"generation": {"podTemplate": template}}))
    made.until("Progressing", "False", "PodRejected")


def test_a_pod_template_that_the_cluster_refuses_is_said_before_anything_starts(
    cluster: Cluster, namespace: str
) -> None:
    template = {"spec": {"priorityClassName": "x", "tolerations": [{"operator": "Sometimes"}]}}
    made = Run(cluster, namespace, run("refused", compute={"training": {"podTemplate": template}}))
    found = made.until("Accepted", "False", "InvalidSpec")
    assert "tolerations" in found["message"]
    assert made.jobs() == []


def test_a_profile_that_is_not_there_is_named(cluster: Cluster, namespace: str) -> None:
    made = Run(cluster, namespace, run("profile", compute={"profileName": "h100"}))
    assert "h100" in made.until("Accepted", "False", "ProfileNotFound")["message"]


def test_kuberay_that_is_not_installed_is_named(cluster: Cluster, namespace: str) -> None:
    made = Run(cluster, namespace, run("rayjob", compute={"generation": {"runtime": "RayJob"}}))
    assert "KubeRay" in made.until("Accepted", "False", "RayJobNotInstalled")["message"]


def test_a_finished_run_goes_when_its_time_is_over(cluster: Cluster, namespace: str) -> None:
    made = Run(cluster, namespace, run("short-lived", ttlSecondsAfterFinished=1))
    until(lambda: "short-lived" not in cluster.kubectl("get", "sar", f"-n={namespace}", "-o=name"), "end of the run")
    assert made.name == "short-lived"


def test_a_deadline_fails_the_run_and_ends_its_pods(cluster: Cluster, namespace: str) -> None:
    made = Run(cluster, namespace, run("late", step_is("i1-generate", **HANGS), activeDeadlineSeconds=2))
    made.until("Failed", "True", "DeadlineExceeded")
    until(lambda: not made.pods("i1-generate"), "end of the pods")
    assert made.status["state"] == "Failed"


def test_a_training_gang_that_finds_no_room_is_given_up_uncounted(cluster: Cluster, namespace: str) -> None:
    policy = {"startupDeadlineSeconds": 2, "backoffSeconds": 0}
    resources = {"resources": {"requests": {"memory": "900Ti"}}}
    made = Run(cluster, namespace, run("gang", compute={"training": resources}, failurePolicy=policy))
    made.until_step("i1-train", "Running", attempts=2)
    step = made.step("i1-train")
    assert (step["lostAttempts"][0]["reason"], step["failures"]) == ("GangNotPlaced", 0)


def test_a_job_that_somebody_deletes_is_made_again(cluster: Cluster, namespace: str) -> None:
    made = Run(cluster, namespace, run("deleted", attempt_is("i1-train", 1, **HANGS)))
    name = made.until_step("i1-train", "Running")["workload"]["name"]
    cluster.batch.delete_namespaced_job(name, namespace, propagation_policy="Background")
    made.until("Complete", "True")
    assert made.step("i1-train")["lostAttempts"][0]["reason"] == "Deleted"
