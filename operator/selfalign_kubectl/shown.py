"""Runs as a person reads them: a table of many, a page of one. Pure: from what is observed to lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from rich.text import Text

from selfalign_api.status import LostAttempt, Status, StepStatus
from selfalign_kubectl.words import STYLES, between, cell, columns, duration, one_line
from selfalign_operator.reconcile.ending import GATE
from selfalign_operator.reconcile.times import parse_time
from selfalign_operator.views import RunView

MARKS = {
    "Succeeded": "✓", "Reused": "✓", "Skipped": "–", "Running": "▸", "Queued": "▸", "Failed": "✗", "Pending": "·",
}  # fmt: skip
GOES_ON = ("StepRunning", "StepStarting", "Pending", "Finished")  # reasons that are no trouble
FIGURES = 4  # of a step that is done
LOST = 3  # attempts of a step that are told, the newest
OLD_SECONDS = 120.0  # a reading of the progress that is older says so
MESSAGE = 100  # characters of a row


def run_table(runs: Sequence[RunView], now: datetime, *, everywhere: bool) -> Iterator[Text]:
    """A row a run."""
    head = ("NAMESPACE", "NAME", "RECIPE", "STATE", "STEP", "PROGRESS", "ETA", "ATTEMPT", "AGE", "WHY")
    yield from columns(head, [_row(run, now, everywhere=everywhere) for run in runs])


def _row(run: RunView, now: datetime, *, everywhere: bool) -> list[Text]:
    status, step = run.status, run.status.current_step
    recipe = run.spec.get("recipe")
    eta = None if step is None else eta_seconds(step, now)
    why = trouble(status)
    return [
        cell(run.namespace if everywhere else ""),
        cell(run.name),
        cell(recipe if isinstance(recipe, str) else ""),
        cell(status.state, style=STYLES[status.state]),
        cell(step.name if step is not None else ""),
        cell(status.progress or ""),
        cell("" if eta is None else duration(eta)),
        cell(str(step.attempts) if step is not None and step.attempts > 1 else ""),
        cell(duration((now - run.created).total_seconds())),
        cell(why if len(why) <= MESSAGE else why[: MESSAGE - 1] + "…"),
    ]


def run_page(run: RunView, now: datetime) -> Iterator[Text]:
    """All that is known of a run: where it is, why it waits, its steps and their attempts, its results, what to do."""
    status = run.status
    yield _headline(run, now)
    yield from _facts(run)
    if why := trouble(status):
        yield Text("why       ", style="dim").append(why, style=STYLES[status.state])
    if status.steps:
        yield Text("")
        yield from _steps(status, now)
    if status.results:
        yield Text("")
        yield from columns(
            ("RESULT", "VALUE", "95 %"),
            [
                [cell(each.name), cell(each.value), cell(f"{each.low} to {each.high}" if each.low else "")]
                for each in status.results
            ],
        )
    if hints := list(what_to_do(run)):
        yield Text("")
        yield from (Text("next      ", style="dim").append(hint) for hint in hints)


def _headline(run: RunView, now: datetime) -> Text:
    status = run.status
    line = cell(f"{run.namespace}/{run.name}", "bold")
    recipe = run.spec.get("recipe")
    line.append(f"  {one_line(recipe)}  " if isinstance(recipe, str) else "  ", style="not bold")
    line.append("Deleting" if run.deleting else status.state, style=STYLES[status.state])
    if took := between(status.start_time, status.completion_time, now):
        line.append(f"  {'took' if status.has_ended else 'for'} {took}", style="not bold")
    if status.iteration:
        line.append(f"  iteration {one_line(status.iteration)}", style="not bold")
    return line


def _facts(run: RunView) -> Iterator[Text]:
    for label, value in (
        ("model", _url(run, "model", "url")),
        ("storage", _url(run, "storage", "url")),
        ("output", _url(run, "output", "url")),
    ):
        if value:
            yield Text(f"{label:<10}", style="dim").append(value)


def _url(run: RunView, part: str, field: str) -> str:
    found = run.spec.get(part)
    value = found.get(field) if isinstance(found, dict) else None
    return one_line(value) if isinstance(value, str) else ""


def _steps(status: Status, now: datetime) -> Iterator[Text]:
    rows = [_step(step, now) for step in status.steps]
    head, *lines = columns(("  STEP", "STATE", "ATTEMPT", "TIME", "WHERE IT IS"), rows)
    yield head
    for step, line in zip(status.steps, lines, strict=True):
        yield line
        if step.message and not step.is_over and (step.reason not in GOES_ON or step.state == "Failed"):
            yield Text("    ").append_text(cell(step.message, STYLES[step.state]))
        yield from (Text("    ").append_text(cell(lost_words(lost), "dim")) for lost in step.lost_attempts[-LOST:])


def _step(step: StepStatus, now: datetime) -> list[Text]:
    style = STYLES[step.state]
    return [
        cell(f"{MARKS[step.state]} {one_line(step.name)}", style=style),
        cell(step.state, style=style),
        cell(str(step.attempts) if step.attempts else ""),
        cell(between(step.start_time, step.completion_time, now)),
        cell(_where(step, now)),
    ]


def _where(step: StepStatus, now: datetime) -> str:
    if step.is_over:
        return "  ".join(f"{one_line(figure.name)} {figure.value}" for figure in step.result[:FIGURES])
    again = parse_time(step.next_attempt_time)
    if step.workload is None and again is not None and step.state != "Failed":
        return f"attempt {step.attempts + 1} in {duration((again - now).total_seconds())}"
    found = step.progress
    if found is None or step.state != "Running":
        return ""
    words = f"{found.done:,}/{found.total:,} {one_line(found.unit)}" if found.total else one_line(found.unit)
    words += f"  {found.per_second}/s" if found.per_second else ""
    eta, read = eta_seconds(step, now), parse_time(found.update_time)
    words += "" if eta is None else f"  ETA {duration(eta)}"
    age = 0.0 if read is None else (now - read).total_seconds()
    return words + (f"  ({duration(age)} ago)" if age > OLD_SECONDS else "")


def eta_seconds(step: StepStatus, now: datetime) -> float | None:
    """Until the step's phase is done, by its rate when it last said so; None where nothing is known, or it says nothing."""
    found = step.progress
    if found is None or step.state != "Running" or not found.total or not found.per_second:
        return None
    try:
        rate = float(found.per_second)
        left = max(0, found.total - found.done) / rate
        read = parse_time(found.update_time)
        age = 0.0 if read is None else max(0.0, (now - read).total_seconds())
        return max(0.0, timedelta(seconds=left - age).total_seconds())
    except (ValueError, ArithmeticError):
        return None


