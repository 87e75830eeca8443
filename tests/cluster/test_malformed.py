"""Specs past the schema, statuses edited by hand, children that are somebody else's: told of, and no other run waits.

The cluster's CRD has no schema for these tests, as after years of older ones; at the end it has the real one again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client
from malformed import Malformer
from operators import OperatorProcess
from runs import GROUP, PLURAL, STEP, VERSION, Run, attempt_is, run

from testbed.cluster import Cluster
from testbed.waiting import until

CRD = Path(__file__).parents[2] / "crds" / "selfalignmentruns.yaml"
SPECS, MENDED, STATUSES, OLD = 1000, 40, 150, 60
FREE = {"x-kubernetes-preserve-unknown-fields": True}
OWN_ERROR = re.compile(r"an error of the operator's own|Traceback")


def the_crd() -> dict[str, Any]:
    crd: dict[str, Any] = yaml.safe_load(CRD.read_text())
    return crd


def schema_of(part: str) -> dict[str, Any]:
    """The real schema of spec or status."""
    schema: dict[str, Any] = the_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"][part]
    return schema


def without_schema() -> dict[str, Any]:
    crd = the_crd()
    (version,) = crd["spec"]["versions"]
    version["schema"] = {"openAPIV3Schema": {"type": "object", "properties": {"spec": FREE, "status": FREE}}}
    version["additionalPrinterColumns"] = []
    return crd


def apply_crd(cluster: Cluster, crd: dict[str, Any]) -> None:
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f=-", stdin=json.dumps(crd))
    until(lambda: "True" in cluster.kubectl("get", "crd", crd["metadata"]["name"], "-o=yaml"), "served CRD")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of this file's own, for its CRD."""
    cluster = Cluster(tmp_path_factory.mktemp("loose"))
    try:
        apply_crd(cluster, without_schema())
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def unharmed(operator: OperatorProcess) -> Iterator[OperatorProcess]:
    """The operator of this file, which lives on without one error of its own while the test runs."""
    before = operator.log.stat().st_size
    yield operator
    assert operator.process.poll() is None
    said = operator.log.read_bytes()[before:].decode()
    assert not OWN_ERROR.search(said), said[OWN_ERROR.search(said).start() :][:4000]  # type: ignore[union-attr]


def everything(cluster: Cluster, namespace: str) -> dict[str, dict[str, Any]]:
    found = cluster.custom.list_namespaced_custom_object(GROUP, VERSION, namespace, PLURAL)["items"]
    return {each["metadata"]["name"]: each for each in found}


def told(made: dict[str, Any]) -> str:
    """What the run says of itself for this generation, in one word; empty while it says nothing, or only that it goes on."""
    status = made.get("status")
    if not isinstance(status, dict) or status.get("observedGeneration") != made["metadata"]["generation"]:
        return ""
    conditions = status["conditions"] if isinstance(status.get("conditions"), list) else []
    found = {each.get("type"): each for each in conditions if isinstance(each, dict)}
    for kind, value in (("Accepted", "False"), ("Complete", "True"), ("Failed", "True"), ("Suspended", "True")):
        if found.get(kind, {}).get("status") == value:
            assert found[kind]["reason"]
            return kind
    return ""


def silent(cluster: Cluster, namespace: str, names: set[str]) -> list[str]:
    there = everything(cluster, namespace)
    return [name for name in sorted(names & set(there)) if not told(there[name])]


def until_all_are_told(cluster: Cluster, namespace: str, names: set[str], seconds: float = 200) -> None:
    try:
        until(lambda: not silent(cluster, namespace, names), "word of every run", seconds, pause=0.5)
    except TimeoutError as error:
        left = silent(cluster, namespace, names)
        shown = json.dumps([everything(cluster, namespace)[name] for name in left[:3]], indent=1)
        raise TimeoutError(f"{error}: nothing is said of {len(left)} runs, such as {shown}") from None


def side_by_side(do: Callable[[Any], Any], items: list[Any]) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(do, items))


def create(cluster: Cluster, namespace: str, manifests: list[dict[str, Any]]) -> set[str]:
    side_by_side(
        lambda each: cluster.custom.create_namespaced_custom_object(GROUP, VERSION, namespace, PLURAL, each), manifests
    )
    return {each["metadata"]["name"] for each in manifests}


def broken_runs(count: int, name: str) -> list[dict[str, Any]]:
    schema, good = schema_of("spec"), run("good")
    specs = (Malformer(schema, seed).broken(good["spec"]) for seed in range(count))
    return [good | {"metadata": {"name": f"{name}-{seed}"}, "spec": spec} for seed, spec in enumerate(specs)]


def a_healthy_run_completes(cluster: Cluster, namespace: str, name: str) -> None:
    Run(cluster, namespace, run(name)).until("Complete", "True", seconds=180)  # a busy machine beside a thousand others


