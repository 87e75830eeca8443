"""What an attempt becomes: gangs with the policies of docs, pods that a restricted namespace takes, RayJobs, Kueue."""

import copy
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from effective_runs import ACCEPT, ATTEMPTS, COLLECT, EVALUATE, GENERATE, TRAIN, effective

from selfalign_api.life import Tracking
from selfalign_api.load import parse
from selfalign_api.operator_config import ClusterProfile, Images, OperatorConfig
from selfalign_jobs.entry import parser
from selfalign_operator.effective import Attempt
from selfalign_operator.views import Manifest
from selfalign_operator.workloads.attempt import attempt_workload
from selfalign_operator.workloads.objects import config_map_name, run_objects
from selfalign_operator.workloads.rayjob import RAY_VERSION

CPU = {"compute": {"device": "CPU"}}
GANGS = {
    "compute": {"generation": {"replicas": 3, "tensorParallelSize": 2}, "training": {"nodes": 2, "gpusPerNode": 4}}
}
RAYJOB = {"compute": {"generation": {"runtime": "RayJob", "replicas": 3}}}
QUEUE = {"compute": {"queueName": "team-a"}}


def job(attempt: Attempt, spec: dict[str, Any] | None = None, **fields: Any) -> Manifest:
    return attempt_workload(effective(spec, **fields), attempt)


def template(attempt: Attempt, spec: dict[str, Any] | None = None, **fields: Any) -> Manifest:
    found: Manifest = job(attempt, spec, **fields)["spec"]["template"]
    return found


def step(attempt: Attempt, spec: dict[str, Any] | None = None, **fields: Any) -> Manifest:
    found: Manifest = template(attempt, spec, **fields)["spec"]["containers"][0]
    return found


def env(attempt: Attempt, spec: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in step(attempt, spec, **fields)["env"]}


def pods_of(workload: Manifest) -> list[Manifest]:
    if workload["kind"] == "Job":
        return [workload["spec"]["template"]]
    cluster = workload["spec"]["rayClusterSpec"]
    return [cluster["headGroupSpec"]["template"], *(group["template"] for group in cluster.get("workerGroupSpecs", ()))]


# --- policies ---------------------------------------------------------------------------------------------------------

WRONG = {"action": "FailJob", "onExitCodes": {"containerName": "step", "operator": "In", "values": [64]}}


