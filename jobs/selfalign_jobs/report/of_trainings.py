"""The trainings of an iteration in the report: curves of what each objective measures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from selfalign_api.plan import Generate, Plan, Train
from selfalign_api.plan_values import Json
from selfalign_jobs.report.chart import Curve, curve_chart
from selfalign_jobs.report.evidence import Evidence, Iteration, Trained, learns_from
from selfalign_jobs.report.of_tables import lengths_of
from selfalign_jobs.report.scale import count
from selfalign_jobs.report.section import Section


@dataclass(frozen=True, slots=True)
class Series:
    """A column of the training log as a chart."""

    column: str
    unit: str
    title: str
    level: float | None = None  # what a policy has that has learned nothing
    noisy: bool = True  # whether batches make it so


LOSS = Series("loss", "loss", "Loss")
RATE = Series("learning_rate", "learning rate", "Learning rate", noisy=False)
SERIES: dict[str, tuple[Series, ...]] = {  # by objective
    "preference": (
        LOSS,
        Series("margin", "reward margin", "Reward margin, chosen over rejected", 0.0),
        Series("accuracy", "share of pairs", "Pairs that the policy orders as {}", 0.5),
        Series("rewards_kept", "reward", "Reward of the model's own answers, which optimism lowers", 0.0),
        RATE,
    ),
    "sft": (Series("loss", "nats a token", "Loss, mean over the targets' tokens"), RATE),
    "reward": (
        LOSS,
        Series("margin", "reward", "Reward of the chosen answer less that of the rejected", 0.0),
        Series("accuracy", "share of pairs", "Pairs that the rewards order rightly", 0.5),
        RATE,
    ),
    "gap": (
        LOSS,
        Series("margin", "gap", "Gap of better over worse less that of worse over better", 0.0),
        Series("accuracy", "share of orders", "Gaps that are ordered rightly", 0.5),
        RATE,
    ),
}
READ = {
    "preference": "Thin: each optimiser step; bold: the running mean; dashed: the value of a policy that prefers neither "
    "answer. The margin should rise and the accuracy leave 0.5; a loss that jumps or a margin that falls means that the "
    "learning rate is too high, an accuracy of 1.0 within a few steps that the pairs are trivial or that length decides.",
    "sft": "Thin: each optimiser step; bold: the running mean. The loss is what a token of the targets costs; it should fall "
    "and level off. One that jumps means that the learning rate is too high, one that nears 0 that the targets are learned "
    "by heart.",
    "reward": "Thin: each optimiser step; bold: the running mean; dashed: the value of a model whose rewards say nothing. The "
    "rewards should part and the accuracy leave 0.5; an accuracy of 1.0 within a few steps means that something beside the "
    "worth of an answer, such as its length, tells the two apart.",
    "gap": "Thin: each optimiser step; bold: the running mean; dashed: the value of a model whose gaps say nothing. Better over "
    "worse should come out above equals, and these above worse over better; the accuracy is over all of these orders.",
}


def sections_of_trainings(evidence: Evidence, iteration: Iteration) -> Iterator[Section]:
    """A section a training whose log is there."""
    several = Counter(trained.step.result.lineage for trained in iteration.trained)
    for trained in iteration.trained:
        if trained.given is not None:
            yield from lengths_of(trained.given, "given", trained.facts.step.name, judged=False)
        if trained.log is not None and trained.log.num_rows:
            lineage = trained.step.result.lineage
            of = lineage if several[lineage] == 1 else trained.facts.step.name
            yield _training(evidence.plan, trained, of)


def _training(plan: Plan, trained: Trained, of: str) -> Section:
    step, labels = trained.step, labels_of(plan, trained.step)
    charts = []
    for series in SERIES[step.objective]:
        if (curve := curve_of(trained, series)) is not None:
            title = series.title.format(labels)
            chart = curve_chart(title, "optimiser step", series.unit, curve, level=series.level, noisy=series.noisy)
            charts.append((title, chart))
    done = trained.facts.manifest
    result = done.result if done else {}
    facts = {
        "read": READ[step.objective],
        "charts": charts,
        "step": step,
        "word": step.rows,
        "computed": _computed(result),
        "speed": _speed(result, step.rows),
        "became": {
            side: result[f"{side}LogProbability"] for side in ("chosen", "kept") if f"{side}LogProbability" in result
        },
        "taken": "" if learns_from(step) else _taken(trained),  # else the funnel says it
    }
    return Section("training", "Training", "training", facts, trained.facts.notes, of=of)


def curve_of(trained: Trained, series: Series) -> Curve | None:
    """A column of the training's log; None where it has no value."""
    assert trained.log is not None
    curve = Curve(_floats(trained.log, "step"), _floats(trained.log, series.column))
    return curve if np.isfinite(curve.values).any() else None


def labels_of(plan: Plan, step: Train) -> str:
    """Whose order of two answers a training is to learn: a judge's, where its pairs were made by one."""
    judges = [
        job.judge
        for ref in learns_from(step)
        if isinstance(made := plan.step(ref.step), Generate)
        for load in made.loads
        for job in load.jobs
        if job.out == ref.name
    ]
    return "the judge did" if any(judge is not None for judge in judges) else "they are labelled"


def _taken(trained: Trained) -> str:
    """What became of the rows of a table of the user's."""
    if trained.facts.manifest is None:
        return ""
    left = [f"{count(number)} left out: {reason}" for reason, number in trained.left_out.items()]
    return "; ".join([f"{count(trained.rows)} {trained.step.rows} trained on", *left])


def _computed(result: Mapping[str, Json]) -> str:
    """How the training was computed: layout, kernel and precision, what the ranks share, and the largest micro batch."""
    words = [
        result.get("attention", ""),
        f"ZeRO {result['zeroStage']}" if "zeroStage" in result else "",
        f"at most {result['microBatchTokens']:,} tokens a micro batch" if "microBatchTokens" in result else "",
    ]
    return ", ".join(word for word in words if word)


def _speed(result: Mapping[str, Json], word: str) -> str:
    """Tokens a second of the training, as they are counted, and the share of the card's peak."""
    if "computedTokensPerSecond" not in result:
        return ""
    words = (
        f"{result['tokensPerSecond']:,.0f} tokens/s of the {word}, {result['computedTokensPerSecond']:,.0f} computed"
    )
    return words + (f", MFU {result['mfu']:.1%}" if "mfu" in result else "")


def _floats(log: pa.Table, column: str) -> npt.NDArray[np.float64]:
    """A column of the training log; not a number where there is none."""
    there = log[column].to_pylist() if column in log.column_names else [None] * log.num_rows
    values: npt.NDArray[np.float64] = np.array(there, dtype=np.float64)
    return values
