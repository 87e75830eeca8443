"""Benchmark checks: what the answers of a model are worth, by the code and the metrics of lm-evaluation-harness.

The harness is given the answers that the engines made as if it asked a model: it aggregates them, each task's own way.
"""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import hypot, inf, isclose
from pathlib import Path
from typing import Any

import pyarrow as pa

from selfalign_api.plan_values import Json
from selfalign_api.sources import BenchmarkTasks
from selfalign_jobs.evaluate.statistics import Estimate, Z, paired_gain
from selfalign_jobs.flow import seed_of
from selfalign_jobs.places.benchmark_tasks import LIKELY, ROLLING, WRITES, load_tasks, request_of
from selfalign_jobs.recipes.benchmarks import chat_context

RESAMPLES = 1000  # for the standard error of a metric that is no mean
UNANSWERED = -1000.0  # nats: less likely than whatever was answered, and still a number


@dataclass(frozen=True)
class Metric:
    """A figure of a task, or of a group of tasks: one metric of the answers that came through one filter."""

    value: float
    error: float | None  # its standard error; None: the harness gives none
    n: int
    higher_is_better: bool
    by_doc: Mapping[
        tuple[str, int], float
    ]  # (task, number of its question) -> what it counts; empty of one that is no mean

    @property
    def estimate(self) -> Estimate:
        """With its interval of 95 %, by the normal distribution, as people read the harness's standard errors."""
        wide = Z * (self.error or 0.0)
        return Estimate(self.value, self.value - wide, self.value + wide, self.n)


Metrics = dict[str, Metric]  # by name: TASK.METRIC, or TASK.METRIC-FILTER


def score(asked: BenchmarkTasks, folder: Path | None, field: str, answers: pa.Table) -> tuple[Metrics, Json]:
    """The metrics of a model's answers, and the harness's own account of them (`lm_eval.result_schema.EvalResults`).

    Raises ConfigError and ConnectionError as `load_tasks`; LookupError for a task that asks something else than it did.
    """
    from lm_eval.evaluator import evaluate

    loaded = load_tasks(asked, folder, field)
    found: dict[str, Any] = evaluate(
        lm=answered(answers),
        task_dict=loaded,
        limit=asked.limit,
        bootstrap_iters=RESAMPLES,
        apply_chat_template=asked.chat,
        fewshot_as_multiturn=True,
        log_samples=True,
    )
    metrics = dict(_metrics(loaded, found))
    told = {name: part for name, part in found.items() if name != "samples"}
    account: Json = json.loads(json.dumps(told, default=str))
    return metrics, account


def answered(answers: pa.Table) -> Any:
    """A model of the harness (`lm_eval.api.model.LM`) that has these answers; what it was not asked it gets wrong."""
    from lm_eval.api.model import LM

    made: dict[tuple[str, ...], deque[Mapping[str, Any]]] = defaultdict(deque)
    for row in answers.to_pylist():
        made[row["kind"], row["context"], row["text"], row["settings"]].append(row)

    class Answered(LM):
        """Each request's answer, taken once where a request is made several times."""

        tokenizer_name = "the model's own"  # for a cache of requests, which is not used

        def _rows(self, kind: str, requests: Sequence[Any]) -> Iterator[Mapping[str, Any] | None]:
            for each in requests:
                rows = made.get((kind, *request_of(kind, each.args)))
                yield rows.popleft() if rows else None

        def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
            rows = self._rows(LIKELY, requests)
            return [(UNANSWERED, False) if row is None else (row["log_p"], row["greedy"]) for row in rows]

        def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
            return [UNANSWERED if row is None else row["log_p"] for row in self._rows(ROLLING, requests)]

        def generate_until(self, requests: Sequence[Any]) -> list[str]:
            return ["" if row is None else row["answer"] for row in self._rows(WRITES, requests)]

        def apply_chat_template(self, messages: Sequence[Mapping[str, str]], **named: Any) -> str:
            return chat_context(messages, **named)

    return Answered()


def _metrics(loaded: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[tuple[str, Metric]]:
    """What is asked for by name: a group that has figures of its own, else its tasks."""
    groups = found.get("groups", {})
    told_of: dict[str, tuple[str, ...]] = {}  # what is told -> the tasks that it is made of
    for name, leaves in loaded["asked"].items():
        told_of |= {name: leaves} if name in groups else {leaf: (leaf,) for leaf in leaves}
    for name, leaves in told_of.items():
        told = groups[name] if name in groups else found["results"][name]
        for key, value in told.items():
            metric, _, filter = key.partition(",")
            if not filter or metric.endswith("_stderr") or not isinstance(value, int | float):
                continue
            error = told.get(f"{metric}_stderr,{filter}")
            by_doc = dict(_by_doc(found["samples"], leaves, metric, filter))
            mean = sum(by_doc.values()) / len(by_doc) if by_doc else inf
            yield (
                f"{name}.{metric}" + ("" if filter == "none" else f"-{filter}"),
                Metric(
                    value=float(value),
                    error=error if isinstance(error, int | float) else None,
                    n=sum(found["n-samples"][leaf]["effective"] for leaf in leaves),
                    higher_is_better=found["higher_is_better"].get(name, {}).get(metric) is not False,
                    by_doc=by_doc if isclose(mean, value, rel_tol=1e-9, abs_tol=1e-12) else {},
                ),
            )


def _by_doc(
    samples: Mapping[str, Sequence[Mapping[str, Any]]], leaves: Sequence[str], metric: str, filter: str
) -> Iterator[tuple[tuple[str, int], float]]:
    for leaf in leaves:
        for sample in samples[leaf]:
            if sample["filter"] == filter and isinstance(sample.get(metric), int | float):
                yield (leaf, sample["doc_id"]), float(sample[metric])


def benchmark_figures(check: str, before: Metrics, after: Metrics, seed: int) -> dict[str, dict[str, Json]]:
    """`CHECK.TASK.METRIC.before`, `.after` and `.gain`; of a metric that falls as a model improves, `lowerIsBetter` too.

    Of one without a standard error, `noInterval`: its ends are the value.
    The gain of a mean is paired by question, as that of an ExactMatch; that of any other metric has the interval of two
    independent figures, which is wider than it need be.
    """
    figures: dict[str, dict[str, Json]] = {}
    for metric in (name for name in after if name in before):
        old, new = before[metric], after[metric]
        turned = {} if new.higher_is_better else {"lowerIsBetter": True}
        if not new.by_doc and (old.error is None or new.error is None):
            turned |= {"noInterval": True}
        name = f"{check}.{metric}"
        for part, estimate in (
            ("before", old.estimate),
            ("after", new.estimate),
            ("gain", _gain(old, new, seed_of(seed, name, "bootstrap"))),
        ):
            figures[f"{name}.{part}"] = estimate.figure | turned
    return figures


def _gain(old: Metric, new: Metric, seed: int) -> Estimate:
    both = sorted(old.by_doc.keys() & new.by_doc.keys())
    if both:
        return paired_gain([old.by_doc[doc] for doc in both], [new.by_doc[doc] for doc in both], seed)
    wide = Z * hypot(old.error or 0.0, new.error or 0.0)
    value = new.value - old.value
    return Estimate(value, value - wide, value + wide, new.n)
