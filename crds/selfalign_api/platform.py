"""What a cluster's platform does not allow a run: too many GPUs, places outside the allowed ones, lost storage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from selfalign_api.digest import source_urls
from selfalign_api.errors import ConfigError, Problem
from selfalign_api.load import as_json
from selfalign_api.means import Compute
from selfalign_api.method import Storage
from selfalign_api.operator_config import ClusterProfile
from selfalign_api.places import Claim, Folder, Place, parse_place
from selfalign_api.run import Spec
from selfalign_api.run_file import Means

__all__ = ["STEP_CONTAINER", "claims_of", "is_under", "mount_paths", "opened_urls", "platform_problems", "urls_of"]

STEP_CONTAINER = "step"  # of a pod: the one that runs the step's program


def platform_problems(spec: Spec, profile: ClusterProfile, means: Means) -> list[Problem]:
    """All that the platform does not allow of a spec with its profile's values."""
    return [
        *_places(spec),
        *_forbidden(spec, profile),
        *_lost_storage(spec),
        *_too_many_gpus(means, profile),
        *_gpus_by_hand(spec.compute, profile),
    ]


# --- places -----------------------------------------------------------------------------------------------------------


def urls_of(spec: Spec) -> dict[str, str]:
    """Every URL that a run reads or writes, by its path, such as `spec.storage.reuseFrom[0]`."""
    urls = {f"spec.{path}": url for path, url in source_urls(as_json(spec)).items()}
    if spec.output is not None:
        outputs = {"spec.output.url": spec.output.url, "spec.output.datasetUrl": spec.output.dataset_url}
        urls |= {path: url for path, url in outputs.items() if url is not None}
    if spec.storage is not None:
        if spec.storage.url is not None:
            urls["spec.storage.url"] = spec.storage.url
        urls |= {f"spec.storage.reuseFrom[{index}]": url for index, url in enumerate(spec.storage.reuse_from or ())}
    return urls


def opened_urls(spec: Spec) -> dict[str, str]:
    """Those, and the addresses that are no places but that a Secret may open: the tracking server's."""
    return urls_of(spec) | ({} if spec.tracking is None else {"spec.tracking.url": spec.tracking.url})


def claims_of(spec: Spec) -> tuple[str, ...]:
    """Names of the volume claims that a run names, each once, sorted."""
    places = (parse_place(url, path) for path, url in urls_of(spec).items())
    return tuple(sorted({place.claim for place in places if isinstance(place, Claim)}))


def _places(spec: Spec) -> Iterator[Problem]:
    for path, url in urls_of(spec).items():
        if "://" not in url:
            continue  # a rule says it
        try:
            parse_place(url, path)
        except ConfigError as error:
            yield from error.problems


def _forbidden(spec: Spec, profile: ClusterProfile) -> Iterator[Problem]:
    """The URLs under none of the allowed prefixes, nor the profile's own places; a path that climbs could leave one."""
    if profile.allowed_url_prefixes is None:
        return
    there = ", ".join(profile.allowed_url_prefixes) or "none"
    storage = profile.storage or Storage()
    allowed = [*profile.allowed_url_prefixes, *(storage.reuse_from or ()), *([storage.url] if storage.url else ())]
    allowed += [profile.tracking.url] if profile.tracking is not None else []
    for path, url in opened_urls(spec).items():
        if ".." in unquote(url).split("/") or not any(is_under(url, prefix) for prefix in allowed):
            yield Problem(path, url, f"is outside the places that this cluster allows ({there}); write one under those")


def is_under(url: str, prefix: str) -> bool:
    """Whether the URL begins with whole parts of the prefix: s3://ml is no prefix of s3://ml-secrets."""
    rest = url.removeprefix(prefix)
    return url.startswith(prefix) and (not rest or prefix.endswith("/") or rest[0] in "/@")


