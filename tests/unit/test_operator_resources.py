"""CPU and memory of every pod of a run: requests and limits where nobody says, and what somebody says."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from effective_runs import ACCEPT, ATTEMPTS, COLLECT, EVALUATE, GENERATE, TRAIN, effective
from hypothesis import given
from hypothesis import strategies as st
from kubernetes.utils.quantity import parse_quantity

from selfalign_api.errors import ConfigError
from selfalign_api.load import parse
from selfalign_api.operator_config import ClusterProfile, OperatorConfig
from selfalign_operator.effective import Attempt
from selfalign_operator.views import Manifest
from selfalign_operator.workloads.attempt import attempt_workload
from selfalign_operator.workloads.objects import run_objects
from selfalign_operator.workloads.resources import with_defaults

SMALL_PODS = (ACCEPT, COLLECT, Attempt("publish", "publish", 1, 1))
AMOUNTS = st.one_of(st.integers(0, 100), st.sampled_from(["250m", "1", "1500M", "900Mi", "3Ti", "1e3"]))
GIVEN = st.fixed_dictionaries(
    {}, optional={kind: st.dictionaries(st.sampled_from(["cpu", "memory"]), AMOUNTS) for kind in ("requests", "limits")}
)


def template(attempt: Attempt, compute: dict[str, Any] | None = None, **fields: Any) -> Manifest:
    found: Manifest = attempt_workload(effective({"compute": compute or {}}, **fields), attempt)["spec"]["template"]
    return found


def resources(attempt: Attempt, compute: dict[str, Any] | None = None) -> Manifest:
    found: Manifest = template(attempt, compute)["spec"]["containers"][0]["resources"]
    return found


@given(GIVEN, st.integers(0, 8), st.booleans())
def test_a_pod_has_limits_and_no_request_above_them_unless_somebody_says_so(
    given: dict[str, Any], gpus: int, small: bool
) -> None:
    found = with_defaults(given, gpus, small=small)
    for name in ("cpu", "memory"):
        asked, most = found["requests"].get(name), found["limits"][name]
        assert given.get("limits", {}).get(name, most) == most
        assert asked == given.get("requests", {}).get(name, asked)
        if asked is None:
            assert name in given["limits"]  # the apiserver takes the limit
        elif not (name in given.get("limits", {}) and name in given.get("requests", {})):
            assert Decimal(parse_quantity(asked)) <= Decimal(parse_quantity(most))


@pytest.mark.parametrize("device", ["GPU", "CPU"])
@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_no_pod_is_without_cpu_and_memory(attempt: Attempt, device: str) -> None:
    found = resources(attempt, {"device": device})
    assert {"cpu", "memory"} <= found["requests"].keys() & found["limits"].keys()


@pytest.mark.parametrize("attempt", SMALL_PODS)
def test_a_small_pod_fits_under_what_a_limit_range_of_900_mi_allows(attempt: Attempt) -> None:
    assert parse_quantity(resources(attempt)["limits"]["memory"]) < parse_quantity("900Mi")


def test_the_resources_that_a_pod_template_gives_count_too() -> None:
    part = {"spec": {"containers": [{"name": "step", "resources": {"limits": {"memory": "2Gi", "rdma/hca": 1}}}]}}
    found = resources(TRAIN, {"podTemplate": part})
    assert found["limits"] == {"nvidia.com/gpu": "1", "memory": "2Gi", "rdma/hca": 1, "cpu": "16"}
    assert found["requests"] == {"cpu": "2"}


# --- small pods -------------------------------------------------------------------------------------------------------

PLACED: dict[str, Any] = {
    "nodeSelector": {"gpu": "h100"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "h100"}],
    "runtimeClassName": "nvidia",
    "topologySpreadConstraints": [{"topologyKey": "zone"}],
    "schedulerName": "gang-scheduler",
}
KEPT: dict[str, Any] = {"serviceAccountName": "s3-reader", "imagePullSecrets": [{"name": "pull"}]}
PART = {"spec": PLACED | KEPT}


@pytest.mark.parametrize("section", ["", "generation"])
@pytest.mark.parametrize("attempt", SMALL_PODS)
def test_a_small_pod_starts_no_gpu_node_and_holds_no_claim(attempt: Attempt, section: str) -> None:
    compute = {section: {"podTemplate": PART}} if section else {"podTemplate": PART}
    found = template(attempt, compute)["spec"]
    assert PLACED.keys() & found.keys() == set()
    assert {field: found[field] for field in KEPT} == KEPT


@pytest.mark.parametrize("attempt", [GENERATE, TRAIN, EVALUATE])
def test_the_pods_of_engines_and_ranks_keep_all_of_it(attempt: Attempt) -> None:
    assert template(attempt, {"podTemplate": PART})["spec"].items() >= PART["spec"].items()


def test_without_gpus_the_small_pods_go_where_the_others_go() -> None:
    found = template(ACCEPT, {"device": "CPU", "podTemplate": PART})["spec"]
    assert found["nodeSelector"] == PLACED["nodeSelector"]
    assert "resourceClaims" not in found


@pytest.mark.parametrize("attempt", SMALL_PODS)
def test_small_pods_have_a_section_of_their_own(attempt: Attempt) -> None:
    own = {"spec": {"nodeSelector": {"pool": "small"}, "tolerations": [{"key": "tenant"}]}}
    control = {"image": "small:1", "resources": {"limits": {"memory": "400Mi"}}, "podTemplate": own}
    found = template(attempt, {"podTemplate": PART, "control": control})["spec"]
    container = found["containers"][0]
    assert (found["nodeSelector"], found["tolerations"]) == ({"pool": "small"}, [{"key": "tenant"}])
    assert container["image"] == "small:1"
    assert container["resources"]["limits"]["memory"] == "400Mi"
    assert "memory" not in container["resources"]["requests"]
    assert template(GENERATE, {"control": control})["spec"]["containers"][0]["image"] == "generate:1"


# --- devices ------------------------------------------------------------------------------------------------------------


def of_platform(**fields: Any) -> OperatorConfig:
    config = effective().config
    return config.model_copy(update={"profiles": {"default": parse(ClusterProfile, fields, "profile")}})


GPUS = {"generation": {"replicas": 2, "tensorParallelSize": 2}, "training": {"gpusPerNode": 4}}


@pytest.mark.parametrize(("attempt", "gpus"), [(GENERATE, 2), (TRAIN, 4), (EVALUATE, 2), (ACCEPT, 0), (COLLECT, 0)])
def test_gpus_may_be_claims_of_a_template_one_each(attempt: Attempt, gpus: int) -> None:
    found = template(attempt, GPUS, config=of_platform(gpuClaimTemplateName="one-h100"))["spec"]
    claims = [(each["name"], each["resourceClaimTemplateName"]) for each in found.get("resourceClaims", [])]
    assert claims == [(f"gpu-{number}", "one-h100") for number in range(gpus)]
    container = found["containers"][0]
    assert [each["name"] for each in container["resources"].get("claims", [])] == [name for name, _ in claims]
    assert "nvidia.com/gpu" not in container["resources"]["limits"]


def test_ray_is_told_of_the_gpus_that_it_has_by_claims() -> None:
    compute = {"generation": {"runtime": "RayJob", "replicas": 2, "tensorParallelSize": 2}}

    def parameters(config: OperatorConfig) -> list[str | None]:
        workload = attempt_workload(effective({"compute": compute}, config), GENERATE)
        cluster = workload["spec"]["rayClusterSpec"]
        groups = (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])
        return [group["rayStartParams"].get("num-gpus") for group in groups]

    assert parameters(of_platform(gpuClaimTemplateName="one-h100")) == ["2", "2"]
    assert parameters(effective().config) == [None, None]  # KubeRay does, by the extended resource


def test_a_platform_may_give_engines_and_ranks_capabilities_and_a_run_may_not() -> None:
    config = of_platform(capabilities=["IPC_LOCK"])
    for attempt in ATTEMPTS:
        given = template(attempt, config=config)["spec"]["containers"][0]["securityContext"]["capabilities"]
        small = attempt in (ACCEPT, COLLECT)
        assert given == {"drop": ["ALL"]} | ({} if small else {"add": ["IPC_LOCK"]})
    own = {"spec": {"containers": [{"name": "step", "securityContext": {"capabilities": {"add": ["IPC_LOCK"]}}}]}}
    with pytest.raises(ConfigError, match="cannot be overridden"):
        effective({"compute": {"podTemplate": own}}, config)


def test_a_platform_may_keep_the_pods_of_runs_from_being_evicted() -> None:
    def budgets(config: OperatorConfig, nodes: int) -> list[Manifest]:
        found = run_objects(effective({"compute": {"training": {"nodes": nodes}}}, config), "t")
        return [each for each in found if each["kind"] == "PodDisruptionBudget"]

    for nodes in (1, 3):
        (budget,) = budgets(of_platform(disruptionBudget=True), nodes)
        assert budget["spec"]["minAvailable"] == nodes
        labels = template(TRAIN, config=of_platform(disruptionBudget=True))["metadata"]["labels"]
        assert budget["spec"]["selector"]["matchLabels"].items() <= labels.items()
        assert budgets(effective().config, nodes) == []


# --- labels, and what autoscalers read ----------------------------------------------------------------------------------

LABELS = {"cost-center": "42", "team.example/name": "a", "team.example/tier": "b", "other": "c"}


def propagating(*names: str) -> OperatorConfig:
    profile = parse(ClusterProfile, {"propagateLabels": list(names)}, "profile")
    config = effective().config
    return config.model_copy(update={"profiles": {"default": profile}})


def test_everything_of_a_run_has_the_runs_name_and_the_labels_that_its_profile_carries_on() -> None:
    found = effective(config=propagating("cost-center", "team.example/"), labels=LABELS | {"selfalign.dev/run": "x"})
    workloads = [attempt_workload(found, attempt) for attempt in ATTEMPTS]
    pods = [workload["spec"]["template"] for workload in workloads]
    for each in (*run_objects(found, "t"), *workloads, *pods):
        labels = each["metadata"]["labels"]
        assert labels["selfalign.dev/run"] == "small"
        assert {name: labels.get(name) for name in LABELS} == LABELS | {"other": None}


def test_only_trainings_are_kept_from_autoscalers() -> None:
    def kept(attempt: Attempt) -> set[str]:
        return {name for name in template(attempt)["metadata"]["annotations"] if "evict" in name or "disrupt" in name}

    names = {"cluster-autoscaler.kubernetes.io/safe-to-evict", "karpenter.sh/do-not-disrupt"}
    assert [kept(attempt) for attempt in (TRAIN, GENERATE, ACCEPT, COLLECT)] == [names, set(), set(), set()]


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.text(max_size=3)),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=3), inner, max_size=2)),
    max_leaves=4,
)
OF_STEP = ("resources", "resources.requests", "resources.limits", "env", "volumeMounts", "securityContext", "ports")
OF_POD = ("nodeSelector", "tolerations", "affinity", "securityContext", "volumes", "resourceClaims", "initContainers")


@given(
    st.sampled_from([*(("step", f) for f in OF_STEP), *(("pod", f) for f in OF_POD), ("meta", "labels")]), JSON,
    st.sampled_from([*SMALL_PODS, GENERATE, TRAIN, EVALUATE]),
)  # fmt: skip
def test_what_is_of_a_wrong_type_is_rendered_for_the_apiserver_to_refuse_or_refused_in_words(
    place: tuple[str, str], value: Any, attempt: Attempt
) -> None:
    whose, (first, *rest) = place[0], place[1].split(".")
    written = {first: {rest[0]: value} if rest else value}
    pod = {"spec": {"containers": [{"name": "step"} | written]}} if whose == "step" else {"spec": written}
    given = {"metadata": written} if whose == "meta" else pod
    sections = {name: {"podTemplate": given} for name in ("control", "generation", "training", "evaluation")}
    with suppress(ConfigError):
        template(attempt, sections)
