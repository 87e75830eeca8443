"""A run file checked by all rules before the apiserver sees it: with the operator's profiles, where a person may read them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfalign_api.errors import ConfigError
from selfalign_api.kubectl_yaml import read_yaml
from selfalign_api.load import as_json, load_run, parse
from selfalign_api.operator_config import OperatorConfig
from selfalign_api.rules import check_rules
from selfalign_api.run import SelfAlignmentRun
from selfalign_kubectl.cluster import Cluster
from selfalign_kubectl.refusals import Refused
from selfalign_operator.kube.resources import CONFIG_MAP, RUN
from selfalign_operator.render import as_view
from selfalign_operator.resolve import effective_run

OPERATOR = "app.kubernetes.io/name=selfalign-operator"  # label of its ConfigMap
CONFIG_FILE = "operator.yaml"


@dataclass(frozen=True)
class Checked:
    """A run that may be applied, as the file has it; and what was not looked at."""

    run: SelfAlignmentRun
    manifest: dict[str, Any]
    note: str


def check(file: Path, cluster: Cluster, operator_namespace: str) -> Checked:
    """The run of a file. Raises ConfigError with all that is wrong."""
    run = load_run(file)
    named = run.metadata.model_fields_set
    if "namespace" in named and cluster.given and run.metadata.namespace != cluster.namespace:
        raise ConfigError.one(
            "metadata.namespace",
            f"is not the one of --namespace ({cluster.namespace}); write one of them",
            run.metadata.namespace,
        )
    namespace = run.metadata.namespace if "namespace" in named and not cluster.given else cluster.namespace
    run = run.model_copy(update={"metadata": run.metadata.model_copy(update={"namespace": namespace})})
    check_rules(run)
    config, note = operator_config(cluster, operator_namespace)
    if config is not None:
        effective_run(as_view(run), config)
    return Checked(run, manifest_of(run), note)


def manifest_of(run: SelfAlignmentRun) -> dict[str, Any]:
    """The object to apply: what the file says, and nothing that we would fill in."""
    metadata = as_json(run.metadata)
    return {"apiVersion": RUN.api_version, "kind": RUN.kind, "metadata": metadata, "spec": as_json(run.spec)}


def operator_config(cluster: Cluster, namespace: str) -> tuple[OperatorConfig | None, str]:
    """The operator's configuration, or why it is not looked at: the operator itself checks against it in any case."""
    try:
        found = cluster.list(CONFIG_MAP, labels=OPERATOR, namespace=namespace)
    except Refused as refused:
        if refused.code != 403:
            raise
        return None, f"the operator's profiles in namespace {namespace} are not yours to read: it checks them itself"
    texts = [each["data"][CONFIG_FILE] for each in found if CONFIG_FILE in each.get("data", {})]
    if not texts:
        return (
            None,
            f"no operator's profiles are in namespace {namespace} (--operator-namespace): it checks them itself",
        )
    return parse(OperatorConfig, read_yaml(texts[0], CONFIG_FILE) or {}, CONFIG_FILE), ""
