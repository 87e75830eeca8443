"""What of a pod belongs to the operator: a podTemplate cannot override the entry point or the security context.

Checked when a run is read, so that the merge that follows always works on parts of the right shape.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from selfalign_api.errors import ConfigError, Problem
from selfalign_api.means import Compute
from selfalign_api.platform import STEP_CONTAINER
from selfalign_api.pod_template import DELETE, KEYED_LISTS, PATCH, removes

OWNED_NAMES = ("selfalign.dev/", "app.kubernetes.io/name", "app.kubernetes.io/created-by")  # or beginnings of names
OWNED_VARIABLES = ("SELFALIGN_", "RAY_AUTH_", "POD_IP", "JOB_COMPLETION_INDEX")
RUN_FILE_FOLDER = "/etc/selfalign"
RUN_VOLUME = "run"

WHOLE = "would remove what makes the pod a step; write it in the single fields that should go"

OF_POD = {
    "restartPolicy": "a failed step is tried again by the operator; see failurePolicy",
    "hostname": "a gang's pods find one another by it",
    "subdomain": "a gang's pods find one another by it",
    "hostNetwork": "the platform gives it to ranks by its profile, with ports that do not clash",
    "automountServiceAccountToken": "no pod of a run holds Kubernetes credentials; serviceAccountName may be given",
    "terminationGracePeriodSeconds": "write gracePeriodSeconds in that section of compute",
    "activeDeadlineSeconds": "write spec.activeDeadlineSeconds",
}
OF_POD_SECURITY = {
    "runAsNonRoot": "every pod of a run is unprivileged; runAsUser, runAsGroup, fsGroup and the like may be given",
    "seccompProfile": "every pod of a run is unprivileged; runAsUser, runAsGroup, fsGroup and the like may be given",
}
OF_STEP = {
    "command": "it is the step program's entry point",
    "args": "they are the step program's",
    "image": "write image in that section of compute",
    "securityContext": "every pod of a run is unprivileged; what a step needs beside it goes into a container of its own",
    "terminationMessagePath": "the step leaves its result there",
    "terminationMessagePolicy": "the step leaves its result there",
}


def refuse_owned_fields(compute: Compute | None) -> None:
    """ConfigError with every podTemplate field that is not the user's, or not of the shape that Kubernetes knows."""
    if compute is None:
        return
    sections = (("generation", compute.generation), ("training", compute.training), ("evaluation", compute.evaluation))
    parts = [("spec.compute.podTemplate", compute.pod_template)]
    parts += [(f"spec.compute.{name}.podTemplate", part.pod_template) for name, part in sections if part is not None]
    if compute.control is not None:
        parts.append(("spec.compute.control.podTemplate", compute.control.pod_template))
    if compute.generation is not None:
        parts.append(("spec.compute.generation.headPodTemplate", compute.generation.head_pod_template))
    problems = [problem for path, part in parts if part is not None for problem in problems_of(part, path)]
    if problems:
        raise ConfigError(problems)


def problems_of(part: Mapping[str, Any], path: str) -> list[Problem]:
    """All that is wrong with a part of a PodTemplateSpec, without asking the apiserver (which says the rest)."""
    misshapen = list(_misshapen(part, path))
    return misshapen or list(_owned(part, path))


def _misshapen(part: Mapping[str, Any], path: str) -> Iterator[Problem]:
    for field, value in part.items():
        if field not in ("metadata", "spec"):
            yield Problem(f"{path}.{field}", None, "is no field of a pod template; write metadata or spec")
        elif not isinstance(value, dict):
            yield Problem(f"{path}.{field}", value, "must be a map; write one, or remove it")
        else:
            yield from _bad_maps(value, f"{path}.{field}")
            yield from _bad_lists(value, f"{path}.{field}")
            yield from _bad_patches(value, f"{path}.{field}")


