"""What a person sees while a run works: a live panel on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from selfalign_api.plan import Plan
from selfalign_jobs.places.store import Manifest
from selfalign_jobs.recipes.base import Step

PLAIN_INTERVAL_SECONDS = 10.0
SYMBOLS = {"waiting": "·", "running": "▸", "done": "✓", "found": "✓", "left out": "–"}
STYLES = {"waiting": "dim", "running": "bold", "done": "green", "found": "green dim", "left out": "dim"}
LEFT_OUT = "left out: the loop has ended before it"
FIGURES = {
    "tokensPerSecond": "{:,.0f} tok/s",
    "computedTokensPerSecond": "({:,.0f} computed)",
    "mfu": "MFU {:.1%}",
    "loss": "loss {:.3f}",
    "margin": "margin {:.3f}",
    "accuracy": "acc. {:.3f}",
}


def duration(seconds: float) -> str:
    """`42s`, `3m12s`, `2h05m`."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    return f"{whole // 60}m{whole % 60:02d}s" if whole < 3600 else f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def figures(snapshot: Mapping[str, Any]) -> str:
    """The figures of a `/progress` document, in words."""
    there = snapshot.get("figures", {})
    return "  ".join(words.format(there[key]) for key, words in FIGURES.items() if key in there)


def counted(snapshot: Mapping[str, Any]) -> str:
    """`1,024/4,000 records  212/s  ETA 14s`."""
    if not snapshot["total"]:
        return str(snapshot["phase"])
    line = f"{snapshot['done']:,}/{snapshot['total']:,} {snapshot['unit']}"
    line += f"  {snapshot['perSecond']:,.1f}/s" if snapshot["perSecond"] else ""
    return line + (f"  ETA {duration(snapshot['etaSeconds'])}" if snapshot["etaSeconds"] is not None else "")


@dataclass
class _Line:
    state: str = "waiting"
    since: float = 0.0
    seconds: float = 0.0
    attempt: int = 1
    snapshot: Mapping[str, Any] | None = None
    note: str = ""


@dataclass
class Panel:
    """The live panel: a line a step with bar, rate, ETA and the last figures."""

    plan: Plan
    console: Console
    _lines: dict[str, _Line] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._lines = {step.name: _Line() for step in self.plan.steps}
        self._live = Live(console=self.console, get_renderable=self.render, refresh_per_second=4, transient=False)

    def __enter__(self) -> Panel:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def found(self, step: Step, manifest: Manifest) -> None:
        """The step was done before."""
        self._lines[step.name] = _Line("found", seconds=manifest.active_seconds, note="found finished")

    def started(self, step: Step, attempt: int) -> None:
        """An attempt began."""
        self._lines[step.name] = _Line("running", since=time.monotonic(), attempt=attempt)

    def progress(self, step: Step, snapshot: Mapping[str, Any]) -> None:
        """The step's `/progress`."""
        self._lines[step.name].snapshot = snapshot

    def finished(self, step: Step, manifest: Manifest) -> None:
        """The step is done."""
        line = self._lines[step.name]
        line.state, line.seconds, line.note = "done", time.monotonic() - line.since, headline(manifest)
        for words in _odd(step, manifest):
            self._live.console.print(Text(words, style="yellow"), soft_wrap=True)

    def retried(self, step: Step, reason: str, wait: float) -> None:
        """An attempt failed and another follows."""
        line = f"{step.name}: {reason}; again in {duration(wait)}"
        self._live.console.print(Text(line, style="yellow"), soft_wrap=True)

    def left_out(self, step: Step) -> None:
        """The loop has ended before the step."""
        self._lines[step.name] = _Line("left out", note=LEFT_OUT)

    def render(self) -> RenderableType:
        """The whole panel."""
        table = Table.grid(padding=(0, 2))
        for name, line in self._lines.items():
            style = STYLES[line.state]
            seconds = time.monotonic() - line.since if line.state == "running" else line.seconds
            told: RenderableType = Text(line.note)
            if line.state == "running":
                told = self._running(line)
            time_shown = duration(seconds) if line.state not in ("waiting", "left out") else ""
            table.add_row(Text(f"{SYMBOLS[line.state]} {name}", style=style), Text(time_shown, justify="right"), told)
        return Group(Text(f"{self.plan.name}  ({self.plan.recipe})", style="bold"), table)

    def _running(self, line: _Line) -> RenderableType:
        if line.snapshot is None:
            return Text("starting", style="dim")
        grid = Table.grid(padding=(0, 1))
        total = line.snapshot["total"]
        bar = ProgressBar(total=total or 1, completed=line.snapshot["done"], width=24, pulse=not total)
        again = f"  attempt {line.attempt}" if line.attempt > 1 else ""
        grid.add_row(
            Text(line.snapshot["phase"]), bar, Text(f"{counted(line.snapshot)}  {figures(line.snapshot)}{again}")
        )
        return grid


@dataclass
class PlainLines:
    """The same where stdout is no terminal: a line at each event, and every ten seconds in which something moved."""

    console: Console
    _last: float = 0.0
    _phase: str = ""
    _done: int = 0

    def __enter__(self) -> PlainLines:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""

    def found(self, step: Step, manifest: Manifest) -> None:
        """The step was done before."""
        self._say(f"{step.name}: found finished ({headline(manifest)})")

    def started(self, step: Step, attempt: int) -> None:
        """An attempt began."""
        self._last, self._phase = time.monotonic(), ""
        self._say(f"{step.name}: started" + (f", attempt {attempt}" if attempt > 1 else ""))

    def progress(self, step: Step, snapshot: Mapping[str, Any]) -> None:
        """The step's `/progress`."""
        if not snapshot["total"]:
            return  # it has only started, which was said
        new_phase = snapshot["phase"] != self._phase
        moved = snapshot["done"] != self._done
        if new_phase or (moved and time.monotonic() - self._last >= PLAIN_INTERVAL_SECONDS):
            self._last, self._phase, self._done = time.monotonic(), snapshot["phase"], snapshot["done"]
            self._say(f"{step.name}: {snapshot['phase']}  {counted(snapshot)}  {figures(snapshot)}".rstrip())

    def finished(self, step: Step, manifest: Manifest) -> None:
        """The step is done."""
        self._say(f"{step.name}: done in {duration(manifest.active_seconds)} ({headline(manifest)})")
        for words in _odd(step, manifest):
            self._say(words)

    def retried(self, step: Step, reason: str, wait: float) -> None:
        """An attempt failed and another follows."""
        self._say(f"{step.name}: {reason}; again in {duration(wait)}")

    def left_out(self, step: Step) -> None:
        """The loop has ended before the step."""
        self._say(f"{step.name}: {LEFT_OUT}")

    def _say(self, line: str) -> None:
        self.console.print(Text(line), soft_wrap=True)


def _odd(step: Step, manifest: Manifest) -> Iterator[str]:
    """What the step told of itself: a later one may fail of it, and then there is no report."""
    yield from (f"{step.name}: worth a second look: {note}" for note in manifest.result.get("notes", ()))


def headline(manifest: Manifest) -> str:
    """A step's main figures on one line: an evaluation's results, the rows of each table, or what the others count."""
    checks = manifest.result.get("checks", {})
    shown = [f"{name} {figure['value']:.3f}" for name, figure in checks.items() if not name.endswith(".gain")]
    shown += [f"{table} {rows:,}" for table, rows in manifest.result.get("rows", {}).items()]
    shown += [
        f"{name} {value:,.3g}" if isinstance(value, float) else f"{name} {value:,}"
        for name, value in manifest.result.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    return ", ".join(shown[:6])
