"""What a finished (or stopped) run is shown by: report.html, summary.json, and a table on the terminal."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from selfalign_api.plan import Json, Plan
from selfalign_jobs.places.store import Folder
from selfalign_jobs.report.evidence import Evidence, read_evidence
from selfalign_jobs.report.page import render
from selfalign_jobs.report.scale import count, duration
from selfalign_jobs.report.sections import checks_of, roles_of, signed
from selfalign_jobs.step.pair_figures import kept_pairs

REPORT = "report.html"
SUMMARY = "summary.json"
SHOWN = {"accuracy", "winRate", "pairs", "seconds", "tokensPerSecond"}  # of the summary, on the terminal


def render_report(run: Folder, plan: Plan) -> str:
    """The report of a run's folder as one HTML page; shows what is there when the run is not finished."""
    return render(read_evidence(run, plan))


def summary(run: Folder, plan: Plan) -> dict[str, Json]:
    """The run's main figures: `accuracy.{role}.{before,after}` of the newest evaluation, `pairs`, `seconds` by step."""
    return _summary(read_evidence(run, plan))


def finish_report(run: Folder, plan: Plan, console: Console) -> None:
    """Write both files into the run's folder, each whole, and print the main figures and where the report lies."""
    evidence = read_evidence(run, plan)
    figures = _summary(evidence)
    run.write(SUMMARY, json.dumps(figures, indent=1).encode())
    run.write(REPORT, render(evidence).encode())
    _show(run, figures, console)


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


def _summary(evidence: Evidence) -> dict[str, Json]:
    results = next((i.results for i in reversed(evidence.iterations) if i.results), {})
    accuracy: dict[str, Any] = {}
    wins: dict[str, Any] = {}
    for check in checks_of(evidence).values():
        if check.type == "SelfWinRate":
            wins |= {check.name: results[check.name]} if check.name in results else {}
            continue
        for role in roles_of(check.name, results):
            before, after, gain = (results[f"{check.name}.{role}.{part}"] for part in ("before", "after", "gain"))
            accuracy[role] = {
                "before": before["value"],
                "after": after["value"],
                "gain": gain["value"],
                "beforeInterval": [before["low"], before["high"]],
                "afterInterval": [after["low"], after["high"]],
                "gainInterval": [gain["low"], gain["high"]],
                "prompts": gain["n"],
            }
    done = [facts for facts in evidence.steps if facts.manifest is not None]
    return {
        "name": evidence.plan.name,
        "recipe": evidence.plan.recipe,
        "seed": evidence.plan.seed,
        "digest": evidence.plan.digest,
        "finished": evidence.finished,
        "accuracy": accuracy,
        "winRate": wins,
        "pairs": sum(kept_pairs(i.pairs).num_rows for i in evidence.iterations if i.pairs is not None),
        "notes": {facts.step.name: list(facts.notes) for facts in done if facts.notes},
        "seconds": {facts.step.name: round(facts.seconds, 3) for facts in done},
        "phases": {facts.step.name: facts.phases for facts in done},
        "tokens": {facts.step.name: facts.tokens_made for facts in done},
        "tokensPerSecond": {facts.step.name: facts.tokens_per_second for facts in done},
    }


def _table(figures: dict[str, Json]) -> Table:
    """The main figures, a line each."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2))
    for role, found in figures["accuracy"].items():
        low, high = found["gainInterval"]
        gain = f"{signed(found['gain'])} (95 %: {signed(low)} to {signed(high)})"
        table.add_row(f"accuracy, {role}", f"{found['before']:.3f} → {found['after']:.3f}", gain)
    for name, found in figures["winRate"].items():
        table.add_row(
            f"self-win rate, {name}", f"{found['value']:.3f}", f"95 %: {found['low']:.3f} to {found['high']:.3f}"
        )
    table.add_row("pairs kept", count(figures["pairs"]), "")
    for name, seconds in figures["seconds"].items():
        rate = figures["tokensPerSecond"][name]
        table.add_row(name, duration(seconds), f"{rate:,.0f} tokens/s" if rate else "")
    return table
