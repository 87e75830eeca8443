"""The sections of a report: each gathers its figures, charts and notes for the template, from what is there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from selfalign_api.plan import Check, Evaluate, Generate, Json, SourceRef
from selfalign_jobs.report.chart import Curve, Interval, bar, curve_chart, histogram, interval_chart, scatter
from selfalign_jobs.report.evidence import REST, Evidence, Iteration
from selfalign_jobs.report.figures import Stage, funnel, order_margins, sample_pairs
from selfalign_jobs.report.scale import count, duration
from selfalign_jobs.step import second_look
from selfalign_jobs.step.pair_figures import Verdicts, kept_pairs, lengths, repetition, verdicts
from selfalign_jobs.step.second_look import percent

LOG_CHARTS = (
    # column, axis, title, what a policy without a preference has, whether batches make it noisy
    ("loss", "loss", "Loss", None, True),
    ("margin", "reward margin", "Reward margin, chosen over rejected", 0.0, True),
    ("accuracy", "share of pairs", "Pairs that the policy orders as the judge did", 0.5, True),
    ("learning_rate", "learning rate", "Learning rate", None, False),
)

OVERHEAD = ("engine start", "start", "load", REST)  # phases that do not grow with the work


@dataclass(frozen=True, slots=True)
class Section:
    """One section: `kind` names its part of the template, `facts` are what that part shows."""

    id: str
    title: str
    kind: str
    facts: dict[str, Any]
    notes: tuple[str, ...] = ()
    group: str = ""  # the iteration, where there are several

    @property
    def heading(self) -> str:
        """The title with its iteration."""
        return f"{self.title}, {self.group}" if self.group else self.title


def all_sections(evidence: Evidence) -> Iterator[Section]:
    """Every section that the run has something to say in, in reading order."""
    yield from _result(evidence)
    several = len(evidence.iterations) > 1
    for iteration in evidence.iterations:
        group = f"iteration {iteration.number}" if several else ""
        for section in _iteration(evidence, iteration):
            yield replace(section, id=f"{section.id}-{iteration.number}", group=group)
    yield _time(evidence)


# --- result -------------------------------------------------------------------------------------------------------------


def checks_of(evidence: Evidence) -> dict[str, Check]:
    """The checks of the plan's evaluations, by name."""
    return {
        check.name: check for facts in evidence.steps if isinstance(facts.step, Evaluate) for check in facts.step.checks
    }


def _result(evidence: Evidence) -> Iterator[Section]:
    done = [(iteration.number, iteration.results) for iteration in evidence.iterations if iteration.results]
    if not done:
        return
    accuracy, wins, rows = [], [], []
    several = len(evidence.iterations) > 1
    for check in checks_of(evidence).values():
        if check.type == "SelfWinRate":
            label = "new model" if not several else "iteration {}"
            wins += [_interval(label.format(k), figures[check.name]) for k, figures in done if check.name in figures]
            rows += [
                _row(check.name, k, None, figures[check.name], None) for k, figures in done if check.name in figures
            ]
            continue
        for role in roles_of(check.name, done[-1][1]):
            name = f"{check.name}.{role}"
            accuracy.append(_interval(f"{role}, before", done[0][1][f"{name}.before"], hollow=True))
            for k, figures in done:
                after = f"iteration {k}" if several else "after"
                accuracy.append(_interval(f"{role}, {after}", figures[f"{name}.after"]))
                rows.append(
                    _row(
                        f"{check.name}, {role}", k, *(figures[f"{name}.{part}"] for part in ("before", "after", "gain"))
                    )
                )
    charts: dict[str, Markup] = {}
    if accuracy:
        charts["accuracy"] = interval_chart("Exact match before and after", "share of answers that are right", accuracy)
    if wins:
        charts["wins"] = interval_chart("Self-win rate", "win rate against the initial model", wins, level=0.5)
    facts = {"charts": charts, "rows": rows, "several": several}
    yield Section("result", "Before and after", "result", facts, _evaluation_notes(evidence))


def _evaluation_notes(evidence: Evidence) -> tuple[str, ...]:
    """What the newest finished evaluation told of itself."""
    done = (facts for facts in reversed(evidence.steps) if isinstance(facts.step, Evaluate) and facts.manifest)
    return next((facts.notes for facts in done), ())


