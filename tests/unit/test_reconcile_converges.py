"""From any reachable state, with any lost, repeated or reordered event, the operator converges, and makes nothing twice."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from reconcile_world import UID, World

from selfalign_api.rounds import VALUE
from selfalign_api.status import MAX_ATTEMPTS
from selfalign_operator.views import RETRY_ANNOTATION, WorkloadView


class Operator(RuleBasedStateMachine):
    """Anything happens, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(spec={**World().spec, "failurePolicy": {"maxRetriesPerStep": 2, "backoffSeconds": 5}})
        self.deleted: set[str] = set()  # by a person, or gone before the status was wiped
        self.wiped = False  # the status, by hand: workloads of steps that it does not name are nobody's until it does
        self.late: set[str] = set()  # uids of workloads whose creation was on its way for long

    @rule(back=st.integers(0, 4), cut=st.sampled_from([None, None, "created", "status"]))
    def turn(self, back: int, cut: str | None) -> None:
        before = {step.name for step in self.world.status.steps if step.state == "Succeeded"}
        made = len(self.world.made)
        self.world.turn(back, cut)
        self.world.remember()
        for name in self.world.made[made:]:
            step = self.world.jobs[name].step
            assert step not in before, f"{step} is done, and {name} was made"

    @rule(seconds=st.sampled_from([1, 10, 100, 3000]))
    def wait(self, seconds: int) -> None:
        self.world.wait(seconds)

    @precondition(lambda self: self.world.active())
    @rule(
        data=st.data(),
        what=st.sampled_from(
            ["run", "queue", "complete", "complete", "silent", "fail", "config", "disrupt", "delete", "garbage"]
        ),
    )
    def happens(self, data: st.DataObject, what: str) -> None:
        world = self.world
        job = data.draw(st.sampled_from(world.active()))
        if what == "run":
            world.run(replace(job, suspended=False))
        elif what == "queue":
            world.jobs[job.name] = replace(job, suspended=True, active=0, ready=0, started=None)
        elif what == "complete":
            world.complete(job)
        elif what == "silent":
            world.complete(job)
            world.lose_pods(job)
        elif what == "garbage":
            world.complete(job, message='{"step": 1, "steps": "zz"}')
        elif what == "delete":
            del world.jobs[job.name]
            self.deleted.add(job.name)
        else:
            fields = {"disruption": "PreemptionByScheduler"} if what == "disrupt" else {}
            world.fail(job, 64 if what == "config" else 1, **fields)

    @precondition(lambda self: set(self.world.made) - set(self.world.jobs))
    @rule(data=st.data())
    def arrives_late(self, data: st.DataObject) -> None:
        """A creation was made again where its answer did not come; now the first request arrives, and the Job was deleted."""
        name = data.draw(st.sampled_from(sorted(set(self.world.made) - set(self.world.jobs))))
        step, attempt = name.removeprefix("run-").removesuffix("-c").rsplit("-", 1)
        uid = f"late-{len(self.late)}"
        self.late.add(uid)
        self.world.jobs[name] = WorkloadView(
            "Job", name, uid, UID, step, int(attempt), name.endswith("-c"), self.world.now, False, False, "Active"
        )

    @rule(value=st.booleans())
    def suspend(self, value: bool) -> None:
        self.world.change(suspend=value)

    @precondition(lambda self: not self.wiped)
    @rule()
    def nothing_runs_while_it_is_suspended(self) -> None:
        self.world.change(suspend=True)
        self.world.settle()
        self.world.forget()  # no cache is so old that it lacks all these turns
        if not self.world.status.is_true("Failed"):
            assert self.world.active() == []

    @rule(value=st.integers(0, 3))
    def retry(self, value: int) -> None:
        self.world.annotations = {RETRY_ANNOTATION: str(value)}
        self.world.version += 1

    @rule(
        step=st.sampled_from(["accept", "i1-generate", "i1-train"]),
        attempt=st.integers(1, 10**9 - 1),
        ours=st.booleans(),
    )
    def claim(self, step: str, attempt: int, ours: bool) -> None:
        """Somebody's Job has our labels, and perhaps says that it is ours; nobody has so many attempts."""
        owner, number = (UID, attempt + MAX_ATTEMPTS) if ours else ("another", attempt)
        job = WorkloadView("Job", "claims", "uid-x", owner, step, number, False, self.world.now, False, False, "Active")
        self.world.foreign = (job,)

    @rule(when=st.sampled_from(["9999-12-31T00:00:00Z", "0001-01-01T00:00:00Z", "soon", "2026-11-24T10:00:00+23:59"]))
    def edit_times(self, when: str) -> None:
        """Somebody edits the time of the next attempt by hand."""
        steps = tuple(step.model_copy(update={"next_attempt_time": when}) for step in self.world.status.steps)
        self.world.status = self.world.status.model_copy(update={"steps": steps})
        self.world.forget()
        self.world.version += 1

    @rule(wiped=st.booleans())
    def edit_status(self, wiped: bool) -> None:
        """Somebody edits the status by hand."""
        status = self.world.status
        self.deleted |= set(self.world.made) - set(self.world.jobs)  # of these nothing is known any more
        self.wiped = self.wiped or wiped
        update = {"steps": ()} if wiped else {"conditions": status.conditions[:2]}
        self.world.status = status.model_copy(update=update)
        self.world.forget()  # no cache is so old that it shows the status before
        self.world.version += 1

    @invariant()
    def one_workload_at_a_time(self) -> None:
        on_time = [job.name for job in self.world.active() if job.uid not in self.late]
        assert len(on_time) <= 1, on_time

    @invariant()
    def no_attempt_twice(self) -> None:
        made = [name for name in self.world.made if name not in self.deleted]
        assert len(set(made)) == len(made), made

    def teardown(self) -> None:
        """When everything goes well from here on, the run ends well; nothing is left running."""
        world = self.world
        world.change(suspend=False)
        for turn in range(60):
            world.wait(700)
            if world.status.is_true("Failed"):
                world.annotations = {RETRY_ANNOTATION: f"last-{turn}"}
            world.turn()
            for job in world.active():
                world.complete(job)
            if world.status.is_true("Complete"):
                break
        world.settle()
        assert world.status.state == "Complete", world.status.model_dump_json(indent=1, exclude_none=True)
        assert not world.active()
        assert {condition.observed_generation for condition in world.status.conditions} == {world.generation}


TestOperator = Operator.TestCase
TestOperator.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)


class LoopThatEndsEarly(Operator):
    """The same of a run whose second round is worse than its first: no round follows it."""

    def __init__(self) -> None:
        super().__init__()
        steps = [(f"i{k}-{kind}", kind, k) for k in (1, 2, 3) for kind in ("train", "evaluate")]
        self.world = World(
            spec=self.world.spec | {"iterations": 3, "evaluation": {"selectBy": "win", "stopAfterWorse": 1}},
            steps=[*steps, ("publish", "publish", 3)],
            results={"i1-evaluate": {VALUE: 0.6}, "i2-evaluate": {VALUE: 0.5}},
        )

    def teardown(self) -> None:
        """It ends well without them."""
        super().teardown()
        assert not [name for name in self.world.made if name.startswith("run-i3-")]


TestLoopThatEndsEarly = LoopThatEndsEarly.TestCase
TestLoopThatEndsEarly.settings = settings(max_examples=50, stateful_step_count=50, deadline=None)
