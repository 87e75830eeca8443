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


class Pods:
    """The pods of runs as the operator writes them. The claim of the examples is in `folder`, and what they leave."""

    def __init__(self, roots: Roots, folder: Path, config: OperatorConfig, network: Path | None = None) -> None:
        self._roots, self._folder, self._config, self._network = roots, folder, config, network
        self.claim = folder / CLAIM
        shutil.copytree(EXAMPLE_MODEL, self.claim / EXAMPLE_MODEL.name)
        os.chown(self.claim, 0, USER_ID)  # as fsGroup does
        self.claim.chmod(0o2775)
        self._containers: list[Container] = []

    def start(
        self,
        run: SelfAlignmentRun,
        attempt: Attempt,
        program: str | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> Container:
        """The pod of an attempt, with what Secrets or devices would add to its `variables`.

        With a Python program in place of the step's where one is given.
        """
        effective = effective_run(as_view(run), self._config)
        pod: dict[str, Any] = attempt_workload(effective, attempt)["spec"]["template"]
        if program is not None:
            pod["spec"]["containers"][0] |= {"command": ["python", "-c", program], "args": []}
        root, of_image = self._roots[pod["spec"]["containers"][0]["image"]]
        around = Surroundings(
            {**of_image, **(variables or {})}, config_maps(run, self._config), {CLAIM: self.claim}, self._network
        )
        self._containers.append(Container(pod, root, around, self._folder / f"pod-{len(self._containers)}"))
        return self._containers[-1]

    def stop(self) -> None:
        """Ends what still runs of them."""
        for container in self._containers:
            container.stop()


def config_maps(run: SelfAlignmentRun, config: OperatorConfig) -> dict[str, dict[str, str]]:
    """The data of a run's ConfigMaps, by name."""
    objects = run_objects(effective_run(as_view(run), config), PLACEHOLDER_TOKEN)
    return {each["metadata"]["name"]: each["data"] for each in objects if each["kind"] == "ConfigMap"}


class TinyRun:
    """examples/sao-tiny.yaml with fewer personas."""

    def __init__(self, roots: Roots, folder: Path, personas: int) -> None:
        self._pods, self._run = Pods(roots, folder, CONFIG), _run(personas)
        self.claim = self._pods.claim
        self.stop = self._pods.stop

    @property
    def results(self) -> Folder:
        """What it has written."""
        about = self._run.metadata
        return Folder.open((self.claim / "runs" / about.namespace / about.name).as_uri())

    def start(self, attempt: Attempt, program: str | None = None) -> Container:
        """The pod of an attempt."""
        return self._pods.start(self._run, attempt, program)


def _run(personas: int) -> SelfAlignmentRun:
    manifest = read_yaml(EXAMPLE.read_text(), EXAMPLE.name)
    manifest["spec"]["data"]["personas"]["count"] = personas
    return parse(SelfAlignmentRun, manifest, EXAMPLE.name)
