"""An attempt as a RayJob: KubeRay starts the same pods, joins them to one Ray cluster and submits the step program.

Checked against KubeRay 1.7 (ray-operator/controllers/ray/utils/validation.go) and Kueue's webhook for RayJobs, which
refuses one without shutdownAfterJobFinishes and a worker group called head.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from selfalign_api.pod_template import merge_pod_template
from selfalign_operator.effective import Attempt, EffectiveRun
from selfalign_operator.names import RAYJOB_MAX, workload_name
from selfalign_operator.views import Manifest
from selfalign_operator.workloads.metadata import NAME_LABEL, suspended, workload_metadata
from selfalign_operator.workloads.objects import DASHBOARD_PORT
from selfalign_operator.workloads.pod import (
    ENTRY_POINT,
    pod_template,
    shape_of,
    step_arguments,
    step_of,
)

RAY_VERSION = "2.60.0"  # of the generate image; KubeRay wants it to know how tokens are used
METRICS_PORT = 8081  # KubeRay's own choice, 8080, is the port of /progress
# KubeRay's Service for the head has the ports that the head's container names, and no others once it names one.
HEAD_PORTS = {"gcs-server": 6379, "dashboard": DASHBOARD_PORT, "client": 10001}
# A head that is lost ends the attempt: with a new one KubeRay would submit the job again, uncounted.
NO_SECOND_HEAD = {"ray.io/disable-provisioned-head-restart": "true"}


def rayjob(effective: EffectiveRun, attempt: Attempt) -> Manifest:
    """The RayJob of an attempt to generate or to evaluate.

    HTTPMode, for the submitters of the other modes have no security context and a restricted namespace refuses them.
    The result comes from a `collect` Job: a RayJob tells no termination message.
    """
    name = workload_name(effective.name, effective.uid, attempt.step, attempt.number, longest=RAYJOB_MAX)
    metadata = workload_metadata(effective, attempt, name, shape_of(effective, attempt).gpus)
    spec = {
        "submissionMode": "HTTPMode",
        "backoffLimit": 0,
        "shutdownAfterJobFinishes": True,
        **suspended(effective),
        "entrypoint": shlex.join([*ENTRY_POINT, *step_arguments(effective, attempt)]),
        "rayClusterSpec": _cluster(effective, attempt),
    }
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": metadata | {"annotations": metadata["annotations"] | NO_SECOND_HEAD},
        "spec": spec,
    }


def _cluster(effective: EffectiveRun, attempt: Attempt) -> Manifest:
    """One pod an engine, as in a gang: the head carries the first."""
    shape = shape_of(effective, attempt)
    helpers = shape.size - 1
    # Of an extended resource KubeRay tells Ray itself; of claims it knows nothing.
    gpus = shape.gpus if effective.platform.gpu_claim_template_name is not None else 0
    cluster: Manifest = {
        "rayVersion": RAY_VERSION,
        # With a Secret of KubeRay's own, which goes when the cluster goes. Ours goes when the run does, at the same time as
        # the RayJob, and KubeRay keeps a RayJob for ever whose Secret it cannot read (its finalizer stops the job first).
        "authOptions": {"mode": "token"},
        "headGroupSpec": _group(_head(effective, attempt), HEAD_PORTS, gpus),
    }
    if helpers:
        cluster["workerGroupSpecs"] = [
            {
                "groupName": "engines",
                "replicas": helpers,
                "minReplicas": helpers,
                "maxReplicas": helpers,
                **_group(_pod(effective, attempt), {}, gpus),
            }
        ]
    return cluster


def _group(template: Manifest, ports: Mapping[str, int], gpus: int) -> Manifest:
    step = step_of(template)
    named = {"metrics": METRICS_PORT, **ports}
    step["ports"] = [*step["ports"], *({"name": name, "containerPort": port} for name, port in named.items())]
    parameters = {"metrics-export-port": str(METRICS_PORT)} | ({"num-gpus": str(gpus)} if gpus else {})
    return {"rayStartParams": parameters, "template": template}


def _head(effective: EffectiveRun, attempt: Attempt) -> Manifest:
    """The pod of the head, which may have a node of its own kind: with it all engines of an attempt are lost."""
    compute = effective.spec.compute
    own = compute.generation.head_pod_template if compute and compute.generation else None
    return merge_pod_template(_pod(effective, attempt), own or {})


def _pod(effective: EffectiveRun, attempt: Attempt) -> Manifest:
    """The pod of a step without its entry point: KubeRay writes `ray start` there."""
    quiet = {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"}  # a run reports to nobody
    template = pod_template(effective, attempt, [quiet])
    del template["spec"]["subdomain"]  # KubeRay has Services of its own,
    del template["metadata"]["labels"][NAME_LABEL]  # which find its pods by its own value of this label
    step = step_of(template)
    del step["command"], step["args"]
    return template
