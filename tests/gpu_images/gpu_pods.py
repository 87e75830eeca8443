"""The pods of the example runs on the images for clusters with GPUs, on a node whose driver is played."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import played
import yaml
from pods import Pods, config_maps

from selfalign_api.load import load_run, parse
from selfalign_api.operator_config import OperatorConfig
from selfalign_api.run import SelfAlignmentRun
from selfalign_operator.effective import Attempt
from testbed.container import Container
from testbed.images import GENERATE_GPU, TRAIN_GPU
from testbed.standing import REPOSITORY

EXAMPLES = {file.stem: file for file in sorted((REPOSITORY / "examples").glob("sao-*.yaml"))}
VALUES = yaml.safe_load((REPOSITORY / "examples/values-gpu.yaml").read_text(encoding="utf-8"))
IMAGES = {"generate": GENERATE_GPU.repository, "train": TRAIN_GPU.repository}
CONFIG = parse(OperatorConfig, {"profiles": VALUES["profiles"], "images": IMAGES}, "")
ACCEPT = Attempt(step="accept", kind="accept", iteration=0, number=1)
GENERATE = Attempt(step="i1-generate", kind="generate", iteration=1, number=1)
TRAIN = Attempt(step="i1-train", kind="train", iteration=1, number=1)
SECONDS = 600.0  # for a pod; never part of what is asserted


class Examples:
    """The runs of examples/, by the names of their files."""

    def __init__(self, pods: Pods, found: Mapping[str, str]) -> None:
        self._pods, self._found = pods, found
        self._driver_is_made = False
        self._accepted: dict[str, Container] = {}

    def accept(self, name: str) -> Container:
        """The pod of accept, at its end, started once. It has no GPU, and its node need not have one."""
        if name not in self._accepted:
            self._accepted[name] = self._ended(self._pods.start(self._run(name), ACCEPT, variables=self._found))
        return self._accepted[name]

    def step(self, name: str, attempt: Attempt, **device: str) -> Container:
        """The pod of a step on a GPU, at its end."""
        self._make_driver()
        return self._ended(
            self._pods.start(self._run(name), attempt, variables={**self._found, **played.driver(**device)})
        )

    def program(self, program: str, attempt: Attempt, given: Mapping[str, str], **device: str) -> list[Any]:
        """What a program prints in the place of a step's, on a GPU: its lines of JSON."""
        self._make_driver()
        variables = {**self._found, **played.driver(**device), **given}
        text = f"import runpy; runpy.run_path('/mnt/selfalign/programs/{program}.py', run_name='__main__')"
        ended = self._ended(self._pods.start(self._run("sao-llama-3-8b"), attempt, text, variables))
        assert ended.wait(0) == 0, ended.log[-4000:]
        return [json.loads(line) for line in ended.log.splitlines() if line.startswith("{")]

    def run_files(self, names: list[str]) -> str:
        """A folder of the pods with the run files of those runs."""
        folder = self._pods.claim / "run-files"
        folder.mkdir(exist_ok=True)
        for name in names:
            (maps,) = config_maps(self._run(name), CONFIG).values()
            (folder / f"{name}.json").write_text(maps["run.json"])
        return "/mnt/selfalign/run-files"

    def _run(self, name: str) -> SelfAlignmentRun:
        return load_run(EXAMPLES[name])

    def _make_driver(self) -> None:
        """Once, by the image's own compiler."""
        if not self._driver_is_made:
            made = self._ended(self._pods.start(self._run("sao-llama-3-8b"), GENERATE, played.COMPILE))
            assert made.wait(0) == 0, made.log[-4000:]
            self._driver_is_made = True

    @staticmethod
    def _ended(container: Container) -> Container:
        container.wait(SECONDS)
        return container