def test_a_thousand_malformed_specs_are_told_of_and_mended_ones_go_on(
    cluster: Cluster, namespace: str, unharmed: OperatorProcess
) -> None:
    manifests = broken_runs(SPECS, "broken")
    names = create(cluster, namespace, manifests)
    a_healthy_run_completes(cluster, namespace, "healthy")
    until_all_are_told(cluster, namespace, names)
    there = everything(cluster, namespace)
    refused = [name for name in sorted(names & set(there)) if told(there[name]) == "Accepted"]
    assert len(refused) > SPECS / 2
    assert all(there[name]["status"]["conditions"][0]["message"] for name in refused)

    def mend(name: str) -> None:
        whole = cluster.custom.get_namespaced_custom_object(GROUP, VERSION, namespace, PLURAL, name)
        whole["spec"] = run(name)["spec"]
        cluster.custom.replace_namespaced_custom_object(GROUP, VERSION, namespace, PLURAL, name, whole)

    for name in refused[:MENDED]:
        mend(name)
    until(
        lambda: all(told(everything(cluster, namespace)[name]) == "Complete" for name in refused[:MENDED]),
        "end of the mended runs", 120, pause=0.5,
    )  # fmt: skip


def test_an_object_nested_as_deep_as_the_apiserver_takes_it_is_told_so(
    cluster: Cluster, namespace: str, tmp_path: Path, unharmed: OperatorProcess
) -> None:
    for depth in (90, 500, 880, 940, 9000):
        manifest = json.dumps(run(f"deep-{depth}", compute={"podTemplate": {"spec": {"volumes": "DEEP"}}}))
        file = tmp_path / "deep.json"
        file.write_text(manifest.replace('"DEEP"', "[" * depth + "]" * depth))
        path = f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{PLURAL}"
        cluster.kubectl("create", f"--raw={path}", f"-f={file}")
    a_healthy_run_completes(cluster, namespace, "beside-deep-ones")
    for depth in (90, 500, 880, 940, 9000):
        reason = '-o=jsonpath={.status.conditions[?(@.type=="Accepted")].reason}'
        shown = lambda: cluster.kubectl("get", "sar", f"deep-{depth}", f"-n={namespace}", reason)  # noqa: B023, E731
        until(lambda: shown() == "InvalidSpec", f"word of deep-{depth}")  # noqa: B023


TEMPLATES: tuple[dict[str, Any], ...] = (
    {"spec": {"nodeSelector": ["a"]}},
    {"spec": {"tolerations": "all"}},
    {"spec": {"containers": [{"name": "step", "resources": "2"}]}},
    {"spec": {"containers": [{"name": "beside", "image": 7}]}},
    {"spec": {"affinity": {"nodeAffinity": []}}},
    {"metadata": {"annotations": {"a": 1}}},
    {"metadata": {"annotations": {"a/b/c": "x"}}},
    {"metadata": {"annotations": {"large": "x" * 300_000}}},
)


def test_a_pod_template_of_wrong_types_is_told_of_by_the_clusters_own_words(
    cluster: Cluster, namespace: str, unharmed: OperatorProcess
) -> None:
    runs = [
        Run(cluster, namespace, run(f"template-{number}", compute={"training": {"podTemplate": template}}))
        for number, template in enumerate(TEMPLATES)
    ]
    for made in runs:
        made.until("Accepted", "False", "InvalidSpec", seconds=180)
        assert made.jobs() == []


def test_a_status_edited_by_hand_stops_no_run(cluster: Cluster, namespace: str, unharmed: OperatorProcess) -> None:
    pattern = Run(cluster, namespace, run("pattern", attempt_is("i1-train", 1, exit_code=1)))
    pattern.until("Complete", "True")
    ended = pattern.status
    half = json.loads(json.dumps(ended))
    half["steps"][2] |= {"state": "Running", "workload": half["steps"][2]["workload"]}
    half["steps"][3] = {"name": "i1-evaluate", "kind": "evaluate", "state": "Pending"}
    half["conditions"] = [each for each in half["conditions"] if each["type"] in ("Accepted", "Suspended")]
    half.pop("completionTime")
    schema = schema_of("status")
    statuses = [Malformer(schema, seed).broken(half if seed % 3 else ended) for seed in range(STATUSES)]
    names = create(cluster, namespace, [run(f"edited-{seed}") for seed in range(STATUSES)])

    def edit(seed: int) -> None:
        body = {"status": statuses[seed] if isinstance(statuses[seed], dict) else {"steps": statuses[seed]}}
        cluster.custom.patch_namespaced_custom_object_status(
            GROUP, VERSION, namespace, PLURAL, f"edited-{seed}", body, _content_type="application/merge-patch+json"
        )

    side_by_side(edit, list(range(STATUSES)))
    until_all_are_told(cluster, namespace, names)


def foreign_job(name: str, labels: dict[str, str], owners: list[dict[str, Any]]) -> dict[str, Any]:
    pod = {"restartPolicy": "Never", "containers": [{"name": "step", "image": "x"}]}
    hangs = {"testbed.selfalign.dev/trouble": "Hang"}
    template = {"metadata": {"labels": {"who": "knows"}, "annotations": hangs}, "spec": pod}
    return {"metadata": {"name": name, "labels": labels, "ownerReferences": owners}, "spec": {"template": template}}


