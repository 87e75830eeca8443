"""One turn of the reconciliation: what was observed, and what has been decided so far.

Policies read a Turn and add to it; nothing outside it changes. At the end it becomes a Decision.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from selfalign_api.operator_config import OperatorConfig
from selfalign_api.run import Spec
from selfalign_api.status import (
    CONDITION_TYPES,
    Condition,
    ConditionStatus,
    ConditionType,
    State,
    Status,
    StepStatus,
    WorkloadRef,
)
from selfalign_operator.decision import Decision, Deletion, RunEvent
from selfalign_operator.effective import Attempt, EffectiveRun, Frozen
from selfalign_operator.reasons import EventReason
from selfalign_operator.reconcile.significance import significant
from selfalign_operator.reconcile.times import time_text
from selfalign_operator.views import Manifest, Observed, RunView, WorkloadView

__all__ = ["Policy", "Render", "Turn"]

Policy = Callable[["Turn"], bool]  # True: this turn is decided, later policies are not asked

MAX_ATTEMPTS_AHEAD = 1000  # that a status wiped by hand may lack; a Job of a later attempt is nobody's of ours
ACCEPT = StepStatus(name="accept", kind="accept")  # the first step of every run: it makes the plan
FIRST_REASONS: dict[ConditionType, tuple[ConditionStatus, str, str]] = {
    "Accepted": ("Unknown", "Pending", "the run has not been checked yet"),
    "Progressing": ("Unknown", "Pending", "nothing has started yet"),
    "Suspended": ("False", "NotSuspended", ""),
    "Complete": ("False", "NotFinished", ""),
    "Failed": ("False", "NotFailed", ""),
    "Reconciling": ("True", "Pending", ""),
    "Stalled": ("False", "Pending", ""),
}


class Render(Protocol):
    """How manifests are made: pure functions of workloads/, behind a protocol so that the core is tested alone."""

    def effective(self, run: RunView, config: OperatorConfig, frozen: Frozen | None) -> EffectiveRun:
        """The run as it counts. Raises ConfigError (a RunError where it has a reason of its own)."""

    def run_objects(self, effective: EffectiveRun) -> tuple[Manifest, ...]:
        """ConfigMap and NetworkPolicy of a run, Service and Secret of its gangs."""

    def config_map_name(self, effective: EffectiveRun) -> str:
        """Name of the ConfigMap among `run_objects`; another compute has another name."""

    def workload(self, effective: EffectiveRun, attempt: Attempt) -> Manifest:
        """The Job or RayJob of an attempt. Raises ConfigError for a podTemplate that cannot be merged."""

    def progress_url(self, effective: EffectiveRun, workload: WorkloadView) -> str:
        """Where index 0 of that workload says how far it is."""


@dataclass
class Turn:
    """What is being decided about one run."""

    observed: Observed
    config: OperatorConfig
    render: Render
    status: Status = field(init=False)
    spec: Spec | None = None  # typed, with the profile's values; None while it is not valid
    effective: EffectiveRun | None = None
    plan_is_lost: bool = False  # and what is effective now is not what was resolved when the run began (plan.py)
    resolves_anew: bool = False  # a person says that it should be
    _dry_runs: list[Manifest] = field(default_factory=list)
    _ensured: list[Manifest] = field(default_factory=list)
    _creations: list[Manifest] = field(default_factory=list)
    _workload_of: str | None = None
    _deletions: list[Deletion] = field(default_factory=list)
    _events: list[RunEvent] = field(default_factory=list)
    _delete_run: bool = False
    _look_again: float | None = None
    _progress_url: str | None = None

    def __post_init__(self) -> None:
        """Start from the status as it is: every condition and the first step are there from the first observation on."""
        self.status = self.observed.run.status
        if not self.status.steps:
            self.update(steps=(ACCEPT,))
        for kind in CONDITION_TYPES:
            if self.status.condition(kind) is None:
                self.condition(kind, *FIRST_REASONS[kind])

    @property
    def ours(self) -> tuple[WorkloadView, ...]:
        """The workloads that this run controls; others may have our labels, and even our name as their owner's."""
        made = {step.name: step.attempts for step in self.status.steps}
        ours = (w for w in self.observed.workloads if w.owner_uid == self.observed.run.uid)
        return tuple(w for w in ours if w.attempt <= made.get(w.step, 0) + MAX_ATTEMPTS_AHEAD)

    # --- the status ---------------------------------------------------------------------------------------------------

    def update(self, **values: Any) -> None:
        """Change fields of the status."""
        self.status = self.status.model_copy(update=values)

    def condition(self, kind: ConditionType, status: ConditionStatus, reason: str, message: str = "") -> bool:
        """Set a condition; True when its status or reason changed. The time moves only with the status."""
        old = self.status.condition(kind)
        since = old.last_transition_time if old is not None and old.status == status else time_text(self.observed.now)
        new = Condition(
            type=kind,
            status=status,
            reason=reason,
            message=message[:1024],
            last_transition_time=since,
            observed_generation=self.observed.run.generation,
        )
        found = {condition.type: condition for condition in self.status.conditions} | {kind: new}
        self.update(conditions=tuple(found[each] for each in CONDITION_TYPES if each in found))
        return old is None or (old.status, old.reason) != (status, reason)

    def step(self, step: StepStatus, **values: Any) -> StepStatus:
        """Change fields of a step of the status; the step as it is now."""
        new = step.model_copy(update=values)
        self.update(steps=tuple(new if each.name == step.name else each for each in self.status.steps))
        return new

    # --- the changes --------------------------------------------------------------------------------------------------

    def create(self, *manifests: Manifest, workload_of: str | None = None) -> None:
        """Create objects, in this order; the last one is the workload of that step."""
        self._creations += manifests
        self._workload_of = workload_of or self._workload_of

    def make_sure(self, *manifests: Manifest) -> None:
        """Create what is missing of objects that were made before."""
        self._ensured += manifests

    def dry_run(self, *manifests: Manifest) -> None:
        """Ask the apiserver whether it would take these."""
        self._dry_runs += manifests

    def delete(self, workload: WorkloadView | WorkloadRef) -> None:
        """Delete a workload; one that is being deleted already is left alone."""
        if isinstance(workload, WorkloadView) and workload.deleting:
            return
        kind = workload.kind
        api_version = "batch/v1" if kind == "Job" else "ray.io/v1"
        deletion = Deletion(api_version, kind, workload.name, workload.uid)
        if deletion not in self._deletions:
            self._deletions.append(deletion)

    def delete_run(self) -> None:
        """Delete the run itself; its children follow by their owner references."""
        self._delete_run = True

    def tell(self, reason: EventReason, message: str) -> None:
        """A Normal event. What follows in the same turn is told in the same event: a stage change is one write."""
        if self._events and self._events[-1].type == "Normal":
            last = self._events.pop()
            kept = last.reason if reason in ("StepStarted", "StepSucceeded") else reason
            self._events.append(RunEvent("Normal", kept, f"{last.message}; {message}"))
            return
        self._events.append(RunEvent("Normal", reason, message))

    def warn(self, reason: EventReason, message: str) -> None:
        """A Warning event."""
        self._events.append(RunEvent("Warning", reason, message))

    def look_again(self, seconds: float) -> None:
        """Decide again after this long, though nothing happens; the shortest asked for counts."""
        self._look_again = seconds if self._look_again is None else min(self._look_again, seconds)

    def poll(self, url: str) -> None:
        """Ask there how far the step is."""
        self._progress_url = url

    def decision(self) -> Decision:
        """All of it, with what is derived: generation, state, stage, iteration."""
        self._carry_generation()
        self._derive()
        before, after = self.observed.run.status, self.status
        return Decision(
            status=after,
            urgent=significant(before) != significant(after),
            dry_runs=tuple(self._dry_runs),
            ensured=tuple(self._ensured),
            creations=tuple(self._creations),
            workload_of=self._workload_of,
            deletions=tuple(self._deletions),
            delete_run=self._delete_run,
            events=tuple(self._events),
            look_again_seconds=self._look_again,
            progress_url=self._progress_url,
        )

    def _carry_generation(self) -> None:
        """Every condition counts for the newest spec, also on finished runs: else `kubectl wait` hangs."""
        generation = self.observed.run.generation
        conditions = tuple(c.model_copy(update={"observed_generation": generation}) for c in self.status.conditions)
        self.update(observed_generation=generation, conditions=conditions)

    def _derive(self) -> None:
        self._derive_status()
        self._derive_kstatus()

    def _derive_kstatus(self) -> None:
        """The two conditions that GitOps tools know: it is on its way, and it goes on by a person's hand only."""
        state, accepted = self.status.state, self.status.condition("Accepted")
        refused = accepted is not None and accepted.status == "False"
        stalled = state in ("Failed", "Held") or (refused and state != "Complete")
        reconciling = not stalled and state not in ("Complete", "Suspended")
        reason = accepted.reason if refused and accepted is not None and state not in ("Failed", "Held") else state
        self.condition("Reconciling", "True" if reconciling else "False", reason or "Pending")
        self.condition("Stalled", "True" if stalled else "False", reason or "Pending")

    def _derive_status(self) -> None:
        status = self.status
        current = status.current_step
        shown = current or (status.steps[-1] if status.steps else None)
        last = max(
            (step.iteration for step in status.steps if step.kind != "publish" and step.state != "Skipped"), default=0
        )
        self.update(
            state=_state(status),
            stage=shown.kind if shown else None,
            iteration=f"{min(max(1, shown.iteration), last)}/{last}" if shown and last else None,
            progress=_share(shown) if current else ("100%" if status.is_true("Complete") else None),
        )


def _state(status: Status) -> State:
    """The one word for people, from the conditions."""
    progressing = status.condition("Progressing")
    reason = progressing.reason if progressing else ""
    if status.is_true("Complete"):
        return "Complete"
    if status.is_true("Failed"):
        return "Failed"
    if status.is_true("Suspended"):
        return "Suspended"
    if reason in ("Held", "HeldBefore", "PlanLost"):
        return "Held"
    if reason == "Queued":
        return "Queued"
    if (
        reason != "Suspending"
        and progressing is not None
        and (progressing.status == "False" or reason == "StepRetrying")
    ):
        return "Waiting"
    started = progressing is not None and progressing.status != "Unknown"
    return "Running" if started and any(step.attempts for step in status.steps) else "Pending"


def _share(step: StepStatus | None) -> str | None:
    """Share of the step that is done, in percent."""
    if step is None or step.progress is None or step.progress.total <= 0:
        return None
    return f"{min(100, 100 * step.progress.done // step.progress.total)}%"