def _bad_maps(value: Mapping[str, Any], path: str) -> Iterator[Problem]:
    for field in ("labels", "annotations", "securityContext"):
        if field in value and not isinstance(value[field], dict):
            yield Problem(f"{path}.{field}", value[field], "must be a map; write one, or remove it")
        elif PATCH in value.get(field, {}):
            yield Problem(f"{path}.{field}.{PATCH}", None, WHOLE)


def _bad_patches(value: Any, path: str) -> Iterator[Problem]:
    """A $patch that is none of ours, or that would remove all of the template's own."""
    if isinstance(value, list):
        for index, entry in enumerate(value):
            yield from _bad_patches(entry, f"{path}[{index}]")
    if not isinstance(value, dict):
        return
    if PATCH in value and value[PATCH] != DELETE:
        yield Problem(f"{path}.{PATCH}", value[PATCH], "is not known here; write delete, or remove it")
    elif removes(value) and (path.endswith((".metadata", ".spec")) or value.get("name") == STEP_CONTAINER):
        yield Problem(f"{path}.{PATCH}", None, WHOLE)
    for field, below in value.items():
        yield from _bad_patches(below, f"{path}.{field}")


def _bad_lists(value: Any, path: str) -> Iterator[Problem]:
    """Lists that merge by a key, at any depth, and are no lists of maps with that key."""
    if isinstance(value, list):
        for index, entry in enumerate(value):
            yield from _bad_lists(entry, f"{path}[{index}]")
    if not isinstance(value, dict):
        return
    for field, below in value.items():
        here = f"{path}.{field}"
        key = KEYED_LISTS.get(field)
        if key is not None and not isinstance(below, list):
            yield Problem(here, below, f"must be a list; write - {key}: …, or remove it")
        elif key is not None:
            for index, entry in enumerate(below):
                if not (isinstance(entry, dict) and isinstance(entry.get(key), str)):
                    yield Problem(f"{here}[{index}]", entry, f"must be a map with {key}; write {key}: …")
        yield from _bad_lists(below, here)


def _owned(part: Mapping[str, Any], path: str) -> Iterator[Problem]:
    metadata, spec = part.get("metadata", {}), part.get("spec", {})
    for field in ("labels", "annotations"):
        for name in metadata.get(field, {}):
            if name.startswith(OWNED_NAMES):
                yield _problem(f"{path}.metadata.{field}", name, "the operator or KubeRay finds its pods by it")
    yield from _named(spec, OF_POD, f"{path}.spec")
    yield from _named(spec.get("securityContext", {}), OF_POD_SECURITY, f"{path}.spec.securityContext")
    for volume in spec.get("volumes", ()):
        if volume["name"] == RUN_VOLUME:
            yield _problem(
                f"{path}.spec.volumes", RUN_VOLUME, "it holds the step program's run.json; name yours otherwise"
            )
    for container in spec.get("containers", ()):
        if container["name"] == STEP_CONTAINER:
            yield from _owned_of_step(container, f"{path}.spec.containers[{STEP_CONTAINER}]")


def _owned_of_step(container: Mapping[str, Any], path: str) -> Iterator[Problem]:
    yield from _named(container, OF_STEP, path)
    for variable in container.get("env", ()):
        if variable["name"].startswith(OWNED_VARIABLES):
            yield _problem(f"{path}.env", variable["name"], "the step program is told by it")
    for mount in container.get("volumeMounts", ()):
        if mount["mountPath"].rstrip("/") == RUN_FILE_FOLDER:
            yield _problem(f"{path}.volumeMounts", RUN_FILE_FOLDER, "the step program's run.json is there")


def _named(given: Mapping[str, Any], owned: Mapping[str, str], path: str) -> Iterator[Problem]:
    for field, why in owned.items():
        if field in given:
            yield _problem(f"{path}.{field}", None, why)


def _problem(path: str, value: str | None, why: str) -> Problem:
    return Problem(path, value, f"cannot be overridden ({why}); remove it")
