"""A short-lived pod that reads a run's folder for a person: the run's own image, mounts and credentials, and nothing more.

It is a small pod as `collect` is, its claims mounted for reading only. It belongs to the run, and goes when it has answered; one
whose person has gone ends after ten minutes, and goes with the run.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

from selfalign_api.errors import ConfigError
from selfalign_api.frames import document_of
from selfalign_api.operator_config import OperatorConfig
from selfalign_api.platform import STEP_CONTAINER
from selfalign_api.run import GROUP, VERSION
from selfalign_kubectl.cluster import Cluster
from selfalign_kubectl.refusals import Call, Refused, Unreachable
from selfalign_operator.effective import Attempt, EffectiveRun
from selfalign_operator.frozen import frozen_of
from selfalign_operator.kube.resources import CONFIG_MAP, POD
from selfalign_operator.names import base_name, volume_name
from selfalign_operator.read import pod_view
from selfalign_operator.resolve import as_resolved
from selfalign_operator.views import ATTEMPT_LABEL, STEP_LABEL, UID_LABEL, Manifest, PodView, RunView
from selfalign_operator.workloads.pod import pod_template, step_of

READER_LABEL = "selfalign.dev/reader"
SMALL = Attempt(step="accept", kind="accept", iteration=0, number=1)  # the kind of pod that it is
LIFE_SECONDS = 600
START_SECONDS = 300.0  # an image may have to be pulled
LOOK_SECONDS = 0.5


def read_run(
    cluster: Cluster,
    run: RunView,
    what: Sequence[str],
    note: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
) -> Any:
    """What `--read` of the run's own program says. Raises ConfigError where there is nothing to read, Refused, Unreachable."""
    made = cluster.create(POD, reader_pod(effective_of(cluster, run), what))
    name = made["metadata"]["name"]
    try:
        pod = _until_ended(cluster, name, note, sleep)
        if pod.exit_code != 0:
            raise ConfigError.one(run.name, _said(pod))
        call = Call("get", POD, cluster.namespace, name, "log")
        lines = (line.decode(errors="replace") for line in cluster.log(call, {"container": STEP_CONTAINER}))
        try:
            return document_of(lines)
        except ValueError as error:
            raise Unreachable(f"the log of pod {name} was cut: {error}; try again") from error
    finally:
        with contextlib.suppress(Refused, Unreachable):
            cluster.delete(POD, name)


def effective_of(cluster: Cluster, run: RunView) -> EffectiveRun:
    """The run as the operator resolved it when it began. Raises ConfigError before that, and where it is lost."""
    if run.status.plan is None:
        raise ConfigError.one(run.name, "has not begun: nothing is in its storage yet")
    name = run.status.plan.config_map_name
    frozen = frozen_of(cluster.get(CONFIG_MAP, name))
    if isinstance(frozen, str):
        raise ConfigError.one(f"ConfigMap {name}", f"{frozen}; use a newer kubectl-selfalign, or put it back")
    return as_resolved(run, OperatorConfig(images=frozen.platform.images), frozen)


def reader_pod(effective: EffectiveRun, what: Sequence[str]) -> Manifest:
    """The pod. No label by which the operator, the run's Service or its NetworkPolicy find the pods of its attempts."""
    template = pod_template(effective, SMALL, [])
    container, claims = step_of(template), {volume_name(claim) for claim in effective.mounts}
    container["args"] = [*container["args"], "--read", *what]
    container["volumeMounts"] = [
        mount | ({"readOnly": True} if mount["name"] in claims else {}) for mount in container["volumeMounts"]
    ]
    labels = {
        name: value
        for name, value in template["metadata"]["labels"].items()
        if name not in (UID_LABEL, STEP_LABEL, ATTEMPT_LABEL)
    }
    owner = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "SelfAlignmentRun",
        "name": effective.name,
        "uid": effective.uid,
    }
    spec = {field: value for field, value in template["spec"].items() if field != "subdomain"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": f"{base_name(effective.name, effective.uid)}-read-",
            "namespace": effective.namespace,
            "labels": labels | {READER_LABEL: "true"},
            "annotations": template["metadata"]["annotations"],
            "ownerReferences": [owner],
        },
        "spec": spec | {"activeDeadlineSeconds": LIFE_SECONDS},
    }


def _until_ended(cluster: Cluster, name: str, note: Callable[[str], None], sleep: Callable[[float], None]) -> PodView:
    """The pod once its program has ended. Why it does not start is told, once each."""
    told, looks = "", int(START_SECONDS / LOOK_SECONDS)
    for _ in range(looks):
        pod = pod_view(cluster.get(POD, name))
        if pod is None:
            break
        if pod.exit_code is not None or pod.phase == "Failed":
            return pod
        why = pod.scheduled_message or " ".join(filter(None, (pod.waiting_reason, pod.waiting_message)))
        if why and why != told:
            note(f"pod {name}, which reads the storage, waits: {why}")
            told = why
        sleep(LOOK_SECONDS)
    raise Unreachable(
        f"pod {name}, which reads the storage, has not ended after {START_SECONDS:.0f} s{f': {told}' if told else ''}"
    )


def _said(pod: PodView) -> str:
    """Why the program failed."""
    try:
        said = str(json.loads(pod.termination_message)["error"])
    except (ValueError, KeyError, TypeError):
        said = pod.termination_message or pod.status_message or pod.exit_reason
    if "unrecognized arguments" in said:
        return "runs on an image that is older than this command and cannot be read by it"
    return said.strip() or f"could not be read (exit code {pod.exit_code})"