def test_children_with_our_labels_that_are_not_ours_are_left_alone(
    cluster: Cluster, namespace: str, unharmed: OperatorProcess
) -> None:
    made = Run(cluster, namespace, run("crowded", attempt_is("i1-generate", 1, trouble="Hang")))
    made.until_step("i1-generate", "Running")
    uid = made.read()["metadata"]["uid"]
    ours = {"selfalign.dev/run-uid": uid, STEP: "i1-generate", "selfalign.dev/attempt": "1"}
    owner = cluster.core.create_namespaced_config_map(namespace, {"metadata": {"name": "theirs"}}).metadata
    other = {"apiVersion": "v1", "kind": "ConfigMap", "name": owner.name, "uid": owner.uid, "controller": True}
    foreign = [
        foreign_job("unowned", ours, []),
        foreign_job("anothers", ours | {"selfalign.dev/attempt": "7"}, [other]),
        foreign_job("no-number", ours | {"selfalign.dev/attempt": "x"}, []),
        foreign_job("no-step", ours | {STEP: "made-up", "selfalign.dev/attempt": "999999999"}, []),
    ]
    for job in foreign:
        cluster.batch.create_namespaced_job(namespace, job)
    a_healthy_run_completes(cluster, namespace, "beside-foreign-ones")
    made.patch({"spec": {"suspend": True}})
    made.until("Suspended", "True")
    made.patch({"spec": {"suspend": False}})
    made.until("Complete", "True")
    left = {job.metadata.name for job in cluster.batch.list_namespaced_job(namespace).items}
    assert {job["metadata"]["name"] for job in foreign} <= left


def test_a_job_that_claims_to_be_a_later_attempt_of_ours_does_not_wedge_the_run(
    cluster: Cluster, namespace: str, unharmed: OperatorProcess
) -> None:
    made = Run(cluster, namespace, run("claimed", attempt_is("i1-generate", 1, trouble="Hang")))
    made.until_step("i1-generate", "Running")
    uid = made.read()["metadata"]["uid"]
    owner = {"apiVersion": f"{GROUP}/{VERSION}", "kind": "SelfAlignmentRun", "name": "claimed", "uid": uid}
    labels = {"selfalign.dev/run-uid": uid, STEP: "i1-generate", "selfalign.dev/attempt": "999999999"}
    cluster.batch.create_namespaced_job(namespace, foreign_job("claims", labels, [owner | {"controller": True}]))
    a_healthy_run_completes(cluster, namespace, "beside-a-claim")
    made.patch({"spec": {"suspend": True}})
    made.until("Suspended", "True")
    made.patch({"spec": {"suspend": False}})
    made.until("Complete", "True")


def test_an_object_that_has_a_childs_name_is_named_and_then_the_run_goes_on(
    cluster: Cluster, namespace: str, unharmed: OperatorProcess
) -> None:
    made = Run(cluster, namespace, run("named", suspend=True))
    made.until("Suspended", "True")
    from selfalign_operator.names import workload_name

    name = workload_name("named", made.read()["metadata"]["uid"], "accept", 1)
    cluster.batch.create_namespaced_job(namespace, foreign_job(name, {}, []))
    made.patch({"spec": {"suspend": False}})
    assert name in made.until("Accepted", "False", "NameConflict")["message"]
    cluster.batch.delete_namespaced_job(name, namespace, propagation_policy="Background")
    made.until("Complete", "True", seconds=90)


def test_runs_that_a_stricter_schema_found_there_are_told_of(
    cluster: Cluster, operator: OperatorProcess, namespace: str, tmp_path: Path
) -> None:
    """The last one of this file: it ends the operator, and puts the real schema back."""
    assert operator.stop() == 0
    names = create(cluster, namespace, broken_runs(OLD, "old"))
    apply_crd(cluster, the_crd())
    until(lambda: refuses(cluster, namespace), "schema in force")
    second = OperatorProcess(tmp_path, cluster.kubeconfig, "--no-leader-election")
    try:
        second.wait_ready()
        a_healthy_run_completes(cluster, namespace, "healthy-too")

        def unsaid() -> set[str]:
            events = cluster.core.list_namespaced_event(namespace).items
            heard = {event.involved_object.name for event in events if event.involved_object.kind == "SelfAlignmentRun"}
            return set(silent(cluster, namespace, names)) - heard

        try:
            until(lambda: not unsaid(), "word of every old run", 120, pause=0.5)
        except TimeoutError as error:
            left = [everything(cluster, namespace)[name] for name in sorted(unsaid())[:3]]
            raise TimeoutError(f"{error}: {json.dumps(left, indent=1)}\n{second.log.read_text()[-3000:]}") from None
        assert not OWN_ERROR.search(second.log.read_text()), second.log.read_text()[-4000:]
    finally:
        assert second.stop() == 0


def refuses(cluster: Cluster, namespace: str) -> bool:
    try:
        cluster.custom.create_namespaced_custom_object(
            GROUP, VERSION, namespace, PLURAL, run("probe") | {"spec": {"recipe": 7}}, dry_run="All"
        )
    except client.ApiException as error:
        return error.status == 422
    return False
