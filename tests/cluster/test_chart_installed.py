"""The chart on a real control plane: installed, upgraded, uninstalled; the operator with the rights that it gives.

KWOK plays the pods of the Deployment; where the operator itself is wanted it runs on this machine, with what is installed.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm import CHART, NO_CRD, Helm, Release
from kubernetes import client
from operators import OperatorProcess, stop_all
from rights import RIGHTS
from runs import Run, attempt_is, run, step_is

from testbed.administrator import api_client
from testbed.cluster import Cluster
from testbed.waiting import until

CRD = "selfalignmentruns.selfalign.dev"
Right = tuple[str, str, str]  # API group, resource, verb
LEASE: set[Right] = {
    *(("coordination.k8s.io", "leases", verb) for verb in ("get", "update", "create")),
    ("events.k8s.io", "events", "create"),
}
FIELD = "ttlSecondsAfterFinished"


@pytest.fixture
def helm(cluster: Cluster, tmp_path: Path) -> Helm:
    return Helm(tmp_path / "helm", cluster.kubeconfig)


@pytest.fixture
def release(cluster: Cluster, helm: Helm, make_namespace: Callable[[], str]) -> Iterator[Release]:
    """A release in a namespace of its own, not installed yet."""
    release = Release(helm, cluster, make_namespace())
    yield release
    if release.name in helm("list", "--all-namespaces", "--all", "--short").split():
        release.uninstall()


@pytest.fixture
def start(release: Release, tmp_path: Path) -> Iterator[Callable[[], OperatorProcess]]:
    """Starts the release's operator."""
    running: list[OperatorProcess] = []

    def begin() -> OperatorProcess:
        running.append(release.operator(tmp_path / f"operator-{len(running)}"))
        running[-1].wait_ready()
        return running[-1]

    yield begin
    stop_all(running)


def objects(cluster: Cluster, namespace: str) -> set[str]:
    """All that there is in the namespace and outside of all namespaces, but for Events."""
    kinds = cluster.kubectl("api-resources", "--verbs=list", "--output=name", "--cached=false").split()
    wanted = ",".join(kind for kind in kinds if not kind.startswith(("events", "componentstatuses")))
    return set(cluster.kubectl("get", wanted, f"--namespace={namespace}", "--output=name").split())


def test_after_install_upgrade_and_uninstall_nothing_is_left(
    cluster: Cluster, release: Release, start: Callable[[], OperatorProcess]
) -> None:
    of_every_namespace = {"configmap/kube-root-ca.crt", "serviceaccount/default"}
    until(lambda: of_every_namespace <= objects(cluster, release.namespace), "what controllers put into a namespace")
    before = objects(cluster, release.namespace)
    notes = release.install(NO_CRD, "--wait")
    assert f"kubectl -n {release.namespace} rollout status deployment/{release.name}" in notes
    assert release.deployment.status.ready_replicas == 2
    until(lambda: found_by_selectors(cluster, release) == (2, 2), "two pods guarded, and two served")
    operator = start()
    until(operator.leads, "leader")
    release.upgrade("--set=replicas=3", "--set=profiles.a100.maxGpus=8", "--wait")
    until(lambda: release.deployment.status.ready_replicas == 3, "three ready replicas, and none of before")
    assert operator.stop() == 0
    release.uninstall()
    until(lambda: objects(cluster, release.namespace) <= before, "end of what controllers had made for the release")


def found_by_selectors(cluster: Cluster, release: Release) -> tuple[int, int]:
    """How many pods the disruption budget guards, and to how many ready ones the Service leads."""
    budget = client.PolicyV1Api(cluster.api).read_namespaced_pod_disruption_budget(release.name, release.namespace)
    slices = client.DiscoveryV1Api(cluster.api).list_namespaced_endpoint_slice(
        release.namespace, label_selector=f"kubernetes.io/service-name={release.name}"
    )
    served = [endpoint for each in slices.items for endpoint in each.endpoints or () if endpoint.conditions.ready]
    return budget.status.expected_pods if budget.status else 0, len(served)


def test_an_upgrade_leaves_the_leader_and_what_helm_wrote_on_its_lease(
    cluster: Cluster, release: Release, start: Callable[[], OperatorProcess]
) -> None:
    release.install(NO_CRD)
    operator = start()
    until(operator.leads, "leader")
    read = client.CoordinationV1Api(cluster.api).read_namespaced_lease
    before = read("selfalign-operator", release.namespace)
    release.upgrade("--set=commonLabels.team=platform")
    renewed = until(
        lambda: (
            lease
            if (lease := read("selfalign-operator", release.namespace)).spec.renew_time > before.spec.renew_time
            and "team" in lease.metadata.labels
            else None
        ),
        "renewal of the lease",
    )
    assert renewed.spec.holder_identity == before.spec.holder_identity
    assert renewed.spec.lease_transitions == before.spec.lease_transitions
    assert renewed.metadata.annotations["meta.helm.sh/release-name"] == release.name
    assert operator.leads()


