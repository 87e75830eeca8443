"""The life of a run: conditions, reasons, messages, attempts, deadlines."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from reconcile_world import CONFIG, START, FakeRender, World, summary

from selfalign_api.operator_config import OperatorConfig
from selfalign_api.status import Condition
from selfalign_operator.effective import EffectiveRun, Frozen
from selfalign_operator.reconcile import decide
from selfalign_operator.reconcile.results import told
from selfalign_operator.views import RETRY_ANNOTATION, EventView, PodView, ProgressView, Refusal, RunView


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


def test_a_run_goes_from_accepted_to_complete_one_step_after_the_other() -> None:
    world = World()
    finish(world)
    assert world.made == ["run-accept-1", "run-i1-generate-1", "run-i1-train-1", "run-i1-evaluate-1"]
    assert world.status.state == "Complete"
    assert reason(world, "Complete") == ("True", "AllStepsDone")
    assert reason(world, "Accepted") == ("True", "Accepted")
    assert reason(world, "Progressing") == ("False", "Finished")
    assert world.status.completion_time is not None


def test_a_stage_change_is_one_status_write_and_one_event() -> None:
    world = World()
    job = world.until("i1-generate")
    world.complete(job)
    writes, events = world.writes, len(world.events)
    world.settle()
    assert (world.writes - writes, world.events[events:]) == (1, ["StepSucceeded"])
    assert world.active()[0].step == "i1-train"


def test_all_conditions_are_there_from_the_first_observation() -> None:
    world = World()
    world.turn()
    assert [c.type for c in world.status.conditions] == ["Accepted", "Progressing", "Suspended", "Complete", "Failed"]


def test_a_finished_run_follows_its_generation() -> None:
    world = World()
    finish(world)
    world.change(ttlSecondsAfterFinished=3600)
    world.settle()
    assert {condition.observed_generation for condition in world.status.conditions} == {2}
    assert world.status.observed_generation == 2


def test_a_finished_run_is_deleted_after_its_ttl_and_not_before() -> None:
    world = World(spec={**World().spec, "ttlSecondsAfterFinished": 60})
    finish(world)
    assert world.turn() == pytest.approx(60)
    world.wait(61)
    world.turn()
    assert world.gone


def test_figures_and_checks_reach_the_status() -> None:
    world = World()
    job = world.until("i1-evaluate")
    checks = {"win": {"value": 0.61, "low": 0.58, "high": 0.64, "n": 500}}
    world.complete(job, summary("i1-evaluate", checks=checks, tokensPerSecond=3490.5))
    world.settle()
    (result,) = world.status.results
    assert (result.name, result.value, result.low, result.high) == ("win", "0.61", "0.58", "0.64")
    step = world.status.step("i1-evaluate")
    assert step is not None
    assert ("tokensPerSecond", "3490.5") in [(figure.name, figure.value) for figure in step.result]


def test_a_check_is_told_as_what_it_was_before_and_after() -> None:
    checks = {
        f"acc.{moment}": {"value": value} for moment, value in (("before", 0.665), ("after", 0.91), ("gain", 0.245))
    }
    assert told({"tokensPerSecond": 3, "checks": checks}) == "acc 0.665 → 0.91, acc.gain 0.245"
    assert told({"checks": {"win": {"value": 0.61}, "x.after": {"value": 1}}}) == "win 0.61, x.after 1"
    assert told({"steps": 329, "loss": 0.5}) == "steps 329, loss 0.5"


def test_suspending_ends_the_workload_and_resuming_makes_the_next_attempt_at_once_uncounted() -> None:
    world = World()
    job = world.until("i1-generate")
    world.run(job)
    world.change(suspend=True)
    world.settle()
    assert world.active() == []
    assert reason(world, "Suspended") == ("True", "SpecSuspended")
    assert world.status.state == "Suspended"
    world.change(suspend=False)
    world.settle()
    assert world.made[-1] == "run-i1-generate-2"
    step = world.status.step("i1-generate")
    assert step is not None
    assert (step.failures, step.lost_attempts[0].reason) == (0, "Suspended")
    assert reason(world, "Suspended") == ("False", "Resumed")
    assert world.events[-2:] == ["Suspended", "Resumed"]


def test_a_failed_attempt_is_tried_again_after_a_doubling_wait_and_then_the_run_fails() -> None:
    world = World(spec={**World().spec, "failurePolicy": {"maxRetriesPerStep": 2, "backoffSeconds": 10}})
    world.until("i1-train")
    waits = []
    for _ in range(3):
        world.fail(world.active()[0])
        world.turn()
        step = world.status.step("i1-train")
        assert step is not None
        if step.next_attempt_time is not None:
            waits.append(world.turn())
            world.wait(100)
            world.settle()
    assert waits == [pytest.approx(10), pytest.approx(20)]
    assert reason(world, "Failed") == ("True", "RetriesExhausted")
    assert "it broke" in message(world, "Failed")
    assert world.made[-1] == "run-i1-train-3"


def test_a_claim_that_was_not_looked_up_in_the_turn_that_accept_fails_is_not_missing() -> None:
    class WithClaim(FakeRender):
        def effective(self, run: RunView, config: OperatorConfig, frozen: Frozen | None) -> EffectiveRun:
            return replace(super().effective(run, config, frozen), mounts={"c": "/mnt/c"})

    world = World()
    world.settle()
    world.fail(world.active()[0], 64, termination_message=json.dumps({"error": "no model", "reason": "ModelNotFound"}))
    accepted = decide(world.observed(), CONFIG, WithClaim()).status.condition("Accepted")
    assert accepted is not None
    assert (accepted.reason, accepted.message) == ("ModelNotFound", "no model")


def test_exit_64_fails_the_run_at_once() -> None:
    world = World()
    world.fail(world.until("i1-train"), 64)
    world.settle()
    assert reason(world, "Failed") == ("True", "InvalidConfig")
    assert "it broke" in message(world, "Failed")


def test_a_training_that_diverged_is_a_reason_of_its_own() -> None:
    world = World()
    said = '{"error": "the training diverged", "reason": "TrainingDiverged"}'
    world.fail(world.until("i1-train"), 64, termination_message=said)
    world.settle()
    step = world.status.step("i1-train")
    assert step is not None
    assert (step.state, step.reason, step.lost_attempts[-1].reason) == (
        "Failed",
        "TrainingDiverged",
        "TrainingDiverged",
    )
    assert reason(world, "Failed") == ("True", "InvalidConfig")


def test_what_accept_says_of_a_wrong_run_is_the_reason_of_accepted() -> None:
    world = World()
    world.settle()
    said = '{"error": "spec.data.personas.url: there is no file", "reason": "DataNotFound"}'
    world.fail(world.active()[0], 64, termination_message=said)
    world.settle()
    assert reason(world, "Accepted") == ("False", "DataNotFound")
    assert reason(world, "Failed") == ("True", "InvalidConfig")


def test_the_retry_annotation_acts_once_for_each_new_value() -> None:
    world = World()
    world.fail(world.until("i1-train"), 64)
    world.settle()
    world.annotations = {RETRY_ANNOTATION: "1"}
    world.settle()
    assert world.made[-1] == "run-i1-train-2"
    assert reason(world, "Failed") == ("False", "NotFailed")
    world.fail(world.active()[0], 64)
    world.settle()
    assert reason(world, "Failed") == ("True", "InvalidConfig")
    assert world.made[-1] == "run-i1-train-2"


def test_a_held_run_goes_on_after_it_was_suspended_and_resumed() -> None:
    policy = {"maxRetriesPerStep": 0, "afterRetries": "Hold"}
    world = World(spec={**World().spec, "failurePolicy": policy})
    world.fail(world.until("i1-train"))
    world.settle()
    assert (world.status.state, reason(world, "Failed")) == ("Held", ("False", "NotFailed"))
    world.change(suspend=True)
    world.settle()
    world.change(suspend=False)
    world.settle()
    assert world.made[-1] == "run-i1-train-2"


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        ({"disruption": "EvictionByEvictionAPI", "exit_code": 143}, ("Disrupted", False)),
        ({"status_reason": "Evicted"}, ("Disrupted", False)),
        ({"exit_code": 137, "exit_reason": "OOMKilled"}, ("OutOfMemory", True)),
        ({"exit_code": 75}, ("Stopped", True)),
        ({"exit_code": 1}, ("StepFailed", True)),
    ],
)
def test_how_an_attempt_was_lost(pod: dict[str, object], expected: tuple[str, bool]) -> None:
    world = World()
    job = world.until("i1-train")
    world.fail(job)
    world.pod(job, phase="Failed", **pod)
    world.turn()
    step = world.status.step("i1-train")
    assert step is not None
    lost = step.lost_attempts[-1]
    assert ((lost.reason, lost.counted), lost.node) == (expected, "node-1")


def test_without_its_pods_a_job_tells_by_its_condition_why_it_failed() -> None:
    world = World()
    job = world.until("i1-train")
    world.fail(job)
    said = "Container step for pod ns/x failed with exit code 64 matching FailJob rule at index 0"
    world.jobs[job.name] = replace(world.jobs[job.name], reason="PodFailurePolicy", message=said)
    world.lose_pods(job)
    world.settle()
    assert reason(world, "Failed") == ("True", "InvalidConfig")


def test_a_lost_termination_message_is_read_from_the_storage() -> None:
    world = World()
    job = world.until("i1-generate")
    world.complete(job)
    world.lose_pods(job)
    world.settle()
    assert world.made[-1] == "run-i1-generate-1-c"
    world.complete(world.active()[0])
    world.settle()
    assert world.active()[0].step == "i1-train"


def test_no_manifest_means_that_the_attempt_failed() -> None:
    world = World()
    job = world.until("i1-generate")
    world.complete(job)
    world.lose_pods(job)
    world.settle()
    world.fail(world.active()[0], 1)
    world.turn()
    step = world.status.step("i1-generate")
    assert step is not None
    assert (step.lost_attempts[-1].reason, step.failures) == ("ResultMissing", 1)


def test_a_training_gang_that_finds_no_room_gives_its_gpus_back() -> None:
    world = World()
    job = world.until("i1-train")
    world.wait(1801)
    world.pod(
        job, phase="Pending", node=None, scheduled_message="0/2 nodes are available: 2 Insufficient nvidia.com/gpu."
    )
    world.turn()
    assert world.active() == []
    step = world.status.step("i1-train")
    assert step is not None
    assert (step.lost_attempts[-1].reason, step.failures) == ("GangNotPlaced", 0)
    assert "nvidia.com/gpu" in step.lost_attempts[-1].message


def test_progress_that_stands_still_is_given_up_and_counted() -> None:
    world = World()
    job = world.until("i1-generate")
    world.run(job)
    stands = ProgressView(10, 100, "records", "generate", 0.0, world.now, world.now)
    world.progress = stands
    world.turn()
    world.wait(1801)
    world.progress = replace(stands, read_at=world.now)
    world.turn()
    step = world.status.step("i1-generate")
    assert step is not None
    assert (step.lost_attempts[-1].reason, step.failures) == ("Stalled", 1)
    assert world.active() == []


def test_progress_that_cannot_be_read_is_shown_with_its_age_and_kills_nothing() -> None:
    world = World()
    job = world.until("i1-generate")
    world.run(job)
    world.progress = ProgressView(10, 100, "records", "generate", 1.0, world.now, world.now)
    world.turn()
    world.wait(4000)
    world.turn()
    assert world.active() == [world.jobs[job.name]]
    assert "4000 s ago" in message(world)


def test_a_lost_node_is_named_and_the_run_goes_on() -> None:
    world = World()
    job = world.until("i1-train")
    world.run(job)
    world.pod(job, deleted=world.now)
    world.wait(61)
    world.turn()
    step = world.status.step("i1-train")
    assert step is not None
    assert (step.lost_attempts[-1].reason, step.lost_attempts[-1].node, step.failures) == ("NodeLost", "node-1", 0)
    world.wait(11)
    world.settle()
    assert world.made[-1] == "run-i1-train-2"


def test_the_deadline_counts_neither_suspended_nor_queued_time() -> None:
    world = World(spec={**World().spec, "activeDeadlineSeconds": 100})
    job = world.until("i1-generate")
    world.run(job)
    world.turn()
    world.wait(60)
    world.change(suspend=True)
    world.settle()
    world.wait(1000)
    world.change(suspend=False)
    world.settle()
    assert reason(world, "Failed") == ("False", "NotFailed")
    world.run(world.active()[0])
    world.turn()
    world.wait(41)
    world.turn()
    assert reason(world, "Failed") == ("True", "DeadlineExceeded")
    assert world.active() == []


def test_a_job_that_kueue_holds_is_queued_and_never_a_failure() -> None:
    world = World()
    job = world.until("i1-generate")
    world.jobs[job.name] = replace(job, suspended=True)
    world.turn()
    assert (world.status.state, reason(world, "Progressing")) == ("Queued", ("False", "Queued"))
    world.wait(61)
    world.extra = {"kueue_workload": False}
    world.turn()
    assert "does Kueue run" in message(world)
    world.jobs[job.name] = replace(job, suspended=False, started=world.now)
    world.turn()
    assert world.status.state == "Running"


NO_IMAGE = {"phase": "Pending", "waiting_reason": "ImagePullBackOff", "waiting_message": "no such tag"}
NO_SECRET = {
    "phase": "Pending",
    "waiting_reason": "CreateContainerConfigError",
    "waiting_message": 'secret "hf" not found',
}
TROUBLES = [
    (
        {"phase": "Pending", "node": None, "scheduled_message": "0/3 nodes: Insufficient memory."},
        "Unschedulable",
        "memory",
    ),
    (NO_IMAGE, "ImagePullFailed", "no such tag"),
    (NO_SECRET, "PodRejected", "hf"),
    ({"exit_reason": "OOMKilled", "exit_code": 137}, "OutOfMemory", "resources.limits.memory"),
]


@pytest.mark.parametrize(("pod", "expected", "word"), TROUBLES)
def test_trouble_of_a_pod_is_said_with_what_to_do(pod: dict[str, object], expected: str, word: str) -> None:
    world = World()
    job = world.until("i1-generate")
    world.pod(job, **pod)
    world.turn()
    assert reason(world, "Progressing") == ("False", expected)
    assert word in message(world)


@pytest.mark.parametrize(
    ("reason_", "said", "expected"),
    [
        ("FailedCreate", 'pods "x" is forbidden: exceeded quota: gpus', "QuotaExceeded"),
        ("FailedCreate", "admission webhook denied the request", "PodRejected"),
        ("FailedMount", "MountVolume.SetUp failed for volume", "StorageUnavailable"),
    ],
)
def test_trouble_that_only_events_tell(reason_: str, said: str, expected: str) -> None:
    world = World()
    world.until("i1-generate")
    world.extra = {"events": (EventView("Job/x", reason_, said, START),)}
    world.turn()
    assert reason(world, "Progressing") == ("False", expected)
    assert said in message(world)


def test_a_trouble_is_told_once_and_its_end_is_seen() -> None:
    world = World()
    job = world.until("i1-generate")
    world.pod(job, **NO_IMAGE)
    for _ in range(3):
        world.turn()
    assert world.events.count("ImagePullFailed") == 1
    world.run(job)
    world.turn()
    assert reason(world, "Progressing")[0] == "True"


def test_a_name_that_somebody_else_has_is_a_conflict_not_a_crash() -> None:
    world = World()
    manifest = {"kind": "Job", "metadata": {"name": "run-accept-1"}}
    world.extra = {"refusals": (Refusal(manifest, 409, "already exists"),)}
    world.turn()
    assert reason(world, "Accepted") == ("False", "NameConflict")
    assert world.status.steps[0].attempts == 0


def test_a_pod_template_that_the_cluster_refuses_is_an_invalid_spec() -> None:
    world = World()
    world.extra = {"refusals": (Refusal({"kind": "Job", "metadata": {"name": "x"}}, 422, "spec.containers[0].ports"),)}
    world.turn()
    assert reason(world, "Accepted") == ("False", "InvalidSpec")
    assert "spec.containers[0].ports" in message(world, "Accepted")


def test_a_workload_of_another_object_with_our_labels_is_left_alone() -> None:
    world = World()
    job = world.until("i1-generate")
    foreign = replace(job, name="foreign", uid="other", owner_uid="somebody", attempt=7)
    world.jobs["foreign"] = foreign
    world.complete(job)
    world.settle()
    assert world.jobs["foreign"] == foreign
    step = world.status.step("i1-generate")
    assert step is not None
    assert step.attempts == 1


def test_an_invalid_spec_is_said_in_our_words_and_mended_by_a_valid_one() -> None:
    world = World(spec={"recipe": "sao"})
    world.turn()
    assert reason(world, "Accepted") == ("False", "InvalidSpec")
    assert "spec.model" in message(world, "Accepted")
    world.spec = World().spec
    world.settle()
    assert world.made == ["run-accept-1"]


def test_an_old_cluster_that_drops_our_policies_is_named() -> None:
    world = World()
    world.settle()
    world.jobs["run-accept-1"] = replace(world.active()[0], keeps_policies=False)
    world.turn()
    assert reason(world, "Accepted") == ("False", "UnsupportedKubernetes")
    for _ in range(5):
        world.wait(1000)
        world.turn()
    assert (world.made, world.active()) == (["run-accept-1"], [])
    assert reason(world, "Failed") == ("True", "WorkloadRejected")


def test_pods_still_within_their_grace_period_are_not_lost() -> None:
    world = World()
    job = world.until("i1-train")
    world.run(job)
    world.pods[job.name] = (PodView("p", "u", 0, "Running", START, deleted=world.now + timedelta(seconds=30)),)
    world.wait(60)
    world.turn()
    assert world.active() != []


def test_a_suspension_between_a_creation_and_the_status_that_says_so_stops_what_was_made() -> None:
    world = World()
    accept = world.until("accept")
    world.complete(accept)
    world.turn(cut="created")
    assert [job.step for job in world.active()] == ["i1-generate"]
    world.change(suspend=True)
    world.settle()
    assert world.active() == []
    assert world.status.state == "Suspended"
    assert {step.name: (step.state, step.attempts) for step in world.status.steps[:2]} == {
        "accept": ("Succeeded", 1),
        "i1-generate": ("Pending", 1),
    }


def test_an_attempt_that_ended_before_the_status_knew_of_it_is_judged_by_its_own_pods() -> None:
    world = World()
    first = world.until("i1-train")
    world.run(first)
    world.settle()
    world.fail(first)
    world.wait(700)
    world.turn()
    world.wait(700)
    world.turn(cut="created")
    (second,) = world.active()
    world.complete(second)
    world.settle()
    assert world.made[-1].startswith("run-i1-evaluate")
    assert not any(name.endswith("-c") for name in world.made)
