"""The operator's client on a real apiserver: server-side apply, dry runs, preconditions, whose a child is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from selfalign_api.status import Status, StepStatus, read_status
from selfalign_operator.apply import Applied, Applier
from selfalign_operator.cache import Cache
from selfalign_operator.decision import Decision, Deletion, RunEvent
from selfalign_operator.kube.client import ApiError, Connection, Kube
from selfalign_operator.kube.resources import CONFIG_MAP, JOB, RUN
from testbed.cluster import Cluster

SPEC = {"recipe": "sao", "model": {"url": "hf://org/model"}, "storage": {"url": "s3://bucket/runs"}}
STATUS = Status(state="Running", steps=(StepStatus(name="accept", kind="accept"),))


class Deaf:
    def answered(self, verb: str, code: str) -> None: ...
    def frame(self, collection: Any) -> None: ...
    def page(self, collection: Any, first: bool, body: Any) -> None: ...


class Scene:
    """A run in a namespace, and what the operator uses to write about it."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self.kube = kube
        self.namespace = namespace
        self.cache = Cache()
        self.applier = Applier(kube, self.cache, "test")

    async def make(self) -> None:
        body = {"apiVersion": RUN.api_version, "kind": RUN.kind, "metadata": {"name": "run"}, "spec": SPEC}
        await self.kube.create(RUN, self.namespace, body)

    async def object(self) -> dict[str, Any]:
        found = await self.kube.get(RUN, self.namespace, "run")
        assert found is not None
        return found

    async def view(self) -> Any:
        self.cache.put(await self.object())
        return self.cache.run((self.namespace, "run"))

    async def apply(self, status: Status = STATUS, **parts: Any) -> Applied:
        return await self.applier.apply(await self.view(), Decision(status=status, **parts))

    async def job(self, name: str = "job", owner: str | None = None) -> dict[str, Any]:
        uid = owner or (await self.view()).uid
        labels = {"selfalign.dev/run-uid": uid, "selfalign.dev/step": "accept", "selfalign.dev/attempt": "1"}
        reference = {"apiVersion": RUN.api_version, "kind": RUN.kind, "name": "run", "uid": uid, "controller": True}
        pods = {"restartPolicy": "Never", "containers": [{"name": "step", "image": "example.invalid/step"}]}
        metadata = {"name": name, "labels": labels, "ownerReferences": [reference]}
        # Managed by nobody: the Job controller leaves it alone, so only these tests write to it.
        spec = {"suspend": True, "managedBy": "example.invalid/nobody", "template": {"spec": pods}}
        return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


@pytest.fixture
def scene(cluster: Cluster, namespace: str) -> Callable[[Callable[[Scene], Awaitable[None]]], None]:
    def play(use: Callable[[Scene], Awaitable[None]]) -> None:
        async def run() -> None:
            connection = Connection(cluster.kubeconfig, Deaf())
            await connection.open()
            try:
                made = Scene(Kube(connection, lambda: None), namespace)
                await made.make()
                await use(made)
            finally:
                await connection.close()

        asyncio.run(run())

    return play


Play = Callable[[Callable[[Scene], Awaitable[None]]], None]


def test_a_status_is_applied_and_read_again_as_it_was(scene: Play) -> None:
    async def use(made: Scene) -> None:
        await made.apply()
        found = await made.object()
        assert read_status(found["status"]) == (STATUS, ())
        (ours,) = [each for each in found["metadata"]["managedFields"] if each.get("subresource") == "status"]
        assert (ours["manager"], ours["operation"]) == ("selfalign-operator", "Apply")

    scene(use)


def test_a_status_computed_from_an_old_object_is_a_conflict(scene: Play) -> None:
    async def use(made: Scene) -> None:
        old = await made.view()
        await made.apply()
        with pytest.raises(ApiError) as refused:
            await made.applier.apply(old, Decision(status=Status(state="Failed")))
        assert (refused.value.code, refused.value.reason) == (409, "Conflict")

    scene(use)


def test_fields_that_left_the_status_go_and_foreign_ones_too(scene: Play, cluster: Cluster, namespace: str) -> None:
    async def use(made: Scene) -> None:
        await made.apply(STATUS.model_copy(update={"progress": "5%"}))
        bogus = {"steps": [{"name": "bogus", "kind": "train", "attempts": 3}], "state": "Failed"}
        body = {"apiVersion": RUN.api_version, "kind": RUN.kind, "metadata": {"name": "run"}, "status": bogus}
        by_hand = ("apply", "--server-side", "--force-conflicts", "--subresource=status", "-f-", f"-n={namespace}")
        await asyncio.to_thread(cluster.kubectl, *by_hand, stdin=json.dumps(body))
        await made.apply()
        assert read_status((await made.object())["status"]) == (STATUS, ())
        await made.apply(STATUS.model_copy(update={"progress": "6%"}))
        await made.apply()
        assert (await made.object())["status"].get("progress") is None

    scene(use)


