"""What a person sees while a run works."""

from __future__ import annotations

import io

import pytest
from plans import plan_of, spin
from rich.console import Console

from selfalign_jobs.local.panel import Panel, PlainLines, counted, duration, figures
from selfalign_jobs.places.store import Manifest

PLAN = plan_of("spin", spin()[:2])
GENERATE, TRAIN = PLAN.steps
SNAPSHOT = {
    "step": "i1-generate", "phase": "generate", "done": 1024, "total": 4000, "unit": "records", "perSecond": 212.0,
    "etaSeconds": 14.1, "updateTime": 0.0, "figures": {"tokensPerSecond": 5321.0},
}  # fmt: skip
MANIFEST = Manifest(
    step="i1-generate", kind="generate", digest="sha256:0", recipe="spin", version="0", attempt=1, started="", finished="",
    active_seconds=42.0, seed=0, result={"pairs": 3000},
)  # fmt: skip


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=120)


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_panel_shows_every_step_with_rate_eta_and_figures(console: Console) -> None:
    panel = Panel(PLAN, console)
    panel.started(GENERATE, 2)
    panel.progress(GENERATE, SNAPSHOT)
    console.print(panel.render())
    shown = written(console)
    for part in (
        "▸ i1-generate",
        "· i1-train",
        "1,024/4,000 records",
        "212.0/s",
        "ETA 14s",
        "5,321 tok/s",
        "attempt 2",
    ):
        assert part in shown


def test_a_training_shows_tokens_as_counted_and_as_computed_and_mfu(console: Console) -> None:
    shown = {"tokensPerSecond": 11200.4, "computedTokensPerSecond": 8000.0, "mfu": 0.4123, "loss": 0.5}
    assert figures({"figures": shown}) == "11,200 tok/s  (8,000 computed)  MFU 41.2%  loss 0.500"
    del shown["mfu"]  # on a CPU
    assert "MFU" not in figures({"figures": shown})


def test_the_panel_keeps_what_was_found(console: Console) -> None:
    panel = Panel(PLAN, console)
    panel.found(GENERATE, MANIFEST)
    console.print(panel.render())
    assert "✓ i1-generate" in written(console)
    assert "found finished" in written(console)


def test_plain_lines_tell_each_event_once(console: Console) -> None:
    lines = PlainLines(console)
    lines.started(GENERATE, 1)
    lines.progress(GENERATE, SNAPSHOT)
    lines.progress(GENERATE, SNAPSHOT)  # within ten seconds, and nothing new
    lines.finished(GENERATE, MANIFEST)
    lines.retried(TRAIN, "ended by SIGKILL", 10)
    assert written(console).splitlines() == [
        "i1-generate: started",
        "i1-generate: generate  1,024/4,000 records  212.0/s  ETA 14s  5,321 tok/s",
        "i1-generate: done in 42s (pairs 3,000)",
        "i1-train: ended by SIGKILL; again in 10s",
    ]


@pytest.mark.parametrize(("seconds", "words"), [(42, "42s"), (192, "3m12s"), (7500, "2h05m")])
def test_durations_are_short(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_a_phase_without_a_total_is_named() -> None:
    assert counted(SNAPSHOT | {"total": 0, "phase": "starting"}) == "starting"


@pytest.mark.parametrize("kind", ["panel", "lines"])
def test_what_a_step_says_of_itself_is_shown_when_it_ends(kind: str, console: Console) -> None:
    watcher = Panel(PLAN, console) if kind == "panel" else PlainLines(console)
    watcher.started(GENERATE, 1)
    watcher.finished(GENERATE, MANIFEST.model_copy(update={"result": {"notes": ["Half [of it] is odd."], "pairs": 3}}))
    assert "i1-generate: worth a second look: Half [of it] is odd." in written(console)