def roles_of(check: str, results: dict[str, Json]) -> list[str]:
    """The answering roles that a check has figures of: greedy, sampled."""
    return [name.removeprefix(f"{check}.").removesuffix(".after") for name in results if _is_after(name, check)]


def _is_after(name: str, check: str) -> bool:
    return name.startswith(f"{check}.") and name.endswith(".after")


def _interval(label: str, figure: Json, hollow: bool = False) -> Interval:
    return Interval(label, figure["value"], figure["low"], figure["high"], hollow)


def _row(label: str, k: int, before: Json, after: Json, gain: Json) -> dict[str, Any]:
    return {"label": label, "iteration": k, "before": before, "after": after, "gain": gain, "n": after["n"]}


# --- an iteration: funnel, verdicts, lengths, training, samples -----------------------------------------------------------


def _iteration(evidence: Evidence, iteration: Iteration) -> Iterator[Section]:
    table = iteration.pairs
    if table is not None:
        yield _funnel(iteration)
        found = verdicts(table, iteration.judge.tie_margin if iteration.judge else 0.0)
        if found.judged:
            yield _verdicts(iteration, found)
        answers = lengths(table)
        if answers is not None:
            chart = histogram(
                "Lengths of chosen and rejected answers", "tokens", "% of answers", answers.chosen, answers.rejected
            )
            yield Section(
                "lengths",
                "Lengths",
                "lengths",
                {"chart": chart, "lengths": answers},
                tuple(second_look.on_lengths(answers)),
            )
    if iteration.train is not None and iteration.log is not None and iteration.log.num_rows:
        yield _training(iteration)
    if table is not None and kept_pairs(table).num_rows:
        pairs = sample_pairs(table, evidence.plan.seed % 2**32)
        yield Section("samples", "Sample pairs", "samples", {"pairs": pairs, "kept": kept_pairs(table).num_rows})


def stages_of(iteration: Iteration) -> tuple[Stage, ...]:
    """The funnel of an iteration, training's own losses included where it reads this iteration's pairs only."""
    assert iteration.pairs is not None
    job = next(
        job
        for facts in iteration.steps
        if isinstance(facts.step, Generate)
        for job in facts.step.load.jobs
        if job.out == "pairs"
    )
    source = next((ref.name for ref in job.rows.inputs if isinstance(ref, SourceRef)), "rows")
    stages = funnel(iteration.pairs, iteration.drawn, source)
    trained = iteration.train is not None and iteration.train.manifest is not None
    if trained and iteration.reads_own_pairs:
        *before, kept = stages
        lost = tuple(iteration.left_out.items())
        rest = Stage("trained on", kept.records - sum(n for _, n in lost), ())
        return (*before, Stage(kept.label, kept.records, lost), rest)
    return stages


def _funnel(iteration: Iteration) -> Section:
    assert iteration.pairs is not None
    stages = stages_of(iteration)
    widest = max(1, stages[0].records)
    rows = []
    for stage in stages:
        lost = sum(n for _, n in stage.lost)
        words = f"{count(stage.records)} {stage.label}, {count(lost)} of them lost after"
        segments = [((stage.records - lost) / widest, "a", words), (lost / widest, "lost", words)]
        rows.append({"stage": stage, "share": stage.records / widest, "bar": bar(segments)})
    repeated = repetition(iteration.pairs)
    kept = next(stage.records for stage in stages if stage.label == "pairs kept")
    ended = stages[0].records - sum(n for reason, n in stages[0].lost if reason == "not finished yet")
    facts = {"rows": rows, "repeated": repeated}
    notes = list(second_look.on_prompts(repeated))
    if ended == stages[0].records:
        notes += second_look.on_records(ended, kept, Counter({why: n for stage in stages for why, n in stage.lost}))
    return Section(
        "funnel", f"From {stages[0].label.removesuffix(' drawn')} to pairs", "funnel", facts,
        tuple(notes),
    )  # fmt: skip


