"""The result of a run in its report: the evaluations' figures, before and after."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from markupsafe import Markup

from selfalign_api.plan import Check, Evaluate
from selfalign_api.plan_values import Json
from selfalign_jobs.evaluate.checks import controlled_name
from selfalign_jobs.publish.gates import Held, held
from selfalign_jobs.recipes.base import Remark, recipe
from selfalign_jobs.report.chart import Interval, interval_chart
from selfalign_jobs.report.evidence import Evidence
from selfalign_jobs.report.of_tables import remarks_of
from selfalign_jobs.report.section import Section
from selfalign_jobs.report.win_rates import judges_of, opponents_of


def checks_of(evidence: Evidence) -> dict[str, Check]:
    """The checks of the plan's evaluations, by name."""
    return {
        check.name: check for facts in evidence.steps if isinstance(facts.step, Evaluate) for check in facts.step.checks
    }


def name_of(evidence: Evidence, check: Check, words: str) -> str:
    """What a check is, and its name too where others of the run are of its type."""
    alone = sum(other.type == check.type for other in checks_of(evidence).values()) == 1
    return words if alone else f"{words}, {check.name}"


def result_section(evidence: Evidence) -> Iterator[Section]:
    """The figures of all evaluations before and after; nothing before the first is done."""
    done = [(iteration.number, iteration.results) for iteration in evidence.iterations if iteration.results]
    if not done:
        return
    several = len(evidence.iterations) > 1
    accuracy: list[Interval] = []
    benchmarks: list[Interval] = []
    wins: list[Interval] = []
    rows: list[dict[str, Any]] = []
    for check in checks_of(evidence).values():
        named = name_of(evidence, check, "").removeprefix(", ")
        if check.type == "SelfWinRate":
            there = [(k, figures[check.name]) for k, figures in done if check.name in figures]
            label = ", ".join(filter(None, [named, "iteration {}" if several else "new model"]))
            wins += [_interval(label.format(k), figure) for k, figure in there]
            rows += [_row(check.name, k, None, figure, None) for k, figure in there]
            name = controlled_name(check.name)
            even = [(k, figures[name]) for k, figures in done if name in figures]
            rows += [_row(f"{check.name}, length-controlled", k, None, figure, None) for k, figure in even]
            continue
        for role in roles_of(check.name, done[-1][1]):
            name, label = f"{check.name}.{role}", ", ".join(filter(None, [named, role]))
            intervals = accuracy if check.type != "Benchmark" else benchmarks if _is_share(done, name) else []
            intervals.append(_interval(f"{label}, before", done[0][1][f"{name}.before"], hollow=True))
            for k, figures in done:
                intervals.append(
                    _interval(f"{label}, iteration {k}" if several else f"{label}, after", figures[f"{name}.after"])
                )
                parts = (figures[f"{name}.{part}"] for part in ("before", "after", "gain"))
                rows.append(_row(f"{check.name}, {role}", k, *parts))
    rates = [check for check in checks_of(evidence).values() if check.type == "SelfWinRate"]
    against = opponents_of(rates)
    charts: dict[str, Markup] = {}
    if accuracy:
        charts["accuracy"] = interval_chart("Exact match before and after", "share of answers that are right", accuracy)
    if benchmarks:
        charts["benchmarks"] = interval_chart("Benchmarks before and after", "metric", benchmarks)
    if wins:
        title = "win rate" if against else "win rate against the initial model"
        charts["wins"] = interval_chart("Self-win rate", title, wins, level=0.5)
    facts = {
        "remarks": _remarks(evidence),
        "charts": charts,
        "rows": rows,
        "controlled": any(controlled_name(name) in figures for _, figures in done for name in figures),
        "several": several,
        "judge": judges_of(evidence, rates),
        "against": against,
        "gates": gates_of(evidence),
        "choice": _choice(evidence),
    }
    yield Section("result", "Before and after", "result", facts, _evaluation_notes(evidence))


def _remarks(evidence: Evidence) -> list[Remark]:
    """What the recipe reads of the newest evaluation's own tables."""
    found = recipe(evidence.plan.recipe)
    done = [each for each in evidence.iterations if each.results]
    evaluated = {made.job.out for made in done[-1].made if isinstance(made.facts.step, Evaluate)}
    return [remark for remark in remarks_of(found, done[-1]) if remark.table in evaluated]


def chosen_of(evidence: Evidence) -> int | None:
    """The iteration whose model is to be published; None where none is, or before that can be known."""
    rounds = evidence.rounds
    return None if rounds is None or rounds.missing is not None else rounds.chosen.iteration


def _choice(evidence: Evidence) -> str | None:
    """Which round is the best, where a check decides."""
    rounds, chosen = evidence.rounds, chosen_of(evidence)
    if rounds is None or chosen is None or rounds.step.select_by is None:
        return None
    words = f"Iteration {chosen} is the best by {rounds.step.select_by}: what is published is its model, if the gates are passed."
    if (end := rounds.ended_after) is None:
        return words
    worse = "iteration" if rounds.step.stop_after_worse == 1 else f"{rounds.step.stop_after_worse} iterations"
    return f"The loop ended after iteration {end} of {rounds.step.iteration}: the last {worse} brought no better value. {words}"


def gates_of(evidence: Evidence) -> tuple[Held, ...]:
    """The gates of the run, held against the evaluation that they are about; none before it is done."""
    rounds = evidence.rounds
    return () if rounds is None or rounds.missing is not None else held(rounds)


def _evaluation_notes(evidence: Evidence) -> tuple[str, ...]:
    """What the newest finished evaluation told of itself."""
    done = (facts for facts in reversed(evidence.steps) if isinstance(facts.step, Evaluate) and facts.manifest)
    return next((facts.notes for facts in done), ())


def roles_of(check: str, results: dict[str, Json]) -> list[str]:
    """What a check has figures of: the answering roles (greedy, sampled), or the metrics of its tasks."""
    return [name.removeprefix(f"{check}.").removesuffix(".after") for name in results if _is_after(name, check)]


def _is_share(done: list[tuple[int, dict[str, Json]]], name: str) -> bool:
    """Whether a metric has its place on an axis from 0 to 1: a perplexity has not."""
    values = [figures[f"{name}.{part}"]["value"] for _, figures in done for part in ("before", "after")]
    return all(0 <= value <= 1 for value in values)


def _is_after(name: str, check: str) -> bool:
    return name.startswith(f"{check}.") and name.endswith(".after")


def _interval(label: str, figure: Json, hollow: bool = False) -> Interval:
    return Interval(label, figure["value"], figure["low"], figure["high"], hollow)


def _row(label: str, k: int, before: Json, after: Json, gain: Json) -> dict[str, Any]:
    return {"label": label, "iteration": k, "before": before, "after": after, "gain": gain, "n": after["n"]}


def shown(value: float) -> str:
    """A figure of any size: 0.125, 12.5, 2,127."""
    return f"{value:,.{_digits(value)}f}".replace("-", "−")


def signed(value: float) -> str:
    """A gain with its sign: +0.125, −0.031."""
    return f"{value:+,.{_digits(value)}f}".replace("-", "−")


def _digits(value: float) -> int:
    return 3 if abs(value) < 10 else 1 if abs(value) < 1000 else 0
