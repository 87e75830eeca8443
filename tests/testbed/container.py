"""A pod's container by runc alone: what its manifest says of command, variables, user and volumes; no kubelet, no network.

Its network is a loopback, of its own unless one is given. Its namespaces are in one of ours: it ends with this process.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Json = dict[str, Any]
HOSTS = "127.0.0.1 localhost\n"


@dataclass(frozen=True)
class Surroundings:
    """What a cluster has beside the pod."""

    variables: Mapping[str, str]  # of the image, and what the pod's would be from Secrets and its own status
    config_maps: Mapping[str, Mapping[str, str]]
    claims: Mapping[str, Path]
    network: Path | None = None  # a namespace (testbed.loopback)


class Container:
    """The first container of a pod, started on the image that is unpacked at `root`. Its files lie in `folder`, a new one."""

    def __init__(self, pod: Json, root: Path, around: Surroundings, folder: Path) -> None:
        folder.mkdir()
        self._log, self._message = folder / "log.txt", folder / "termination-message"
        self._message.touch()
        self._message.chmod(0o666)  # as the kubelet makes it
        subprocess.run(["runc", "spec", f"--bundle={folder}"], check=True)
        config = folder / "config.json"
        config.write_text(json.dumps(_Bundle(pod["spec"], around, folder).fill(json.loads(config.read_text()), root)))
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(_command(folder), stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    @property
    def log(self) -> str:
        """What it has printed."""
        return self._log.read_text(errors="replace")

    @property
    def message(self) -> Json:
        """Its termination message, {} before it has one."""
        return dict(json.loads(self._message.read_text() or "{}"))

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def terminate(self) -> None:
        """SIGTERM to its process 1."""
        os.kill(_child(_child(self._process.pid)), signal.SIGTERM)

    def wait(self, seconds: float) -> int:
        """Its exit code. Raises subprocess.TimeoutExpired."""
        return self._process.wait(seconds)

    def stop(self) -> None:
        """Ends it, if it runs, and waits until it has ended."""
        if self.runs:
            os.kill(_child(self._process.pid), signal.SIGKILL)  # runc, process 1 of the namespace that all are in
        self._process.wait()


def _command(folder: Path) -> list[str]:
    ends_with_us = ["setpriv", "--pdeathsig", "KILL", "--"]
    enclosed = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    return [*ends_with_us, *enclosed, "runc", f"--root={folder}/state", "run", f"--bundle={folder}", folder.name]


def _child(pid: int) -> int:
    """The one process that another has started, from whichever of its threads. Raises ValueError."""
    (child,) = " ".join(task.read_text() for task in Path(f"/proc/{pid}/task").glob("*/children")).split()
    return int(child)


class _Bundle:
    """What of a pod goes into runc's configuration."""

    def __init__(self, spec: Json, around: Surroundings, folder: Path) -> None:
        self._spec, self._around, self._folder = spec, around, folder
        self._container: Json = spec["containers"][0]

    def fill(self, given: Json, root: Path) -> Json:
        """runc's own example, with what the pod says in place of what that has."""
        user, rights = self._spec["securityContext"], self._container["securityContext"]
        said = {each["name"]: each["value"] for each in self._container["env"] if "value" in each}
        variables = dict(self._around.variables) | said  # what the pod takes from elsewhere is among the former
        process = {
            "user": {"uid": user["runAsUser"], "gid": user["runAsGroup"]},
            "args": [*self._container["command"], *self._container["args"]],
            "env": [f"{name}={value}" for name, value in variables.items()],
            "cwd": "/",
            "capabilities": {},
            "noNewPrivileges": not rights["allowPrivilegeEscalation"],
        }
        ours = self._mounts()
        theirs = [
            mount for mount in given["mounts"] if mount["destination"] not in {each["destination"] for each in ours}
        ]
        linux = given["linux"]
        if self._around.network is not None:
            spaces = [each for each in linux["namespaces"] if each["type"] != "network"]
            linux |= {"namespaces": [*spaces, {"type": "network", "path": str(self._around.network)}]}
        return given | {
            "linux": linux,
            "process": process,
            "root": {"path": str(root), "readonly": rights["readOnlyRootFilesystem"]},
            "mounts": theirs + ours,
        }

    def _mounts(self) -> list[Json]:
        volumes = {volume["name"]: volume for volume in self._spec["volumes"]}
        hosts = self._folder / "hosts"
        hosts.write_text(HOSTS)
        mounts = [self._mount(volumes[each["name"]], each) for each in self._container["volumeMounts"]]
        message = _bind(self._message_file, self._container["terminationMessagePath"], "rw")
        return [*mounts, _bind(hosts, "/etc/hosts", "ro"), message]

    @property
    def _message_file(self) -> Path:
        return self._folder / "termination-message"

    def _mount(self, volume: Json, mount: Json) -> Json:
        inside = mount["mountPath"]
        match volume:
            case {"persistentVolumeClaim": {"claimName": claim}}:
                return _bind(self._around.claims[claim], inside, "rw")
            case {"configMap": {"name": name}}:
                folder = self._folder_of(volume)
                for file, content in self._around.config_maps[name].items():
                    (folder / file).write_text(content)
                return _bind(folder, inside, "ro")
            case {"emptyDir": {"medium": "Memory", "sizeLimit": size}}:
                options = ["nosuid", "nodev", "mode=1777", f"size={size.removesuffix('i')}"]
                return {"destination": inside, "type": "tmpfs", "source": "shm", "options": options}
            case {"emptyDir": _}:
                folder = self._folder_of(volume)
                group = self._spec["securityContext"]["fsGroup"]
                os.chown(folder, 0, group)
                folder.chmod(0o2777)
                return _bind(folder, inside, "rw")
        raise ValueError(f"no such volume is known here: {volume}")

    def _folder_of(self, volume: Json) -> Path:
        folder = self._folder / "volumes" / str(volume["name"])
        folder.mkdir(parents=True)
        return folder


def _bind(source: Path, destination: str, access: str) -> Json:
    return {"destination": destination, "type": "bind", "source": str(source), "options": ["rbind", access]}