def _verdicts(iteration: Iteration, found: Verdicts) -> Section:
    assert iteration.pairs is not None
    charts = []
    forward, backward = order_margins(iteration.pairs)
    if len(forward):
        charts.append(
            scatter(
                "Margins of both orders",
                "shown first, nats",
                "shown second, nats",
                forward,
                backward,
                ("orders agree", "prefers the second", "prefers the first"),
            )
        )
        kept = kept_pairs(iteration.pairs)["margin"].drop_null().to_numpy()
        if len(kept):
            charts.append(histogram("Margins of the kept pairs", "margin, nats", "% of pairs", kept, np.array([])))
    facts = {"verdicts": found, "charts": charts, "judge": iteration.judge}
    return Section("verdicts", "Verdicts", "verdicts", facts, tuple(second_look.on_verdicts(found)))


def _training(iteration: Iteration) -> Section:
    assert iteration.log is not None and iteration.train is not None
    steps = _floats(iteration, "step")
    charts = []
    for column, unit, title, level, noisy in LOG_CHARTS:
        curve = Curve(steps, _floats(iteration, column))
        if np.isfinite(curve.values).any():
            charts.append((title, curve_chart(title, "optimiser step", unit, curve, level=level, noisy=noisy)))
    done = iteration.train.manifest
    result = done.result if done else {}
    attention = result.get("attention", "")  # layout, kernel, precision
    facts = {"charts": charts, "step": iteration.train.step, "attention": attention, "speed": _speed(result)}
    return Section("training", "Training", "training", facts, iteration.train.notes)


def _speed(result: Mapping[str, Json]) -> str:
    """Tokens a second of the training, as they are counted, and the share of the card's peak."""
    if "computedTokensPerSecond" not in result:
        return ""
    words = f"{result['tokensPerSecond']:,.0f} tokens/s of the pairs, {result['computedTokensPerSecond']:,.0f} computed"
    return words + (f", MFU {result['mfu']:.1%}" if "mfu" in result else "")


def _floats(iteration: Iteration, column: str) -> npt.NDArray[np.float64]:
    """A column of the training log; not a number where there is none."""
    assert iteration.log is not None
    values: npt.NDArray[np.float64] = np.array(iteration.log[column].to_pylist(), dtype=np.float64)
    return values


# --- time ---------------------------------------------------------------------------------------------------------------


def _time(evidence: Evidence) -> Section:
    longest = max((facts.seconds for facts in evidence.steps), default=0.0) or 1.0
    rows = []
    for facts in evidence.steps:
        segments = [
            (seconds / longest, "lost" if phase in OVERHEAD else "a", f"{phase} {duration(seconds)}")
            for phase, seconds in facts.phases.items()
        ]
        rows.append({"facts": facts, "bar": bar(segments)})
    return Section("time", "Time", "time", {"rows": rows, "total": sum(facts.seconds for facts in evidence.steps)})


# --- the head of the page -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tile:
    """A headline figure: what, how much, and on what it rests."""

    label: str
    value: str | Markup
    detail: str


def tiles(evidence: Evidence) -> Iterator[Tile]:
    """The headline: results, pairs, tokens, time."""
    results = next((i.results for i in reversed(evidence.iterations) if i.results), {})
    for check in checks_of(evidence).values():
        if check.type == "SelfWinRate":
            if check.name in results:
                found = results[check.name]
                yield Tile("self-win rate", f"{found['value']:.3f}", f"95 %: [{found['low']:.3f}, {found['high']:.3f}]")
            continue
        for role in roles_of(check.name, results):
            before, after, gain = (results[f"{check.name}.{role}.{part}"] for part in ("before", "after", "gain"))
            detail = f"{signed(gain['value'])} [{signed(gain['low'])}, {signed(gain['high'])}]"
            yield Tile(f"exact match, {role}", f"{before['value']:.3f} → {after['value']:.3f}", detail)
    tables = [iteration for iteration in evidence.iterations if iteration.pairs is not None]
    kept = sum(kept_pairs(iteration.pairs).num_rows for iteration in tables)
    drawn = sum(stages_of(iteration)[0].records for iteration in tables)
    if drawn:
        yield Tile("pairs kept", count(kept), f"{percent(kept / drawn)} of {count(drawn)} drawn")
    done = [facts for facts in evidence.steps if facts.manifest is not None]
    if done:
        time = duration(sum(facts.seconds for facts in done))
        yield Tile("time at work", time, f"{len(done)} of {len(evidence.steps)} steps done")


def signed(value: float) -> str:
    """A gain with its sign: +0.125, −0.031."""
    return f"{value:+.3f}".replace("-", "−")
