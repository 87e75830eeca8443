"""What a pod of a run asks for, as this machine can give it: the program, its variables, its run file, its folders."""

from __future__ import annotations

import json
import os
import re
from base64 import b64decode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

from kubernetes import client

from selfalign_api.places import Folder, parse_place
from selfalign_api.platform import STEP_CONTAINER
from selfalign_api.run_file import RunFile

Json = dict[str, Any]

ENTRY_POINT = ["python", "-m", "selfalign_jobs"]
GANG_SIZE = "SELFALIGN_GANG_SIZE"  # only the pods of a gang have it
# Files of a pod, in its folder on this machine.
RUN_FILE, ADDRESS, MESSAGE, LOG = "run.json", "address", "termination.json", "log.txt"


class NotPlayable(Exception):
    """The pod asks for something that is not here; the message says what to write instead."""


@dataclass(frozen=True)
class Launch:
    """A program of this machine that does what the pod's container would do."""

    arguments: list[str]  # of the entry point
    environment: dict[str, str]
    run_file: str


def launch_of(pod: Json, core: client.CoreV1Api, folder: Path) -> Launch:
    """How to play `pod`; its files lie in `folder`. Raises NotPlayable."""
    try:
        return _launch(pod, core, folder)
    except client.ApiException as error:
        if error.status != 404:
            raise
        raise NotPlayable(json.loads(error.body)["message"]) from None  # secrets "x" not found


def _launch(pod: Json, core: client.CoreV1Api, folder: Path) -> Launch:
    container = step_container(pod)
    if container.get("command") != ENTRY_POINT:
        raise NotPlayable(f"the testbed plays pods whose command is {' '.join(ENTRY_POINT)}")
    places = _Mounts(pod, container, core)
    environment = dict(_variables(pod, container, core))
    if GANG_SIZE in environment:
        raise NotPlayable(
            "the testbed plays attempts of one pod only: write compute.generation.replicas: 1, "
            "compute.evaluation.replicas: 1 and compute.training.nodes: 1"
        )
    file = RunFile.model_validate_json(_run_file(pod, container, core))
    local = file.model_copy(
        update={
            "storage": places.url_here(file.storage),
            "mounts": {claim: str(places.here(inside)) for claim, inside in file.mounts.items()},
            "reuse_from": tuple(places.url_here(url) for url in file.reuse_from),
        }
    )
    return Launch(
        arguments=_arguments(container["args"], folder),
        environment=os.environ | places.variables_here(environment),
        run_file=local.model_dump_json(indent=1),
    )


def step_container(pod: Json) -> Json:
    """The container that runs the step program. Raises NotPlayable when there is none."""
    for container in pod["spec"]["containers"]:
        if container["name"] == STEP_CONTAINER:
            found: Json = container
            return found
    raise NotPlayable(f"the pod has no container {STEP_CONTAINER}")


def _arguments(given: list[str], folder: Path) -> list[str]:
    """The pod's arguments with places of this machine. The program finds itself a port, and tells it in a file."""
    replaced = {"--listen": "127.0.0.1:0", "--termination-message": str(folder / MESSAGE)}
    options = [replaced.get(before, argument) for before, argument in pairwise(given)]
    return [str(folder / RUN_FILE), *options, "--address-file", str(folder / ADDRESS), "--with-parent"]