def test_a_lease_that_somebody_has_deleted_is_made_again_and_an_upgrade_takes_it(
    cluster: Cluster, release: Release, start: Callable[[], OperatorProcess]
) -> None:
    release.install(NO_CRD)
    operator = start()
    until(operator.leads, "leader")
    cluster.kubectl("delete", "lease", "selfalign-operator", f"--namespace={release.namespace}")
    read = client.CoordinationV1Api(cluster.api).read_namespaced_lease

    def holder() -> str | None:
        try:
            found: str | None = read("selfalign-operator", release.namespace).spec.holder_identity
        except client.ApiException:
            return None
        return found

    until(holder, "holder of the new lease")
    until(operator.leads, "leader again")
    release.upgrade()
    assert holder()


NOTES = {
    "images on the nodes": ((NO_CRD,), ["These images come from no registry", "localhost/selfalign-train:0.1.0"]),
    "a CRD of one's own": ((NO_CRD,), ["The CRD is yours to apply"]),
    "namespaces": (
        (NO_CRD, "--set=watchNamespaces={team-a,team-b}"),
        ["serves team-a, team-b", "kubectl -n team-a apply -f run.yaml", "Bind the Role {name}-editor"],
    ),
    "profiles": ((NO_CRD, "--set=profiles.b.maxGpus=8,profiles.a.maxGpus=8"), ["(compute.profileName): a, b."]),
    "no rights": ((NO_CRD, "--set=rbac.create=false"), ["has no rights yet"]),
}


@pytest.mark.parametrize(("options", "said"), NOTES.values(), ids=NOTES)
def test_the_notes_say_what_is_left_to_do(release: Release, options: tuple[str, ...], said: list[str]) -> None:
    notes = release.install("--dry-run=client", *options)
    for each in said:
        assert each.format(name=release.name) in notes


# --- rights -----------------------------------------------------------------------------------------------------------


def rights_of(kubeconfig: Path, namespace: str) -> set[Right]:
    """What this user may do there, beside what everybody may."""
    body = {"spec": {"namespace": namespace}}
    review = client.AuthorizationV1Api(api_client(kubeconfig)).create_self_subject_rules_review(body)
    return {
        (group, resource, verb)
        for rule in review.status.resource_rules
        for group in rule.api_groups
        for resource in rule.resources
        for verb in rule.verbs
        if group not in ("authorization.k8s.io", "authentication.k8s.io")
    }


def until_rights(kubeconfig: Path, namespace: str, wanted: set[Right]) -> None:
    """Returns when this user may do that there and no more: the apiserver's authorizer reads roles by a watch."""
    try:
        until(lambda: rights_of(kubeconfig, namespace) == wanted, f"just these rights in {namespace}", 20)
    except TimeoutError:
        assert rights_of(kubeconfig, namespace) == wanted


NEEDED = {(group, resource, verb) for group, resources, verbs in RIGHTS for resource in resources for verb in verbs}


def test_it_may_do_in_all_namespaces_what_it_needs_and_nothing_else(release: Release) -> None:
    release.install(NO_CRD)
    until_rights(release.kubeconfig, "kube-system", NEEDED)
    until_rights(release.kubeconfig, release.namespace, NEEDED | LEASE)


def test_with_namespaces_given_it_may_do_nothing_elsewhere(release: Release, make_namespace: Callable[[], str]) -> None:
    first, second = make_namespace(), make_namespace()
    release.install(NO_CRD, f"--set=watchNamespaces={{{first},{second}}}")
    for each in (first, second):
        until_rights(release.kubeconfig, each, NEEDED)
    until_rights(release.kubeconfig, release.namespace, LEASE)
    assert rights_of(release.kubeconfig, "kube-system") == set()


def test_a_second_release_is_refused_where_the_first_serves(
    cluster: Cluster, helm: Helm, release: Release, make_namespace: Callable[[], str]
) -> None:
    theirs, other = make_namespace(), make_namespace()
    release.install(NO_CRD, f"--set=watchNamespaces={{{theirs}}}")
    second = Release(helm, cluster, make_namespace())
    with pytest.raises(RuntimeError, match=f"release {release.name} in namespace {release.namespace} serves {theirs}"):
        second.install(NO_CRD, f"--set=watchNamespaces={{{other},{theirs}}}")
    second.install(NO_CRD, f"--set=watchNamespaces={{{other}}}")
    release.upgrade("--set=replicas=1")
    second.uninstall()


