"""The end of a run, for a person: a small table, `summary.json` and `report.html`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from selfalign_api.plan import Plan

from selfalign_jobs.panel import duration
from selfalign_jobs.report import report_html, summary
from selfalign_jobs.store import Folder

REPORT_FILE, SUMMARY_FILE = "report.html", "summary.json"


def finish(run: Folder, plan: Plan, console: Console) -> None:
    """Write report and summary beside the artefacts, and print the main figures."""
    figures = summary(run, plan)
    run.write(REPORT_FILE, report_html(run, plan).encode())
    run.write(SUMMARY_FILE, json.dumps(figures, indent=1).encode())
    console.print(figures_table(figures))
    console.print(f"report: {run.path}/{REPORT_FILE}", highlight=False, soft_wrap=True)


def figures_table(figures: Mapping[str, Any]) -> Table:
    """Accuracy before and after, pairs, tokens a second, time a step: what there is of them."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, values in figures.get("accuracy", {}).items():
        table.add_row(f"held-out accuracy, {name}", f"{_interval(values['before'])}  →  {_interval(values['after'])}")
    for name, value in figures.get("winRate", {}).items():
        table.add_row(f"self win rate, {name}", _interval(value))
    if "pairs" in figures:
        table.add_row("pairs kept", f"{figures['pairs']:,}")
    for step, rate in figures.get("tokensPerSecond", {}).items():
        table.add_row(f"tokens/s, {step}", f"{rate:,.0f}")
    for step, seconds in figures["seconds"].items():
        table.add_row(f"time, {step}", duration(seconds))
    return table


def _interval(figure: Mapping[str, float]) -> str:
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"
