"""What a finished (or stopped) run is shown by: report.html, summary.json, and a table on the terminal."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from selfalign_api.plan import Plan
from selfalign_api.plan_values import Json
from selfalign_jobs.evaluate.checks import controlled_name
from selfalign_jobs.places.store import REPORT, SUMMARY, Folder
from selfalign_jobs.recipes.base import recipe
from selfalign_jobs.report.diversity import diversities
from selfalign_jobs.report.evidence import Evidence, Trained, read_evidence
from selfalign_jobs.report.of_tables import makes_pairs, remarks_of
from selfalign_jobs.report.page import render
from selfalign_jobs.report.result import checks_of, chosen_of, gates_of, name_of, roles_of, shown, signed
from selfalign_jobs.report.scale import count, duration
from selfalign_jobs.report.win_rates import told_of, words_of
from selfalign_jobs.tracking.follow import state_of, told

SHOWN = {
    "effect",
    "accuracy",
    "winRate",
    "gates",
    "pairs",
    "trained",
    "seconds",
    "tokensPerSecond",
}  # of the summary, on the terminal


def render_report(run: Folder, plan: Plan) -> str:
    """The report of a run's folder as one HTML page; shows what is there when the run is not finished."""
    return render(read_evidence(run, plan))


def summary(run: Folder, plan: Plan) -> dict[str, Json]:
    """The run's main figures for scripts: `effect` (name → value) of the newest evaluation, `pairs`, `seconds` by step, …"""
    return _summary(read_evidence(run, plan))


def write_report(run: Folder, plan: Plan) -> dict[str, Json]:
    """Write both files into the run's folder, each whole; returns the main figures."""
    evidence = read_evidence(run, plan)
    state = state_of(run)
    figures = _summary(evidence) | ({} if state is None else told(state))
    run.write(SUMMARY, json.dumps(figures, indent=1).encode())
    run.write(REPORT, render(evidence).encode())
    return figures


def finish_report(run: Folder, plan: Plan, console: Console) -> None:
    """The same, and print the main figures and where the report lies."""
    _show(run, write_report(run, plan), console)


def has_report(run: Folder) -> bool:
    """Whether both files are there, and the figures can be read."""
    if not (run.exists(SUMMARY) and run.exists(REPORT)):
        return False
    try:
        return isinstance(figures := json.loads(run.read(SUMMARY)), dict) and figures.keys() >= SHOWN
    except ValueError:
        return False


def show_report(run: Folder, console: Console) -> None:
    """Print the main figures and where the report lies, as they were written."""
    _show(run, json.loads(run.read(SUMMARY)), console)


def _show(run: Folder, figures: dict[str, Json], console: Console) -> None:
    console.print(_table(figures))
    for name, notes in figures.get("notes", {}).items():
        for note in notes:
            words = f"worth a second look: {name}: {note}"
            console.print(words, style="yellow", markup=False, highlight=False, soft_wrap=True)
    console.print(Text(f"report: {run.place}/{REPORT}"), soft_wrap=True)
    if (state := state_of(run)) is not None:
        console.print(Text(state.words, style="" if state.behind is None else "yellow"), soft_wrap=True)


def _summary(evidence: Evidence) -> dict[str, Json]:
    results = next((i.results for i in reversed(evidence.iterations) if i.results), {})
    accuracy: dict[str, Any] = {}
    benchmarks: dict[str, Any] = {}
    wins: dict[str, Any] = {}
    for check in checks_of(evidence).values():
        if check.type == "SelfWinRate":
            if check.name in results:
                even = results.get(controlled_name(check.name))
                more = {} if even is None else {"lengthControlled": even}
                wins[check.name] = results[check.name] | told_of(evidence, check) | more
            continue
        for role in roles_of(check.name, results):
            before, after, gain = (results[f"{check.name}.{role}.{part}"] for part in ("before", "after", "gain"))
            of_type = benchmarks if check.type == "Benchmark" else accuracy
            of_type[name_of(evidence, check, role)] = {
                "before": before["value"],
                "after": after["value"],
                "gain": gain["value"],
                "beforeInterval": _interval(before),
                "afterInterval": _interval(after),
                "gainInterval": _interval(gain),
                "prompts": gain["n"],
            }
    done = [facts for facts in evidence.steps if facts.manifest is not None]
    found = recipe(evidence.plan.recipe)
    made = [made for iteration in evidence.iterations for made in iteration.made]
    pairs = [table.rows for table in made if makes_pairs(found, table)]
    trained = [trained for iteration in evidence.iterations for trained in iteration.trained]
    return {
        "name": evidence.plan.name,
        "recipe": evidence.plan.recipe,
        "seed": evidence.plan.seed,
        "digest": evidence.plan.digest,
        "finished": evidence.finished,
        "effect": {name: figure["value"] for name, figure in results.items()} | _remarked(evidence) | _risen(trained),
        "accuracy": accuracy,
        "benchmarks": benchmarks,
        "winRate": wins,
        "chosen": _chosen(evidence),
        "gates": [
            {"check": g.gate.check, "figure": g.figure, "atLeast": g.gate.at_least, "value": g.asked, "met": g.met}
            for g in gates_of(evidence)
        ],
        "pairs": sum(pairs) if pairs else None,  # None: a plan that makes none
        "rows": {f"{table.facts.step.name}.{table.job.out}": table.rows for table in made if table.table is not None},
        "remarks": _by_iteration(evidence),
        "diversity": _diversity(evidence),
        "trained": {each.step.name: each.rows for each in trained if each.facts.manifest is not None},
        "notes": {facts.step.name: list(facts.notes) for facts in done if facts.notes},
        "seconds": {facts.step.name: round(facts.seconds, 3) for facts in done},
        "phases": {facts.step.name: facts.phases for facts in done},
        "tokens": {facts.step.name: facts.tokens_made for facts in done},
        "tokensPerSecond": {facts.step.name: facts.tokens_per_second for facts in done},
    }