def lost_words(lost: LostAttempt) -> str:
    """An attempt that did not succeed, on one line."""
    words = one_line(lost.message)
    code = f", exit code {lost.exit_code}" if lost.exit_code is not None and "exit code" not in words else ""
    where = f" on {lost.node}" if lost.node else ""
    counted = "" if lost.counted else ", not counted"
    return f"attempt {lost.number}: {lost.reason}{code}{where}{counted}" + (f": {words}" if words else "")


def trouble(status: Status) -> str:
    """Why the run does not run, on one line; empty while nothing keeps it."""
    failed, accepted, progressing = (status.condition(kind) for kind in ("Failed", "Accepted", "Progressing"))
    if failed is not None and failed.status == "True":
        return one_line(f"{failed.reason}: {failed.message}")
    if status.is_true("Complete"):
        return ""
    if accepted is not None and accepted.status == "False":
        return one_line(f"{accepted.reason}: {accepted.message}")
    if progressing is not None and progressing.reason not in GOES_ON:
        return one_line(f"{progressing.reason}: {progressing.message}")
    return ""


def what_to_do(run: RunView) -> Iterator[str]:
    """The commands that fit a run as it is."""
    status, where = run.status, f"{run.name} -n {run.namespace}"
    progressing = status.condition("Progressing")
    if progressing is not None and progressing.reason == "HeldBefore":
        yield f"kubectl selfalign report {where}"
        yield f"kubectl selfalign proceed {where}"
        return
    match status.state:
        case "Complete":
            yield f"kubectl selfalign report {where}"
            yield f"kubectl selfalign serve {where}"
        case "Failed" if _by_a_gate(status):
            yield f"kubectl selfalign report {where}"
        case "Failed" | "Held":
            yield f"kubectl selfalign logs {where}"
            yield f"kubectl selfalign retry {where}"
        case "Suspended":
            yield f"kubectl selfalign resume {where}"
        case "Running" | "Waiting":
            yield f"kubectl selfalign logs {where} -f"


def _by_a_gate(status: Status) -> bool:
    """Whether what ended the run is its result: trying again changes nothing."""
    failed = status.condition("Failed")
    return failed is not None and failed.reason == GATE
