"""The life of a run: conditions, reasons, retries, deadlines, what a person does."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reconcile_world import CONFIG, FakeRender, World, finish, message, reason, summary

from selfalign_api.operator_config import OperatorConfig
from selfalign_operator.effective import EffectiveRun, Frozen
from selfalign_operator.reconcile import decide
from selfalign_operator.reconcile.results import notes_of, told
from selfalign_operator.views import PROCEED_ANNOTATION, RETRY_ANNOTATION, ProgressView, RunView


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


def test_what_a_step_says_of_itself_is_warned_of_and_stays_with_the_run() -> None:
    world = World()
    job = world.until("i1-train")
    notes = ["The loss rose from 0.7 to 3.", "7 of 9 steps had no finite gradient and were skipped."]
    said = json.loads(summary(job.step, job.attempt))
    world.complete(job, json.dumps(said | {"result": {"notes": notes, "loss": 3.0}}))
    world.settle()
    step = world.status.step("i1-train")
    assert step is not None
    assert (step.state, step.reason, step.message) == ("Succeeded", "SecondLook", " ".join(notes))
    assert "SecondLook" in world.events
    finish(world)
    assert world.status.state == "Complete"
    assert "second look: i1-train" in message(world, "Complete")


@given(st.lists(st.one_of(st.text(max_size=2000), st.integers(), st.none()), max_size=20))
def test_of_many_notes_as_many_are_told_as_an_event_may_hold(notes: list[object]) -> None:
    kept = notes_of({"notes": notes})
    assert len(" ".join(kept)) <= 1024 - len("i1-generate deserves a second look: ")
    assert list(kept) == [note for note in notes if isinstance(note, str)][: len(kept)]
    assert notes_of({"notes": "no list"}) == notes_of(None) == ()


def test_all_conditions_are_there_from_the_first_observation() -> None:
    world = World()
    world.turn()
    assert [c.type for c in world.status.conditions] == [
        "Accepted", "Progressing", "Suspended", "Complete", "Failed", "Reconciling", "Stalled",
    ]  # fmt: skip


def kstatus(world: World) -> str:
    """What GitOps tools make of it (cli-utils, pkg/kstatus/status)."""
    if world.status.observed_generation != world.generation:
        return "InProgress"
    for kind, said in (("Reconciling", "InProgress"), ("Stalled", "Failed")):
        if reason(world, kind)[0] == "True":
            return said
    return "Current"


def test_gitops_tools_see_a_run_on_its_way_and_at_its_end() -> None:
    world = World()
    world.until("i1-train")
    assert kstatus(world) == "InProgress"
    finish(world)
    assert kstatus(world) == "Current"


def test_gitops_tools_see_what_needs_a_person() -> None:
    failed = World(spec={**World().spec, "failurePolicy": {"maxRetriesPerStep": 0}})
    failed.fail(failed.until("i1-train"))
    failed.settle()
    held = World(spec={**World().spec, "failurePolicy": {"maxRetriesPerStep": 0, "afterRetries": "Hold"}})
    held.fail(held.until("i1-train"))
    held.settle()
    invalid = World(spec={**World().spec, "recipe": "no"})
    invalid.settle()
    assert [kstatus(world) for world in (failed, held, invalid)] == ["Failed"] * 3
    assert reason(invalid, "Stalled") == ("True", "InvalidSpec")


def test_gitops_tools_wait_for_room_and_not_for_a_suspended_run() -> None:
    world = World()
    job = world.until("i1-train")
    world.pod(job, phase="Pending", node=None, scheduled_message="Insufficient nvidia.com/gpu")
    world.turn()
    assert (world.status.state, kstatus(world)) == ("Waiting", "InProgress")
    world.change(suspend=True)
    world.settle()
    assert (world.status.state, kstatus(world)) == ("Suspended", "Current")
    world.change(suspend=False)
    world.turn()
    assert kstatus(world) == "InProgress"


def test_how_far_a_step_is_that_can_never_be_read_is_said() -> None:
    world = World()
    world.run(world.until("i1-train"))
    world.extra = {"progress_unread": True}
    world.wait(31)
    world.turn()
    assert "its port 8080 does not answer the operator" in message(world)


@pytest.mark.parametrize("how", ["unread", "read", "new"])
def test_an_operator_that_has_asked_no_pod_yet_leaves_what_was_said(how: str) -> None:
    world = World()
    world.run(world.until("i1-train"))
    world.extra = {"progress_unread": how == "unread"}
    world.progress = ProgressView(10, 100, "steps", "train", 0.5, world.now, world.now) if how == "read" else None
    world.wait(31)
    world.settle()
    said = message(world)
    world.extra, world.progress = {}, None  # another process leads
    world.wait(31)
    world.settle()
    assert message(world) == said


def test_a_finished_run_follows_its_generation() -> None:
    world = World()
    finish(world)
    world.change(ttlSecondsAfterFinished=3600)
    world.settle()
    assert {condition.observed_generation for condition in world.status.conditions} == {2}
    assert world.status.observed_generation == 2


def test_a_run_that_ends_is_looked_at_again_without_any_news() -> None:
    world = World(spec={**World().spec, "ttlSecondsAfterFinished": 60})
    world.complete(world.until("i1-evaluate"))
    assert world.turn() == 0
    assert world.status.state == "Complete"
    assert world.turn() == 60


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


def test_a_gate_that_is_not_passed_fails_the_run_by_that_name_and_is_not_tried_again() -> None:
    world = World()
    said = '{"error": "spec.evaluation.gates[0]: win is 0.480", "reason": "GateNotPassed"}'
    world.fail(world.until("i1-evaluate"), 64, termination_message=said)
    world.settle()
    assert reason(world, "Failed") == ("True", "GateNotPassed")
    assert "win is 0.480" in message(world, "Failed")
    assert "retry" not in message(world, "Failed")
    step = world.status.step("i1-evaluate")
    assert step is not None
    assert (step.state, step.attempts) == ("Failed", 1)


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


def test_a_failure_whose_condition_a_hand_has_removed_is_said_again() -> None:
    world = World()
    world.fail(world.until("i1-train"), 64)
    world.settle()
    kept = tuple(each for each in world.status.conditions if each.type != "Failed")
    world.status = world.status.model_copy(update={"conditions": kept})
    world.version += 1
    world.settle()
    assert reason(world, "Failed") == ("True", "InvalidConfig")


def test_a_job_that_kueue_holds_is_queued_and_never_a_failure() -> None:
    world = World()
    job = world.until("i1-generate")
    world.jobs[job.name] = replace(job, suspended=True)
    world.turn()
    assert (world.status.state, reason(world, "Progressing")) == ("Queued", ("False", "Queued"))
    world.wait(61)
    world.extra = {"kueue_says": ""}
    world.turn()
    assert "does Kueue run" in message(world)
    world.wait(61)
    world.extra = {"kueue_says": "no quota"}
    world.turn()
    assert message(world) == "i1-generate waits for its queue: no quota"
    world.jobs[job.name] = replace(job, suspended=False, started=world.now)
    world.turn()
    assert world.status.state == "Running"


# --- holdBefore ---------------------------------------------------------------------------------------------------------


def held_before(kind: str) -> World:
    world = World(spec={**World().spec, "holdBefore": kind})
    world.complete(world.until("i1-generate"))
    world.settle()
    return world


def test_a_run_is_held_before_a_step_until_the_annotation_names_it() -> None:
    world = held_before("train")
    assert (world.status.state, reason(world, "Progressing")) == ("Held", ("False", "HeldBefore"))
    assert "selfalign.dev/proceed=i1-train" in message(world, "Progressing")
    assert "HeldBefore" in world.events
    assert world.active() == []
    world.annotations = {PROCEED_ANNOTATION: "i1-generate"}
    world.settle()
    assert world.active() == []
    world.annotations = {PROCEED_ANNOTATION: "i1-train"}
    finish(world)
    assert world.status.state == "Complete"


def test_without_hold_before_the_run_goes_on_and_a_training_that_has_begun_is_not_held() -> None:
    world = held_before("train")
    world.change(holdBefore=None)
    world.fail(world.until("i1-train"))
    world.change(holdBefore="train")
    world.settle()
    world.wait(60)
    finish(world)
    assert world.status.state == "Complete"


def test_a_held_run_costs_no_time_of_its_deadline() -> None:
    world = held_before("train")
    before = world.status.active_seconds
    world.wait(3600)
    world.settle()
    assert (world.status.active_seconds, world.status.active_since) == (before, None)
