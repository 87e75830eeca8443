"""The example run's pods as the operator writes them, each as a container of its image."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from selfalign_api.kubectl_yaml import read_yaml
from selfalign_api.load import parse
from selfalign_api.operator_config import Images, OperatorConfig
from selfalign_api.run import SelfAlignmentRun
from selfalign_jobs.places.store import Folder
from selfalign_operator.effective import Attempt
from selfalign_operator.render import PLACEHOLDER_TOKEN, as_view
from selfalign_operator.resolve import effective_run
from selfalign_operator.workloads.attempt import attempt_workload
from selfalign_operator.workloads.objects import run_objects
from selfalign_operator.workloads.pod import USER_ID
from testbed.container import Container, Surroundings
from testbed.images import GENERATE, TRAIN
from testbed.standing import CLAIM, EXAMPLE_MODEL, REPOSITORY

EXAMPLE = REPOSITORY / "examples" / "sao-tiny.yaml"
CONFIG = OperatorConfig(images=Images(generate=GENERATE.repository, train=TRAIN.repository))
ACCEPT = Attempt(step="accept", kind="accept", iteration=0, number=1)
Roots = Mapping[str, tuple[Path, dict[str, str]]]


class TinyRun:
    """examples/sao-tiny.yaml with fewer personas. Its claim is in `folder`, and what the containers leave."""

    def __init__(self, roots: Roots, folder: Path, personas: int) -> None:
        self._roots, self._folder = roots, folder
        self.claim = folder / CLAIM
        shutil.copytree(EXAMPLE_MODEL, self.claim / EXAMPLE_MODEL.name)
        os.chown(self.claim, 0, USER_ID)  # as fsGroup does
        self.claim.chmod(0o2775)
        self._effective = effective_run(as_view(_run(personas)), CONFIG)
        self._containers: list[Container] = []

    @property
    def results(self) -> Folder:
        """What it has written."""
        return Folder.open((self.claim / "runs" / self._effective.namespace / self._effective.name).as_uri())

    def start(self, attempt: Attempt, program: str | None = None) -> Container:
        """The pod of an attempt; with a Python program in place of the step's where one is given."""
        pod: dict[str, Any] = attempt_workload(self._effective, attempt)["spec"]["template"]
        if program is not None:
            pod["spec"]["containers"][0] |= {"command": ["python", "-c", program], "args": []}
        root, variables = self._roots[pod["spec"]["containers"][0]["image"]]
        objects = run_objects(self._effective, PLACEHOLDER_TOKEN)
        maps = {each["metadata"]["name"]: each["data"] for each in objects if each["kind"] == "ConfigMap"}
        around = Surroundings(variables, maps, claims={CLAIM: self.claim})
        self._containers.append(Container(pod, root, around, self._folder / f"pod-{len(self._containers)}"))
        return self._containers[-1]

    def stop(self) -> None:
        """Ends what still runs of it."""
        for container in self._containers:
            container.stop()


def _run(personas: int) -> SelfAlignmentRun:
    manifest = read_yaml(EXAMPLE.read_text(), EXAMPLE.name)
    manifest["spec"]["data"]["personas"]["count"] = personas
    return parse(SelfAlignmentRun, manifest, EXAMPLE.name)
