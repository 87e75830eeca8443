"""The cluster that a person means: kubeconfig, context and namespace as kubectl has them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import yaml
from kubernetes import config
from kubernetes.client import ApiClient, Configuration

from selfalign_api import __version__
from selfalign_api.errors import ConfigError
from selfalign_kubectl.cluster import Cluster

OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")  # of a pod


@dataclass(frozen=True)
class Where:
    """What the command line says of the cluster."""

    kubeconfig: str | None = None
    context: str | None = None
    namespace: str | None = None


def open_cluster(where: Where) -> Cluster:
    """The cluster, and the namespace that is meant in it. Raises ConfigError that says what to set."""
    files = where.kubeconfig or os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    there = [file for file in files.split(os.pathsep) if file and Path(file).is_file()]
    if not there and where.kubeconfig is None and "KUBERNETES_SERVICE_HOST" in os.environ:
        return _of_pod(where)
    if not there:
        raise ConfigError.one(
            "--kubeconfig", f"no cluster is named: there is no {files}; set KUBECONFIG=FILE, or give --kubeconfig FILE"
        )
    configuration = Configuration()
    try:
        contexts, current = config.list_kube_config_contexts(os.pathsep.join(there))
        names = [context["name"] for context in contexts]
        if where.context is not None and where.context not in names:
            raise ConfigError.one(
                "--context", f"is not in {files}; there are {', '.join(sorted(names))}", where.context
            )
        chosen = next((each for each in contexts if each["name"] == where.context), current)
        config.load_kube_config(
            os.pathsep.join(there), where.context, client_configuration=configuration, persist_config=False
        )
    except (config.ConfigException, yaml.YAMLError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        said = str(error).strip().rstrip(".") or type(error).__name__
        raise ConfigError.one(
            "--kubeconfig", f"{files} names no cluster ({said}); see `kubectl config view`, or give --context"
        ) from error
    namespace = where.namespace or (chosen["context"] or {}).get("namespace") or "default"
    return Cluster(_client(configuration), namespace, given=where.namespace is not None)


def _of_pod(where: Where) -> Cluster:
    configuration = Configuration()
    try:
        config.load_incluster_config(client_configuration=configuration)
        own = OWN_NAMESPACE.read_text(encoding="utf-8").strip()
    except (config.ConfigException, OSError) as error:
        raise ConfigError.one(
            "--kubeconfig", f"this pod has no service account's token ({error}); give --kubeconfig FILE"
        ) from error
    return Cluster(_client(configuration), where.namespace or own, given=where.namespace is not None)


def _client(configuration: Configuration) -> ApiClient:
    client = ApiClient(configuration)
    client.user_agent = f"kubectl-selfalign/{__version__}"
    return client
