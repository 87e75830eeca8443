"""Any status that an operator may write, for hypothesis."""

from datetime import datetime
from typing import Any

from hypothesis import strategies as st

from selfalign_api.base import ApiModel
from selfalign_api.status import (
    CONDITION_TYPES,
    MAX_ATTEMPTS,
    MAX_LOST_ATTEMPTS,
    Condition,
    Figure,
    LostAttempt,
    Status,
    StepProgress,
    StepStatus,
    WorkloadRef,
)


def built(model: type[ApiModel], **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(fields).map(lambda values: model(**values))


TEXTS = st.text(min_size=1, max_size=9)
NUMBERS = st.integers(0, 2**53)
TIMES = st.datetimes(min_value=datetime(1970, 1, 1)).map(lambda moment: moment.strftime("%Y-%m-%dT%H:%M:%SZ"))
MAYBE_TIME, MAYBE_TEXT = st.none() | TIMES, st.none() | TEXTS
CONDITIONS = built(
    Condition,
    type=st.sampled_from(CONDITION_TYPES),
    status=st.sampled_from(["True", "False", "Unknown"]),
    reason=TEXTS,
    message=st.text(max_size=30),
    last_transition_time=TIMES,
    observed_generation=NUMBERS,
)
STEPS = built(
    StepStatus,
    name=TEXTS,
    kind=st.sampled_from(["accept", "generate", "train", "evaluate"]),
    state=st.sampled_from(["Pending", "Queued", "Running", "Succeeded", "Reused", "Skipped", "Failed"]),
    attempts=st.integers(0, MAX_ATTEMPTS),
    lost_attempts=st.lists(
        built(LostAttempt, number=NUMBERS, reason=TEXTS, counted=st.booleans(), node=MAYBE_TEXT, time=TIMES),
        max_size=MAX_LOST_ATTEMPTS,
    ).map(tuple),
    next_attempt_time=MAYBE_TIME,
    result=st.lists(built(Figure, name=TEXTS, value=TEXTS), max_size=2).map(tuple),
    progress=st.none() | built(StepProgress, done=NUMBERS, total=NUMBERS, unit=TEXTS, update_time=TIMES),
    workload=st.none() | built(WorkloadRef, api_version=TEXTS, kind=TEXTS, name=TEXTS, uid=TEXTS),
)
STATUSES = built(
    Status,
    observed_generation=st.none() | NUMBERS,
    stage=st.none() | st.sampled_from(["accept", "generate", "train", "evaluate"]),
    completion_time=MAYBE_TIME,
    steps=st.lists(STEPS, max_size=3, unique_by=lambda step: step.name).map(tuple),
    conditions=st.lists(CONDITIONS, max_size=5, unique_by=lambda condition: condition.type).map(tuple),
)


def as_written(status: Status) -> Any:
    return status.model_dump(mode="json", exclude_none=True)