def test_with_its_policy_the_operators_account_makes_only_what_a_run_owns(
    cluster: Cluster, release: Release, start: Callable[[], OperatorProcess]
) -> None:
    release.install(NO_CRD, f"--set=watchNamespaces={{{release.namespace}}}", "--set=admissionPolicy.enabled=true")
    until(start().leads, "leader")

    def refused() -> bool:
        """By a dry run with the operator's own token; a policy counts a moment after it was made."""
        body = client.V1ConfigMap(metadata=client.V1ObjectMeta(name="own"))
        core = client.CoreV1Api(api_client(release.kubeconfig))
        try:
            core.create_namespaced_config_map(release.namespace, body, dry_run="All")
        except client.ApiException as error:
            return "makes and deletes only what a SelfAlignmentRun owns" in str(error.body)
        return False

    until(refused, "refusal of a ConfigMap that no run owns")
    Run(cluster, release.namespace, run("owned", compute={"generation": {"replicas": 2}})).until("Complete", "True")


def drive(cluster: Cluster, namespace: str, folder: Path) -> None:
    """A run on a claim that loses an attempt, is suspended, goes on, and is removed with its Jobs when it is done."""
    folder.mkdir()
    cluster.add_claim(namespace, "runs", folder)
    rules = (attempt_is("i1-train", 1, exit_code=1), attempt_is("i1-generate", 1, trouble="Hang"))
    storage = {"url": "pvc://runs/out"}
    made = Run(cluster, namespace, run("driven", *rules, storage=storage, workloadRetention="AfterStep"))
    made.until_step("i1-generate", "Running")
    made.patch({"spec": {"suspend": True}})
    made.until("Suspended", "True")
    made.patch({"spec": {"suspend": False}})
    made.until("Complete", "True")
    assert made.step("i1-train")["attempts"] == 2
    until(lambda: "Completed" in made.events(), "event Completed")
    made.patch({"spec": {FIELD: 0}})
    until(lambda: "driven" not in cluster.kubectl("get", "sar", f"-n={namespace}", "-o=name"), "end of the run")


def test_with_these_rights_it_drives_a_run_of_any_namespace(
    cluster: Cluster, namespace: str, release: Release, start: Callable[[], OperatorProcess], tmp_path: Path
) -> None:
    release.install(NO_CRD)
    operator = start()
    drive(cluster, namespace, tmp_path / "claim")
    assert operator.value("api_calls_total", code="403") == 0


def test_with_namespaces_given_it_drives_their_runs_only(
    cluster: Cluster, namespace: str, release: Release, start: Callable[[], OperatorProcess]
) -> None:
    release.install(NO_CRD, f"--set=watchNamespaces={{{namespace}}}")
    operator = start()
    elsewhere = Run(cluster, release.namespace, run("elsewhere"))
    Run(cluster, namespace, run("here")).until("Complete", "True")
    assert elsewhere.status == {}
    assert operator.value("api_calls_total", code="403") == 0


def test_whoever_is_admin_of_a_namespace_installs_it_there(cluster: Cluster, release: Release, tmp_path: Path) -> None:
    namespace = release.namespace
    admin = cluster.kubeconfig_for(f"admin-of-{namespace}")
    cluster.kubectl(
        *("create", "rolebinding", "all", "--clusterrole=cluster-admin"),
        *(f"--user=admin-of-{namespace}", f"--namespace={namespace}"),
    )
    own = Release(Helm(tmp_path / "own", admin), cluster, namespace)
    with pytest.raises(RuntimeError, match=r"clusterrole.* is forbidden"):
        own.install(NO_CRD)
    own.install(NO_CRD, f"--set=watchNamespaces={{{namespace}}}")
    until_rights(release.kubeconfig, namespace, NEEDED | LEASE)


def test_edit_and_admin_create_runs_and_view_reads_them(cluster: Cluster, namespace: str, release: Release) -> None:
    release.install(NO_CRD)
    reads = {"get", "list", "watch"}
    writes = {"create", "update", "patch", "delete", "deletecollection"}
    for role, wanted in (("view", reads), ("edit", reads | writes), ("admin", reads | writes)):
        user = f"{role}-of-{namespace}"
        binding = ("create", "rolebinding", role, f"--clusterrole={role}", f"--user={user}")
        cluster.kubectl(*binding, f"--namespace={namespace}")
        kubeconfig = cluster.kubeconfig_for(user)

        def of_runs(kubeconfig: Path = kubeconfig) -> set[str]:
            return {verb for group, _, verb in rights_of(kubeconfig, namespace) if group == "selfalign.dev"}

        until(lambda of_runs=of_runs, wanted=wanted: of_runs() == wanted, f"aggregation to {role}: {wanted}")


