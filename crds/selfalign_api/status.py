"""The status of a run: what the operator saw and did, for people, `kubectl wait` and the next operator.

Everything the operator must remember stands here or in its children; it can be killed at any line and started again.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails

from selfalign_api.base import ApiModel, LongText, MapBy, Text, Timestamp
from selfalign_api.load import without_nulls
from selfalign_api.messages import path_of

Location = tuple[int | str, ...]  # of a pydantic error

ConditionType = Literal["Accepted", "Progressing", "Suspended", "Complete", "Failed", "Reconciling", "Stalled"]
ConditionStatus = Literal["True", "False", "Unknown"]
State = Literal["Pending", "Queued", "Waiting", "Running", "Suspended", "Held", "Complete", "Failed"]
StepState = Literal["Pending", "Queued", "Running", "Succeeded", "Reused", "Skipped", "Failed"]
StepKind = Literal["accept", "generate", "train", "evaluate", "publish"]

CONDITION_TYPES: tuple[ConditionType, ...] = get_args(ConditionType)
MAX_STEPS = 256
MAX_LOST_ATTEMPTS = 8  # of one step, the newest
MAX_FIGURES = 48
PACKED_MAX_CHARACTERS = 16_384  # of what a run was resolved to: a small one takes 916
MAX_ATTEMPTS = 1_000_000  # of one step; a label holds more of them
Whole = Annotated[int, Field(ge=0, le=2**53)]  # what one may be added to: a status may be edited by hand


class Condition(ApiModel):
    """A metav1.Condition."""

    type: ConditionType
    """Accepted, Progressing, Suspended, Complete, Failed; Reconciling and Stalled, which GitOps tools read (kstatus)."""

    status: ConditionStatus
    """True, False or Unknown."""

    reason: Text
    """Why, in one word (docs/operator.md)."""

    message: LongText = ""
    """What happened, and what to do."""

    last_transition_time: Timestamp
    """When the status last changed."""

    observed_generation: Whole
    """The generation of the spec that this was said of."""


class Figure(ApiModel):
    """A number that a step made."""

    name: Text
    """Its name, such as pairs or accuracy.greedy.after."""

    value: Text
    """Its value, a decimal string."""


class Result(ApiModel):
    """A check of the newest evaluation."""

    name: Text
    """Name of the check."""

    value: Text
    """Its value, a decimal string."""

    low: Text | None = None
    """Lower end of its 95 % interval."""

    high: Text | None = None
    """Upper end of its 95 % interval."""


class WorkloadRef(ApiModel):
    """The object that runs the newest attempt."""

    api_version: Text
    """batch/v1, or ray.io/v1."""

    kind: Text
    """Job or RayJob."""

    name: Text
    """Its name, in the run's namespace."""

    uid: Text
    """Its uid."""


class StepProgress(ApiModel):
    """Where a running step is."""

    done: Whole
    """Units that are finished."""

    total: Whole
    """Units of the phase."""

    unit: Text
    """What is counted."""

    per_second: Text | None = None
    """Units a second lately, a decimal string."""

    update_time: Timestamp
    """When the step said so."""


class LostAttempt(ApiModel):
    """An attempt that did not succeed."""

    number: Whole
    """Which attempt."""

    reason: Text
    """Why it ended."""

    counted: bool = True
    """Whether it counts against maxRetriesPerStep: disruptions, suspensions and lost nodes do not."""

    exit_code: int | None = None
    """Exit code of its container `step`, where one ended."""

    node: Text | None = None
    """Where that pod ran."""

    message: LongText = ""
    """What it said."""

    time: Timestamp
    """When it was found to have ended."""


class StepStatus(ApiModel):
    """One step of the plan."""

    name: Text
    """Name of the step; `accept` is the one that checks the run before any GPU is taken."""

    kind: StepKind
    """accept, generate, train, evaluate or publish."""

    iteration: Whole = 0
    """Its iteration, from 1; 0 for accept."""

    state: StepState = "Pending"
    """Pending, Queued, Running, Succeeded, Reused, Skipped (the loop ended before it) or Failed."""

    reason: Text | None = None
    """Why it is in this state."""

    message: LongText = ""
    """What happened, and what to do."""

    attempts: Annotated[int, Field(ge=0, le=MAX_ATTEMPTS)] = 0
    """Attempts that were made."""

    failures: Whole = 0
    """Attempts that count against failurePolicy.maxRetriesPerStep since the last retry by hand."""

    lost_attempts: Annotated[tuple[LostAttempt, ...], Field(max_length=MAX_LOST_ATTEMPTS)] = ()
    """The newest attempts that did not succeed."""

    next_attempt_time: Timestamp | None = None
    """When the next attempt may begin, while the step waits between two."""

    start_time: Timestamp | None = None
    """When its first attempt was made."""

    running_since: Timestamp | None = None
    """Since when all pods of the newest attempt run."""

    deleted_pod: Text | None = None
    """A pod of the newest attempt that somebody deleted; until all of its pods run again."""

    waiting_since: Timestamp | None = None
    """Since when the newest attempt, which ran, is without its index 0."""

    completion_time: Timestamp | None = None
    """When it was done."""

    url: LongText | None = None
    """Folder of its artefacts."""

    digest: Text | None = None
    """Digest of all that its result depends on."""

    result: Annotated[tuple[Figure, ...], Field(max_length=MAX_FIGURES)] = ()
    """Its figures."""

    progress: StepProgress | None = None
    """Where it is, while it runs."""

    workload: WorkloadRef | None = None
    """What runs its newest attempt; absent between two attempts."""

    collecting: bool = False
    """Whether the newest workload reads the result of an attempt whose pods are gone."""

    @property
    def is_over(self) -> bool:
        """Whether nothing of it is left to be done."""
        return self.state in ("Succeeded", "Reused", "Skipped")


