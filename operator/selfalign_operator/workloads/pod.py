"""The pod of a step: unprivileged, with a read-only root, and everything that a step program needs to write elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

from selfalign_api.cluster import Pods, control_pods, pods_of
from selfalign_api.means import Resources
from selfalign_api.platform import STEP_CONTAINER
from selfalign_api.pod_template import merge_pod_template
from selfalign_operator.credentials import secrets_of
from selfalign_operator.effective import Attempt, EffectiveRun, Platform
from selfalign_operator.names import base_name, ray_name, volume_name
from selfalign_operator.places import HOME, SHARED_MEMORY, TMP
from selfalign_operator.views import Manifest
from selfalign_operator.workloads.metadata import attempt_labels, kueue_annotations, run_annotations
from selfalign_operator.workloads.objects import RUN_FILE, TOKEN_KEY, config_map_name
from selfalign_operator.workloads.owned import RUN_FILE_FOLDER, RUN_VOLUME
from selfalign_operator.workloads.pod_group import in_group
from selfalign_operator.workloads.ports import is_on_host, ports_of
from selfalign_operator.workloads.resources import with_defaults

ENTRY_POINT = ("python", "-m", "selfalign_jobs")  # of every pod
USER_ID = 1000  # any that is not root: no uid of ours needs an entry in the image's passwd
TERMINATION_MESSAGE = "/dev/termination-log"
SHARED_MEMORY_SIZE = {"GPU": "16Gi", "CPU": "2Gi"}  # NCCL, Ray's object store; a podTemplate's volume `shm` changes it
# A container that a mesh or an agent puts beside the step would outlive it; a profile's podTemplate can ask for one.
NOT_INJECTED_LABELS = {"sidecar.istio.io/inject": "false"}
NOT_INJECTED = {
    "sidecar.istio.io/inject": "false",
    "linkerd.io/inject": "disabled",
    "kuma.io/sidecar-injection": "disabled",
    "consul.hashicorp.com/connect-inject": "false",
    "vault.hashicorp.com/agent-inject": "false",
}
ON_HOST = {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"}  # so that names of the cluster are still found
# A node is not taken from a training for want of work elsewhere: all of its ranks would begin again at their checkpoint.
NOT_DISRUPTED = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", "karpenter.sh/do-not-disrupt": "true"}


@dataclass(frozen=True)
class Shape:
    """How many pods an attempt has at once, and what each computes on."""

    size: int
    gpus: int  # of a pod
    small: bool  # no engine and no rank: accept, collect, publish

    @property
    def device(self) -> str:
        """GPU or CPU."""
        return "GPU" if self.gpus else "CPU"


def shape_of(effective: EffectiveRun, attempt: Attempt) -> Shape:
    """One small pod for accept, collect and publish; a node of a training, or an engine, a pod."""
    if _is_small(attempt):
        return Shape(size=1, gpus=0, small=True)
    if attempt.kind == "train":
        training = effective.means.training
        return Shape(training.nodes, training.gpus_per_node if training.device == "GPU" else 0, small=False)
    engines = effective.means.generation if attempt.kind == "generate" else effective.means.evaluation
    return Shape(engines.pods, engines.gpus_of_pod, small=False)


def pod_template(effective: EffectiveRun, attempt: Attempt, environment: list[Manifest]) -> Manifest:
    """The template of an attempt's pods, the run's podTemplates merged in. `environment` is the workload's own."""
    shape, pods = shape_of(effective, attempt), pods_for(effective, attempt)
    template = _base(effective, attempt, shape, pods, environment)
    if not shape.small:
        template = in_group(effective, template, shape.size)
    for part in pods.pod_templates:
        template = merge_pod_template(template, part)
    step = step_of(template)
    step["resources"] = with_defaults(step.get("resources") or {}, shape.gpus, small=shape.small)
    return template


def pods_for(effective: EffectiveRun, attempt: Attempt) -> Pods:
    """What the run says of these pods."""
    match attempt.kind:
        case "generate" | "train" | "evaluate" if not attempt.collect:
            return pods_of(effective.spec.compute, attempt.kind)
    return control_pods(effective.spec.compute, on_gpus=_has_gpus(effective))


def _has_gpus(effective: EffectiveRun) -> bool:
    means = effective.means
    return "GPU" in (means.generation.device, means.training.device, means.evaluation.device)


def _is_small(attempt: Attempt) -> bool:
    return attempt.collect or attempt.kind in ("accept", "publish")


def step_of(template: Manifest) -> Manifest:
    """The container that runs the step program: always the first (KubeRay takes the first for Ray's)."""
    container: Manifest = template["spec"]["containers"][0]
    return container


def step_arguments(effective: EffectiveRun, attempt: Attempt) -> list[str]:
    """What the entry point is told."""
    arguments = [f"{RUN_FILE_FOLDER}/{RUN_FILE}", "--step", attempt.step, "--attempt", str(attempt.number)]
    arguments += ["--listen", f":{ports_of(effective, attempt).progress}", "--termination-message", TERMINATION_MESSAGE]
    if attempt.collect:
        return [*arguments, "--collect"]
    if effective.spec.tracking is not None:  # not in the run file, which never changes: this may
        arguments += ["--tracking", effective.spec.tracking.model_dump_json()]
    looked_at = effective.spec.hold_before == "train" and attempt.kind == "generate"
    return [*arguments, "--report"] if looked_at else arguments