class _Mounts:
    """Where the container's folders are on this machine."""

    def __init__(self, pod: Json, container: Json, core: client.CoreV1Api) -> None:
        volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", ())}
        namespace = pod["metadata"]["namespace"]
        self._folders: dict[PurePosixPath, Path] = {}
        self._empty: list[PurePosixPath] = []  # emptyDirs: what lies there is this machine's own
        for mount in container.get("volumeMounts", ()):
            volume, inside = volumes[mount["name"]], PurePosixPath(mount["mountPath"])
            if "emptyDir" in volume:
                self._empty.append(inside)
            elif (folder := _folder(volume, namespace, core)) is not None:
                self._folders[inside] = folder / mount.get("subPath", "")

    def here(self, path: PurePosixPath | str) -> Path:
        """A path of the pod on this machine; what no volume has is the same path here."""
        path = PurePosixPath(path)
        for inside in sorted(self._folders, key=lambda folder: len(folder.parts), reverse=True):
            if path.is_relative_to(inside):
                return self._folders[inside] / path.relative_to(inside)
        return Path(path)

    def url_here(self, url: str) -> str:
        """A URL of the pod on this machine: buckets stay what they are."""
        place = parse_place(url)
        return self.here(place.path).as_uri() if isinstance(place, Folder) else url

    def variables_here(self, variables: Mapping[str, str]) -> dict[str, str]:
        """Variables with the paths of this machine. Those in an emptyDir (HOME, TMPDIR, caches) stay as they are here."""
        paths = {name: PurePosixPath(value) for name, value in variables.items() if value.startswith("/")}
        kept = {name: value for name, value in variables.items() if name not in paths}
        in_empty = {name for name, path in paths.items() if any(path.is_relative_to(inside) for inside in self._empty)}
        return kept | {name: str(self.here(path)) for name, path in paths.items() if name not in in_empty}


def _folder(volume: Json, namespace: str, core: client.CoreV1Api) -> Path | None:
    """The folder behind a hostPath, or behind a claim whose volume is one; None for volumes that are no data."""
    if "hostPath" in volume:
        return Path(volume["hostPath"]["path"])
    if "persistentVolumeClaim" not in volume:
        return None
    name = volume["persistentVolumeClaim"]["claimName"]
    claim = core.read_namespaced_persistent_volume_claim(name, namespace)
    spec = core.read_persistent_volume(claim.spec.volume_name).spec
    if spec.host_path is None:
        raise NotPlayable(f"claim {name} has no folder of this machine: bind it to a PersistentVolume with hostPath")
    return Path(spec.host_path.path)


def _run_file(pod: Json, container: Json, core: client.CoreV1Api) -> str:
    """The content of the file that the program's first argument names, from the ConfigMap that is mounted there."""
    path = PurePosixPath(container["args"][0])
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    for mount in container["volumeMounts"]:
        volume = volumes[mount["name"]]
        if "configMap" in volume and path.parent == PurePosixPath(mount["mountPath"]):
            found = core.read_namespaced_config_map(volume["configMap"]["name"], pod["metadata"]["namespace"])
            content: str = found.data[path.name]
            return content
    raise NotPlayable(f"no ConfigMap is mounted at {path.parent}")


def _variables(pod: Json, container: Json, core: client.CoreV1Api) -> Iterator[tuple[str, str]]:
    namespace = pod["metadata"]["namespace"]
    for source in container.get("envFrom", ()):
        if "secretRef" not in source:
            raise NotPlayable("the testbed knows envFrom of Secrets only")
        yield from _secret(core, namespace, source["secretRef"]["name"]).items()
    for variable in container.get("env", ()):
        yield variable["name"], _value(variable, pod, core)


def _value(variable: Json, pod: Json, core: client.CoreV1Api) -> str:
    if "valueFrom" not in variable:
        return str(variable.get("value", ""))
    match variable["valueFrom"]:
        case {"fieldRef": {"fieldPath": path}}:
            return _field(pod, path)
        case {"secretKeyRef": {"name": name, "key": key}}:
            return _secret(core, pod["metadata"]["namespace"], name)[key]
    raise NotPlayable(
        f"the testbed knows a variable's value, fieldRef and secretKeyRef; {variable['name']} has another"
    )


def _field(pod: Json, path: str) -> str:
    """A field by its path, such as status.podIP or metadata.labels['selfalign.dev/step']; empty when it is not set."""
    value: Any = pod
    for name, key in re.findall(r"([A-Za-z]+)(?:\['([^']+)'\])?", path):
        value = value.get(name, {}) if isinstance(value, Mapping) else {}
        value = value.get(key, "") if key else value
    return value if isinstance(value, str) else ""


def _secret(core: client.CoreV1Api, namespace: str, name: str) -> dict[str, str]:
    found = core.read_namespaced_secret(name, namespace)
    return {key: b64decode(value).decode() for key, value in (found.data or {}).items()}
