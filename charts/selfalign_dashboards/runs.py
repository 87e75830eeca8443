"""The dashboard "Runs": the fleet. What runs, what waits, what failed, what it costs, and whether the operator is well."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from selfalign_dashboards.panels import (
    Query,
    a_dashboard,
    bars_panel,
    label_variable,
    stat_panel,
    table_panel,
    timeseries_panel,
)

CHOSEN = 'run_namespace=~"$namespace", recipe=~"$recipe"'
IN_NAMESPACE = 'run_namespace=~"$namespace"'
PODS = 'namespace=~"$namespace"'
STATES = {
    "Pending": "yellow",
    "Queued": "purple",
    "Running": "blue",
    "Suspended": "orange",
    "Held": "dark-orange",
    "Complete": "green",
    "Failed": "red",
}
RESULTS = {"Succeeded": "green", "Reused": "blue", "Failed": "red"}
RED_FROM_ONE = (("green", None), ("red", 1))


def runs() -> dashboard.Dashboard:
    """The whole of it."""
    board = a_dashboard("selfalign-runs", "selfalign / Runs", "All self-alignment runs of a cluster.", hours=6)
    fleet = "selfalign_operator_runs"
    board.with_variable(label_variable("namespace", "Namespace", fleet, "run_namespace", several=True))
    board.with_variable(label_variable("recipe", "Recipe", fleet, "recipe", several=True))
    _now(board)
    _fleet(board)
    _steps(board)
    _work(board)
    _operator(board)
    return board


def _number(states: str) -> Query:
    """Runs in these states. Both replicas count the same runs: the larger count is the fresher one."""
    counted = f'selfalign_operator_runs{{{CHOSEN}, state=~"{states}"}}'
    return Query(f"sum(max by (run_namespace, recipe, state) ({counted}))")


def _now(board: dashboard.Dashboard) -> None:
    board.with_row(dashboard.Row("Now"))
    board.with_panel(stat_panel("Running", "Runs whose step is under way.", "short", _number("Running")))
    words = "Runs that wait: for the operator to begin, or for Kueue's quota."
    board.with_panel(stat_panel("Waiting", words, "short", _number("Pending|Queued")))
    words = "Runs that wait for a person: suspended by one, or held after the last retry."
    amber = (("green", None), ("orange", 1))
    board.with_panel(stat_panel("Held by a person", words, "short", _number("Suspended|Held"), levels=amber))
    words = "Runs that have failed and are still there. The table below says why, for an hour after the end."
    board.with_panel(stat_panel("Failed", words, "short", _number("Failed"), levels=RED_FROM_ONE))
    words = "GPUs that ready pods of runs hold now."
    held = f"sum(max by (run_namespace) (selfalign_operator_gpus{{{IN_NAMESPACE}}}))"
    board.with_panel(stat_panel("GPUs held", words, "short", Query(held)))
    spent = f"max by (run_namespace) (increase(selfalign_operator_gpu_seconds_total{{{IN_NAMESPACE}}}[$__range]))"
    words = "GPU-hours that ready pods held in the time range shown."
    board.with_panel(stat_panel("GPU-hours", words, "h", Query(f"sum({spent}) / 3600", instant=True)))


def _fleet(board: dashboard.Dashboard) -> None:
    board.with_row(dashboard.Row("Fleet"))
    shown = f"sum by (state) (max by (run_namespace, recipe, state) (selfalign_operator_runs{{{CHOSEN}}})) > 0"
    words = (
        "Runs by state. A growing band of Pending with few Running: look at the operator's queue below, then at quota."
    )
    by_state = Query(shown, "{{state}}")
    board.with_panel(timeseries_panel("Runs by state", words, "short", by_state, stacked=True, colours=STATES))
    held = f"max by (run_namespace) (selfalign_operator_gpus{{{IN_NAMESPACE}}})"
    words = "GPUs that ready pods of runs hold, by namespace."
    board.with_panel(timeseries_panel("GPUs held", words, "short", Query(held, "{{run_namespace}}"), stacked=True))
    spent = (
        f"max by (run_namespace) (increase(selfalign_operator_gpu_seconds_total{{{IN_NAMESPACE}}}[$__range])) / 3600"
    )
    words = "GPU-hours in the time range shown, by namespace."
    by_namespace = Query(spent, "{{run_namespace}}", instant=True)
    board.with_panel(bars_panel("GPU-hours by namespace", words, "h", by_namespace))
    labels = {"run_namespace": "namespace"} | {name: name for name in ("run", "recipe", "state", "stage", "reason")}
    each = f"max by ({', '.join(labels)}) (selfalign_operator_run_state{{{CHOSEN}}})"
    words = (
        "Runs that are active, and those that ended within the last hour; why they are in their state. A run "
        "leads to its own dashboard."
    )
    url = "/d/selfalign-run?var-namespace=${__data.fields.namespace}&var-run=${__value.raw}&${__url_time_range}"
    rows = table_panel(
        "Runs under way or just ended", words, Query(each, instant=True), labels, span=24, link=("run", url)
    )
    board.with_panel(rows)


def _steps(board: dashboard.Dashboard) -> None:
    board.with_row(dashboard.Row("Steps"))
    ended = "round(sum by (result) (increase(selfalign_operator_steps_total[$__interval]))) > 0"
    words = "Steps that ended, by result. Reused: taken from another run's storage."
    board.with_panel(
        timeseries_panel(
            "Steps ended",
            words,
            "short",
            Query(ended, "{{result}}"),
            bars=True,
            stacked=True,
            colours=RESULTS,
            interval="2m",
        )
    )
    bucket = "sum by (kind, le) (increase(selfalign_operator_step_duration_seconds_bucket[$__range]))"
    words = "Time from a step's first attempt to its success: half of the steps in the time range shown took less."
    middle = Query(f"histogram_quantile(0.5, {bucket}) >= 0", "{{kind}}", instant=True)  # NaN of no step is no bar
    board.with_panel(bars_panel("Median step duration", words, "s", middle))
    lost = "round(sum by (reason) (increase(selfalign_operator_lost_attempts_total[$__range]))) > 0"
    words = (
        "Attempts that did not succeed in the time range shown, by reason (docs/operator.md). Not all are "
        "failures: Disrupted, NodeLost, Suspended and GangNotPlaced do not count against the retries."
    )
    by_reason = Query(lost, "{{reason}}", instant=True)
    board.with_panel(bars_panel("Lost attempts by reason", words, "short", by_reason, levels=(("orange", None),)))


def _work(board: dashboard.Dashboard) -> None:
    board.with_row(dashboard.Row("Work"))
    speed = "sum by (role) (rate(selfalign_tokens_total{{{}}}[$__rate_interval]))".format
    words = "Tokens generated a second, by role of the recipe (greedy, sampled: answers to held-out prompts)."
    made = Query(speed(f'{PODS}, direction="out"'), "{{role}}")
    board.with_panel(timeseries_panel("Tokens generated", words, "cps", made))
    words = "Tokens read a second: prompts of generation and evaluation, and what is trained on."
    read = (
        Query(
            f'sum(rate(selfalign_tokens_total{{{PODS}, direction="in", role!="train"}}[$__rate_interval]))', "prompts"
        ),
        Query(speed(f'{PODS}, role="train"'), "{{role}}"),
    )
    board.with_panel(timeseries_panel("Tokens read", words, "cps", *read))
    records = f"sum by (outcome) (rate(selfalign_records_total{{{PODS}}}[$__rate_interval]))"
    words = (
        "Records finished a second: rows were kept, dropped ones decided nothing, those set aside could not be used."
    )
    board.with_panel(timeseries_panel("Records by outcome", words, "cps", Query(records, "{{outcome}}")))


def _operator(board: dashboard.Dashboard) -> None:
    board.with_row(dashboard.Row("Operator"))
    words = "1 where a replica leads. None for more than 12 s: see the runbook of SelfalignNoLeader."
    leader = Query("max by (pod) (selfalign_operator_leader)", "{{pod}}")
    board.with_panel(timeseries_panel("Leader", words, "short", leader, most=1))
    words = "Runs that wait for a worker, and how long the first of them has waited (seconds)."
    queue = (
        Query("max(selfalign_operator_queue_depth)", "runs"),
        Query("max(selfalign_operator_queue_oldest_seconds)", "oldest, s"),
    )
    board.with_panel(timeseries_panel("Queue", words, "short", *queue))
    words = "Seconds since a watch said anything. Bookmarks come every minute: beyond 150 s it is dead."
    age = Query("max by (resource) (selfalign_operator_watch_age_seconds)", "{{resource}}")
    board.with_panel(timeseries_panel("Watch age", words, "s", age, line=150))
    bucket = "sum by (le) (rate(selfalign_operator_reconcile_duration_seconds_bucket[$__rate_interval]))"
    words = "Time of one reconciliation of a run: half, and 99 of 100, take less."
    quantiles = tuple(Query(f"histogram_quantile({q}, {bucket})", f"p{round(q * 100)}") for q in (0.5, 0.99))
    board.with_panel(timeseries_panel("Reconcile duration", words, "s", *quantiles))
    words = (
        "Reconciliations that failed and are tried again, a second, by reason. Conflict now and then is how "
        "writes are kept apart."
    )
    errors = "sum by (reason) (rate(selfalign_operator_reconcile_errors_total[$__rate_interval]))"
    board.with_panel(timeseries_panel("Reconcile errors", words, "cps", Query(errors, "{{reason}}")))
    words = "Calls of the apiserver a second, by HTTP status (or the name of the error)."
    calls = "sum by (code) (rate(selfalign_operator_api_calls_total[$__rate_interval]))"
    board.with_panel(timeseries_panel("API calls", words, "reqps", Query(calls, "{{code}}")))
