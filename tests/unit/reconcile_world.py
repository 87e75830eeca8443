"""A cluster in a few lines, for the reconciliation: objects, a kubelet that is told what to do, and a cache that may lag.

The operator's turn can be cut after any of its writes, and its status write meets a conflict when it was computed from
an old object, as on a real apiserver.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from selfalign_api.load import parse_spec
from selfalign_api.operator_config import Images, OperatorConfig
from selfalign_api.outcome import pack_steps
from selfalign_api.run_file import GenerationMeans, Means, TrainingMeans
from selfalign_api.status import Condition, Status, read_status
from selfalign_operator.effective import Attempt, EffectiveRun, Frozen, Platform
from selfalign_operator.reconcile import decide
from selfalign_operator.views import ClaimView, Manifest, Observed, PodView, ProgressView, RunView, WorkloadView

CONFIG = OperatorConfig(images=Images(generate="generate:1", train="train:1"))
STEPS = [("i1-generate", "generate", 1), ("i1-train", "train", 1), ("i1-evaluate", "evaluate", 1)]
SPEC: dict[str, Any] = {"recipe": "sao", "model": {"url": "pvc://c/model"}, "storage": {"url": "pvc://c/runs"}}
START = datetime(2026, 11, 24, 10, tzinfo=UTC)
UID = "6f1c3f6a-0000-4000-8000-000000000001"


class FakeRender:
    """Manifests with nothing in them but what the apply stage and the world read."""

    def effective(self, run: RunView, config: OperatorConfig, frozen: Frozen | None) -> EffectiveRun:
        cpu = GenerationMeans(device="CPU")
        means = Means(generation=cpu, training=TrainingMeans(device="CPU"), evaluation=cpu)
        return EffectiveRun(
            namespace=run.namespace,
            name=run.name,
            uid=run.uid,
            labels={},
            annotations={},
            spec=parse_spec(dict(run.spec)),
            means=means,
            storage="file:///mnt/c/runs/ns/run",
            reuse_from=(),
            mounts={"c": "/mnt/c"},
            platform=Platform(compute_digest="sha256:0", images=config.images, gpu_resource_name="nvidia.com/gpu"),
            config=config,
        )

    def run_objects(self, effective: EffectiveRun) -> tuple[Manifest, ...]:
        return (
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": f"{effective.name}-plan"},
                "data": {"run.json": "{}"},
            },
        )

    def config_map_name(self, effective: EffectiveRun) -> str:
        return f"{effective.name}-plan"

    def workload(self, effective: EffectiveRun, attempt: Attempt) -> Manifest:
        name = f"{effective.name}-{attempt.step}-{attempt.number}" + ("-c" if attempt.collect else "")
        kind, queued = (
            {"apiVersion": "batch/v1", "kind": "Job"},
            effective.spec.compute and effective.spec.compute.queue_name,
        )
        return kind | {"metadata": {"name": name}, "spec": {"suspend": queued is not None}, "attempt": attempt}

    def progress_url(self, effective: EffectiveRun, workload: WorkloadView) -> str:
        return f"http://{workload.name}-0:8080/progress"


def summary(step: str, attempt: int = 1, steps: list[tuple[str, str, int]] = STEPS, **result: Any) -> str:
    """The termination message of a step that is done; of accept, with these steps for its plan."""
    body: dict[str, Any] = {"step": step, "digest": "sha256:1", "attempt": attempt, "result": result}
    if step == "accept":
        body |= {"version": "0.1.0", "model": {"url": "pvc://c/model", "revision": "r"}, "steps": pack_steps(steps)}
    return json.dumps(body)


@dataclass
class World:
    """One run and its children; times in seconds from START."""

    spec: dict[str, Any] = field(default_factory=lambda: dict(SPEC))
    annotations: dict[str, str] = field(default_factory=dict)
    status: Status = field(default_factory=Status)
    now: datetime = START
    version: int = 1
    generation: int = 1
    jobs: dict[str, WorkloadView] = field(default_factory=dict)
    pods: dict[str, tuple[PodView, ...]] = field(default_factory=dict)
    progress: ProgressView | None = None
    extra: dict[str, Any] = field(default_factory=dict)  # further fields of Observed
    made: list[str] = field(default_factory=list)  # names of workloads, in the order of their making
    events: list[str] = field(default_factory=list)
    writes: int = 0
    written: datetime = START  # the status, last
    gone: bool = False  # the run was deleted by its TTL
    steps: list[tuple[str, str, int]] = field(default_factory=lambda: STEPS)  # of its plan
    results: dict[str, dict[str, Any]] = field(default_factory=dict)  # by step, where it says any
    foreign: tuple[WorkloadView, ...] = ()  # with our labels, whoever owns them
    _seen: list[tuple[int, Status, dict[str, WorkloadView]]] = field(default_factory=list)

    # --- the operator ---------------------------------------------------------------------------------------------------

    def remember(self) -> None:
        """A cache may still show this moment later."""
        self._seen = [*self._seen[-3:], (self.version, self.status, dict(self.jobs))]

    def forget(self) -> None:
        """Every cache is up to date."""
        self._seen = []

    def observed(self, back: int = 0) -> Observed:
        """What the operator sees: now, or a moment ago."""
        version, status, jobs = self.version, self.status, self.jobs
        if back and self._seen:
            version, status, jobs = self._seen[-min(back, len(self._seen))]
        step = next((step for step in status.steps if step.workload is not None and step.state == "Running"), None)
        name = step.workload.name if step is not None and step.workload is not None else None
        if name is not None and name not in jobs and name in self.jobs:
            jobs = jobs | {name: self.jobs[name]}  # asked for by name before it counts as lost
        read, problems = read_status(json.loads(status.model_dump_json(exclude_none=True)))
        run = RunView(
            namespace="ns", name="run", uid=UID, generation=self.generation, resource_version=str(version),
            created=START, deleting=False, labels={}, annotations=self.annotations, spec=self.spec, status=read,
            status_problems=problems,
        )  # fmt: skip
        pods = self.pods.get(name, ()) if name else ()
        accept = read.step("accept")
        looked_up = accept is None or (accept.workload is None and accept.state not in ("Succeeded", "Reused"))
        claims = {"claims": {"c": ClaimView("c", ("ReadWriteMany",))}} if looked_up else {}
        return Observed(
            run, self.now, (*jobs.values(), *self.foreign), pods, progress=self.progress, **(claims | self.extra)
        )

    def turn(self, back: int = 0, cut: str | None = None) -> float | None:
        """Observe, decide, apply; `cut` ends it after the creations or after the status. Seconds until it looks again."""
        seen = self.observed(back)
        decision = decide(seen, CONFIG, FakeRender())
        assert decide(seen, CONFIG, FakeRender()) == decision
        status = decision.status
        for manifest in decision.creations:
            if manifest["kind"] == "Job":
                view = self._create(manifest)
                if decision.workload_of is not None:
                    status = with_uid(status, decision.workload_of, view.uid)
        if cut == "created":
            return 0
        due = decision.urgent or self.now - self.written >= timedelta(seconds=30)
        if status != seen.run.status and due:
            if seen.run.resource_version != str(self.version):
                return 0  # 409: computed from an old object
            self.status, self.version, self.writes = status, self.version + 1, self.writes + 1
            self.written = self.now
        if cut == "status":
            return 0
        for deletion in decision.deletions:
            job = self.jobs.get(deletion.name)
            if job is not None and job.uid == deletion.uid:
                del self.jobs[deletion.name]
                self.pods.pop(deletion.name, None)
        self.gone = self.gone or decision.delete_run
        self.events += [event.reason for event in decision.events]
        return decision.look_again_seconds

    def settle(self, turns: int = 30) -> None:
        """Turns until nothing changes any more."""
        for _ in range(turns):
            before = (self.status, dict(self.jobs))
            self.turn()
            if before == (self.status, dict(self.jobs)):
                return
        raise AssertionError("the operator never comes to rest")

    def _create(self, manifest: Manifest) -> WorkloadView:
        name, attempt = manifest["metadata"]["name"], manifest["attempt"]
        if name not in self.jobs:
            uid = f"uid-{len(self.made)}"
            self.made.append(name)
            self.jobs[name] = WorkloadView(
                "Job", name, uid, UID, attempt.step, attempt.number, attempt.collect, self.now, False, False, "Active"
            )  # fmt: skip
        return self.jobs[name]

    # --- the cluster ----------------------------------------------------------------------------------------------------

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def active(self) -> list[WorkloadView]:
        return [job for job in self.jobs.values() if job.phase == "Active"]

    def pod(self, job: WorkloadView, **fields: Any) -> None:
        """Index 0 of a job is now like this."""
        pod = PodView(f"{job.name}-0-x", "p", 0, "Running", self.now)
        self.pods[job.name] = (replace(pod, **({"node": "node-1"} | fields)),)

    def run(self, job: WorkloadView) -> None:
        self.jobs[job.name] = replace(job, active=1, ready=1, started=self.now)
        self.pod(job, ready=True)

    def complete(self, job: WorkloadView, message: str | None = None) -> None:
        self.jobs[job.name] = replace(job, phase="Complete", ready=0, active=0)
        said = message or summary(job.step, job.attempt, self.steps, **self.results.get(job.step, {}))
        self.pod(job, phase="Succeeded", exit_code=0, exit_reason="Completed", termination_message=said)

    def fail(self, job: WorkloadView, code: int = 1, **fields: Any) -> None:
        self.jobs[job.name] = replace(job, phase="Failed", ready=0, active=0, reason="BackoffLimitExceeded")
        said = {"exit_code": code, "exit_reason": "Error", "termination_message": '{"error": "it broke"}'}
        self.pod(job, phase="Failed", **(said | fields))

    def lose_pods(self, job: WorkloadView) -> None:
        self.pods.pop(job.name, None)

    def change(self, **fields: Any) -> None:
        """A person edits the spec."""
        self.spec = {**self.spec, **fields}
        self.generation += 1
        self.version += 1

    def until(self, step: str) -> WorkloadView:
        """Everything goes well until that step's workload is active."""
        for _ in range(40):
            self.settle()
            (job,) = self.active()
            if job.step == step:
                return job
            self.complete(job)
        raise AssertionError(f"{step} never began")


def with_uid(status: Status, step: str, uid: str) -> Status:
    """What apply does with the uid that the apiserver gave."""
    steps = tuple(
        each.model_copy(update={"workload": each.workload.model_copy(update={"uid": uid})})
        if each.name == step and each.workload is not None
        else each
        for each in status.steps
    )
    return status.model_copy(update={"steps": steps})


def reason(world: World, kind: str) -> tuple[str, str]:
    """Status and reason of a condition."""
    found = world.status.condition(kind)
    assert isinstance(found, Condition)
    return found.status, found.reason


def message(world: World, kind: str = "Progressing") -> str:
    found = world.status.condition(kind)
    assert found is not None
    return found.message


def finish(world: World) -> None:
    """All steps go well."""
    for _ in range(10):
        world.settle()
        for job in world.active():
            world.complete(job)
    world.settle()