class ModelStatus(ApiModel):
    """The model as it was found."""

    url: LongText
    """Where."""

    revision: Text
    """Commit of the hub, or digest of the folder."""


class PlanStatus(ApiModel):
    """The resolved plan."""

    config_map_name: Text
    """ConfigMap with the run as resolved: spec and profile, means, storage."""

    digest: Text | None = None
    """Digest of the method and of the content of every source."""

    version: Text | None = None
    """Version of selfalign that made the plan."""

    content: Annotated[str, Field(max_length=PACKED_MAX_CHARACTERS)] | None = None
    """What that ConfigMap holds (zlib, base64), until the run is complete: lost, it is made again from here."""


class Status(ApiModel):
    """What the operator saw and did."""

    observed_generation: Whole | None = None
    """The generation of the spec that this status was computed from."""

    state: State = "Pending"
    """Derived from the conditions, for people and columns; programs read the conditions."""

    stage: StepKind | None = None
    """Kind of the current step."""

    iteration: Text | None = None
    """Current iteration of all."""

    progress: Text | None = None
    """Share of the current step that is done; written at most every 30 s."""

    start_time: Timestamp | None = None
    """When the first workload was made."""

    completion_time: Timestamp | None = None
    """When the run was Complete or Failed."""

    active_seconds: Whole = 0
    """Unsuspended, unqueued time until activeSince."""

    active_since: Timestamp | None = None
    """Since when the run is active without a break; what activeSeconds does not hold yet."""

    observed_retry: Text | None = None
    """Value of the annotation selfalign.dev/retry that was acted on."""

    model: ModelStatus | None = None
    """The model as it was found."""

    plan: PlanStatus | None = None
    """The resolved plan."""

    results: Annotated[tuple[Result, ...], Field(max_length=32), MapBy("name")] = ()
    """Checks of the newest evaluation."""

    steps: Annotated[tuple[StepStatus, ...], Field(max_length=MAX_STEPS), MapBy("name")] = ()
    """Steps of the plan, in order."""

    conditions: Annotated[tuple[Condition, ...], Field(max_length=8), MapBy("type")] = ()
    """Accepted, Progressing, Suspended, Complete and Failed."""

    def condition(self, kind: ConditionType) -> Condition | None:
        """The condition of that type."""
        return next((condition for condition in self.conditions if condition.type == kind), None)

    def is_true(self, kind: ConditionType) -> bool:
        """Whether the condition of that type is True."""
        found = self.condition(kind)
        return found is not None and found.status == "True"

    @property
    def has_ended(self) -> bool:
        """Whether the run is Complete or Failed."""
        return self.is_true("Complete") or self.is_true("Failed")

    @property
    def current_step(self) -> StepStatus | None:
        """The first step of which something is left to be done; None when all are over."""
        return next((step for step in self.steps if not step.is_over), None)

    def step(self, name: str) -> StepStatus | None:
        """The step of that name."""
        return next((step for step in self.steps if step.name == name), None)


# --- reading what stands in an object: hand-edited, another version's, or whole ------------------------------------------


def read_status(raw: Any) -> tuple[Status, tuple[str, ...]]:
    """The typed status of its JSON, and the paths that were not as they must be and are left out, sorted.

    A wrong field is left out alone; an entry or an object without what it needs, whole; fields of a newer version
    without a word. What is left out is computed again: no status may stop a run.
    """
    if raw is None:
        return Status(), ()
    with contextlib.suppress(ValidationError, RecursionError):
        return _typed(raw), ()  # as the operator writes it, nearly always
    bad: set[str] = set()
    try:
        data = without_nulls(raw)
        while True:
            try:
                return _typed(data), tuple(sorted(bad))
            except ValidationError as error:
                wrong = error.errors(include_url=False, include_input=False)
            removed = sorted(
                {place for details in wrong for place in _removed(details, data)}, key=_order, reverse=True
            )
            if not removed:
                break
            bad |= {path_of(_place(details), Status, data, "status") for details in wrong if not _is_newer(details)}
            for location in removed:
                _remove(data, location)
    except RecursionError:
        pass
    return Status(), ("status",)


def _typed(data: Any) -> Status:
    return Status.model_validate_json(json.dumps(data), by_alias=True, by_name=False)


def _is_newer(details: ErrorDetails) -> bool:
    return details["type"] == "extra_forbidden"


def _place(details: ErrorDetails) -> Location:
    """Where something is wrong; for a field that is missing, the object that lacks it."""
    return details["loc"][:-1] if details["type"] == "missing" else details["loc"]


def _removed(details: ErrorDetails, data: Any) -> Iterator[Location]:
    """What must go so that the error goes: of a list too long, or with a key twice, the later entries."""
    place, context = _place(details), details.get("ctx", {})
    if details["type"] == "too_long":
        yield from ((*place, index) for index in range(context["max_length"], len(_at(data, place))))
    elif details["type"] == "twice":
        values = [entry.get(context["key"]) for entry in _at(data, place)]
        yield from ((*place, index) for index, value in enumerate(values) if value in values[:index])
    elif place:
        yield place


def _at(data: Any, place: Location) -> Any:
    for step in place:
        data = data[step]
    return data


def _remove(data: Any, place: Location) -> None:
    del _at(data, place[:-1])[place[-1]]


def _order(place: Location) -> tuple[tuple[int, str], ...]:
    """Sorts entries by their place, and what holds something before it."""
    return tuple((step, "") if isinstance(step, int) else (0, step) for step in place)