def _chosen(evidence: Evidence) -> dict[str, Json] | None:
    """Which round's model is to be published, and by what; None where none is, or that is not known yet."""
    iteration = chosen_of(evidence)
    if evidence.rounds is None or iteration is None:
        return None
    values = {str(k): value for k, value in evidence.rounds.values.items()}
    return {
        "iteration": iteration,
        "selectBy": evidence.rounds.step.select_by,
        "values": values,
        "loopEndedAfter": evidence.rounds.ended_after,  # None: after the last iteration
    }


def _diversity(evidence: Evidence) -> dict[str, Json]:
    """How much the prompts that were written differ, by the table that they were written into."""
    return {
        f"{made.facts.step.name}.{made.job.out}": {
            "prompts": found.prompts,
            "distinct": round(found.distinct, 6),
            "selfBleu": found.mean and round(found.mean, 6),
            "selfBleuByOrder": {str(order): round(value, 6) for order, value in found.self_bleu.items()},
        }
        for iteration in evidence.iterations
        for made, found in diversities(iteration, evidence.plan.seed)
    }


def _risen(trained: list[Trained]) -> dict[str, float]:
    """By how many nats the chosen (of SELM: and the kept) answers became likelier in each training that has a reference."""
    found: dict[str, float] = {}
    for each in trained:
        result = each.facts.manifest.result if each.facts.manifest else {}
        for name in ("chosenLogProbability", "keptLogProbability"):
            if name in result:
                found[f"{each.step.name}.{name}"] = round(result[name]["after"] - result[name]["before"], 4)
    return found


def _remarked(evidence: Evidence) -> dict[str, float]:
    """What the recipe alone reads of its tables, of the newest iteration that has each.

    Of what should rise from iteration to iteration also how many iterations gained (`…IterationsGained`).
    """
    found = recipe(evidence.plan.recipe)
    figures: dict[str, float] = {}
    for remark in (remark for each in evidence.iterations for remark in remarks_of(found, each)):
        if remark.rises and remark.name in figures:
            gained = f"{remark.name}IterationsGained"
            figures[gained] = figures.get(gained, 0) + (remark.value > figures[remark.name])
        figures[remark.name] = remark.value
    return figures


def _interval(figure: Json) -> list[float | None]:
    """Its ends; of a metric without a standard error none."""
    return [None, None] if figure.get("noInterval") else [figure["low"], figure["high"]]


def _by_iteration(evidence: Evidence) -> dict[str, dict[str, float]]:
    """The same of every iteration."""
    found = recipe(evidence.plan.recipe)
    told = {
        each.number: {remark.name: remark.value for remark in remarks_of(found, each)} for each in evidence.iterations
    }
    return {str(number): figures for number, figures in told.items() if figures}


def _table(figures: dict[str, Json]) -> Table:
    """The main figures, a line each."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2))
    measured = {f"accuracy, {role}": found for role, found in figures["accuracy"].items()}
    for name, found in (measured | figures.get("benchmarks", {})).items():  # a summary of an older version has none
        low, high = found["gainInterval"]
        interval = f" (95 %: {signed(low)} to {signed(high)})" if low is not None else ""
        table.add_row(name, f"{shown(found['before'])} → {shown(found['after'])}", signed(found["gain"]) + interval)
    for name, found in figures["winRate"].items():
        for words, rate in ((words_of(found), found), ("  length-controlled", found.get("lengthControlled"))):
            if rate is not None:
                interval = f"95 %: {rate['low']:.3f} to {rate['high']:.3f}"
                table.add_row(f"{words}, {name}", f"{rate['value']:.3f}", interval)
    for gate in figures["gates"]:
        figure = f"{gate['value']:.3f}, at least {gate['atLeast']:g}"
        table.add_row(f"gate, {gate['figure']}", figure, "passed" if gate["met"] else "not passed")
    if figures["pairs"] is not None:
        table.add_row("pairs kept", count(figures["pairs"]), "")
    for name, seconds in figures["seconds"].items():
        rate, rows = figures["tokensPerSecond"][name], figures["trained"].get(name)
        told = [f"{rate:,.0f} tokens/s" if rate else "", f"trained on {count(rows)}" if rows is not None else ""]
        table.add_row(name, duration(seconds), ", ".join(filter(None, told)))
    return table
