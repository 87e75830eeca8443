"""The dashboard "Run": one run, from what its first step reads to its evaluation, whatever steps its plan has."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from selfalign_dashboards.panels import (
    Query,
    a_dashboard,
    bars_panel,
    label_variable,
    matrix_panel,
    stat_panel,
    timeseries_panel,
)

SEEN = 'run_namespace="$namespace", run="$run"'  # of the operator's series
POD = 'namespace="$namespace", run="$run"'  # of the pods' series
STATE = "selfalign_operator_run_state"
GOOD, BAD = "green", "red"


def run() -> dashboard.Dashboard:
    """The whole of it."""
    board = a_dashboard("selfalign-run", "selfalign / Run", "One self-alignment run.", hours=3)
    board.with_variable(label_variable("namespace", "Namespace", STATE, "run_namespace", several=False))
    named = f'{STATE}{{run_namespace="$namespace"}}'
    board.with_variable(label_variable("run", "Run", named, "run", several=False))
    _place(board)
    _generation(board)
    _judge(board)
    _training(board)
    _evaluation(board)
    return board


def _place(board: dashboard.Dashboard) -> None:
    board.with_row(dashboard.Row("Where it is"))
    for title, label, words in (
        ("State", "state", "State of the run; `kubectl get sar -o wide` has the message that tells what to do."),
        ("Stage", "stage", "Kind of the current step."),
        ("Reason", "reason", "Why it is in this state, in one word; docs/operator.md explains each."),
    ):
        query = Query(f"max by ({label}) ({STATE}{{{SEEN}}})", f"{{{{{label}}}}}", instant=True)
        board.with_panel(stat_panel(title, words, "short", query, names=True))
    words = "Tokens a second, lately: generated, or trained on."
    speed = Query(f"sum(selfalign_tokens_per_second{{{POD}}})")
    board.with_panel(stat_panel("Speed", words, "cps", speed))
    words = (
        "Time since a unit of the step was finished, or its phase began. The alert SelfalignStepStalled begins "
        "at 15 min."
    )
    still = Query(f"time() - max(selfalign_progress_moved_timestamp_seconds{{{POD}}})")
    board.with_panel(stat_panel("Last moved", words, "s", still, levels=((GOOD, None), ("orange", 300), (BAD, 900))))
    words = "GPU-hours that its ready pods held, in the time range shown (by the minute)."
    spent = f"sum_over_time(max(selfalign_operator_run_gpus{{{SEEN}}})[$__range:1m]) / 60"
    board.with_panel(stat_panel("GPU-hours", words, "h", Query(spent, instant=True)))
    pace = ("max by (step, phase) (selfalign_progress_{what}{{" + POD + ', unit!="engines"}})').format
    words = "Share of each phase that is done. A pod that begins again goes on from what is durable."
    share = Query(f"{pace(what='done')} / ({pace(what='total')} > 0)", "{{step}}: {{phase}}")
    board.with_panel(timeseries_panel("Progress", words, "percentunit", share, span=16, most=1))
    words = "Pods that answer, by step. None while a step should run: see the run's message."
    board.with_panel(
        timeseries_panel(
            "Pods", words, "short", Query(f"count by (step) (selfalign_tokens_per_second{{{POD}}})", "{{step}}")
        )
    )


def _generation(board: dashboard.Dashboard) -> None:
    board.with_row(dashboard.Row("Generation"))
    ended = f"sum by (step, flow, outcome, reason) (max_over_time(selfalign_records_total{{{POD}}}[$__range]))"
    words = (
        "Records by step and flow, of the attempts in the time range shown: rows were kept; dropped ones decided "
        "nothing (a tie, equal answers); those set aside could not be used (no prefix, too long). What an earlier attempt made "
        "durable is not counted again."
    )
    board.with_panel(
        bars_panel("Funnel", words, "short", Query(ended, "{{step}} {{flow}}: {{outcome}} {{reason}}", instant=True))
    )
    words = "Tokens generated a second, by role of the recipe (greedy, sampled: answers to held-out prompts)."
    tokens = f'sum by (role) (rate(selfalign_tokens_total{{{POD}, direction="out"}}[$__rate_interval]))'
    board.with_panel(timeseries_panel("Tokens generated", words, "cps", Query(tokens, "{{role}}")))
    records = f"sum by (outcome) (rate(selfalign_records_total{{{POD}}}[$__rate_interval]))"
    words = "Records finished a second, by outcome."
    board.with_panel(timeseries_panel("Records", words, "cps", Query(records, "{{outcome}}")))
    words = "Share of each engine's KV cache in use. Near 100 % sequences are preempted; far below it, engines want more rows."
    kv_use = Query(f"max by (engine) (selfalign_engine_kv_cache_use{{{POD}}})", "{{engine}}")
    board.with_panel(timeseries_panel("KV cache", words, "percentunit", kv_use, span=12, most=1))
    words = (
        "Sequences a second that lost their place in the KV cache and are computed again. Many: raise gpuMemoryPercent or "
        "tensorParallelSize, or lower max_num_seqs in engineArgs."
    )
    preempted = f"sum by (engine) (rate(selfalign_engine_preemptions_total{{{POD}}}[$__rate_interval]))"
    board.with_panel(timeseries_panel("Preemptions", words, "cps", Query(preempted, "{{engine}}"), span=12))


def _judge(board: dashboard.Dashboard) -> None:
    board.with_row(dashboard.Row("Verdicts"))
    results = f"sum by (step, result) (max_over_time(selfalign_verdicts_total{{{POD}}}[$__range]))"
    words = (
        "Verdicts by result: the answer sampled first or second is better, a tie, the two orders disagree, or "
        "it could not be read."
    )
    board.with_panel(bars_panel("Verdicts", words, "short", Query(results, "{{step}}: {{result}}", instant=True)))
    all_verdicts = f"sum by (step) (rate(selfalign_verdicts_total{{{POD}}}[$__rate_interval]))"
    same = f'sum by (step) (rate(selfalign_verdicts_total{{{POD}, result=~"first|second"}}[$__rate_interval]))'
    words = "Share of the verdicts whose two orders name the same answer. A judge that guesses has 50 %."
    consistent = Query(f"{same} / {all_verdicts}", "{{step}}")
    board.with_panel(timeseries_panel("Consistency", words, "percentunit", consistent, most=1, line=0.5))
    first = f'sum by (step) (rate(selfalign_verdict_positions_total{{{POD}, position="first"}}[$__rate_interval]))'
    decided = f"sum by (step) (rate(selfalign_verdict_positions_total{{{POD}}}[$__rate_interval]))"
    words = (
        "Share of the judgements that prefer the answer shown first. Without bias it is 50 %; a bias cancels "
        "out of verdicts by log-probabilities, and makes parsed ones inconsistent."
    )
    bias = Query(f"{first} / {decided}", "{{step}}")
    board.with_panel(timeseries_panel("Position bias", words, "percentunit", bias, most=1, line=0.5))


def _training(board: dashboard.Dashboard) -> None:
    board.with_row(dashboard.Row("Training"))

    def last(name: str, legend: str) -> Query:
        return Query(f"max by (step) (selfalign_train_{name}{{{POD}}})", f"{{{{step}}}} {legend}")

    words = "Loss of the last optimiser step. One that is no number ends the training (SelfalignLossNotFinite)."
    board.with_panel(timeseries_panel("Loss", words, "short", last("loss", "loss"), least=None))
    words = "Reward of the chosen answer less that of the rejected one: it should rise, and not without end. Of targets: none."
    board.with_panel(timeseries_panel("Reward margin", words, "short", last("reward_margin", "margin"), least=None))
    words = "Share of the pairs whose chosen answer has the higher reward. 50 % is where it starts. Of targets: none."
    accuracy = last("reward_accuracy", "accuracy")
    board.with_panel(timeseries_panel("Reward accuracy", words, "percentunit", accuracy, most=1, line=0.5))
    words = "Mean length of the answers that are trained on. A judge that likes long answers shows here first."
    lengths = Query(
        f"max by (step, side) (last_over_time(selfalign_train_pair_tokens{{{POD}}}[$__range]))",
        "{{step}} {{side}}",
        instant=True,
    )
    board.with_panel(bars_panel("Answer length, tokens", words, "short", lengths))
    words = "Norm of the gradient before clipping."
    board.with_panel(timeseries_panel("Gradient norm", words, "short", last("gradient_norm", "norm")))
    words = "Learning rate of the last step: warm-up, then the schedule."
    board.with_panel(timeseries_panel("Learning rate", words, "sci", last("learning_rate", "rate")))
    words = (
        "Tokens a second, lately: of the examples, each answer with its prompt, and as computed, a shared prompt once."
    )
    counted = Query(
        f"max by (step) (selfalign_tokens_per_second{{{POD}}} and on (pod) selfalign_train_loss{{{POD}}})",
        "{{step}} of the examples",
    )
    computed = last("computed_tokens_per_second", "computed")
    board.with_panel(timeseries_panel("Tokens trained on", words, "cps", counted, computed, span=12))
    words = "Share of the card's 16-bit peak that the model's own FLOPs make use of (docs/metrics.md); empty where it is not known."
    board.with_panel(timeseries_panel("MFU", words, "percentunit", last("mfu", "MFU"), span=12, most=1))


def _evaluation(board: dashboard.Dashboard) -> None:
    board.with_row(dashboard.Row("Evaluation"))
    results = f"max by (check, bound) (last_over_time(selfalign_operator_run_result{{{SEEN}%s}}[$__range]))"
    words = "Checks of the newest evaluation on held-out prompts: before and after the training."
    values = Query(results % ', bound="value"', "{{check}}", instant=True)
    board.with_panel(bars_panel("Checks", words, "short", values, span=12, most=1, levels=((GOOD, None),)))
    words = "The same with the ends of their 95 % intervals. A gain whose interval holds 0 shows nothing."
    intervals = Query(results % "", instant=True)
    board.with_panel(matrix_panel("Checks with intervals", words, intervals, "check", "bound"))