def test_a_namespace_with_runs_goes_after_the_operator_has_gone(
    cluster: Cluster, namespace: str, release: Release, start: Callable[[], OperatorProcess]
) -> None:
    release.install(NO_CRD)
    operator = start()
    soon = {
        "generation": {"gracePeriodSeconds": 1}
    }  # half of it is what the namespace's deletion waits between two looks
    made = Run(cluster, namespace, run("hangs", step_is("i1-generate", trouble="Hang"), compute=soon))
    made.until_step("i1-generate", "Running")
    assert operator.stop() == 0
    release.uninstall()
    cluster.core.delete_namespace(namespace)
    gone = ("get", "namespace", namespace, "--ignore-not-found", "--output=name")
    until(lambda: not cluster.kubectl(*gone), "end of the namespace")


# --- the CRD ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_crd(cluster: Cluster) -> Iterator[None]:
    """A cluster that has never seen ours; the other tests get theirs back."""
    remove_crd(cluster)
    yield
    remove_crd(cluster)
    cluster.add_crd(CHART.parents[1] / "crds" / "selfalignmentruns.yaml")


def remove_crd(cluster: Cluster) -> None:
    cluster.kubectl("delete", "crd", CRD, "--ignore-not-found", "--wait")


def fields(cluster: Cluster) -> dict[str, Any]:
    """The fields of a run's spec that the cluster knows."""
    crd = client.ApiextensionsV1Api(cluster.api).read_custom_resource_definition(CRD)
    found: dict[str, Any] = crd.spec.versions[0].schema.open_apiv3_schema.properties["spec"].properties
    return found


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """The chart as an earlier release of it: its CRD lacks a field."""
    chart = shutil.copytree(CHART, tmp_path / "older")
    file = chart / "files" / "crds" / "selfalignmentruns.yaml"
    crd = yaml.safe_load(file.read_text())
    del crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"][FIELD]
    file.write_text(yaml.safe_dump(crd))
    metadata = yaml.safe_load((chart / "Chart.yaml").read_text()) | {"version": "0.0.9", "appVersion": "0.0.9"}
    (chart / "Chart.yaml").write_text(yaml.safe_dump(metadata))
    return chart


@pytest.mark.usefixtures("no_crd")
def test_an_upgrade_brings_the_newer_crd_and_keeps_the_runs(
    cluster: Cluster, namespace: str, release: Release, helm: Helm, older: Path
) -> None:
    Release(helm, cluster, release.namespace, older).install()
    until(lambda: FIELD not in fields(cluster), "older CRD")
    made = until(lambda: created(cluster, namespace), "run")
    uid = made.read()["metadata"]["uid"]
    release.upgrade()
    assert FIELD in fields(cluster)
    made.patch({"spec": {"suspend": True}})
    until(lambda: takes(made, FIELD), "the new field served")
    assert made.read()["metadata"]["uid"] == uid


def created(cluster: Cluster, namespace: str) -> Run | None:
    """A run, once the apiserver serves the CRD."""
    try:
        return Run(cluster, namespace, run("kept", suspend=True))
    except client.ApiException as error:
        if error.status != 404:
            raise
        return None


def takes(made: Run, field: str) -> bool:
    """Whether the apiserver keeps the field."""
    made.patch({"spec": {field: 60}})
    return field in made.read()["spec"]


@pytest.mark.usefixtures("no_crd")
def test_the_crd_and_its_runs_outlive_the_release_and_are_taken_up_again(
    cluster: Cluster, namespace: str, release: Release
) -> None:
    release.install()
    made = until(lambda: created(cluster, namespace), "run")
    uid = made.read()["metadata"]["uid"]
    release.uninstall()
    assert made.read()["metadata"]["uid"] == uid
    release.install()
    release.upgrade("--set=crds.keep=false,crds.deleteRuns=true")
    assert made.read()["metadata"]["uid"] == uid
    release.uninstall()
    assert cluster.kubectl("get", "crd", CRD, "--ignore-not-found", "--output=name") == ""


def test_a_crd_that_was_applied_by_hand_is_taken_over_when_one_says_so(cluster: Cluster, release: Release) -> None:
    with pytest.raises(RuntimeError, match="invalid ownership metadata"):
        release.install()
    release.install("--take-ownership")
    release.uninstall()
    assert FIELD in fields(cluster)