def _lost_storage(spec: Spec) -> Iterator[Problem]:
    """A folder of a pod ends with the pod, unless every pod has a volume there."""
    url = spec.storage.url if spec.storage is not None else None
    if url is None:
        said = "is missing, and the profile has none; write storage: {url: pvc://CLAIM/PATH} or s3://BUCKET/PATH"
        yield Problem("spec.storage.url", None, said)
    elif isinstance(place := _place_of(url), Folder):
        folder = place.path
        template = spec.compute.pod_template if spec.compute is not None else None
        if not any(folder.is_relative_to(mount) for mount in mount_paths(template or {})):
            said = (
                "is in no volume of compute.podTemplate, so it would end with its pod; write pvc://CLAIM/PATH, or mount "
                f"a volume at {folder} in container {STEP_CONTAINER}"
            )
            yield Problem("spec.storage.url", url, said)


def _place_of(url: str) -> Place | None:
    """The place; None for what is none, which `_places` says."""
    try:
        return parse_place(url)
    except ConfigError:
        return None


def mount_paths(template: Mapping[str, Any]) -> Iterator[str]:
    """Where a part of a PodTemplateSpec, which may be anything, mounts volumes in the container `step`."""
    spec = template.get("spec")
    containers = spec.get("containers") if isinstance(spec, dict) else None
    for container in containers if isinstance(containers, list) else ():
        if isinstance(container, dict) and container.get("name") == STEP_CONTAINER:
            mounts = container.get("volumeMounts")
            for mount in mounts if isinstance(mounts, list) else ():
                if isinstance(mount, dict) and isinstance(mount.get("mountPath"), str):
                    yield mount["mountPath"]


# --- GPUs -------------------------------------------------------------------------------------------------------------


def _too_many_gpus(means: Means, profile: ClusterProfile) -> Iterator[Problem]:
    """The steps that want more GPUs than one may take; evaluation's engines only where they are its own."""
    if (most := profile.max_gpus) is None:
        return
    own = () if means.evaluation == means.generation else (("evaluation", means.evaluation),)
    for name, engines in (("generation", means.generation), *own):
        if engines.device == "GPU" and engines.replicas * engines.tensor_parallel_size > most:
            path = f"spec.compute.{name}.replicas"
            yield _too_many(path, engines.replicas, "engines", engines.tensor_parallel_size, "tensorParallelSize", most)
    engines = means.generation
    if engines.models and engines.pods * engines.gpus_of_pod > most:
        path = "spec.compute.generation.models"
        yield _too_many(path, engines.pods, "pods", engines.gpus_of_pod, "tensorParallelSize", most)
    training = means.training
    if training.device == "GPU" and training.nodes * training.gpus_per_node > most:
        path = "spec.compute.training.nodes"
        yield _too_many(path, training.nodes, "nodes", training.gpus_per_node, "gpusPerNode", most)


def _too_many(path: str, count: int, what: str, size: int, field: str, most: int) -> Problem:
    said = (
        f"is more than this cluster allows: a step may take {most} GPUs, and {what} of {size} would take "
        f"{count * size}; lower {path.rpartition('.')[2]} or {field}"
    )
    return Problem(path, count, said)


def _gpus_by_hand(compute: Compute | None, profile: ClusterProfile) -> Iterator[Problem]:
    """GPUs that the resources ask for beside the counts."""
    sections = (
        (
            ("generation", compute.generation, "tensorParallelSize"),
            ("training", compute.training, "gpusPerNode"),
            ("evaluation", compute.evaluation, "tensorParallelSize"),
        )
        if compute is not None
        else ()
    )
    for name, section, count in sections:
        resources = section.resources if section is not None else None
        for kind in ("requests", "limits") if resources is not None else ():
            if profile.gpu_resource_name in (getattr(resources, kind) or {}):
                path = f"spec.compute.{name}.resources.{kind}.{profile.gpu_resource_name}"
                yield Problem(path, None, f"GPUs follow from compute.{name}.{count}; write it there and remove this")
    control = compute.control.resources if compute is not None and compute.control is not None else None
    for kind in ("requests", "limits") if control is not None else ():
        if profile.gpu_resource_name in (getattr(control, kind) or {}):
            path = f"spec.compute.control.resources.{kind}.{profile.gpu_resource_name}"
            yield Problem(path, None, "the small pods compute nothing on a GPU; remove this")
