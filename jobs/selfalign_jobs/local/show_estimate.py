"""`selfalign estimate`: what a run will take, as a person reads it, and as JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from selfalign_api.plan_values import Json
from selfalign_jobs.local.estimate import Estimate, StepEstimate

UNKNOWN = "?"


def estimate_table(found: Estimate, price: float | None) -> RenderableType:
    """A row a step and their sums; below them what was assumed."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("step")
    for column in ("rows", "read", "written", "trained", "time", "GPU-hours", "storage"):
        table.add_column(column, justify="right")
    for step in found.steps:
        figures = ((getattr(step, name), words) for name, words in FIGURES.items())
        table.add_row(step.name, _rows(step), *(UNKNOWN if value is None else words(value) for value, words in figures))
    table.add_row("together", "", *(Text(cell, style="bold") for cell in _together(found)))
    return Group(table, Text(""), *(Text(line) for line in _words(found, price)))


def estimate_json(found: Estimate, price: float | None) -> Json:
    """The same for a program: null is what is not known."""
    names = ("read", "written", "trained", "seconds", "gpu_hours", "stored", "checkpoints")
    paid = found.total("gpu_hours")
    return {
        "steps": [_spelled(asdict(step) | {"gpu_hours": step.gpu_hours}) for step in found.steps],
        "together": _spelled({name: found.total(name) for name in names}),
        "cost": None if price is None or paid is None else round(price * paid, 2),
        "assumed": list(found.assumed),
    }


def _spelled(figures: dict[str, Json]) -> dict[str, Json]:
    def value(name: str, given: Json) -> Json:
        if not isinstance(given, float):
            return given
        return round(given, 3) if name in ("seconds", "gpu_hours") else round(given)

    words = {name: name.split("_") for name in figures}
    camel = {name: first + "".join(word.title() for word in more) for name, (first, *more) in words.items()}
    return {camel[name]: value(name, given) for name, given in figures.items()}


def _rows(step: StepEstimate) -> str:
    if not step.most:
        return ""
    return f"{step.rows:,}" if step.rows == step.most else f"{step.rows:,} of {step.most:,}"


def _together(found: Estimate) -> tuple[str, ...]:
    """The sums; of those steps of which a figure is known, where it is not known of all."""

    def of(name: str, words: Callable[[float], str]) -> str:
        known = words(found.known(name))
        return known if found.total(name) is not None else f"> {known}" if known else UNKNOWN

    return (*(of(name, words) for name, words in FIGURES.items()),)


def _words(found: Estimate, price: float | None) -> list[str]:
    """What is to be said of the table: what was assumed last."""
    words = []
    if any(step.rows != step.most for step in found.steps):
        words.append("rows: those that are expected, of those that there are at the most")
    if checkpoints := found.known("checkpoints"):
        words.append(
            f"checkpoints take up to {size(checkpoints)} beside that, where trainings last long enough to save any"
        )
    paid = found.total("gpu_hours")
    if price is not None and paid:
        words.append(f"cost: {price * paid:,.2f} ({hours(paid) or 0} GPU-hours at {price:g})")
    if paid is None:
        words.append("time is told by --like RUN, of the steps that a run of the recipe on such a machine has finished")
    return [*words, *found.assumed]


def tokens(count: float) -> str:
    """A number of tokens as one says it."""
    for least, unit in ((1e9, "B"), (1e6, "M"), (1e4, "k")):
        if count >= least:
            return f"{count / (1e3 if unit == 'k' else least):,.1f} {unit}"
    return f"{count:,.0f}" if count else ""


def duration(seconds: float) -> str:
    """A time as one says it."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds else ""
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def size(count: float) -> str:
    """Bytes as one says it."""
    for least, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if count >= least:
            return f"{count / least:,.1f} {unit}"
    return f"{count / 1e3:,.0f} kB" if count else ""


def hours(count: float) -> str:
    """GPU-hours as one says them."""
    return f"{count:,.1f}" if count >= 0.05 else f"{count:.2g}" if count else ""


FIGURES: dict[str, Callable[[float], str]] = {
    "read": tokens,
    "written": tokens,
    "trained": tokens,
    "seconds": duration,
    "gpu_hours": hours,
    "stored": size,
}
