"""The types of the chart's values. What each means stands in selfalign-operator/values.yaml, and only there."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from selfalign_api.base import ApiModel, Count, FreeForm, Text
from selfalign_api.operator_config import ClusterProfile, Images, Namespace, Network

__all__ = ["Values"]

Objects = tuple[FreeForm, ...]  # of Kubernetes' own types
Texts = dict[str, str]  # labels or annotations
Duration = Annotated[str, Field(pattern=r"^([0-9]+(ms|s|m|h))+$")]
Port = Annotated[int, Field(ge=1, le=65535)]


class Image(ApiModel):
    repository: Text
    tag: str = ""
    digest: Annotated[str, Field(pattern=r"^(sha256:[0-9a-f]{64})?$")] = ""
    pull_policy: Literal["Always", "IfNotPresent", "Never"]


class Crds(ApiModel):
    install: bool
    keep: bool
    delete_runs: bool


class Rbac(ApiModel):
    create: bool
    user_roles: bool


class ServiceAccount(ApiModel):
    create: bool
    name: str = ""
    annotations: Texts = {}


class Switch(ApiModel):
    enabled: bool


class Probe(ApiModel):
    period_seconds: Count
    timeout_seconds: Count
    failure_threshold: Count


class NetworkPolicy(Switch):
    metrics_from: Objects = ()
    apiserver_ports: Annotated[tuple[Port, ...], Field(min_length=1)]


class MetricsTLS(ApiModel):
    secret_name: str = ""
    client_certificates: bool = False


class Monitor(Switch):
    interval: Duration
    labels: Texts = {}


class OwnMonitor(Monitor):
    tls_config: FreeForm = {}


class Rules(Switch):
    labels: Texts = {}


class Dashboards(Switch):
    labels: Texts = {}
    annotations: Texts = {}


class Monitoring(ApiModel):
    runbook_url: Annotated[str, Field(pattern=r"^(https?://\S+)?$")] = ""
    service_monitor: OwnMonitor
    pod_monitor: Monitor
    prometheus_rule: Rules
    dashboards: Dashboards


class Values(ApiModel):
    """What may be missing is what a template does without: `null` removes it."""

    image: Image
    image_pull_secrets: Objects = ()
    images: Images
    profiles: dict[str, ClusterProfile] = {}
    network: Network = Network()
    watch_namespaces: Annotated[tuple[Namespace, ...], Field(json_schema_extra={"uniqueItems": True})] = ()
    replicas: Count
    workers: Count
    log_format: Literal["json", "text"]
    crds: Crds
    rbac: Rbac
    service_account: ServiceAccount
    admission_policy: Switch
    resources: FreeForm = {}
    pod_disruption_budget: Switch
    liveness_probe: Probe
    readiness_probe: Probe
    termination_grace_period_seconds: Count
    priority_class_name: str = ""
    node_selector: Texts = {}
    tolerations: Objects = ()
    affinity: FreeForm = {}
    topology_spread_constraints: Objects = ()
    pod_security_context: FreeForm = {}
    security_context: FreeForm = {}
    strategy: FreeForm = {}
    dns_config: FreeForm = {}
    extra_args: tuple[Text, ...] = ()
    extra_env: Objects = ()
    extra_volumes: Objects = ()
    extra_volume_mounts: Objects = ()
    pod_annotations: Texts = {}
    pod_labels: Texts = {}
    common_labels: Texts = {}
    metrics_tls: Annotated[MetricsTLS, Field(alias="metricsTLS")]
    network_policy: NetworkPolicy
    monitoring: Monitoring
    name_override: str = ""
    fullname_override: str = ""
    global_: Annotated[FreeForm, Field(alias="global")] = {}
