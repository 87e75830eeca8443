"""The objects of a run, and what everything that is made for it says of itself: owner, labels, who may connect."""

from typing import Any

import pytest
from effective_runs import ATTEMPTS, COLLECT, UID, effective

from selfalign_api.operator_config import Images, Network, OperatorConfig, Peer
from selfalign_operator.effective import Attempt, EffectiveRun
from selfalign_operator.views import COLLECT_LABEL, STEP_LABEL, UID_LABEL, Manifest
from selfalign_operator.workloads.attempt import attempt_workload
from selfalign_operator.workloads.objects import network_policy, run_objects

CPU = {"compute": {"device": "CPU"}}
GANGS = {"compute": {"generation": {"replicas": 3}, "training": {"nodes": 2}}}
RAYJOB = {"compute": {"generation": {"runtime": "RayJob", "replicas": 3}}}


def everything(found: EffectiveRun) -> list[Manifest]:
    return [*run_objects(found, "t"), *(attempt_workload(found, attempt) for attempt in ATTEMPTS)]


@pytest.mark.parametrize("spec", [CPU, GANGS, RAYJOB])
def test_everything_belongs_to_the_run(spec: dict[str, Any]) -> None:
    for manifest in everything(effective(spec)):
        metadata = manifest["metadata"]
        (owner,) = metadata["ownerReferences"]
        assert (owner["kind"], owner["uid"], owner["controller"]) == ("SelfAlignmentRun", UID, True)
        assert owner["blockOwnerDeletion"] is True
        assert metadata["namespace"] == "research"
        assert metadata["labels"][UID_LABEL] == UID
        assert metadata["annotations"]["selfalign.dev/run"] == "small"


def test_a_collect_job_is_told_apart_by_its_label_and_its_name() -> None:
    run = effective()
    trained = attempt_workload(run, Attempt("i1-train", "train", 1, 2))
    collected = attempt_workload(run, COLLECT)
    assert collected["metadata"]["name"] == trained["metadata"]["name"] + "-c"
    assert collected["metadata"]["labels"][COLLECT_LABEL] == "true"
    assert COLLECT_LABEL not in trained["metadata"]["labels"]
    assert collected["metadata"]["labels"][STEP_LABEL] == "i1-train"


def test_the_objects_of_a_run_are_immutable_and_found_by_its_pods() -> None:
    service, config_map, secret, policy = run_objects(effective(GANGS), "the token")
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert service["spec"]["selector"] == {UID_LABEL: UID}
    assert config_map["immutable"] and secret["immutable"]
    assert secret["data"] == {"auth_token": "dGhlIHRva2Vu"}
    assert policy["spec"]["podSelector"] == {"matchLabels": {UID_LABEL: UID}}


def test_single_pods_need_neither_a_service_nor_a_token() -> None:
    assert [each["kind"] for each in run_objects(effective(CPU), "t")] == ["ConfigMap", "NetworkPolicy"]
    for gang in ({"generation": {"replicas": 2}}, {"training": {"nodes": 2}}, {"evaluation": {"replicas": 2}}):
        kinds = [each["kind"] for each in run_objects(effective({"compute": gang}), "t")]
        assert kinds == ["Service", "ConfigMap", "Secret", "NetworkPolicy"]


def ingress(spec: dict[str, Any] | None = None, **network: Any) -> list[Manifest]:
    config = OperatorConfig(images=Images(generate="g", train="t"), network=Network(**network))
    rules: list[Manifest] = network_policy(effective(spec, config))["spec"]["ingress"]
    return rules


OWN = {"from": [{"podSelector": {"matchLabels": {UID_LABEL: UID}}}]}
PROGRESS = [{"protocol": "TCP", "port": 8080}]


def test_own_pods_reach_one_another_and_without_a_configuration_anybody_the_progress() -> None:
    assert ingress() == [OWN, {"ports": PROGRESS}]


def test_only_those_that_are_named_reach_the_progress() -> None:
    peer = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}},
        "podSelector": {"matchLabels": {"app": "prometheus"}},
    }
    named = (Peer(namespace="monitoring", pod_labels={"app": "prometheus"}),)
    assert ingress(progress=named) == [OWN, {"ports": PROGRESS, "from": [peer]}]
    assert ingress(progress=()) == [OWN]


def test_kuberay_reaches_the_dashboard_of_a_run_that_uses_it() -> None:
    rule = ingress(RAYJOB)[-1]
    assert rule["ports"] == [{"protocol": "TCP", "port": 8265}]
    (peer,) = rule["from"]
    assert peer["podSelector"] == {"matchLabels": {"app.kubernetes.io/component": "kuberay-operator"}}
