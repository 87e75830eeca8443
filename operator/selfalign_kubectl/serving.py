"""What serves the model that a run has made: a Deployment and a Service of vLLM, or an InferenceService of KServe. Pure.

Its pod is scheduled as the run's engines were: the same image, GPUs, nodes, claims and credentials.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from selfalign_api.errors import ConfigError
from selfalign_api.places import Bucket, Claim, Folder, HubModel, Place, parse_place
from selfalign_api.status import Status
from selfalign_operator.effective import Attempt, EffectiveRun
from selfalign_operator.names import volume_name
from selfalign_operator.places import url_in_pod
from selfalign_operator.views import Manifest
from selfalign_operator.workloads.metadata import NAME_LABEL, propagated_labels
from selfalign_operator.workloads.owned import RUN_VOLUME
from selfalign_operator.workloads.pod import pod_template, step_of

PORT = 8000  # vLLM's
ENGINE = Attempt(step="serve", kind="generate", iteration=0, number=1)  # the kind of pod that it is
FETCHED = "/models"
FETCH = """\
import sys
from pathlib import Path
from selfalign_jobs.places.store import Folder, fetch
source = Folder.open(sys.argv[1])
fetch(source, source.files(), Path(sys.argv[2]))
"""
START_SECONDS = 1800  # a large model is read, and its graphs are captured


@dataclass(frozen=True)
class Model:
    """The model that is served: where it is as the run names places, and what it is."""

    url: str
    words: str


def model_of(effective: EffectiveRun, status: Status) -> Model:
    """What the run has published, whole; else the model of its best round, or of its last training, in the run's folder.

    Raises ConfigError before there is any.
    """
    output = effective.spec.output
    if output is not None and output.url is not None and output.adapter != "Keep" and status.is_true("Complete"):
        return Model(output.url, "what the run has published")
    best = _chosen(status)
    trained = [
        step
        for step in status.steps
        if step.kind == "train" and step.is_over and step.url and best in (None, step.iteration)
    ]
    if not trained:
        raise ConfigError.one(effective.name, "has trained no model yet; wait for it: kubectl selfalign wait")
    failed = status.condition("Failed")
    unmet = failed is not None and failed.reason == "GateNotPassed"
    words = f"the model of step {trained[-1].name}" + (", which a gate keeps from being published" if unmet else "")
    return Model(f"{str(trained[-1].url).rstrip('/')}/model", words)


def _chosen(status: Status) -> int | None:
    """The iteration that the step which publishes, or selects, has told."""
    told = (figure for step in status.steps if step.kind == "publish" and step.is_over for figure in step.result)
    return next((int(each.value) for each in told if each.name == "iteration" and each.value.isdecimal()), None)


def deployment(effective: EffectiveRun, model: Model, image: str | None) -> list[Manifest]:
    """A Deployment of one replica, and the Service before it."""
    name, labels = f"{effective.name}-vllm", {NAME_LABEL: "vllm", "app.kubernetes.io/instance": effective.name}
    metadata = {"name": name, "namespace": effective.namespace, "labels": propagated_labels(effective) | labels}
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": labels},
                "strategy": {"type": "Recreate"},  # a second one would want as many GPUs again
                "template": _template(effective, model, image, labels),
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"selector": labels, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
        },
    ]


def _template(effective: EffectiveRun, model: Model, image: str | None, labels: dict[str, str]) -> Manifest:
    template = pod_template(effective, ENGINE, [])
    step, spec = step_of(template), template["spec"]
    place = parse_place(url_in_pod(model.url, effective.mounts))
    path = _path(place, effective)
    parallel = effective.means.generation.tensor_parallel_size
    kept = ("env", "envFrom", "resources", "securityContext", "volumeMounts")
    server = {field: step[field] for field in kept if field in step} | {
        "name": "vllm",
        "image": image or step["image"],
        "command": ["vllm", "serve", path],
        "args": [f"--served-model-name={effective.name}", f"--port={PORT}", f"--tensor-parallel-size={parallel}"],
        "ports": [{"name": "http", "containerPort": PORT}],
        "startupProbe": _probe(START_SECONDS),
        "readinessProbe": _probe(30),
    }
    server["volumeMounts"] = _read_only(step["volumeMounts"], effective)
    dropped = ("restartPolicy", "subdomain", "containers", "volumes", "initContainers")
    pod = {field: value for field, value in spec.items() if field not in dropped}
    volumes = [volume for volume in spec["volumes"] if volume["name"] != RUN_VOLUME]
    before = list(spec.get("initContainers", ()))
    if isinstance(place, Bucket):
        volumes.append({"name": "models", "emptyDir": {}})
        server["volumeMounts"] = [*server["volumeMounts"], {"name": "models", "mountPath": FETCHED}]
        before.append(_fetching(step, server, model.url, path))
    others = [each for each in spec["containers"] if each["name"] != step["name"]]
    pod |= {"containers": [server, *others], "volumes": volumes} | ({"initContainers": before} if before else {})
    return {"metadata": {"labels": propagated_labels(effective) | labels}, "spec": pod}


def _path(place: Place, effective: EffectiveRun) -> str:
    """What vLLM is told to serve: a folder, or a name of the hub, from which it fetches by itself."""
    match place:
        case Folder():
            return str(place.path)
        case HubModel():
            return place.repo
        case _:
            return f"{FETCHED}/{effective.name}"


def _fetching(step: Manifest, server: Manifest, url: str, path: str) -> Manifest:
    """The model of a bucket, fetched by the run's own program: vLLM reads a folder."""
    kept = ("env", "envFrom", "securityContext", "volumeMounts")
    return {field: server[field] for field in kept if field in server} | {
        "name": "fetch",
        "image": step["image"],
        "command": ["python", "-c", FETCH, url, path],
        "resources": {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"cpu": "2", "memory": "4Gi"}},
    }


