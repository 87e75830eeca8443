"""The operator's own configuration, which Helm writes: images and profiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from selfalign_api.base import ApiModel, Count, Text, Url
from selfalign_api.profiles import Profile

DNS_NAME = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
Namespace = Annotated[str, Field(max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
Capability = Annotated[str, Field(max_length=64, pattern=r"^[A-Z]+(_[A-Z]+)*$")]

__all__ = [
    "ClusterProfile",
    "GangScheduling",
    "Images",
    "Namespace",
    "NamespaceSelector",
    "Network",
    "OperatorConfig",
    "Peer",
]


class Images(ApiModel):
    """Images of the step programs where a run and its profile name none."""

    generate: Text
    """Image with Ray and vLLM; also of accept, collect and evaluate."""

    train: Text
    """Image with transformers and DeepSpeed."""


class GangScheduling(ApiModel):
    """A scheduler that starts the pods of a gang together or not at all, where no Kueue does."""

    type: Literal["Coscheduling", "Volcano"]
    """Whose PodGroups the scheduler knows: scheduler-plugins' coscheduling, or Volcano."""

    scheduler_name: Text | None = None
    """The scheduler, as pods name it. Unset: scheduler-plugins-scheduler, volcano."""

    queue: Text | None = None
    """Volcano's queue. Unset: default."""

    @model_validator(mode="after")
    def _has_queues(self) -> GangScheduling:
        if self.queue is not None and self.type != "Volcano":
            raise ValueError("queue is Volcano's; write type: Volcano, or remove queue")
        return self


class LabelRequirement(ApiModel):
    """What a label must be."""

    key: Text
    """Name of the label."""

    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    """As in Kubernetes: NotIn holds too where the label is not there."""

    values: Annotated[tuple[str, ...], Field(max_length=64)] = ()
    """Of In and NotIn."""

    @model_validator(mode="after")
    def _has_its_values(self) -> LabelRequirement:
        if bool(self.values) != (self.operator in ("In", "NotIn")):
            raise ValueError("values are written with In and NotIn, at least one, and with no other operator")
        return self

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether it is so."""
        there, value = self.key in labels, labels.get(self.key)
        match self.operator:
            case "In":
                return value in self.values
            case "NotIn":
                return value not in self.values
        return there == (self.operator == "Exists")


class NamespaceSelector(ApiModel):
    """Which namespaces, by all that is said of their labels: a label selector of Kubernetes."""

    match_labels: Annotated[dict[str, str], Field(max_length=32)] = {}
    """Labels with these values."""

    match_expressions: Annotated[tuple[LabelRequirement, ...], Field(max_length=32)] = ()
    """Further requirements."""

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Whether a namespace with these labels is one of them."""
        same = all(labels.get(name) == value for name, value in self.match_labels.items())
        return same and all(each.holds(labels) for each in self.match_expressions)


class ClusterProfile(Profile):
    """A profile of a cluster: what a run leaves open, and what only a platform sets."""

    gpu_resource_name: Text = "nvidia.com/gpu"
    """Extended resource that a GPU is asked by."""

    namespaces: Annotated[tuple[Namespace, ...], Field(min_length=1, max_length=256)] | None = None
    """Namespaces whose runs it is for; in others there is no such profile. Unset: all."""

    namespace_selector: NamespaceSelector | None = None
    """The same by the labels of the namespace. Unset: all."""

    gpu_claim_template_name: Annotated[str, Field(max_length=253, pattern=DNS_NAME)] | None = None
    """A ResourceClaimTemplate of one GPU, in the run's namespace: a pod has a claim of it for each GPU (DRA). Unset: none."""

    capabilities: Annotated[tuple[Capability, ...], Field(max_length=8)] = ()
    """Linux capabilities that engines and ranks have, such as IPC_LOCK for RDMA; a restricted namespace refuses them."""

    host_network: bool = False
    """Whether ranks of a training on several nodes are in the network of these, for RDMA; a baseline namespace refuses it."""

    disruption_budget: bool = False
    """Whether a PodDisruptionBudget keeps a run's pods from being evicted: a node is drained when its step is done."""

    gang_scheduling: GangScheduling | None = None
    """A scheduler of engines and ranks that starts all pods of a gang or none. Unset: Kubernetes', one by one."""

    max_gpus: Count | None = None
    """GPUs that one step may take at once. Unset: any number."""

    allowed_url_prefixes: Annotated[tuple[Url, ...], Field(max_length=64)] | None = None
    """Beginnings of the URLs that a run may name. Unset: any."""

    propagate_labels: Annotated[tuple[Text, ...], Field(max_length=32)] = ()
    """Names of the run's labels that go to all that is made for it, such as cost-center; team.example/ for all of those."""

    @model_validator(mode="after")
    def _is_bound_in_one_way(self) -> ClusterProfile:
        if self.namespaces is not None and self.namespace_selector is not None:
            raise ValueError("namespaces and namespaceSelector are two ways to say the same; write one of them")
        return self

    def is_for(self, namespace: str, labels: Mapping[str, str] | None) -> bool:
        """Whether the runs of a namespace have it. Labels that nobody may read (None) are chosen by no selector."""
        if self.namespace_selector is not None:
            return labels is not None and self.namespace_selector.selects(labels)
        return self.namespaces is None or namespace in self.namespaces


class Peer(ApiModel):
    """Pods that may connect to a run's pods, by their labels."""

    namespace: Text | None = None
    """Their namespace. Unset: any."""

    pod_labels: dict[str, str] = {}
    """Labels that they all have. Empty: any pod."""


class Network(ApiModel):
    """Who may connect to a run's pods, beside those pods themselves."""

    progress: Annotated[tuple[Peer, ...], Field(max_length=16)] | None = None
    """Who reads /progress and /metrics: the operator and Prometheus. Unset: anybody who reaches the pod."""

    ray_dashboard: Annotated[tuple[Peer, ...], Field(max_length=16)] = (
        Peer(pod_labels={"app.kubernetes.io/component": "kuberay-operator"}),
    )
    """Who submits the jobs of RayJobs: KubeRay, by the label that its chart gives it, in any namespace."""


class OperatorConfig(ApiModel):
    """All that is the same for every run of an operator."""

    images: Images
    """Images of the step programs."""

    profiles: dict[str, ClusterProfile] = {}
    """Profiles by name; the one named default counts where a run names none."""

    network: Network = Network()
    """Who may connect to a run's pods."""

    @property
    def asks_for_labels(self) -> bool:
        """Whether the labels of a run's namespace decide which profiles it has."""
        return any(profile.namespace_selector is not None for profile in self.profiles.values())

    def of_namespace(self, namespace: str, labels: Mapping[str, str] | None) -> OperatorConfig:
        """What counts for the runs of a namespace with these labels."""
        profiles = {name: profile for name, profile in self.profiles.items() if profile.is_for(namespace, labels)}
        return self.model_copy(update={"profiles": profiles})
