"""`kubectl selfalign` on a real control plane, by a person who has `edit` in one namespace, or less."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from person import Person, allowed, editor, role
from runs import Run, attempt_is, run, step_is

from selfalign_kubectl.access import Where, open_cluster
from selfalign_kubectl.refusals import Refused
from selfalign_operator.kube.resources import RUN
from testbed.cluster import Cluster
from testbed.waiting import until

pytestmark = pytest.mark.usefixtures("operator")
HANGS = {"trouble": "Hang"}


@pytest.fixture
def person(cluster: Cluster, namespace: str) -> Person:
    return editor(cluster, namespace)


def test_a_run_is_listed_shown_and_waited_for_until_it_is_complete(
    cluster: Cluster, namespace: str, person: Person
) -> None:
    made = Run(cluster, namespace, run("whole"))
    assert "whole is complete" in person.sees("wait", "whole", "--timeout=60s")
    listed = person.sees("list")
    assert re.search(r"^whole +sao +Complete ", listed, re.MULTILINE), listed
    shown = person.sees("status", "whole")
    assert re.search(r"✓ i1-train +Succeeded +1 +\d+s", shown), shown
    assert re.search(r"^win +0.61 +0.58 to 0.64", shown, re.MULTILINE), shown
    assert made.status["state"] == "Complete"


def test_why_a_run_waits_stands_in_list_and_status(cluster: Cluster, namespace: str, person: Person) -> None:
    without = run("claimless", model={"url": "pvc://nobody/model"})
    Run(cluster, namespace, without).until("Accepted", "False", "ClaimNotFound")
    assert "ClaimNotFound: there is no PersistentVolumeClaim nobody" in person.sees("list")
    assert "ClaimNotFound: there is no PersistentVolumeClaim nobody" in person.sees("status", "claimless")


def test_a_lost_attempt_is_shown_with_its_reason(cluster: Cluster, namespace: str, person: Person) -> None:
    made = Run(cluster, namespace, run("lossy", attempt_is("i1-train", 1, exit_code=1, message='{"error": "a bug"}')))
    made.until("Complete", "True")
    assert re.search(
        r"attempt 1: StepFailed on \S+: pod \S+ ended with exit code 1: a bug", person.sees("status", "lossy")
    )


def test_a_person_suspends_resumes_and_tries_again(cluster: Cluster, namespace: str, person: Person) -> None:
    once = {"backoffSeconds": 0, "maxBackoffSeconds": 1, "maxRetriesPerStep": 0}
    rules = (attempt_is("i1-generate", 1, **HANGS), attempt_is("i1-train", 1, exit_code=1))
    made = Run(cluster, namespace, run("handled", *rules, failurePolicy=once))
    person.sees("wait", "handled", "--for=running", "--timeout=60s")
    assert "is suspended" in person.sees("suspend", "handled")
    assert "handled is suspended" in person.sees("wait", "handled", "--for=condition=Suspended", "--timeout=60s")
    assert "already" in person.sees("suspend", "handled")
    assert "goes on" in person.sees("resume", "handled")
    code, _, complaint = person.types("wait", "handled", "--timeout=60s")
    assert code == 1
    assert "handled has failed (RetriesExhausted" in complaint
    assert "goes on with i1-train" in person.sees("retry", "handled")
    assert "is complete" in person.sees("wait", "handled", "--timeout=60s")
    code, _, complaint = person.types("retry", "handled")
    assert code == 64
    assert "only a run that is Failed or Held is tried again" in complaint
    assert made.step("i1-train")["attempts"] == 2


def test_a_wait_that_is_too_short_ends_with_75_and_says_where_it_is(
    cluster: Cluster, namespace: str, person: Person
) -> None:
    Run(cluster, namespace, run("slow", step_is("i1-generate", **HANGS))).until_step("i1-generate", "Running")
    code, _, complaint = person.types("wait", "slow", "--timeout=1s")
    assert (code, complaint) == (75, "slow is Running\n")
    assert "slow has accept done" in person.sees("wait", "slow", "--for=step=accept")


def test_a_run_that_is_not_there_is_told_with_the_near_names(cluster: Cluster, namespace: str, person: Person) -> None:
    Run(cluster, namespace, run("sao-tiny"))
    code, _, complaint = person.types("status", "sao-tinny")
    assert code == 64
    assert complaint == f"NAME: sao-tinny is no run in namespace {namespace}; did you mean sao-tiny?\n"


def test_a_file_is_checked_then_applied_and_its_model_served(
    cluster: Cluster, namespace: str, person: Person, tmp_path: Path
) -> None:
    manifest = run("applied")
    file = tmp_path / "run.yaml"
    file.write_text(json.dumps(manifest | {"spec": manifest["spec"] | {"seed": "x"}}))
    code, _, complaint = person.types("apply", str(file))
    assert (code, complaint.splitlines()[-1].partition(":")[0]) == (64, "spec.seed")
    file.write_text(json.dumps(manifest))
    assert person.sees("apply", str(file), "--dry-run") == f"applied would be applied in namespace {namespace}\n"
    assert "no runs" in person.types("list")[2]
    person.sees("apply", str(file))
    person.sees("wait", "applied", "--timeout=60s")
    file.write_text(json.dumps(manifest | {"spec": manifest["spec"] | {"ttlSecondsAfterFinished": 3600}}))
    assert person.sees("apply", str(file)) == f"applied applied in namespace {namespace}\n"
    served = person.sees("serve", "applied")
    cluster.kubectl("apply", f"-n={namespace}", "--dry-run=server", "-f=-", stdin=served)


READ = {"apiGroups": ["selfalign.dev"], "resources": ["selfalignmentruns"], "verbs": ["get"]}


@pytest.mark.parametrize(
    ("command", "missing"),
    [
        (("list",), "list selfalignmentruns.selfalign.dev in namespace {}"),
        (("list", "-A"), "list selfalignmentruns.selfalign.dev in all namespaces"),
        (("suspend", "there"), "patch selfalignmentruns.selfalign.dev there in namespace {}"),
    ],
    ids=["list", "list -A", "suspend"],
)
def test_a_right_that_is_missing_is_named_with_the_command_that_gives_it(
    cluster: Cluster, namespace: str, command: tuple[str, ...], missing: str
) -> None:
    Run(cluster, namespace, run("there", step_is("i1-generate", **HANGS)))
    reader = allowed(cluster, namespace, "reader", role(cluster, namespace, "reader", [READ]))
    assert reader.sees("status", "there")
    code, _, complaint = reader.types(*command)
    assert code == 64
    assert f"reader may not {missing.format(namespace)}" in complaint
    given = re.search(r"`([^`]+)`", complaint)
    assert given is not None
    for line in given[1].split(" && "):
        cluster.kubectl(*line.split()[1:])
    assert until(lambda: reader.types(*command)[0] == 0, "the right")


def test_nothing_of_the_cluster_outside_of_the_namespace_is_needed(
    cluster: Cluster, make_namespace: Callable[[], str], person: Person
) -> None:
    elsewhere = Person(person.kubeconfig, make_namespace())
    code, _, complaint = elsewhere.types("list")
    assert code == 64
    assert "jane may not list" in complaint


def test_a_kind_that_the_cluster_does_not_have_is_told_also_without_any_right(person: Person) -> None:
    there = open_cluster(Where(str(person.kubeconfig), None, person.namespace))
    unknown = replace(RUN, api_version="nowhere.dev/v1")
    assert (there.has(RUN), there.has(unknown)) == (True, False)
    with pytest.raises(Refused) as refused:
        there.get(unknown, "x")
    assert refused.value.code == 403  # rights are asked first
    with pytest.raises(Refused) as refused:
        there.get(RUN, "x")
    assert (refused.value.code, refused.value.found_kind) == (404, True)


def test_a_cluster_that_does_not_answer_is_told_with_its_address(person: Person, tmp_path: Path) -> None:
    nowhere = tmp_path / "kubeconfig"
    nowhere.write_text(re.sub(r"server: .*", "server: https://127.0.0.1:1", person.kubeconfig.read_text()))
    code, _, complaint = Person(nowhere, "default").types("list")
    assert code == 1
    assert complaint.startswith("https://127.0.0.1:1 does not answer (")
