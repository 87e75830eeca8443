"""What `kubectl selfalign list` and `status` show of a run: any status that may stand in an object, on lines of its own."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from statuses import STATUSES

from selfalign_api.status import Condition, LostAttempt, Result, Status, StepProgress, StepStatus
from selfalign_kubectl.shown import eta_seconds, lost_words, run_page, run_table, trouble
from selfalign_kubectl.words import duration
from selfalign_operator.views import RunView

NOW = datetime(2026, 11, 29, 10, 0, tzinfo=UTC)


def view(status: Status, **spec: Any) -> RunView:
    return RunView("team", "my-run", "u", 1, "1", datetime(2026, 11, 29, 9, 0, tzinfo=UTC), False, {}, {}, spec, status)


def condition(kind: Any, status: Any, reason: str, message: str = "") -> Condition:
    return Condition(
        type=kind, status=status, reason=reason, message=message, last_transition_time="2026-11-29T09:00:00Z",
        observed_generation=1,
    )  # fmt: skip


def page(status: Status, **spec: Any) -> str:
    return "\n".join(line.plain for line in run_page(view(status, **spec), NOW))


@given(STATUSES, st.dictionaries(st.sampled_from(["recipe", "model", "storage"]), st.text() | st.integers()))
def test_any_status_is_shown_and_no_cell_breaks_its_line(status: Status, spec: dict[str, Any]) -> None:
    run = view(status, **spec)
    for lines in (list(run_page(run, NOW)), list(run_table([run, run], NOW, everywhere=True))):
        assert all(char.isprintable() for line in lines for char in line.plain)
    assert len(list(run_table([run, run], NOW, everywhere=False))) == 3


RUNNING = StepStatus(
    name="i1-train", kind="train", iteration=1, state="Running", attempts=2, start_time="2026-11-29T09:58:00Z",
    progress=StepProgress(done=137, total=337, unit="steps", per_second="4", update_time="2026-11-29T09:59:50Z"),
    lost_attempts=(
        LostAttempt(number=1, reason="OutOfMemory", exit_code=137, node="node-3", message="raise\nit", time="2026-11-29T09:57:00Z"),
    ),
)  # fmt: skip


def test_a_page_says_where_each_step_is_and_what_was_lost() -> None:
    done = StepStatus(name="accept", kind="accept", state="Succeeded", attempts=1)
    status = Status(state="Running", iteration="1/1", steps=(done, RUNNING), start_time="2026-11-29T09:50:00Z")
    assert page(status, recipe="sao", model={"url": "hf://org/m"}) == """\
team/my-run  sao  Running  for 10m00s  iteration 1/1
model     hf://org/m

  STEP       STATE       ATTEMPT   TIME    WHERE IT IS
✓ accept     Succeeded   1
▸ i1-train   Running     2         2m00s   137/337 steps  4/s  ETA 40s
    attempt 1: OutOfMemory, exit code 137 on node-3: raise it

next      kubectl selfalign logs my-run -n team -f"""  # fmt: skip


def test_results_stand_under_the_steps_with_their_intervals() -> None:
    results = (Result(name="win", value="0.61", low="0.58", high="0.64"), Result(name="loss", value="0.1"))
    assert "RESULT   VALUE   95 %\nwin      0.61    0.58 to 0.64\nloss     0.1" in page(Status(results=results))


@pytest.mark.parametrize(
    ("conditions", "words"),
    [
        ((condition("Accepted", "False", "ClaimNotFound", "create it"),), "ClaimNotFound: create it"),
        ((condition("Progressing", "False", "Unschedulable", "no GPU"),), "Unschedulable: no GPU"),
        ((condition("Progressing", "True", "StepRetrying", "in 10 s"),), "StepRetrying: in 10 s"),
        ((condition("Progressing", "True", "StepRunning", "3 of 4"),), ""),
        ((condition("Failed", "True", "GateNotPassed", "0.4"), condition("Accepted", "False", "X")), "GateNotPassed: 0.4"),
        ((condition("Complete", "True", "AllStepsDone"), condition("Progressing", "False", "Finished")), ""),
    ],
)  # fmt: skip
def test_what_keeps_a_run_is_the_condition_that_a_person_must_know(
    conditions: tuple[Condition, ...], words: str
) -> None:
    assert trouble(Status(conditions=conditions)) == words


@pytest.mark.parametrize(("reason", "next_"), [("GateNotPassed", "report"), ("RetriesExhausted", "retry")])
def test_after_a_gate_that_was_not_passed_there_is_nothing_to_try_again(reason: str, next_: str) -> None:
    shown = page(Status(state="Failed", conditions=(condition("Failed", "True", reason, "0.4"),)))
    assert f"kubectl selfalign {next_} my-run" in shown
    assert ("kubectl selfalign retry" in shown) == (next_ == "retry")


@pytest.mark.parametrize(
    ("changes", "seconds"),
    [({}, 40.0), ({"per_second": None}, None), ({"per_second": "0"}, None), ({"per_second": "x"}, None), ({"total": 0}, None),
     ({"done": 400}, 0.0), ({"update_time": "2026-11-29T09:00:00Z"}, 0.0), ({"per_second": "1e-300"}, None)],
)  # fmt: skip
def test_an_eta_follows_from_rate_and_age_of_the_last_reading(changes: dict[str, Any], seconds: float | None) -> None:
    assert RUNNING.progress is not None
    step = RUNNING.model_copy(update={"progress": RUNNING.progress.model_copy(update=changes)})
    assert eta_seconds(step, NOW) == seconds


def test_an_attempt_that_does_not_count_says_so() -> None:
    lost = LostAttempt(number=3, reason="Disrupted", counted=False, time="2026-11-29T09:57:00Z")
    assert lost_words(lost) == "attempt 3: Disrupted, not counted"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "0s"),
        (59.9, "59s"),
        (60, "1m00s"),
        (3599, "59m59s"),
        (3600, "1h00m"),
        (359_999, "99h59m"),
        (360_000, "4d04h"),
    ],
)
def test_a_duration_has_two_units(seconds: float, words: str) -> None:
    assert duration(seconds) == words