def _read_only(mounts: list[dict[str, Any]], effective: EffectiveRun) -> list[dict[str, Any]]:
    claims = {volume_name(claim) for claim in effective.mounts}
    return [
        mount | ({"readOnly": True} if mount["name"] in claims else {})
        for mount in mounts
        if mount["name"] != RUN_VOLUME
    ]


def _probe(seconds: int) -> Manifest:
    return {
        "httpGet": {"path": "/health", "port": "http"},
        "periodSeconds": 10,
        "failureThreshold": max(1, seconds // 10),
    }


def inference_service(effective: EffectiveRun, model: Model) -> list[Manifest]:
    """KServe's own runtime for Hugging Face models fetches it. Raises ConfigError for a place that KServe does not know."""
    place = parse_place(_as_claim(model.url, effective))
    if not isinstance(place, Claim | Bucket | HubModel):
        said = "is no place that KServe reads; publish to pvc://CLAIM/PATH, a bucket, or hf://ORG/NAME"
        raise ConfigError.one("output.url", said, model.url)
    step = step_of(pod_template(effective, ENGINE, []))
    served = {
        "modelFormat": {"name": "huggingface"},
        "args": [f"--model_name={effective.name}"],
        "storageUri": _as_claim(model.url, effective),
        "resources": step["resources"],
    }
    return [
        {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {
                "name": effective.name,
                "namespace": effective.namespace,
                "labels": propagated_labels(effective),
            },
            "spec": {"predictor": {"model": served}},
        }
    ]


def _as_claim(url: str, effective: EffectiveRun) -> str:
    """A folder of a mounted claim by the claim's own URL."""
    place = parse_place(url)
    if isinstance(place, Folder):
        for claim, folder in effective.mounts.items():
            if place.path.is_relative_to(folder):
                return f"pvc://{claim}/{place.path.relative_to(folder)}"
    return url