def test_an_unchanged_status_makes_no_new_version(scene: Play) -> None:
    async def use(made: Scene) -> None:
        await made.apply()
        before = (await made.object())["metadata"]["resourceVersion"]
        assert (await made.apply()).status is None
        assert (await made.object())["metadata"]["resourceVersion"] == before

    scene(use)


def test_a_dry_run_makes_nothing_and_says_what_is_wrong(scene: Play) -> None:
    async def use(made: Scene) -> None:
        wrong = await made.job()
        wrong["spec"]["template"]["spec"]["containers"][0]["name"] = "NO NAME"
        applied = await made.apply(dry_runs=(wrong,))
        assert applied.refusals[0].code == 422
        assert "spec.template.spec.containers[0].name" in applied.refusals[0].message
        assert (await made.apply(dry_runs=(await made.job(),))).refusals == ()
        assert await made.kube.get(JOB, made.namespace, "job") is None

    scene(use)


def test_a_child_is_made_once_and_taken_when_it_is_ours(scene: Play) -> None:
    async def use(made: Scene) -> None:
        body = await made.job()
        await made.apply(creations=(body,))
        first = await made.kube.get(JOB, made.namespace, "job")
        assert (await made.apply(dry_runs=(body,), creations=(body,))).refusals == ()
        assert await made.kube.get(JOB, made.namespace, "job") == first
        assert [each.name for each in made.cache.workloads((await made.view()).uid)] == ["job"]

    scene(use)


def test_a_child_of_another_is_refused(scene: Play) -> None:
    async def use(made: Scene) -> None:
        other = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "other"}}
        owner = (await made.kube.create(CONFIG_MAP, made.namespace, other))["metadata"]["uid"]
        theirs = await made.job(owner=owner)  # an owner that is there: else the garbage collector takes the Job away
        reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "other", "uid": owner, "controller": True}
        theirs["metadata"]["ownerReferences"] = [reference]
        await made.kube.create(JOB, made.namespace, theirs)
        applied = await made.apply(creations=(await made.job(),))
        assert applied.refusals[0].code == 409

    scene(use)


def test_a_kind_that_is_not_installed_is_refused(scene: Play) -> None:
    async def use(made: Scene) -> None:
        body = {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": {"name": "ray"}, "spec": {}}
        assert (await made.apply(creations=(body,))).refusals[0].code == 404

    scene(use)


def test_a_quota_is_a_refusal_that_names_it(scene: Play, cluster: Cluster, namespace: str) -> None:
    async def use(made: Scene) -> None:
        await asyncio.to_thread(
            cluster.kubectl, "create", "quota", "none", "--hard=count/jobs.batch=0", f"-n={namespace}"
        )
        body = await made.job()
        applied = await made.apply(creations=(body,))
        while not applied.refusals:  # the quota's controller fills in what is used before it counts
            await made.kube.delete(JOB, namespace, "job", made.cache.workloads((await made.view()).uid)[0].uid)
            applied = await made.apply(creations=(body,))
        assert (applied.refusals[0].code, "exceeded quota" in applied.refusals[0].message) == (403, True)

    scene(use)


def test_only_that_very_object_is_deleted(scene: Play) -> None:
    async def use(made: Scene) -> None:
        await made.apply(creations=(await made.job(),))
        found = await made.kube.get(JOB, made.namespace, "job")
        assert found is not None
        await made.apply(deletions=(Deletion("batch/v1", "Job", "job", "00000000-0000-4000-8000-000000000000"),))
        assert await made.kube.get(JOB, made.namespace, "job") is not None
        await made.apply(deletions=(Deletion("batch/v1", "Job", "job", found["metadata"]["uid"]),))
        left = await made.kube.get(JOB, made.namespace, "job")
        assert left is None or "deletionTimestamp" in left["metadata"]

    scene(use)


def test_an_event_is_shown_by_kubectl_once(scene: Play, cluster: Cluster, namespace: str) -> None:
    async def use(made: Scene) -> None:
        run = await made.view()
        event = RunEvent("Warning", "Unschedulable", "pod p finds no node: Insufficient nvidia.com/gpu")
        for _ in range(2):
            await made.applier.apply(run, Decision(status=run.status, events=(event,)))
        shown = await asyncio.to_thread(
            cluster.kubectl, "events", "--for=selfalignmentrun/run", f"-n={namespace}", "--no-headers"
        )
        (line,) = shown.strip().splitlines()
        assert "Warning" in line
        assert "Insufficient nvidia.com/gpu" in line

    scene(use)
