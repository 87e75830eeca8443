"""The operator's own configuration, which Helm writes: images and profiles."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from selfalign_api.base import ApiModel, Count, Text, Url
from selfalign_api.profiles import Profile

__all__ = ["ClusterProfile", "Images", "OperatorConfig"]


class Images(ApiModel):
    """Images of the step programs where a run and its profile name none."""

    generate: Text
    """Image with Ray and vLLM; also of accept, collect and evaluate."""

    train: Text
    """Image with TRL and DeepSpeed."""


class ClusterProfile(Profile):
    """A profile of a cluster: what a run leaves open, and what only a platform sets."""

    gpu_resource_name: Text = "nvidia.com/gpu"
    """Extended resource that a GPU is asked by."""

    max_gpus: Count | None = None
    """GPUs that one step may take at once. Unset: any number."""

    allowed_url_prefixes: Annotated[tuple[Url, ...], Field(max_length=64)] | None = None
    """Beginnings of the URLs that a run may name. Unset: any."""


class OperatorConfig(ApiModel):
    """All that is the same for every run of an operator."""

    images: Images
    """Images of the step programs."""

    profiles: dict[str, ClusterProfile] = {}
    """Profiles by name; the one named default counts where a run names none."""