def disrupted(action: str) -> Manifest:
    return {"action": action, "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}


def test_a_training_gang_ends_with_the_first_pod_that_is_lost() -> None:
    spec = job(TRAIN, GANGS)["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 2, 2)
    assert spec["backoffLimit"] == 0
    assert spec["podFailurePolicy"]["rules"] == [WRONG, disrupted("FailJob")]
    assert "successPolicy" not in spec


def test_a_generation_gang_succeeds_with_its_index_0_and_replaces_helpers() -> None:
    for attempt in (GENERATE, EVALUATE):
        spec = job(attempt, GANGS | {"failurePolicy": {"maxRetriesPerStep": 5}})["spec"]
        assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 3, 3)
        assert spec["successPolicy"] == {"rules": [{"succeededIndexes": "0"}]}
        assert (spec["backoffLimitPerIndex"], spec["maxFailedIndexes"]) == (5, 0)
        assert spec["podFailurePolicy"]["rules"] == [WRONG, disrupted("Ignore")]
        assert "backoffLimit" not in spec


@pytest.mark.parametrize("attempt", [ACCEPT, GENERATE, EVALUATE, COLLECT])
def test_one_pod_fails_its_attempt_and_survives_a_disruption(attempt: Attempt) -> None:
    spec = job(attempt)["spec"]
    assert (spec["completions"], spec["backoffLimit"]) == (1, 0)
    assert spec["podFailurePolicy"]["rules"] == [WRONG, disrupted("Ignore")]
    assert "successPolicy" not in spec
    assert "backoffLimitPerIndex" not in spec


@pytest.mark.parametrize("spec", [CPU, GANGS, RAYJOB, QUEUE])
def test_no_workload_has_a_ttl_or_a_deadline_and_none_is_replaced_before_it_ended(spec: dict[str, Any]) -> None:
    for attempt in ATTEMPTS:
        workload = job(attempt, spec)["spec"]
        assert not {"ttlSecondsAfterFinished", "activeDeadlineSeconds"} & workload.keys()
        assert workload.get("podReplacementPolicy", "Failed") == "Failed"


# --- gangs ------------------------------------------------------------------------------------------------------------


def test_the_pods_of_a_gang_know_its_size_and_the_name_of_its_head() -> None:
    workload = job(GENERATE, GANGS)
    variables = env(GENERATE, GANGS)
    assert variables["SELFALIGN_GANG_SIZE"] == "3"
    service = run_objects(effective(GANGS), "t")[0]["metadata"]["name"]
    assert variables["SELFALIGN_GANG_HEAD"] == f"{workload['metadata']['name']}-0.{service}"
    assert template(GENERATE, GANGS)["spec"]["subdomain"] == service
    assert variables["POD_IP"] == {"fieldRef": {"fieldPath": "status.podIP"}}


def test_ranks_wait_for_one_another_as_long_as_the_operator_does() -> None:
    spec = GANGS | {"failurePolicy": {"startupDeadlineSeconds": 77}}
    assert env(TRAIN, spec)["SELFALIGN_STARTUP_SECONDS"] == "77"


def test_engines_in_a_gang_show_one_another_a_token_and_ranks_need_none() -> None:
    secret = {"secretKeyRef": {"name": run_objects(effective(GANGS), "t")[2]["metadata"]["name"], "key": "auth_token"}}
    variables = env(GENERATE, GANGS)
    assert (variables["RAY_AUTH_MODE"], variables["RAY_AUTH_TOKEN"]) == ("token", secret)
    assert not [name for name in env(TRAIN, GANGS) if name.startswith("RAY_")]


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_one_pod_is_no_gang(attempt: Attempt) -> None:
    assert not [name for name in env(attempt) if name.startswith(("SELFALIGN_", "RAY_"))]


def test_a_pod_has_the_gpus_of_one_engine_or_of_one_node() -> None:
    assert step(GENERATE, GANGS)["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert step(TRAIN, GANGS)["resources"]["limits"]["nvidia.com/gpu"] == "4"


def test_evaluation_has_the_size_of_its_own() -> None:
    spec = {"compute": {"generation": {"replicas": 3}, "evaluation": {"replicas": 1, "tensorParallelSize": 4}}}
    assert job(EVALUATE, spec)["spec"]["completions"] == 1
    assert step(EVALUATE, spec)["resources"]["limits"]["nvidia.com/gpu"] == "4"


@pytest.mark.parametrize("attempt", [ACCEPT, COLLECT])
def test_accept_and_collect_take_no_gpu_whatever_the_engines_have(attempt: Attempt) -> None:
    devices = {"spec": {"containers": [{"name": "step", "resources": {"limits": {"rdma/hca": 1}}}]}}
    spec = {"compute": GANGS["compute"] | {"podTemplate": devices}}
    assert job(attempt, spec)["spec"]["completions"] == 1
    assert "rdma/hca" not in step(attempt, spec)["resources"]["limits"]
    assert "nvidia.com/gpu" not in step(attempt, spec)["resources"]["limits"]
    assert env(attempt, spec)["NVIDIA_VISIBLE_DEVICES"] == "void"


def test_pods_that_compute_on_cpus_ask_for_no_gpu_and_see_none() -> None:
    for attempt in ATTEMPTS:
        assert "nvidia.com/gpu" not in step(attempt, CPU)["resources"].get("limits", {})
        assert env(attempt, CPU)["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert "NVIDIA_VISIBLE_DEVICES" not in env(GENERATE)


def test_a_platform_names_its_gpus() -> None:
    config = OperatorConfig(
        images=Images(generate="g", train="t"), profiles={"default": ClusterProfile(gpu_resource_name="amd.com/gpu")}
    )
    assert step(TRAIN, config=config)["resources"]["limits"]["amd.com/gpu"] == "1"
    assert "nvidia.com/gpu" not in step(TRAIN, config=config)["resources"]["limits"]


# --- the pod ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [CPU, GANGS, RAYJOB])
def test_every_pod_meets_the_restricted_standard(spec: dict[str, Any]) -> None:
    for attempt in ATTEMPTS:
        for pod in pods_of(job(attempt, spec)):
            security = pod["spec"]["securityContext"]
            assert security["runAsNonRoot"] is True
            assert security["runAsUser"] > 0
            assert security["seccompProfile"] == {"type": "RuntimeDefault"}
            for container in pod["spec"]["containers"]:
                assert container["securityContext"] == {
                    "allowPrivilegeEscalation": False,
                    "capabilities": {"drop": ["ALL"]},
                    "readOnlyRootFilesystem": True,
                }
            kinds = {kind for volume in pod["spec"]["volumes"] for kind in volume if kind != "name"}
            assert kinds <= {"configMap", "emptyDir", "persistentVolumeClaim"}
            assert pod["spec"]["automountServiceAccountToken"] is False
            assert pod["spec"]["enableServiceLinks"] is False
            assert pod["spec"]["restartPolicy"] == "Never"


def test_whatever_a_step_writes_outside_its_storage_lies_in_an_empty_folder() -> None:
    mounts = {mount["mountPath"]: mount["name"] for mount in step(TRAIN)["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in template(TRAIN)["spec"]["volumes"]}
    for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "HF_HOME", "VLLM_CACHE_ROOT", "TORCHINDUCTOR_CACHE_DIR"):
        folder = next(path for path in sorted(mounts, reverse=True) if f"{env(TRAIN)[name]}/".startswith(f"{path}/"))
        assert "emptyDir" in volumes[mounts[folder]]
    assert volumes[mounts["/dev/shm"]]["emptyDir"] == {"medium": "Memory", "sizeLimit": "16Gi"}
    assert env(TRAIN)["USER"]


def test_the_entry_point_is_told_the_step_and_the_attempt() -> None:
    container = step(Attempt("i2-train", "train", 2, 7))
    assert container["command"] == ["python", "-m", "selfalign_jobs"]
    assert container["args"] == [
        *("/etc/selfalign/run.json", "--step", "i2-train", "--attempt", "7", "--listen", ":8080"),
        *("--termination-message", "/dev/termination-log"),
    ]
    assert step(COLLECT)["args"][-1] == "--collect"
    assert {"name": "progress", "containerPort": 8080} in container["ports"]
    assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"


def test_the_run_file_is_the_one_of_the_runs_config_map() -> None:
    volumes = {volume["name"]: volume for volume in template(TRAIN)["spec"]["volumes"]}
    assert volumes["run"]["configMap"]["name"] == config_map_name(effective())


def test_every_claim_is_mounted_where_the_run_file_says() -> None:
    found = effective()
    claims = {
        volume["persistentVolumeClaim"]["claimName"]: volume["name"]
        for volume in template(TRAIN)["spec"]["volumes"]
        if "persistentVolumeClaim" in volume
    }
    mounts = {mount["name"]: mount["mountPath"] for mount in step(TRAIN)["volumeMounts"]}
    assert {claim: mounts[name] for claim, name in claims.items()} == found.mounts


@pytest.mark.parametrize(
    ("attempt", "image"), [(GENERATE, "g"), (EVALUATE, "g"), (ACCEPT, "g"), (COLLECT, "g"), (TRAIN, "t")]
)
def test_each_step_has_its_image(attempt: Attempt, image: str) -> None:
    assert step(attempt, config=OperatorConfig(images=Images(generate="g", train="t")))["image"] == image


def test_a_runs_own_images_resources_and_grace_periods_count() -> None:
    compute = {
        "generation": {"image": "own-g", "resources": {"requests": {"cpu": 2}}, "gracePeriodSeconds": 7},
        "training": {"image": "own-t"},
    }
    spec = {"compute": compute}
    assert [step(a, spec)["image"] for a in ATTEMPTS] == ["own-g", "own-g", "own-t", "own-g", "own-g"]
    assert step(EVALUATE, spec)["resources"]["requests"]["cpu"] == "2"
    assert template(EVALUATE, spec)["spec"]["terminationGracePeriodSeconds"] == 7
    assert template(TRAIN, spec)["spec"]["terminationGracePeriodSeconds"] == 120


def test_pod_templates_are_merged_the_runs_first_then_the_sections() -> None:
    def labelled(value: str) -> Manifest:
        return {"metadata": {"labels": {"team": value, value: "x"}}}

    compute = {"podTemplate": labelled("all"), "training": {"podTemplate": labelled("training")}}
    labels = template(TRAIN, {"compute": compute})["metadata"]["labels"]
    assert (labels["team"], labels["all"], labels["training"]) == ("training", "x", "x")
    assert template(GENERATE, {"compute": compute})["metadata"]["labels"]["team"] == "all"


def test_the_secret_of_the_longest_prefix_opens_a_place() -> None:
    spec = {
        "model": {"url": "hf://google/gemma"},
        "storage": {"url": "s3://ml/runs"},
        "credentials": [
            {"urlPrefix": "s3://", "secretName": "any"},
            {"urlPrefix": "s3://ml", "secretName": "ml"},
            {"urlPrefix": "s3://m", "secretName": "no-part-of-a-name"},
            {"urlPrefix": "gs://", "secretName": "unused"},
            {"urlPrefix": "hf://", "secretName": "hub"},
        ],
    }
    for attempt in ATTEMPTS:
        assert [entry["secretRef"]["name"] for entry in step(attempt, spec)["envFrom"]] == ["hub", "ml"]
    assert "envFrom" not in step(TRAIN)


def test_every_step_is_told_where_the_run_is_tracked_and_has_the_secret_of_it() -> None:
    tracking = {"type": "MLflow", "url": "https://mlflow.example/team", "required": True}
    secret = {"urlPrefix": "https://mlflow.example", "secretName": "mlflow"}
    for attempt in ATTEMPTS:
        container = step(attempt, {"tracking": tracking, "credentials": [secret]})
        assert container["envFrom"] == [{"secretRef": {"name": "mlflow"}}]
        words = container["args"]
        if attempt.collect:
            assert "--tracking" not in words
            continue
        told = json.loads(words[words.index("--tracking") + 1])
        assert told == tracking | {"experiment": "selfalign"}
        assert parser().parse_args(words).tracking == Tracking.model_validate(tracking)
        assert "--tracking" not in step(attempt)["args"]


def test_rendering_shares_nothing_that_a_caller_could_change() -> None:
    found = effective(GANGS)
    first = attempt_workload(found, GENERATE)
    kept = copy.deepcopy(first)
    second = attempt_workload(found, GENERATE)
    second["spec"]["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"].append(1)
    second["spec"]["template"]["spec"]["containers"][0]["securityContext"]["capabilities"]["drop"].clear()
    assert attempt_workload(found, GENERATE) == kept == first


def test_publishing_takes_one_small_pod_with_the_volumes_and_the_secrets_of_where_it_goes() -> None:
    outputs = {"output": {"url": "pvc://results/model", "datasetUrl": "s3://shared/pairs"}}
    keys = {"credentials": [{"urlPrefix": "s3://shared", "secretName": "keys"}]}
    found = template(Attempt("publish", "publish", 1, 1), GANGS | outputs | keys)["spec"]
    container = found["containers"][0]
    assert container["resources"] == {
        "requests": {"cpu": "500m", "memory": "768Mi"},
        "limits": {"cpu": "1", "memory": "768Mi"},
    }
    assert "/mnt/results" in [mount["mountPath"] for mount in container["volumeMounts"]]
    assert container["envFrom"] == [{"secretRef": {"name": "keys"}}]


# --- Kueue ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [QUEUE, {"compute": QUEUE["compute"] | RAYJOB["compute"]}])
def test_with_a_queue_every_workload_is_made_suspended(spec: dict[str, Any]) -> None:
    for attempt in ATTEMPTS:
        workload = job(attempt, spec)
        assert workload["spec"]["suspend"] is True
        assert workload["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
        assert all("kueue.x-k8s.io/queue-name" not in pod["metadata"]["labels"] for pod in pods_of(workload))


def test_without_a_queue_nothing_is_said_of_suspension() -> None:
    assert all("suspend" not in job(attempt, spec)["spec"] for attempt in ATTEMPTS for spec in (CPU, RAYJOB))


def test_the_runs_labels_for_kueue_go_to_its_jobs_and_its_annotations_to_gangs() -> None:
    labels = {"kueue.x-k8s.io/priority-class": "batch", "kueue.x-k8s.io/queue-name": "by-label", "team": "x"}
    annotations = {"kueue.x-k8s.io/podset-required-topology": "rack", "note": "x"}
    for attempt in ATTEMPTS:
        workload = job(attempt, labels=labels, annotations=annotations)
        assert workload["spec"]["suspend"] is True
        own = workload["metadata"]["labels"]
        assert {name: own.get(name) for name in labels} == labels | {"team": None}
        topology = attempt not in (ACCEPT, COLLECT)  # one small pod needs no rack
        (pod,) = pods_of(workload)
        assert ("kueue.x-k8s.io/podset-required-topology" in pod["metadata"]["annotations"]) == topology
        assert "note" not in pod["metadata"]["annotations"]


# --- RayJob -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_only_what_runs_engines_is_a_rayjob(attempt: Attempt) -> None:
    assert job(attempt, RAYJOB)["kind"] == ("RayJob" if attempt in (GENERATE, EVALUATE) else "Job")


def test_a_rayjob_is_one_try_whose_cluster_ends_with_it() -> None:
    spec = job(GENERATE, RAYJOB)["spec"]
    assert (spec["submissionMode"], spec["backoffLimit"], spec["shutdownAfterJobFinishes"]) == ("HTTPMode", 0, True)
    cluster = spec["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert not {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN"} & {
        each["name"] for each in step_of(cluster)["env"]
    }  # KubeRay's to set
    (workers,) = cluster["workerGroupSpecs"]
    assert workers["groupName"] != "head"  # Kueue keeps that name
    assert workers["replicas"] == workers["minReplicas"] == workers["maxReplicas"] == 2


@pytest.mark.parametrize("attempt", [GENERATE, EVALUATE])
def test_the_head_of_a_rayjob_may_have_a_node_that_stays(attempt: Attempt) -> None:
    everywhere, stays = {"gpu": "h100"}, {"capacity": "on-demand"}
    generation = RAYJOB["compute"]["generation"] | {
        "podTemplate": {"spec": {"nodeSelector": everywhere}},
        "headPodTemplate": {"spec": {"nodeSelector": stays}},
    }
    head, workers = pods_of(job(attempt, {"compute": {"generation": generation}}))
    assert head["spec"].pop("nodeSelector") == everywhere | stays
    assert workers["spec"].pop("nodeSelector") == everywhere
    ports = {port["name"] for port in head["spec"]["containers"][0].pop("ports")}
    assert ports > {port["name"] for port in workers["spec"]["containers"][0].pop("ports")}
    assert head == workers


def test_one_engine_is_a_head_alone() -> None:
    spec = {"compute": {"generation": {"runtime": "RayJob"}}}
    assert "workerGroupSpecs" not in job(GENERATE, spec)["spec"]["rayClusterSpec"]


def test_a_rayjob_submits_the_entry_point_that_a_job_starts() -> None:
    container = step(GENERATE)
    assert shlex.split(job(GENERATE, RAYJOB)["spec"]["entrypoint"]) == container["command"] + container["args"]
    for pod in pods_of(job(GENERATE, RAYJOB)):
        assert not {"command", "args"} & pod["spec"]["containers"][0].keys()  # KubeRay's `ray start`
        assert pod["spec"]["containers"][0]["name"] == "step"


def test_rays_metrics_leave_the_progress_port_alone() -> None:
    cluster = job(GENERATE, RAYJOB)["spec"]["rayClusterSpec"]
    ports = {port["name"]: port["containerPort"] for port in step_of(cluster)["ports"]}
    assert ports["progress"] != ports["metrics"]
    assert cluster["headGroupSpec"]["rayStartParams"]["metrics-export-port"] == str(ports["metrics"])


def test_kuberays_service_finds_the_head_and_its_ports() -> None:
    """Seen with KubeRay's own code: its selector asks for its own app.kubernetes.io/name, which a template overrides."""
    assert all("app.kubernetes.io/name" not in pod["metadata"]["labels"] for pod in pods_of(job(GENERATE, RAYJOB)))
    cluster = job(GENERATE, RAYJOB)["spec"]["rayClusterSpec"]
    ports = {port["name"]: port["containerPort"] for port in step_of(cluster)["ports"]}
    assert (ports["gcs-server"], ports["dashboard"]) == (6379, 8265)


def step_of(cluster: Manifest) -> Manifest:
    found: Manifest = cluster["headGroupSpec"]["template"]["spec"]["containers"][0]
    return found


def test_a_rayjobs_name_is_short_enough_for_kuberay_from_any_run() -> None:
    assert len(job(GENERATE, RAYJOB, name="a" * 40)["metadata"]["name"]) <= 47


def test_ray_is_the_version_that_the_image_installs() -> None:
    pinned = re.search(r'"ray\[[^]]*\]==([0-9.]+)"', (Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert pinned is not None
    assert pinned[1] == RAY_VERSION


# --- one door ---------------------------------------------------------------------------------------------------------


def test_a_profiles_toleration_and_the_runs_reach_the_pod() -> None:
    def tolerating(key: str) -> Manifest:
        return {"compute": {"podTemplate": {"spec": {"tolerations": [{"key": key}]}}}}

    profile = parse(ClusterProfile, tolerating("gpu"), "profile")
    config = OperatorConfig(images=Images(generate="g", train="t"), profiles={"default": profile})
    assert template(TRAIN, tolerating("team"), config=config)["spec"]["tolerations"] == [
        {"key": "gpu"},
        {"key": "team"},
    ]
