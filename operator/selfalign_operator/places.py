"""Places inside a pod: where claims are mounted, what a URL is there, and which paths no pod can have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Literal

from selfalign_api.cluster import pods_of
from selfalign_api.errors import Problem
from selfalign_api.places import Claim, Folder, file_url, parse_place
from selfalign_api.platform import STEP_CONTAINER, mount_paths
from selfalign_api.run import Spec
from selfalign_operator.effective import RunError

CLAIMS_FOLDER = PurePosixPath("/mnt")
HOME = PurePosixPath("/home/selfalign")
TMP = PurePosixPath("/tmp")
SHARED_MEMORY = PurePosixPath("/dev/shm")
EMPTY_FOLDERS = (HOME, TMP, SHARED_MEMORY)  # emptyDirs of ours: nothing lies there when a pod starts

Kind = Literal["generate", "train", "evaluate"]
SECTIONS: tuple[tuple[Kind, str], ...] = (
    ("generate", "generation"),
    ("train", "training"),
    ("evaluate", "evaluation"),
)


def mount_path(claim: str) -> str:
    """Where a claim is mounted in every pod of a run."""
    return str(CLAIMS_FOLDER / claim)


def url_in_pod(url: str, mounts: Mapping[str, str]) -> str:
    """The URL as a pod reaches it: a claim's place is a folder; a bucket stays what it is."""
    match parse_place(url):
        case Claim(claim, path):
            return file_url(PurePosixPath(mounts[claim]) / path)
        case Folder(path):
            return file_url(path)
    return url


def refuse_unmounted(spec: Spec) -> None:
    """RunError ModelPathNotMounted when a model is a `file://` folder that some pod which loads it lacks.

    It must lie in a volume of the podTemplate, or in an image that the run or its profile names: the operator's own
    images hold no model.
    """
    problems = list(_unmounted(spec, spec.model.url, "spec.model.url", SECTIONS))
    engines = tuple(section for section in SECTIONS if section[0] != "train")
    for model in spec.auxiliary_models or ():
        problems += _unmounted(spec, model.url, f"spec.auxiliaryModels[{model.name}].url", engines)
    if problems:
        raise RunError("ModelPathNotMounted", problems)


def _unmounted(spec: Spec, url: str, field: str, sections: tuple[tuple[Kind, str], ...]) -> Iterator[Problem]:
    place = parse_place(url, field)
    if not isinstance(place, Folder):
        return
    path = place.path
    for kind, section in sections:
        pods = pods_of(spec.compute, kind)
        mounted = [mount for part in pods.pod_templates for mount in mount_paths(part)]
        if any(path.is_relative_to(mount) for mount in mounted):
            continue
        in_image = pods.image is not None and not any(path.is_relative_to(folder) for folder in EMPTY_FOLDERS)
        if not in_image:
            said = (
                f"is in no volume of the pods that {kind}; write pvc://CLAIM/PATH, mount a volume there in container "
                f"{STEP_CONTAINER} of compute.podTemplate, or name the image that holds it in compute.{section}.image"
            )
            yield Problem(field, file_url(path), said)
