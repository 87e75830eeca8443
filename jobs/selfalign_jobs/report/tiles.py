"""The head of the report: the figures that a run is read for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from markupsafe import Markup

from selfalign_jobs.evaluate.checks import controlled_name
from selfalign_jobs.recipes.base import recipe
from selfalign_jobs.report.evidence import Evidence
from selfalign_jobs.report.of_tables import makes_pairs, stages_of
from selfalign_jobs.report.result import checks_of, name_of, roles_of, shown, signed
from selfalign_jobs.report.scale import count, duration
from selfalign_jobs.report.win_rates import told_of, words_of
from selfalign_jobs.step.second_look import percent


@dataclass(frozen=True, slots=True)
class Tile:
    """A headline figure: what, how much, and on what it rests."""

    label: str
    value: str | Markup
    detail: str


def tiles(evidence: Evidence) -> Iterator[Tile]:
    """The headline: results, pairs, time."""
    yield from _results(evidence)
    yield from _pairs(evidence)
    done = [facts for facts in evidence.steps if facts.manifest is not None]
    if done:
        time = duration(sum(facts.seconds for facts in done))
        yield Tile("time at work", time, f"{len(done)} of {len(evidence.steps)} steps done")


def _results(evidence: Evidence) -> Iterator[Tile]:
    results = next((i.results for i in reversed(evidence.iterations) if i.results), {})
    for check in checks_of(evidence).values():
        if check.type == "SelfWinRate":
            if check.name in results:
                found = results[check.name]
                label = name_of(evidence, check, words_of(told_of(evidence, check)))
                even = results.get(controlled_name(check.name))
                more = "" if even is None else f"; length-controlled {even['value']:.3f}"
                yield Tile(label, f"{found['value']:.3f}", f"95 %: [{found['low']:.3f}, {found['high']:.3f}]{more}")
            continue
        for role in roles_of(check.name, results):
            before, after, gain = (results[f"{check.name}.{role}.{part}"] for part in ("before", "after", "gain"))
            interval = "" if gain.get("noInterval") else f" [{signed(gain['low'])}, {signed(gain['high'])}]"
            what = check.name if check.type == "Benchmark" else name_of(evidence, check, "exact match")
            label = f"{what}, {role}"
            yield Tile(label, f"{shown(before['value'])} → {shown(after['value'])}", signed(gain["value"]) + interval)


def _pairs(evidence: Evidence) -> Iterator[Tile]:
    """Pairs that were made, or, where none are, rows that the newest training was given."""
    found = recipe(evidence.plan.recipe)
    tables = [
        (iteration, made) for iteration in evidence.iterations for made in iteration.made if makes_pairs(found, made)
    ]
    begun = [(iteration, made) for iteration, made in tables if made.table is not None]
    drawn = sum(stages_of(iteration, made, found)[0].records for iteration, made in begun)
    if drawn:
        kept = sum(made.rows for _, made in tables)
        yield Tile("pairs kept", count(kept), f"{percent(kept / drawn)} of {count(drawn)} drawn")
    trained = [trained for iteration in evidence.iterations for trained in iteration.trained if trained.rows]
    if not tables and trained:
        newest = trained[-1]
        yield Tile(
            f"{newest.step.rows} trained on", count(newest.rows), f"{count(sum(newest.left_out.values()))} left out"
        )