def ray_token(effective: EffectiveRun) -> list[Manifest]:
    """The variables by which Ray's processes know one another."""
    key = {"name": ray_name(effective.name, effective.uid), "key": TOKEN_KEY}
    return [
        {"name": "RAY_AUTH_MODE", "value": "token"},
        {"name": "RAY_AUTH_TOKEN", "valueFrom": {"secretKeyRef": key}},
    ]


def _base(effective: EffectiveRun, attempt: Attempt, shape: Shape, pods: Pods, environment: list[Manifest]) -> Manifest:
    # A topology that Kueue should place a gang in is nothing for one small pod.
    annotations = NOT_INJECTED | run_annotations(effective) | ({} if shape.small else kueue_annotations(effective))
    annotations |= NOT_DISRUPTED if attempt.kind == "train" and not shape.small else {}
    return {
        "metadata": {"labels": NOT_INJECTED_LABELS | attempt_labels(effective, attempt), "annotations": annotations},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "subdomain": base_name(effective.name, effective.uid),
            "terminationGracePeriodSeconds": pods.grace_period_seconds,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER_ID,
                "runAsGroup": USER_ID,
                "fsGroup": USER_ID,
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [_step(effective, attempt, shape, pods, environment)],
            "volumes": _volumes(effective, shape),
            **_claims(effective.platform, shape),
            **(ON_HOST if is_on_host(effective, attempt) else {}),
        },
    }


def _claims(platform: Platform, shape: Shape) -> Manifest:
    """The pod's claims of devices: one a GPU."""
    template = platform.gpu_claim_template_name
    if template is None or not shape.gpus:
        return {}
    return {"resourceClaims": [{"name": name, "resourceClaimTemplateName": template} for name in _claim_names(shape)]}


def _claim_names(shape: Shape) -> list[str]:
    return [f"gpu-{number}" for number in range(shape.gpus)]


def _step(effective: EffectiveRun, attempt: Attempt, shape: Shape, pods: Pods, environment: list[Manifest]) -> Manifest:
    images = effective.platform.images
    container = {
        "name": STEP_CONTAINER,
        "image": pods.image or (images.train if attempt.kind == "train" and not shape.small else images.generate),
        "command": list(ENTRY_POINT),
        "args": step_arguments(effective, attempt),
        "env": _environment(shape) + environment,
        "ports": ports_of(effective, attempt).of_container,
        "resources": _resources(pods.resources, effective.platform, shape),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]} | _added(effective.platform, shape),
            "readOnlyRootFilesystem": True,
        },
        "terminationMessagePath": TERMINATION_MESSAGE,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": _mounts(effective),
    }
    if secrets := secrets_of(effective.spec):
        container["envFrom"] = [{"secretRef": {"name": name}} for name in secrets]
    return container


def _environment(shape: Shape) -> list[Manifest]:
    variables = {
        "HOME": str(HOME),
        "USER": "selfalign",  # torch asks for it; the uid has no name
        "TMPDIR": str(TMP),
        "XDG_CACHE_HOME": f"{HOME}/.cache",
        "HF_HOME": f"{HOME}/.cache/huggingface",
        "VLLM_CACHE_ROOT": f"{HOME}/.cache/vllm",
        "TORCHINDUCTOR_CACHE_DIR": f"{HOME}/.cache/torchinductor",
        "TRITON_CACHE_DIR": f"{HOME}/.cache/triton",
        "PYTHONUNBUFFERED": "1",
    }
    if shape.gpus == 0:
        variables["NVIDIA_VISIBLE_DEVICES"] = "void"  # a CUDA image's `all` would show it every GPU of its node
    return [{"name": name, "value": value} for name, value in variables.items()]


def _added(platform: Platform, shape: Shape) -> Manifest:
    return {"add": list(platform.capabilities)} if platform.capabilities and not shape.small else {}


def _resources(given: Resources, platform: Platform, shape: Shape) -> Manifest:
    limits, requests = dict(given.limits or {}), dict(given.requests or {})
    claims: list[Manifest] = []
    if platform.gpu_claim_template_name is not None:
        claims = [{"name": name} for name in _claim_names(shape)]
    elif shape.gpus:
        limits[platform.gpu_resource_name] = str(shape.gpus)  # an extended resource is asked for by its limit
    parts = (("requests", requests), ("limits", limits), ("claims", claims))
    return {kind: values for kind, values in parts if values}


def _volumes(effective: EffectiveRun, shape: Shape) -> list[Manifest]:
    memory = {"medium": "Memory", "sizeLimit": SHARED_MEMORY_SIZE[shape.device]}
    return [
        {"name": RUN_VOLUME, "configMap": {"name": config_map_name(effective)}},
        {"name": "home", "emptyDir": {}},
        {"name": "tmp", "emptyDir": {}},
        {"name": "shm", "emptyDir": memory},
        *({"name": volume_name(claim), "persistentVolumeClaim": {"claimName": claim}} for claim in effective.mounts),
    ]


def _mounts(effective: EffectiveRun) -> list[Manifest]:
    return [
        {"name": RUN_VOLUME, "mountPath": RUN_FILE_FOLDER, "readOnly": True},
        {"name": "home", "mountPath": str(HOME)},
        {"name": "tmp", "mountPath": str(TMP)},
        {"name": "shm", "mountPath": str(SHARED_MEMORY)},
        *({"name": volume_name(claim), "mountPath": folder} for claim, folder in effective.mounts.items()),
    ]
