"""Runs on the testbed: a small spec, pods that say what the real programs would, and looks at what became of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from selfalign_api.kubectl_yaml import read_yaml
from selfalign_api.outcome import pack_steps
from testbed.administrator import Administrator
from testbed.cluster import Cluster
from testbed.scripts import Rule, script, script_by_label
from testbed.waiting import until

GROUP, VERSION, PLURAL = "selfalign.dev", "v1alpha1", "selfalignmentruns"
STEPS = [("i1-generate", "generate", 1), ("i1-train", "train", 1), ("i1-evaluate", "evaluate", 1)]
STEP, ATTEMPT, COLLECT = "selfalign.dev/step", "selfalign.dev/attempt", "selfalign.dev/collect"
CHECKS = {"win": {"value": 0.61, "low": 0.58, "high": 0.64, "n": 500}}


def said_by_accept(steps: list[tuple[str, str, int]] = STEPS) -> dict[str, Any]:
    """What the accept step says at its end."""
    return {
        "step": "accept",
        "attempt": 1,
        "digest": "sha256:" + "5" * 64,
        "version": "0.1.0",
        "model": {"url": "file:///model", "revision": "sha256:" + "6" * 64},
        "storage": "file:///runs/x",
        "steps": pack_steps(steps),
    }


def said_by_step() -> str:
    """What any other step says; the step's name is the pod's label."""
    result = json.dumps({"pairs": 3533, "checks": CHECKS})
    head = f'"step": "$({STEP})", "digest": "sha256:1", "attempt": $({ATTEMPT})'
    return f'{{{head}, "result": {result}}}'


GOES_WELL = (Rule(script(message=said_by_step())), Rule(script(message=said_by_accept()), where={STEP: "accept"}))


def step_is(step: str, **annotations: Any) -> Rule:
    """What the pods of one step do instead."""
    return Rule(script(**annotations), where={STEP: step})


def attempt_is(step: str, attempt: int, **annotations: Any) -> Rule:
    """What the pods of one attempt do instead."""
    return Rule(script(**annotations), where={STEP: step, ATTEMPT: str(attempt)})


def run(name: str, *rules: Rule, compute: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    """A run whose pods go well, but for `rules`."""
    template: dict[str, Any] = {"metadata": {"annotations": script_by_label(*GOES_WELL, *rules)}}
    given = {"device": "CPU", "podTemplate": template} | (compute or {})
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "SelfAlignmentRun",
        "metadata": {"name": name},
        "spec": {
            "recipe": "sao",
            "model": {"url": "s3://models/tiny"},
            "storage": {"url": "s3://runs"},
            "failurePolicy": {"backoffSeconds": 0, "maxBackoffSeconds": 1},
            "compute": given,
        }
        | spec,
    }


def played(file: Path, *rules: Rule) -> dict[str, Any]:
    """The run of a file, its pods played: they go well, but for `rules`."""
    manifest: dict[str, Any] = read_yaml(file.read_text(), file.name)
    template = {"metadata": {"annotations": script_by_label(*GOES_WELL, *rules)}}
    manifest["spec"]["compute"] |= {"podTemplate": template}
    return manifest


class Run:
    """A run in the cluster."""

    def __init__(self, cluster: Administrator, namespace: str, manifest: dict[str, Any]) -> None:
        self.cluster, self.namespace, self.name = cluster, namespace, manifest["metadata"]["name"]
        made = self.cluster.custom.create_namespaced_custom_object(GROUP, VERSION, namespace, PLURAL, manifest)
        self.uid: str = made["metadata"]["uid"]

    def read(self) -> dict[str, Any]:
        """The object as it is now."""
        found: dict[str, Any] = self.cluster.custom.get_namespaced_custom_object(
            GROUP, VERSION, self.namespace, PLURAL, self.name
        )
        return found

    @property
    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.read().get("status", {})
        return status

    def patch(self, body: dict[str, Any]) -> None:
        """A person's edit."""
        self.cluster.custom.patch_namespaced_custom_object(
            GROUP, VERSION, self.namespace, PLURAL, self.name, body, _content_type="application/merge-patch+json"
        )

    def delete(self) -> None:
        self.cluster.custom.delete_namespaced_custom_object(GROUP, VERSION, self.namespace, PLURAL, self.name)

    def condition(self, kind: str) -> dict[str, Any]:
        """The condition of that type; {} while there is none."""
        found = [each for each in self.status.get("conditions", []) if each["type"] == kind]
        return found[0] if found else {}

    def until(self, kind: str, status: str, reason: str | None = None, seconds: float = 60) -> dict[str, Any]:
        """The condition, once it is so."""

        def look() -> dict[str, Any] | None:
            found = self.condition(kind)
            fits = found.get("status") == status and reason in (None, found.get("reason"))
            return found if fits else None

        try:
            return until(look, f"{kind}={status} {reason or ''} of {self.name}", seconds)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; it has {json.dumps(self.status, indent=1)}") from None

    def step(self, name: str) -> dict[str, Any]:
        """The step's status; {} before it is planned."""
        return next((step for step in self.status.get("steps", []) if step["name"] == name), {})

    def until_step(self, name: str, state: str, attempts: int = 1, seconds: float = 60) -> dict[str, Any]:
        """The step's status once it is in that state, in that attempt or a later one."""

        def look() -> dict[str, Any] | None:
            step = self.step(name)
            return step if step.get("state") == state and step.get("attempts", 0) >= attempts else None

        try:
            return until(look, f"step {name} {state} (attempt {attempts}) of {self.name}", seconds)
        except TimeoutError as error:
            raise TimeoutError(f"{error}; it has {json.dumps(self.status, indent=1)}") from None

    def jobs(self) -> list[Any]:
        """The Jobs of the run, oldest first."""
        labels = f"selfalign.dev/run-uid={self.uid}"
        found = self.cluster.batch.list_namespaced_job(self.namespace, label_selector=labels).items
        return sorted(found, key=lambda job: (job.metadata.creation_timestamp, job.metadata.name))

    def pods(self, step: str) -> list[Any]:
        """The run's pods of a step."""
        labels = f"selfalign.dev/run-uid={self.uid},{STEP}={step}"
        found: list[Any] = self.cluster.core.list_namespaced_pod(self.namespace, label_selector=labels).items
        return found

    def events(self) -> list[str]:
        """Reasons of the events about the run, in the order of their time."""
        found = self.cluster.core.list_namespaced_event(
            self.namespace, field_selector=f"involvedObject.name={self.name},involvedObject.kind=SelfAlignmentRun"
        ).items
        return [event.reason for event in sorted(found, key=lambda each: each.event_time or each.last_timestamp)]


def finish(cluster: Cluster, made: Run, step: str) -> None:
    """Ends the pods of a step that hangs as a program that is done does."""
    message = json.dumps({"step": step, "digest": "sha256:1", "attempt": 1, "result": {}})
    for pod in made.pods(step):
        cluster.finish_pod(made.namespace, pod.metadata.name, message=message)


def a_healthy_run_completes(cluster: Administrator, namespace: str, name: str) -> None:
    """Whatever else is on the cluster."""
    Run(cluster, namespace, run(name)).until("Complete", "True", seconds=180)  # a busy machine beside a thousand others
