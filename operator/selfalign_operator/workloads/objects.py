"""A run's own objects, made at its start: ConfigMap and NetworkPolicy; for gangs a Service and a Secret."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping

from pydantic import BaseModel

from selfalign_api.load import as_json
from selfalign_api.operator_config import Peer
from selfalign_api.run import GROUP, LIFE_FIELDS, VERSION
from selfalign_api.run_file import RunFile
from selfalign_operator.effective import EffectiveRun
from selfalign_operator.names import base_name, ray_name
from selfalign_operator.names import config_map_name as name_of_config_map
from selfalign_operator.views import PROGRESS_PORT, UID_LABEL, Manifest
from selfalign_operator.workloads.metadata import object_metadata
from selfalign_operator.workloads.pod_group import pod_groups

RUN_FILE = "run.json"
PLATFORM_FILE = "platform.json"  # for the operator
DASHBOARD_PORT = 8265  # Ray's
TOKEN_KEY = "auth_token"
NAMESPACE_LABEL = "kubernetes.io/metadata.name"  # the apiserver sets it on every namespace


def run_objects(effective: EffectiveRun, token: str) -> tuple[Manifest, ...]:
    """What all attempts of a run share. `token` is what Ray's processes show one another (any unguessable text).

    A Service that only single pods stand behind serves nobody, and each of those pods would cost its two controllers four
    writes. A resumed run that has become a gang has another ConfigMap, and makes all of these again.
    """
    budgets = [disruption_budget(effective)] if effective.platform.disruption_budget else []
    kept = (*budgets, *pod_groups(effective))
    if not has_gang(effective):
        return config_map(effective), network_policy(effective), *kept
    return service(effective), config_map(effective), secret(effective, token), network_policy(effective), *kept


def has_gang(effective: EffectiveRun) -> bool:
    """Whether pods of a step must find one another."""
    means = effective.means
    return max(means.generation.pods, means.training.nodes, means.evaluation.pods) > 1


def service(effective: EffectiveRun) -> Manifest:
    """The headless Service by which a gang's pods find one another, also before they are ready."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": object_metadata(effective, base_name(effective.name, effective.uid)),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {UID_LABEL: effective.uid},
            "ports": [{"name": "progress", "port": PROGRESS_PORT}],
        },
    }


def config_map_name(effective: EffectiveRun) -> str:
    """Name of the run's ConfigMap, as its compute is now."""
    if effective.frozen is not None:
        return effective.frozen.config_map_name
    return name_of_config_map(effective.name, effective.uid, "".join(_contents(effective).values()))


def config_map(effective: EffectiveRun) -> Manifest:
    """The run file, and what only the operator reads of it again. The name tells the content, and it never changes:
    a changed compute makes another.
    """
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": object_metadata(effective, config_map_name(effective)),
        "immutable": True,
        "data": dict(_contents(effective)),
    }


def run_file(effective: EffectiveRun) -> RunFile:
    """What every step program is given beside its step's name. How a run lives is not in it: that may change."""
    spec = {field: value for field, value in as_json(effective.spec).items() if field not in LIFE_FIELDS}
    return RunFile(
        run={
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "SelfAlignmentRun",
            "metadata": {"name": effective.name, "namespace": effective.namespace},
            "spec": spec,
        },
        storage=effective.storage,
        mounts=dict(effective.mounts),
        means=effective.means,
        reuse_from=effective.reuse_from,
    )


def _contents(effective: EffectiveRun) -> Mapping[str, str]:
    if effective.frozen is not None:
        return effective.frozen.data
    parts = {RUN_FILE: run_file(effective), PLATFORM_FILE: effective.platform}
    return {name: _json(part) for name, part in parts.items()}


def _json(model: BaseModel) -> str:
    content = model.model_dump(mode="json")
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def secret(effective: EffectiveRun, token: str) -> Manifest:
    """Ray's token: without one, whoever reaches its ports runs code in the pod."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": object_metadata(effective, ray_name(effective.name, effective.uid)),
        "type": "Opaque",
        "immutable": True,
        "data": {TOKEN_KEY: b64encode(token.encode()).decode()},
    }


def network_policy(effective: EffectiveRun) -> Manifest:
    """Who may connect: the run's own pods, and at one port each those that the operator's configuration names."""
    network = effective.config.network
    pods = {"matchLabels": {UID_LABEL: effective.uid}}
    progress: Manifest = {"ports": [_port(PROGRESS_PORT)]}
    if network.progress is not None:
        progress["from"] = [_peer(peer) for peer in network.progress]
    dashboard = {"from": [_peer(peer) for peer in network.ray_dashboard], "ports": [_port(DASHBOARD_PORT)]}
    ingress = [{"from": [{"podSelector": pods}]}]
    ingress += [progress] if network.progress is None or network.progress else []
    ingress += [dashboard] if uses_rayjob(effective) and network.ray_dashboard else []
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": object_metadata(effective, ray_name(effective.name, effective.uid)),
        "spec": {"podSelector": pods, "policyTypes": ["Ingress"], "ingress": ingress},
    }


def disruption_budget(effective: EffectiveRun) -> Manifest:
    """No pod of the run is evicted while it runs. A share cannot be written: of Jobs Kubernetes knows no scale."""
    means = effective.means
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": object_metadata(effective, base_name(effective.name, effective.uid)),
        "spec": {
            "minAvailable": max(means.generation.pods, means.training.nodes, means.evaluation.pods),
            "selector": {"matchLabels": {UID_LABEL: effective.uid}},
        },
    }


def uses_rayjob(effective: EffectiveRun) -> bool:
    """Whether KubeRay starts the pods that generate and evaluate."""
    compute = effective.spec.compute
    return compute is not None and compute.generation is not None and compute.generation.runtime == "RayJob"


def _port(number: int) -> Manifest:
    return {"protocol": "TCP", "port": number}


def _peer(peer: Peer) -> Manifest:
    namespaces = {} if peer.namespace is None else {"matchLabels": {NAMESPACE_LABEL: peer.namespace}}
    return {"namespaceSelector": namespaces, "podSelector": {"matchLabels": dict(peer.pod_labels)}}
